package orgstore

import (
	"sync"
	"time"
)

// The bounds of one half of minted.
const (
	mintedCount = 8 << 10
	mintedBytes = 3 << 20
)

// minted remembers the tickets that this process has written a short time ago, so
// that the one who redeems need not read first what is known here. What it says may
// be out of date, which the conditional write finds out. It forgets by halves: the
// older one when the younger is full, and twice in a handle's life. So it stays within
// its bounds, and nothing of a patient is in it for longer than a handle lives.
type minted struct {
	half time.Duration

	mu           sync.Mutex
	young, older map[string]Ticket // guarded by mu
	bytes        int               // guarded by mu: of what is in young
	ticking      bool              // guarded by mu
}

func (m *minted) find(name string) (Ticket, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, ok := m.young[name]; ok {
		return t, true
	}
	t, ok := m.older[name]
	return t, ok
}

// keep remembers a ticket of so many bytes.
func (m *minted) keep(t Ticket, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.young) >= mintedCount || m.bytes+size > mintedBytes {
		m.turn()
	}
	if m.young == nil {
		m.young = make(map[string]Ticket)
	}
	m.young[t.name] = t
	m.bytes += size
	if !m.ticking {
		m.ticking = true
		time.AfterFunc(m.half, m.tick)
	}
}

func (m *minted) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.young, name)
	delete(m.older, name)
}

// turn forgets the older half. The caller holds mu.
func (m *minted) turn() { m.older, m.young, m.bytes = m.young, nil, 0 }

// tick turns twice in a handle's life, for as long as anything is remembered.
func (m *minted) tick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn()
	if m.ticking = len(m.older) > 0; m.ticking {
		time.AfterFunc(m.half, m.tick)
	}
}
