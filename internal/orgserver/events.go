package orgserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgstore"
	"encounterlauncher/internal/problem"
)

// How exports become known to the workstations. Every export is kept for a day
// in one JetStream stream in memory, under a subject of its provider's, so that
// all backends see it and a workstation that slept still learns of it. A caller
// is sent what is kept of its own provider, from after its Last-Event-ID or from
// the beginning, and then what comes. Once stored, a message is republished
// under liveSubject: that only wakes the callers' streams, which then read on in
// the stream itself. So there is one way of reading, which neither loses nor
// doubles, and no consumer per caller.
const (
	eventStream   = "exports"
	storedSubject = "exports.of."
	liveSubject   = "exports.new."

	// eventsAge is how long an export is kept: as long as recents are by default.
	eventsAge = 24 * time.Hour
	// eventsOfOne and eventsBytes bound what is kept; the oldest goes first.
	eventsOfOne = 500
	eventsBytes = 64 << 20

	// keepAlive is below the 25 seconds of the contract.
	keepAlive = 20 * time.Second
	// eventWrite bounds one write, so that a peer that is gone holds nothing up.
	eventWrite = 10 * time.Second
	// streamsOfOne bounds the open streams of one person, who may be logged on in
	// several places, and streamsOfAll those of this process.
	streamsOfOne = 8
	streamsOfAll = 20_000
	// streamPause is the Retry-After of a stream too many, in seconds.
	streamPause = 60
)

// events are the exports that are known, and the streams that tell of them.
type events struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	stream  jetstream.Stream
	now     func() time.Time
	timer   func(time.Duration) (at <-chan time.Time, stop func() bool) // time.NewTimer, but for tests
	epoch   string                                                      // names this life of the stream in ids
	stopped chan struct{}
	stop    sync.Once

	mu   sync.Mutex
	open map[string]int // guarded by mu: streams by subject
	all  int            // guarded by mu
}

func openEvents(ctx context.Context, conn *orgstore.Conn, now func() time.Time) (*events, error) {
	nc, js := conn.NATS(), conn.JetStream()
	stream, err := conn.Stream(ctx, jetstream.StreamConfig{
		Name: eventStream, Subjects: []string{storedSubject + "*"}, Storage: jetstream.MemoryStorage,
		MaxAge: eventsAge, MaxMsgsPerSubject: eventsOfOne, MaxBytes: eventsBytes, MaxMsgSize: orgapi.MaxEventBytes,
		Discard:   jetstream.DiscardOld,
		RePublish: &jetstream.RePublish{Source: storedSubject + "*", Destination: liveSubject + "{{wildcard(1)}}", HeadersOnly: true},
	})
	if err != nil {
		return nil, err
	}
	return &events{
		nc: nc, js: js, stream: stream, now: now, stopped: make(chan struct{}), open: make(map[string]int),
		epoch: strconv.FormatInt(stream.CachedInfo().Created.UnixNano(), 36),
		timer: func(d time.Duration) (<-chan time.Time, func() bool) {
			t := time.NewTimer(d)
			return t.C, t.Stop
		},
	}, nil
}

// end ends every stream; the workstations come back by themselves.
func (e *events) end() { e.stop.Do(func() { close(e.stopped) }) }

// count is how many streams are open.
func (e *events) count() int { e.mu.Lock(); defer e.mu.Unlock(); return e.all }

// of is a provider's place in a subject: subjects show in NATS' own monitoring.
func (e *events) of(providerID string) string { return orgstore.Name("provider", providerID) }

// Exported makes an export known: to the workstations that listen now, and for a
// day to those that come back. It is the one entrance for that. It never keeps
// anything of the patient: the two ids and the time of e are all. It returns
// request_invalid for an event out of the contract's bounds, and org_busy when
// the store does not take it: then the caller tries again, and an export that is
// told twice does no harm.
func (s *Server) Exported(ctx context.Context, e orgapi.ExportedEvent) error {
	if !identifier(e.ExternalEncounterID) || !identifier(e.ExternalProviderID) {
		return problem.With(problem.RequestInvalid, "An identifier is empty, too long or holds control characters.", nil)
	}
	if _, err := time.Parse(time.RFC3339, e.At); err != nil {
		return problem.With(problem.RequestInvalid, "The time of the export is not one by RFC 3339.", nil)
	}
	body, err := json.Marshal(e)
	if err != nil {
		return problem.New(problem.Internal, errors.New("an export cannot be written"))
	}
	ctx, cancel := context.WithTimeout(ctx, orgstore.StoreTime)
	defer cancel()
	if _, err := s.events.js.Publish(ctx, storedSubject+s.events.of(e.ExternalProviderID), body); err != nil {
		return orgstore.Failed("keeping an export", err)
	}
	return nil
}

// streamed is an answer that writes itself until ctx ends. ctx is the caller's,
// without the time limit of a call.
type streamed func(ctx context.Context, w http.ResponseWriter)

// listen is GET /events.
func (s *Server) listen(w http.ResponseWriter, r *http.Request) (int, any, error) {
	who, until, err := s.callerUntil(r)
	if err != nil {
		return 0, nil, err
	}
	e := s.events
	subject := e.of(who.providerID)
	if err := e.admit(subject); err != nil {
		w.Header().Set("Retry-After", strconv.Itoa(streamPause))
		return 0, nil, err
	}
	after := e.after(r.Header.Get(orgapi.HeaderLastEventID))
	return http.StatusOK, streamed(func(ctx context.Context, w http.ResponseWriter) {
		defer e.leave(subject)
		e.serve(ctx, w, subject, after, until)
	}), nil
}

func (e *events) admit(subject string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open[subject] >= streamsOfOne || e.all >= streamsOfAll {
		return problem.New(problem.OrgBusy, errors.New("there are too many streams of events"))
	}
	e.open[subject]++
	e.all++
	return nil
}

func (e *events) leave(subject string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all--
	if e.open[subject]--; e.open[subject] == 0 {
		delete(e.open, subject)
	}
}

// after returns the first position to send to who has seen an id. An id of
// another life of the stream, or none of ours, says nothing: all is sent.
func (e *events) after(lastEventID string) uint64 {
	epoch, position, ok := strings.Cut(lastEventID, "-")
	n, err := strconv.ParseUint(position, 10, 63)
	if !ok || epoch != e.epoch || err != nil {
		return 1
	}
	return n + 1
}

// serve sends events until the caller goes, the access token expires or the
// process ends. It ends, too, when the store fails: the caller comes back.
func (e *events) serve(ctx context.Context, w http.ResponseWriter, subject string, next uint64, until time.Time) {
	wake := make(chan struct{}, 1)
	live, err := e.nc.Subscribe(liveSubject+subject, func(*nats.Msg) {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return
	}
	defer func() { _ = live.Unsubscribe() }()
	out := eventWriter{w: w, control: http.NewResponseController(w)}
	out.begin()
	if !out.comment() {
		return
	}
	expired, stopExpiry := e.timer(until.Sub(e.now()))
	defer stopExpiry()
	for {
		if next, err = e.send(ctx, &out, subject, next); err != nil {
			return
		}
		quiet, stopQuiet := e.timer(keepAlive)
		select {
		case <-ctx.Done():
		case <-ending(ctx):
		case <-e.stopped:
		case <-expired:
		case <-wake:
			stopQuiet()
			continue
		case <-quiet:
			// Whatever NATS may have dropped is found at the latest now.
			if e.now().Before(until) && out.comment() {
				continue
			}
		}
		stopQuiet()
		return
	}
}

// send writes what is stored from a position on and returns the next one.
func (e *events) send(ctx context.Context, out *eventWriter, subject string, next uint64) (uint64, error) {
	for {
		reading, cancel := context.WithTimeout(ctx, orgstore.StoreTime)
		m, err := e.stream.GetMsg(reading, next, jetstream.WithGetMsgSubject(storedSubject+subject))
		cancel()
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return next, nil
		}
		if err != nil {
			return next, err
		}
		if !out.event(e.epoch+"-"+strconv.FormatUint(m.Sequence, 10), m.Data) {
			return next, errors.New("the caller has gone")
		}
		next = m.Sequence + 1
	}
}

// eventWriter writes a stream of server-sent events (WHATWG HTML §9.2.5).
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (o *eventWriter) begin() {
	h := o.w.Header()
	h.Set("Content-Type", orgapi.EventStreamContentType)
	// A buffering proxy would deliver events in lots (nginx).
	h.Set("X-Accel-Buffering", "no")
	// The listener's limits are those of a call. Where there are none there is
	// nothing to lift.
	_ = o.control.SetReadDeadline(time.Time{})
	o.w.WriteHeader(http.StatusOK)
}

func (o *eventWriter) comment() bool { return o.write(":\n\n") }

// event writes one event; data is JSON of ours, in one line.
func (o *eventWriter) event(id string, data []byte) bool {
	return o.write("event: " + orgapi.EventExported + "\nid: " + id + "\ndata: " + string(data) + "\n\n")
}

func (o *eventWriter) write(text string) bool {
	_ = o.control.SetWriteDeadline(time.Now().Add(eventWrite))
	_, err := o.w.Write([]byte(text))
	if err == nil {
		err = o.control.Flush()
	}
	// HTTP/2 ends a stream whose deadline passes while nothing is written.
	_ = o.control.SetWriteDeadline(time.Time{})
	return err == nil
}
