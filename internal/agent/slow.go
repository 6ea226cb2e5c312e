package agent

import (
	"sync"
	"time"

	"encounterlauncher/internal/view"
)

// slowAfter is how long a launch may take before the person, who has no window to
// look at, is told that it goes on.
const slowAfter = 1500 * time.Millisecond

// slowWatch waits until the launch that is shown takes long. It is safe for concurrent
// use.
type slowWatch struct {
	// after is time.AfterFunc, but for tests.
	after func(d time.Duration, tell func()) (stop func() bool)

	mu   sync.Mutex
	id   string      // guarded by mu: the launch that is waited for; empty for none
	stop func() bool // guarded by mu; nil when id is empty
}

func newSlowWatch() *slowWatch {
	return &slowWatch{after: func(d time.Duration, tell func()) func() bool { return time.AfterFunc(d, tell).Stop }}
}

// watch waits for this launch alone, and for none when id is empty. tell is called
// once, without the lock, when due has passed and nothing else is waited for.
func (w *slowWatch) watch(id string, due time.Duration, tell func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id == w.id {
		return
	}
	if w.stop != nil {
		w.stop()
	}
	w.id, w.stop = id, nil
	if id != "" {
		w.stop = w.after(due, tell)
	}
}

// underWay says that a launch goes on and waits for no person. The caller holds
// launches.mu.
func (t *tracked) underWay() bool {
	return t != nil && !t.stage.Over() && t.stage != view.SigningIn
}

// watchSlow sees to it that the person is told when the launch that is shown takes
// long. The caller holds launches.mu.
func (a *Agent) watchSlow(last *tracked) {
	id, due := "", slowAfter
	if last.underWay() {
		id = last.id
		// The time in which the person signed in is not the launch's.
		if _, waited := last.ms[view.SigningIn]; !waited {
			due = min(max(slowAfter-a.now().Sub(last.startedAt), 0), slowAfter)
		}
	}
	a.slow.watch(id, due, func() { a.tellSlow(id) })
}

// tellSlow tells of a launch that takes long, if it still does and no window shows
// it.
func (a *Agent) tellSlow(id string) {
	if a.windowOpen() {
		return
	}
	a.launches.look(func(last *tracked) {
		if !last.underWay() || last.id != id {
			return
		}
		a.board.change(func(s *view.Snapshot) {
			a.tell(s, view.Notice{Kind: view.NoticeSlow, Launch: id, Actions: []string{view.ActionCancel, view.ActionOpenWindow}})
		})
	})
}

// dropSlow takes the notice of a slow launch away once that launch has ended or
// waits for the person. The caller holds launches.mu.
func dropSlow(s *view.Snapshot, last *tracked) {
	if n := s.Notice; n != nil && n.Kind == view.NoticeSlow && (!last.underWay() || last.id != n.Launch) {
		s.Notice = nil
	}
}
