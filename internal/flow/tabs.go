package flow

import (
	"sync"
	"time"
)

// Tabs remembers which encounters were opened a moment ago. It forgets after
// keepTabs and is safe for concurrent use. The zero value is ready.
type Tabs struct {
	mu     sync.Mutex
	opened map[string]time.Time
}

// OpenedWithin reports whether the encounter was opened less than d before the click,
// or after it: by another launch that the click's own had to wait for. A zero click
// is now.
func (t *Tabs) OpenedWithin(e Encounter, d time.Duration, click, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ok := t.opened[e.ExternalEncounterID]
	// A clock set back must not suppress a tab for hours.
	if !ok || now.Before(at) {
		return false
	}
	if click.IsZero() {
		click = now
	}
	return click.Sub(at) < d
}

// Forget forgets every encounter, and that anything was opened at all: for when
// somebody has left, whose tabs are not the next person's.
func (t *Tabs) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened = nil
}

// Note records that the encounter was opened at the given time.
func (t *Tabs) Note(e Encounter, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opened == nil {
		t.opened = make(map[string]time.Time)
	}
	for id, before := range t.opened {
		if at.Sub(before) >= keepTabs || at.Before(before) {
			delete(t.opened, id)
		}
	}
	t.opened[e.ExternalEncounterID] = at
}
