package agent

import (
	"context"
	"errors"
	"time"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/notify"
	"encounterlauncher/internal/problem"
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
	a.guard.use()
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
		a.examineComputer()
		return nil
	case control.RemoveRecent:
		return a.removeRecents(ctx, i.ID, false)
	case control.ClearRecents:
		return a.removeRecents(ctx, "", true)
	case control.UndoRemove:
		return a.undoRemove(ctx)
	case control.OpenWindow:
		return a.openWindow(i.Activation)
	case control.Quit:
		// The answer goes out first: Close waits for it.
		if i.Finish {
			a.ending.ring()
		} else {
			a.quit()
		}
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

// signOut does what a person, or with all a script for a badge that has left, asks
// for. What can be seen of the person is gone before keyring and network are asked:
// on a shared computer somebody else may be signed in before they have answered.
func (a *Agent) signOut(ctx context.Context, all bool) error {
	if err := a.work.begin(); err != nil {
		return err
	}
	defer a.work.end()
	ctx = context.WithoutCancel(ctx) // half a sign-out is none
	shared := a.rules().shared
	a.cancelLaunches()
	left := a.session.depart(a.session.end)
	var wiped error
	if shared || all {
		a.cancelLaunches() // what came in between
		wiped = a.leaveNothing(ctx)
	}
	if all {
		a.closeWindow() // what was typed into it goes too
	}
	a.endIssuersSession(left)
	err := a.finishSignOut(ctx, left)
	if err == nil && !shared {
		err = mend(ctx, a.store)
	}
	if err == nil && all {
		err = wiped
	}
	record := audit.Record{Outcome: audit.SignedOut, Person: personName(left.person)}
	if err != nil {
		p := problem.Of(err)
		record.Code, record.Reference = p.Code, p.Reference
	}
	a.audit.note(record)
	return err
}

func (a *Agent) finishSignOut(ctx context.Context, left departed) error {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	return a.session.finish(ctx, left, false)
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

// windowRun is one life of the window's process.
type windowRun struct {
	life context.Context
	end  context.CancelFunc
	gone chan struct{} // closed when the process has ended
}

// openWindow starts the window and returns when it is up or cannot be, or brings
// the open one to the front.
func (a *Agent) openWindow(activation control.Activation) error {
	a.mu.Lock()
	if w := a.window; w != nil && w.life.Err() == nil {
		a.mu.Unlock()
		a.board.change(func(s *view.Snapshot) { s.RaiseWindow++ })
		return nil
	}
	w := &windowRun{gone: make(chan struct{})}
	w.life, w.end = context.WithCancel(a.windowLife)
	a.window = w
	a.mu.Unlock()
	ended, err := a.opts.Window(w.life, activation)
	if err != nil {
		return a.windowEnded(w, err)
	}
	go func() { _ = a.windowEnded(w, <-ended) }()
	return nil
}

// windowOpen reports whether a window is open.
func (a *Agent) windowOpen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.window != nil && a.window.life.Err() == nil
}

// closeWindow ends the window's process, if there is one.
func (a *Agent) closeWindow() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.window != nil {
		a.window.end()
	}
}

// leavesWindow reports whether the window stays when the agent ends with err. The next
// agent does not know of it, so it goes where a sign-out by policy has to close it.
func (a *Agent) leavesWindow(err error) bool {
	r := a.rules()
	return errors.Is(err, ErrUpgraded) && !r.shared && !r.onLock && r.idle == 0
}

// windowGone waits, for a moment at most, until a window that was told to end has
// ended.
func (a *Agent) windowGone() {
	a.mu.Lock()
	w := a.window
	a.mu.Unlock()
	if w == nil {
		return
	}
	select {
	case <-w.gone:
	case <-time.After(time.Second):
	}
}

// windowEnded notes that a window is not open any more, and tells the person where
// that is neither the person's doing nor ours.
func (a *Agent) windowEnded(w *windowRun, err error) error {
	closed := w.life.Err() != nil
	w.end()
	close(w.gone)
	a.mu.Lock()
	if a.window == w {
		a.window = nil
	}
	a.mu.Unlock()
	a.wasUsed() // an open window has kept the agent at work
	if err == nil || closed {
		return nil
	}
	p := problem.New(problem.WindowUnavailable, err)
	a.log.Warn("the window ended with an error", "problem", p)
	a.notice(p)
	return p
}
