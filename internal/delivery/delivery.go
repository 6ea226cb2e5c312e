// Package delivery brings exported notes to the EHR: a callback is kept durably
// before Nabla is answered, then brought to every place that the organisation
// named, again and again until it is there or a person must look.
//
// How it is kept. A callback is one message of a JetStream stream, under a subject
// of its own that is the hash of its request_uuid. Taking it is a publish that
// expects the subject to be empty: known-never-before and durable are one step, so
// a store that fails marks nothing as seen. Whatever happens to it later is a new
// message under the same subject, which replaces the one before and expects it to
// be the last. The states are queued, aside (a person must look; the content is
// kept) and delivered or discarded (the content is gone, the hash stays for
// Options.Remember, so that a replay is still refused).
//
// Every place is told by itself: one that has the note is not told again when
// another fails. Delivery is at least once, so a place must take the same
// request_uuid twice without harm. The order of two notes is not promised, not
// even of one encounter. The clinician is told "exported" once all places have the
// note, for that is what the word says.
//
// It never loses a callback that it took, never takes the same one twice, never
// keeps the content of one that was delivered, and never writes a note anywhere
// but sealed into the queue and to the places named. No error and no log line of
// it holds an id or a word of a note.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgstore"
)

const (
	// shards are streams of the same kind. With SyncAlways a stream waits for the
	// disk with every message; four wait side by side, which was measured to take
	// twice as many callbacks a second as one (6,600 against 3,300). The number
	// must be the same on all backends, for ever.
	shards = 4
	// workersOfShard bound how many notes are on their way at once in this process.
	workersOfShard = 4
	// maxWaiting bounds what of one shard is tried again later; beyond it new notes
	// wait as well.
	maxWaiting = 25_000
	// The queue takes streamBytes of each shard at most, or as much as there is
	// room for; at leastBytes it gives up. In memory it is for development.
	streamBytes = 2 << 30
	leastBytes  = 16 << 20
	memoryBytes = 16 << 20
	// triesBytes hold the last try of some 50,000 notes.
	triesBytes = 32 << 20
	watchPause = time.Second
	// After maxStuck probes that failed, each a second or more after the one before, a
	// shard is given up. One that worked is kept for probeAge.
	maxStuck  = 5
	probeAge  = time.Minute
	storeTime = 5 * time.Second
	// A callback may take keepTime to be kept, which is less than Nabla's caller
	// waits; one try of it keepTry.
	keepTime     = 8 * time.Second
	keepTry      = 2 * time.Second
	keepPause    = 100 * time.Millisecond
	confirmTime  = 2 * time.Second
	drainTime    = 10 * time.Second
	sealedPause  = 10 * time.Minute
	longestPause = 10 * time.Minute

	defaultGiveUpAfter = 24 * time.Hour
	defaultRemember    = 7 * 24 * time.Hour
	defaultFirstPause  = time.Second
	defaultAckWait     = 30 * time.Second
	// MaxCallbackBytes is the largest callback that is taken.
	MaxCallbackBytes = 8 << 20
)

var (
	// ErrSeen means that this request_uuid was taken before.
	ErrSeen = errors.New("the callback was taken before")
	// ErrFull means that the queue has no room: nothing was taken, and nothing is
	// dropped to make room.
	ErrFull = errors.New("the queue of deliveries is full")
	// ErrUnwritable means that the disk of the queue does not take anything: nothing was
	// taken.
	ErrUnwritable = errors.New("the queue of deliveries cannot be written")
	// ErrTooLarge means that the callback is larger than MaxCallbackBytes, or than
	// the messages that the NATS cluster takes (max_payload).
	ErrTooLarge = errors.New("the callback is too large")
	// ErrNotFound means that there is no such delivery.
	ErrNotFound = errors.New("there is no such delivery")
	// ErrGone means that a delivery ended and its content is gone.
	ErrGone = errors.New("the delivery has ended, and its content is gone")
	// ErrChanged means that a delivery changed while a person acted on it.
	ErrChanged = errors.New("the delivery has just changed; look again")
)

// Options of a queue. Zero values are right for production, but for Exported.
type Options struct {
	// GiveUpAfter is how long a note is tried before it is put aside, 0 means 24
	// hours; Remember how long it is known that it was delivered, 0 means 7 days.
	GiveUpAfter, Remember time.Duration
	// Exported is told of every note that all places have: once or more often. An
	// error is tried again.
	Exported func(ctx context.Context, encounterID, providerID string, at time.Time) error
	// Broken, when not nil, is told once that the queue does not take anything any more
	// although its disk has room again: JetStream refuses all that is new once one write
	// has failed (v2.15.2), and only a new start of this process mends that.
	Broken func()
	// Now is the clock; nil means time.Now. When JetStream gives a note out again
	// is by its own clock.
	Now func() time.Time
	// Log may be nil. What it is told holds no id and nothing of a note.
	Log *slog.Logger
	// FirstPause is the pause after a first failure, 0 means a second; AckWait how
	// long JetStream waits for a backend that died, 0 means 30 seconds.
	FirstPause, AckWait time.Duration

	// shardBytes is for tests.
	shardBytes int64
}

// Note is one callback on its way to a place.
type Note struct {
	nabla.Callback
	// Raw is the callback's body, byte for byte.
	Raw []byte
	// Received is when it was taken.
	Received time.Time
}

// Place is where exported notes go. Deliver is told one note, perhaps more than
// once, and must make the same of it each time. An error that is, or wraps, a
// Failure says what to do; any other is tried again.
type Place interface {
	// Name is how people call it: webhook, fhir, folder.
	Name() string
	Deliver(ctx context.Context, n Note) error
}

// Failure is why a place did not take a note.
type Failure struct {
	// Code is one of the words that Advice explains.
	Code string
	// Refused means that the place will never take this note as it is: a person
	// must look.
	Refused bool
	// After, when it is not 0, is how long the place wants to be left alone.
	After time.Duration
	// Cause is for the log; nil means that the code says it all.
	Cause error
}

func (f *Failure) Error() string {
	if f.Cause != nil {
		return f.Cause.Error()
	}
	return f.Code
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }

// Queue takes callbacks and brings them to their places. It is safe for concurrent
// use, and any number of backends may share it.
type Queue struct {
	conn     *orgstore.Conn
	places   []Place
	gates    map[string]*gate
	o        Options
	shards   [shards]*shard
	tries    jetstream.Stream
	counters counters

	pulling context.Context // ends when no new note is begun
	halt    context.CancelFunc
	working context.Context // ends when those under way must end
	abort   context.CancelFunc
	running sync.WaitGroup
	broken  sync.Once
}

// shard is one of the streams.
type shard struct {
	name   string
	probe  string // the subject of what is no delivery
	stream jetstream.Stream
	limit  int64
	full   atomic.Bool
	unread atomic.Bool
	// unwritten says that a write has failed, and that none has worked since; stuck how
	// often that was so although there was room. Only mend uses the latter.
	unwritten atomic.Bool
	stuck     int
}

type counters struct{ accepted, replayed, delivered, failed, aside atomic.Uint64 }

// Counts are what this process did since it started, for metrics.
type Counts struct{ Accepted, Replayed, Delivered, Failed, PutAside uint64 }

// Counts returns what this process did since it started.
func (q *Queue) Counts() Counts {
	c := &q.counters
	return Counts{c.accepted.Load(), c.replayed.Load(), c.delivered.Load(), c.failed.Load(), c.aside.Load()}
}

// Open makes the streams where they are missing, and begins to deliver. Where
// conn is not durable the queue lives in memory and ends with the process, which
// is for development only.
func Open(ctx context.Context, conn *orgstore.Conn, places []Place, o Options) (*Queue, error) {
	if o.GiveUpAfter == 0 {
		o.GiveUpAfter = defaultGiveUpAfter
	}
	if o.Remember == 0 {
		o.Remember = defaultRemember
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FirstPause == 0 {
		o.FirstPause = defaultFirstPause
	}
	if o.AckWait == 0 {
		o.AckWait = defaultAckWait
	}
	q := &Queue{conn: conn, places: places, gates: make(map[string]*gate, len(places)), o: o}
	for _, p := range places {
		q.gates[p.Name()] = &gate{first: o.FirstPause}
	}
	if limit := conn.NATS().MaxPayload(); limit < MaxCallbackBytes+headerRoom {
		o.Log.Warn("the cluster's max_payload is small: callbacks that do not pack below it are refused; 10MB takes them all", "max_payload", limit)
	}
	for n := range q.shards {
		s, err := q.openShard(ctx, n)
		if err != nil {
			return nil, err
		}
		q.shards[n] = s
	}
	var err error
	q.tries, err = conn.Stream(ctx, jetstream.StreamConfig{
		Name: "deliveries-tries", Subjects: []string{subjectOfTries("*")}, Storage: jetstream.MemoryStorage,
		MaxMsgsPerSubject: 1, MaxAge: 2 * o.GiveUpAfter, MaxBytes: triesBytes, Discard: jetstream.DiscardOld, Duplicates: time.Second,
	})
	if err != nil {
		return nil, err
	}
	// The context of opening ends with opening.
	q.pulling, q.halt = context.WithCancel(context.WithoutCancel(ctx))
	q.working, q.abort = context.WithCancel(context.WithoutCancel(ctx))
	q.watch(ctx)
	q.running.Go(q.watchOn)
	q.running.Go(q.mendOn)
	for _, s := range q.shards {
		for range workersOfShard {
			q.running.Go(func() { q.work(s) })
		}
	}
	return q, nil
}

func (q *Queue) openShard(ctx context.Context, n int) (*shard, error) {
	cfg := jetstream.StreamConfig{
		Name: fmt.Sprintf("deliveries-%d", n), Subjects: []string{subjectOf(n, "*")},
		Storage: jetstream.FileStorage, MaxBytes: streamBytes, MaxMsgsPerSubject: 1,
		// What is new is refused; nothing that was taken makes room for it.
		Discard: jetstream.DiscardNew, AllowMsgTTL: true,
		// Seen before is told by subject. The window only costs memory.
		Duplicates: time.Second,
	}
	if !q.conn.Durable() {
		cfg.Storage, cfg.MaxBytes = jetstream.MemoryStorage, memoryBytes
	}
	if q.o.shardBytes > 0 {
		cfg.MaxBytes = q.o.shardBytes
	}
	// A queue that is there keeps its size.
	if old, err := q.conn.JetStream().Stream(ctx, cfg.Name); err == nil {
		cfg.MaxBytes = old.CachedInfo().Config.MaxBytes
	}
	stream, err := q.conn.Stream(ctx, cfg)
	for tooLittleRoom(err) && cfg.MaxBytes/2 >= leastBytes {
		cfg.MaxBytes /= 2
		stream, err = q.conn.Stream(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	return &shard{name: cfg.Name, probe: subjectOf(n, "probe"), stream: stream, limit: cfg.MaxBytes}, nil
}

// JetStream's "insufficient storage resources available", and a cluster's "no
// suitable peers for placement", of which that is the usual reason.
const (
	errStorage = 10047
	errNoPeers = 10005
)

func tooLittleRoom(err error) bool {
	api := apiError(err)
	return api != nil && (api.ErrorCode == errStorage || api.ErrorCode == errNoPeers)
}

// consumer is shared by all workers of all backends.
func (q *Queue) consumer(ctx context.Context, s *shard) (jetstream.Consumer, error) {
	c, err := s.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "deliver", AckPolicy: jetstream.AckExplicitPolicy, AckWait: q.o.AckWait, MaxDeliver: -1, MaxAckPending: maxWaiting,
	})
	if err != nil {
		return nil, fmt.Errorf("reading the queue of deliveries: %w", err)
	}
	return c, nil
}

// watch looks how full the shards are. New callbacks are refused a little before
// JetStream refuses, so that what was taken can still move on.
func (q *Queue) watch(ctx context.Context) {
	for _, s := range q.shards {
		info, err := s.stream.Info(ctx)
		if err != nil {
			continue // a store that fails says so with the next callback
		}
		full := info.State.Bytes > uint64(s.limit-s.limit/16)
		if s.full.Swap(full) != full && full {
			q.o.Log.Error("the queue of deliveries is full: callbacks are refused until notes are delivered or discarded")
		}
	}
}

func (q *Queue) watchOn() {
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	for {
		select {
		case <-q.pulling.Done():
			return
		case <-tick.C:
			ctx, cancel := context.WithTimeout(q.pulling, storeTime)
			q.watch(ctx)
			cancel()
		}
	}
}

// mendOn looks whether shards that could not be written can be again.
func (q *Queue) mendOn() {
	tick := time.NewTicker(watchPause)
	defer tick.Stop()
	for {
		select {
		case <-q.pulling.Done():
			return
		case <-tick.C:
			var all sync.WaitGroup // each may take keepTry
			for _, s := range q.shards {
				if s.unwritten.Load() {
					all.Go(func() { q.mend(s) })
				}
			}
			all.Wait()
		}
	}
}

// mend writes something that is no delivery. When that fails again and again, while
// there is room beside the queue, JetStream has given its stream up for good.
func (q *Queue) mend(s *shard) {
	ctx, cancel := context.WithTimeout(q.pulling, keepTry)
	defer cancel()
	if _, err := q.conn.JetStream().Publish(ctx, s.probe, nil, jetstream.WithMsgTTL(probeAge)); err == nil {
		s.stuck = 0
		s.unwritten.Store(false)
		q.o.Log.Info("the queue of deliveries can be written again", "stream", s.name)
		return
	}
	if q.conn.Room() != nil {
		s.stuck = 0
		return
	}
	if s.stuck++; s.stuck == maxStuck {
		q.broken.Do(func() {
			q.o.Log.Error("the queue of deliveries cannot be written although its disk has room; only a new start mends that", "stream", s.name)
			if q.o.Broken != nil {
				q.o.Broken()
			}
		})
	}
}

// Close begins no new delivery and waits for those under way, for ten seconds;
// what they did not finish is delivered after the next start. It does not close
// the connection.
func (q *Queue) Close() {
	q.halt()
	late := time.AfterFunc(drainTime, q.abort)
	q.running.Wait()
	late.Stop()
	q.abort()
}

// Accept takes a verified callback: when it returns nil, the callback is on disk
// (in a cluster: on most of its servers) and will be delivered. requestUUID is that
// of raw, kind its type. Errors are ErrSeen, ErrFull, ErrTooLarge, or the store's;
// with each of them this call has taken nothing, but for a store that fell silent,
// where it may have: then a repetition is answered with ErrSeen.
func (q *Queue) Accept(ctx context.Context, requestUUID, kind string, raw []byte) error {
	if len(raw) > MaxCallbackBytes {
		return ErrTooLarge
	}
	key := keyOf(requestUUID)
	s := q.shards[key.shard()]
	switch {
	case s.full.Load():
		return ErrFull
	case s.unwritten.Load():
		return ErrUnwritable // Nabla's caller would wait for what is known
	}
	now := q.o.Now().UTC()
	e := entry{key: key, state: Queued, meta: meta{Kind: kind, Received: now, Since: now, Mark: randomMark()}, raw: raw}
	err := q.keep(ctx, e)
	switch {
	case err == nil:
		q.counters.accepted.Add(1)
		return nil
	case conflict(err):
		q.counters.replayed.Add(1)
		return ErrSeen
	case isFull(err):
		return ErrFull
	}
	return err
}

// keep puts what is new. An answer that does not come, as when a server of the
// cluster dies, tells nothing: then it is looked for, and put again.
func (q *Queue) keep(ctx context.Context, e entry) error {
	ctx, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	for unsure := false; ; unsure = true {
		trying, cancel := context.WithTimeout(ctx, keepTry)
		err := q.put(trying, e, 0)
		cancel()
		asking := unsure && conflict(err)
		if err == nil || errors.Is(err, ErrTooLarge) || (isAPI(err) && !asking) {
			return err
		}
		if q.isThere(ctx, e) {
			return nil
		}
		if asking {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(keepPause):
		}
	}
}

// isThere looks whether a publish without an answer has worked all the same.
func (q *Queue) isThere(ctx context.Context, want entry) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmTime)
	defer cancel()
	got, err := q.get(ctx, want.key)
	return err == nil && got.meta.Mark == want.meta.Mark
}
