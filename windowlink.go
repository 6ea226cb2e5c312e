package main

import (
	"context"
	"fmt"
	"path/filepath"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// windowOf is what the window role is given: a way to the agent, and nothing
// else of this machine.
func windowOf(layout paths.Layout) windowDeps {
	return windowDeps{
		Version: version, Language: text.System(), Agent: dialled{layout},
		Data: filepath.Join(layout.StateDir(), "webview"),
		// Whoever started this process may wait for the line: see startWindow.
		Up: func() { fmt.Println(windowUp) },
		// Nobody but a measurement reads this one.
		Painted: func() { fmt.Println(windowPainted) },
	}
}

// dialled reaches the agent anew for every call, because the agent may have been
// replaced meanwhile.
type dialled struct{ layout paths.Layout }

func (d dialled) Snapshot(ctx context.Context) (view.Snapshot, error) {
	c, err := control.Dial(ctx, d.layout)
	if err != nil {
		return view.Snapshot{}, err
	}
	defer c.Close()
	return c.Snapshot(ctx)
}

func (d dialled) Watch(ctx context.Context, f func(view.Snapshot) error) error {
	c, err := control.Dial(ctx, d.layout)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Watch(ctx, f)
}

func (d dialled) Do(ctx context.Context, i control.Intent) error {
	c, err := control.Dial(ctx, d.layout)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Do(ctx, i)
}
