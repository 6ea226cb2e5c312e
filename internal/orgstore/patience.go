package orgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/problem"
)

// patiently repeats what may be repeated while a cluster elects a leader or a
// connection is made anew, within StoreTime. Its error is a Problem.
func patiently(ctx context.Context, doing string, attempt func(context.Context) error) error {
	return repeatedly(ctx, doing, func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return attempt(ctx)
	})
}

// repeatedly is patiently for an attempt that keeps to a limit by itself.
func repeatedly(ctx context.Context, doing string, attempt func(limit time.Duration) error) error {
	until := time.Now().Add(StoreTime)
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	for {
		err := ctx.Err()
		left := time.Until(until)
		if err == nil {
			err = attempt(min(attemptTime, left))
		}
		if err == nil {
			return nil
		}
		if !passing(err) || left < attemptTime || rest(ctx) != nil {
			return Failed(doing, err)
		}
	}
}

// rest is a short wait between two attempts.
func rest(ctx context.Context) error {
	wait := time.NewTimer(pause)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return nil
	}
}

// passing reports whether an error may be gone a moment later.
func passing(err error) bool {
	switch codeOf(err) {
	case noLeader, duplicateInWork, jetstream.JSErrCodeJetStreamNotEnabledForAccount, jetstream.JSErrCodeJetStreamNotEnabled:
		// A server that has just started does not know its accounts yet.
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected)
}

// Failed is the Problem of a store that did not do what it was asked for: org_busy.
func Failed(doing string, err error) error {
	return problem.New(problem.OrgBusy, fmt.Errorf("%s: %w", doing, err))
}
