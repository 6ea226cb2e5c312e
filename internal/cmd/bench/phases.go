//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"encounterlauncher/internal/stage"
)

// bench is one run.
type bench struct {
	options
	built   built
	world   *world
	session *stage.Session
	// hospital is what the backend's phases run in.
	hospital *hospital
	report   *report
	serial   int
	taken    []time.Time // when the agent had taken its newest links
	handed   sample      // the warm hand-off, which two peers are measured against
}

// admitted waits until the agent takes another new link: it takes five in ten
// seconds. A joined one does not count, and a new agent begins anew.
func (b *bench) admitted(ctx context.Context) error {
	const most, window = 5, 10*time.Second + 200*time.Millisecond
	if n := len(b.taken); n >= most {
		return sleep(ctx, window-time.Since(b.taken[n-most]))
	}
	return nil
}

// freshHandle returns a handle that was never used, long enough for the grammar of
// links.
func (b *bench) freshHandle() string {
	b.serial++
	return fmt.Sprintf("bench-%022d", b.serial)
}

func link(handle string) string { return "encounter-launcher://launch?handle=" + handle }

// timed runs a program to its end and returns when it was started and when it had
// ended well.
func (b *bench) timed(ctx context.Context, program string, args ...string) (started, ended moment, err error) {
	cmd := b.session.Command(ctx, b.built.Path(program), args...)
	cmd.Stderr = os.Stderr // a file of ours costs the child nothing, where a pipe would
	started = now()
	err = cmd.Run()
	ended = now()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", program, err)
	}
	return started, ended, nil
}

func (b *bench) launcher(ctx context.Context, args ...string) (started, ended moment, err error) {
	return b.timed(ctx, "encounter-launcher", args...)
}

// signIn has the first link start the agent, which asks for the sign-in: from then
// on the keyring holds it.
func (b *bench) signIn(ctx context.Context) error {
	handle := b.freshHandle()
	if _, _, err := b.launcher(ctx, link(handle)); err != nil {
		return err
	}
	b.taken = append(b.taken, time.Now())
	page, err := b.session.Notes.Await(ctx, stage.NoteOpener, "")
	if err != nil {
		return fmt.Errorf("the sign-in page: %w", err)
	}
	if err := b.world.follow(page.Text); err != nil {
		return err
	}
	_, err = b.session.Notes.Await(ctx, stage.NoteOpener, handle)
	return err
}

// handOff presses one link again and again while the backend holds its answer back:
// joined to the launch in flight, a press costs the whole way to the agent and back
// and no launch. Between two presses the peers take their turns.
func (b *bench) handOff(ctx context.Context) error {
	const batch = 25 // what fits into the time for one attempt on a loaded machine
	ours, bare, empty, opener := b.report.sample(), b.report.sample(), b.report.sample(), b.report.sample()
	for done := 0; done < b.presses; {
		if err := b.admitted(ctx); err != nil {
			return err
		}
		handle := b.freshHandle()
		release := b.world.hold(handle)
		if _, _, err := b.launcher(ctx, link(handle)); err != nil {
			return err
		}
		b.taken = append(b.taken, time.Now())
		for range min(batch, b.presses-done) {
			if err := b.each(ctx,
				step{ours, "encounter-launcher", link(handle)}, step{bare, "socketclient", link(handle)},
				step{empty, "empty", ""}); err != nil {
				return err
			}
			started, _, err := b.timed(ctx, "xdg-open", "floor")
			if err != nil {
				return err
			}
			opened, err := b.session.Notes.Await(ctx, stage.NoteOpener, "floor")
			if err != nil {
				return err
			}
			opener.add(opened.At - started)
			done++
		}
		release()
		if _, err := b.session.Notes.Await(ctx, stage.NoteOpener, handle); err != nil {
			return err
		}
	}
	b.handed = *ours
	b.report.add(figure{
		ID: "handoff", Name: "hand-off: exec of the handler → acknowledged", Unit: ms, Ours: ours.stats(),
		Peer: "Go program that only connects to a socket", Theirs: bare.stats(), Goal: ratioAtMost(1.5),
	})
	b.report.add(figure{ID: "floor_process", Name: "floor: an empty Go program", Unit: ms, Ours: empty.stats()})
	b.report.add(figure{ID: "floor_opener", Name: "floor: exec → the opener alone", Unit: ms, Ours: opener.stats()})
	return nil
}

// step is one program whose time goes into one sample.
type step struct {
	into    *sample
	program string
	arg     string
}

func (b *bench) each(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		started, ended, err := b.timed(ctx, s.program, s.arg)
		if err != nil {
			return err
		}
		s.into.add(ended - started)
	}
	return nil
}

// warm takes, in every round, one link that was never seen, the script with one of
// its own, and a second Wails process; and after a pause the same link again, which is
// a hand-off and nothing else, and at once the least that an agent could do with it.
func (b *bench) warm(ctx context.Context) error {
	direct, _, err := b.session.StartAndHear(b.session.Command(ctx, b.built.Path("direct")))
	if err != nil {
		return err
	}
	defer direct.Stop()
	resident, err := b.session.Start(b.session.Command(ctx, b.built.Path("wails")))
	if err != nil {
		return err
	}
	if _, err := b.session.Notes.Await(ctx, noteReady, ""); err != nil {
		return err
	}
	// Its page is there; what it does after that must not fall into the first round.
	if err := sleep(ctx, pace); err != nil {
		return err
	}
	ack, ours, script, wails := b.report.sample(), b.report.sample(), b.report.sample(), b.report.sample()
	toBackend, inBackend, toOpener := b.report.sample(), b.report.sample(), b.report.sample()
	again, least, both := b.report.sample(), b.report.sample(), b.report.sample()
	for i := range b.rounds + 1 {
		if err := b.admitted(ctx); err != nil {
			return err
		}
		began := time.Now()
		handle := b.freshHandle()
		started, ended, opened, err := b.launch(ctx, handle)
		if err != nil {
			return err
		}
		theirs, err := b.script(ctx)
		if err != nil {
			return err
		}
		second, err := b.secondWails(ctx, handle)
		if err != nil {
			return err
		}
		// As long after the last work as the link, and soon enough to be joined to it.
		if err := sleep(ctx, pace/2); err != nil {
			return err
		}
		pressed, taken, err := b.launcher(ctx, link(handle))
		if err != nil {
			return err
		}
		short, err := b.direct(ctx)
		if err != nil {
			return err
		}
		// The first round warms connection and caches for everybody.
		if i > 0 {
			at, ok := b.world.callFor(handle)
			if !ok {
				return errors.New("the backend was not called")
			}
			ack.add(ended - started)
			ours.add(opened - started)
			script.add(theirs)
			wails.add(second)
			toBackend.add(at.arrived - started)
			inBackend.add(at.answered - at.arrived)
			toOpener.add(opened - at.answered)
			again.add(taken - pressed)
			least.add(short)
			both.add(taken - pressed + short)
		}
		if err := sleep(ctx, 3*pace/2-time.Since(began)); err != nil {
			return err
		}
	}
	resident.Stop()
	b.report.add(figure{
		ID: "handoff_wails", Name: "hand-off: the same figure", Unit: ms, Ours: b.handed.stats(),
		Peer: "Wails SingleInstanceLock: exec → callback", Theirs: wails.stats(), Goal: ratioAtMost(1.0 / 50),
	})
	b.report.add(figure{
		ID: "handoff_new", Name: "  of a new link, in turns with Wails", Unit: ms, Ours: ack.stats(),
		Peer: "Wails SingleInstanceLock: exec → callback", Theirs: wails.stats(),
	})
	b.report.add(figure{
		ID: "warm", Name: "warm: exec → opener called, over TLS", Unit: ms, Ours: ours.stats(),
		Peer: "script with curl and xdg-open", Theirs: script.stats(), Goal: ratioAtMost(0.3),
	})
	b.report.add(figure{
		ID: "warm_least", Name: "  the same", Unit: ms, Ours: ours.stats(),
		Peer: "hand-off, then one request and the opener by the least program", Theirs: both.stats(), Goal: ratioAtMost(1.1),
	})
	b.report.add(figure{ID: "warm_handoff", Name: "  of the peer: the hand-off", Unit: ms, Ours: again.stats()})
	b.report.add(figure{ID: "warm_direct", Name: "  of the peer: request and opener", Unit: ms, Ours: least.stats()})
	b.report.add(figure{ID: "warm_to_backend", Name: "  of it: exec → request at the backend", Unit: ms, Ours: toBackend.stats()})
	b.report.add(figure{ID: "warm_in_backend", Name: "  of it: in the backend", Unit: ms, Ours: inBackend.stats()})
	b.report.add(figure{ID: "warm_to_opener", Name: "  of it: answer → opener called", Unit: ms, Ours: toOpener.stats()})
	return nil
}

func (b *bench) launch(ctx context.Context, handle string) (started, ended, opened moment, err error) {
	if started, ended, err = b.launcher(ctx, link(handle)); err != nil {
		return 0, 0, 0, err
	}
	b.taken = append(b.taken, time.Now())
	n, err := b.session.Notes.Await(ctx, stage.NoteOpener, handle)
	return started, ended, n.At, err
}

// direct has the least program open a link, and returns how long it took from the
// moment at which it had read the handle.
func (b *bench) direct(ctx context.Context) (moment, error) {
	conn, err := net.Dial("unix", b.session.Folder("direct"))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	handle := b.freshHandle()
	if _, err := fmt.Fprintln(conn, handle); err != nil {
		return 0, err
	}
	var begun moment
	if _, err := fmt.Fscanln(conn, &begun); err != nil {
		return 0, fmt.Errorf("the least program: %w", err)
	}
	n, err := b.session.Notes.Await(ctx, stage.NoteOpener, handle)
	return n.At - begun, err
}

func (b *bench) script(ctx context.Context) (moment, error) {
	handle := b.freshHandle()
	started, _, err := b.timed(ctx, "launch.sh", link(handle))
	if err != nil {
		return 0, err
	}
	n, err := b.session.Notes.Await(ctx, stage.NoteOpener, handle)
	return n.At - started, err
}

// secondWails starts the program a second time. Wails ends it with status 1.
func (b *bench) secondWails(ctx context.Context, text string) (moment, error) {
	cmd := b.session.Command(ctx, b.built.Path("wails"), text)
	started := now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	n, err := b.session.Notes.Await(ctx, noteSecond, text)
	if err != nil {
		_ = cmd.Process.Kill()
	}
	var exit *exec.ExitError
	if waited := cmd.Wait(); err == nil && waited != nil && !errors.As(waited, &exit) {
		err = waited
	}
	return n.At - started, err
}

// rested leaves the agent alone before each of its turns for long enough that it
// has given its memory back.
func (b *bench) rested(ctx context.Context) error {
	ours, script := b.report.sample(), b.report.sample()
	for range b.rests {
		if err := errors.Join(sleep(ctx, 12*time.Second), b.admitted(ctx)); err != nil {
			return err
		}
		started, _, opened, err := b.launch(ctx, b.freshHandle())
		if err != nil {
			return err
		}
		ours.add(opened - started)
		theirs, err := b.script(ctx)
		if err != nil {
			return err
		}
		script.add(theirs)
	}
	if b.rests > 0 {
		b.report.add(figure{
			ID: "warm_rested", Name: "  the same after 12 s of rest", Unit: ms, Ours: ours.stats(),
			Peer: "script with curl and xdg-open", Theirs: script.stats(),
		})
	}
	return nil
}

// cold ends the agent before each of its turns: the handler finds nobody, starts
// one, and that finds the sign-in in the keyring and asks the issuer for a token.
func (b *bench) cold(ctx context.Context) error {
	ours, ack, script := b.report.sample(), b.report.sample(), b.report.sample()
	toIssuer, atIssuer, toBackend, toOpener := b.report.sample(), b.report.sample(), b.report.sample(), b.report.sample()
	for range b.rounds {
		if err := b.endAgent(ctx); err != nil {
			return err
		}
		handle := b.freshHandle()
		started, ended, opened, err := b.launch(ctx, handle)
		if err != nil {
			return err
		}
		at, ok := b.world.callFor(handle)
		if !ok {
			return errors.New("the backend was not called")
		}
		asked, given := b.world.issuerTimes()
		ack.add(ended - started)
		toIssuer.add(asked - started)
		atIssuer.add(given - asked)
		toBackend.add(at.arrived - given)
		toOpener.add(opened - at.answered)
		ours.add(opened - started)
		theirs, err := b.script(ctx)
		if err != nil {
			return err
		}
		script.add(theirs)
		// The agent finishes what it put off until after the click.
		if err := sleep(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
	b.report.add(figure{
		ID: "cold", Name: "cold: no agent, exec → opener called, over TLS", Unit: ms, Ours: ours.stats(),
		Peer: "script with curl and xdg-open", Theirs: script.stats(), Goal: ratioAtMost(1.2),
	})
	b.report.add(figure{ID: "cold_ack", Name: "  of it: exec → acknowledged", Unit: ms, Ours: ack.stats()})
	b.report.add(figure{ID: "cold_to_issuer", Name: "  of it: exec → issuer asked", Unit: ms, Ours: toIssuer.stats()})
	b.report.add(figure{ID: "cold_at_issuer", Name: "  of it: issuer asked → tokens given", Unit: ms, Ours: atIssuer.stats()})
	b.report.add(figure{ID: "cold_to_backend", Name: "  of it: tokens given → request at the backend", Unit: ms, Ours: toBackend.stats()})
	b.report.add(figure{ID: "cold_to_opener", Name: "  of it: answer → opener called", Unit: ms, Ours: toOpener.stats()})
	return nil
}

// memory leaves agent and Wails program alone, both started anew, and then reads
// the memory of each several times.
func (b *bench) memory(ctx context.Context) error {
	used, err := b.agentPID()
	if err != nil {
		return err
	}
	after := b.report.sample()
	for range b.rounds {
		pss, err := stage.PSS(used)
		if err != nil {
			return err
		}
		after.addKB(pss)
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if err := b.endAgent(ctx); err != nil {
		return err
	}
	agent, err := b.startAgent(ctx)
	if err != nil {
		return err
	}
	wails, err := b.session.Start(b.session.Command(ctx, b.built.Path("wails")))
	if err != nil {
		return err
	}
	if _, err := b.session.Notes.Await(ctx, noteReady, ""); err != nil {
		return err
	}
	if err := sleep(ctx, b.idle); err != nil {
		return err
	}
	ours, theirs := b.report.sample(), b.report.sample()
	for range b.rounds {
		pss, err := stage.PSS(agent)
		if err != nil {
			return err
		}
		ours.addKB(pss)
		if pss, err = stage.PSSOfTree(wails.PID()); err != nil {
			return err
		}
		theirs.addKB(pss)
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	wails.Stop()
	b.report.add(figure{
		ID: "memory", Name: "idle agent with tray, PSS", Unit: mb, Ours: ours.stats(),
		Peer: "stock Wails with StartHidden, its processes", Theirs: theirs.stats(), Goal: valueAtMost(10),
	})
	b.report.add(figure{ID: "memory_cold", Name: "  the agent right after a cold launch", Unit: mb, Ours: after.stats()})
	return b.endAgent(ctx)
}

func (b *bench) sizes(context.Context) error {
	for _, p := range []struct{ id, name, program string }{
		{"size", "size of the launcher on disk", "encounter-launcher"},
		{"size_window", "  of the window's program", windowProgram},
		{"size_wails", "  of the stock Wails program", "wails"},
	} {
		info, err := os.Stat(b.built.Path(p.program))
		if err != nil {
			continue // built a minute ago: then somebody is clearing up, and a size matters little
		}
		s := b.report.sample()
		s.addKB(info.Size() / 1024)
		b.report.add(figure{ID: p.id, Name: p.name, Unit: mb, Ours: s.stats()})
	}
	return nil
}

// startAgent starts the agent without a link and returns when it listens.
func (b *bench) startAgent(ctx context.Context) (pid int, err error) {
	a, err := b.session.StartAgent(ctx)
	return a.PID, err
}

func (b *bench) agentPID() (int, error) {
	a, err := b.session.Agent()
	return a.PID, err
}

// endAgent ends the agent and returns when the process is gone.
func (b *bench) endAgent(ctx context.Context) error {
	a, err := b.session.Agent()
	if err != nil {
		return err
	}
	return a.Stop(ctx)
}
