package agent

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/secret"
	"encounterlauncher/internal/view"
)

// checkTime bounds one check; each room that is asked has its own, shorter bound.
const checkTime = 20 * time.Second

// checkNames are the checks in their order.
var checkNames = [...]string{view.CheckPolicy, view.CheckKeyring, view.CheckLink, view.CheckSignIn, view.CheckBackend}

// check begins a look at the set-up, or joins the one that goes on.
func (a *Agent) check() {
	begun := false
	a.board.change(func(s *view.Snapshot) {
		if s.Checkup != nil && s.Checkup.Running {
			return
		}
		begun = true
		s.Checkup = &view.Checkup{Running: true, StartedAt: a.now()}
		for _, name := range checkNames {
			s.Checkup.Checks = append(s.Checkup.Checks, view.Check{Name: name, State: view.CheckWaiting})
		}
	})
	if !begun {
		return
	}
	a.checks.ring() // one that was asked for before and forgotten becomes this one
}

// keepChecking makes the checks that were asked for until ctx ends.
func (a *Agent) keepChecking(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.checks:
			a.checkAll(ctx)
		}
	}
}

// checkAll makes one check after another and publishes each step. It changes nothing
// but what the rooms that it asks remember of their answers.
//
// Where the person leaves whose look it is, it is forgotten, and nothing that it still
// finds is shown.
func (a *Agent) checkAll(ctx context.Context) {
	look := a.board.read().Checkup
	if look == nil || !look.Running {
		return
	}
	r, refused := a.ready()
	for i, name := range checkNames {
		if (name == view.CheckSignIn || name == view.CheckBackend) && refused != nil {
			a.showCheck(look, i, view.Check{Name: name, State: view.CheckSkipped})
			continue
		}
		if !a.showCheck(look, i, view.Check{Name: name, State: view.CheckRunning}) {
			return
		}
		begun := time.Now()
		err := a.checkOne(ctx, name, r, refused)
		if ctx.Err() != nil {
			return // the agent ends, and what was cut short says nothing
		}
		done := view.Check{Name: name, State: view.CheckOK, MS: time.Since(begun).Milliseconds()}
		if p := problem.Of(err); p != nil {
			said := a.describe(p)
			done.State, done.Problem = view.CheckProblem, &said
			a.log.Log(ctx, p.Row().Level, "a check found a problem", "check", name, "problem", p)
		}
		a.showCheck(look, i, done)
	}
}

// showCheck publishes one check of a look, unless that is forgotten. The look is over
// with the last one.
func (a *Agent) showCheck(look *view.Checkup, i int, c view.Check) (shown bool) {
	a.board.change(func(s *view.Snapshot) {
		// Two looks do not begin at one moment: the first has to be forgotten before.
		if s.Checkup == nil || !s.Checkup.StartedAt.Equal(look.StartedAt) {
			return
		}
		next := *s.Checkup
		next.Checks = slices.Clone(next.Checks)
		next.Checks[i] = c
		next.Running = i+1 < len(next.Checks) || c.State == view.CheckRunning
		s.Checkup, shown = &next, true
	})
	return shown
}

func (a *Agent) checkOne(ctx context.Context, name string, r *rooms, refused error) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	switch name {
	case view.CheckPolicy:
		return refused
	case view.CheckKeyring:
		return a.store.Check(ctx)
	case view.CheckLink:
		return a.checkLink()
	case view.CheckSignIn:
		return r.id.client.Reach(ctx)
	default:
		return a.checkBackend(ctx, r)
	}
}

// checkLink finds out whether the links of the EHR come to this program. No code of
// the closed list is about that: internal is what the scheme room says when it
// cannot register, and its next step, the help desk with a reference, is the right
// one here.
func (a *Agent) checkLink() error {
	a.linksDirty.ring() // what was mended meanwhile is seen at once
	s, err := scheme.Look(a.opts.Layout)
	if err != nil {
		return err
	}
	handler, found := s.Effective()
	if !found {
		return problem.With(problem.Internal, "No program is registered for links from the EHR.", errors.New("the link scheme has no handler"))
	}
	program, err := os.Executable()
	if err != nil {
		return problem.New(problem.Internal, err)
	}
	program = scheme.ProgramFor(program)
	switch {
	case s.Reaches(program):
		return nil
	case len(handler.Faults) > 0 && (handler.Ours || scheme.SameProgram(handler.Program, program)):
		return problem.With(problem.Internal, "The registration for links from the EHR is not of the form that it needs.", errors.New("the registration of the link scheme has faults"))
	}
	return problem.With(problem.Internal, "Links from the EHR open with another program.", errors.New("the link scheme has another handler"))
}

// checkBackend asks the backend for whom it takes the person signed in, or where
// nobody is, whether it is there.
func (a *Agent) checkBackend(ctx context.Context, r *rooms) error {
	session, known := a.session.forCheck(r.id.binding)
	var err error
	if known {
		_, err = r.org.Me(ctx, session)
	} else {
		err = r.org.Reach(ctx)
	}
	a.backendMet(err)
	return err
}

// forCheck returns an access token where one can be had without a sign-in page and
// without the keyring, which may be locked and would ask the person.
func (s *session) forCheck(binding string) (secret.Text, bool) {
	s.mu.Lock()
	warm, ok := s.warm(secret.Text{}, binding)
	s.mu.Unlock()
	return warm.Token, ok
}
