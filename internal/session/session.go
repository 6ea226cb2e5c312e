// Package session watches the person's session on this computer and reports
// what becomes of it: locked, switched away from, disconnected, without input.
//
// It never decides anything: what a lock or an hour without input means is its
// caller's. It never locks, unlocks or wakes anything, never starts a bus or a
// service, and never learns what is typed: only how long ago the last input was.
package session

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// errGone says that the system has no more to tell. It is never a problem: the
// caller learns from Watched what can be seen.
var errGone = errors.New("this system does not tell")

// Kind is what has happened.
type Kind string

// The kinds of an Event.
const (
	// Locked: the screen was locked, its saver came on, or the computer goes to sleep.
	// It may be told twice of one lock, the first time when the lock was asked for.
	Locked Kind = "locked"
	// Unlocked: none of what Locked tells is the case any more.
	Unlocked Kind = "unlocked"
	// SwitchedAway: another session has the screen.
	SwitchedAway Kind = "switched away"
	// SwitchedBack: this session has the screen again.
	SwitchedBack Kind = "switched back"
	// Disconnected: the session was left or logged off while this program goes on.
	Disconnected Kind = "disconnected"
	// Idle: there was no input for one of the marks; Event.Idle says for how long.
	Idle Kind = "idle"
	// Active: there was input after an Idle.
	Active Kind = "active"
	// Watched: what can be seen has changed; Event.Watched says what it is now.
	Watched Kind = "watched"
)

// Event is one thing that has happened.
type Event struct {
	Kind Kind
	// Idle is how long there was no input, in an Idle.
	Idle time.Duration
	// Watched is set in a Watched.
	Watched Sources
}

// Sources says what of a session can be seen.
type Sources struct {
	// Lock: somebody would tell of a lock.
	Lock bool
	// Idle: somebody says how long there was no input.
	Idle bool
}

const (
	// glance is the pause between two looks while the person is idle beyond a mark,
	// so that somebody who is back is soon seen to be.
	glance = 2 * time.Second
	// blindPause is the pause between two looks while nobody says how long there was
	// no input.
	blindPause = time.Minute
	// leastPause keeps a clock that runs in steps from being asked without a pause.
	leastPause = 100 * time.Millisecond
	// lookLimit is how long a source may take to answer.
	lookLimit = 2 * time.Second
)

// Watcher watches one session. Its zero value is of no use: see New.
type Watcher struct {
	desk  *desk
	marks chan []time.Duration // buffered 1: the newest
	// after is a timer, but for tests.
	after func(time.Duration) (at <-chan time.Time, stop func() bool)
}

// New returns a Watcher of the session of this process. It connects to nothing.
func New(log *slog.Logger) *Watcher {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Watcher{
		desk: newDesk(log), marks: make(chan []time.Duration, 1),
		after: func(d time.Duration) (<-chan time.Time, func() bool) {
			t := time.NewTimer(d)
			return t.C, t.Stop
		},
	}
}

// Marks says after how long without input an Idle is wanted; none for never, and
// then no source is asked. Marks also has the source asked at once. It may be called
// at any time.
func (w *Watcher) Marks(marks ...time.Duration) {
	marks = slices.Sorted(slices.Values(marks))
	for {
		select {
		case w.marks <- marks:
			return
		default:
		}
		select {
		case <-w.marks:
		default:
		}
	}
}

// Run reports until ctx ends. It is called once. report is called from one
// goroutine, and what happens meanwhile waits for it. A session that is locked or
// away when Run begins is reported as if that happened now; the first Watched comes
// as soon as it is known who would tell. A source that goes away is looked for again.
//
// How long there was no input is asked for only when a mark may have been
// crossed, and every two seconds while one is.
func (w *Watcher) Run(ctx context.Context, report func(Event)) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	watching := make(chan struct{})
	defer func() { end(); <-watching }()
	go func() {
		defer close(watching)
		w.desk.watch(ctx)
	}()
	s := &state{report: report, locks: map[string]bool{}}
	looks := make(chan look, 1)
	looking, again := false, false
	var due <-chan time.Time
	stop := func() bool { return true }
	defer func() { stop() }()
	see := func() {
		if looking {
			again = true
			return
		}
		stop()
		looking, again, due = true, false, nil
		go func() {
			asking, cancel := context.WithTimeout(ctx, lookLimit)
			defer cancel()
			idle, err := w.desk.idle(asking)
			looks <- look{idle, err == nil}
		}()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-w.desk.changes:
			s.take(c)
			if c.what == sources || c.what == woke {
				see()
			}
		case marks := <-w.marks:
			if !slices.Equal(marks, s.marks) {
				s.marks, s.passed = marks, 0
			}
			if stop(); len(s.marks) > 0 {
				see()
			} else {
				due = nil
			}
		case <-due:
			see()
		case l := <-looks:
			looking = false
			s.looked(l)
			if again {
				see()
			} else if pause, ok := s.next(l); ok {
				due, stop = w.after(pause)
			}
		}
	}
}

// look is what a source said.
type look struct {
	idle time.Duration
	ok   bool
}

// what a change of the desk is about.
type what int

const (
	lock    what = iota // of one source
	away                // the session has the screen, or not
	gone                // the session has ended
	sources             // somebody has come or gone who tells; on says whether locks are seen
	woke                // the computer was asleep
)

// change is what the desk has seen.
type change struct {
	what   what
	source string // of a lock
	on     bool
}

// bySignal is the source of a lock that was asked for by a signal: nothing tells
// whether it came about, so any unlocking ends it.
const bySignal = "signal"

// state turns what several sources say into events. It belongs to the goroutine
// of Run.
type state struct {
	report  func(Event)
	locks   map[string]bool
	away    bool
	known   bool // who tells has been found out
	watched Sources
	asked   bool // a source of idle time has been asked
	told    bool
	before  Sources // what was told
	marks   []time.Duration
	passed  int // how many marks the person is beyond
}

func (s *state) locked() bool {
	for _, on := range s.locks {
		if on {
			return true
		}
	}
	return false
}

// seen reports whether somebody who sees the screen says that it is locked.
func (s *state) seen() bool {
	for source, on := range s.locks {
		if on && source != bySignal {
			return true
		}
	}
	return false
}

func (s *state) take(c change) {
	switch c.what {
	case lock:
		before, seen := s.locked(), s.seen()
		if s.locks[c.source] && !c.on {
			delete(s.locks, bySignal)
		}
		s.locks[c.source] = c.on
		switch now := s.locked(); {
		case c.on && !seen: // perhaps once more, where one was asked for that may not have come about
			s.report(Event{Kind: Locked})
		case before && !now:
			s.report(Event{Kind: Unlocked})
		}
	case away:
		if c.on == s.away {
			return
		}
		s.away = c.on
		if c.on {
			s.report(Event{Kind: SwitchedAway})
		} else {
			s.report(Event{Kind: SwitchedBack})
		}
	case gone:
		s.away = true // until a session has the screen again
		s.report(Event{Kind: Disconnected})
	case sources:
		// The look that follows tells both at once.
		s.known, s.asked, s.watched.Lock = true, false, c.on
	}
}

func (s *state) tell() {
	if s.known && s.asked && (!s.told || s.before != s.watched) {
		s.told, s.before = true, s.watched
		s.report(Event{Kind: Watched, Watched: s.watched})
	}
}

func (s *state) looked(l look) {
	s.asked, s.watched.Idle = true, l.ok
	s.tell()
	if !l.ok {
		return
	}
	passed := 0
	for passed < len(s.marks) && s.marks[passed] <= l.idle {
		passed++
	}
	before := s.passed
	s.passed = passed
	switch {
	case passed > before:
		s.report(Event{Kind: Idle, Idle: l.idle})
	case passed < before:
		s.report(Event{Kind: Active})
	}
}

// next is how long the next look may wait; false when none is wanted.
func (s *state) next(l look) (time.Duration, bool) {
	switch {
	case len(s.marks) == 0:
		return 0, false
	case !l.ok:
		return blindPause, true
	case s.passed == len(s.marks):
		return glance, true
	}
	pause := max(s.marks[s.passed]-l.idle, leastPause)
	if s.passed > 0 {
		pause = min(pause, glance)
	}
	return pause, true
}
