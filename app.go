package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// The events between the window and its page. frontend/src/bridge/wails.ts is
// the other end.
const (
	// eventSnapshot carries a view.Snapshot.
	eventSnapshot = "snapshot"
	// eventAgent carries agentReachable or agentGone.
	eventAgent = "agent"

	// eventPainted comes from the page, once: its first snapshot has been painted.
	eventPainted = "painted"

	agentReachable = "reachable"
	agentGone      = "agent_unreachable"
)

const (
	// maxID bounds the id of a recent entry and of a launch, in bytes. The agent's
	// own ids are shorter.
	maxID = 128
	// intentTime bounds one intent, as the control channel does. The agent answers as
	// soon as it has taken the intent on, and what becomes of it is told by the
	// snapshots; only a sign-out tells the issuer first.
	intentTime = 20 * time.Second
	// firstPause and longestPause bound the wait between two tries to reach the
	// agent. An agent that replaces itself after an upgrade is back within the
	// first tries, so the page is told only after goneAfter of them.
	firstPause   = 250 * time.Millisecond
	longestPause = 2 * time.Second
	goneAfter    = 4
)

// App is what the window's page can call: it asks the agent for what is to be
// seen and passes on what the person wants. It decides nothing and keeps nothing
// but the snapshot that was seen last.
type App struct {
	version  string
	language string
	agent    agentLink
	pause    func(ctx context.Context, d time.Duration) error
	emit     func(event string, data any)
	raise    func()

	mu sync.Mutex
	// last is the newest snapshot; seen says that there is one. Both under mu.
	last view.Snapshot
	seen bool
}

// About is what the page says about the program itself.
type About struct {
	// Version of the window, which is the program's.
	Version string `json:"version"`
	// Language for the time before the first snapshot; empty for English.
	Language string `json:"language"`
}

// newApp returns an App that tells the page by emit and brings the window to the
// front by raise. Neither is called before follow.
func newApp(deps windowDeps, emit func(event string, data any), raise func()) *App {
	return &App{version: deps.Version, language: deps.Language, agent: deps.Agent, pause: pause, emit: emit, raise: raise}
}

// About returns what is known about the program itself. It asks nobody.
func (a *App) About() About { return About{Version: a.version, Language: a.language} }

// Snapshot returns the newest snapshot, or agent_unreachable when none came yet
// and the agent does not answer.
func (a *App) Snapshot() (view.Snapshot, error) { return a.newest() }

// SignIn asks for the sign-in page to be opened in the browser.
func (a *App) SignIn() error { return a.do(control.Intent{Name: control.SignIn}) }

// ShowSignIn asks for the waiting sign-in page to be opened once more.
func (a *App) ShowSignIn() error { return a.do(control.Intent{Name: control.ShowSignIn}) }

// SignOut asks for the end of the sign-in.
func (a *App) SignOut() error { return a.do(control.Intent{Name: control.SignOut}) }

// OpenRecent asks for the recent encounter with this id through a fresh address.
// It refuses an id that cannot be one of the agent's.
func (a *App) OpenRecent(id string) error { return a.doRecent(control.OpenRecent, id) }

// RemoveRecent asks for this entry to be taken out of the recents. It refuses an
// id that cannot be one of the agent's.
func (a *App) RemoveRecent(id string) error { return a.doRecent(control.RemoveRecent, id) }

// ClearRecents asks for all recents of the person to be removed.
func (a *App) ClearRecents() error { return a.do(control.Intent{Name: control.ClearRecents}) }

// UndoRemove asks for what was removed last to be brought back.
func (a *App) UndoRemove() error { return a.do(control.Intent{Name: control.UndoRemove}) }

// Cancel asks for the end of the launch that the person sees, and with an empty
// id for the end of whatever runs, a sign-in included.
func (a *App) Cancel(launch string) error { return a.doLaunch(control.Cancel, launch) }

// Retry asks for another try of the failed launch that the person sees.
func (a *App) Retry(launch string) error { return a.doLaunch(control.Retry, launch) }

// FreshLink asks for the encounter of the launch that the person sees through a
// fresh address.
func (a *App) FreshLink(launch string) error { return a.doLaunch(control.FreshLink, launch) }

// Choose asks for a choice of the person to be kept; an empty value takes it
// back.
func (a *App) Choose(key, value string) error {
	return a.do(control.Intent{Name: control.Choose, Key: key, Value: value})
}

// Check asks for a look at the set-up; the snapshots tell what it finds.
func (a *App) Check() error { return a.do(control.Intent{Name: control.Check}) }

// OpenHelpDesk asks for the organisation's help desk page in the browser.
func (a *App) OpenHelpDesk() error { return a.do(control.Intent{Name: control.OpenHelpDesk}) }

// Quit asks the agent to end. The next link from the EHR starts it again.
func (a *App) Quit() error { return a.do(control.Intent{Name: control.Quit}) }

func (a *App) newest() (view.Snapshot, error) {
	a.mu.Lock()
	last, seen := a.last, a.seen
	a.mu.Unlock()
	if seen {
		return last, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), intentTime)
	defer cancel()
	s, err := a.agent.Snapshot(ctx)
	if err != nil {
		return view.Snapshot{}, asProblem(err)
	}
	return s, nil
}

func (a *App) doRecent(name, id string) error {
	if !validID(id) {
		return problem.New(problem.RequestInvalid, errors.New("the page asked for a recent entry by an id that cannot be one"))
	}
	return a.do(control.Intent{Name: name, ID: id})
}

func (a *App) doLaunch(name, id string) error {
	if id != "" && !validID(id) {
		return problem.New(problem.RequestInvalid, errors.New("the page asked for a launch by an id that cannot be one"))
	}
	return a.do(control.Intent{Name: name, ID: id})
}

func (a *App) do(i control.Intent) error {
	ctx, cancel := context.WithTimeout(context.Background(), intentTime)
	defer cancel()
	if err := a.agent.Do(ctx, i); err != nil {
		return asProblem(err)
	}
	return nil
}

// follow tells the page about every snapshot until ctx ends, and about the agent
// being gone and back again. It never gives up.
func (a *App) follow(ctx context.Context) {
	failures := 0
	for {
		_ = a.agent.Watch(ctx, func(s view.Snapshot) error {
			failures = 0
			a.saw(s)
			return nil
		})
		failures++
		if failures == goneAfter {
			a.emit(eventAgent, agentGone)
		}
		if a.pause(ctx, min(firstPause<<min(failures-1, 8), longestPause)) != nil {
			return
		}
	}
}

func (a *App) saw(s view.Snapshot) {
	a.mu.Lock()
	raise := a.seen && s.RaiseWindow > a.last.RaiseWindow
	a.last, a.seen = s, true
	a.mu.Unlock()
	a.emit(eventAgent, agentReachable)
	a.emit(eventSnapshot, s)
	if raise {
		a.raise()
	}
}

// validID reports whether the text can be the id of a recent entry or of a launch:
// 1..maxID visible ASCII characters.
func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// asProblem returns the problem in err, or agent_unreachable: whatever else can
// go wrong between the window and the agent means that it did not answer.
func asProblem(err error) *problem.Problem {
	var p *problem.Problem
	if errors.As(err, &p) {
		return p
	}
	return problem.New(problem.AgentUnreachable, err)
}

// forPage returns a failed call as the page is told: safe words, never a cause.
func forPage(err error) any {
	p := asProblem(err)
	return view.Problem{Code: p.Code, Sentence: p.Error(), NextStep: p.Row().NextStep, Reference: p.Reference}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
