package orgstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
	// keys, in each server that holds a copy; where there is less room, it is a half
	// or a quarter of it, and so on. Beyond three quarters new handles are refused
	// with org_busy until old ones expire: that is a million ordinary launches, and
	// the rest is for redeeming them, which makes them a quarter larger.
	HandleBytes = 1 << 30
	// leastBytes is where it gives up.
	leastBytes = 16 << 20

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
	limit  int64
	now    func() time.Time
	minted *minted

	mu      sync.Mutex
	used    int64     // guarded by mu: bytes in the stream when it was last asked
	asked   time.Time // guarded by mu: when that was
	added   int64     // guarded by mu: bytes of ours since then
	kept    time.Duration
	tidying atomic.Bool
}

// OpenHandles makes the stream, or takes the one that another backend made. life is
// how long a handle lives. How long the stream keeps a message only frees memory;
// the time in a value decides, because that of a message starts anew with every
// write. It is twice the life, so that a late click is told from one that never
// had a handle while it is still likely to be asked about.
func OpenHandles(ctx context.Context, conn *Conn, life time.Duration, now func() time.Time) (*Handles, error) {
	kept := max(2*life, minKept)
	if d, err := time.ParseDuration(shortened); err == nil {
		kept = d
	}
	return openHandles(ctx, conn, life, kept, HandleBytes, now)
}

// shortened is for a measurement, which would else wait for twenty minutes: how long
// the stream keeps a message. The linker sets it (-X); in a release it is empty.
var shortened string

func openHandles(ctx context.Context, conn *Conn, life, kept time.Duration, bytes int64, now func() time.Time) (*Handles, error) {
	cfg := jetstream.StreamConfig{
		Name: handleStream, Subjects: []string{handleSubject + "*"}, Storage: jetstream.MemoryStorage,
		MaxMsgsPerSubject: 1, MaxAge: kept, Duplicates: kept, MaxBytes: bytes, Discard: jetstream.DiscardNew,
		// A copy may lag behind its leader, and a handle that was minted a moment ago
		// would not be there: with several copies the leader answers.
		AllowDirect: conn.replicas == 1,
	}
	stream, err := conn.Stream(ctx, cfg)
	for tooLittleRoom(err) && cfg.MaxBytes/2 >= leastBytes {
		cfg.MaxBytes /= 2
		stream, err = conn.Stream(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	return &Handles{conn: conn, stream: stream, life: life, limit: cfg.MaxBytes, now: now, minted: &minted{half: min(life, kept) / 2}, kept: kept}, nil
}

// Spender is who redeems: a subject of the identity provider and an idempotency key
// of its own choice.
type Spender struct{ Subject, Key string }

func (s Spender) name() string { return Name("spender", s.Subject, s.Key) }

// Launch is what an EHR server registers under a handle.
type Launch struct {
	// EHR is the name of the EHR server, Tenant its tenant; empty means
	// that it has none.
	EHR    string `json:"ehr"`
	Tenant string `json:"tenant,omitempty"`
	// Request is what it sent.
	Request orgapi.LaunchRequest `json:"launch"`
}

// Ticket is a handle that was looked at, for Redeem.
type Ticket struct {
	Launch
	name     string
	revision uint64
	state    state
	// launch is Launch as it is kept; an id of a signed request and an idempotency
	// key have none.
	launch []byte
}

// state is what changes of a message's value. The launch follows it, so that it
// need not be written anew.
type state struct {
	Until time.Time `json:"until,omitzero"`
	// Spent is empty until the handle or the id is redeemed, then who did; see Spender.
	Spent string `json:"spent,omitempty"`
	// Request is a hash of the request, where the message's name does not say it.
	Request string `json:"request,omitempty"`
}

// maxState is more than a state takes: two names, and a moment.
const maxState = 256

// append writes a state as encoding/json would, which takes ten times as long. Names
// and moments hold nothing that JSON would have to escape.
func (s state) append(to []byte) []byte {
	empty := len(to) + 1
	member := func(name string) {
		if len(to) > empty {
			to = append(to, ',')
		}
		to = append(append(append(to, '"'), name...), `":"`...)
	}
	to = append(to, '{')
	if !s.Until.IsZero() {
		member("until")
		to = append(s.Until.AppendFormat(to, time.RFC3339Nano), '"')
	}
	if s.Spent != "" {
		member("spent")
		to = append(append(to, s.Spent...), '"')
	}
	if s.Request != "" {
		member("request")
		to = append(append(to, s.Request...), '"')
	}
	return append(to, '}')
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
	text, err := json.Marshal(l)
	if err != nil {
		return unwritable()
	}
	t := Ticket{Launch: l, name: handleName(handle), state: state{Until: h.now().Add(h.life)}, launch: text}
	m, err := h.message(t.name, t.state, t.launch)
	if err != nil {
		return err
	}
	if err := h.room(ctx, int64(len(m.Data))); err != nil {
		return err
	}
	m.Header = nats.Header{jetstream.ExpectedLastSubjSeqHeader: []string{"0"}}
	lost := false
	return repeatedly(ctx, "keeping a handle", func(limit time.Duration) error {
		ack, err := h.conn.publish(m, limit)
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

// room refuses new handles before the stream is full, so that those that are there
// can be redeemed. It asks how full the stream is after a second, or when we alone
// have added a sixty-fourth of what it may hold.
func (h *Handles) room(ctx context.Context, size int64) error {
	h.mu.Lock()
	h.added += size
	used, due := h.used, h.added > h.limit/64 || time.Since(h.asked) > time.Second
	if due {
		h.asked, h.added = time.Now(), 0
	}
	h.mu.Unlock()
	if due {
		err := patiently(ctx, "asking how full the store is", func(ctx context.Context) error {
			info, err := h.stream.Info(ctx)
			if err == nil {
				used = int64(info.State.Bytes)
			}
			return err
		})
		if err != nil {
			return err
		}
		h.mu.Lock()
		h.used = used
		h.mu.Unlock()
	}
	if used > h.limit/4*3 {
		return problem.New(problem.OrgBusy, errors.New("the store is full of handles"))
	}
	return nil
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
	if t.revision == 0 || len(t.launch) == 0 || !h.now().Before(t.state.Until) {
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
			t.state.Until = until
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
		if t.state.Spent != "" {
			return spentBefore(t, spender, request)
		}
		spent := t.state
		spent.Spent, spent.Request = spender, request
		m, err := h.message(t.name, spent, t.launch)
		if err != nil {
			return err
		}
		m.Header = nats.Header{
			jetstream.ExpectedLastSubjSeqHeader: []string{strconv.FormatUint(t.revision, 10)},
			jetstream.MsgIDHeader:               []string{spender},
		}
		// Whatever comes of it, what is remembered is out of date.
		h.minted.forget(t.name)
		var ack ack
		changed := false
		err = repeatedly(ctx, doing, func(limit time.Duration) (err error) {
			if ack, err = h.conn.publish(m, limit); wrongRevision(err) {
				changed, err = true, nil
			}
			return err
		})
		switch {
		case err != nil:
			return err
		case changed:
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
	case t.state.Spent != spender:
		return problem.New(problem.HandleSpent, nil)
	case t.state.Request != request:
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

func unwritable() error {
	return problem.New(problem.Internal, errors.New("a handle cannot be written"))
}

// message is: the length of the state in two bytes, the state, the launch; sealed.
func (h *Handles) message(name string, value state, launch []byte) (*nats.Msg, error) {
	h.tidySoon()
	all := value.append(make([]byte, 2, 2+maxState+len(launch)))
	size := len(all) - 2
	if size > maxState {
		return nil, unwritable()
	}
	binary.BigEndian.PutUint16(all, uint16(size))
	all = append(all, launch...)
	subject := handleSubject + name
	return &nats.Msg{Subject: subject, Data: h.conn.Seal(subject, all)}, nil
}

func (t *Ticket) open(text []byte) error {
	if len(text) < 2 || int(binary.BigEndian.Uint16(text)) > len(text)-2 {
		return errors.New("it is cut short")
	}
	end := 2 + int(binary.BigEndian.Uint16(text))
	t.launch = text[end:]
	if err := json.Unmarshal(text[2:end], &t.state); err != nil || len(t.launch) == 0 {
		return err
	}
	return json.Unmarshal(t.launch, &t.Launch)
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
	err := patiently(ctx, "reading a handle", func(ctx context.Context) (err error) {
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
	t := Ticket{name: strings.TrimPrefix(m.Subject, handleSubject), revision: m.Sequence}
	if err := t.open(text); err != nil {
		return Ticket{}, problem.New(problem.Internal, errors.New("what is kept of a handle cannot be read"))
	}
	return t, nil
}

// Codes of errors of JetStream that its client has no name for.
const (
	accountIsFull   jetstream.ErrorCode = 10002 // JSAccountResourcesExceededErr
	noServerHasRoom jetstream.ErrorCode = 10005 // JSClusterNoPeersErrF
	noLeader        jetstream.ErrorCode = 10008 // JSClusterNotAvailErr
	serverIsFull    jetstream.ErrorCode = 10023 // JSInsufficientResourcesErr
	memoryIsFull    jetstream.ErrorCode = 10028 // JSMemoryResourcesExceededErr
	duplicateInWork jetstream.ErrorCode = 10158 // JSStreamDuplicateMessageConflict
)

// wrongRevision reports whether somebody else wrote. With several copies the code
// is another one.
func wrongRevision(err error) bool {
	code := codeOf(err)
	return code == jetstream.JSErrCodeStreamWrongLastSequence || code == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// tooLittleRoom reports whether a stream could not be made because it may become too
// large.
func tooLittleRoom(err error) bool {
	switch codeOf(err) {
	case accountIsFull, noServerHasRoom, serverIsFull, memoryIsFull:
		return true
	}
	return false
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
func patiently(ctx context.Context, doing string, attempt func(context.Context) error) error {
	return repeatedly(ctx, doing, func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return attempt(ctx)
	})
}

// repeatedly is patiently for an attempt that keeps to a limit by itself.
func repeatedly(ctx context.Context, doing string, attempt func(limit time.Duration) error) error {
	until := time.Now().Add(StoreTime)
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	for {
		err := ctx.Err()
		left := time.Until(until)
		if err == nil {
			err = attempt(min(attemptTime, left))
		}
		if err == nil {
			return nil
		}
		if !passing(err) || left < attemptTime || rest(ctx) != nil {
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
	case noLeader, duplicateInWork, jetstream.JSErrCodeJetStreamNotEnabledForAccount, jetstream.JSErrCodeJetStreamNotEnabled:
		// A server that has just started does not know its accounts yet.
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected)
}

// Failed is the Problem of a store that did not do what it was asked for: org_busy.
func Failed(doing string, err error) error {
	return problem.New(problem.OrgBusy, fmt.Errorf("%s: %w", doing, err))
}
