// Package control is the channel between the resident agent and every other
// process of the launcher: the link handler, the command line and the window.
//
// It speaks HTTP/1.1 with JSON bodies over a Unix socket that only this user can
// reach, or over a named pipe of this user and logon session on Windows. Both
// ends ask the operating system who the other one is before the first byte is
// read or sent. Which process is the agent is decided by a lock, and whoever
// holds it binds the name.
//
// It never listens on a network, never decides anything about a launch, and never
// removes a socket without holding the lock. Nothing that it returns, logs or
// wraps contains a link.
package control

import (
	"context"
	"errors"

	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// The names of the intents, which are also the last part of their routes.
const (
	SignIn     = "sign-in"
	SignOut    = "sign-out"
	OpenRecent = "open-recent"
	Cancel     = "cancel"
	Retry      = "retry"
	OpenWindow = "open-window"
	Quit       = "quit"

	// ShowSignIn opens the sign-in page again that is waiting in the browser.
	ShowSignIn = "show-sign-in"
	// FreshLink opens the encounter of the last launch through a fresh address.
	FreshLink = "fresh-link"
	// RemoveRecent takes one entry out of the recents, ClearRecents all of the
	// person, and UndoRemove brings back what was removed last, for a short time.
	RemoveRecent = "remove-recent"
	ClearRecents = "clear-recents"
	UndoRemove   = "undo-remove"
	// Choose keeps a choice of the person, where policy leaves one.
	Choose = "choose"
	// Check looks at the set-up; the snapshot tells what it finds.
	Check = "check"
	// OpenHelpDesk opens the policy's HelpDeskURL in the browser.
	OpenHelpDesk = "open-help-desk"
)

// MaxBody is the largest request body in bytes; a larger one is refused with
// request_too_large and is not read to its end.
const MaxBody = 64 << 10

// ErrOwned is returned by Listen when another process of this user (on Windows:
// of this logon session) is the agent.
var ErrOwned = errors.New("another process is the agent")

// ErrNoAgent is in the chain of the error that Dial returns when no agent
// listens: nothing is bound to the name, or what was bound has ended.
var ErrNoAgent = errors.New("no agent listens")

// Activation is the right of the person's click to bring something to the front,
// passed on from the handler to whatever opens (XDG Activation protocol, Startup
// Notification). Both are empty on Windows and wherever the desktop gives none.
type Activation struct {
	// Token is the value of XDG_ACTIVATION_TOKEN.
	Token string
	// StartupID is the value of DESKTOP_STARTUP_ID.
	StartupID string
}

// Intent is one wish of the person. Only the fields that its Name allows may be
// set: see the constants.
type Intent struct {
	// Name is one of the constants SignIn to OpenHelpDesk.
	Name string
	// ID is the recent entry for OpenRecent and RemoveRecent, and optionally the
	// launch for Cancel, Retry and FreshLink (empty: the running one, the last one).
	ID string
	// Key and Value are the setting and its new value for Choose; an empty Value
	// takes the choice back.
	Key, Value string
	// Last asks OpenRecent for the newest entry, in place of an ID.
	Last bool
	// All asks SignOut to end every session and wipe every person's recents.
	All bool
	// Finish asks Quit to let what is in flight come to its end first, for a few
	// seconds: who upgrades the program is not the person who works with it. An
	// agent that does not know it quits at once.
	Finish bool
	// Activation accompanies what opens something: SignIn, ShowSignIn, OpenRecent,
	// Retry, FreshLink, OpenHelpDesk and OpenWindow.
	Activation Activation
}

// Links takes what the operating system delivered. Calls come from several
// goroutines at once.
type Links interface {
	// Link takes one link over and returns the id of its launch as soon as it is
	// taken, within 3 s and without waiting for the launch. Its context ends with
	// the hand-over, so the launch must not hang on it.
	Link(ctx context.Context, link intake.Candidate, a Activation) (id string, err error)
	// Refused reports a link that a handler refused by itself.
	Refused(ctx context.Context, code problem.Code, reference string)
	// Describe returns the problem in the language of the person.
	Describe(p *problem.Problem) view.Problem
}

// Views shows the state of the agent. Calls come from several goroutines at once.
type Views interface {
	// Snapshot returns the newest snapshot.
	Snapshot() view.Snapshot
	// Watch returns a channel that delivers the newest snapshot at once and then
	// each newer one; it may skip, and it stops when ctx ends.
	Watch(ctx context.Context) <-chan view.Snapshot
	// Policy returns the effective policy as JSON, for the command line.
	Policy(ctx context.Context) ([]byte, error)
}

// Intents carries out what the person asked for. Calls come from several
// goroutines at once.
type Intents interface {
	// Do starts the intent and returns without waiting for a launch or a sign-in
	// to end. A Quit is answered before the agent ends.
	Do(ctx context.Context, i Intent) error
}

// Handler is what a Server serves: the agent.
type Handler interface {
	Links
	Views
	Intents
}

// Ack is the agent's answer to a link. Its JSON is frozen: no field is ever
// removed, renamed or given another meaning.
type Ack struct {
	// Accepted says that the agent took the link over.
	Accepted bool `json:"accepted"`
	// ID names the launch; empty when not accepted.
	ID string `json:"id"`
	// Code, Sentence, NextStep and Reference tell why it was not accepted, in the
	// language of the person; all are empty when it was.
	Code      problem.Code `json:"code"`
	Sentence  string       `json:"sentence"`
	NextStep  string       `json:"next_step"`
	Reference string       `json:"reference"`
}
