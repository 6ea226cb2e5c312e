//go:build linux

// Command bench measures the launcher against its peers, as ratios in one run: the
// least program that connects to a socket, a shell script with curl, and a stock
// Wails program. It prints one table and writes build/out/bench.json.
//
// Everything runs in a session of its own (bus, keyring, display, folders) that
// ends with it. It is run in the module's root. It never judges by absolute times,
// never ends badly because a goal was missed, and never touches the person's own
// launcher, keyring or browser.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// pace is that of the warm rounds: the machine is quiet again before the next.
const pace = 2100 * time.Millisecond

func main() {
	var o options
	flag.IntVar(&o.rounds, "n", 24, "samples of each figure; at least 20 for a result that counts")
	flag.IntVar(&o.presses, "presses", 200, "samples of the hand-off against a bare socket client")
	flag.IntVar(&o.rests, "rests", 5, "samples of a launch after a rest, each of which takes 12 s; 0 for none")
	flag.DurationVar(&o.idle, "idle", 20*time.Second, "how long a program is left alone before its memory is read")
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

type options struct {
	rounds, presses int
	rests           int
	idle            time.Duration
	out             string
}

func run(ctx context.Context, o options) (err error) {
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

	say("building the launcher and its peers")
	built, err := build(ctx, dir)
	if err != nil {
		return err
	}
	world, err := newWorld(dir)
	if err != nil {
		return err
	}
	defer world.close()
	if err := world.writePolicy(built.machine); err != nil {
		return err
	}
	say("starting a session bus, a keyring, a tray host and a display")
	session, err := newSession(ctx, dir, built, world)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.close()) }()

	b := &bench{options: o, built: built, world: world, session: session, report: newReport()}
	for _, phase := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"signing in once", b.signIn},
		{"hand-off against a bare socket client, and the floors", b.handOff},
		{"warm launches against the script, hand-off against Wails", b.warm},
		{"launches after a rest", b.rested},
		{"cold launches against the script", b.cold},
		{"idle memory", b.memory},
	} {
		say(phase.what)
		if err := phase.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", phase.what, err)
		}
	}
	b.sizes()
	if err := b.report.write(o.out); err != nil {
		return err
	}
	b.report.print(os.Stdout)
	say("written to " + o.out)
	return nil
}

func say(what string) { fmt.Fprintln(os.Stderr, "bench:", what) }

// built are the programs of one run.
type built struct {
	// machine is the machine root that the launcher was linked with.
	machine string
	// bin holds the launcher and its peers, and nothing else: as the first entry
	// of PATH it provides xdg-open.
	bin string
}

func (b built) program(name string) string { return filepath.Join(b.bin, name) }

// build compiles everything alike: the launcher is a release, apart from the place
// where it looks for the machine's policy.
func build(ctx context.Context, dir string) (built, error) {
	b := built{machine: filepath.Join(dir, "machine"), bin: filepath.Join(dir, "bin")}
	const here = "./internal/cmd/bench/testdata/"
	for _, p := range []struct {
		name, source, ldflags, tags string
		cgo                         string
	}{
		{"encounter-launcher", ".", " -X main.version=bench -X encounterlauncher/internal/paths.machineRoot=" + b.machine, "", "0"},
		{"empty", here + "empty", "", "", "0"},
		{"socketclient", here + "socketclient", "", "", "0"},
		{"xdg-open", here + "opener", "", "", "0"},
		{"wails", here + "wails", "", "desktop,production,webkit2_41", "1"},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w"+p.ldflags, "-tags", p.tags, "-o", b.program(p.name), p.source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+p.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return built{}, fmt.Errorf("building %s: %w\n%s", p.name, err, out)
		}
	}
	script, err := os.ReadFile(here + "script/launch.sh")
	if err != nil {
		return built{}, err
	}
	return b, os.WriteFile(b.program("launch.sh"), script, 0o700)
}
