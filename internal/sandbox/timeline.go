package sandbox

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// The steps of a launch as the sandbox's servers see them, in the order of a
// launch that goes well. Times are milliseconds since the button was pressed;
// for a launch that came from recents, since the backend was asked.
const (
	stepLink    = "link"    // POST /launches has answered with the link
	stepAsked   = "asked"   // the launcher's call has reached the backend
	stepCreated = "created" // Nabla has answered the backend
	stepURL     = "url"     // the backend has answered the launcher
	stepPage    = "page"    // a browser has fetched the one-time page
)

// agentStages are the launcher's own stages, in milliseconds since the link
// reached it; "status --json" reports them.
var agentStages = []string{"signing_in", "creating", "opening", "opened"}

const (
	// maxRows bounds what the timeline remembers.
	maxRows = 200
	// shownRows is how many the page shows.
	shownRows = 20
)

// row is one launch. What is shown is the exported part: it holds no link, URL,
// handle or identifier.
type row struct {
	N int `json:"n"`
	// What names the button that was pressed.
	What  string           `json:"what"`
	Steps map[string]int64 `json:"steps"`
	// Agent holds the launcher's own stages; nil until they are known.
	Agent map[string]int64 `json:"agent"`
	// Result is "opened", a problem code, or empty while nothing is known.
	Result string `json:"result"`
	Over   bool   `json:"over"`

	began, changed      time.Time
	handle, url         [32]byte
	encounter, launchID string
	printed             bool
}

// timeline correlates what the sandbox's servers see into launches. Handles and
// one-time URLs are kept as hashes only, in memory.
type timeline struct {
	now   func() time.Time
	print func(line string)

	mu      sync.Mutex
	rows    []*row                 // guarded by mu; oldest first
	count   int                    // guarded by mu
	waiters map[chan struct{}]bool // guarded by mu; woken on every change
	seen    map[string]bool        // guarded by mu; ids of launches that a row has
}

func newTimeline(now func() time.Time, print func(string)) *timeline {
	return &timeline{now: now, print: print, waiters: map[chan struct{}]bool{}, seen: map[string]bool{}}
}

// subscribe returns a channel that receives after every change, and how to stop.
func (t *timeline) subscribe() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	t.mu.Lock()
	t.waiters[c] = true
	t.mu.Unlock()
	return c, func() {
		t.mu.Lock()
		delete(t.waiters, c)
		t.mu.Unlock()
	}
}

// wake needs mu.
func (t *timeline) wake() {
	for c := range t.waiters {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// begin needs mu.
func (t *timeline) begin(what string) *row {
	t.count++
	now := t.now()
	r := &row{N: t.count, What: what, Steps: map[string]int64{}, began: now, changed: now}
	t.rows = append(t.rows, r)
	if len(t.rows) > maxRows {
		t.rows = slices.Delete(t.rows, 0, len(t.rows)-maxRows)
	}
	return r
}

// reach needs mu. The first time counts: a retry does not move a step.
func (t *timeline) reach(r *row, step string) {
	if _, ok := r.Steps[step]; ok {
		return
	}
	r.changed = t.now()
	r.Steps[step] = r.changed.Sub(r.began).Milliseconds()
	if step == stepPage {
		r.Result = "opened"
	}
	t.finish(r, false)
	t.wake()
}

// finish prints a row once nothing more is awaited. It needs mu.
func (t *timeline) finish(r *row, timedOut bool) {
	_, page := r.Steps[stepPage]
	_, opened := r.Agent["opened"]
	_, browser := r.Agent["opening"]
	switch {
	case r.printed:
		return
	case page && r.Agent != nil:
	case r.Result != "" && r.Agent != nil && (!opened || !browser):
	case timedOut:
		if r.Result == "" {
			r.Result = "no launch seen"
		}
	default:
		return
	}
	r.Over, r.printed = true, true
	t.print(r.line())
}

// pressed begins a launch from a button of the EHR page.
func (t *timeline) pressed(what, encounter string) *row {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.begin(what)
	r.encounter = encounter
	t.wake()
	return r
}

// linked notes that the link of a press exists.
func (t *timeline) linked(r *row, handle string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.handle = sha256.Sum256([]byte(handle))
	t.reach(r, stepLink)
}

// notLinked notes that no link could be made.
func (t *timeline) notLinked(r *row, code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Result = code
	t.finish(r, true)
	t.wake()
}

// asked notes that the launcher has called the backend with a handle.
func (t *timeline) asked(handle string) *row {
	t.mu.Lock()
	defer t.mu.Unlock()
	hash := sha256.Sum256([]byte(handle))
	for _, r := range slices.Backward(t.rows) {
		if r.handle != hash || handle == "" {
			continue
		}
		if r.printed {
			again := t.begin(r.What)
			again.handle, again.encounter = hash, r.encounter
			r = again
		}
		t.reach(r, stepAsked)
		return r
	}
	r := t.begin("another link")
	r.handle = hash
	t.reach(r, stepAsked)
	return r
}

// reopened notes that the launcher has asked for a fresh URL of an encounter.
func (t *timeline) reopened(encounter string) *row {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.begin("recent encounter")
	r.encounter = encounter
	t.reach(r, stepAsked)
	return r
}

// created notes that Nabla has answered for an encounter.
func (t *timeline) created(encounter string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range slices.Backward(t.rows) {
		_, asked := r.Steps[stepAsked]
		_, done := r.Steps[stepURL]
		if asked && !done && r.encounter == encounter {
			t.reach(r, stepCreated)
			return
		}
	}
}

// answered notes what the backend has answered: a one-time URL or a code.
func (t *timeline) answered(r *row, url, code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if code != "" {
		r.Result, r.changed = code, t.now()
		t.finish(r, false)
		t.wake()
		return
	}
	r.url = sha256.Sum256([]byte(url))
	r.Result = ""
	t.reach(r, stepURL)
}

// fetched notes that a browser has fetched a one-time page.
func (t *timeline) fetched(url string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	hash := sha256.Sum256([]byte(url))
	for _, r := range slices.Backward(t.rows) {
		if r.url == hash {
			t.reach(r, stepPage)
			return
		}
	}
}

// wasOpened reports whether a browser has fetched a page of the encounter.
func (t *timeline) wasOpened(encounter string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.rows, func(r *row) bool {
		_, page := r.Steps[stepPage]
		return page && r.encounter == encounter
	})
}

// launchReport is the launch of "status --json".
type launchReport struct {
	ID        string           `json:"id"`
	Stage     string           `json:"stage"`
	Code      string           `json:"code"`
	Reference string           `json:"reference"`
	MS        map[string]int64 `json:"ms"`
}

func (l *launchReport) over() bool {
	return l != nil && (l.Stage == "opened" || l.Stage == "failed" || l.Stage == "cancelled")
}

// reported joins what the launcher says of its last launch to a row: launches
// run one after another, so it is the one that asked last, or, when it never
// asked, the first press that nobody has spoken for.
func (t *timeline) reported(l *launchReport) {
	if !l.over() || l.ID == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[l.ID] {
		return
	}
	var found *row
	for _, r := range slices.Backward(t.rows) {
		if _, asked := r.Steps[stepAsked]; asked && r.Agent == nil && !r.printed {
			found = r
			break
		}
	}
	if found == nil {
		for _, r := range t.rows {
			if r.Agent == nil && !r.printed {
				found = r
				break
			}
		}
	}
	if found == nil {
		return
	}
	t.seen[l.ID] = true
	found.launchID, found.changed = l.ID, t.now()
	found.Agent = map[string]int64{}
	for _, stage := range agentStages {
		if ms, ok := l.MS[stage]; ok {
			found.Agent[stage] = ms
		}
	}
	_, page := found.Steps[stepPage]
	_, browser := l.MS["opening"]
	switch {
	case l.Code != "":
		found.Result = l.Code
	case l.Stage == "opened" && !browser:
		// A second press of an encounter that was opened a moment ago.
		found.Result = "dropped: one tab"
	case l.Stage == "opened" && !page:
		found.Result = "opened"
	}
	t.finish(found, false)
	t.wake()
}

// settle prints the rows that nothing has happened to for so long: those whose
// link has reached the backend, and those whose link has not.
func (t *timeline) settle(asked, notAsked time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		quiet := notAsked
		if _, ok := r.Steps[stepAsked]; ok {
			quiet = asked
		}
		if !r.printed && t.now().Sub(r.changed) > quiet {
			t.finish(r, true)
			t.wake()
		}
	}
}

// open reports whether a row is awaited.
func (t *timeline) open() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.rows, func(r *row) bool { return !r.printed })
}

// shown returns copies of the newest rows, newest first.
func (t *timeline) shown() []row {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]row, 0, shownRows)
	for _, r := range slices.Backward(t.rows) {
		if len(out) == shownRows {
			break
		}
		c := row{N: r.N, What: r.What, Result: r.Result, Over: r.Over, Steps: map[string]int64{}, Agent: nil}
		for k, v := range r.Steps {
			c.Steps[k] = v
		}
		if r.Agent != nil {
			c.Agent = map[string]int64{}
			for k, v := range r.Agent {
				c.Agent[k] = v
			}
		}
		out = append(out, c)
	}
	return out
}

const lineFormat = "%4s  %-17s %6s %6s %8s %6s %6s  | %8s %8s %8s %7s  %s"

// header is the head of the table that line fills.
func header() string {
	head := fmt.Sprintf(lineFormat, "", "ms since press:", stepLink, stepAsked, stepCreated, stepURL, stepPage, "sign-in", "creating", "opening", "opened", "(launcher: ms since link)")
	return strings.TrimRight(head, " ")
}

// table is every launch in the order of the presses.
func (t *timeline) table() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := []string{header()}
	for _, r := range t.rows {
		lines = append(lines, r.line())
	}
	return lines
}

func (r *row) line() string {
	cell := func(m map[string]int64, k string) string {
		if ms, ok := m[k]; ok {
			return fmt.Sprint(ms)
		}
		return "-"
	}
	return fmt.Sprintf(lineFormat, fmt.Sprintf("#%d", r.N), r.What,
		cell(r.Steps, stepLink), cell(r.Steps, stepAsked), cell(r.Steps, stepCreated), cell(r.Steps, stepURL), cell(r.Steps, stepPage),
		cell(r.Agent, agentStages[0]), cell(r.Agent, agentStages[1]), cell(r.Agent, agentStages[2]), cell(r.Agent, agentStages[3]), r.Result)
}
