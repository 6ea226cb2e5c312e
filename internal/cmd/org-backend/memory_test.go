package main

import "testing"

func TestMemoryIsGivenBackInAQuietTimeAfterABusyOne(t *testing.T) {
	const mb = 1 << 20
	var r rest
	for n, step := range []struct {
		allocated, free uint64
		want            bool
	}{
		{20 * mb, 0, false},        // busy
		{40 * mb, 0, false},        // busy
		{41 * mb, 0, true},         // quiet, and there is garbage
		{42 * mb, 0, false},        // nothing new
		{43 * mb, 900 * mb, true},  // something was let go of
		{44 * mb, 1 * mb, false},   // it is gone
		{99 * mb, 900 * mb, false}, // busy again
		{99 * mb, 0, true},
	} {
		if got := r.worthwhile(step.allocated, step.free); got != step.want {
			t.Errorf("step %d: %v", n, got)
		}
	}
}

func TestTheMoreIsInUseTheLessGarbageIsMadeBesideIt(t *testing.T) {
	for inUse, want := range map[uint64]int{
		0: 100, headroomBytes: 100, garbageBytes: 100, 2 * garbageBytes: 50, 4 * garbageBytes: 25, 100 * garbageBytes: 10,
	} {
		if got := percentFor(inUse); got != want {
			t.Errorf("%d bytes: %d, want %d", inUse, got, want)
		}
	}
}
