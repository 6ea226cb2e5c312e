package orgstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

const (
	// StoreTime bounds one step in the store, with every attempt at it.
	StoreTime = 5 * time.Second

	// HandleBytes bounds what is kept of handles, signed requests and idempotency
	// keys: about a million ordinary launches. Beyond it new ones are refused with
	// org_busy until old ones expire; those that are there can still be redeemed.
	HandleBytes = 512 << 20

	// minKept outlives a signed request, which lives for five minutes and 60 seconds
	// of skew on both sides.
	minKept = 15 * time.Minute

	// attemptTime bounds one attempt at a step, pause is between two of them.
	attemptTime = 2 * time.Second
	pause       = 20 * time.Millisecond
	maxRedeems  = 8

	handleStream  = "handles"
	handleSubject = "handles."
)

// Handles keeps what several backends must share of launches: handles, the ids of
// signed requests, idempotency keys. All is in memory, sealed, and addressed by
// hash. It never keeps a one-time URL or an access token. It is safe for concurrent
// use. Every error is a Problem; a store that fails or is full is org_busy.
//
// One stream holds it, one message for each handle, id or key. Redeeming is one
// conditional write: it succeeds only if the message has not changed since it was
// read (Nats-Expected-Last-Subject-Sequence), and only if no message was ever
// written by the same subject with the same idempotency key (Nats-Msg-Id). So a
// handle is spent once and a key is for one request, with a single write.
type Handles struct {
	conn   *Conn
	stream jetstream.Stream
	life   time.Duration
	now    func() time.Time
	minted *minted
}

// OpenHandles makes the stream, or takes the one that another backend made. life is
// how long a handle lives. How long the stream keeps a message only frees memory;
// the time in a value decides, because that of a message starts anew with every
// write. It is twice the life, so that a late click is told from one that never
// had a handle while it is still likely to be asked about.
func OpenHandles(ctx context.Context, conn *Conn, life time.Duration, now func() time.Time) (*Handles, error) {
	return openHandles(ctx, conn, life, max(2*life, minKept), HandleBytes, now)
}

func openHandles(ctx context.Context, conn *Conn, life, kept time.Duration, bytes int64, now func() time.Time) (*Handles, error) {
	stream, err := conn.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: handleStream, Subjects: []string{handleSubject + "*"}, Storage: jetstream.MemoryStorage, Replicas: conn.replicas,
		MaxMsgsPerSubject: 1, MaxAge: kept, Duplicates: kept, MaxBytes: bytes, Discard: jetstream.DiscardNew,
		// A copy may lag behind its leader, and a handle that was minted a moment ago
		// would not be there: with several copies the leader answers.
		AllowDirect: conn.replicas == 1,
	})
	if err != nil {
		return nil, fmt.Errorf("making the stream %s: %w", handleStream, err)
	}
	return &Handles{conn: conn, stream: stream, life: life, now: now, minted: &minted{life: life}}, nil
}

// Spender is who redeems: a subject of the identity provider and an idempotency key
// of its own choice.
type Spender struct{ Subject, Key string }

func (s Spender) name() string { return Name("spender", s.Subject, s.Key) }

// Launch is what an EHR server registers under a handle.
type Launch struct {
	// EHR is the name of the EHR server, Tenant its tenant; empty means any.
	EHR    string `json:"ehr"`
	Tenant string `json:"tenant,omitempty"`
	// Request is what it sent.
	Request orgapi.LaunchRequest `json:"launch"`
}

// Ticket is a handle that was looked at, for Redeem.
type Ticket struct {
	Launch
	value    kept
	name     string
	revision uint64
}

// kept is the value of a message.
type kept struct {
	Until time.Time `json:"until,omitzero"`
	// Of is the launch of a handle; an id of a signed request and an idempotency key
	// have none.
	Of *Launch `json:"of,omitempty"`
	// Spent is empty until the handle or the id is redeemed, then who did; see Spender.
	Spent string `json:"spent,omitempty"`
	// Request is a hash of the request, where the message's name does not say it.
	Request string `json:"request,omitempty"`
}

// Name makes a name from parts that must not be seen: a SHA-256 in 43 characters
// that NATS takes in a subject. The parts cannot run into each other: each is
// preceded by its length.
func Name(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write(strconv.AppendInt(nil, int64(len(p)), 10))
		_, _ = h.Write([]byte{':'})
		_, _ = h.Write([]byte(p))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func handleName(handle string) string   { return Name("handle", handle) }
func jtiName(issuer, jti string) string { return Name("jti", issuer, jti) }

// Mint keeps a launch under a handle, which must be fresh and random.
func (h *Handles) Mint(ctx context.Context, handle string, l Launch) error {
	const doing = "keeping a handle"
	t := Ticket{Launch: l, value: kept{Until: h.now().Add(h.life), Of: &l}, name: handleName(handle)}
	m, err := h.message(t.name, t.value)
	if err != nil {
		return err
	}
	m.Header = nats.Header{jetstream.ExpectedLastSubjSeqHeader: []string{"0"}}
	lost := false
	return h.patiently(ctx, doing, func(ctx context.Context) error {
		ack, err := h.conn.js.PublishMsg(ctx, m)
		if err == nil {
			t.revision = ack.Sequence
			h.minted.keep(t, len(m.Data))
		}
		if lost && wrongRevision(err) {
			// Nobody else knows the handle: the attempt whose answer was lost did it.
			return nil
		}
		lost = true
		return err
	})
}

// Look returns the launch of a handle without spending it. A handle that was never
// made and one that is gone look the same, so both are handle_expired.
func (h *Handles) Look(ctx context.Context, handle string) (Ticket, error) {
	name := handleName(handle)
	t, ok := h.minted.find(name)
	if !ok {
		var err error
		if t, err = h.read(ctx, name); err != nil {
			return Ticket{}, err
		}
	}
	return t, h.alive(t)
}

func (h *Handles) alive(t Ticket) error {
	if t.revision == 0 || t.value.Of == nil || !h.now().Before(t.value.Until) {
		return problem.New(problem.HandleExpired, nil)
	}
	return nil
}

// Redeem spends a handle for one subject and one idempotency key, in one atomic
// step. The same two may redeem it again until it expires; anyone else gets
// handle_spent. A key that was used for another request is request_invalid, and
// spends nothing. The context of the launch must have been checked before.
func (h *Handles) Redeem(ctx context.Context, t Ticket, by Spender) error {
	return h.redeem(ctx, t, by, "", func(t Ticket) (Ticket, error) { return t, h.alive(t) })
}

// RedeemJTI does for the id of a signed request what Redeem does for a handle.
// until is when the request ends, skew included; request is its whole text: the
// same id in another text is another request.
func (h *Handles) RedeemJTI(ctx context.Context, issuer, jti string, until time.Time, request string, by Spender) error {
	name := jtiName(issuer, jti)
	fresh := func(t Ticket) (Ticket, error) {
		if t.revision == 0 {
			t.value.Until = until
		}
		return t, nil
	}
	// Nearly always nobody has redeemed it: write first, read if somebody has.
	t, _ := fresh(Ticket{name: name})
	return h.redeem(ctx, t, by, Name("request", request), fresh)
}

// Once ties an idempotency key to one request that needs neither handle nor signed
// request: the same key with another request is request_invalid. parts say what is
// asked.
func (h *Handles) Once(ctx context.Context, by Spender, parts ...string) error {
	t := Ticket{name: Name("once", by.Subject, by.Key)}
	return h.redeem(ctx, t, by, Name(parts...), func(t Ticket) (Ticket, error) { return t, nil })
}

// redeem writes who spent a ticket, if nobody did since it was read. usable says
// whether what was read anew may still be spent.
func (h *Handles) redeem(ctx context.Context, t Ticket, by Spender, request string, usable func(Ticket) (Ticket, error)) error {
	const doing = "spending a handle"
	spender := by.name()
	for range maxRedeems {
		if t.value.Spent != "" {
			return spentBefore(t, spender, request)
		}
		spent := t.value
		spent.Spent, spent.Request = spender, request
		m, err := h.message(t.name, spent)
		if err != nil {
			return err
		}
		m.Header = nats.Header{
			jetstream.ExpectedLastSubjSeqHeader: []string{strconv.FormatUint(t.revision, 10)},
			jetstream.MsgIDHeader:               []string{spender},
		}
		// Whatever comes of it, what is remembered is out of date.
		h.minted.forget(t.name)
		var ack *jetstream.PubAck
		err = h.patiently(ctx, doing, func(ctx context.Context) (err error) {
			if ack, err = h.conn.js.PublishMsg(ctx, m); wrongRevision(err) {
				ack, err = nil, nil
			}
			return err
		})
		switch {
		case err != nil:
			return err
		case ack == nil:
			// Somebody changed it: look again.
		case !ack.Duplicate:
			return nil
		default:
			return h.wasUsed(ctx, ack.Sequence, t.name, spender, request)
		}
		before := t.revision
		if t, err = h.read(ctx, t.name); err != nil {
			return err
		}
		if t.revision == before {
			// In a cluster a write may be under way.
			_ = rest(ctx)
		}
		if t, err = usable(t); err != nil {
			return err
		}
	}
	return problem.New(problem.OrgBusy, errors.New("a handle is being redeemed by too many at once"))
}

func spentBefore(t Ticket, spender, request string) error {
	switch {
	case t.value.Spent != spender:
		return problem.New(problem.HandleSpent, nil)
	case t.value.Request != request:
		return otherRequest()
	}
	return nil
}

func otherRequest() error {
	return problem.With(problem.RequestInvalid, "The idempotency key was used for another request.", nil)
}

// wasUsed says whether the message that a spender has written is that of the same
// request.
func (h *Handles) wasUsed(ctx context.Context, sequence uint64, name, spender, request string) error {
	t, err := h.get(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return h.stream.GetMsg(ctx, sequence) })
	switch {
	case err != nil:
		return err
	case t.revision == 0:
		return problem.New(problem.OrgBusy, errors.New("what an idempotency key was used for expires now"))
	case t.name != name:
		return otherRequest()
	}
	return spentBefore(t, spender, request)
}

func (h *Handles) message(name string, value kept) (*nats.Msg, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, problem.New(problem.Internal, errors.New("a handle cannot be written"))
	}
	subject := handleSubject + name
	return &nats.Msg{Subject: subject, Data: h.conn.Seal(subject, text)}, nil
}

// read returns what is kept under a name; without anything the revision is 0.
func (h *Handles) read(ctx context.Context, name string) (Ticket, error) {
	t, err := h.get(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return h.stream.GetLastMsgForSubject(ctx, handleSubject+name)
	})
	t.name = name
	return t, err
}

func (h *Handles) get(ctx context.Context, from func(context.Context) (*jetstream.RawStreamMsg, error)) (Ticket, error) {
	var m *jetstream.RawStreamMsg
	err := h.patiently(ctx, "reading a handle", func(ctx context.Context) (err error) {
		if m, err = from(ctx); errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = nil, nil
		}
		return err
	})
	if err != nil || m == nil {
		return Ticket{}, err
	}
	text, err := h.conn.Open(m.Subject, m.Data)
	if err != nil {
		return Ticket{}, problem.New(problem.Internal, err)
	}
	t := Ticket{name: m.Subject[len(handleSubject):], revision: m.Sequence}
	if err := json.Unmarshal(text, &t.value); err != nil {
		return Ticket{}, problem.New(problem.Internal, errors.New("what is kept of a handle cannot be read"))
	}
	if t.value.Of != nil {
		t.Launch = *t.value.Of
	}
	return t, nil
}

// Codes of errors of JetStream that its client has no name for.
const (
	noLeader        jetstream.ErrorCode = 10008 // JSClusterNotAvailErr
	duplicateInWork jetstream.ErrorCode = 10158 // JSStreamDuplicateMessageConflict
)

// wrongRevision reports whether somebody else wrote. With several copies the code
// is another one.
func wrongRevision(err error) bool {
	code := codeOf(err)
	return code == jetstream.JSErrCodeStreamWrongLastSequence || code == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

func codeOf(err error) jetstream.ErrorCode {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.ErrorCode
	}
	return 0
}

// patiently repeats what may be repeated while a cluster elects a leader or a
// connection is made anew, within StoreTime. Its error is a Problem.
func (h *Handles) patiently(ctx context.Context, doing string, attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, StoreTime)
	defer cancel()
	for {
		trying, cancel := context.WithTimeout(ctx, attemptTime)
		err := attempt(trying)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !passing(err) {
			return Failed(doing, err)
		}
		if rest(ctx) != nil {
			return Failed(doing, err)
		}
	}
}

// rest is a short wait between two attempts.
func rest(ctx context.Context) error {
	wait := time.NewTimer(pause)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return nil
	}
}

// passing reports whether an error may be gone a moment later.
func passing(err error) bool {
	switch codeOf(err) {
	case noLeader, duplicateInWork:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected)
}

// Failed is the Problem of a store that did not do what it was asked for: org_busy.
func Failed(doing string, err error) error {
	return problem.New(problem.OrgBusy, fmt.Errorf("%s: %w", doing, err))
}
