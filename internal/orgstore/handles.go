package orgstore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

const (
	// StoreTime bounds one step in the store, with every attempt at it.
	StoreTime = 5 * time.Second

	// HandleBytes bounds what is kept of handles, signed requests and idempotency
	// keys, in this process or in each server that holds a copy; where a server has
	// less room, it is a half or a quarter of it, and so on. Beyond three quarters
	// new handles are refused with org_busy until old ones expire: that is a million
	// ordinary launches, and the rest is for redeeming them.
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
)

// Handles keeps what several backends must share of launches: handles, the ids of
// signed requests, idempotency keys. All is in memory and addressed by hash, and
// sealed where it leaves this process. It never keeps a one-time URL or an access
// token. It is safe for concurrent use. Every error is a Problem; a store that fails
// or is full is org_busy.
//
// Redeeming is one conditional write: it succeeds only if the ticket has not changed
// since it was read, and only if the same subject has written no other with the same
// idempotency key. So a handle is spent once and a key is for one request, with a
// single write. The time in a ticket decides when it ends; how long it lies on its
// shelf only frees memory.
type Handles struct {
	shelf  shelf
	life   time.Duration
	now    func() time.Time
	minted *minted
}

// OpenHandles opens them: in this process's memory where its store is its own, in the
// stream that backends share where it is a cluster's. life is how long a handle
// lives.
func OpenHandles(ctx context.Context, conn *Conn, life time.Duration, now func() time.Time) (*Handles, error) {
	kept := keptFor(life)
	s, err := conn.shelf(ctx, kept, HandleBytes)
	if err != nil {
		return nil, err
	}
	return &Handles{shelf: s, life: life, now: now, minted: &minted{half: min(life, kept) / 2}}, nil
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

// read takes a launch as it is kept, which may be none.
func (t *Ticket) read(launch []byte) error {
	t.launch = launch
	if len(launch) == 0 {
		return nil
	}
	return json.Unmarshal(launch, &t.Launch)
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
	if err := h.shelf.room(ctx, len(text)); err != nil {
		return err
	}
	w, err := h.shelf.write(ctx, "keeping a handle", t, "")
	switch {
	case err != nil:
		return err
	case w.changed && !w.again:
		return problem.New(problem.Internal, errors.New("a fresh handle is known already"))
	case w.changed:
		// Nobody else knows the handle: the attempt whose answer was lost did it.
		return nil
	}
	t.revision = w.revision
	h.minted.keep(t, len(text))
	return nil
}

// Look returns the launch of a handle without spending it. A handle that was never
// made and one that is gone look the same, so both are handle_expired.
func (h *Handles) Look(ctx context.Context, handle string) (Ticket, error) {
	name := handleName(handle)
	t, ok := h.minted.find(name)
	if !ok {
		var err error
		if t, err = h.shelf.read(ctx, name); err != nil {
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
		next := t
		next.state = spent
		// Whatever comes of it, what is remembered is out of date.
		h.minted.forget(t.name)
		w, err := h.shelf.write(ctx, doing, next, spender)
		switch {
		case err != nil:
			return err
		case w.before != nil && w.before.name != t.name:
			return otherRequest()
		case w.before != nil:
			return spentBefore(*w.before, spender, request)
		case !w.changed:
			return nil
		}
		// Somebody changed it: look again.
		before := t.revision
		if t, err = h.shelf.read(ctx, t.name); err != nil {
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

func unwritable() error {
	return problem.New(problem.Internal, errors.New("a handle cannot be written"))
}
