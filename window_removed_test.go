package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAWindowWhoseProgramWasRemovedEndsAndOneThatIsReplacedDoesNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	write := func() {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	remove := func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	write()
	moments, gone := make(chan time.Time), make(chan bool, 1)
	go func() { gone <- untilRemoved(t.Context(), path, moments) }()
	// A moment that is taken has been followed by its look once the next one is taken.
	look := func(n int) {
		t.Helper()
		for range n {
			select {
			case moments <- time.Time{}:
			case <-gone:
				t.Fatal("the window ends although its program is there, or was a moment ago")
			}
		}
	}
	look(removedAfter + 1)
	remove()
	look(removedAfter - 2)
	write()
	look(removedAfter + 1)
	remove()
	for ended := false; !ended; {
		select {
		case moments <- time.Time{}:
		case ended = <-gone:
		}
	}

	ctx, end := context.WithCancel(t.Context())
	end()
	write()
	if untilRemoved(ctx, path, nil) {
		t.Error("the end of the window counts as a removal")
	}
}
