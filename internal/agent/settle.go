package agent

import (
	"context"
	"runtime/debug"
	"time"
)

// settleAfter is how long the agent has had nothing to do when it gives memory back:
// longer than a person takes between two clicks that belong together.
const settleAfter = 10 * time.Second

// settle gives back, some time after the start, after every launch, after whatever
// else a person asked for and after the end of the window, the memory that only they
// needed. used is told of each.
func settle(ctx context.Context, used <-chan struct{}) {
	timer := time.NewTimer(settleAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-used:
			timer.Reset(settleAfter)
		case <-timer.C:
			debug.FreeOSMemory()
			releaseProgram()
		}
	}
}
