package policy

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"encounterlauncher/internal/paths"
)

// atOnce is a clock on which the quiet time has passed already and the poll
// never comes, so that only what the kernel tells is heard.
func atOnce(d time.Duration) <-chan time.Time {
	if d >= poll {
		return nil
	}
	c := make(chan time.Time, 1)
	c <- time.Time{}
	return c
}

func listen(t *testing.T, l paths.Layout) <-chan Snapshot {
	t.Helper()
	return watch(t.Context(), func() Snapshot { return Load(l) }, func(ctx context.Context) <-chan struct{} {
		return changes(ctx, l, slog.New(slog.DiscardHandler), atOnce)
	}, atOnce, nil)
}

// until receives snapshots until one is as wanted. The limit only ends a wait
// that is in vain; it measures nothing.
func until(t *testing.T, snapshots <-chan Snapshot, wanted func(Snapshot) bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case s, ok := <-snapshots:
			if !ok {
				t.Fatal("the channel was closed")
			}
			if wanted(s) {
				return
			}
		case <-limit:
			t.Fatal("the change was never heard")
		}
	}
}

func TestManyHintsAreOneReadingAndNoChangeIsNoSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hints := make(chan struct{})
		now := Snapshot{RecentsLimit: 1}
		var loads atomic.Int32
		out := watch(t.Context(), func() Snapshot { loads.Add(1); return now }, func(context.Context) <-chan struct{} { return hints }, time.After, nil)
		got := func() int {
			synctest.Wait()
			select {
			case s := <-out:
				return s.RecentsLimit
			default:
				return 0
			}
		}
		if got() != 1 || loads.Load() != 1 {
			t.Fatal("no first snapshot")
		}
		for range 5 {
			hints <- struct{}{}
			time.Sleep(quiet / 2) // on the bubble's clock: nobody waits
		}
		if got() != 0 || loads.Load() != 1 {
			t.Errorf("read %d times before it was quiet", loads.Load())
		}
		time.Sleep(quiet)
		if got() != 0 || loads.Load() != 2 {
			t.Errorf("read %d times, and nothing changed", loads.Load())
		}
		now = Snapshot{RecentsLimit: 2}
		hints <- struct{}{}
		time.Sleep(quiet)
		if got() != 2 || got() != 0 || loads.Load() != 3 {
			t.Errorf("a change was not sent once, after %d readings", loads.Load())
		}
	})
}

func TestASlowReceiverGetsTheNewest(t *testing.T) {
	hints, still, loads := make(chan struct{}), make(chan time.Time), make(chan Snapshot)
	out := watch(t.Context(), func() Snapshot { return <-loads }, func(context.Context) <-chan struct{} { return hints }, func(time.Duration) <-chan time.Time { return still }, nil)
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

func TestWhoeverHasChangedASourceNeedNotWaitForItToBeFound(t *testing.T) {
	look := make(chan struct{})
	now := Snapshot{RecentsLimit: 1}
	never := func(time.Duration) <-chan time.Time { return nil }
	out := watch(t.Context(), func() Snapshot { return now }, func(context.Context) <-chan struct{} { return nil }, never, look)
	<-out
	now = Snapshot{RecentsLimit: 2}
	look <- struct{}{}
	if s := <-out; s.RecentsLimit != 2 {
		t.Errorf("%+v", s)
	}
}
