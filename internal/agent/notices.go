package agent

import (
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// mostActions is how many buttons a notice has at most: what desktops have room
// for.
const mostActions = 3

// tell makes n the notice of the snapshot, where the person wants notices of its
// kind. Every notice goes through here.
func (a *Agent) tell(s *view.Snapshot, n view.Notice) {
	if !a.mayNotice(n.Kind) {
		return
	}
	n.ID = s.Revision + 1
	s.Notice = &n
}

// untell takes a notice of this kind away, where it is the newest.
func (a *Agent) untell(kind string) {
	a.board.change(func(s *view.Snapshot) {
		if s.Notice != nil && s.Notice.Kind == kind {
			s.Notice = nil
		}
	})
}

// problemNotice is the notice of a problem.
func (a *Agent) problemNotice(s *view.Snapshot, p *problem.Problem) view.Notice {
	n := view.Notice{Kind: view.NoticeProblem, Problem: a.describe(p)}
	l := s.Launch
	if l != nil && (l.Problem == nil || l.Problem.Reference != p.Reference) {
		l = nil
	}
	if l != nil {
		n.Launch = l.ID
	}
	n.Actions = problemActions(p.Code, l, s.HelpDeskURL != "", a.now())
	return n
}

// problemActions are what a person can do about a problem, the most useful first.
// l is the launch that it ended, or nil.
func problemActions(code problem.Code, l *view.Launch, helpDesk bool, now time.Time) []string {
	actions := []string{}
	switch {
	case code == problem.SigninNeeded || code == problem.Unauthorized:
		actions = append(actions, view.ActionSignIn)
	case l != nil && l.Retryable:
		actions = append(actions, view.ActionRetry)
	}
	if l != nil && l.FreshUntil != nil && now.Before(*l.FreshUntil) {
		actions = append(actions, view.ActionFreshLink)
	}
	if window := code != problem.WindowUnavailable; window {
		// The details are always a way on, so the help desk only has what room is left.
		if helpDesk && len(actions) < mostActions-1 {
			actions = append(actions, view.ActionHelpDesk)
		}
		return append(actions, view.ActionOpenWindow)
	}
	if helpDesk {
		actions = append(actions, view.ActionHelpDesk)
	}
	return actions
}
