//go:build linux

// Package endurance has the real programs do for hours' worth of work what they do for
// a moment elsewhere: 100,000 launches through the launcher's agent, the backend and
// the simulator as processes, and whole days by a clock that is turned. It reads what
// each holds (memory, threads, goroutines, descriptors, files), judges whether that is
// flat, and draws it.
//
// It never judges by one reading, never takes the person's own launcher, keyring or
// browser, and ends only what it has started. It is for Linux.
package endurance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"encounterlauncher/internal/endurance/steady"
	"encounterlauncher/internal/sandbox"
	"encounterlauncher/internal/stage"
)

// Options say how many launches there are.
type Options struct {
	// Launches are those that open something.
	Launches int
	// Rests is how often the agent is left alone until it has given back what it can.
	Rests int
	// Leaking runs an agent that was made to leak, which is to be found.
	Leaking bool
	// Tell is told how far it is; may be nil.
	Tell func(done, total int64, what string)
}

const (
	// settling is longer than the agent waits before it gives memory back.
	settling = 12 * time.Second
	// patients come back: so many encounters are opened in turn, each after far longer
	// than it takes to count as the same click.
	patients = 5000
	// readings are those under load.
	readings = 100
)

// launcher is the program of the run: a release but for one number, how many
// launches are taken in ten seconds, since 100,000 of them would take 55 hours.
// One that leaks, besides, never forgets a link.
func launcher(ctx context.Context, p stage.Programs, dir string, leaking bool) error {
	const file = "internal/agent/launches.go"
	changes := []string{"mostLinks  = 5\n", "mostLinks  = 1 << 20\n"}
	if leaking {
		changes = append(changes,
			"if now.Sub(t.endedAt) > rememberLinks {", "if now.Sub(t.endedAt) > 1000*rememberLinks {",
			"mostRemembered = 1024\n", "mostRemembered = 1 << 30\n")
	}
	text, err := os.ReadFile(filepath.Join(p.Module, file))
	if err != nil {
		return err
	}
	for i := 0; i < len(changes); i += 2 {
		if bytes.Count(text, []byte(changes[i])) != 1 {
			return fmt.Errorf("%s does not say %q once: the run has to be told where it is now", file, strings.TrimSpace(changes[i]))
		}
		text = bytes.Replace(text, []byte(changes[i]), []byte(changes[i+1]), 1)
	}
	changed, overlay := filepath.Join(dir, "launches.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(p.Module, file): changed}})
	if err := errors.Join(err, os.WriteFile(changed, text, 0o600), os.WriteFile(overlay, list, 0o600)); err != nil {
		return err
	}
	b := p.Launcher()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-overlay", overlay, "-ldflags", "-s -w "+b.LDFlags, "-o", p.Path(b.Name), b.Source)
	cmd.Dir, cmd.Env = p.Module, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the launcher: %w\n%s", err, out)
	}
	return nil
}

// run is one run of launches.
type run struct {
	o       Options
	log     *steady.Log
	session *stage.Session
	backend *stage.Backend
	sim     *stage.Simulator
	issuer  *stage.Issuer
	agent   stage.Agent
	socket  *http.Client
	plain   *http.Client
	metrics string
	minted  chan minted
	failed  chan error
	opened  int // one-time URLs that the opener was given
}

// Launches runs the launcher's agent, the backend and the simulator as processes and
// has so many encounters opened, as people do it: most by a link of a new handle, some
// by one that was opened before, now and then by a link that is refused. Every tenth
// goes through a real link handler, the others over the control channel as the handler
// speaks it, which costs a third. Every address goes through the opener, a program too.
//
// The log that it returns beside an error holds what was read until then.
func Launches(ctx context.Context, o Options) (*steady.Log, error) {
	if o.Tell == nil {
		o.Tell = func(int64, int64, string) {}
	}
	r := &run{o: o, log: steady.NewLog("launches", "launches"), minted: make(chan minted, 64), failed: make(chan error, 1), plain: &http.Client{Timeout: stage.Patience}}
	dir, err := os.MkdirTemp("", "long-") // short, for the names of sockets
	if err != nil {
		return r.log, err
	}
	defer os.RemoveAll(dir)
	ctx, end := context.WithCancel(ctx)
	defer end()
	stop, err := r.begin(ctx, dir)
	defer stop()
	if err != nil {
		return r.log, err
	}
	if err := r.all(ctx); err != nil {
		return r.log, err
	}
	return r.log, r.judge(ctx)
}

// begin starts everything and signs in. What it returns ends it.
func (r *run) begin(ctx context.Context, dir string) (stop func(), err error) {
	var started []func()
	stop = func() {
		for i := len(started) - 1; i >= 0; i-- {
			started[i]()
		}
	}
	r.o.Tell(0, 0, "building the programs")
	programs, err := stage.NewPrograms(dir)
	if err != nil {
		return stop, err
	}
	if err := launcher(ctx, programs, dir, r.o.Leaking); err != nil {
		return stop, err
	}
	if err := programs.Build(ctx, programs.Opener(), programs.Backend(), programs.Simulator()); err != nil {
		return stop, err
	}
	authority, err := stage.NewAuthority(dir)
	if err != nil {
		return stop, err
	}
	if r.issuer, err = stage.StartIssuer(authority, stage.IssuerOptions{}); err != nil {
		return stop, err
	}
	started = append(started, r.issuer.Close)
	secrets, err := stage.NewSecrets(dir)
	if err != nil {
		return stop, err
	}
	if r.sim, err = stage.StartSimulator(ctx, programs, secrets, stage.SimulatorOptions{}); err != nil {
		return stop, err
	}
	started = append(started, r.sim.Stop)
	metrics, err := stage.FreePort()
	if err != nil {
		return stop, err
	}
	r.metrics = "http://" + metrics + "/metrics"
	if r.backend, err = stage.StartBackend(ctx, programs, secrets, stage.BackendOptions{
		Dir: filepath.Join(dir, "backend"), Issuer: r.issuer.URL, Nabla: r.sim.Base, Authority: authority,
		More: fmt.Sprintf("metrics: {listen: %q}\nhandle_life: %s\n", metrics, handleLife),
	}); err != nil {
		return stop, err
	}
	started = append(started, r.backend.Stop)
	if err := programs.WritePolicy(stage.Policy(authority, r.issuer, r.backend)); err != nil {
		return stop, err
	}
	folder := filepath.Join(dir, "s")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return stop, err
	}
	if r.session, err = stage.NewSession(ctx, stage.SessionOptions{Dir: folder, Programs: programs}); err != nil {
		return stop, err
	}
	started = append(started, r.session.Close)
	if r.agent, err = r.session.StartAgent(ctx); err != nil {
		return stop, err
	}
	r.socket = &http.Client{Timeout: stage.Patience, Transport: &http.Transport{
		DisableKeepAlives: true, // each link comes with a handler of its own
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", r.session.Socket())
		},
	}}
	go r.mint(ctx)
	// The first launch asks for the sign-in.
	link, err := r.link(ctx)
	if err != nil {
		return stop, err
	}
	if err := r.handOver(ctx, link); err != nil {
		return stop, err
	}
	page, err := r.session.Notes.Await(ctx, stage.NoteOpener, "")
	if err != nil {
		return stop, err
	}
	if !r.issuer.IsSignIn(page.Text) {
		return stop, errors.New("what was opened first is no sign-in page")
	}
	if err := r.issuer.SignIn(ctx, page.Text, sandbox.People()[0].Key); err != nil {
		return stop, err
	}
	return stop, r.opens(ctx)
}

// handleLife is the least that the backend takes.
const handleLife = 5*time.Minute + time.Second

// minted is a link, and when it was made.
type minted struct {
	link string
	at   time.Time
}

// mint is the EHR's server: it makes links ahead of those who press the button.
func (r *run) mint(ctx context.Context) {
	ada := sandbox.People()[0]
	for n := 0; ; n++ {
		link, err := r.backend.Mint(ctx, stage.Launch{
			Email: ada.Email, Provider: ada.ProviderID, Patient: fmt.Sprint("P-", n%patients), Encounter: fmt.Sprint("E-", n%patients),
		})
		if err != nil {
			r.failed <- err
			return
		}
		select {
		case r.minted <- minted{link, time.Now()}:
		case <-ctx.Done():
			return
		}
	}
}

// link returns one that still lives for a while, however long the run was held up.
func (r *run) link(ctx context.Context) (string, error) {
	for {
		select {
		case m := <-r.minted:
			if time.Since(m.at) < handleLife/2 {
				return m.link, nil
			}
		case err := <-r.failed:
			return "", fmt.Errorf("registering a launch: %w", err)
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// ask calls the control channel on a connection of its own.
func (r *run) ask(ctx context.Context, method, route string, body, answer any) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://encounter-launcher"+route, sent)
	if err != nil {
		return err
	}
	if sent != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := r.socket.Do(request)
	if err != nil {
		return fmt.Errorf("the control channel: %w", errors.Unwrap(err)) // without the address
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d: %.300s", route, response.StatusCode, read)
	}
	return json.Unmarshal(read, answer)
}

// handOver gives the agent a link that it has to take.
func (r *run) handOver(ctx context.Context, link string) error {
	var ack struct {
		Accepted bool   `json:"accepted"`
		Code     string `json:"code"`
	}
	err := r.ask(ctx, http.MethodPost, "/v1/link", map[string]string{"link": link, "activation_token": "", "startup_id": ""}, &ack)
	if err == nil && !ack.Accepted {
		err = errors.New("a link was not accepted: " + ack.Code)
	}
	return err
}

// opens waits for the opener to be given a one-time URL.
func (r *run) opens(ctx context.Context) error {
	note, err := r.session.Notes.Await(ctx, stage.NoteOpener, "")
	if err != nil {
		var s snapshot
		return errors.Join(err, r.ask(ctx, http.MethodGet, "/v1/snapshot", nil, &s), s.trouble())
	}
	if !strings.HasPrefix(note.Text, "https://"+stage.PageHost+"/") {
		return errors.New("what was opened is no encounter")
	}
	r.opened++
	return nil
}

// all does every launch and reads along the way.
func (r *run) all(ctx context.Context) error {
	began := time.Now()
	if err := r.rest(ctx, 0); err != nil {
		return err
	}
	total, rested := r.o.Launches, 0
	for n := 1; n <= total; n++ {
		if err := r.one(ctx, n); err != nil {
			return fmt.Errorf("launch %d of %d: %w", n, total, err)
		}
		if n%max(total/readings, 1) == 0 {
			if err := r.read(ctx, float64(n)); err != nil {
				return err
			}
			r.log.Add("seconds", float64(n), time.Since(began).Seconds())
		}
		if n%100 == 0 {
			r.o.Tell(int64(n), int64(total), "launches")
		}
		if r.o.Rests > 0 && n*r.o.Rests/total > rested {
			rested = n * r.o.Rests / total
			if err := r.rest(ctx, float64(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// one opens something.
func (r *run) one(ctx context.Context, n int) error {
	r.log.Done["launches"]++
	switch n % 10 {
	case 3, 6, 9:
		r.log.Done["launches of recents"]++
		if err := r.ask(ctx, http.MethodPost, "/v1/open-recent", map[string]any{"last": true}, new(struct{})); err != nil {
			return err
		}
		return r.opens(ctx)
	}
	link, err := r.link(ctx)
	if err != nil {
		return err
	}
	if n%10 == 0 {
		r.log.Done["launches through a handler's process"]++
		ended, err := r.session.Click(ctx, link)
		if err == nil && ended.Status != 0 {
			err = fmt.Errorf("the handler ended with %d: %s", ended.Status, ended.Err)
		}
		if err != nil {
			return err
		}
	} else if err := r.handOver(ctx, link); err != nil {
		return err
	}
	if err := r.opens(ctx); err != nil {
		return err
	}
	if n%50 != 0 {
		return nil
	}
	// The same link again, at once; a handle that nobody has registered; a text that is
	// no link. None opens anything.
	r.log.Done["links that open nothing"] += 3
	if err := r.handOver(ctx, link); err != nil {
		return err
	}
	if err := r.handOver(ctx, fmt.Sprintf("encounter-launcher://launch?handle=%030d", n)); err != nil {
		return err
	}
	ended, err := r.session.Click(ctx, "encounter-launcher://launch?unknown=1")
	if err == nil && ended.Status != 2 {
		err = fmt.Errorf("a bad link ended the handler with %d", ended.Status)
	}
	return err
}

// snapshot is what the run reads of the agent's.
type snapshot struct {
	Launch *struct {
		Stage   string `json:"stage"`
		Problem *struct {
			Code      string `json:"code"`
			Reference string `json:"reference"`
		} `json:"problem"`
	} `json:"launch"`
}

// trouble says how the last launch ended, if not well.
func (s snapshot) trouble() error {
	if s.Launch == nil || s.Launch.Problem == nil {
		return nil
	}
	return fmt.Errorf("the launch is %s: %s, reference %s", s.Launch.Stage, s.Launch.Problem.Code, s.Launch.Problem.Reference)
}

// over waits until the agent has nothing to do.
func (r *run) over(ctx context.Context) error {
	var failed error
	err := stage.Await(ctx, "the end of the last launch", func() bool {
		var s snapshot
		failed = r.ask(ctx, http.MethodGet, "/v1/snapshot", nil, &s)
		return failed != nil || s.Launch == nil || s.Launch.Stage == "opened" || s.Launch.Stage == "failed"
	})
	return errors.Join(err, failed)
}

// rest leaves the agent alone and reads what it holds then.
func (r *run) rest(ctx context.Context, at float64) error {
	if r.o.Rests == 0 {
		return nil
	}
	if err := r.over(ctx); err != nil {
		return err
	}
	r.o.Tell(int64(at), int64(r.o.Launches), "at rest")
	if err := stage.Sleep(ctx, settling); err != nil {
		return err
	}
	return r.process("agent at rest", r.agent.PID, at)
}
