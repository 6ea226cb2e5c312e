package session

import (
	"context"
	"log/slog"
	"time"
)

// desk tells nothing: this system is not supported.
type desk struct{ changes chan change }

func newDesk(*slog.Logger) *desk { return &desk{changes: make(chan change)} }

func (d *desk) watch(ctx context.Context) {
	select {
	case d.changes <- change{what: sources}:
	case <-ctx.Done():
	}
	<-ctx.Done()
}

func (*desk) idle(context.Context) (time.Duration, error) { return 0, errGone }
