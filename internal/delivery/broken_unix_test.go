//go:build unix

package delivery

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/nabla"
)

// A disk that is full fails a write, and so does a folder that is gone, which needs no
// disk of a test's own.
func TestAQueueThatCannotBeWrittenRefusesAtOnceAndAsksForANewStartWhenThereIsRoom(t *testing.T) {
	w := newWorldOf(t)
	asked := make(chan struct{})
	w.options.Broken = func() { close(asked) } // twice would panic
	w.ehr.answer(400)                          // nothing is let go
	w.open()
	folders, err := filepath.Glob(filepath.Join(w.cfg.NATS.Folder, "jetstream", "*", "streams", "deliveries-*", "msgs"))
	if err != nil || len(folders) != shards {
		t.Fatal(folders, err)
	}
	for _, folder := range folders {
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
	}
	// JetStream goes on in the file that it has open, until that is full.
	var failed error
	for n := 0; failed == nil && n < 64; n++ {
		id, _ := note("E-1")
		failed = w.queue.Accept(t.Context(), id, nabla.NoteExport, incompressible(4<<20))
	}
	if failed == nil || errors.Is(failed, ErrSeen) || errors.Is(failed, ErrFull) {
		t.Fatalf("got %v", failed)
	}
	w.until("it refuses what it cannot keep at once", func() bool {
		id, raw := note("E-2")
		begun := time.Now()
		return errors.Is(w.queue.Accept(t.Context(), id, nabla.NoteExport, raw), ErrUnwritable) && time.Since(begun) < time.Second
	})
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatalf("nobody is asked for a new start\n%s", w.log.String())
	}
	if strings.Contains(w.log.String(), w.cfg.NATS.Folder) || strings.Contains(w.log.String(), canary) {
		t.Error("the log says more than it should")
	}
}

func TestAQueueThatCouldNotBeWrittenForAMomentTakesCallbacksAgain(t *testing.T) {
	w := newWorldOf(t)
	w.options.Broken = func() { t.Error("a new start is asked for") }
	w.open()
	for _, s := range w.queue.shards {
		s.unwritten.Store(true)
	}
	w.until("all can be written", func() bool {
		for _, s := range w.queue.shards {
			if s.unwritten.Load() {
				return false
			}
		}
		return true
	})
	id, _ := w.accept("E-1")
	w.becomes(id, Delivered)
	// What was written to find out is no delivery.
	l, err := w.queue.List(t.Context(), true)
	if err != nil || len(l.Items) != 1 {
		t.Errorf("%+v %v", l, err)
	}
}
