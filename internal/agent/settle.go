package agent

import (
	"context"
	"runtime/debug"
	"sync"
	"time"
)

// settleAfter is how long the agent has had nothing to do when it gives memory back:
// longer than a person takes between two clicks that belong together.
const settleAfter = 10 * time.Second

// startPercent is how much of a heap may be garbage while the program starts: with the
// usual hundred in a hundred it is collected twice before the first link has gone to the
// browser, which takes a processor 5 ms.
const startPercent = 400

// startLightly has garbage collected seldom until the function that it returns is
// called.
func startLightly() (usual func()) {
	before := debug.SetGCPercent(startPercent)
	return func() { debug.SetGCPercent(before) }
}

// settle gives back, some time after the start, after every launch, after whatever
// else a person asked for and after the end of the window, the memory that only they
// needed. used is told of each. The first time, and at the end, it calls started.
func settle(ctx context.Context, used <-chan struct{}, started func()) {
	started = sync.OnceFunc(started)
	defer started()
	timer := time.NewTimer(settleAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-used:
			timer.Reset(settleAfter)
		case <-timer.C:
			started()
			debug.FreeOSMemory()
			releaseProgram()
		}
	}
}
