package agent

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// gate holds up whoever comes to it until it is opened.
type gate struct {
	reached, released chan struct{}
	first, free       sync.Once
}

func newGate(t *testing.T) *gate {
	g := &gate{reached: make(chan struct{}), released: make(chan struct{})}
	t.Cleanup(g.open)
	return g
}

func (g *gate) pass() {
	g.first.Do(func() { close(g.reached) })
	<-g.released
}

func (g *gate) open() { g.free.Do(func() { close(g.released) }) }

func TestSomebodyWhoSignsOutIsNotSeenAnyMoreWhileTheIssuerIsStillTold(t *testing.T) {
	h := newHospital(t)
	h.station()
	h.setPolicy(map[string]any{"SharedWorkstation": true, "RecentsLabel": "initials"})
	w := h.logOn()
	w.signedIn()
	w.opens(h.mint("ada", 1))
	w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
	g := newGate(t)
	h.issuer.set(func(is *issuer) { is.atRevoke = g.pass })
	gone := make(chan error, 1)
	go func() { gone <- w.agent.Do(context.Background(), control.Intent{Name: control.SignOut}) }()
	<-g.reached
	w.leftNothing()
	// The next person is here before the issuer has answered, and keeps what is theirs.
	h.issuer.set(func(is *issuer) { is.person = "ben" })
	w.signedIn()
	w.opens(h.mint("ben", 2))
	w.await("the next person's recents", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
	g.open()
	if err := <-gone; err != nil {
		t.Fatal(err)
	}
	if s := w.agent.Snapshot(); len(s.Recents) != 1 || s.Launch == nil || s.SignIn.Person == nil {
		t.Errorf("the next person has left: %+v", s)
	}
	if got := w.agent.recents.visible(w.agent.session.who()); len(got) != 1 {
		t.Errorf("%d recents in memory", len(got))
	}
}

func TestAPatientIsNotShownToWhoeverComesAfterThePersonWhoOpenedIt(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"RecentsLabel": "initials"})
	w := h.logOn()
	w.signedIn()
	opened := w.opens(h.mint("ada", 1))
	if opened.Label == "" || opened.RecentID == "" {
		t.Fatalf("opened: %+v", opened)
	}
	w.do(control.Intent{Name: control.SignOut})
	bare := func(s view.Snapshot) bool {
		return s.Launch != nil && s.Launch.Label == "" && s.Launch.RecentID == "" && s.Launch.FreshUntil == nil
	}
	w.await("no patient", bare)
	h.issuer.set(func(is *issuer) { is.person = "ben" })
	w.signedIn()
	if s := w.agent.Snapshot(); !bare(s) {
		t.Errorf("the next person sees %+v", s.Launch)
	}
	// Once the badge has left, not even the launch is seen.
	w.do(control.Intent{Name: control.SignOut, All: true})
	w.await("nothing", func(s view.Snapshot) bool { return s.Launch == nil })
}

func TestWhatALeaverWasStillDoingToTheRecentsLeavesNothing(t *testing.T) {
	h := newHospital(t)
	h.station()
	h.setPolicy(map[string]any{"SharedWorkstation": true})
	w := h.logOn()
	w.signedIn()
	ada := w.agent.session.who()
	s := w.withRecents(1)
	w.do(control.Intent{Name: control.RemoveRecent, ID: s.Recents[0].ID})
	w.agent.undo.mu.Lock()
	removed := slices.Clone(w.agent.undo.entries)
	w.agent.undo.mu.Unlock()
	w.do(control.Intent{Name: control.SignOut})
	for what, do := range map[string]func() error{
		"an undoing": func() error {
			if err := w.agent.recents.restore(t.Context(), ada, removed); err == nil {
				t.Error("what was removed came back")
			}
			return nil
		},
		"an export": func() error {
			_, err := w.agent.recents.setStatus(t.Context(), ada, encounterID(0), "D-ada", "exported")
			return err
		},
		"a look": func() error { w.agent.recents.visible(ada); return nil },
		"a launch": func() error {
			_, err := w.agent.recents.Add(t.Context(), ada, flow.Encounter{ExternalEncounterID: "E", ExternalProviderID: "D"}, h.clock.now())
			return err
		},
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		w.agent.recents.mu.Lock()
		if n := len(w.agent.recents.lists); n != 0 {
			t.Errorf("%s left %d lists in memory", what, n)
		}
		w.agent.recents.mu.Unlock()
	}
}

func TestALookAtTheSetUpIsForgottenWithThePersonWhoseItWas(t *testing.T) {
	h := newHospital(t)
	d := h.station()
	h.setPolicy(map[string]any{"SharedWorkstation": true})
	w := h.logOn()
	w.guarded()
	w.signedIn()
	h.inPlaceOfBackend(refuseWith(problem.IdentityUnmapped))
	if got := w.checked()[view.CheckBackend]; got.Problem == nil {
		t.Fatalf("got %+v", got)
	}
	d.login.Lock()
	w.await("no look", func(s view.Snapshot) bool { return s.Checkup == nil })
	d.login.Unlock()
	// One that still goes on shows nothing any more, and another can be asked for.
	w.signedIn()
	g := newGate(t)
	h.inPlaceOfBackend(func(http.ResponseWriter, *http.Request) bool { g.pass(); return false })
	w.do(control.Intent{Name: control.Check})
	<-g.reached
	d.login.Lock()
	w.await("no look", func(s view.Snapshot) bool { return s.Checkup == nil })
	for range 3 {
		w.do(control.Intent{Name: control.Check})
	}
	g.open()
	w.await("the other look", func(s view.Snapshot) bool { return s.Checkup != nil && !s.Checkup.Running })
	if calls := h.asked(orgapi.PathMe); len(calls) < 3 {
		t.Errorf("the backend was asked %d times in three looks", len(calls))
	}
}

func TestThatASignInDidNotWorkIsForgottenWithASignOut(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	h.issuer.set(func(is *issuer) { is.refused = "server_error" })
	w.do(control.Intent{Name: control.SignIn})
	w.await("the problem", func(s view.Snapshot) bool { return s.SignIn.Problem != nil })
	w.do(control.Intent{Name: control.SignOut})
	w.await("no problem", func(s view.Snapshot) bool { return s.SignIn.Problem == nil })
}

func TestNoNoticeOfASignInThatEndsWhereThePersonWantsNone(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"MaxSignInAgeMinutes": 30, "Notices": "problems"})
	hand := new(hours)
	h.hook = func(a *Agent) { a.guard.timer = hand.timer }
	w := h.logOn()
	w.signedIn()
	hand.untilMoment(w, 25*time.Minute)
	h.clock.turn(26 * time.Minute)
	w.agent.guard.look()
	hand.untilMoment(w, 4*time.Minute)
	hand.pass(w, 4*time.Minute, "the sign-out to be told", func(s view.Snapshot) bool { return s.Notice != nil && s.Notice.Kind == view.NoticeSignedOut })
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, text := range h.snapshots {
		if bytes.Contains(text, []byte(`"`+view.NoticeSignInEnds+`"`)) {
			t.Errorf("told: %s", text)
		}
	}
}

func TestASignInPageThatWaitsOutlivesASignInThatIsTooOld(t *testing.T) {
	for _, shared := range []bool{false, true} {
		h := newHospital(t)
		h.station()
		h.issuer.now = h.clock.now
		h.setPolicy(map[string]any{"MaxSignInAgeMinutes": 30, "SharedWorkstation": shared})
		w := h.logOn()
		w.signedIn()
		w.turn(26 * time.Minute)
		w.await("the warning", func(s view.Snapshot) bool { return s.Notice != nil })
		h.browser.hold(true)
		w.do(control.Intent{Name: control.SignIn})
		w.await("the page", func(s view.Snapshot) bool { return s.SignIn.PageOpen })
		w.turn(4 * time.Minute)
		h.audited("signed_out_age", adaMail)
		h.browser.answer()
		w.await("somebody to be signed in", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedIn })
		w.until("the rest of the sign-out", w.agent.idle)
		h.browser.hold(false)
		w.opens(h.mint("ada", 1))
		w.counts(2, 1)
		if _, found, err := w.agent.store.Load(t.Context()); found == shared || err != nil {
			t.Errorf("shared %v: stored: %v, %v", shared, found, err)
		}
		w.logOff()
	}
}

func TestALockAsTheBrowserIsAboutToOpenOpensNothing(t *testing.T) {
	h := newHospital(t)
	d := h.station()
	h.setPolicy(map[string]any{"SharedWorkstation": true})
	g := newGate(t)
	windows := h.hook
	h.hook = func(a *Agent) {
		windows(a)
		changed := a.launches.changed
		a.launches.changed = func(l *tracked) {
			changed(l)
			opening := false
			a.launches.look(func(last *tracked) { opening = last != nil && last == l && l.stage == view.Opening })
			if opening {
				g.pass()
			}
		}
	}
	w := h.logOn()
	w.guarded()
	w.signedIn()
	id := w.accepted(h.mint("ada", 1))
	<-g.reached
	w.stage(id, view.Opening)
	d.login.Lock()
	w.leftNothing()
	g.open()
	if line := h.auditOfLaunch(id); line.Outcome != "cancelled" {
		t.Errorf("audit %+v", line)
	}
	w.until("the launch to have ended", w.agent.idle)
	w.leftNothing()
	w.counts(1, 0)
}

func TestAWindowStaysOpenThroughAnUpgradeOnlyWhereNoPolicyHasToCloseIt(t *testing.T) {
	h := newHospital(t)
	d := h.station()
	h.setPolicy(map[string]any{"MaxSignInAgeMinutes": 30})
	w := h.logOn()
	if !w.agent.leavesWindow(ErrUpgraded) || w.agent.leavesWindow(nil) {
		t.Error("where nobody shares the computer")
	}
	for key, value := range map[string]any{"SharedWorkstation": true, "SignOutOnLock": true, "IdleSignOutMinutes": 10} {
		h.setPolicy(map[string]any{"SharedWorkstation": nil, "SignOutOnLock": nil, "IdleSignOutMinutes": nil})
		h.setPolicy(map[string]any{key: value})
		w.await(key, func(s view.Snapshot) bool { return s.Workstation != view.Workstation{} })
		if w.agent.leavesWindow(ErrUpgraded) {
			t.Error("the next agent could not close it, and has to by", key)
		}
	}
	w.do(control.Intent{Name: control.OpenWindow})
	window := <-d.windows
	w.logOff()
	if window.Err() == nil {
		t.Error("the window has outlived the agent")
	}
}
