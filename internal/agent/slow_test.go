//go:build unix

package agent

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// alarms are what slowWatch has asked for, in place of a clock.
type alarms struct {
	set     chan time.Duration
	ring    chan func()
	stopped chan bool
}

// slowly has a hospital's agents ask this test when 1.5 s are over.
func slowly(h *hospital) *alarms {
	a := &alarms{set: make(chan time.Duration, 64), ring: make(chan func(), 64), stopped: make(chan bool, 64)}
	h.hook = func(agent *Agent) {
		agent.slow.after = func(d time.Duration, tell func()) func() bool {
			a.set <- d
			a.ring <- tell
			return func() bool { a.stopped <- true; return true }
		}
	}
	return a
}

// hang has the backend hold every create until the returned function is called.
func hang(h *hospital, then func(http.ResponseWriter, *http.Request) bool) (answer func()) {
	held := make(chan struct{})
	answer = sync.OnceFunc(func() { close(held) })
	h.t.Cleanup(answer)
	h.inPlaceOfBackend(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/launcher"+orgapi.PathEncounters {
			return false
		}
		<-held
		return then(w, r)
	})
	return answer
}

func asUsual(http.ResponseWriter, *http.Request) bool { return false }

func (w *workstation) told(kind string) view.Snapshot {
	w.t.Helper()
	return w.await("a notice of kind "+kind, func(s view.Snapshot) bool { return s.Notice != nil && s.Notice.Kind == kind })
}

func TestALaunchThatTakesLongerThanOneAndAHalfSecondsIsToldOfUntilItOpens(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	alarm := slowly(h)
	w := h.logOn()
	w.signedIn()
	answer := hang(h, asUsual)
	id := w.accepted(h.mint("ada", 1))
	w.stage(id, view.Creating)
	if d := <-alarm.set; d <= 0 || d > slowAfter {
		t.Errorf("it is told of after %v", d)
	}
	(<-alarm.ring)()
	n := w.told(view.NoticeSlow).Notice
	if n.Launch != id || n.Problem != (view.Problem{}) || !slices.Equal(n.Actions, []string{view.ActionCancel, view.ActionOpenWindow}) {
		t.Errorf("got %+v", n)
	}
	answer()
	w.stage(id, view.Opened)
	w.await("the notice to go", func(s view.Snapshot) bool { return s.Notice == nil })
	<-alarm.stopped
}

func TestTheProblemOfASlowLaunchReplacesItsNotice(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"HelpDeskURL": "https://help.hospital.example/"})
	alarm := slowly(h)
	w := h.logOn()
	w.signedIn()
	answer := hang(h, refuseWith(problem.ContextUnavailable))
	id := w.accepted(h.mint("ada", 1))
	w.stage(id, view.Creating)
	(<-alarm.ring)()
	w.told(view.NoticeSlow)
	answer()
	s := w.told(view.NoticeProblem)
	if s.Notice.Launch != id || s.Notice.Problem.Code != problem.ContextUnavailable {
		t.Errorf("got %+v", s.Notice)
	}
}

func TestASlowLaunchThatIsCancelledLeavesNoNotice(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	alarm := slowly(h)
	w := h.logOn()
	w.signedIn()
	hang(h, asUsual)
	id := w.accepted(h.mint("ada", 1))
	w.stage(id, view.Creating)
	tell := <-alarm.ring
	tell()
	w.told(view.NoticeSlow)
	w.do(control.Intent{Name: control.Cancel, ID: id})
	s := w.await("the end", func(s view.Snapshot) bool { return s.Launch != nil && s.Launch.Stage == view.Cancelled })
	if s.Notice != nil {
		t.Errorf("got %+v", s.Notice)
	}
	tell() // an alarm that was already on its way
	if n := w.agent.Snapshot().Notice; n != nil {
		t.Errorf("got %+v", n)
	}
}

func TestTheTimeInWhichAPersonSignsInIsNotSlow(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	alarm := slowly(h)
	h.browser.hold(true)
	w := h.logOn()
	answer := hang(h, asUsual)
	id := w.accepted(h.mint("ada", 1))
	w.stage(id, view.SigningIn)
	first := <-alarm.ring // it was set while the launch had only arrived
	<-alarm.set
	<-alarm.stopped
	first()
	if n := w.agent.Snapshot().Notice; n != nil {
		t.Errorf("a person who signs in was told %+v", n)
	}
	h.clock.turn(time.Minute)
	h.until("the sign-in page", func() bool { pages, _ := h.browser.seen(); return pages == 1 })
	h.browser.answer()
	w.stage(id, view.Creating)
	if d := <-alarm.set; d != slowAfter {
		t.Errorf("after the sign-in it is told of after %v", d)
	}
	(<-alarm.ring)()
	w.told(view.NoticeSlow)
	answer()
	w.await("the notice to go", func(s view.Snapshot) bool { return s.Notice == nil })
}

func TestWhoSeesTheWindowIsNotToldThatItIsSlow(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	alarm := slowly(h)
	w := h.logOn()
	w.signedIn()
	w.agent.mu.Lock()
	w.agent.window = &windowRun{life: t.Context(), end: func() {}}
	w.agent.mu.Unlock()
	answer := hang(h, asUsual)
	id := w.accepted(h.mint("ada", 1))
	w.stage(id, view.Creating)
	(<-alarm.ring)()
	if n := w.agent.Snapshot().Notice; n != nil {
		t.Errorf("got %+v", n)
	}
	answer()
	w.stage(id, view.Opened)
}

func TestAProblemOffersThreeWaysOnAtMostAndTheBestFirst(t *testing.T) {
	now := time.Now()
	later := now.Add(time.Minute)
	for name, c := range map[string]struct {
		code     problem.Code
		launch   *view.Launch
		helpDesk bool
		want     []string
	}{
		"signed out":                  {problem.SigninNeeded, &view.Launch{}, true, []string{view.ActionSignIn, view.ActionHelpDesk, view.ActionOpenWindow}},
		"to be tried again":           {problem.OrgUnreachable, &view.Launch{Retryable: true}, false, []string{view.ActionRetry, view.ActionOpenWindow}},
		"with a help desk":            {problem.OrgUnreachable, &view.Launch{Retryable: true}, true, []string{view.ActionRetry, view.ActionHelpDesk, view.ActionOpenWindow}},
		"with a fresh link":           {problem.BrowserUnavailable, &view.Launch{Retryable: true, FreshUntil: &later}, true, []string{view.ActionRetry, view.ActionFreshLink, view.ActionOpenWindow}},
		"a fresh link that is over":   {problem.BrowserUnavailable, &view.Launch{FreshUntil: &now}, true, []string{view.ActionHelpDesk, view.ActionOpenWindow}},
		"only for others to mend":     {problem.PolicyInvalid, nil, true, []string{view.ActionHelpDesk, view.ActionOpenWindow}},
		"nobody to ask":               {problem.PolicyInvalid, nil, false, []string{view.ActionOpenWindow}},
		"no window":                   {problem.WindowUnavailable, nil, true, []string{view.ActionHelpDesk}},
		"no window and nobody to ask": {problem.WindowUnavailable, nil, false, []string{}},
	} {
		if got := problemActions(c.code, c.launch, c.helpDesk, now); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
