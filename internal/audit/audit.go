// Package audit writes what became of every launch and every sign-in: one JSON
// line each, appended and synced, in a file per agent. Each line carries the
// hash of the one before, across files too, and with a Sink each hash also goes
// to the log of the system.
//
// This shows accidental loss and casual edits; it does not stop somebody who has
// the user's rights and recomputes every hash, unless a Sink holds the hashes.
//
// It never writes a patient, a link, a URL or a token in any form: a Record has
// no field for one, and a value that is not of its field's form is withheld.
// Who opened which patient is the backend's audit.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"encounterlauncher/internal/problem"
)

// The outcomes that the program records. Others of the same form (lower-case
// letters and underscores, at most 32) are accepted.
const (
	Opened    = "opened"    // an encounter was handed to the browser
	Dropped   = "dropped"   // a second URL of one encounter was not opened
	Refused   = "refused"   // a link or request was not accepted
	Failed    = "failed"    // a launch or sign-in ended in a problem
	Cancelled = "cancelled" // a person ended it
	SignedIn  = "signed_in"
	SignedOut = "signed_out"
	// Signed out by policy: the screen was locked, another session got it, the
	// session was left, there was no input, the sign-in was too old.
	SignedOutLocked       = "signed_out_locked"
	SignedOutSwitched     = "signed_out_switched"
	SignedOutDisconnected = "signed_out_disconnected"
	SignedOutIdle         = "signed_out_idle"
	SignedOutAge          = "signed_out_age"
	Started               = "started" // of the agent
	Stopped               = "stopped"
	// Of the links of the EHR: another program receives them, or none; this one does
	// again; an older registration of this program was removed.
	LinkTaken    = "link_taken"
	LinkReturned = "link_returned"
	LinkCleaned  = "link_cleaned"
)

// The outcomes that this room writes about the files themselves.
const (
	recovered = "recovered" // a torn line before this one was found and kept
	removed   = "removed"   // old files were removed
)

// Record is one thing that happened. A value that is not of the form given here
// is left out of the line, and the line names its field as withheld.
type Record struct {
	// Outcome is one of the constants.
	Outcome string
	// Code is from the closed list; empty when nothing went wrong.
	Code problem.Code
	// Reference is that of the problem, so that a screen leads to a line: eight
	// characters.
	Reference string
	// Person is the e-mail of who is signed in, or the subject where there is
	// none; at most 254 visible characters. Never a patient.
	Person string
	// RequestID is the X-Request-Id under which the backend has the call: a UUID,
	// or 8 to 36 lower-case hexadecimal digits.
	RequestID string
}

// ErrSink says, in the chain of an error, that the line was written and its hash
// did not reach the log of the system.
var ErrSink = errors.New("the hash did not reach the system's log")

// flushPause keeps a full disk from being tried without a pause.
const flushPause = time.Second

// Log is the audit of one agent. Its methods may be called from several
// goroutines.
type Log struct {
	mu     sync.Mutex
	chain  *chain // guarded by mu
	floods floods // guarded by mu
	closed bool   // guarded by mu
	timer  *time.Timer
	now    func() time.Time
}

// Open opens the audit file of an agent in a folder, creating the folder (0700)
// and the file (0600). name is that of one agent, such as
// "agent-20260301T080000Z-4711", with or without ".jsonl"; two running agents
// must not share one.
// An existing file is continued: a line that a crash tore is kept, and the next
// line says so. sink may be nil; now may be nil for the real clock.
//
// A file is continued in another one ("name.0002.jsonl") at 1 MiB. Files whose
// newest line is older than 90 days are removed, and the oldest beyond 1,000
// files; a line says so, and Verify then does not miss them.
func Open(dir, name string, sink Sink, now func() time.Time) (*Log, error) {
	if now == nil {
		now = time.Now
	}
	base, ok := baseOf(strings.TrimSuffix(name, suffix) + suffix)
	if !ok || base == handlerBase {
		return nil, problem.New(problem.Internal, errors.New("opening the audit: its name is not one"))
	}
	c := newChain(dir, base, sink)
	if err := c.open(now()); err != nil {
		return nil, problem.New(problem.Internal, fmt.Errorf("opening the audit: %w", withoutPath(err)))
	}
	// Refusals that link handlers counted while no agent ran; they stay counted if
	// this does not work.
	_ = flushHandler(dir, sink, now())
	return &Log{chain: c, floods: floods{}, now: now}, nil
}

// Record appends a line and syncs it to the disk before it returns. Refusals
// alike (outcome, code, person) beyond five in ten seconds are counted, and
// become one line with their number when another outcome is recorded, when the
// ten seconds are over, at Flush or at Close. An error wraps ErrSink when only
// the sink failed; the problem is internal. The end of ctx does not keep what
// happened from being written.
func (l *Log) Record(_ context.Context, r Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return problem.New(problem.Internal, errors.New("writing the audit: it is closed"))
	}
	now := l.now()
	write, due := l.floods.admit(now, r)
	var failed []error
	for _, b := range due {
		failed = append(failed, l.summary(now, b))
	}
	if write {
		failed = append(failed, l.chain.append(now, lineOf(r)))
	}
	l.watch(now)
	return asProblem(errors.Join(failed...))
}

// Flush writes the numbers of what was counted so far.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	return asProblem(l.flush(func(*burst) bool { return true }))
}

// Close flushes and closes the file. Closing twice is no error.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	err := l.flush(func(*burst) bool { return true })
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	return asProblem(errors.Join(err, l.chain.close()))
}

func (l *Log) flush(which func(*burst) bool) error {
	now := l.now()
	var failed []error
	for _, b := range l.floods.take(which) {
		failed = append(failed, l.summary(now, b))
	}
	return errors.Join(failed...)
}

// summary writes the number of a burst, and counts on when the disk refuses it.
func (l *Log) summary(now time.Time, b burst) error {
	err := l.chain.append(now, summaryOf(b))
	if err != nil && !errors.Is(err, ErrSink) {
		l.floods.putBack(b)
	}
	return err
}

// watch makes sure that a count is written when its window ends, also if nothing
// else is ever recorded.
func (l *Log) watch(now time.Time) {
	end, pending := l.floods.nextEnd()
	if !pending || l.timer != nil {
		return
	}
	l.timer = time.AfterFunc(max(end.Sub(now), flushPause), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed {
			return
		}
		l.timer = nil
		at := l.now()
		// What fails here stays counted, and the next Record tells.
		_ = l.flush(func(b *burst) bool { return !at.Before(b.end()) })
		l.watch(at)
	})
}

func asProblem(err error) error {
	if err == nil {
		return nil
	}
	return problem.New(problem.Internal, fmt.Errorf("writing the audit: %w", withoutPath(err)))
}

// withoutPath takes the path out of an error: it holds the name of the user.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Op, path.Err)
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return fmt.Errorf("%s: %w", link.Op, link.Err)
	}
	return err
}
