package tokenstore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"

	"encounterlauncher/internal/problem"
)

// probeBytes is the size of what Probe writes: that of a large refresh token, so
// that it is cut into items as a real one is.
const probeBytes = 4096

// errLost says that the keyring took what it did not give back.
var errLost = fmt.Errorf("%w: it gave back something else than was written", errCorrupt)

func probeItem(i int) string { return "probe." + strconv.Itoa(i) }

// Probe finds out whether the keyring keeps what a sign-in needs: it writes 4 KiB
// that mean nothing into items of their own ("probe.0", …), reads them back, and
// removes them, also when something went wrong on the way and also when ctx has
// ended. The sign-in is not touched. Where the keyring can tell that it is locked,
// nothing is written, so that no prompt comes up.
//
// Two of them at once, and one after a crash, find the same items: give the store a
// lock file of its own, which Probe holds meanwhile. Errors are as for Load, and
// keyring_corrupt when what came back is not what was written.
func (s *Store) Probe(ctx context.Context) error {
	unlock, err := s.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	if err := s.unlocked(work); err != nil {
		return outcome(ctx, fmt.Errorf("asking whether the keyring is locked: %w", err))
	}
	noise := make([]byte, probeBytes*3/4)
	_, _ = rand.Read(noise) // crypto/rand.Read never fails since Go 1.24
	parts := split(base64.RawStdEncoding.EncodeToString(noise))
	err = s.writeAndReadBack(work, parts)
	// What was written goes in any case. It has its own time: the deadline that cut
	// the writing short must not keep it from being undone.
	cleaning, stop := context.WithTimeout(context.WithoutCancel(ctx), s.deadline)
	defer stop()
	for i := len(parts) - 1; i >= 0; i-- {
		if gone := s.calls.remove(cleaning, probeItem(i)); gone != nil {
			if err == nil {
				err = fmt.Errorf("removing what was tried: %w", gone)
			}
			break
		}
	}
	if err == nil {
		switch _, left := s.calls.get(work, probeItem(0)); {
		case left == nil:
			err = fmt.Errorf("%w: it keeps what was removed", errCorrupt)
		case !errors.Is(left, ErrNotFound):
			err = left
		}
	}
	if err != nil {
		return outcome(ctx, fmt.Errorf("trying the keyring: %w", err))
	}
	return nil
}

// writeAndReadBack writes all before it reads any, as a sign-in does.
func (s *Store) writeAndReadBack(ctx context.Context, parts []string) error {
	for i, part := range parts {
		if err := s.calls.set(ctx, probeItem(i), part); err != nil {
			return err
		}
	}
	for i, part := range parts {
		switch got, err := s.calls.get(ctx, probeItem(i)); {
		case errors.Is(err, ErrNotFound):
			return errLost
		case err != nil:
			return err
		case got != part:
			return errLost
		}
	}
	return nil
}

// unlocked is ErrLocked where the keyring can tell that it is locked, without a
// prompt.
func (s *Store) unlocked(ctx context.Context) error {
	k, ok := s.calls.keyring.(interface{ Locked() (bool, error) })
	if !ok {
		return nil
	}
	_, err := s.calls.do(ctx, func() (string, error) {
		locked, err := k.Locked()
		if err == nil && locked {
			err = ErrLocked
		}
		return "", err
	})
	return err
}

// NoAnswer reports whether err, which this room returned, means that the keyring
// did not answer, and not that it said that it is locked. People are told the same of
// both; who looks for the cause is not.
func NoAnswer(err error) bool {
	return problem.IsCode(err, problem.KeyringLocked) && errors.Is(err, errNoAnswer)
}
