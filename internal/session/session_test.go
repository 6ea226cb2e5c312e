package session

import (
	"slices"
	"testing"
	"time"
)

// told is what a state reports of changes.
func told(s *state, changes ...change) []Kind {
	var kinds []Kind
	s.report = func(e Event) { kinds = append(kinds, e.Kind) }
	for _, c := range changes {
		s.take(c)
	}
	return kinds
}

func TestTwoWhoTellOfOneLockAreReportedOnce(t *testing.T) {
	s := &state{locks: map[string]bool{}}
	got := told(s,
		change{what: lock, source: "a", on: true}, change{what: lock, source: "b", on: true},
		change{what: lock, source: "a"}, change{what: lock, source: "b"}, change{what: lock, source: "b"})
	if !slices.Equal(got, []Kind{Locked, Unlocked}) {
		t.Errorf("reported %v", got)
	}
}

func TestWhoComesBackToALeftSessionIsReported(t *testing.T) {
	s := &state{locks: map[string]bool{}}
	got := told(s, change{what: away}, change{what: gone}, change{what: away}, change{what: away, on: true}, change{what: away, on: true})
	if !slices.Equal(got, []Kind{Disconnected, SwitchedBack, SwitchedAway}) {
		t.Errorf("reported %v", got)
	}
}

func TestNobodyIsAskedHowLongThereWasNoInputUnlessAMarkIsWanted(t *testing.T) {
	s := &state{report: func(Event) {}}
	if pause, wanted := s.next(look{time.Hour, true}); wanted {
		t.Errorf("the next look in %s", pause)
	}
	s.marks = []time.Duration{time.Minute}
	if pause, wanted := s.next(look{}); !wanted || pause != blindPause {
		t.Errorf("without a source: %v, %s", wanted, pause)
	}
	if pause, wanted := s.next(look{time.Minute - time.Millisecond, true}); !wanted || pause != leastPause {
		t.Errorf("just before a mark: %v, %s", wanted, pause)
	}
}

func TestALockThatWasOnlyAskedForHidesNoLockThatComesLater(t *testing.T) {
	s := &state{locks: map[string]bool{}}
	// Nothing here locks when it is asked to, and the person goes on.
	got := told(s, change{what: lock, source: bySignal, on: true}, change{what: lock, source: "saver", on: true}, change{what: lock, source: "other", on: true})
	if !slices.Equal(got, []Kind{Locked, Locked}) {
		t.Errorf("the real lock: reported %v", got)
	}
	got = told(s, change{what: lock, source: "other"}, change{what: lock, source: "saver"})
	if !slices.Equal(got, []Kind{Unlocked}) {
		t.Errorf("its end: reported %v", got)
	}
	got = told(s, change{what: lock, source: bySignal, on: true}, change{what: lock, source: bySignal, on: true})
	if !slices.Equal(got, []Kind{Locked, Locked}) {
		t.Errorf("asked for twice: reported %v", got)
	}
}
