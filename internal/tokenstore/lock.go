package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"

	"github.com/gofrs/flock"
)

// lockRetry is how often a waiting process tries again; a try costs about ten
// microseconds.
const lockRetry = 5 * time.Millisecond

// Lock takes the lock that all sessions of this user share and returns the
// function that gives it back, which may be called more than once. It waits
// until ctx ends. It works between goroutines, stores and processes, is not
// reentrant, and is given back by the system when the process dies. The problem
// is cancelled when ctx was cancelled, and internal otherwise.
func (s *Store) Lock(ctx context.Context) (unlock func(), err error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, lockProblem(ctx.Err())
	}
	// Each holder has a file of its own: a shared one would let the second
	// TryLock of a process succeed.
	file := flock.New(s.lockFile)
	locked, err := file.TryLockContext(ctx, lockRetry)
	if errors.Is(err, fs.ErrNotExist) {
		if err = paths.EnsurePrivateDir(filepath.Dir(s.lockFile)); err == nil {
			locked, err = file.TryLockContext(ctx, lockRetry)
		}
	}
	if err == nil && !locked {
		err = errors.New("the lock was not given")
	}
	if err != nil {
		<-s.turn
		return nil, lockProblem(err)
	}
	return sync.OnceFunc(func() {
		_ = file.Unlock()
		<-s.turn
	}), nil
}

func lockProblem(err error) error {
	var path *fs.PathError
	switch {
	case errors.Is(err, context.Canceled):
		return problem.New(problem.Cancelled, fmt.Errorf("waiting for the user's lock: %w", err))
	case errors.Is(err, context.DeadlineExceeded):
		return problem.With(problem.Internal, "Another session of yours did not finish in time.", fmt.Errorf("waiting for the user's lock: %w", err))
	case errors.As(err, &path):
		// The path names the user.
		return problem.New(problem.Internal, fmt.Errorf("taking the user's lock: %s: %w", path.Op, path.Err))
	default:
		return problem.New(problem.Internal, fmt.Errorf("taking the user's lock: %w", err))
	}
}
