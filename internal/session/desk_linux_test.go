package session

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"encounterlauncher/internal/sessionsim"
)

// patience bounds what never happens when all is well.
const patience = 20 * time.Second

// world is a person's session: two buses, and a Watcher whose timer a test fires.
type world struct {
	t               *testing.T
	system, session *sessionsim.Bus
	watcher         *Watcher
	events          chan Event
	pauses          chan time.Duration
	fire            chan time.Time
}

func bus(t *testing.T, variable string) *sessionsim.Bus {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b, err := sessionsim.StartBus(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	t.Setenv(variable, b.Address)
	return b
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, system: bus(t, "DBUS_SYSTEM_BUS_ADDRESS"), session: bus(t, "DBUS_SESSION_BUS_ADDRESS"),
		watcher: New(nil), events: make(chan Event, 64), pauses: make(chan time.Duration, 64), fire: make(chan time.Time),
	}
	t.Setenv("XDG_SESSION_ID", "7")
	w.watcher.after = func(d time.Duration) (<-chan time.Time, func() bool) {
		w.pauses <- d
		return w.fire, func() bool { return true }
	}
	return w
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.watcher.Run(ctx, func(e Event) { w.events <- e })
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

func (w *world) login(id string) *sessionsim.Login {
	w.t.Helper()
	l, err := sessionsim.NewLogin(w.system.Address, id)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(l.Close)
	return l
}

func (w *world) saver(name, path string) *sessionsim.Saver {
	w.t.Helper()
	s, err := sessionsim.NewSaver(w.session.Address, name, path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) monitor() *sessionsim.Monitor {
	w.t.Helper()
	m, err := sessionsim.NewMonitor(w.session.Address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(m.Close)
	return m
}

// next returns the next event, which must be of a kind.
func (w *world) next(kind Kind) Event {
	w.t.Helper()
	select {
	case e := <-w.events:
		if e.Kind != kind {
			w.t.Fatalf("got %+v, want %s", e, kind)
		}
		return e
	case <-time.After(patience):
		w.t.Fatalf("never %s", kind)
	}
	panic("unreachable")
}

func (w *world) watched(lock, idle bool) {
	w.t.Helper()
	if e := w.next(Watched); e.Watched != (Sources{lock, idle}) {
		w.t.Fatalf("what is seen: %+v", e.Watched)
	}
}

func (w *world) pause() time.Duration {
	w.t.Helper()
	select {
	case d := <-w.pauses:
		return d
	case <-time.After(patience):
		w.t.Fatal("no look is planned")
	}
	panic("unreachable")
}

// due lets the planned look come.
func (w *world) due() {
	w.t.Helper()
	select {
	case w.fire <- time.Time{}:
	case <-time.After(patience):
		w.t.Fatal("nobody waits for a look")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatLogindTellsOfOurSessionIsReported(t *testing.T) {
	for _, id := range []string{"7", ""} { // found by its number, and as the display
		t.Run("session "+strconv.Quote(id), func(t *testing.T) {
			w := newWorld(t)
			l := w.login(id)
			w.run()
			w.watched(true, true)
			l.Lock()
			w.next(Locked)
			l.Unlock()
			w.next(Unlocked)
			l.Switch(true)
			w.next(SwitchedAway)
			l.Switch(false)
			w.next(SwitchedBack)
			must(t, l.Sleep(true))
			w.next(Locked)
			must(t, l.Sleep(false))
			w.next(Unlocked)
			must(t, l.AskToLock())
			w.next(Locked)
			must(t, l.AskToUnlock())
			w.next(Unlocked)
			must(t, l.Remove())
			w.next(Disconnected)
		})
	}
}

func TestALockThatWasAskedForEndsWithAnyUnlocking(t *testing.T) {
	w := newWorld(t)
	l := w.login("7")
	w.run()
	w.watched(true, true)
	must(t, l.AskToLock())
	w.next(Locked)
	l.Lock() // and the desktop did
	w.next(Locked)
	l.Unlock()
	w.next(Unlocked)
}

func TestASessionThatTheProgramOutlivesIsDisconnected(t *testing.T) {
	w := newWorld(t)
	l := w.login("7")
	w.run()
	w.watched(true, true)
	l.LogOff()
	w.next(Disconnected)
	w.watched(false, false)
}

func TestALockFromBeforeIsReported(t *testing.T) {
	w := newWorld(t)
	w.login("7").Lock()
	w.run()
	w.next(Locked)
}

func TestEveryScreenSaverIsHeardAlsoOneThatComesLater(t *testing.T) {
	for _, s := range savers() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t)
			w.run()
			w.watched(false, false)
			saver := w.saver(s.name, s.path)
			w.watched(true, true)
			must(t, saver.Set(true))
			w.next(Locked)
			must(t, saver.Set(false))
			w.next(Unlocked)
			must(t, saver.Set(true))
			w.next(Locked)
			saver.Close() // a saver that has gone holds nothing locked
			w.next(Unlocked)
			w.watched(false, false)
		})
	}
}

func TestIdleIsAskedForOnlyWhenAMarkMayBeCrossed(t *testing.T) {
	w := newWorld(t)
	m := w.monitor()
	w.run()
	w.watched(false, true)
	m.Idle(time.Minute)
	w.watcher.Marks(5*time.Minute, 4*time.Minute)
	if d := w.pause(); d != 3*time.Minute {
		t.Errorf("the next look comes after %s", d)
	}
	m.Idle(time.Second) // used meanwhile
	w.due()
	if d := w.pause(); d != 4*time.Minute-time.Second {
		t.Errorf("the next look comes after %s", d)
	}
	m.Idle(4 * time.Minute)
	w.due()
	if e := w.next(Idle); e.Idle != 4*time.Minute {
		t.Errorf("idle for %s", e.Idle)
	}
	if d := w.pause(); d != glance {
		t.Errorf("the next look comes after %s", d)
	}
	m.Idle(0)
	w.due()
	w.next(Active)
	w.pause()
	m.Idle(6 * time.Minute)
	w.due()
	if e := w.next(Idle); e.Idle != 6*time.Minute {
		t.Errorf("idle for %s", e.Idle)
	}
	w.pause()
	asked := m.Asked()
	w.watcher.Marks()
	w.watcher.Marks(time.Hour)
	w.pause()
	if got := m.Asked(); got > asked+1 {
		t.Errorf("asked %d times more", got-asked)
	}
}

func TestIdleComesFromTheBestSourceThereIs(t *testing.T) {
	w := newWorld(t)
	l := w.login("7")
	l.Idle(time.Now().Add(-10 * time.Minute))
	w.run()
	w.watched(true, true)
	between := func(what string, low, high time.Duration) {
		t.Helper()
		if d, err := w.watcher.desk.idle(t.Context()); err != nil || d < low || d > high {
			t.Errorf("%s: %s, %v", what, d, err)
		}
	}
	between("logind", 10*time.Minute, 11*time.Minute)
	l.Idle(time.Time{})
	between("logind, in use", 0, 0)
	saver := w.saver("org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver")
	saver.Idle(90)
	until(t, func() bool { d, _ := w.watcher.desk.idle(t.Context()); return d == 90*time.Second })
	w.saver(kdeSaver, "/none") // KDE's counts in milliseconds
	saver.Idle(90_000)
	until(t, func() bool { d, _ := w.watcher.desk.idle(t.Context()); return d == 90*time.Second })
	w.monitor().Idle(42 * time.Second)
	until(t, func() bool { d, _ := w.watcher.desk.idle(t.Context()); return d == 42*time.Second })
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never")
		}
	}
}

func TestABusThatGoesAwayIsToldAndFoundAgain(t *testing.T) {
	w := newWorld(t)
	w.login("7")
	w.run()
	w.watched(true, true)
	w.system.Stop()
	w.watched(false, false)
	dir := w.system.Address[len("unix:path=") : len(w.system.Address)-len("/bus")]
	again, err := sessionsim.StartBus(dir)
	must(t, err)
	t.Cleanup(again.Stop)
	l := w.login("7")
	l.Lock()
	w.next(Locked)
	w.watched(true, true)
}

func TestWithoutAnyBusItSaysSoAndStartsNone(t *testing.T) {
	w := newWorld(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	t.Setenv("PATH", t.TempDir())
	w.run()
	w.watched(false, false)
}

func TestTheEndComesAtOnceHoweverEarlyItComes(t *testing.T) {
	w := newWorld(t)
	w.login("7")
	for n := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			New(nil).Run(ctx, func(Event) {})
		}()
		for range n * 200 { // each end comes a little later than the one before
			if ctx.Err() != nil {
				break
			}
		}
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("it goes on after its end")
		}
	}
}
