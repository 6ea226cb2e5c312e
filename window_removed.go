package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

const (
	// removedLook is how often the window's program looks whether it is still
	// installed: one system call.
	removedLook = 5 * time.Second
	// removedAfter is after how many looks in a row that find no file it counts as
	// removed, as in the agent.
	removedAfter = 3
)

// whileInstalled ends once the program's own file has been removed. The agent ends
// its window itself, but not one that an older agent left open through an upgrade.
func whileInstalled(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	path, err := os.Executable()
	if err != nil {
		return ctx, cancel
	}
	tick := time.NewTicker(removedLook)
	go func() {
		defer tick.Stop()
		if untilRemoved(ctx, path, tick.C) {
			cancel()
		}
	}()
	return ctx, cancel
}

// untilRemoved returns true once the file was missing at so many moments in a row,
// or false when ctx ends.
func untilRemoved(ctx context.Context, path string, moments <-chan time.Time) bool {
	for missing := 0; missing < removedAfter; {
		select {
		case <-ctx.Done():
			return false
		case <-moments:
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			missing++
		} else {
			missing = 0
		}
	}
	return true
}
