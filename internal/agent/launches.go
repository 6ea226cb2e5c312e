package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"sync"
	"time"

	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// The rules of design §3.
const (
	// mostLinks distinct launches are accepted in linkWindow.
	mostLinks  = 5
	linkWindow = 10 * time.Second
	// mostAgain known links whose launch has ended are taken up again in linkWindow,
	// over all links: more than anybody presses, and a page that sends one link
	// without end asks the backend and tells the person no more often than this.
	mostAgain = 5
	// rememberLinks is how long a link is known after its launch ended: longer
	// than any link lives, so that a further click finds what became of it.
	rememberLinks = 30 * time.Minute
	// mostRemembered bounds the memory of links, 1 KB each; the oldest ended goes first.
	// It is more than linkWindow lets in while a handle lives: 300 in ten minutes.
	mostRemembered = 512
)

// errEnding says that a link came to an agent that is about to end.
var errEnding = errors.New("this agent ends")

type linkDigest [sha256.Size]byte

// tracked is one launch from its arrival to its end. Its fields are guarded by
// launches.mu, apart from launch, which is never written after it was made.
type tracked struct {
	id        string
	digest    linkDigest // zero for a reopening from the recents
	launch    flow.Launch
	startedAt time.Time
	endedAt   time.Time
	stage     view.Stage
	ms        map[view.Stage]int64
	problem   *problem.Problem
	outcome   flow.Outcome
	label     string
	cancel    context.CancelFunc
	// judge is what the request was found good by; nil when nothing has judged it.
	judge any
	// freshOf is the launch that this one is a fresh link of; empty for none.
	freshOf string
	// unseen says that it belongs to somebody who was signed out, and is to leave
	// nothing that the next person sees.
	unseen bool
}

func (t *tracked) retryable() bool {
	return t.problem != nil && t.stage.Over() && t.problem.Row().Retryable
}

func (t *tracked) reach(s view.Stage, now time.Time) {
	t.stage = s
	t.note(s, now)
}

// note keeps when a stage was reached first.
func (t *tracked) note(s view.Stage, now time.Time) {
	if _, ok := t.ms[s]; !ok {
		t.ms[s] = now.Sub(t.startedAt).Milliseconds()
	}
}

// launches orders what arrives: one at a time, the same link joined, a flood
// refused, nothing lost. It is safe for concurrent use.
type launches struct {
	now   func() time.Time
	newID func() string
	// changed is called without the lock after anything visible has changed.
	changed func(*tracked)

	mu       sync.Mutex
	queue    []*tracked              // guarded by mu: accepted, not yet running
	running  *tracked                // guarded by mu
	last     *tracked                // guarded by mu: the running one, or the last that ended
	byLink   map[linkDigest]*tracked // guarded by mu: the newest launch of each link
	jtis     map[[2]string]jtiSeen   // guarded by mu: issuer and jti of signed requests
	arrivals []time.Time             // guarded by mu: distinct links in the window
	returns  []time.Time             // guarded by mu: known links taken up again in the window
	ending   bool                    // guarded by mu: no link is taken any more
	wake     bell
}

type jtiSeen struct {
	digest linkDigest
	until  time.Time
}

func newLaunches(now func() time.Time, newID func() string, changed func(*tracked)) *launches {
	return &launches{
		now: now, newID: newID, changed: changed,
		byLink: make(map[linkDigest]*tracked), jtis: make(map[[2]string]jtiSeen), wake: newBell(),
	}
}

func digestOf(r launch.Request) linkDigest { return sha256.Sum256([]byte(r.Link().Reveal())) }

// link accepts a checked request, or joins it to the launch that the same link
// has already. judge names the rules that checked it. Problems: link_replayed,
// too_many_links, and agent_unreachable once this agent ends: the handler then
// hands the link to the next one.
func (q *launches) link(r launch.Request, once launch.Once, arrived flow.Person, click, judge any) (*tracked, error) {
	digest, now := digestOf(r), q.now()
	q.mu.Lock()
	if q.ending {
		q.mu.Unlock()
		return nil, problem.New(problem.AgentUnreachable, errEnding)
	}
	known := q.byLink[digest]
	if known != nil && known.unseen {
		known = nil
	}
	var t *tracked
	switch {
	case known != nil && !known.stage.Over(),
		known != nil && known.stage == view.Opened && now.Sub(known.endedAt) < flow.OneTab && !now.Before(known.endedAt):
		q.mu.Unlock()
		return known, nil // joined
	case known != nil && !within(&q.returns, mostAgain, now):
		q.mu.Unlock()
		return nil, problem.New(problem.TooManyLinks, nil)
	case known != nil && known.stage == view.Opened:
		encounter := known.outcome.Encounter
		t = q.track(flow.Launch{Reopen: &encounter, Arrived: arrived, Click: click}, digest, now)
	case known != nil:
		again := known.launch
		again.Arrived, again.Click = arrived, click
		t = q.track(again, digest, now)
	default:
		if err := q.admit(digest, once, now); err != nil {
			q.mu.Unlock()
			return nil, err
		}
		t = q.track(flow.Launch{Request: &r, Arrived: arrived, Click: click}, digest, now)
	}
	t.judge = judge
	q.mu.Unlock()
	q.arrived(t)
	return t, nil
}

// admit applies the replay cache and the rate limit to a link not seen before.
func (q *launches) admit(digest linkDigest, once launch.Once, now time.Time) error {
	if err := q.spend(digest, once, now, false); err != nil {
		return err
	}
	if !within(&q.arrivals, mostLinks, now) {
		return problem.New(problem.TooManyLinks, nil)
	}
	return q.spend(digest, once, now, true)
}

// within notes one more moment of a kind of which there may be most in linkWindow, or
// reports false and notes nothing.
func within(moments *[]time.Time, most int, now time.Time) bool {
	kept := (*moments)[:0]
	for _, at := range *moments {
		if age := now.Sub(at); age >= 0 && age < linkWindow {
			kept = append(kept, at)
		}
	}
	*moments = kept
	if len(kept) >= most {
		return false
	}
	*moments = append(kept, now)
	return true
}

// spend looks a signed request up in the replay cache, and with note set puts it
// there; the caller holds mu.
func (q *launches) spend(digest linkDigest, once launch.Once, now time.Time, note bool) error {
	if once.ID == "" {
		return nil
	}
	for key, seen := range q.jtis {
		if now.After(seen.until) {
			delete(q.jtis, key)
		}
	}
	key := [2]string{once.Issuer, once.ID}
	if seen, ok := q.jtis[key]; ok && seen.digest != digest {
		return problem.New(problem.LinkReplayed, nil)
	}
	if note {
		q.jtis[key] = jtiSeen{digest, once.Until}
	}
	return nil
}

// spendLate is spend for a request that was not judged when it arrived.
func (q *launches) spendLate(t *tracked, once launch.Once) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.spend(t.digest, once, q.now(), true)
}

// reopen accepts an encounter from the recents, or joins it to a reopening of
// the same encounter that is still under way.
func (q *launches) reopen(e flow.Encounter, arrived flow.Person, click any) *tracked {
	q.mu.Lock()
	for _, t := range append([]*tracked{q.running}, q.queue...) {
		if t != nil && t.launch.Reopen != nil && t.launch.Reopen.ExternalEncounterID == e.ExternalEncounterID {
			q.mu.Unlock()
			return t
		}
	}
	t := q.track(flow.Launch{Reopen: &e, Arrived: arrived, Click: click}, linkDigest{}, q.now())
	q.mu.Unlock()
	q.arrived(t)
	return t
}

// again tries the last launch once more when it failed and may be retried. id
// is that of the launch that the person saw, empty for whichever is the last.
func (q *launches) again(id string, arrived flow.Person, click any) (*tracked, bool) {
	q.mu.Lock()
	last := q.last
	if last == nil || id != "" && last.id != id || !last.retryable() {
		q.mu.Unlock()
		return nil, false
	}
	l := last.launch
	// The launch keeps the person it arrived for: a retry is not a new arrival.
	l.Click = click
	if l.Arrived.Subject == "" {
		l.Arrived = arrived
	}
	t := q.track(l, last.digest, q.now())
	q.mu.Unlock()
	q.arrived(t)
	return t, true
}

// refused tracks a link that was refused before it became a launch, so that
// people see what became of their click and can retry it where that makes sense.
// It counts as a launch; beyond the limit it is too_many_links and not tracked.
func (q *launches) refused(r launch.Request, arrived flow.Person, click any, p *problem.Problem) (*tracked, error) {
	q.mu.Lock()
	now, digest := q.now(), digestOf(r)
	known := q.byLink[digest]
	if known != nil && !within(&q.returns, mostAgain, now) || known == nil && !within(&q.arrivals, mostLinks, now) {
		q.mu.Unlock()
		return nil, problem.New(problem.TooManyLinks, nil)
	}
	t := q.track(flow.Launch{Request: &r, Arrived: arrived, Click: click}, digest, now)
	q.queue = q.queue[:len(q.queue)-1]
	q.end(t, flow.Outcome{}, p, now)
	if known != nil && (!known.stage.Over() || known.stage == view.Opened) {
		q.byLink[digest] = known // what the link has become stays known
	}
	q.mu.Unlock()
	q.changed(t)
	return t, nil
}

// track makes a launch and queues it; the caller holds mu.
func (q *launches) track(l flow.Launch, digest linkDigest, now time.Time) *tracked {
	l.RequestID, l.At = q.newID(), now
	t := &tracked{id: l.RequestID, digest: digest, launch: l, startedAt: now, ms: make(map[view.Stage]int64)}
	t.reach(view.Received, now)
	if l.Reopen != nil {
		t.label = l.Reopen.Label
	}
	q.queue = append(q.queue, t)
	if q.running == nil {
		q.last = t
	}
	if digest != (linkDigest{}) {
		q.forget(now)
		q.byLink[digest] = t
	}
	return t
}

// forget drops links that ended long ago, and the oldest when there are too
// many; the caller holds mu.
func (q *launches) forget(now time.Time) {
	var oldest linkDigest
	var oldestEnd time.Time
	for d, t := range q.byLink {
		if !t.stage.Over() {
			continue
		}
		if now.Sub(t.endedAt) > rememberLinks {
			delete(q.byLink, d)
		} else if oldestEnd.IsZero() || t.endedAt.Before(oldestEnd) {
			oldest, oldestEnd = d, t.endedAt
		}
	}
	if len(q.byLink) >= mostRemembered && !oldestEnd.IsZero() {
		delete(q.byLink, oldest)
	}
}

func (q *launches) arrived(t *tracked) {
	q.changed(t)
	q.wake.ring()
}

// run takes launches one after another until ctx ends. step runs one launch.
func (q *launches) run(ctx context.Context, step func(context.Context, *tracked, func(view.Stage)) (flow.Outcome, error)) {
	for {
		t, launchCtx := q.next(ctx)
		if t == nil {
			select {
			case <-ctx.Done():
				return
			case <-q.wake:
				continue
			}
		}
		q.changed(t)
		outcome, err := step(launchCtx, t, func(s view.Stage) {
			q.mu.Lock()
			if s.Over() { // the end is told once, when all of it is true
				t.note(s, q.now())
				q.mu.Unlock()
				return
			}
			t.reach(s, q.now())
			q.mu.Unlock()
			q.changed(t)
		})
		q.mu.Lock()
		t.cancel()
		q.running = nil
		q.end(t, outcome, problem.Of(err), q.now())
		q.mu.Unlock()
		q.changed(t)
	}
}

// next makes the head of the queue the running launch.
func (q *launches) next(ctx context.Context) (*tracked, context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.queue) == 0 || ctx.Err() != nil {
		return nil, nil
	}
	t := q.queue[0]
	q.queue = append([]*tracked(nil), q.queue[1:]...)
	launchCtx, cancel := context.WithCancel(ctx)
	t.cancel = cancel
	q.running, q.last = t, t
	return t, launchCtx
}

// end records how a launch ended; the caller holds mu.
func (q *launches) end(t *tracked, o flow.Outcome, p *problem.Problem, now time.Time) {
	t.outcome, t.problem, t.endedAt = o, p, now
	switch {
	case p == nil:
		t.reach(view.Opened, now)
		t.label = o.Encounter.Label
	case p.Code == problem.Cancelled:
		t.reach(view.Cancelled, now)
	default:
		t.reach(view.Failed, now)
	}
	if q.running == nil {
		q.last = t
	}
	if t.unseen {
		q.drop(t)
	}
}

// drop forgets a launch; the caller holds mu.
func (q *launches) drop(t *tracked) {
	if q.last == t {
		q.last = nil
	}
	if q.byLink[t.digest] == t {
		delete(q.byLink, t.digest)
	}
}

// leaveNothing forgets every launch that has ended; with running also the one that
// runs: it goes on to its end, and nothing of it is seen any more. What links have
// spent stays spent.
func (q *launches) leaveNothing(running bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range q.byLink {
		if t.stage.Over() {
			q.drop(t)
		}
	}
	if q.last != nil && q.last.stage.Over() {
		q.last = nil
	}
	if running && q.running != nil {
		q.running.unseen = true
	}
}

// cancel ends the launch that is shown while it is under way: the running one,
// or the next where none runs yet. id is that of the launch that the person saw,
// empty for whichever it is. It returns the launch when it never ran, and whether
// there was one.
func (q *launches) cancel(id string) (waiting *tracked, found bool) {
	q.mu.Lock()
	if t := q.running; t != nil {
		defer q.mu.Unlock()
		if id != "" && t.id != id {
			return nil, false
		}
		t.cancel()
		return nil, true
	}
	if len(q.queue) == 0 || id != "" && q.queue[0].id != id {
		q.mu.Unlock()
		return nil, false
	}
	t := q.queue[0]
	q.queue = append([]*tracked(nil), q.queue[1:]...)
	q.end(t, flow.Outcome{}, problem.New(problem.Cancelled, nil), q.now())
	q.mu.Unlock()
	q.changed(t)
	return t, true
}

// cancelAll ends the running launch and every one that waits, and returns those
// that waited.
func (q *launches) cancelAll() []*tracked {
	q.mu.Lock()
	waiting := q.queue
	q.queue = nil
	now := q.now()
	for _, t := range waiting {
		q.end(t, flow.Outcome{}, problem.New(problem.Cancelled, nil), now)
	}
	if q.running != nil {
		q.running.cancel()
	}
	q.mu.Unlock()
	for _, t := range waiting {
		q.changed(t)
	}
	return waiting
}

// waiting reports whether a launch waits behind the running one.
func (q *launches) waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue) > 0
}

// stop ends the taking of links.
func (q *launches) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ending = true
}

// stopIfIdle ends the taking of links when nothing runs or waits, in one step,
// so that no link is taken that would never run. It reports whether it did.
func (q *launches) stopIfIdle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running == nil && len(q.queue) == 0 {
		q.ending = true
	}
	return q.ending
}

// idle reports whether nothing runs or waits.
func (q *launches) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running == nil && len(q.queue) == 0
}

// took returns after how many milliseconds each stage of a launch was reached, for the
// log: support reads from there where launches take long.
func (q *launches) took(t *tracked) map[view.Stage]int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(t.ms)
}

// look calls f with the launch to show (the running one, or the last), under
// the lock; f gets nil when there was none yet.
func (q *launches) look(f func(*tracked)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.last != nil && q.last.unseen {
		f(nil)
		return
	}
	f(q.last)
}
