package orgserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
//
// Most streams are idle most of the time, and there are many. So this process hears
// of what is stored for all of them together, one beat serves their signs of life and
// ends, and a stream has a goroutine of its own only while it has something to do;
// see stream.
const (
	eventStream   = "exports"
	storedSubject = "exports.of."
	liveSubject   = "exports.new."

	// eventsAge is how long an export is kept: as long as recents are by default.
	eventsAge = 24 * time.Hour
	// eventsOfOne and eventsBytes bound what is kept; the oldest goes first.
	eventsOfOne = 500
	eventsBytes = 64 << 20

	// A stream gives a sign of life with every so many beats, below the 25 seconds of
	// the contract.
	beat      = time.Second
	keepAlive = 20
	// streamsOfOne bounds the open streams of one person, who may be logged on in
	// several places, and streamsOfAll those of this process.
	streamsOfOne = 8
	streamsOfAll = 20_000
	// streamPause is the Retry-After of a stream too many, in seconds.
	streamPause = 60
)

// events are the exports that are known, and the streams that tell of them.
type events struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	hears   *nats.Subscription
	now     func() time.Time
	stopped chan struct{}
	stop    sync.Once

	mu      sync.Mutex
	epoch   string                   // guarded by mu: names this life of the stream in ids
	open    map[string][]*stream     // guarded by mu: by subject
	all     int                      // guarded by mu
	beats   int                      // guarded by mu
	heard   uint64                   // guarded by mu: the last position that was republished
	endings map[<-chan struct{}]bool // guarded by mu: those that are waited for
}

func openEvents(ctx context.Context, conn *orgstore.Conn, now func() time.Time) (*events, error) {
	kept, err := conn.Stream(ctx, jetstream.StreamConfig{
		Name: eventStream, Subjects: []string{storedSubject + "*"}, Storage: jetstream.MemoryStorage,
		MaxAge: eventsAge, MaxMsgsPerSubject: eventsOfOne, MaxBytes: eventsBytes, MaxMsgSize: orgapi.MaxEventBytes,
		Discard:   jetstream.DiscardOld,
		RePublish: &jetstream.RePublish{Source: storedSubject + "*", Destination: liveSubject + "{{wildcard(1)}}", HeadersOnly: true},
	})
	if err != nil {
		return nil, err
	}
	e := &events{
		js: conn.JetStream(), stream: kept, now: now, stopped: make(chan struct{}),
		open: make(map[string][]*stream), endings: make(map[<-chan struct{}]bool),
		epoch: epochOf(kept.CachedInfo()),
	}
	if e.hears, err = conn.NATS().Subscribe(liveSubject+"*", e.hear); err != nil {
		return nil, fmt.Errorf("listening for exports: %w", err)
	}
	go e.live()
	return e, nil
}

func epochOf(i *jetstream.StreamInfo) string { return strconv.FormatInt(i.Created.UnixNano(), 36) }

// end ends every stream; the workstations come back by themselves.
func (e *events) end() {
	e.stop.Do(func() {
		close(e.stopped)
		e.endWhere(func(*stream) bool { return true })
	})
}

// hear wakes the streams of the provider for whom an export was stored.
func (e *events) hear(m *nats.Msg) {
	position, _ := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	e.mu.Lock()
	e.heard = max(e.heard, position)
	streams := slices.Clone(e.open[strings.TrimPrefix(m.Subject, liveSubject)])
	e.mu.Unlock()
	for _, s := range streams {
		s.wake(workRead)
	}
}

// live beats until the end.
func (e *events) live() {
	t := time.NewTicker(beat)
	defer t.Stop()
	for {
		select {
		case <-e.stopped:
			return
		case <-t.C:
			e.beat()
		}
	}
}

// beat ends the streams whose access token has expired, has those give their sign of
// life whose turn it is, and wakes all when something was stored that this process
// has not heard of: NATS may drop what is republished.
func (e *events) beat() {
	e.mu.Lock()
	idle := e.all == 0
	e.mu.Unlock()
	if idle {
		return
	}
	work := workNone
	ctx, cancel := context.WithTimeout(context.Background(), orgstore.StoreTime)
	info, err := e.stream.Info(ctx)
	cancel()
	now := e.now()
	var expired, due []*stream
	e.mu.Lock()
	// A store that does not answer is found out by the streams that have something to read.
	switch {
	case err != nil:
	case epochOf(info) != e.epoch:
		// A server alone forgets with its end what it had in memory, and begins to count
		// anew: no position that anybody has is right any more. Who comes back with one is
		// told everything.
		e.epoch, e.heard = epochOf(info), info.State.LastSeq
		for _, streams := range e.open {
			expired = append(expired, streams...)
		}
	case info.State.LastSeq > e.heard:
		e.heard, work = info.State.LastSeq, workRead
	}
	e.beats++
	for _, streams := range e.open {
		for _, s := range streams {
			switch {
			case !now.Before(s.until):
				expired = append(expired, s)
			case work != workNone || e.beats%keepAlive == s.turn:
				due = append(due, s)
			}
		}
	}
	beats := e.beats
	e.mu.Unlock()
	for _, s := range expired {
		s.end()
	}
	for _, s := range due {
		if beats%keepAlive == s.turn {
			s.wake(work | workComment)
		} else {
			s.wake(work)
		}
	}
}

// count is how many streams are open.
func (e *events) count() int { e.mu.Lock(); defer e.mu.Unlock(); return e.all }

// of is a provider's place in a subject: subjects show in NATS' own monitoring.
func (e *events) of(tenant, providerID string) string {
	return orgstore.Name("provider", tenant, providerID)
}

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
	tenant, known, err := s.tenantOf(ctx, e.ExternalProviderID, e.ExternalEncounterID)
	if err != nil || !known {
		return err // whose it is is not known any more: told to nobody
	}
	if _, err := s.events.js.Publish(ctx, storedSubject+s.events.of(tenant, e.ExternalProviderID), body); err != nil {
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
	st := &stream{of: e, subject: e.of(who.tenant, who.providerID), until: until, ending: ending(r.Context()), busy: true}
	st.next, st.epoch = e.after(r.Header.Get(orgapi.HeaderLastEventID))
	if err := e.admit(st); err != nil {
		w.Header().Set("Retry-After", strconv.Itoa(streamPause))
		return 0, nil, err
	}
	return http.StatusOK, streamed(st.serve), nil
}

// admit takes a stream up, so that it is woken from now on.
func (e *events) admit(s *stream) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.open[s.subject]) >= streamsOfOne || e.all >= streamsOfAll {
		return problem.New(problem.OrgBusy, errors.New("there are too many streams of events"))
	}
	if s.epoch != e.epoch {
		s.next, s.epoch = 1, e.epoch
	}
	s.turn = e.beats % keepAlive
	e.open[s.subject] = append(e.open[s.subject], s)
	e.all++
	if s.ending != nil && !e.endings[s.ending] {
		e.endings[s.ending] = true
		go e.await(s.ending)
	}
	return nil
}

// await ends the streams of a server that takes no new calls.
func (e *events) await(ending <-chan struct{}) {
	select {
	case <-e.stopped:
		return
	case <-ending:
	}
	e.mu.Lock()
	delete(e.endings, ending)
	e.mu.Unlock()
	e.endWhere(func(s *stream) bool { return s.ending == ending })
}

func (e *events) endWhere(ends func(*stream) bool) {
	var list []*stream
	e.mu.Lock()
	for _, streams := range e.open {
		for _, s := range streams {
			if ends(s) {
				list = append(list, s)
			}
		}
	}
	e.mu.Unlock()
	for _, s := range list {
		s.end()
	}
}

func (e *events) leave(s *stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rest := slices.DeleteFunc(e.open[s.subject], func(o *stream) bool { return o == s })
	if len(rest) == 0 {
		delete(e.open, s.subject)
	} else {
		e.open[s.subject] = rest
	}
	e.all--
}

// after returns the first position to send to who has seen an id, and the life of the
// stream that it is of. An id of another life, or none of ours, says nothing: all is
// sent.
func (e *events) after(lastEventID string) (next uint64, epoch string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of, position, ok := strings.Cut(lastEventID, "-")
	n, err := strconv.ParseUint(position, 10, 63)
	if !ok || of != e.epoch || err != nil {
		return 1, e.epoch
	}
	return n + 1, e.epoch
}
