package agent

import (
	"context"
	"sync"
	"time"

	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/recents"
	"encounterlauncher/internal/view"
)

// undoTime is how long what was removed from the recents can be brought back.
const undoTime = 30 * time.Second

// undo is what was removed last. It is in memory only: on disk it is gone at once.
type undo struct {
	doing sync.Mutex // held by one removal or its undoing, to its end

	mu      sync.Mutex
	who     flow.Person     // guarded by mu
	entries []recents.Entry // guarded by mu; empty when there is nothing
	until   time.Time       // guarded by mu
}

// removeRecents takes one entry out of the recents, or with all every one of the
// person. Problems: signin_needed, encounter_unknown for an entry that is not
// there.
func (a *Agent) removeRecents(ctx context.Context, id string, all bool) error {
	who := a.session.who()
	if who.Subject == "" {
		return problem.New(problem.SigninNeeded, nil)
	}
	a.undo.doing.Lock()
	defer a.undo.doing.Unlock()
	removed, err := a.recents.remove(ctx, who, id, all)
	if err != nil {
		return err
	}
	if len(removed) == 0 && !all {
		return problem.New(problem.EncounterUnknown, nil)
	}
	a.undo.mu.Lock()
	a.undo.who, a.undo.entries, a.undo.until = who, removed, a.now().Add(undoTime)
	a.undo.mu.Unlock()
	a.showRecents()
	a.showUndo()
	return nil
}

// undoRemove brings back what was removed last. request_invalid when there is
// nothing, or not any more.
func (a *Agent) undoRemove(ctx context.Context) error {
	who := a.session.who()
	if who.Subject == "" {
		return problem.New(problem.SigninNeeded, nil)
	}
	a.undo.doing.Lock()
	defer a.undo.doing.Unlock()
	a.undo.mu.Lock()
	entries := a.undo.entries
	if a.undo.who != who || !a.now().Before(a.undo.until) {
		entries = nil
	}
	a.undo.mu.Unlock()
	if len(entries) == 0 {
		return problem.With(problem.RequestInvalid, "There is nothing to bring back any more.", errNothingToDo)
	}
	if err := a.recents.restore(ctx, who, entries); err != nil {
		return err
	}
	a.forgetRemoved()
	a.showRecents()
	return nil
}

// forgetRemoved makes a removal final. It does no I/O.
func (a *Agent) forgetRemoved() {
	a.undo.mu.Lock()
	had := len(a.undo.entries) > 0
	a.undo.who, a.undo.entries, a.undo.until = flow.Person{}, nil, time.Time{}
	a.undo.mu.Unlock()
	if had {
		a.showUndo()
	}
}

// showUndo publishes what can be brought back, and forgets what cannot any more.
func (a *Agent) showUndo() {
	a.board.change(func(s *view.Snapshot) {
		a.undo.mu.Lock()
		defer a.undo.mu.Unlock()
		s.Undo = nil
		if u := &a.undo; len(u.entries) > 0 && u.who == a.shownFor && a.now().Before(u.until) {
			s.Undo = &view.Undo{Removed: len(u.entries), Until: u.until}
		} else {
			u.who, u.entries, u.until = flow.Person{}, nil, time.Time{}
		}
	})
}

func (r *recentsOf) remove(ctx context.Context, p flow.Person, id string, all bool) (removed []recents.Entry, err error) {
	err = r.use(ctx, p, func(ctx context.Context, l *recents.List) error {
		if all {
			removed, err = l.RemoveAll(ctx)
			return err
		}
		e, found, err := l.Remove(ctx, id)
		if found {
			removed = []recents.Entry{e}
		}
		return err
	})
	return removed, err
}

func (r *recentsOf) restore(ctx context.Context, p flow.Person, entries []recents.Entry) error {
	return r.use(ctx, p, func(ctx context.Context, l *recents.List) error { return l.Restore(ctx, entries) })
}

func (r *recentsOf) setStatus(ctx context.Context, p flow.Person, encounterID, providerID, status string) (changed bool, err error) {
	err = r.use(ctx, p, func(ctx context.Context, l *recents.List) error {
		changed, err = l.SetStatus(ctx, encounterID, providerID, status)
		return err
	})
	return changed, err
}
