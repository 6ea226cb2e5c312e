package agent

import (
	"context"

	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// sessionChanged publishes who is signed in.
func (a *Agent) sessionChanged() {
	another := false
	// The session is read inside, so that the newest state is published last.
	a.board.change(func(snap *view.Snapshot) {
		s := a.session
		s.mu.Lock()
		seen := view.SignIn{State: view.SignedOut, MemoryOnly: s.inMemory}
		person, signing, failure, keyring := s.person, s.attempt != nil && !s.attempt.closing, s.failure, s.keyring
		if signing && s.attempt.shown != nil {
			since := s.attempt.shown.since
			seen.PageSince, seen.PageOpen = &since, true
		}
		if ends := s.endsAt(); !ends.IsZero() {
			seen.EndsAt = &ends
		}
		s.mu.Unlock()
		switch {
		case signing:
			seen.State = view.SigningInNow
		case person.Subject != "":
			seen.State = view.SignedIn
			seen.Person = &view.Person{Subject: person.Subject, Email: person.Email}
			snap.FirstRun = false
		}
		if failure != nil {
			p := a.describe(failure)
			seen.Problem = &p
		}
		snap.SignIn, snap.Keyring.Code = seen, keyring
		if another = person != a.shownFor; another {
			if a.shownFor.Subject != "" {
				snap.Checkup = nil // it says what came of asking the backend for that person
			}
			// One person's recents and patients are never shown beside another's name, and
			// reading the file can wait until the click is served.
			a.shownFor, snap.Recents, snap.Undo = person, []view.Recent{}, nil
			snap.Launch = forAnother(snap.Launch)
		}
	})
	if another {
		a.forgetRemoved()
		a.recentsChanged()
		a.launchChanged(nil) // a fresh link is for who opened it
		if a.session.who().Subject != "" {
			a.notFirst()
		}
	}
	a.eventsChanged()
	a.wake()
	a.guard.look()
	a.wasUsed() // a renewed sign-in has brought back what nothing else needs
}

// launchChanged publishes the launch to show, and a notice when it failed.
func (a *Agent) launchChanged(changed *tracked) {
	var failed *problem.Problem
	var opened, over bool
	a.launches.look(func(last *tracked) {
		var seen *view.Launch
		if last != nil {
			seen = last.seen(func(t *tracked) *view.Problem {
				p := a.describe(t.problem)
				return &p
			})
			seen.Label = labelFor(a.recents.labelPolicy(), seen.Label) // it may have got stricter
			who := a.session.who()                                     // under the lock, so that the newest is published last
			if !last.person().Same(who) {
				seen = forAnother(seen)
			}
			if until := last.freshUntil(who, a.now()); !until.IsZero() {
				seen.FreshUntil = &until
			}
		}
		if changed != nil && changed.stage == view.Failed && !changed.unseen {
			failed = changed.problem
		}
		opened = changed != nil && changed.stage == view.Opened && !changed.unseen
		over = changed != nil && changed.stage.Over()
		a.board.change(func(s *view.Snapshot) {
			s.Launch = seen
			dropSlow(s, last)
		})
		a.watchSlow(last)
	})
	if over {
		a.finished.ring()
		a.eventsChanged() // they have waited for the end of the launch
	}
	switch {
	case failed != nil:
		a.notice(failed)
	case opened:
		a.board.change(func(s *view.Snapshot) { s.Notice = nil })
	}
}

// notice tells the person of a problem by a system notification.
func (a *Agent) notice(p *problem.Problem) {
	a.board.change(func(s *view.Snapshot) { a.tell(s, a.problemNotice(s, p)) })
}

// recentsChanged has the recents published soon; it does no I/O.
func (a *Agent) recentsChanged() {
	a.recentsDirty.ring()
}

// keepRecents publishes the recents after every recentsChanged until ctx ends.
func (a *Agent) keepRecents(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.recentsDirty:
			a.showRecents()
		}
	}
}

// showRecents publishes the recents of the person signed in. It reads a file and
// may ask the keyring.
func (a *Agent) showRecents() {
	a.showing.Lock() // what was read first is published first
	defer a.showing.Unlock()
	person := a.session.who()
	list := a.recents.visible(person)
	a.board.change(func(s *view.Snapshot) {
		if person == a.shownFor {
			s.Recents = list
		}
	})
}

// showPolicy publishes whether policy is in force, and what is wrong with it.
func (a *Agent) showPolicy() {
	a.board.change(func(s *view.Snapshot) {
		a.mu.Lock()
		r := a.rooms
		a.mu.Unlock()
		if r == nil {
			return
		}
		problems := []string{}
		for _, f := range r.policy.Findings {
			problems = append(problems, f.Sentence)
		}
		if r.refuse != nil && len(problems) == 0 {
			problems = append(problems, problem.Of(r.refuse).Error())
		}
		if finding := a.audit.finding(); finding != "" {
			problems = append(problems, finding)
		}
		problems = append(problems, a.guard.findings()...)
		s.Policy = view.Policy{OK: len(problems) == 0, Problems: problems, RefusesLaunches: r.refuse != nil}
	})
}

func personName(p flow.Person) string {
	if p.Email != "" {
		return p.Email
	}
	return p.Subject
}
