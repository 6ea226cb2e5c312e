package recents

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
)

// bothKinds runs a test with a list on disk and with one in memory.
func bothKinds(t *testing.T, test func(t *testing.T, w *world)) {
	for _, kind := range []string{"on disk", "in memory"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			if kind == "in memory" {
				w.dir = ""
			}
			test(t, w)
		})
	}
}

func TestAStatusIsSetOnWhatIsInTheListAndOnNothingElse(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		l := w.open("issuer dr-a")
		first, second := add(t, l, encounter(1)), add(t, l, encounter(2))
		set := func(encounter, provider, status string) bool {
			t.Helper()
			changed, err := l.SetStatus(context.Background(), encounter, provider, status)
			if err != nil {
				t.Fatal(err)
			}
			return changed
		}
		if !set("enc-1", "prov-1", Exported) || set("enc-1", "prov-1", Exported) || set("enc-1", "prov-2", Exported) || set("enc-3", "prov-1", Exported) {
			t.Error("changed something else, or twice")
		}
		all, err := l.All(context.Background())
		first.Status = Exported
		if err != nil || !slices.Equal(all, []Entry{second, first}) {
			t.Errorf("got %+v, %v", all, err)
		}
		if _, err := l.SetStatus(context.Background(), "enc-1", "prov-1", "https://x"); problem.CodeOf(err) != problem.RequestInvalid {
			t.Errorf("an address: %v", err)
		}
		// Opening it again does not take back what the backend has said.
		if again := add(t, l, encounter(1)); again.Status != Exported {
			t.Errorf("opened again: %+v", again)
		}
	})
}

func TestWhatWasRemovedComesBackAtItsPlace(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		l := w.open("issuer dr-a")
		var added []Entry
		for n := range 4 {
			w.now = w.now.Add(time.Minute)
			added = append(added, add(t, l, encounter(n)))
		}
		removed, found, err := l.Remove(context.Background(), added[1].ID)
		if err != nil || !found || removed != added[1] || labels(t, l) != "P. 3, P. 2, P. 0" {
			t.Fatalf("removed %+v (%v, %v), left %s", removed, found, err, labels(t, l))
		}
		if _, found, err := l.Remove(context.Background(), added[1].ID); found || err != nil {
			t.Errorf("removed twice: %v, %v", found, err)
		}
		for range 2 { // twice is once
			if err := l.Restore(context.Background(), []Entry{removed}); err != nil || labels(t, l) != "P. 3, P. 2, P. 1, P. 0" {
				t.Errorf("restored: %s, %v", labels(t, l), err)
			}
		}
		all, err := l.RemoveAll(context.Background())
		if err != nil || len(all) != 4 || labels(t, l) != "" || w.dir != "" && len(w.files()) != 0 {
			t.Fatalf("removed %d, %v, left %s", len(all), err, labels(t, l))
		}
		// What was opened meanwhile stays as it is now.
		w.now = w.now.Add(time.Minute)
		newer := encounter(2)
		newer.Label = "P. two"
		add(t, l, newer)
		if err := l.Restore(context.Background(), all); err != nil || labels(t, l) != "P. two, P. 3, P. 1, P. 0" {
			t.Errorf("restored: %s, %v", labels(t, l), err)
		}
	})
}

func TestWhatComesBackKeepsToTheLimits(t *testing.T) {
	w := newWorld(t)
	l := w.open("issuer dr-a")
	for n := range 3 {
		add(t, l, encounter(n))
		w.now = w.now.Add(time.Hour)
	}
	all, err := l.RemoveAll(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	w.limits.Max = 2
	if err := l.Restore(context.Background(), all); err != nil || labels(t, l) != "P. 2, P. 1" {
		t.Errorf("two: %s, %v", labels(t, l), err)
	}
	if _, err := l.RemoveAll(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.limits.Max = 10
	w.now = w.now.Add(22 * time.Hour)
	if err := l.Restore(context.Background(), all); err != nil || labels(t, l) != "P. 2" {
		t.Errorf("a day later: %s, %v", labels(t, l), err)
	}
	for name, spoil := range map[string]func(*Entry){
		"another id": func(e *Entry) { e.ID = "0123456789abcdef0123" },
		"no id":      func(e *Entry) { e.ID = "" },
		"a label":    func(e *Entry) { e.Label = "two\nlines" },
	} {
		e := all[0]
		spoil(&e)
		if err := l.Restore(context.Background(), []Entry{all[1], e}); problem.CodeOf(err) != problem.RequestInvalid || labels(t, l) != "P. 2" {
			t.Errorf("%s: %s, %v", name, labels(t, l), err)
		}
	}
}

func TestRemovingAllRemovesAListThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	l := w.open("issuer dr-a")
	add(t, l, encounter(1))
	for _, path := range []string{l.store.path(), l.store.path() + unreadableSuffix} {
		if err := os.WriteFile(path, []byte("spoiled"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := l.RemoveAll(context.Background()); err != nil || len(removed) != 0 || len(w.files()) != 0 {
		t.Errorf("removed %d, %v, left %v", len(removed), err, w.files())
	}
}

// What one change of a full list costs: reading, unsealing, sealing, writing
// through to the disk.
func BenchmarkChangeOf200(b *testing.B) {
	identity, err := NewIdentity()
	if err != nil {
		b.Fatal(err)
	}
	l, err := Open(b.TempDir()+"/recents", identity, "p", nil, func() Limits { return Limits{Max: 200, Age: time.Hour} }, nil)
	if err != nil {
		b.Fatal(err)
	}
	for n := range 200 {
		if _, err := l.Add(b.Context(), encounter(n)); err != nil {
			b.Fatal(err)
		}
	}
	for _, change := range []bool{true, false} {
		b.Run(fmt.Sprintf("written=%v", change), func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				status := Exported
				if change && n%2 == 1 {
					status = Opened
				}
				if _, err := l.SetStatus(b.Context(), "enc-7", "prov-1", status); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
