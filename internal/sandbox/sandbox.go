// Package sandbox is a whole hospital on one computer's loopback: a sample EHR
// page, an OIDC issuer with two invented clinicians, the organisation's backend
// and a simulator of Nabla Connect, around the demo-flavoured launcher that it
// starts, registers and governs while it runs.
//
// It never touches a release of the launcher, never runs on a computer that an
// organisation governs, listens on 127.0.0.1 only, and leaves neither scheme nor
// policy behind. Its patients and clinicians are invented. Its issuer asks for
// no password: it must never stand in front of anything real.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"encounterlauncher/internal/paths"
)

// Options says how a sandbox runs. The zero value is the plain demo.
type Options struct {
	// Launcher is the demo-flavoured launcher; empty means
	// "encounter-launcher-demo" beside this program.
	Launcher string
	// The ports on 127.0.0.1; 0 lets the system choose.
	EHRPort, IssuerPort, BackendPort, NablaPort, ControlPort int
	// Issuer, when set, is an OIDC issuer that replaces the built-in one; ClientID
	// is then the launcher's client id there. Its access tokens must be JWTs with
	// the backend's address as audience and the claims "email" and
	// "external_provider_id".
	Issuer, ClientID string
	// Play goes through all of it without a person, a display or a browser.
	Play bool
	// NoBrowser leaves opening the page to the reader.
	NoBrowser bool
	// NoLauncher serves and writes the policy, but neither starts nor registers
	// the launcher.
	NoLauncher bool
	// AddressesFile, when set, exists while all is up: a JSON object with the
	// addresses "ehr", "issuer", "backend", "nabla" and "control".
	AddressesFile string
	// Args are the arguments of this program, and Isolated the folder that the play
	// was given for everything: it starts this program anew with folders of its own.
	Args     []string
	Isolated string
	// Out is where the sandbox speaks; nil means nowhere.
	Out io.Writer
}

// Errors by which the program chooses its exit status.
var (
	// ErrUsage: the options contradict each other.
	ErrUsage = errors.New("these options do not go together")
	// ErrTaken: another sandbox of this user runs.
	ErrTaken = errors.New("another sandbox is running: end it with Ctrl-C first")
	// ErrPlay: the play did not go as it should. What was expected has been printed.
	ErrPlay = errors.New("the play did not go as it should")
)

// addresses is the content of AddressesFile.
type addresses struct {
	EHR     string `json:"ehr"`
	Issuer  string `json:"issuer"`
	Backend string `json:"backend"`
	Nabla   string `json:"nabla"`
	Control string `json:"control"`
}

// Run runs a sandbox until the context ends, or until the play is over. Whatever
// it set up is removed before it returns.
func Run(ctx context.Context, o Options) error {
	say := speaker(o.Out)
	if err := checkOptions(&o, say); err != nil {
		return err
	}
	if err := refuseGovernedMachine(paths.Of("").MachinePolicyFile()); err != nil {
		return err
	}
	if o.Play && o.Isolated == "" {
		return isolate(ctx, o)
	}
	layout := paths.Of(paths.Demo)
	if _, err := layout.EnsureStateDir(); err != nil {
		return err
	}
	return runIn(ctx, o, places{layout.SandboxDir()}, layout.Scheme(), say)
}

// runIn runs a sandbox that keeps its files in one folder.
func runIn(ctx context.Context, o Options, p places, scheme string, say func(string)) error {
	if err := paths.EnsurePrivateDir(p.dir); err != nil {
		return err
	}
	unlock, err := takeLock(p.lock())
	if err != nil {
		return err
	}
	defer unlock()

	l := &launcher{places: p}
	if !o.NoLauncher {
		if l.program, err = findLauncher(o.Launcher); err != nil {
			return err
		}
		cleaned, err := l.cleanUp(ctx)
		if err != nil {
			return err
		}
		if cleaned {
			say("The last sandbox did not end as it should: what it left has been removed.")
		}
		// A demo agent from elsewhere would hold the role.
		_, _ = l.run(ctx, "quit")
	}

	run := &running{options: o, places: p, launcher: l, say: say}
	return run.run(ctx, scheme)
}

func checkOptions(o *Options, say func(string)) error {
	if o.Issuer != "" {
		u, err := url.Parse(o.Issuer)
		if err != nil || u.Host == "" || o.ClientID == "" {
			return fmt.Errorf("%w: --issuer is an address and needs --client-id", ErrUsage)
		}
		if o.Play {
			return fmt.Errorf("%w: the play signs in at the built-in issuer only", ErrUsage)
		}
	}
	if o.Play && !canPlay {
		return fmt.Errorf("%w: the play needs a system that opens addresses with xdg-open", ErrUsage)
	}
	if o.Play && o.NoLauncher {
		return fmt.Errorf("%w: the play needs the launcher", ErrUsage)
	}
	if !o.Play && !o.NoBrowser && !o.NoLauncher && o.Issuer == "" && !hasDisplay() {
		say("There is no display, so the sandbox plays by itself.")
		o.Play = true
	}
	return nil
}

// speaker writes whole lines, one at a time.
func speaker(out io.Writer) func(string) {
	if out == nil {
		out = io.Discard
	}
	var mu sync.Mutex
	return func(line string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.WriteString(out, line+"\n")
	}
}

// takeLock makes this the only sandbox of this user until unlock, which leaves
// no file.
func takeLock(file string) (unlock func(), err error) {
	for range 10 {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the sandbox's lock: %w", err)
		}
		taken, err := lockFile(f)
		if err != nil || taken {
			_ = f.Close()
			if taken {
				return nil, ErrTaken
			}
			return nil, fmt.Errorf("taking the sandbox's lock: %w", err)
		}
		// Whoever held it may have removed it between our opening and our locking:
		// then we hold a file that nobody else will ever see.
		ours, err := f.Stat()
		if err == nil {
			if there, err := os.Stat(file); err == nil && os.SameFile(ours, there) {
				return func() {
					_ = os.Remove(file)
					_ = f.Close()
				}, nil
			}
		}
		_ = f.Close()
	}
	return nil, ErrTaken
}

// running is one run with its world.
type running struct {
	options  Options
	places   places
	launcher *launcher
	world    *world
	say      func(string)
}

func (r *running) run(ctx context.Context, scheme string) (err error) {
	line := r.say
	if r.options.Play {
		line = func(string) {} // the play shows the whole table at its end
	}
	if r.world, err = build(ctx, r.options, r.places, scheme, line); err != nil {
		return errors.Join(err, r.places.removeAll())
	}
	defer func() {
		r.world.close()
		err = errors.Join(err, r.places.removeAll())
	}()
	w := r.world
	if err := writeJSON(r.places.policy(), newDemoPolicy(w.backendURL, w.issuerURL, w.clientID)); err != nil {
		return err
	}
	var play *play
	register := true
	if r.options.Play {
		if play, err = r.preparePlay(ctx, scheme); err != nil {
			return err
		}
		register = play.canRegister
	}
	if !r.options.NoLauncher {
		defer func() { err = errors.Join(err, r.launcher.stop(register)) }()
		if err := r.launcher.start(ctx, register); err != nil {
			return err
		}
		watching, stop := context.WithCancel(ctx)
		defer stop()
		go r.watchLauncher(watching)
	} else {
		watching, stop := context.WithCancel(ctx)
		defer stop()
		go r.watchAlone(watching)
	}
	if r.options.AddressesFile != "" {
		if err := writeJSON(r.options.AddressesFile, addresses{w.ehrURL, w.issuerURL, w.backendURL, w.nablaURL, w.controlURL}); err != nil {
			return err
		}
		defer func() { _ = os.Remove(r.options.AddressesFile) }()
	}
	if play != nil {
		return play.run(ctx)
	}
	r.welcome()
	<-ctx.Done()
	if r.options.NoLauncher {
		r.say("\nEnding: the demo policy is removed.")
		return nil
	}
	r.say("\nEnding: the launcher is signed out and ended, its link scheme and the demo policy are removed.")
	return nil
}

func (r *running) welcome() {
	r.say("Encounter Launcher sandbox. Every patient and clinician is invented; nothing leaves this computer.")
	r.say("  sample EHR    " + r.world.ehrURL + "/")
	r.say("  OIDC issuer   " + r.world.issuerURL)
	r.say("  backend       " + r.world.backendURL)
	r.say("  Nabla (sim)   " + r.world.nablaURL)
	r.say("  its control   " + r.world.controlURL + "/openapi.yaml")
	if !r.options.NoLauncher {
		r.say("  launcher      " + r.launcher.program)
	}
	if !r.options.NoBrowser && !r.options.NoLauncher {
		cmd := browserCommand(r.world.ehrURL + "/")
		ownGroup(cmd)
		if err := cmd.Start(); err != nil {
			r.say("No browser could be started: open the address of the sample EHR yourself.")
		} else {
			go func() { _ = cmd.Wait() }()
		}
	}
	r.say("Press a patient's button on the page. Ctrl-C ends the sandbox.\n")
	r.say(header())
}

const (
	// pollEvery is how often the launcher is asked while a launch is awaited.
	pollEvery = 250 * time.Millisecond
	// After so long without news a launch that is not running any more gets its
	// line. A link that has not reached the backend may wait for a person: the
	// browser asks whether to open it.
	quietFor    = 5 * time.Second
	unaskedFor  = time.Minute
	withoutOurs = 6 * time.Minute // no launcher to ask: longer than a held request waits
)

// watchLauncher joins what the launcher says to the timeline.
func (r *running) watchLauncher(ctx context.Context) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	ended := r.launcher.ended
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			ended = nil
			if !r.options.Play {
				r.say("The launcher's agent has ended; the next link starts it again.")
			}
		case <-ticker.C:
			if !r.world.timeline.open() {
				continue
			}
			s, err := r.launcher.status(ctx)
			if err != nil {
				continue
			}
			r.world.timeline.reported(s.Launch)
			if s.Launch == nil || s.Launch.over() {
				r.world.timeline.settle(quietFor, unaskedFor)
			}
		}
	}
}

// watchAlone gives launches their lines where no launcher of ours can be asked.
func (r *running) watchAlone(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.world.timeline.settle(quietFor, withoutOurs)
		}
	}
}

// logTail returns the last lines of a file of the launcher.
func logTail(file string, lines int) []string {
	data, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return nil
	}
	return lastLines(string(data), lines)
}
