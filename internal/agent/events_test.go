//go:build unix

package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// eager opens streams without a pause and keeps which pauses were meant.
type eager struct {
	mu     sync.Mutex
	pauses []time.Duration
}

func (e *eager) pause(d time.Duration) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pauses = append(e.pauses, d)
	if d == withoutEvents {
		return d
	}
	return time.Millisecond
}

func (e *eager) meant(d time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.pauses {
		if p == d {
			return true
		}
	}
	return false
}

// listening is a hospital whose agents open streams at once.
func listening(t *testing.T) (*hospital, *eager) {
	h, e := newHospital(t), new(eager)
	h.hook = func(a *Agent) { a.eventsPause = e.pause }
	h.setPolicy(nil)
	return h, e
}

func (h *hospital) inPlaceOfEvents(answer func(http.ResponseWriter, *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = answer
}

// export is the EHR having taken the note of an encounter.
func (h *hospital) export(clinician string, encounter int) {
	h.t.Helper()
	if err := h.backend.Exported(h.t.Context(), orgapi.ExportedEvent{
		ExternalEncounterID: encounterID(encounter), ExternalProviderID: "D-" + clinician, At: time.Now().UTC().Format(time.RFC3339),
	}); err != nil {
		h.t.Fatal(err)
	}
}

// statuses are those of the recents, newest first.
func statuses(s view.Snapshot) string {
	var all []string
	for _, r := range s.Recents {
		all = append(all, r.Status)
	}
	return strings.Join(all, " ")
}

func (w *workstation) shows(want string) view.Snapshot {
	w.t.Helper()
	return w.await("the recents to be "+want, func(s view.Snapshot) bool { return statuses(s) == want })
}

// asksForEvents waits until the backend was asked for events more than n times.
func (h *hospital) asksForEvents(n int) int {
	h.t.Helper()
	h.until("the stream of events", func() bool { return len(h.asked(orgapi.PathEvents)) > n })
	return len(h.asked(orgapi.PathEvents))
}

func TestAnExportReachesTheRecentsOfItsClinicianAndNobodyElses(t *testing.T) {
	h, _ := listening(t)
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	w.opens(h.mint("ada", 2))
	w.shows("opened opened")
	w.await("the backend to be reachable", func(s view.Snapshot) bool { return s.Backend.State == view.BackendReachable && s.Backend.At != nil })
	h.export("ben", 1) // of the same id, at another clinician's
	h.export("ada", 9) // never opened here
	h.export("ada", 1)
	s := w.shows("opened exported")
	if s.Launch.Stage != view.Opened || len(h.asked(orgapi.PathEvents)) != 1 {
		t.Errorf("asked %d times, launch %+v", len(h.asked(orgapi.PathEvents)), s.Launch)
	}
	// Opening it again does not take that back, and shows stages like any launch.
	last := s.Launch.ID
	w.do(control.Intent{Name: control.OpenRecent, ID: s.Recents[1].ID})
	l := w.launchAfter(last, view.Opened)
	for _, stage := range []view.Stage{view.Received, view.Creating, view.Opening, view.Opened} {
		if _, ok := l.MS[stage]; !ok {
			t.Errorf("the reopening never was %s", stage)
		}
	}
	w.shows("exported opened")
}

func TestAnExportThatHappenedWhileNobodyListenedIsLearntLater(t *testing.T) {
	h, _ := listening(t)
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	w.shows("opened")
	w.logOff()
	h.export("ada", 1)
	w = h.logOn()
	w.shows("exported")

	// And one while the connection was down: the next stream goes on after it.
	w.opens(h.mint("ada", 2))
	w.shows("opened exported")
	n := h.asksForEvents(0)
	h.inPlaceOfEvents(refuseWith(problem.OrgUnreachable))
	w.setPolicy(map[string]any{"OrganizationName": "Another Hospital"}) // ends the stream
	h.asksForEvents(n)
	s := w.await("trouble", func(s view.Snapshot) bool { return s.Backend.State == view.BackendTrouble })
	if s.Backend.Problem == nil || s.Backend.Problem.Code != problem.OrgUnreachable || s.Backend.Problem.Sentence == "" {
		t.Errorf("backend %+v", s.Backend)
	}
	h.export("ada", 2)
	h.inPlaceOfEvents(nil)
	w.shows("exported exported")
	w.await("no trouble", func(s view.Snapshot) bool {
		return s.Backend.State == view.BackendReachable && s.Backend.Problem == nil
	})
}

func TestStreamsThatFailAreOpenedAtGrowingPausesThatTheBackendCanLengthen(t *testing.T) {
	h, e := listening(t)
	h.inPlaceOfEvents(func(w http.ResponseWriter, r *http.Request) bool {
		if len(h.asked(orgapi.PathEvents)) == 12 {
			w.Header().Set("Retry-After", "599")
		}
		return refuseWith(problem.OrgBusy)(w, r)
	})
	w := h.logOn()
	w.signedIn()
	h.asksForEvents(13)
	e.mu.Lock()
	defer e.mu.Unlock()
	pauses := e.pauses[1:] // the first is that after the sign-in
	for n, d := range pauses[:11] {
		base := min(eventsFirstPause<<n, eventsMostPause)
		if d < base/2 || d > base*3/2 {
			t.Errorf("pause %d is %v", n, d)
		}
	}
	if pauses[11] != 599*time.Second {
		t.Errorf("asked to wait, it waits %v", pauses[11])
	}
}

func TestABackendWithoutEventsIsLeftAloneUntilPolicyChanges(t *testing.T) {
	h, e := listening(t)
	h.inPlaceOfEvents(func(w http.ResponseWriter, _ *http.Request) bool { http.NotFound(w, nil); return true })
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	h.until("the long pause", func() bool { return e.meant(withoutEvents) })
	n := len(h.asked(orgapi.PathEvents))
	w.opens(h.mint("ada", 2))
	if s := w.agent.Snapshot(); len(h.asked(orgapi.PathEvents)) != n || n != 1 || s.Backend.State != view.BackendReachable {
		t.Errorf("asked %d times, %+v", len(h.asked(orgapi.PathEvents)), s.Backend)
	}
	h.inPlaceOfEvents(nil)
	h.setPolicy(map[string]any{"OrganizationName": "Another Hospital"})
	h.export("ada", 2)
	w.shows("exported opened")
}

func TestATokenThatTheEventsDoNotAcceptIsRenewedOnce(t *testing.T) {
	h, _ := listening(t)
	w := h.logOn()
	w.signedIn()
	n := h.asksForEvents(0)
	var before int
	h.issuer.set(func(is *issuer) { before = is.rotated })
	refused := ""
	h.inPlaceOfEvents(func(w http.ResponseWriter, r *http.Request) bool {
		h.mu.Lock()
		token := r.Header.Get("Authorization")
		if refused == "" {
			refused = token
		}
		again := token == refused
		h.mu.Unlock()
		return again && refuseWith(problem.Unauthorized)(w, r)
	})
	w.setPolicy(map[string]any{"OrganizationName": "Another Hospital"}) // ends the stream
	h.asksForEvents(n + 1)
	w.opens(h.mint("ada", 1))
	h.export("ada", 1)
	w.shows("exported")
	h.issuer.set(func(is *issuer) {
		if is.rotated != before+1 {
			t.Errorf("refreshed %d times", is.rotated-before)
		}
	})

	// Where a new token is not accepted either, the next one is waited for.
	h.inPlaceOfEvents(refuseWith(problem.Unauthorized))
	n = len(h.asked(orgapi.PathEvents))
	w.setPolicy(map[string]any{"OrganizationName": "A third Hospital"})
	h.asksForEvents(n + 1)
	h.issuer.set(func(is *issuer) {
		if is.rotated != before+2 {
			t.Errorf("refreshed %d times", is.rotated-before)
		}
	})
	w.opens(h.mint("ada", 2)) // launches are not held up by it
	if now := len(h.asked(orgapi.PathEvents)); now != n+2 {
		t.Errorf("asked %d times", now-n)
	}
}

func TestAStreamEndsWithItsTokenAndGoesOnWithTheNextOne(t *testing.T) {
	h, _ := listening(t)
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	n := h.asksForEvents(0)
	var rotated int
	h.issuer.set(func(is *issuer) { rotated = is.rotated })
	// The workstation refreshes ahead of the expiry, whatever the stream does.
	w.clock.turn(58 * time.Minute)
	w.agent.wake()
	h.until("the refresh", func() bool {
		var now int
		h.issuer.set(func(is *issuer) { now = is.rotated })
		return now == rotated+1
	})
	w.opens(h.mint("ada", 2))
	if len(h.asked(orgapi.PathEvents)) != n {
		t.Error("a new token alone began a new stream")
	}
	h.endStreams()
	h.asksForEvents(n)
	h.export("ada", 2)
	w.shows("exported opened")
	h.mu.Lock()
	first, last := h.tokens[0], h.tokens[len(h.tokens)-1]
	h.mu.Unlock()
	h.issuer.set(func(is *issuer) { rotated = is.rotated - rotated })
	if first == last || rotated != 1 {
		t.Errorf("the same token: %v; refreshed %d times", first == last, rotated)
	}
}

func TestTheStreamEndsWithTheSignInAndIsAnotherOneForAnotherPerson(t *testing.T) {
	h, _ := listening(t)
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	h.asksForEvents(0)
	w.do(control.Intent{Name: control.SignOut})
	h.until("the stream to end", func() bool { return h.openStreams() == 0 })
	n := len(h.asked(orgapi.PathEvents))
	h.issuer.set(func(is *issuer) { is.person = "ben" })
	w.signedIn()
	h.asksForEvents(n)
	w.clock.turn(linkWindow)
	w.opens(h.mint("ben", 1))
	h.export("ada", 1)
	h.export("ben", 1)
	w.shows("exported")
	w.do(control.Intent{Name: control.SignOut})
	h.issuer.set(func(is *issuer) { is.person = "ada" })
	w.signedIn()
	w.shows("exported") // hers, told when she comes back
}

func TestWithoutRecentsThereAreNoEvents(t *testing.T) {
	h, _ := listening(t)
	h.setPolicy(map[string]any{"RecentsLimit": 0})
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	s := w.agent.Snapshot()
	if len(s.Recents) != 0 || len(h.asked(orgapi.PathEvents)) != 0 {
		t.Errorf("%d recents, events asked %d times", len(s.Recents), len(h.asked(orgapi.PathEvents)))
	}
	h.setPolicy(map[string]any{"RecentsLimit": 5})
	h.asksForEvents(0)
	h.setPolicy(map[string]any{"RecentsLimit": 0})
	h.until("the stream to end", func() bool { return h.openStreams() == 0 })
}

func TestTheBackendIsShownAsTheNewestCallMetIt(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"RecentsLimit": 0})
	w := h.logOn()
	if s := w.agent.Snapshot(); s.Backend.State != view.BackendUnknown || s.Backend.At != nil {
		t.Errorf("before anything: %+v", s.Backend)
	}
	w.opens(h.mint("ada", 1))
	w.await("reachable", func(s view.Snapshot) bool { return s.Backend.State == view.BackendReachable })
	for _, code := range []problem.Code{problem.OrgUnreachable, problem.OrgAnswerInvalid} {
		h.inPlaceOfBackend(refuseWith(code))
		w.clock.turn(linkWindow)
		w.fails(h.mint("ada", 2), code)
		s := w.await("trouble", func(s view.Snapshot) bool {
			return s.Backend.State == view.BackendTrouble && s.Backend.Problem.Code == code
		})
		if s.Backend.Problem.NextStep == "" || s.Backend.At == nil {
			t.Errorf("got %+v", s.Backend)
		}
	}
	// A refusal of its own shows that it is there.
	h.inPlaceOfBackend(refuseWith(problem.ContextUnavailable))
	w.fails(h.mint("ada", 3), problem.ContextUnavailable)
	w.await("reachable", func(s view.Snapshot) bool {
		return s.Backend.State == view.BackendReachable && s.Backend.Problem == nil
	})
	// What says nothing of it changes nothing; another backend is not known yet.
	w.agent.backendMet(problem.New(problem.Cancelled, context.Canceled))
	if s := w.agent.Snapshot(); s.Backend.State != view.BackendReachable {
		t.Errorf("after a cancelled call: %+v", s.Backend)
	}
	h.setPolicy(map[string]any{"BackendURL": h.orgURL + "/other"})
	w.await("unknown", func(s view.Snapshot) bool { return s.Backend.State == view.BackendUnknown })
}

func TestLabelsFollowPolicyAndAreInert(t *testing.T) {
	hostile := "<b onload=x>\u202eGrace\u2066\n\x1b[31m\u200bLovelace 👩\u200d⚕️" + strings.Repeat("A", 10<<10)
	for policy, want := range map[string]string{"none": "", "initials": "B. O. L. A."} {
		if got := labelFor(policy, "<b onload=x>\u202e\u2066\n\x1b Lovelace \u200b👩 "+strings.Repeat("A", 10<<10)); policy == "none" && got != want || len(got) > 16 || strings.ContainsAny(got, "<>\u202e\n") {
			t.Errorf("%s: %q", policy, got)
		}
	}
	got := labelFor("name", hostile)
	if len([]rune(got)) > 128 || strings.ContainsAny(got, "\u202e\u2066\n\x1b\u200b") || labelFor("name", got) != got {
		t.Errorf("name: %q", got)
	}
	// The launch itself is labelled by policy as well, when it is reopened too.
	h := newHospital(t)
	for policy, want := range map[string]string{"none": "", "initials": "G. K."} {
		h.setPolicy(map[string]any{"RecentsLabel": policy})
		w := h.logOn()
		w.clock.turn(linkWindow)
		l := w.opens(h.mint("ada", len(policy)))
		s := w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) > 0 })
		if l.Label != want || s.Recents[0].Label != want {
			t.Errorf("%s: the launch is %q, the recent %q", policy, l.Label, s.Recents[0].Label)
		}
		w.do(control.Intent{Name: control.OpenRecent, Last: true})
		if l = w.launchAfter(l.ID, view.Opened); l.Label != want || !l.Reopen {
			t.Errorf("%s: reopened %+v", policy, l)
		}
		w.logOff()
	}
}

// relabelled is the backend's own answer, with another label.
func (h *hospital) relabelled(label string) {
	h.inPlaceOfBackend(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/launcher"+orgapi.PathEncounters {
			return false
		}
		answer := httptest.NewRecorder()
		h.backend.ServeHTTP(answer, r)
		var body map[string]any
		if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil {
			h.t.Error(err)
			return false
		}
		body["encounter"].(map[string]any)["label"] = label
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body)
		return true
	})
}

func TestAHostileLabelFromTheBackendIsShortInertTextOrNothingWhereverItIsSeen(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"RecentsLabel": "name"})
	w := h.logOn()
	for i, c := range []struct{ sent, seen string }{
		{`<img src=x onerror=alert(1)> Lovelace & <b>`, `<img src=x onerror=alert(1)> Lovelace & <b>`},
		{"\u202egnp.\u2066Lovelace\u2069\u200f\u061c", "gnp.Lovelace"},
		{"Lovelace\r\n\x1b[31m\u2028\u2029 Ada\u00a0\u3000B.", "Lovelace [31m Ada B."},
		{"Love\u200b\u200c\u200d\u2060\ufefflace\ue000\U000e0041\u0378", "Lovelace"},
		{"Lovelace 👩\u200d⚕\ufe0f", "Lovelace 👩⚕"},
		{"L" + strings.Repeat("\u0301", 100) + "ovelace", "L\u0301\u0301\u0301ovelace"},
		{"Lovelace " + strings.Repeat("0123456789", 20), "Lovelace " + strings.Repeat("0123456789", 12)[:118] + "…"},
		{"\u200b\u2060\ufeff\u00ad", ""},
		{strings.Repeat("\u202eA\n", 10<<10), ""},
	} {
		h.relabelled(c.sent)
		h.clock.turn(linkWindow)
		l := w.opens(h.mint("ada", i))
		s := w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == i+1 })
		if l.Label != c.seen || s.Recents[0].Label != c.seen {
			t.Errorf("%.60q: the launch is %q, the recent %q", c.sent, l.Label, s.Recents[0].Label)
		}
		// What tray and terminal do to it once more changes nothing.
		if got := view.Inert(l.Label, longLabel); got != l.Label {
			t.Errorf("%.60q: mended to %q", c.sent, got)
		}
	}
	// No notice says whom a launch was for.
	h.relabelled("Lovelace")
	h.clock.turn(linkWindow)
	w.opens(h.mint("ada", 20))
	h.inPlaceOfBackend(refuseWith(problem.OrgBusy))
	w.do(control.Intent{Name: control.OpenRecent, Last: true})
	s := w.await("the notice", func(s view.Snapshot) bool { return s.Notice != nil && s.Launch.Label == "Lovelace" })
	if text, err := json.Marshal(s.Notice); err != nil || strings.Contains(string(text), "Lovelace") {
		t.Errorf("told: %s, %v", text, err)
	}
}

func TestEventsThatAreRefusedSignNobodyOutWhoseSignInCannotBeRenewed(t *testing.T) {
	h, _ := listening(t)
	h.issuer.set(func(is *issuer) { is.stingy = true })
	h.inPlaceOfEvents(refuseWith(problem.Unauthorized))
	w := h.logOn()
	w.signedIn()
	h.until("the events to be asked for", func() bool { return len(h.asked(orgapi.PathEvents)) > 0 })
	w.await("the refusal", func(s view.Snapshot) bool { return s.Backend.State == view.BackendReachable })
	h.until("the token to be given up for events", func() bool {
		text, _ := os.ReadFile(h.layout.LogFile())
		return strings.Contains(string(text), "events cannot be read now")
	})
	w.opens(h.mint("ada", 1))
	w.counts(1, 1)
}
