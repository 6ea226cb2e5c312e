package agent

import (
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// sessionChanged publishes who is signed in.
func (a *Agent) sessionChanged() {
	s := a.session
	s.mu.Lock()
	seen := view.SignIn{State: view.SignedOut, MemoryOnly: s.inMemory}
	person, signing, failure, keyring := s.person, s.attempt != nil, s.failure, s.keyring
	s.mu.Unlock()
	switch {
	case signing:
		seen.State = view.SigningInNow
	case person.Subject != "":
		seen.State = view.SignedIn
		seen.Person = &view.Person{Subject: person.Subject, Email: person.Email}
	}
	before := a.board.read().SignIn.Person
	a.board.change(func(snap *view.Snapshot) {
		if failure != nil {
			p := a.describe(failure)
			seen.Problem = &p
		}
		snap.SignIn, snap.Keyring.Code = seen, keyring
	})
	if (before == nil) != (seen.Person == nil) || before != nil && *before != *seen.Person {
		a.showRecents()
	}
	a.wake()
}

// launchChanged publishes the launch to show, and a notice when it failed.
func (a *Agent) launchChanged(changed *tracked) {
	var failed *problem.Problem
	var opened bool
	a.launches.look(func(last *tracked) {
		var seen *view.Launch
		if last != nil {
			seen = last.seen(func(t *tracked) *view.Problem {
				p := a.describe(t.problem)
				return &p
			})
		}
		if changed != nil && changed.stage == view.Failed {
			failed = changed.problem
		}
		opened = changed != nil && changed.stage == view.Opened
		a.board.change(func(s *view.Snapshot) { s.Launch = seen })
	})
	switch {
	case failed != nil:
		a.notice(failed)
	case opened:
		a.board.change(func(s *view.Snapshot) { s.Notice = nil })
	}
}

// notice tells the person of a problem by a system notification.
func (a *Agent) notice(p *problem.Problem) {
	a.board.change(func(s *view.Snapshot) {
		n := &view.Notice{ID: s.Revision + 1, Problem: a.describe(p), Actions: []string{}}
		switch {
		case p.Code == problem.SigninNeeded || p.Code == problem.Unauthorized:
			n.Actions = append(n.Actions, view.ActionSignIn)
		case p.Row().Retryable && s.Launch != nil && s.Launch.Retryable:
			n.Actions = append(n.Actions, view.ActionRetry)
		}
		n.Actions = append(n.Actions, view.ActionOpenWindow)
		s.Notice = n
	})
}

// showRecents publishes the recents of the person signed in.
func (a *Agent) showRecents() {
	list := a.recents.visible(a.session.who())
	a.board.change(func(s *view.Snapshot) { s.Recents = list })
}

func personName(p flow.Person) string {
	if p.Email != "" {
		return p.Email
	}
	return p.Subject
}
