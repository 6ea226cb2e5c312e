//go:build unix

package agent

import (
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/view"
)

// hours is the agent's timer in a test's hand: it runs out when the test says so.
type hours struct {
	mu   sync.Mutex
	last chan time.Time // guarded by mu
	set  time.Duration  // guarded by mu: how long it was set for
}

func (h *hours) timer(d time.Duration) (<-chan time.Time, func() bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.set = make(chan time.Time, 1), d
	return h.last, func() bool { return true }
}

// untilMoment waits until the timer is set for about so long.
func (h *hours) untilMoment(w *workstation, want time.Duration) {
	w.t.Helper()
	w.until("the timer", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.set <= want && h.set > want-patience
	})
}

// pass turns the clock on and lets the timer run out until ok is true: one that was
// just being set by the old clock would run out later.
func (h *hours) pass(w *workstation, d time.Duration, what string, ok func(view.Snapshot) bool) view.Snapshot {
	w.t.Helper()
	w.clock.turn(d)
	over, ended := make(chan struct{}), make(chan struct{})
	defer func() { close(over); <-ended }()
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			h.mu.Lock()
			select {
			case h.last <- time.Time{}:
			default:
			}
			h.mu.Unlock()
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	}()
	return w.await(what, ok)
}

func timed(t *testing.T) (*hospital, *hours) {
	h, hand := newHospital(t), new(hours)
	h.hook = func(a *Agent) { a.timer = hand.timer }
	return h, hand
}

// withRecents opens encounters 0 to n-1 and returns the snapshot that shows them all.
func (w *workstation) withRecents(n int) view.Snapshot {
	w.t.Helper()
	for i := range n {
		w.opens(w.mint("ada", i))
	}
	return w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == n })
}

func (w *workstation) refusesTo(i control.Intent, code problem.Code) {
	w.t.Helper()
	if err := w.client.Do(w.t.Context(), i); !problem.IsCode(err, code) {
		w.t.Errorf("%s: %v, want %s", i.Name, err, code)
	}
}

func TestOneRecentIsRemovedAtOnceAndCanBeBroughtBack(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	s := w.withRecents(3)
	middle := s.Recents[1]
	w.do(control.Intent{Name: control.RemoveRecent, ID: middle.ID})
	// The answer comes when it is done.
	s = w.agent.Snapshot()
	if len(s.Recents) != 2 || s.Recents[0].ID == middle.ID || s.Recents[1].ID == middle.ID || s.Undo == nil || s.Undo.Removed != 1 {
		t.Fatalf("got %+v, undo %+v", s.Recents, s.Undo)
	}
	if left := s.Undo.Until.Sub(h.clock.now()); left <= 0 || left > undoTime {
		t.Errorf("it can be brought back for %v", left)
	}
	w.refusesTo(control.Intent{Name: control.RemoveRecent, ID: middle.ID}, problem.EncounterUnknown)
	w.refusesTo(control.Intent{Name: control.OpenRecent, ID: middle.ID}, problem.EncounterUnknown)
	w.do(control.Intent{Name: control.UndoRemove})
	if s = w.agent.Snapshot(); len(s.Recents) != 3 || s.Recents[1] != middle || s.Undo != nil {
		t.Errorf("brought back: %+v, undo %+v", s.Recents, s.Undo)
	}
	w.refusesTo(control.Intent{Name: control.UndoRemove}, problem.RequestInvalid)

	// It is gone from the disk as well: another life of the agent does not see it.
	w.do(control.Intent{Name: control.RemoveRecent, ID: middle.ID})
	w.logOff()
	w = h.logOn()
	s = w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) > 0 })
	if len(s.Recents) != 2 || s.Undo != nil {
		t.Errorf("the next agent shows %+v, undo %+v", s.Recents, s.Undo)
	}
	w.refusesTo(control.Intent{Name: control.UndoRemove}, problem.RequestInvalid)
}

func TestAllRecentsAreClearedAndBroughtBackWithWhatWasOpenedMeanwhile(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"RecentsLimit": 3})
	w := h.logOn()
	w.withRecents(3)
	w.do(control.Intent{Name: control.ClearRecents})
	if s := w.agent.Snapshot(); len(s.Recents) != 0 || s.Undo == nil || s.Undo.Removed != 3 {
		t.Fatalf("got %+v, undo %+v", s.Recents, s.Undo)
	}
	w.clock.turn(linkWindow)
	w.opens(h.mint("ada", 7))
	w.do(control.Intent{Name: control.UndoRemove})
	if s := w.agent.Snapshot(); len(s.Recents) != 3 {
		t.Errorf("brought back: %+v", s.Recents)
	}
	w.do(control.Intent{Name: control.ClearRecents})
	w.do(control.Intent{Name: control.ClearRecents}) // nothing is left: no error
	if s := w.agent.Snapshot(); len(s.Recents) != 0 || s.Undo != nil {
		t.Errorf("got %+v, undo %+v", s.Recents, s.Undo)
	}
}

func TestWhatWasRemovedCannotBeBroughtBackAfterHalfAMinute(t *testing.T) {
	h, hand := timed(t)
	h.setPolicy(nil)
	w := h.logOn()
	s := w.withRecents(1)
	w.do(control.Intent{Name: control.RemoveRecent, ID: s.Recents[0].ID})
	hand.untilMoment(w, undoTime)
	hand.pass(w, undoTime, "the undo to go", func(s view.Snapshot) bool { return s.Undo == nil })
	w.agent.undo.mu.Lock()
	if len(w.agent.undo.entries) != 0 {
		t.Error("it is still in memory")
	}
	w.agent.undo.mu.Unlock()
	w.refusesTo(control.Intent{Name: control.UndoRemove}, problem.RequestInvalid)
}

func TestNobodyBringsBackWhatAnotherPersonRemoved(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	remove := func() {
		t.Helper()
		w.clock.turn(linkWindow)
		w.opens(h.mint("ada", 1))
		w.do(control.Intent{Name: control.ClearRecents})
		if w.agent.Snapshot().Undo == nil {
			t.Fatal("nothing to bring back")
		}
	}
	forgotten := func(why string) {
		t.Helper()
		w.await(why, func(s view.Snapshot) bool { return s.Undo == nil })
		w.until(why, func() bool {
			w.agent.undo.mu.Lock()
			defer w.agent.undo.mu.Unlock()
			return len(w.agent.undo.entries) == 0
		})
	}
	remove()
	w.do(control.Intent{Name: control.SignOut})
	forgotten("signed out")
	for _, name := range []string{control.UndoRemove, control.ClearRecents, control.RemoveRecent} {
		i := control.Intent{Name: name}
		if name == control.RemoveRecent {
			i.ID = "0123456789abcdef0123"
		}
		w.refusesTo(i, problem.SigninNeeded)
	}
	h.issuer.set(func(is *issuer) { is.person = "ben" })
	w.signedIn()
	w.refusesTo(control.Intent{Name: control.UndoRemove}, problem.RequestInvalid)
	w.do(control.Intent{Name: control.SignOut})
	h.issuer.set(func(is *issuer) { is.person = "ada" })
	w.signedIn()
	w.refusesTo(control.Intent{Name: control.UndoRemove}, problem.RequestInvalid)
	remove()
	h.setPolicy(map[string]any{"RecentsLimit": 0})
	forgotten("a policy that keeps none")
}

func TestARecentGoesAtTheMomentItsHoursEnd(t *testing.T) {
	h, hand := timed(t)
	h.setPolicy(map[string]any{"RecentsRetentionHours": 1})
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	w.clock.turn(55 * time.Minute)
	w.opens(h.mint("ada", 2))
	w.await("two", func(s view.Snapshot) bool { return len(s.Recents) == 2 })
	hand.untilMoment(w, 5*time.Minute)
	hand.pass(w, 5*time.Minute, "one", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
	hand.untilMoment(w, freshFor-5*time.Minute)
	hand.pass(w, freshFor-5*time.Minute, "no fresh link", func(s view.Snapshot) bool { return s.Launch.FreshUntil == nil })
	hand.untilMoment(w, lookAgain) // no rest is longer
	hand.pass(w, 50*time.Minute, "none", func(s view.Snapshot) bool { return len(s.Recents) == 0 })
}

func TestAFreshLinkIsNotOfferedAfterItsMoment(t *testing.T) {
	h, hand := timed(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	w.clock.turn(time.Minute)
	w.opens(h.mint("ada", 2))
	w.await("a fresh link", func(s view.Snapshot) bool { return s.Launch.FreshUntil != nil })
	hand.untilMoment(w, freshFor)
	hand.pass(w, freshFor, "none", func(s view.Snapshot) bool { return s.Launch.FreshUntil == nil })
}

func TestChangingTheRecentsAsksTheKeyringNothing(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	k := &counting{Keyring: tokenstore.Memory()}
	h.keyring = k
	w := h.logOn()
	s := w.withRecents(2)
	h.until("all that runs in the background", func() bool { return w.agent.work.idle() })
	before := k.calls.Load()
	w.do(control.Intent{Name: control.RemoveRecent, ID: s.Recents[0].ID})
	w.do(control.Intent{Name: control.UndoRemove})
	w.do(control.Intent{Name: control.ClearRecents})
	if asked := k.calls.Load() - before; asked != 0 {
		t.Errorf("the keyring was asked %d times", asked)
	}
}
