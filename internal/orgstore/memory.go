package orgstore

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"
	"time"

	"encounterlauncher/internal/problem"
)

const (
	// drawers is into how many parts the time is divided for which tickets are kept.
	drawers = 8
	// A chunk holds many launches, so that they are few things for the collector of
	// garbage and the memory goes back in one piece.
	leastChunk = 64 << 10
	mostChunk  = 1 << 20
	// recordBytes is what a ticket takes beside its launch, spendBytes what a spender
	// takes: entries of maps, with the room that maps leave free.
	recordBytes = 200
	spendBytes  = 150
)

var errFull = errors.New("the store is full of handles")

// memory is the shelf of a backend that is alone: nobody else can reach it, and it ends
// with the process. So nothing on it is sealed: the key would lie beside it.
//
// It is a row of drawers, each for an eighth of the time for which tickets are kept.
// What is new goes into the newest; a drawer goes as a whole when the last thing
// that was put into it need not be kept any more. So forgetting a million tickets
// takes no longer than forgetting one, and what they took goes back to the system.
// It goes by the machine's monotonic clock: a clock that is set forgets nothing.
type memory struct {
	kept  time.Duration
	limit int64

	mu       sync.Mutex
	drawers  []*drawer // guarded by mu; the newest last
	used     int64     // guarded by mu
	revision uint64    // guarded by mu: the last one that was given
	closed   bool      // guarded by mu
	timer    *time.Timer
}

// drawer holds what was put there within an eighth of the time.
type drawer struct {
	since   time.Time
	chunks  [][]byte
	records map[digest]record
	spends  map[digest]spend
	used    int64
}

// digest is a name without its encoding.
type digest [32]byte

// record is a ticket. It holds no pointer, so that the collector of garbage passes
// it by.
type record struct {
	revision    uint64
	until       int64 // nanoseconds since 1970; 0 says never
	spent       digest
	request     digest
	chunk       uint32
	start, size uint32
}

// spend is what a spender has written.
type spend struct{ name, request digest }

func newMemory(kept time.Duration, limit int64) *memory {
	return &memory{kept: kept, limit: limit}
}

func (m *memory) write(_ context.Context, _ string, t Ticket, spender string) (written, error) {
	name, err := digestOf(t.name)
	if err != nil {
		return written{}, err
	}
	var s digest
	if spender != "" {
		if s, err = digestOf(spender); err != nil {
			return written{}, err
		}
	}
	r := record{}
	if err := r.set(t.state); err != nil {
		return written{}, err
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return written{}, errClosed()
	}
	now := time.Now()
	m.forget(now)
	in, old := m.find(name)
	if old.revision != t.revision {
		return written{changed: true}, nil
	}
	if spender != "" {
		if of, ok := m.spend(s); ok {
			return written{before: &Ticket{name: of.name.name(), state: state{Spent: spender, Request: of.request.name()}}}, nil
		}
	}
	var need int64
	if in == nil {
		need += recordBytes + int64(len(t.launch))
	}
	if spender != "" {
		need += spendBytes
	}
	if m.used+need > m.limit {
		return written{}, problem.New(problem.OrgBusy, errFull)
	}
	newest := m.newest(now)
	newest.used += need
	m.used += need
	if in == nil {
		in = newest
		r.chunk, r.start, r.size = in.put(t.launch)
	} else {
		// The launch is what it was.
		r.chunk, r.start, r.size = old.chunk, old.start, old.size
	}
	m.revision++
	r.revision = m.revision
	in.records[name] = r
	if spender != "" {
		newest.spends[s] = spend{name, r.request}
	}
	return written{revision: r.revision}, nil
}

func (m *memory) read(_ context.Context, name string) (Ticket, error) {
	key, err := digestOf(name)
	if err != nil {
		return Ticket{}, err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return Ticket{}, errClosed()
	}
	in, r := m.find(key)
	var launch []byte
	if in != nil {
		launch = in.launch(r)
	}
	m.mu.Unlock()

	t := Ticket{name: name}
	if in == nil {
		return t, nil
	}
	t.revision, t.state = r.revision, r.state()
	// What lies in a chunk is never written again.
	if err := t.read(launch); err != nil {
		return Ticket{}, problem.New(problem.Internal, errors.New("what is kept of a handle cannot be read"))
	}
	return t, nil
}

func (m *memory) room(_ context.Context, size int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(time.Now())
	if m.used+int64(size)+recordBytes > m.limit/4*3 {
		return problem.New(problem.OrgBusy, errFull)
	}
	return nil
}

func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.drawers, m.used = true, nil, 0
	if m.timer != nil {
		m.timer.Stop()
	}
}

// newest returns the drawer for what is new. The caller holds mu.
func (m *memory) newest(now time.Time) *drawer {
	if n := len(m.drawers); n > 0 && now.Sub(m.drawers[n-1].since) < m.kept/drawers {
		return m.drawers[n-1]
	}
	d := &drawer{since: now, records: make(map[digest]record), spends: make(map[digest]spend)}
	m.drawers = append(m.drawers, d)
	if len(m.drawers) == 1 {
		m.wake(now)
	}
	return d
}

// forget lets go of the drawers whose time is over. The caller holds mu.
func (m *memory) forget(now time.Time) {
	for len(m.drawers) > 0 && now.Sub(m.drawers[0].since) > m.kept+m.kept/drawers {
		m.used -= m.drawers[0].used
		m.drawers[0] = nil
		m.drawers = m.drawers[1:]
	}
}

// wake has the oldest drawer forgotten in time when nobody asks for anything. The
// caller holds mu.
func (m *memory) wake(now time.Time) {
	after := m.drawers[0].since.Add(m.kept + m.kept/drawers).Sub(now)
	m.timer = time.AfterFunc(after+time.Millisecond, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		now := time.Now()
		if m.forget(now); len(m.drawers) > 0 {
			m.wake(now)
		}
	})
}

// find returns a record and the drawer that it is in. The caller holds mu.
func (m *memory) find(name digest) (*drawer, record) {
	for i := len(m.drawers) - 1; i >= 0; i-- {
		if r, ok := m.drawers[i].records[name]; ok {
			return m.drawers[i], r
		}
	}
	return nil, record{}
}

// spend returns what a spender has written. The caller holds mu.
func (m *memory) spend(by digest) (spend, bool) {
	for i := len(m.drawers) - 1; i >= 0; i-- {
		if s, ok := m.drawers[i].spends[by]; ok {
			return s, true
		}
	}
	return spend{}, false
}

// put copies a launch into a chunk.
func (d *drawer) put(launch []byte) (chunk, start, size uint32) {
	if len(launch) == 0 {
		return 0, 0, 0
	}
	last := len(d.chunks) - 1
	if last < 0 || cap(d.chunks[last])-len(d.chunks[last]) < len(launch) {
		next := leastChunk
		if last >= 0 {
			next = min(2*cap(d.chunks[last]), mostChunk)
		}
		next = max(next, len(launch))
		d.chunks = append(d.chunks, make([]byte, 0, next))
		last++
	}
	at := len(d.chunks[last])
	d.chunks[last] = append(d.chunks[last], launch...)
	return uint32(last), uint32(at), uint32(len(launch))
}

func (d *drawer) launch(r record) []byte {
	if r.size == 0 {
		return nil
	}
	return d.chunks[r.chunk][r.start : r.start+r.size : r.start+r.size]
}

func (r *record) set(s state) (err error) {
	if !s.Until.IsZero() {
		r.until = s.Until.UnixNano()
	}
	if s.Spent != "" {
		if r.spent, err = digestOf(s.Spent); err != nil {
			return err
		}
	}
	if s.Request != "" {
		r.request, err = digestOf(s.Request)
	}
	return err
}

func (r *record) state() state {
	s := state{Spent: r.spent.name(), Request: r.request.name()}
	if r.until != 0 {
		s.Until = time.Unix(0, r.until)
	}
	return s
}

// digestOf is the way back from Name.
func digestOf(name string) (d digest, err error) {
	var all [33]byte // what Decode may write to
	n, err := base64.RawURLEncoding.Decode(all[:], []byte(name))
	if err != nil || n != len(d) {
		return d, problem.New(problem.Internal, errors.New("a handle's name is none"))
	}
	copy(d[:], all[:])
	return d, nil
}

// name is empty where there is none.
func (d digest) name() string {
	if d == (digest{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(d[:])
}

func errClosed() error {
	return problem.New(problem.OrgBusy, errors.New("the store is closed"))
}
