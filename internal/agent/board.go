package agent

import (
	"context"
	"maps"
	"sync"

	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/view"
)

// board holds the one snapshot that everybody sees and tells those who watch.
// Slices, maps and pointers of a published snapshot are never written again:
// a change replaces them.
type board struct {
	mu       sync.Mutex
	current  view.Snapshot               // guarded by mu
	watchers map[chan view.Snapshot]bool // guarded by mu
}

func newBoard(first view.Snapshot) *board {
	first.Revision = 1
	return &board{current: first, watchers: make(map[chan view.Snapshot]bool)}
}

// read returns the newest snapshot.
func (b *board) read() view.Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current
}

// change edits a copy of the snapshot and publishes it.
func (b *board) change(edit func(*view.Snapshot)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := b.current
	edit(&next)
	next.Revision++
	b.current = next
	for w := range b.watchers {
		// A watcher holds at most the newest: who is slow skips what is old.
		select {
		case <-w:
		default:
		}
		w <- next
	}
}

// watch returns a channel with the newest snapshot at once and after every
// change, until ctx ends; then the channel is closed.
func (b *board) watch(ctx context.Context) <-chan view.Snapshot {
	w := make(chan view.Snapshot, 1)
	b.mu.Lock()
	w <- b.current
	b.watchers[w] = true
	b.mu.Unlock()
	context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watchers, w)
		close(w)
	})
	return w
}

// forAnother is a launch as anybody but the person that it was for sees it: without
// the patient.
func forAnother(l *view.Launch) *view.Launch {
	if l == nil {
		return nil
	}
	bare := *l
	bare.Label, bare.RecentID, bare.FreshUntil = "", "", nil
	return &bare
}

// person is whom a launch was for: who got its token, else who clicked; the caller
// holds the lock of launches.
func (t *tracked) person() flow.Person {
	if t.outcome.Person.Subject != "" {
		return t.outcome.Person
	}
	return t.launch.Arrived
}

// seen is the visible form of a tracked launch; it shares nothing with it.
func (t *tracked) seen(say func(*tracked) *view.Problem) *view.Launch {
	l := &view.Launch{
		ID: t.id, Stage: t.stage, StartedAt: t.startedAt, MS: maps.Clone(t.ms),
		Reopen: t.launch.Reopen != nil, Label: t.label, RecentID: t.outcome.RecentID,
	}
	if t.problem != nil {
		l.Problem = say(t)
		l.Retryable = t.retryable()
	}
	return l
}
