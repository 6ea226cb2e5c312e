package policy

import (
	"context"
	"testing"
	"time"
)

func TestManyHintsAreOneReadingAndNoChangeIsNoSnapshot(t *testing.T) {
	// Unbuffered channels make each step wait for the one before.
	hints, still, loads := make(chan struct{}), make(chan time.Time), make(chan Snapshot)
	var started int
	clock := func(d time.Duration) <-chan time.Time {
		if d != quiet {
			t.Errorf("waits %v", d)
		}
		started++
		return still
	}
	out := watch(t.Context(), func() Snapshot { return <-loads }, func(context.Context) <-chan struct{} { return hints }, clock)
	loads <- Snapshot{RecentsLimit: 1}
	if s := <-out; s.RecentsLimit != 1 {
		t.Fatalf("%+v", s)
	}
	for range 5 {
		hints <- struct{}{}
	}
	still <- time.Time{}
	loads <- Snapshot{RecentsLimit: 1} // nothing changed
	hints <- struct{}{}
	still <- time.Time{}
	loads <- Snapshot{RecentsLimit: 2}
	if s := <-out; s.RecentsLimit != 2 {
		t.Fatalf("%+v", s)
	}
}

func TestASlowReceiverGetsTheNewest(t *testing.T) {
	hints, still, loads := make(chan struct{}), make(chan time.Time), make(chan Snapshot)
	out := watch(t.Context(), func() Snapshot { return <-loads }, func(context.Context) <-chan struct{} { return hints }, func(time.Duration) <-chan time.Time { return still })
	loads <- Snapshot{RecentsLimit: 1}
	for i := 2; i < 5; i++ {
		hints <- struct{}{}
		still <- time.Time{}
		loads <- Snapshot{RecentsLimit: i}
	}
	hints <- struct{}{} // taken only after the last reading was done
	if s := <-out; s.RecentsLimit != 4 {
		t.Errorf("%+v", s)
	}
}
