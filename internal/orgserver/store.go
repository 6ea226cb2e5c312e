package orgserver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgstore"
	"encounterlauncher/internal/problem"
)

const (
	handleBucket      = "handles"
	idempotencyBucket = "idempotency"
	// minBucketTTL outlives a signed request, which lives for five minutes and 60
	// seconds of skew on both sides.
	minBucketTTL = 15 * time.Minute
	storeTime    = 5 * time.Second
	maxRedeems   = 8
)

// store keeps what several backends must share: handles, the ids of signed
// requests, idempotency keys. Everything is in memory and addressed by hash.
type store struct {
	handles, idempotency jetstream.KeyValue
	life                 time.Duration
	now                  func() time.Time
}

// openStore makes the buckets. Their TTL only frees memory; the time in a value
// decides, because a bucket's TTL starts anew with every update. It is twice the
// life, so that a late click is told from one that never had a handle while it
// is still likely to be asked about.
func openStore(ctx context.Context, conn *orgstore.Conn, life time.Duration, now func() time.Time) (_ *store, err error) {
	s := &store{life: life, now: now}
	for name, kv := range map[string]*jetstream.KeyValue{handleBucket: &s.handles, idempotencyBucket: &s.idempotency} {
		*kv, err = conn.JetStream().CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: name, Storage: jetstream.MemoryStorage, History: 1, TTL: max(2*life, minBucketTTL),
		})
		if err != nil {
			return nil, fmt.Errorf("making the bucket %s: %w", name, err)
		}
	}
	return s, nil
}

// ticket is what is kept of a handle, or of the jti of a signed request (then
// without a launch).
type ticket struct {
	Until  time.Time             `json:"until"`
	EHR    string                `json:"ehr,omitempty"`
	Tenant string                `json:"tenant,omitempty"`
	Launch *orgapi.LaunchRequest `json:"launch,omitempty"`
	// Spent is empty until the ticket is redeemed, then a hash of who redeemed it
	// and with which idempotency key.
	Spent string `json:"spent,omitempty"`
}

// hashed makes a bucket's key, or a mark, from parts that must not be seen. The
// parts cannot run into each other: each is preceded by its length.
func hashed(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func handleKey(handle string) string     { return hashed("handle", handle) }
func jtiKey(issuer, jti string) string   { return hashed("jti", issuer, jti) }
func spender(subject, key string) string { return hashed("spender", subject, key) }

// mint keeps a launch under a fresh handle.
func (s *store) mint(ctx context.Context, handle, ehr, tenant string, launch orgapi.LaunchRequest) error {
	value, err := json.Marshal(ticket{Until: s.now().Add(s.life), EHR: ehr, Tenant: tenant, Launch: &launch})
	if err != nil {
		return problem.New(problem.Internal, errors.New("a handle cannot be written"))
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if _, err := s.handles.Create(ctx, handleKey(handle), value); err != nil {
		return storeFailed("keeping a handle", err)
	}
	return nil
}

// look returns the launch of a handle, and its tenant, without spending it. A handle that was never made and one that is gone look the same, so
// both are handle_expired.
func (s *store) look(ctx context.Context, handle string) (orgapi.LaunchRequest, string, error) {
	t, _, err := s.read(ctx, handleKey(handle))
	if err != nil {
		return orgapi.LaunchRequest{}, "", err
	}
	if t == nil || !s.now().Before(t.Until) || t.Launch == nil {
		return orgapi.LaunchRequest{}, "", problem.New(problem.HandleExpired, nil)
	}
	return *t.Launch, t.Tenant, nil
}

func (s *store) read(ctx context.Context, key string) (*ticket, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	entry, err := s.handles.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, storeFailed("reading a handle", err)
	}
	var t ticket
	if err := json.Unmarshal(entry.Value(), &t); err != nil {
		return nil, 0, problem.New(problem.Internal, errors.New("what is kept of a handle cannot be read"))
	}
	return &t, entry.Revision(), nil
}

// redeemHandle spends a handle for one subject and one idempotency key, in one
// atomic step. The same two may redeem it again until it expires; anyone else
// gets handle_spent.
func (s *store) redeemHandle(ctx context.Context, handle, by string) error {
	for range maxRedeems {
		key := handleKey(handle)
		t, revision, err := s.read(ctx, key)
		if err != nil {
			return err
		}
		if t == nil || !s.now().Before(t.Until) {
			return problem.New(problem.HandleExpired, nil)
		}
		done, err := s.spend(ctx, key, *t, revision, by)
		if done || err != nil {
			return err
		}
	}
	return problem.New(problem.OrgBusy, errors.New("a handle is being redeemed by too many at once"))
}

// redeemJTI does for the id of a signed request what redeemHandle does for a
// handle. until is when the request ends, skew included.
func (s *store) redeemJTI(ctx context.Context, issuer, jti string, until time.Time, by string) error {
	for range maxRedeems {
		key := jtiKey(issuer, jti)
		t, revision, err := s.read(ctx, key)
		if err != nil {
			return err
		}
		if t == nil {
			t = &ticket{Until: until}
		}
		done, err := s.spend(ctx, key, *t, revision, by)
		if done || err != nil {
			return err
		}
	}
	return problem.New(problem.OrgBusy, errors.New("a signed request is being redeemed by too many at once"))
}

// spend writes the mark if nobody changed the ticket since it was read (a
// revision of 0 means: if there is none). false says: somebody did, look again.
func (s *store) spend(ctx context.Context, key string, t ticket, revision uint64, by string) (bool, error) {
	if t.Spent == by {
		return true, nil
	}
	if t.Spent != "" {
		return false, problem.New(problem.HandleSpent, nil)
	}
	t.Spent = by
	value, err := json.Marshal(t)
	if err != nil {
		return false, problem.New(problem.Internal, errors.New("a handle cannot be written"))
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if revision == 0 {
		_, err = s.handles.Create(ctx, key, value)
	} else {
		_, err = s.handles.Update(ctx, key, value, revision)
	}
	// JetStream reports a lost compare-and-set and an existing key by one code.
	if errors.Is(err, jetstream.ErrKeyExists) {
		return false, nil
	}
	if err != nil {
		return false, storeFailed("spending a handle", err)
	}
	return true, nil
}

// once ties an idempotency key of a subject to one request: the same key with
// another request is request_invalid.
func (s *store) once(ctx context.Context, subject, idempotencyKey, request string) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	key := hashed("idempotency", subject, idempotencyKey)
	_, err := s.idempotency.Create(ctx, key, []byte(request))
	if err == nil {
		return nil
	}
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return storeFailed("keeping an idempotency key", err)
	}
	entry, err := s.idempotency.Get(ctx, key)
	if err != nil {
		return storeFailed("reading an idempotency key", err)
	}
	if string(entry.Value()) != request {
		return problem.With(problem.RequestInvalid, "The idempotency key was used for another request.", nil)
	}
	return nil
}

func storeFailed(doing string, err error) error {
	return problem.New(problem.OrgBusy, fmt.Errorf("%s: %w", doing, err))
}
