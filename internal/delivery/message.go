package delivery

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The states of a delivery.
const (
	Queued    = "queued"
	Aside     = "aside"
	Delivered = "delivered"
	Discarded = "discarded"
)

const (
	keyBytes = 12
	// A callback above packAbove is packed: messages of a cluster may have a
	// megabyte at most by default, and a long transcript packs to a tenth.
	packAbove = 256 << 10

	// leaderTries at a quarter of a second each are how long a cluster may take to
	// find a new leader.
	leaderTries = 8

	headerState  = "Delivery-State"
	headerMeta   = "Delivery-Meta"
	headerPacked = "Delivery-Packed"
	// headerRoom is what headers may add to a message.
	headerRoom = 16 << 10
)

// key names a delivery: it is the beginning of the hash of its request_uuid, in
// hexadecimal. People see it as the delivery's id.
type key string

func keyOf(requestUUID string) key {
	sum := sha256.Sum256([]byte("callback\x00" + requestUUID))
	return key(hex.EncodeToString(sum[:keyBytes]))
}

func parseKey(id string) (key, bool) {
	b, err := hex.DecodeString(id)
	return key(id), err == nil && len(b) == keyBytes && hex.EncodeToString(b) == id
}

func (k key) shard() int {
	b, _ := hex.DecodeString(string(k[:2]))
	return int(b[0]) % shards
}

func (k key) subject() string { return subjectOf(k.shard(), string(k)) }

func subjectOf(shard int, name string) string {
	return "deliveries." + strconv.Itoa(shard) + "." + name
}

// meta is what is known of a delivery beside its content.
type meta struct {
	Kind     string    `json:"kind"`
	Received time.Time `json:"received"`
	// Since is when the patience began: when it was taken, or replayed by a person.
	Since time.Time `json:"since"`
	// NotBefore is when it may be tried next.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Ended is when it was delivered, put aside or discarded.
	Ended time.Time `json:"ended,omitzero"`
	Tries int       `json:"tries,omitempty"`
	// Reason is why it was put aside: the code of what went wrong.
	Reason string             `json:"reason,omitempty"`
	Places map[string]Outcome `json:"places,omitempty"`
	Told   bool               `json:"told,omitempty"`
	// Mark tells the publish of one call from that of another.
	Mark string `json:"mark,omitempty"`
}

// Outcome is what came of telling one place.
type Outcome struct {
	// State is taken, refused or again.
	State string `json:"state"`
	// Code is why, of the words that Advice explains; empty when it was taken.
	Code string    `json:"code,omitempty"`
	At   time.Time `json:"at"`
}

// The states of an Outcome.
const (
	taken   = "taken"
	refused = "refused"
	again   = "again"
)

// entry is one delivery as it is kept.
type entry struct {
	key   key
	state string
	meta  meta
	raw   []byte
	seq   uint64
}

func randomMark() string {
	b := make([]byte, 9)
	_, _ = rand.Read(b) // crypto/rand.Read never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b)
}

// ended reports whether the content is gone.
func (e entry) ended() bool { return e.state == Delivered || e.state == Discarded }

// put replaces the message with the sequence before by e; 0 expects that there is
// none.
func (q *Queue) put(ctx context.Context, e entry, before uint64) error {
	text, err := json.Marshal(e.meta)
	if err != nil {
		return fmt.Errorf("writing a delivery: %w", err)
	}
	m := nats.NewMsg(e.key.subject())
	m.Header.Set(headerState, e.state)
	m.Header.Set(headerMeta, base64.StdEncoding.EncodeToString(q.conn.Seal(placeOfMeta(e.key), text)))
	options := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(before), jetstream.WithRetryAttempts(leaderTries)}
	if e.ended() {
		options = append(options, jetstream.WithMsgTTL(q.o.Remember))
	} else {
		content := e.raw
		if len(content) > packAbove {
			m.Header.Set(headerPacked, "gzip")
			content = pack(content)
		}
		m.Data = q.conn.Seal(placeOfContent(e.key), content)
	}
	if limit := q.conn.NATS().MaxPayload(); limit > 0 && int64(len(m.Data)+headerRoom) > limit {
		return ErrTooLarge
	}
	_, err = q.conn.JetStream().PublishMsg(ctx, m, options...)
	if err != nil {
		// A cluster that elects a leader passes by itself.
		if s := q.shards[e.key.shard()]; q.conn.Embedded() && !conflict(err) && !isFull(err) && q.working.Err() == nil && !s.unwritten.Swap(true) {
			q.o.Log.Error("the queue of deliveries cannot be written: callbacks are refused until it can; see the disk of nats.folder", "stream", s.name)
		}
		return fmt.Errorf("keeping a delivery: %w", err)
	}
	return nil
}

func pack(content []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the level is one of gzip's
	_, _ = w.Write(content)                         // a Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

func unpack(packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errors.New("what is kept is not packed as it says")
	}
	content, err := io.ReadAll(io.LimitReader(r, MaxCallbackBytes+1))
	if err != nil || len(content) > MaxCallbackBytes {
		return nil, errors.New("what is kept cannot be unpacked")
	}
	return content, nil
}

func placeOfMeta(k key) string    { return "delivery " + string(k) }
func placeOfContent(k key) string { return "callback " + string(k) }

// readMeta reads what does not need the content.
func (q *Queue) readMeta(k key, header nats.Header) (entry, error) {
	e := entry{key: k, state: header.Get(headerState)}
	sealed, err := base64.StdEncoding.DecodeString(header.Get(headerMeta))
	if err != nil {
		return e, errors.New("what is kept of a delivery cannot be read")
	}
	text, err := q.conn.Open(placeOfMeta(k), sealed)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(text, &e.meta); err != nil {
		return e, errors.New("what is kept of a delivery cannot be read")
	}
	return e, nil
}

func (q *Queue) read(k key, header nats.Header, data []byte) (entry, error) {
	e, err := q.readMeta(k, header)
	if err != nil || e.ended() {
		return e, err
	}
	if e.raw, err = q.conn.Open(placeOfContent(k), data); err == nil && header.Get(headerPacked) != "" {
		e.raw, err = unpack(e.raw)
	}
	return e, err
}

// get reads a delivery; ErrNotFound when there is none.
func (q *Queue) get(ctx context.Context, k key) (entry, error) {
	m, err := q.shards[k.shard()].stream.GetLastMsgForSubject(ctx, k.subject())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return entry{}, ErrNotFound
	}
	if err != nil {
		return entry{}, fmt.Errorf("reading a delivery: %w", err)
	}
	e, err := q.read(k, m.Header, m.Data)
	e.seq = m.Sequence
	return e, err
}

func apiError(err error) *jetstream.APIError {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api
	}
	return nil
}

func isAPI(err error) bool { return apiError(err) != nil }

// conflict reports whether a subject had another last message than expected.
func conflict(err error) bool {
	api := apiError(err)
	return api != nil && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// errStoreFailed is JetStream's "stream store failed", of which "maximum bytes
// exceeded" is one.
const errStoreFailed = 10077

func isFull(err error) bool {
	api := apiError(err)
	return api != nil && (api.ErrorCode == errStorage || (api.ErrorCode == errStoreFailed && api.Description == "maximum bytes exceeded"))
}
