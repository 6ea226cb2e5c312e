package tokenstore

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
)

func probing(t *testing.T, k Keyring, deadline time.Duration) *Store {
	t.Helper()
	return New(k, testService, filepath.Join(t.TempDir(), "probe.lock"), deadline)
}

// noting is a keyring that knows the longest item that it was given.
type noting struct {
	*memory
	longest, written int
}

func (n *noting) Set(service, user, value string) error {
	n.longest, n.written = max(n.longest, len(value)), n.written+len(value)
	return n.memory.Set(service, user, value)
}

func TestAProbeWritesATokensSizeAndLeavesNothingAndTouchesNoSignIn(t *testing.T) {
	m := Memory().(*memory)
	saved, err := newTornStore(m).Save(context.Background(), entryOf(5000, "a"))
	if err != nil {
		t.Fatal(err)
	}
	k := &noting{memory: m}
	if err := probing(t, k, time.Minute).Probe(context.Background()); err != nil {
		t.Fatal(err)
	}
	if k.written != probeBytes || k.longest > itemLimit {
		t.Errorf("%d bytes were written, the longest item has %d", k.written, k.longest)
	}
	mustHold(t, m, saved)
}

func TestAProbeTornAtAnyOperationIsCleanedByTheNext(t *testing.T) {
	for left := 0; ; left++ {
		m := Memory().(*memory)
		err := probing(t, &crashing{m, left}, time.Minute).Probe(context.Background())
		if next := probing(t, m, time.Minute).Probe(context.Background()); next != nil || len(m.items) != 0 {
			t.Fatalf("after %d operations: %v, and %d items are left", left, next, len(m.items))
		}
		if err == nil {
			break
		}
		if code := problem.CodeOf(err); code != problem.KeyringUnavailable {
			t.Errorf("after %d operations: %v", left, err)
		}
	}
}

// forgetful takes everything and keeps nothing.
type forgetful struct{ *memory }

func (forgetful) Set(string, string, string) error { return nil }

// altering gives back something else than it took.
type altering struct{ *memory }

func (a altering) Set(service, user, value string) error {
	return a.memory.Set(service, user, value[:len(value)-1]+"\x00")
}

func TestAKeyringThatDoesNotKeepWhatItTakesIsCorrupt(t *testing.T) {
	for name, k := range map[string]Keyring{"forgetful": forgetful{Memory().(*memory)}, "altering": altering{Memory().(*memory)}} {
		if err := probing(t, k, time.Minute).Probe(context.Background()); problem.CodeOf(err) != problem.KeyringCorrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAProbeOfALockedKeyringThatCanSaySoWritesNothing(t *testing.T) {
	k := &stating{Keyring: Memory(), locked: true}
	err := probing(t, k, time.Minute).Probe(context.Background())
	if problem.CodeOf(err) != problem.KeyringLocked || NoAnswer(err) {
		t.Errorf("got %v", err)
	}
	if items := k.Keyring.(*memory).items; len(items) != 0 {
		t.Errorf("%d items were written", len(items))
	}
}

// stuck takes the first item and then waits for a person who is not there.
type stuck struct {
	*memory
	sets    atomic.Int32
	release chan struct{}
}

func (s *stuck) Set(service, user, value string) error {
	if s.sets.Add(1) == 2 {
		<-s.release
		return errors.New("the person has said no")
	}
	return s.memory.Set(service, user, value)
}

func TestAKeyringThatWaitsForThePersonEndsAProbeAtItsDeadline(t *testing.T) {
	k := &stuck{memory: Memory().(*memory), release: make(chan struct{})}
	err := probing(t, k, 50*time.Millisecond).Probe(context.Background())
	if !NoAnswer(err) {
		t.Errorf("got %v", err)
	}
	close(k.release)
	// What it had taken is found by the next.
	if err := probing(t, k, time.Minute).Probe(context.Background()); err != nil || len(k.items) != 0 {
		t.Errorf("%v, %d items are left", err, len(k.items))
	}
}

func TestTwoProbesAtOnceTakeTurns(t *testing.T) {
	m, lock := Memory().(*memory), filepath.Join(t.TempDir(), "probe.lock")
	results := make(chan error, 4)
	for range cap(results) {
		go func() { results <- New(m, testService, lock, time.Minute).Probe(context.Background()) }()
	}
	var all []error
	for range cap(results) {
		all = append(all, <-results)
	}
	if slices.ContainsFunc(all, func(err error) bool { return err != nil }) || len(m.items) != 0 {
		t.Errorf("got %v, %d items are left", all, len(m.items))
	}
}
