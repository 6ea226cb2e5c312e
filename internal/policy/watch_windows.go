package policy

import (
	"context"
	"log/slog"
	"time"

	"encounterlauncher/internal/paths"
)

// poll is how often the registry is read: a plain poll, which finds a change of
// Group Policy within half a minute.
const poll = 30 * time.Second

// changes says with every poll that a source may have changed.
func changes(ctx context.Context, _ paths.Layout, _ *slog.Logger, after func(time.Duration) <-chan time.Time) <-chan struct{} {
	hint := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-after(poll):
			}
			select {
			case hint <- struct{}{}:
			default:
			}
		}
	}()
	return hint
}
