//go:build linux

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"encounterlauncher/internal/stage"
)

const (
	// The two lines of a window's program: its page is there, and what stands on it
	// has been painted (window_start.go, testdata/window).
	lineUp, linePainted = "the window is open", "the window is painted"
	// windowProgram lies beside the launcher, which starts it by that name.
	windowProgram = "encounter-launcher-window"
	windowTitle   = "^Encounter Launcher$"
	// frontEnd is where the window's page was built into.
	frontEnd = "frontend/dist"
	// aFrame is how long the page has for one picture, in ms, and mostScript how much
	// of it may be script, in kB after gzip.
	aFrame, mostScript = 16, 60
)

// window opens the launcher's window and the bare one in turns. The agent runs, a
// person is signed in and has recents.
func (b *bench) window(ctx context.Context) error {
	for range 4 {
		if err := b.admitted(ctx); err != nil {
			return err
		}
		if _, _, _, err := b.launch(ctx, b.freshHandle()); err != nil {
			return err
		}
	}
	type times struct{ up, painted *sample }
	ours, bare := times{b.report.sample(), b.report.sample()}, times{b.report.sample(), b.report.sample()}
	for i := range b.rounds + 1 {
		for _, w := range []struct {
			program string
			into    times
		}{{windowProgram, ours}, {"window", bare}} {
			// What the last one left behind and the agent's own work are over.
			if err := sleep(ctx, 700*time.Millisecond); err != nil {
				return err
			}
			up, painted, err := b.openWindow(ctx, w.program)
			if err != nil {
				return fmt.Errorf("%s: %w", w.program, err)
			}
			if i > 0 { // the first round brings the programs into the cache of files
				w.into.up.add(up)
				w.into.painted.add(painted)
			}
		}
	}
	const peer = "bare Wails window with an empty page"
	b.report.add(figure{
		ID: "window", Name: "window: exec → recents painted", Unit: ms, Ours: ours.painted.stats(),
		Peer: peer, Theirs: bare.painted.stats(), Goal: ratioAtMost(1.25),
	})
	b.report.add(figure{
		ID: "window_up", Name: "  of it: exec → the page's DOM is ready", Unit: ms, Ours: ours.up.stats(),
		Peer: peer, Theirs: bare.up.stats(),
	})
	return nil
}

// openWindow starts a window's program by hand and ends it when it has painted. The
// times count from exec.
func (b *bench) openWindow(ctx context.Context, program string) (up, painted moment, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := b.session.Command(ctx, b.built.Path(program))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	words, err := os.Create(filepath.Join(b.session.Dir, "window.txt"))
	if err != nil {
		return 0, 0, err
	}
	defer words.Close()
	cmd.Stderr = words // toolkit and webview say much that matters only where they fail
	started := now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, b.endWindow(ctx, cmd)) }()
	for lines := bufio.NewScanner(out); (up == 0 || painted == 0) && lines.Scan(); {
		switch lines.Text() {
		case lineUp:
			up = now() - started
		case linePainted:
			painted = now() - started
		}
	}
	if up == 0 || painted == 0 {
		text, _ := os.ReadFile(words.Name()) // what can be told of why
		return 0, 0, fmt.Errorf("it did not say that it has painted\n%s", text)
	}
	return up, painted, nil
}

// endWindow ends a window's program and returns when the webview's processes are
// gone too, so that they take nothing from the next.
func (b *bench) endWindow(ctx context.Context, cmd *exec.Cmd) error {
	helpers := stage.Family(cmd.Process.Pid)
	end(cmd)
	return stage.Await(ctx, "the end of the webview", func() bool { return !slices.ContainsFunc(helpers, stage.Alive) })
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(3*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	_ = cmd.Wait()
}

// settled is when an agent has just given back what a click needed: it does so ten
// quiet seconds after it. Later, timers of its own bring pages of its file back in,
// window or not.
const settled = 11500 * time.Millisecond

// windowMemory reads the memory of an agent at rest: after its start, after clicks
// that open no window, which tell how far two readings lie apart without one, and
// as often after its window was open.
func (b *bench) windowMemory(ctx context.Context) error {
	const times = 5
	desktop, err := b.session.Start(b.session.Command(ctx, "openbox")) // passes on that a window is to be closed
	if err != nil {
		return err
	}
	defer desktop.Stop()
	if _, err := b.agentPID(); err == nil {
		if err := b.endAgent(ctx); err != nil {
			return err
		}
	}
	agent, err := b.startAgent(ctx)
	if err != nil {
		return err
	}
	type memory struct{ all, own *sample }
	read := func(into memory) error {
		if err := sleep(ctx, settled); err != nil {
			return err
		}
		all, err := stage.PSS(agent)
		if err != nil {
			return err
		}
		own, err := stage.OwnPSS(agent)
		into.all.addKB(all)
		into.own.addKB(own)
		return err
	}
	started, clicked, after := memory{b.report.sample(), b.report.sample()}, memory{b.report.sample(), b.report.sample()}, memory{b.report.sample(), b.report.sample()}
	if err := read(started); err != nil {
		return err
	}
	for range times {
		// There is nothing to cancel, so this ends with a refusal, which is no fault.
		var refused *exec.ExitError
		if err := b.session.Command(ctx, b.built.Path("encounter-launcher"), "cancel").Run(); err != nil && !errors.As(err, &refused) {
			return err
		}
		if err := read(clicked); err != nil {
			return err
		}
	}
	for range times {
		if err := b.openAndClose(ctx, agent); err != nil {
			return err
		}
		if err := read(after); err != nil {
			return err
		}
	}
	const peer = "the same agent before, after other clicks"
	b.report.add(figure{
		ID: "window_memory", Name: "agent at rest, its window closed again, PSS", Unit: mb, Ours: after.all.stats(),
		Peer: peer, Theirs: clicked.all.stats(), Goal: ratioAtMost(1.05),
	})
	b.report.add(figure{
		ID: "window_memory_own", Name: "  of it: not pages of its file", Unit: mb, Ours: after.own.stats(), Peer: peer, Theirs: clicked.own.stats(),
	})
	b.report.add(figure{
		ID: "window_memory_noise", Name: "  other clicks alone", Unit: mb, Ours: clicked.all.stats(),
		Peer: "the same agent after its start", Theirs: started.all.stats(),
	})
	return b.endAgent(ctx)
}

// openAndClose has the agent open its window, as a person does, and closes that as
// a person does.
func (b *bench) openAndClose(ctx context.Context, agent int) error {
	if _, _, err := b.launcher(ctx, "window"); err != nil {
		return err
	}
	helpers := stage.Family(agent)
	if len(helpers) == 0 {
		return errors.New("the agent has started no window")
	}
	if err := sleep(ctx, 2*time.Second); err != nil { // it shows the recents and hears of changes
		return err
	}
	helpers = stage.Family(agent)
	find := b.session.Command(ctx, "xdotool", "search", "--onlyvisible", "--name", windowTitle)
	id, err := find.Output()
	if err != nil || strings.TrimSpace(string(id)) == "" {
		return fmt.Errorf("finding the window: %w", err)
	}
	press := b.session.Command(ctx, "xdotool", "windowactivate", "--sync", strings.Fields(string(id))[0], "key", "--clearmodifiers", "alt+F4")
	if out, err := press.CombinedOutput(); err != nil {
		return fmt.Errorf("closing the window: %w\n%s", err, out)
	}
	return stage.Await(ctx, "the end of the window", func() bool { return !slices.ContainsFunc(helpers, stage.Alive) })
}

// filter types into the search field of the page among 200 recents, in the engine
// of the window.
func (b *bench) filter(ctx context.Context) error {
	pages, err := filepath.Abs(frontEnd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	cmd := b.session.Command(ctx, b.built.Path("filter"), pages)
	text, err := cmd.Output()
	if err != nil {
		return err
	}
	var told struct {
		Fault   string    `json:"fault"`
		LaidOut []float64 `json:"laid_out"`
		Framed  []float64 `json:"framed"`
	}
	if err := json.Unmarshal(text, &told); err != nil {
		return fmt.Errorf("reading what the page measured: %w", err)
	}
	if told.Fault != "" {
		return errors.New(told.Fault)
	}
	if len(told.LaidOut) == 0 || len(told.Framed) == 0 {
		return errors.New("the page has measured nothing")
	}
	laidOut, framed := &sample{told.LaidOut}, &sample{told.Framed}
	b.report.add(figure{
		ID: "filter", Name: "200 recents filtered: key → laid out", Unit: ms, Ours: laidOut.stats(), Goal: valueAtMost(aFrame),
	})
	b.report.add(figure{
		ID: "filter_slow", Name: "  95 of 100 keys take at most", Unit: ms, Ours: laidOut.percentile(95), Goal: valueAtMost(aFrame),
	})
	b.report.add(figure{ID: "filter_frame", Name: "  key → the frame is over", Unit: ms, Ours: framed.stats()})
	b.report.add(figure{ID: "filter_frame_slow", Name: "  95 of 100 keys take at most", Unit: ms, Ours: framed.percentile(95)})
	return nil
}

// scripts adds up the scripts of the page, each compressed by itself as a server
// would send it: those that the page loads at once, and all.
func (b *bench) scripts(context.Context) error {
	page, err := os.ReadFile(filepath.Join(frontEnd, "index.html"))
	if err != nil {
		return err
	}
	atOnce, all := b.report.sample(), b.report.sample()
	var sumAtOnce, sumAll float64
	err = filepath.WalkDir(frontEnd, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".js" {
			return err
		}
		size, err := gzipped(path)
		sumAll += size
		if named(page, filepath.Base(path)) {
			sumAtOnce += size
		}
		return err
	})
	if err != nil {
		return err
	}
	if sumAtOnce == 0 {
		return errors.New("the page loads no script")
	}
	atOnce.values, all.values = []float64{sumAtOnce}, []float64{sumAll}
	b.report.add(figure{ID: "script", Name: "script that the page loads at once, gzip", Unit: kb, Ours: atOnce.stats(), Goal: valueAtMost(mostScript)})
	b.report.add(figure{ID: "script_all", Name: "  all of the page's script", Unit: kb, Ours: all.stats(), Goal: valueAtMost(mostScript)})
	return nil
}

// named reports whether the page names this file: in a script, or in a link that has
// it loaded before a script asks for it.
func named(page []byte, file string) bool {
	return regexp.MustCompile(`(?:src|href)="[^"]*/` + regexp.QuoteMeta(file) + `"`).Match(page)
}

// gzipped returns the size of a file after gzip, in kB of 1,000 bytes.
func gzipped(path string) (float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err = io.Copy(w, f)
	err = errors.Join(err, w.Close())
	return float64(packed.Len()) / 1000, err
}
