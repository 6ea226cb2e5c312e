//go:build linux

// Command bench measures the launcher against its peers, as ratios in one run: the
// least program that connects to a socket, the least that answers it by one request and
// the opener, a shell script with curl, and a stock Wails program; and the organisation's backend against nginx. It prints one table
// and writes build/out/bench.json and bench.svg. What other commands have left there stands
// below the table, as not of this run.
//
// The launcher runs in a session of its own (bus, keyring, display, folders) that
// ends with it. The bench is run in the module's root. It never judges by absolute times,
// never ends badly because a goal was missed, and never touches the person's own
// launcher, keyring or browser.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"encounterlauncher/internal/stage"
)

// pace is that of the warm rounds: the machine is quiet again before the next.
const pace = 2100 * time.Millisecond

func main() {
	var o options
	flag.IntVar(&o.rounds, "n", 24, "samples of each figure; at least 20 for a result that counts")
	flag.IntVar(&o.presses, "presses", 200, "samples of the hand-off against a bare socket client")
	flag.IntVar(&o.rests, "rests", 5, "samples of a launch after a rest, each of which takes 12 s; 0 for none")
	flag.DurationVar(&o.idle, "idle", 20*time.Second, "how long a program is left alone before its memory is read")
	flag.BoolVar(&o.onlyWindow, "window", false, "measure only the window")
	flag.BoolVar(&o.onlyLauncher, "launcher", false, "measure only hand-off, warm and cold launches, and the agent's memory")
	flag.BoolVar(&o.onlyBackend, "backend", false, "measure only the organisation's backend; needs neither display nor keyring")
	flag.IntVar(&o.handles, "handles", 1_000_000, "handles that expire; 0 for none")
	flag.IntVar(&o.streams, "streams", 10_000, "idle streams of events; 0 for none")
	flag.StringVar(&o.out, "out", filepath.Join("build", "out", "bench.json"), "where the figures go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// phase is a part of a run that adds figures to the report.
type phase struct {
	what string
	do   func(context.Context) error
}

type options struct {
	rounds, presses int
	rests           int
	onlyWindow      bool
	onlyLauncher    bool
	onlyBackend     bool
	handles         int
	streams         int
	idle            time.Duration
	out             string
}

func run(ctx context.Context, o options) error {
	if o.rounds < 1 || o.presses < 1 || flag.NArg() > 0 {
		return errors.New("-n and -presses are at least 1, and there are no arguments")
	}
	if _, err := os.Stat("go.mod"); err != nil {
		return errors.New("run it in the module's root: go run ./internal/cmd/bench")
	}
	dir, err := os.MkdirTemp("", "bench-") // short, for the names of sockets
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	programs, err := stage.NewPrograms(dir)
	if err != nil {
		return err
	}
	b := &bench{options: o, report: newReport(), built: built{programs}}
	if !o.onlyBackend {
		if err := b.desktop(ctx, dir); err != nil {
			return err
		}
	}
	if !o.onlyWindow && !o.onlyLauncher {
		if err := b.servers(ctx, dir); err != nil {
			return err
		}
	}
	b.report.Recorded = recall(filepath.Dir(o.out))
	if err := b.report.write(o.out); err != nil {
		return err
	}
	picture := strings.TrimSuffix(o.out, ".json") + ".svg"
	if err := b.report.draw(picture); err != nil {
		return err
	}
	b.report.print(os.Stdout)
	say("written to " + o.out + " and " + picture)
	return nil
}

// desktop measures the launcher, in a desktop session that ends with it.
func (b *bench) desktop(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(frontEnd, "index.html")); err != nil && !b.onlyLauncher {
		return errors.New("the window's page is not built: make frontend")
	}
	say("building the launcher and its peers")
	if err := b.built.desktop(ctx, !b.onlyLauncher); err != nil {
		return err
	}
	world, err := newWorld(dir)
	if err != nil {
		return err
	}
	defer world.close()
	if err := b.built.WritePolicy(world.policy()); err != nil {
		return err
	}
	say("starting a session bus, a keyring, a tray host and a display")
	session, err := newSession(ctx, dir, b.built, world)
	if err != nil {
		return err
	}
	defer session.Close()
	b.world, b.session = world, session
	signIn := phase{"signing in once", b.signIn}
	window := []phase{
		{"the window against a bare one", b.window},
		{"memory after the window was open", b.windowMemory},
		{"filtering 200 recents", b.filter},
		{"size of the page's script", b.scripts},
	}
	if b.onlyWindow {
		return b.follow(ctx, append([]phase{signIn}, window...))
	}
	if b.onlyLauncher {
		window = nil
	}
	return b.follow(ctx, append([]phase{
		signIn,
		{"hand-off against a bare socket client, and the floors", b.handOff},
		{"warm launches against the script, hand-off against Wails", b.warm},
		{"launches after a rest", b.rested},
		{"cold launches against the script", b.cold},
		{"idle memory", b.memory},
		{"sizes", b.sizes},
	}, window...))
}

// servers measures the organisation's backend.
func (b *bench) servers(ctx context.Context, dir string) error {
	say("building the backend and the simulator")
	if err := b.buildBackend(ctx); err != nil {
		return err
	}
	say("starting an issuer, the simulator and nginx")
	h, err := newHospital(ctx, filepath.Join(dir, "hospital"), b.built)
	if err != nil {
		return err
	}
	defer h.close()
	b.hospital = h
	return b.follow(ctx, []phase{
		{"creates through the backend against nginx", b.creates},
		{"callbacks onto the disk", b.intake},
		{"idle streams of events", b.idleStreams},
		{"memory after handles have expired", b.handlesExpire},
	})
}

// follow goes through phases. What they had measured before one failed is shown.
func (b *bench) follow(ctx context.Context, phases []phase) error {
	for _, p := range phases {
		say(p.what)
		if err := p.do(ctx); err != nil {
			b.report.print(os.Stdout)
			return fmt.Errorf("%s: %w", p.what, err)
		}
	}
	return nil
}

func say(what string) { fmt.Fprintln(os.Stderr, "bench:", what) }

// built are the programs of one run: those of the stage, and the peers beside them.
type built struct{ stage.Programs }

// desktop compiles everything alike: the launcher is a release, apart from the place
// where it looks for the machine's policy.
func (b built) desktop(ctx context.Context, windows bool) error {
	const here = "./internal/cmd/bench/testdata/"
	const windowTags = "desktop,production,webkit2_41"
	peer := func(name string) stage.Build { return stage.Build{Name: name, Source: here + name} }
	window := func(name string) stage.Build {
		return stage.Build{Name: name, Source: here + name, Tags: windowTags, Window: true}
	}
	builds := []stage.Build{b.Launcher(), b.Opener(), peer("empty"), peer("socketclient"), peer("direct"), window("wails")}
	if windows {
		builds = append(builds, b.WindowProgram(), window("window"), window("filter"))
	}
	if err := b.Build(ctx, builds...); err != nil {
		return err
	}
	script, err := os.ReadFile(here + "script/launch.sh")
	if err != nil {
		return err
	}
	return os.WriteFile(b.Path("launch.sh"), script, 0o700)
}
