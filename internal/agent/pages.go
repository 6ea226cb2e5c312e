package agent

import (
	"context"
	"net/url"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
	"encounterlauncher/internal/signin"
)

// openTime bounds the wait for the browser of a page that a person asked for.
const openTime = 4 * time.Second

// shown keeps the sign-in page that waits in the browser, so that it can be shown
// again: with its state, nonce and challenge it is still the one that is answered.
type shown struct {
	page  signin.Page
	since time.Time
}

// pageShown notes that the page of an attempt is open.
func (s *session) pageShown(a *attempt, page signin.Page) {
	s.mu.Lock()
	if s.attempt == a && !a.closing && !a.answered {
		a.shown = &shown{page: page, since: s.now()}
	}
	s.mu.Unlock()
	s.changed()
}

// pageGone forgets the address of a page that was answered or is not wanted any more.
func (s *session) pageGone(a *attempt) {
	s.mu.Lock()
	a.shown, a.answered = nil, true
	s.mu.Unlock()
}

// showPage opens the page that waits once more, with the click that asked for it. It
// is request_invalid when none waits, and browser_unavailable when none opens.
func (s *session) showPage(ctx context.Context, click any) error {
	s.mu.Lock()
	id, a := s.id, s.attempt
	if id == nil || a == nil || a.closing || a.shown == nil || a.binding != id.binding {
		s.mu.Unlock()
		return problem.With(problem.RequestInvalid, "No sign-in page is waiting in the browser.", errNothingToDo)
	}
	page := a.shown.page
	s.mu.Unlock()
	return id.show(ctx, page, click)
}

// showSignIn opens the sign-in page again that is waiting in the browser.
func (a *Agent) showSignIn(ctx context.Context, click control.Activation) error {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	return a.session.showPage(ctx, click)
}

// openHelpDesk opens exactly the policy's HelpDeskURL. A policy that refuses
// launches keeps nobody from asking for help.
func (a *Agent) openHelpDesk(ctx context.Context, click control.Activation) error {
	a.mu.Lock()
	address := ""
	if a.rooms != nil {
		address = a.rooms.policy.HelpDeskURL
	}
	a.mu.Unlock()
	if address == "" {
		return problem.With(problem.RequestInvalid, "Your organisation has not named a help desk page.", errNothingToDo)
	}
	u, err := url.Parse(address)
	if err != nil {
		return problem.New(problem.AddressNotAllowed, errNothingToDo)
	}
	target, err := launch.Addresses{Hosts: []string{u.Hostname()}, AnyPort: true}.Check(secret.New(address))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	return openerOf{a.opener}.Open(ctx, target, click)
}
