package agent

import (
	"context"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/notify"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/recents"
	"encounterlauncher/internal/view"
)

// viewDo is how tray, notices and window send an intent.
type viewDo struct{ agent *Agent }

// Do implements tray.Intents and notify.Intents.
func (v viewDo) Do(ctx context.Context, name, id string) error {
	return v.agent.Do(ctx, control.Intent{Name: name, ID: id, Activation: control.Activation{Token: notify.Token(ctx)}})
}

// Do implements control.Intents: it starts what the person asked for and does
// not wait for a launch or a sign-in to end.
func (a *Agent) Do(ctx context.Context, i control.Intent) error {
	a.wasUsed()
	switch i.Name {
	case control.SignIn:
		return a.signIn(i.Activation)
	case control.SignOut:
		return a.signOut(ctx, i.All)
	case control.OpenRecent:
		return a.openRecent(ctx, i)
	case control.Cancel:
		waiting, found := a.launches.cancel(i.ID)
		if waiting != nil {
			a.neverRan(waiting)
		}
		if i.ID == "" && a.session.cancelSignIn() {
			found = true
		}
		if !found {
			return problem.With(problem.RequestInvalid, "Nothing is running that could be cancelled.", errNothingToDo)
		}
		return nil
	case control.Retry:
		if _, ok := a.launches.again(i.ID, a.session.who(), i.Activation); !ok {
			return problem.With(problem.RequestInvalid, "There is no failed launch that can be tried again.", errNothingToDo)
		}
		return nil
	case control.FreshLink:
		return a.freshLink(i)
	case control.ShowSignIn:
		return a.showSignIn(ctx, i.Activation)
	case control.OpenHelpDesk:
		return a.openHelpDesk(ctx, i.Activation)
	case control.Choose:
		return a.choose(i.Key, i.Value)
	case control.Check:
		a.check()
		return nil
	case control.OpenWindow:
		return a.openWindow(i.Activation)
	case control.Quit:
		// The answer goes out first: Close waits for it.
		a.quit()
		return nil
	default:
		return problem.New(problem.RequestInvalid, errNothingToDo)
	}
}

func (a *Agent) signIn(click control.Activation) error {
	if _, err := a.ready(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.signing {
		return nil // that intent waits for the page already
	}
	if err := a.work.begin(); err != nil {
		return err
	}
	a.signing = true
	go func() {
		defer a.work.end()
		_, err := a.session.signIn(context.Background(), wish{arrived: a.now(), click: click})
		a.mu.Lock()
		a.signing = false
		a.mu.Unlock()
		if err == nil {
			return // the session has told the audit
		}
		p := problem.Of(err)
		a.log.Log(context.Background(), p.Row().Level, "sign-in ended", "problem", p)
		a.audit.note(audit.Record{Outcome: p.Row().Audit, Code: p.Code, Reference: p.Reference})
		if n := a.board.read().Notice; p.Code != problem.SigninCancelled && (n == nil || n.Problem.Reference != p.Reference) {
			a.notice(p)
		}
	}()
	return nil
}

// signedIn records a sign-in, whoever asked for it.
func (a *Agent) signedIn(who flow.Person) {
	a.audit.note(audit.Record{Outcome: audit.SignedIn, Person: personName(who)})
}

func (a *Agent) signOut(ctx context.Context, all bool) error {
	ctx = context.WithoutCancel(ctx) // half a sign-out is none
	who := a.session.who()
	a.cancelLaunches()
	err := a.session.signOut(ctx)
	if err == nil {
		err = mend(ctx, a.store)
	}
	if all {
		a.recents.wipe(ctx)
		if wipeErr := recents.WipeAll(a.opts.Layout.RecentsDir()); wipeErr != nil && err == nil {
			err = problem.New(problem.Internal, wipeErr)
		}
	}
	record := audit.Record{Outcome: audit.SignedOut, Person: personName(who)}
	if err != nil {
		p := problem.Of(err)
		record.Code, record.Reference = p.Code, p.Reference
	}
	a.audit.note(record)
	return err
}

func (a *Agent) openRecent(ctx context.Context, i control.Intent) error {
	who := a.session.who()
	if who.Subject == "" {
		return problem.New(problem.SigninNeeded, nil)
	}
	encounter, found, err := a.recents.find(ctx, who, i.ID, i.Last)
	if err != nil {
		return err
	}
	if !found {
		return problem.New(problem.EncounterUnknown, nil)
	}
	a.launches.reopen(encounter, who, i.Activation)
	return nil
}

// openWindow starts the window and returns when it is up or cannot be, or brings
// the open one to the front.
func (a *Agent) openWindow(activation control.Activation) error {
	a.mu.Lock()
	up := a.windowUp
	a.windowUp = true
	a.mu.Unlock()
	if up {
		a.board.change(func(s *view.Snapshot) { s.RaiseWindow++ })
		return nil
	}
	ended, err := a.opts.Window(a.windowLife, activation)
	if err != nil {
		return a.windowEnded(err)
	}
	go func() { _ = a.windowEnded(<-ended) }()
	return nil
}

// windowEnded notes that no window is open any more, and tells the person where
// that is not the person's own doing.
func (a *Agent) windowEnded(err error) error {
	a.mu.Lock()
	a.windowUp = false
	a.mu.Unlock()
	a.wasUsed() // an open window has kept the agent at work
	if err == nil {
		return nil
	}
	p := problem.New(problem.WindowUnavailable, err)
	a.log.Warn("the window ended with an error", "problem", p)
	a.notice(p)
	return p
}
