package agent

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/endurance/steady"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// What make proof asks for: the readings of the days, each in a file of its own, and
// whole days.
var (
	dayLog   = flag.String("daylog", "", "a folder for what the days read")
	dayHours = flag.Int("dayhours", 8, "how many hours the days have")
)

// timers fire by a clock that is turned.
type timers struct {
	now func() time.Time

	mu  sync.Mutex
	set map[chan time.Time]time.Time // guarded by mu: when each is due
}

func (ts *timers) timer(d time.Duration) (<-chan time.Time, func() bool) {
	c := make(chan time.Time, 1)
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.set[c] = ts.now().Add(d)
	return c, func() bool {
		ts.mu.Lock()
		defer ts.mu.Unlock()
		_, was := ts.set[c]
		delete(ts.set, c)
		return was
	}
}

// fire fires what is due and reports whether anything was.
func (ts *timers) fire() (fired bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for c, due := range ts.set {
		if now := ts.now(); !due.After(now) {
			delete(ts.set, c)
			c <- now
			fired = true
		}
	}
	return fired
}

// day is a workstation whose every clock is turned through a day.
type day struct {
	*workstation
	desk     *desk
	timers   *timers
	log      *steady.Log
	begun    time.Time
	serial   int // of encounters
	pages    *httptest.Server
	lastLink string
}

// newDay has everything that tells the time read the hospital's clocks. The
// organisation's backend answers without keeping anything: what it holds is judged
// elsewhere, and what this process holds is to be the agent's.
func newDay(t *testing.T, what string, policy map[string]any) *day {
	h := newHospital(t)
	d := &day{desk: h.station(), timers: &timers{now: h.clock.now, set: map[chan time.Time]time.Time{}}, log: steady.NewLog(what, "hours")}
	h.issuer.set(func(is *issuer) { is.life, is.now, is.leaves = 10*time.Minute, h.server.now, true })
	d.pages = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(d.pages.Close)
	h.browser.mu.Lock()
	h.browser.sim = d.pages.URL
	h.browser.mu.Unlock()
	h.inPlaceOfBackend(func(w http.ResponseWriter, r *http.Request) bool {
		d.answer(w, r)
		return true
	})
	h.inPlaceOfEvents(func(w http.ResponseWriter, r *http.Request) bool {
		d.stream(w, r)
		return true
	})
	windows := h.hook
	h.hook = func(a *Agent) {
		windows(a)
		a.session.timer, a.timer, a.linksTimer, a.guard.timer = d.timers.timer, d.timers.timer, d.timers.timer, d.timers.timer
		a.eventsPause = func(time.Duration) time.Duration { return time.Millisecond }
	}
	policy["LogLevel"] = "error" // the log of a day is not what is tried
	h.setPolicy(policy)
	d.workstation = h.logOn()
	d.guarded()
	d.begun = h.clock.now()
	return d
}

// answer is the organisation's backend. A handle says which encounter it is of; one
// that ends in x was spent.
func (d *day) answer(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Handle    string `json:"handle"`
		Encounter string `json:"external_encounter_id"`
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if strings.HasSuffix(body.Handle, "x") {
		refuseWith(problem.HandleSpent)(w, r)
		return
	}
	d.mu.Lock()
	d.serial++
	page := fmt.Sprintf("%s/open/page-of-a-day-%d", d.pages.URL, d.serial)
	d.mu.Unlock()
	answer := map[string]any{"encounter_url": page}
	if r.URL.Path == "/launcher"+orgapi.PathEncounters {
		answer["encounter"] = map[string]string{"external_encounter_id": "E-" + body.Handle, "external_provider_id": "D-ada", "label": "Grace Example"}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// stream is the backend's stream of events, which tells of nothing and ends when
// cut is called.
func (d *day) stream(w http.ResponseWriter, r *http.Request) {
	ctx, end := context.WithCancel(r.Context())
	defer end()
	d.mu.Lock()
	d.ends = append(d.ends, end)
	d.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = fmt.Fprint(w, ": listening\n\n")
	_ = http.NewResponseController(w).Flush()
	<-ctx.Done()
}

// cut ends the streams, as the end of an access token does.
func (d *day) cut() {
	d.endStreams()
	d.mu.Lock()
	d.ends = nil
	d.mu.Unlock()
	d.log.Done["streams of events"]++
}

func (d *day) link(ending string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serial++
	d.lastLink = fmt.Sprintf("%s://launch?handle=%030d%s", d.layout.Scheme(), d.serial, ending)
	return d.lastLink
}

// pass lets time pass, a minute at a time, as those who wait for a moment see it.
func (d *day) pass(minutes int) {
	for range minutes {
		d.clock.turn(time.Minute)
		d.server.turn(time.Minute)
		for d.timers.fire() {
			d.quiet()
		}
	}
}

// quiet waits until what was begun is over: no launch, no work, and as many
// goroutines as a moment before.
func (d *day) quiet() {
	d.t.Helper()
	same, before := 0, 0
	d.until("the agent to be quiet", func() bool {
		now := runtime.NumGoroutine()
		if now != before || !d.agent.idle() {
			same = 0
		}
		same, before = same+1, now
		return same > 4
	})
}

// open has a launch come to its end, which is to be open.
func (d *day) open(link string) {
	d.t.Helper()
	d.opens(link)
	d.log.Done["launches"]++
}

// reading reads what this process holds, without what the test has kept of what it
// saw.
func (d *day) reading() {
	d.t.Helper()
	d.quiet()
	d.mu.Lock()
	d.calls, d.tokens, d.handles, d.snapshots, d.links = nil, nil, nil, nil, nil
	d.mu.Unlock()
	d.browser.mu.Lock()
	d.browser.pages, d.browser.encounters, d.browser.statuses = nil, nil, nil
	d.browser.mu.Unlock()
	d.issuer.set(func(is *issuer) { is.issued, is.left, is.used = nil, nil, map[string]string{}; clear(is.codes) })
	hours := d.clock.now().Sub(d.begun).Hours()
	if err := d.log.Inside(hours); err != nil {
		d.t.Fatal(err)
	}
	var recents int64
	files, _ := filepath.Glob(filepath.Join(d.layout.RecentsDir(), "*"))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			recents += info.Size()
		}
	}
	d.log.Add("recents on the disk (kB)", hours, float64(recents)/1000)
}

// judged holds the day against what a day may leave behind, and keeps the readings.
func (d *day) judged() {
	d.t.Helper()
	n := d.log.Done["launches"]
	for quantity, c := range map[string]struct {
		unit    string
		allowed float64
	}{
		// Connections that are kept open come and go: two of them at either end of one.
		steady.Goroutines:  {"", 4},
		steady.Descriptors: {"", 4},
		// Less than 1 kB for each launch: anything that a launch has made is larger.
		steady.Heap:                {"MB", 0.2},
		"recents on the disk (kB)": {"kB", 1},
	} {
		if row := steady.Flat(quantity, c.unit, d.log.Read[quantity], c.allowed, n); !d.log.Judge(row) {
			d.t.Errorf("%+v of %+v", row, d.log.Read[quantity])
		}
	}
	d.t.Logf("%+v, %v", d.log.Judged, d.log.Done)
	if *dayLog != "" {
		if err := d.log.Write(filepath.Join(*dayLog, strings.NewReplacer(" ", "-", "'", "").Replace(d.log.What)+".json")); err != nil {
			d.t.Fatal(err)
		}
	}
}

// changes policy and waits until it is in force.
func (d *day) reload(name string) {
	d.t.Helper()
	d.setPolicy(map[string]any{"OrganizationName": name})
	d.await("the policy", func(s view.Snapshot) bool { return s.OrganizationName == name })
	d.log.Done["changes of policy"]++
}

func TestADayOnASharedWorkstationLeavesNothingBehind(t *testing.T) {
	const limit = 8 * time.Minute
	d := newDay(t, "the agent on a shared workstation", map[string]any{"SharedWorkstation": true, "IdleSignOutMinutes": int(limit / time.Minute)})
	people := []string{"ada", "ben", "cleo"}
	d.reading()
	for visit := range 3 * *dayHours {
		person := people[visit%len(people)]
		d.issuer.set(func(is *issuer) { is.person = person })
		d.desk.monitor.Idle(0)
		d.open(d.link("")) // which signs in
		d.pass(3)
		d.open(d.link(""))
		again := d.lastLink
		d.pass(3)
		d.open(again) // through a fresh address
		if id := d.fails(d.link("x"), problem.HandleSpent).Launch.ID; id == "" {
			t.Fatal("a launch without an id")
		}
		d.log.Done["refused"]++
		d.pass(4)
		d.open(d.link(""))
		if visit%3 == 0 {
			d.reload(fmt.Sprint("Hospital ", visit))
		}
		d.cut()
		switch visit % 4 {
		case 0, 2:
			d.desk.login.Lock()
			d.isOut()
			d.desk.login.Unlock()
			d.log.Done["locks"]++
			d.pass(10)
		case 1:
			d.desk.monitor.Idle(limit)
			d.lookNow(limit)
			d.isOut()
			d.log.Done["idle sign-outs"]++
			d.pass(10)
		case 3:
			_ = d.desk.login.Sleep(true)
			d.isOut()
			d.clock.turn(10 * time.Minute) // at once
			d.server.turn(10 * time.Minute)
			_ = d.desk.login.Sleep(false)
			d.timers.fire()
			d.log.Done["sleeps"]++
		}
		s := d.await("nothing to be seen of the one before", func(s view.Snapshot) bool {
			return s.SignIn.State == view.SignedOut && s.Launch == nil && len(s.Recents) == 0
		})
		if n := s.Notice; n != nil && (n.Kind != view.NoticeSignedOut || n.Problem.Code != "") {
			t.Errorf("told: %+v", n)
		}
		d.reading()
	}
	d.judged()
}

func TestADayOnAPersonsOwnComputerLeavesNothingBehind(t *testing.T) {
	d := newDay(t, "the agent on a computer of one's own", map[string]any{"RecentsRetentionHours": 2, "IdleSignOutMinutes": 60})
	d.desk.monitor.Idle(0)
	for hour := range *dayHours {
		for range 6 {
			d.open(d.link(""))
			d.pass(5)
			d.do(control.Intent{Name: control.OpenRecent, Last: true})
			d.quiet()
			d.log.Done["launches"]++
			d.pass(5)
			d.reading()
		}
		d.desk.login.Lock() // which nothing here takes for an end
		d.cut()
		d.desk.login.Unlock()
		d.log.Done["locks"]++
		d.reload(fmt.Sprint("Hospital ", hour))
		if hour%8 == 7 { // hours without anything: every recent encounter expires
			_ = d.desk.login.Sleep(true)
			d.clock.turn(3 * time.Hour)
			d.server.turn(3 * time.Hour)
			_ = d.desk.login.Sleep(false)
			for d.timers.fire() {
				d.quiet()
			}
			d.await("the recents to have expired", func(s view.Snapshot) bool { return len(s.Recents) == 0 })
			d.log.Done["sleeps"]++
			d.open(d.link(""))
		}
	}
	d.issuer.set(func(is *issuer) {
		if is.thefts > 0 || is.pages > 1 || is.rotated < 5**dayHours {
			t.Errorf("%d tokens used twice, %d sign-in pages, %d renewals", is.thefts, is.pages, is.rotated)
		}
		d.log.Done["renewals of the token"] = int64(is.rotated)
	})
	d.judged()
}
