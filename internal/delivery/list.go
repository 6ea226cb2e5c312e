package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/nabla"
)

const (
	// maxItems bounds one look; what it leaves out is counted.
	maxItems  = 10_000
	listBatch = 500
	listIdle  = 30 * time.Second
	minPrefix = 6
)

// Item is what a person may see of a delivery: nothing of the patient.
type Item struct {
	// ID is a hash of the callback's request_uuid.
	ID string `json:"id"`
	// State is queued, aside, delivered or discarded.
	State    string    `json:"state"`
	Type     string    `json:"type,omitempty"`
	Received time.Time `json:"received"`
	// Tries counts since it was taken, or since the last replay.
	Tries int `json:"tries"`
	// Places are the outcomes so far, by place.
	Places map[string]Outcome `json:"places,omitempty"`
	// Ended is when it was put aside, delivered or discarded.
	Ended *time.Time `json:"ended,omitempty"`
	// Code is the last thing that went wrong, and Advice what to do about it.
	Code   string `json:"code,omitempty"`
	Advice string `json:"advice,omitempty"`
}

// Encounter says which encounter a note is of, for a person who must enter it by
// hand.
type Encounter struct {
	EncounterID string `json:"external_encounter_id"`
	ProviderID  string `json:"external_provider_id"`
}

// Listing is one look at the queue.
type Listing struct {
	// Items are the oldest first.
	Items []Item `json:"items"`
	// Counts are how many there are of each state, listed or not.
	Counts map[string]int `json:"counts"`
	// LeftOut is how many were too many to list.
	LeftOut int `json:"left_out,omitempty"`
}

// List returns what waits and what was put aside; all adds what ended in the time
// of Options.Remember.
func (q *Queue) List(ctx context.Context, all bool) (Listing, error) {
	l := Listing{Items: []Item{}, Counts: map[string]int{Queued: 0, Aside: 0, Delivered: 0, Discarded: 0}}
	err := q.scan(ctx, func(e entry) {
		l.Counts[e.state]++
		switch {
		case e.ended() && !all:
		case len(l.Items) == maxItems:
			l.LeftOut++
		default:
			l.Items = append(l.Items, q.item(ctx, e))
		}
	})
	slices.SortFunc(l.Items, func(a, b Item) int { return cmp.Or(a.Received.Compare(b.Received), strings.Compare(a.ID, b.ID)) })
	return l, err
}

// scan reads all deliveries without their content. One that cannot be opened is
// there with CodeSealed as its reason.
func (q *Queue) scan(ctx context.Context, each func(entry)) error {
	for _, s := range q.shards {
		if err := q.scanShard(ctx, s, each); err != nil {
			return fmt.Errorf("looking through the queue of deliveries: %w", err)
		}
	}
	return nil
}

func (q *Queue) scanShard(ctx context.Context, s *shard, each func(entry)) error {
	c, err := s.stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, HeadersOnly: true, InactiveThreshold: listIdle, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return err
	}
	defer func() {
		forget, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmTime)
		defer cancel()
		_ = s.stream.DeleteConsumer(forget, c.CachedInfo().Name) // it goes by itself, later
	}()
	for {
		batch, err := c.FetchNoWait(listBatch)
		if err != nil {
			return err
		}
		n := 0
		for m := range batch.Messages() {
			n++
			k, ok := parseKey(m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:])
			if !ok {
				continue
			}
			e, err := q.readMeta(k, m.Headers())
			at, metaErr := m.Metadata()
			if metaErr != nil {
				continue
			}
			e.seq = at.Sequence.Stream
			if err != nil {
				e.meta = meta{Received: at.Timestamp.UTC(), Reason: CodeSealed}
			}
			each(e)
		}
		if err := batch.Error(); err != nil {
			return err
		}
		if n == 0 {
			return ctx.Err()
		}
	}
}

func (q *Queue) item(ctx context.Context, e entry) Item {
	i := Item{ID: string(e.key), State: e.state, Type: e.meta.Kind, Received: e.meta.Received, Tries: e.meta.Tries, Places: e.meta.Places, Code: e.meta.Reason}
	if e.state == Queued && e.meta.Reason == "" {
		if t := q.noted(ctx, e); t.Tries > i.Tries {
			i.Tries, i.Places = t.Tries, t.Places
		}
		for _, o := range i.Places {
			if o.Code != "" {
				i.Code = o.Code
			}
		}
	}
	if !e.meta.Ended.IsZero() {
		i.Ended = &e.meta.Ended
	}
	i.Advice = Advice(i.Code)
	return i
}

// Show returns one delivery, by its id or the beginning of one, and of which
// encounter it is, as long as its content is kept.
func (q *Queue) Show(ctx context.Context, id string) (Item, *Encounter, error) {
	e, err := q.find(ctx, id)
	if err != nil {
		return Item{}, nil, err
	}
	i := q.item(ctx, e)
	if e.ended() || e.raw == nil {
		return i, nil, nil
	}
	c, err := nabla.Parse(e.raw)
	if err != nil {
		return i, nil, nil
	}
	return i, &Encounter{EncounterID: c.ExternalEncounterID, ProviderID: c.ExternalProviderID}, nil
}

// find reads a delivery by its id or the beginning of one, which must be unique.
func (q *Queue) find(ctx context.Context, id string) (entry, error) {
	id = strings.ToLower(id)
	k, whole := parseKey(id)
	if !whole {
		if len(id) < minPrefix {
			return entry{}, ErrNotFound
		}
		var found []key
		if err := q.scan(ctx, func(e entry) {
			if strings.HasPrefix(string(e.key), id) {
				found = append(found, e.key)
			}
		}); err != nil {
			return entry{}, err
		}
		if len(found) != 1 {
			return entry{}, ErrNotFound
		}
		k = found[0]
	}
	e, err := q.get(ctx, k)
	if err != nil && e.seq != 0 {
		e.meta.Reason, err = CodeSealed, nil
	}
	return e, err
}

// Replay tries a delivery again at once, with new patience: one that was put aside
// from the beginning with the places that do not have it, one that waits without
// waiting. ErrGone when its content is gone.
func (q *Queue) Replay(ctx context.Context, id string) (Item, error) {
	e, err := q.find(ctx, id)
	if err != nil {
		return Item{}, err
	}
	switch {
	case e.ended():
		return Item{}, ErrGone
	case e.raw == nil:
		return q.item(ctx, e), errSealed
	}
	e.meta.Since, e.meta.NotBefore, e.meta.Ended, e.meta.Reason, e.meta.Tries = q.o.Now().UTC(), time.Time{}, time.Time{}, "", 0
	for name, o := range e.meta.Places {
		if o.State != taken {
			delete(e.meta.Places, name)
		}
	}
	for _, g := range q.gates {
		g.open()
	}
	return q.become(ctx, e, Queued)
}

var errSealed = errors.New("the delivery cannot be opened with the keys of nats.seal_key_files")

// ReplayAside replays everything that was put aside and returns how many.
func (q *Queue) ReplayAside(ctx context.Context) (int, error) {
	var keys []key
	if err := q.scan(ctx, func(e entry) {
		if e.state == Aside {
			keys = append(keys, e.key)
		}
	}); err != nil {
		return 0, err
	}
	n := 0
	var faults []error
	for _, k := range keys {
		switch _, err := q.Replay(ctx, string(k)); {
		case err == nil:
			n++
		case errors.Is(err, ErrGone), errors.Is(err, ErrChanged), errors.Is(err, ErrNotFound):
			// Somebody else was faster.
		default:
			faults = append(faults, err)
		}
	}
	return n, errors.Join(faults...)
}

// Discard gives up a delivery for good: its content is gone. A replay of its
// callback stays refused. The clinician is not told that it was exported.
func (q *Queue) Discard(ctx context.Context, id string) (Item, error) {
	e, err := q.find(ctx, id)
	if err != nil {
		return Item{}, err
	}
	if e.ended() {
		return Item{}, ErrGone
	}
	e.meta.Ended = q.o.Now().UTC()
	return q.become(ctx, e, Discarded)
}

func (q *Queue) become(ctx context.Context, e entry, state string) (Item, error) {
	before := e.seq
	e.state = state
	err := q.put(ctx, e, before)
	if conflict(err) {
		return Item{}, ErrChanged
	}
	if err != nil {
		return Item{}, err
	}
	q.o.Log.Info("a person acted on a delivery", "delivery", string(e.key), "state", state)
	return q.item(ctx, e), nil
}

// Shown is what `org-backend deliveries show` gets.
type Shown struct {
	Item
	// Encounter is nil when the content is gone.
	Encounter *Encounter `json:"encounter,omitempty"`
}

// Replayed is the answer to replaying everything that was put aside.
type Replayed struct {
	Replayed int `json:"replayed"`
}

// Refusal is the answer when nothing was done.
type Refusal struct {
	Error string `json:"error"`
}
