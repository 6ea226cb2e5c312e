package cli_test

import (
	"context"
	"sync"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// stage is an agent that acts by a script, behind the real control channel: it
// shows what it is told to and remembers what it hears.
type stage struct {
	layout  paths.Layout
	running bool
	end     context.CancelFunc

	mu        sync.Mutex
	current   view.Snapshot               // guarded by mu
	watchers  map[chan view.Snapshot]bool // guarded by mu
	reactions map[string]reaction         // guarded by mu
	heard     []string                    // guarded by mu
}

// reaction is what becomes of an intent.
type reaction struct {
	refuse *problem.Problem
	shows  []view.Snapshot
}

func (s *stage) show(next view.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.showLocked(next)
}

func (s *stage) showLocked(next view.Snapshot) {
	next.Revision = s.current.Revision + 1
	s.current = next
	for w := range s.watchers {
		w <- next
	}
}

func (s *stage) Snapshot() view.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *stage) Watch(ctx context.Context) <-chan view.Snapshot {
	w := make(chan view.Snapshot, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers == nil {
		s.watchers = map[chan view.Snapshot]bool{}
	}
	w <- s.current
	s.watchers[w] = true
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
		close(w)
	})
	return w
}

func (s *stage) Do(_ context.Context, i control.Intent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := i.Name
	if i.ID != "" {
		name += ":" + i.ID
	}
	if i.Key != "" {
		name += ":" + i.Key + "=" + i.Value
	}
	if i.Last {
		name += ":last"
	}
	if i.All {
		name += ":all"
	}
	s.heard = append(s.heard, name)
	r := s.reactions[i.Name]
	if r.refuse != nil {
		return r.refuse
	}
	for _, next := range r.shows {
		s.showLocked(next)
	}
	if i.Name == control.Quit {
		s.end()
	}
	return nil
}

func (s *stage) Link(context.Context, intake.Candidate, control.Activation) (string, error) {
	return "", problem.New(problem.Internal, nil)
}

func (s *stage) Refused(context.Context, problem.Code, string) {}

func (s *stage) Describe(p *problem.Problem) view.Problem {
	return view.Problem{Code: p.Code, Sentence: p.Error(), NextStep: p.Row().NextStep, Reference: p.Reference}
}

func (s *stage) Policy(context.Context) ([]byte, error) { return []byte("{}"), nil }
