package agent

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/sessionsim"
	"encounterlauncher/internal/view"
)

// desk is what tells of the person's session: logind and GNOME's monitor of input,
// each on a bus of its own.
type desk struct {
	login   *sessionsim.Login
	monitor *sessionsim.Monitor
	windows chan context.Context // the life of each window that was opened
}

func (h *hospital) bus(variable string) string {
	h.t.Helper()
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b, err := sessionsim.StartBus(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(b.Stop)
	h.t.Setenv(variable, b.Address)
	return b.Address
}

// station makes the hospital's workstation one that can be watched, and whose
// windows are told.
func (h *hospital) station() *desk {
	h.t.Helper()
	system, session := h.bus("DBUS_SYSTEM_BUS_ADDRESS"), h.bus("DBUS_SESSION_BUS_ADDRESS")
	h.t.Setenv("XDG_SESSION_ID", "7")
	d := &desk{windows: make(chan context.Context, 8)}
	var err error
	if d.login, err = sessionsim.NewLogin(system, "7"); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(d.login.Close)
	if d.monitor, err = sessionsim.NewMonitor(session); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(d.monitor.Close)
	h.hook = func(a *Agent) {
		a.opts.Window = func(life context.Context, _ control.Activation) (<-chan error, error) {
			d.windows <- life
			ended := make(chan error, 1)
			context.AfterFunc(life, func() { ended <- nil })
			return ended, nil
		}
	}
	return d
}

// guarded waits until the session is watched.
func (w *workstation) guarded() {
	w.t.Helper()
	w.until("the session to be watched", func() bool {
		w.agent.guard.mu.Lock()
		defer w.agent.guard.mu.Unlock()
		return w.agent.guard.watched
	})
}

// lookNow has the time without input asked for, as if a look were due.
func (w *workstation) lookNow(limit time.Duration) {
	w.agent.guard.watcher.Marks(limit-warningBefore(limit), limit)
}

// turn turns the clock and has the guard look at it.
func (w *workstation) turn(d time.Duration) {
	w.clock.turn(d)
	w.agent.guard.look()
}

func (w *workstation) isOut() view.Snapshot {
	w.t.Helper()
	return w.await("nobody to be signed in", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedOut })
}

// leftNothing holds what can be seen against somebody having been here.
func (w *workstation) leftNothing() {
	w.t.Helper()
	s := w.await("nothing to be seen of the one before", func(s view.Snapshot) bool {
		return s.SignIn.State == view.SignedOut && s.Launch == nil && len(s.Recents) == 0
	})
	if s.SignIn.Person != nil || s.Undo != nil || s.Notice != nil {
		w.t.Errorf("to be seen: %+v", s)
	}
	if files, _ := filepath.Glob(filepath.Join(w.layout.RecentsDir(), "*")); len(files) > 0 {
		w.t.Errorf("recents on the disk: %d files", len(files))
	}
	for n := range 3 {
		if w.agent.tabs.OpenedWithin(flow.Encounter{ExternalEncounterID: encounterID(n)}, time.Hour, time.Time{}, w.clock.now()) {
			w.t.Errorf("encounter %d is still known", n)
		}
	}
	w.agent.recents.mu.Lock()
	defer w.agent.recents.mu.Unlock()
	if n := len(w.agent.recents.lists); n > 0 {
		w.t.Errorf("recents of %d people in memory", n)
	}
}

func (h *hospital) audited(outcome, person string) {
	h.t.Helper()
	h.until("the audit to say "+outcome, func() bool {
		return slices.ContainsFunc(h.auditLines(), func(l auditLine) bool { return l.Outcome == outcome && l.Person == person })
	})
}

const adaMail = "ada@hospital.example"

func TestWhatTakesTheScreenFromThePersonSignsOutAndLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		leave   func(*desk)
		back    func(*desk)
		outcome string
	}{
		"lock":       {func(d *desk) { d.login.Lock() }, func(d *desk) { d.login.Unlock() }, "signed_out_locked"},
		"switch":     {func(d *desk) { d.login.Switch(true) }, func(d *desk) { d.login.Switch(false) }, "signed_out_switched"},
		"sleep":      {func(d *desk) { _ = d.login.Sleep(true) }, func(d *desk) { _ = d.login.Sleep(false) }, "signed_out_locked"},
		"disconnect": {func(d *desk) { _ = d.login.Remove() }, func(d *desk) { d.login.Switch(true); d.login.Switch(false) }, "signed_out_disconnected"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHospital(t)
			d := h.station()
			h.issuer.set(func(is *issuer) { is.leaves = true })
			h.setPolicy(map[string]any{"SharedWorkstation": true, "RecentsLabel": "initials"})
			w := h.logOn()
			w.guarded()
			w.signedIn()
			w.opens(h.mint("ada", 1))
			w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
			w.do(control.Intent{Name: control.OpenWindow})
			window := <-d.windows
			c.leave(d)
			w.leftNothing()
			<-window.Done()
			h.audited(c.outcome, adaMail)
			h.until("the sign-in to be revoked and the issuer's session ended", func() bool {
				var done bool
				h.issuer.set(func(is *issuer) { done = is.revoked == 1 && len(is.refresh) == 0 && len(is.left) == 1 })
				return done
			})
			h.issuer.set(func(is *issuer) {
				if hint := is.left[0].Get("id_token_hint"); !slices.Contains(is.issued, hint) || is.left[0].Get("client_id") != testClient {
					t.Errorf("the issuer's session was ended with %v", is.left[0])
				}
			})
			if name == "disconnect" {
				return // that session does not come back
			}
			c.back(d)
			s := w.await("the notice", func(s view.Snapshot) bool { return s.Notice != nil })
			if s.Notice.Kind != view.NoticeSignedOut || s.Notice.Problem != (view.Problem{}) || s.Notice.Launch != "" {
				t.Errorf("told: %+v", s.Notice)
			}
			// The next person.
			h.issuer.set(func(is *issuer) { is.person = "ben" })
			w.signedIn()
			if s := w.agent.Snapshot(); len(s.Recents) != 0 || s.Launch != nil || s.SignIn.Person.Subject != "ben" {
				t.Errorf("the next person sees %+v", s)
			}
			w.await("what the one before was told to go", func(s view.Snapshot) bool { return s.Notice == nil })
			if err := w.client.Do(t.Context(), control.Intent{Name: control.Retry}); !problem.IsCode(err, problem.RequestInvalid) {
				t.Errorf("the next person can try again: %v", err)
			}
			w.do(control.Intent{Name: control.OpenWindow})
			if again := <-d.windows; again.Err() != nil {
				t.Error("no window can be opened any more")
			}
		})
	}
}

func TestALockAtAnyStageOfALaunchOpensNothing(t *testing.T) {
	for _, stage := range []view.Stage{view.Received, view.SigningIn, view.Creating} {
		t.Run(string(stage), func(t *testing.T) {
			h := newHospital(t)
			d := h.station()
			h.setPolicy(map[string]any{"SharedWorkstation": true})
			w := h.logOn()
			w.guarded()
			reached, release := make(chan struct{}), make(chan struct{})
			var once, free sync.Once
			t.Cleanup(func() { free.Do(func() { close(release) }) })
			h.inPlaceOfBackend(func(_ http.ResponseWriter, r *http.Request) bool {
				once.Do(func() { close(reached) })
				<-release
				return false
			})
			pages := 1
			if stage == view.SigningIn {
				h.browser.hold(true)
			} else {
				w.signedIn()
			}
			id := w.accepted(h.mint("ada", 1))
			if stage == view.SigningIn {
				w.stage(id, view.SigningIn)
				h.until("the page", func() bool { n, _ := h.browser.seen(); return n == 1 })
			} else {
				<-reached
			}
			ids := []string{id}
			if stage == view.Received { // behind the one that runs
				ids = append(ids, w.accepted(h.mint("ada", 2)))
			}
			d.login.Lock()
			w.leftNothing()
			free.Do(func() { close(release) })
			for _, id := range ids {
				if line := h.auditOfLaunch(id); line.Outcome != "cancelled" {
					t.Errorf("audit %+v", line)
				}
			}
			if stage == view.SigningIn {
				h.browser.answer() // whoever comes back to that page signs nobody in
			}
			w.until("the launch to have ended", w.agent.idle)
			w.leftNothing()
			w.counts(pages, 0)
		})
	}
}

func TestALockDoesNotEndASignInWhereNoPolicySaysSo(t *testing.T) {
	h := newHospital(t)
	d := h.station()
	h.setPolicy(map[string]any{"IdleSignOutMinutes": 10})
	w := h.logOn()
	w.guarded()
	w.signedIn()
	d.login.Lock()
	d.login.Unlock()
	w.opens(h.mint("ada", 1))
	w.counts(1, 1)
}

func TestOnAPersonsOwnComputerALockSignsOutAndTheRecentsStay(t *testing.T) {
	h := newHospital(t)
	d := h.station()
	h.issuer.set(func(is *issuer) { is.leaves = true })
	h.setPolicy(map[string]any{"SignOutOnLock": true})
	w := h.logOn()
	w.guarded()
	w.signedIn()
	w.opens(h.mint("ada", 1))
	w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
	d.login.Lock()
	s := w.isOut()
	if len(s.Recents) != 0 || s.SignIn.Person != nil {
		t.Errorf("to be seen: %+v", s)
	}
	h.audited("signed_out_locked", adaMail)
	h.until("the stored sign-in to be gone", func() bool {
		_, found, err := w.agent.store.Load(t.Context())
		return !found && err == nil
	})
	w.logOff()
	h.issuer.set(func(is *issuer) {
		if is.revoked != 1 || len(is.left) != 0 {
			t.Errorf("%d revoked, %d pages", is.revoked, len(is.left))
		}
	})
	d.login.Unlock()
	w = h.logOn()
	w.signedIn()
	w.await("the recents from before", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
}

func TestNoInputSignsOutAndPeopleAreToldAMinuteBefore(t *testing.T) {
	h := newHospital(t)
	d := h.station()
	h.setPolicy(map[string]any{"IdleSignOutMinutes": 10, "SharedWorkstation": true})
	w := h.logOn()
	w.guarded()
	const limit = 10 * time.Minute
	d.monitor.Idle(9*time.Minute + 10*time.Second)
	w.signedIn()
	s := w.await("the warning", func(s view.Snapshot) bool { return s.Notice != nil })
	if n := s.Notice; n.Kind != view.NoticeSignInEnds || n.At == nil || !slices.Equal(n.Actions, []string{view.ActionSignIn, view.ActionOpenWindow}) {
		t.Errorf("told: %+v", n)
	} else if left := n.At.Sub(h.clock.now()); left < 0 || left > 50*time.Second {
		t.Errorf("in %s", left)
	}
	d.monitor.Idle(0)
	w.lookNow(limit)
	w.await("the warning to go", func(s view.Snapshot) bool { return s.Notice == nil })
	d.monitor.Idle(limit)
	w.lookNow(limit)
	s = w.isOut()
	w.await("the notice", func(s view.Snapshot) bool { return s.Notice != nil && s.Notice.Kind == view.NoticeSignedOut })
	h.audited("signed_out_idle", adaMail)
}

func TestASignInThatIsTooOldIsEndedAndPeopleAreToldFiveMinutesBefore(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"MaxSignInAgeMinutes": 30})
	w := h.logOn()
	w.signedIn()
	s := w.await("the end", func(s view.Snapshot) bool { return s.SignIn.EndsAt != nil })
	end := *s.SignIn.EndsAt
	if left := end.Sub(h.clock.now()); left < 29*time.Minute || left > 30*time.Minute || s.Notice != nil {
		t.Errorf("ends in %s, told %+v", left, s.Notice)
	}
	w.turn(25 * time.Minute)
	s = w.await("the warning", func(s view.Snapshot) bool { return s.Notice != nil })
	if n := s.Notice; n.Kind != view.NoticeSignInEnds || n.At == nil || !n.At.Equal(end) {
		t.Errorf("told: %+v", n)
	}
	w.turn(5 * time.Minute)
	s = w.isOut()
	if s.SignIn.EndsAt != nil {
		t.Errorf("still ends: %+v", s.SignIn)
	}
	w.await("the notice", func(s view.Snapshot) bool { return s.Notice != nil && s.Notice.Kind == view.NoticeSignedOut })
	h.audited("signed_out_age", adaMail)
	h.until("the stored sign-in to be gone", func() bool {
		_, found, err := w.agent.store.Load(t.Context())
		return !found && err == nil
	})
}

func TestWhereNobodyTellsOfALockPeopleAreShownThatAndSignedOutAfterAWhile(t *testing.T) {
	h := newHospital(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	h.setPolicy(map[string]any{"SharedWorkstation": true, "IdleSignOutMinutes": 30})
	w := h.logOn()
	s := w.await("the findings", func(s view.Snapshot) bool { return len(s.Policy.Problems) == 2 })
	if !strings.HasPrefix(s.Policy.Problems[0], "SignOutOnLock: ") || !strings.HasPrefix(s.Policy.Problems[1], "IdleSignOutMinutes: ") || s.Policy.RefusesLaunches {
		t.Errorf("shown: %+v", s.Policy)
	}
	if s.Workstation != (view.Workstation{Shared: true, SignOutOnLock: true, IdleSignOutMinutes: 30}) {
		t.Errorf("shown: %+v", s.Workstation)
	}
	w.signedIn()
	w.turn(unseenLock - 2*time.Minute)
	w.opens(h.mint("ada", 1)) // in use
	w.turn(unseenLock - 30*time.Second)
	warned := func(s view.Snapshot) bool { return s.Notice != nil && s.Notice.Kind == view.NoticeSignInEnds }
	w.await("the warning", warned)
	w.do(control.Intent{Name: control.Check}) // in use again
	w.await("the warning to go", func(s view.Snapshot) bool { return s.Notice == nil })
	w.turn(unseenLock - 30*time.Second)
	w.await("the warning", warned)
	w.turn(30 * time.Second)
	w.isOut()
	h.audited("signed_out_idle", adaMail)
}

func TestSigningOutEndsTheIssuersSessionOnceAndOnlyForSomebody(t *testing.T) {
	for _, shared := range []bool{false, true} {
		h := newHospital(t)
		h.station()
		h.issuer.set(func(is *issuer) { is.leaves = true })
		h.setPolicy(map[string]any{"SharedWorkstation": shared})
		w := h.logOn()
		w.signedIn()
		w.do(control.Intent{Name: control.SignOut, All: true})
		w.do(control.Intent{Name: control.SignOut, All: true})
		w.until("the page", w.agent.idle)
		h.issuer.set(func(is *issuer) {
			if len(is.left) != 1 || is.left[0].Get("id_token_hint") == "" {
				t.Errorf("shared %v: %d pages", shared, len(is.left))
			}
		})
		w.logOff()
	}
}

func TestRecentsFromBeforeAComputerWasSharedAreWiped(t *testing.T) {
	h := newHospital(t)
	h.station()
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	w.opens(h.mint("ada", 1))
	w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
	h.setPolicy(map[string]any{"SharedWorkstation": true})
	w.isOut()
	h.until("the files to be gone", func() bool {
		files, _ := filepath.Glob(filepath.Join(h.layout.RecentsDir(), "*"))
		return len(files) == 0
	})
	h.until("the stored sign-in to be gone", func() bool {
		_, found, err := w.agent.store.Load(t.Context())
		return !found && err == nil
	})
}

func TestSigningOutWithoutAnAgentDeletesRevokesAndWipes(t *testing.T) {
	for _, shared := range []bool{false, true} {
		h := newHospital(t)
		h.setPolicy(nil)
		w := h.logOn()
		w.signedIn()
		w.opens(h.mint("ada", 1))
		w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
		w.logOff()
		h.setPolicy(map[string]any{"SharedWorkstation": shared})
		options := Options{Layout: h.layout, Version: "1.2.3", Keyring: h.keyring, Now: h.clock.now}
		for range 2 { // a script may say it twice
			if err := SignOut(t.Context(), options, true); err != nil {
				t.Fatal(err)
			}
		}
		if _, found, err := w.agent.store.Load(t.Context()); found || err != nil {
			t.Errorf("shared %v: still stored: %v, %v", shared, found, err)
		}
		if files, _ := filepath.Glob(filepath.Join(h.layout.RecentsDir(), "*")); len(files) > 0 {
			t.Errorf("shared %v: recents on the disk: %d files", shared, len(files))
		}
		h.audited("signed_out", adaMail)
		h.issuer.set(func(is *issuer) {
			if !shared && is.revoked != 1 {
				t.Errorf("%d revoked", is.revoked)
			}
		})
		w.counts(1, 1)
	}
}
