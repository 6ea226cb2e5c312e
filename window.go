package main

import (
	"context"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/view"
)

// windowDeps is what the window role is given. The window holds no state of its
// own: everything it shows comes from Agent, and everything it asks for goes
// there.
type windowDeps struct {
	// Version of this program, shown under About.
	Version string
	// Agent reaches the resident agent. It may be nil only where the program is
	// run to write the page's bindings, which asks nothing.
	Agent agentLink
	// Language is the language of the window until the first snapshot names one:
	// a BCP 47 tag, or empty for English.
	Language string
	// Data is the folder in which a browser engine that asks for one keeps its empty
	// stores: on Windows, where WebView2's own choice would travel with the person
	// from computer to computer.
	Data string
	// Up is called once, when the window shows its page.
	Up func()
	// Painted is called once, when the agent's first snapshot has been painted;
	// never where none comes.
	Painted func()
}

// agentLink is the resident agent as the window sees it. Every call may find
// the agent gone; the next one may find it back, so an implementation dials anew
// for each.
type agentLink interface {
	// Snapshot returns the agent's snapshot of now.
	Snapshot(ctx context.Context) (view.Snapshot, error)
	// Watch calls f with the snapshot of now and then with every later one, in
	// order and one at a time. It returns when ctx ends, when f returns an error,
	// or when the agent goes away; it never returns nil while all three hold off.
	Watch(ctx context.Context, f func(view.Snapshot) error) error
	// Do asks the agent to act.
	Do(ctx context.Context, i control.Intent) error
}
