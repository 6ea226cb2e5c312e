package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/problem"
)

const (
	// placeTime bounds one call to one place.
	placeTime = 15 * time.Second
	// pullTime is how long a worker asks for a note, pullBeat how often it wants to
	// hear that it is still heard: a server that died is silent, and no note would
	// come before it is asked for anew.
	pullTime = 10 * time.Second
	pullBeat = 2 * time.Second
	// recoverTime is the pause after a queue that could not be read.
	recoverTime = time.Second
)

// work delivers the notes of one shard, one after another.
func (q *Queue) work(s *shard) {
	for q.pulling.Err() == nil {
		c, err := q.consumer(q.pulling, s)
		if err == nil {
			err = q.pull(s, c)
		}
		if err == nil || q.pulling.Err() != nil {
			continue
		}
		// All workers meet it at once; one line tells of it.
		if !s.unread.Swap(true) {
			q.o.Log.Warn("the queue of deliveries cannot be read; it is tried again", "stream", s.name, "cause", err.Error())
		}
		q.pause(recoverTime)
	}
}

func (q *Queue) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-q.pulling.Done():
	case <-t.C:
	}
}

// pull asks for a note only when it is free to deliver it, so that none waits in
// this process while its time runs out.
func (q *Queue) pull(s *shard, c jetstream.Consumer) error {
	messages, err := c.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(pullTime), jetstream.PullHeartbeat(pullBeat))
	if err != nil {
		return err
	}
	defer context.AfterFunc(q.pulling, messages.Stop)()
	defer messages.Stop()
	for {
		m, err := messages.Next()
		switch {
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case err != nil:
			return err
		}
		if s.unread.Swap(false) {
			q.o.Log.Info("the queue of deliveries is read again", "stream", s.name)
		}
		q.handle(m)
	}
}

// handle delivers one note and says when it is to come again.
func (q *Queue) handle(m jetstream.Msg) {
	defer func() {
		if fault := recover(); fault != nil {
			// What panicked may hold anything: its text is not logged.
			q.o.Log.Error("a delivery panicked; it is tried again later")
			_ = m.NakWithDelay(longestPause)
		}
	}()
	header := m.Headers()
	k, isKey := parseKey(m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:])
	if !isKey || header.Get(headerState) != Queued {
		_ = m.Ack()
		return
	}
	at, err := m.Metadata()
	if err != nil {
		_ = m.Nak()
		return
	}
	e, err := q.read(k, header, m.Data())
	if err != nil {
		q.o.Log.Error("a delivery cannot be opened; it is kept, and needs the key of nats.seal_key_files by which it was sealed", "delivery", string(k))
		_ = m.NakWithDelay(sealedPause)
		return
	}
	e.seq = at.Sequence.Stream
	if wait := e.meta.NotBefore.Sub(q.o.Now()); wait > 0 {
		_ = m.NakWithDelay(wait)
		return
	}
	stop := q.alive(m)
	wait, err := q.deliver(e)
	stop()
	switch {
	case err == nil && wait == 0, conflict(err):
		// With a conflict a person or another backend was faster: theirs counts.
		_ = m.Ack()
	case err != nil:
		q.o.Log.Warn("what became of a delivery could not be kept; it is delivered again", "delivery", string(k), "cause", err.Error())
		_ = m.NakWithDelay(q.patience(e, q.o.Now()))
	default:
		_ = m.NakWithDelay(wait)
	}
}

// alive tells JetStream that a delivery is under way, until stop.
func (q *Queue) alive(m jetstream.Msg) (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(q.o.AckWait / 3)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_ = m.InProgress()
			}
		}
	})
	return func() { close(done); ended.Wait() }
}

// deliver tells every place that has not answered for good. It returns 0 when the
// message is done with, and else after how long it is to come again.
func (q *Queue) deliver(e entry) (time.Duration, error) {
	c, err := nabla.Parse(e.raw)
	if err != nil {
		return 0, q.putAside(e, CodeUnreadable)
	}
	note := Note{Callback: c, Raw: e.raw, Received: e.meta.Received}
	results := make(map[string]Outcome, len(q.places))
	open, bad, reason := 0, "", ""
	progress, asked := false, false
	var rest time.Duration
	for _, p := range q.places {
		before := e.meta.Places[p.Name()]
		if before.State == taken || before.State == refused {
			results[p.Name()] = before
			if before.State == refused {
				bad = before.Code
			}
			continue
		}
		outcome, wait, called := q.tell(p, note)
		asked = asked || called
		results[p.Name()] = outcome
		switch outcome.State {
		case taken:
			progress = true
		case refused:
			progress, bad = true, outcome.Code
		default:
			open++
			reason = outcome.Code
			rest = max(rest, wait)
		}
	}
	e.meta.Places = results
	if open == 0 && bad == "" {
		e.meta.Tries++
		return q.finish(e, c, progress)
	}
	e.meta.Tries = 1 + max(e.meta.Tries, q.noted(q.working, e).Tries)
	if open == 0 {
		return 0, q.putAside(e, bad)
	}
	now := q.o.Now()
	if now.Sub(e.meta.Since) >= q.o.GiveUpAfter {
		return 0, q.putAside(e, reason)
	}
	if !asked {
		return rest, nil // it says nothing of this note that its place is left alone
	}
	q.counters.failed.Add(1)
	wait := max(q.patience(e, now), rest)
	if !progress {
		q.note(e)
		return wait, nil
	}
	e.meta.NotBefore = now.Add(wait)
	return 0, q.change(e, Queued)
}

// finish tells of a note that all places have, and lets its content go.
func (q *Queue) finish(e entry, c nabla.Callback, progress bool) (time.Duration, error) {
	if q.o.Exported != nil && !e.meta.Told {
		ctx, cancel := context.WithTimeout(q.working, placeTime)
		err := q.o.Exported(ctx, c.ExternalEncounterID, c.ExternalProviderID, e.meta.Received)
		cancel()
		switch {
		case err == nil:
		case problem.CodeOf(err) == problem.RequestInvalid:
			// The workstations' contract cannot say it; the EHR has the note.
			q.o.Log.Warn("an export cannot be told to the workstations: its ids are out of the contract's bounds", "delivery", string(e.key))
		case progress:
			now := q.o.Now()
			e.meta.NotBefore = now.Add(q.patience(e, now))
			return 0, q.change(e, Queued)
		default:
			return q.patience(e, q.o.Now()), nil
		}
		e.meta.Told = true
	}
	e.meta.Ended = q.o.Now().UTC()
	if err := q.change(e, Delivered); err != nil {
		return 0, err
	}
	q.counters.delivered.Add(1)
	return 0, nil
}

func (q *Queue) putAside(e entry, reason string) error {
	e.meta.Ended, e.meta.Reason = q.o.Now().UTC(), reason
	if err := q.change(e, Aside); err != nil {
		return err
	}
	q.counters.aside.Add(1)
	q.o.Log.Error("a note was put aside: a person must look (org-backend deliveries)", "delivery", string(e.key), "code", reason)
	return nil
}

// change replaces what is kept of a delivery, if nobody else has.
func (q *Queue) change(e entry, state string) error {
	before := e.seq
	e.state = state
	ctx, cancel := context.WithTimeout(q.working, storeTime)
	defer cancel()
	return q.put(ctx, e, before)
}

// tell brings a note to one place, or, when the place has not answered for a while,
// leaves it alone. wait is how long it wants to be, or is, left alone.
func (q *Queue) tell(p Place, n Note) (o Outcome, wait time.Duration, called bool) {
	g := q.gates[p.Name()]
	wait, code := g.enter(q.o.Now())
	if wait > 0 {
		return Outcome{State: again, Code: code, At: q.o.Now().UTC()}, wait, false
	}
	ctx, cancel := context.WithTimeout(q.working, placeTime)
	defer cancel()
	err := safely(ctx, p, n)
	o = Outcome{State: taken, At: q.o.Now().UTC()}
	var f *Failure
	switch {
	case err == nil:
	case errors.As(err, &f) && f.Refused:
		o.State, o.Code = refused, f.Code
	case errors.As(err, &f):
		o.State, o.Code = again, f.Code
	default:
		o.State, o.Code = again, CodeFailed
	}
	if err != nil {
		// The error's text is a place's own: it names what failed, never on what.
		q.o.Log.LogAttrs(q.working, slog.LevelWarn, "a place did not take a note", slog.String("delivery", string(keyOf(n.RequestUUID))), slog.String("place", p.Name()), slog.String("state", o.State),
			slog.String("code", o.Code), slog.String("cause", err.Error()))
	}
	if o.State != again {
		g.leave(q.o.Now(), "", 0)
		return o, 0, true
	}
	var after time.Duration
	if f != nil {
		after = f.After
	}
	g.leave(q.o.Now(), o.Code, after)
	return o, after, true
}

// safely makes a failure of a panic: what panicked may hold anything, so its text
// goes nowhere.
func safely(ctx context.Context, p Place, n Note) (err error) {
	defer func() {
		if recover() != nil {
			err = &Failure{Code: CodeFailed}
		}
	}()
	return p.Deliver(ctx, n)
}

// patience is how long to wait before the next try: half of how long it has
// lasted, with jitter, from FirstPause to ten minutes. That needs nothing to be kept.
func (q *Queue) patience(e entry, now time.Time) time.Duration {
	d := min(max(now.Sub(e.meta.Since)/2, q.o.FirstPause), longestPause)
	return d - d/10 + rand.N(d/5+1)
}

// tried is what is known of a note that goes on being tried: in memory only, since
// writing a whole note to disk for every try would cost more than it tells.
type tried struct {
	Since  time.Time          `json:"since"`
	Tries  int                `json:"tries"`
	Places map[string]Outcome `json:"places"`
}

func (q *Queue) note(e entry) {
	text, err := json.Marshal(tried{e.meta.Since, e.meta.Tries, e.meta.Places})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(q.working, storeTime)
	defer cancel()
	// Only the look at it is poorer without.
	_, _ = q.conn.JetStream().Publish(ctx, subjectOfTries(string(e.key)), q.conn.Seal(placeOfTries(e.key), text))
}

func subjectOfTries(name string) string { return "deliveries.tries." + name }

func placeOfTries(k key) string { return "tries " + string(k) }

// noted returns what note wrote in the present patience, if anything.
func (q *Queue) noted(ctx context.Context, e entry) tried {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	m, err := q.tries.GetLastMsgForSubject(ctx, subjectOfTries(string(e.key)))
	if err != nil {
		return tried{}
	}
	text, err := q.conn.Open(placeOfTries(e.key), m.Data)
	var t tried
	if err != nil || json.Unmarshal(text, &t) != nil || !t.Since.Equal(e.meta.Since) {
		return tried{}
	}
	return t
}

// gate leaves a place alone that has failed several times in a row, so that one
// that hangs does not hold up the workers for the others.
type gate struct {
	first time.Duration

	mu       sync.Mutex
	failures int
	until    time.Time
	probing  bool
	code     string
}

const (
	gateFailures = 3
	gateLongest  = time.Minute
	// probeWait first pauses are how long others wait while one tries.
	probeWait = 5
)

// enter returns 0 when the place may be told; then leave must follow.
func (g *gate) enter(now time.Time) (wait time.Duration, code string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.until.Sub(now); wait > 0 {
		return wait, g.code
	}
	if g.failures < gateFailures {
		return 0, ""
	}
	if g.probing {
		return probeWait * g.first, g.code
	}
	g.probing = true
	return 0, ""
}

// leave says how it went; an empty code means that the place answered.
func (g *gate) leave(now time.Time, code string, after time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
	g.code = code
	if code == "" {
		g.failures, g.until = 0, time.Time{}
		return
	}
	g.failures++
	if g.failures >= gateFailures {
		after = max(after, min(g.first<<min(g.failures-gateFailures, 16), gateLongest))
	}
	if after > 0 {
		g.until = now.Add(min(after, longestPause))
	}
}

// open lets a place be told at once: a person says that it is repaired.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures, g.until = 0, time.Time{}
}
