package policy

import (
	"context"
	"log/slog"
	"time"

	"encounterlauncher/internal/paths"
)

// quiet is how long sources must be still before they are read again, so that
// an editor that writes in steps is read once, when it is done.
const quiet = 200 * time.Millisecond

// Watch sends the policy in force at once, and from then on each snapshot that
// differs from the one before. A receiver that is slow gets the newest and never
// an old one. The channel is closed when ctx ends.
//
// Changes are found without a restart; how fast depends on the system (see
// changes), and whoever has changed a source says so by look, upon which the
// sources are read at once. log hears of trouble with watching and never of a
// value.
func Watch(ctx context.Context, l paths.Layout, log *slog.Logger, look <-chan struct{}) <-chan Snapshot {
	return watch(ctx, func() Snapshot { return Load(l) }, func(ctx context.Context) <-chan struct{} {
		return changes(ctx, l, log, time.After)
	}, time.After, look)
}

// watch is Watch with its parts given: load reads, hints makes a channel that
// says that something may have changed, after measures time, look says that
// something has.
func watch(ctx context.Context, load func() Snapshot, hints func(context.Context) <-chan struct{}, after func(time.Duration) <-chan time.Time, look <-chan struct{}) <-chan Snapshot {
	out := make(chan Snapshot)
	go func() {
		defer close(out)
		// Watching begins before the first reading, so that no change falls between.
		changed := hints(ctx)
		newest := load()
		pending := true
		var still <-chan time.Time
		read := func() {
			still = nil
			if next := load(); !next.Equal(newest) {
				newest, pending = next, true
			}
		}
		for {
			var to chan<- Snapshot
			if pending {
				to = out
			}
			select {
			case <-ctx.Done():
				return
			case to <- newest:
				pending = false
			case <-changed:
				still = after(quiet)
			case <-look:
				read()
			case <-still:
				read()
			}
		}
	}()
	return out
}
