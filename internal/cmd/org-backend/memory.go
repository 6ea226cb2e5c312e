package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// headroomBytes is how much garbage may at least be made before it is collected.
	headroomBytes = 64 << 20
	// garbageBytes is about how much may at most be there, unless what is in use is so
	// large that it would be collected more often than leastPercent of it are made.
	// Handles hold no pointers, so a million of them take no longer to collect beside.
	garbageBytes = headroomBytes * 3 / 2
	leastPercent = 10
	mostPercent  = 100
	// lookTime is how often it is looked at: many handles come in a second.
	lookTime = time.Second
	// In a quiet time less than quietBytes are allocated in restTime. What is worth
	// giving back is at least worthBytes.
	restTime   = 10 * time.Second
	quietBytes = 4 << 20
	worthBytes = 8 << 20
)

// headroom counts as memory in use, and is never touched, so it takes none. Go
// collects garbage when as much has been made as was in use, and little is in use
// here: without it, every few hundred calls. It holds until release is called.
func headroom() (release func()) {
	untouched := make([]byte, headroomBytes)
	return func() { runtime.KeepAlive(untouched) }
}

// giveBack gives memory back to the system in quiet times, until ctx ends: garbage
// that was made, and room that handles took which have expired. Left to itself, Go
// keeps as much as it would need for the same again.
func giveBack(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/live:bytes"}}
	looks, rests := time.NewTicker(lookTime), time.NewTicker(restTime)
	defer looks.Stop()
	defer rests.Stop()
	before := debug.SetGCPercent(mostPercent)
	defer debug.SetGCPercent(before)
	for r, percent := (rest{}), mostPercent; ; {
		rested := false
		select {
		case <-ctx.Done():
			return
		case <-looks.C:
		case <-rests.C:
			rested = true
		}
		metrics.Read(samples)
		if now := percentFor(samples[2].Value.Uint64()); now != percent {
			percent = now
			debug.SetGCPercent(percent)
		}
		if rested && r.worthwhile(samples[0].Value.Uint64(), samples[1].Value.Uint64()) {
			debug.FreeOSMemory() // it collects garbage first
		}
	}
}

// percentFor is how much garbage may be made before it is collected, in percent of what
// is in use. For every 8 KB that were ever in use at the same time, garbage included, Go
// keeps 200 bytes about them for good: a million handles, and as much garbage again,
// would leave as much as the whole process at rest.
func percentFor(inUse uint64) int {
	return int(max(leastPercent, min(mostPercent, 100*garbageBytes/max(inUse, 1))))
}

// rest knows how much was allocated since the process started: when it looked last,
// and when memory was given back last.
type rest struct{ seen, given uint64 }

// worthwhile reports whether this is a quiet time in which there is something to give
// back: garbage of what was allocated since the last time, or free room.
func (r *rest) worthwhile(allocated, free uint64) bool {
	quiet := allocated-r.seen < quietBytes
	r.seen = allocated
	if !quiet || (allocated-r.given < worthBytes && free < worthBytes) {
		return false
	}
	r.given = allocated
	return true
}
