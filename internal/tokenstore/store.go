// Package tokenstore keeps one refresh token, a few small named secrets, and what a
// person has stored for the network's proxies, in the keyring of the operating
// system, and holds the lock that the sessions of one person share.
//
// It tells four outcomes apart: not found, locked, unavailable and corrupt. A
// write that is torn by a crash leaves the value before it readable. It never
// deletes anything but in Delete, DeleteSecret and ForgetProxyCredential, never takes a locked keyring
// for an empty one, never writes a secret into a file, and never waits longer
// than its deadline.
package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// What a Keyring answers. Every other error counts as an unavailable keyring.
var (
	// ErrNotFound says that the keyring is open and holds no such item.
	ErrNotFound = errors.New("not in the keyring")
	// ErrLocked says that the keyring is there and the person has not unlocked it.
	ErrLocked = errors.New("the keyring is locked")
	// ErrUnavailable says that there is no keyring, or none that answers.
	ErrUnavailable = errors.New("no keyring")
)

var (
	errCorrupt  = errors.New("a keyring item cannot be read")
	errNoAnswer = errors.New("the keyring did not answer in time")
	errPanicked = errors.New("the keyring's client broke off")
)

// Keyring is what the store asks of a keyring: named items of at most 2,000
// bytes. Get and Delete answer ErrNotFound for an item that is not there, and
// every method ErrLocked while the keyring is locked. A call may block for as
// long as it likes: the store runs it under a deadline, one at a time.
type Keyring interface {
	Get(service, user string) (string, error)
	Set(service, user, value string) error
	Delete(service, user string) error
}

// Entry is who is signed in, with the refresh token.
type Entry struct {
	// Issuer and ClientID say for which organisation's sign-in the token is good.
	Issuer, ClientID string
	// Binding names the whole configuration under which the token was obtained; it
	// is opaque here. A token of another configuration is not to be used.
	Binding string
	// Subject and Email are the person, as the issuer says; Email may be empty.
	Subject, Email string
	// Refresh is the refresh token.
	Refresh secret.Text
	// Generation is set by Save: it grows with every write, through sign-outs too,
	// so that a session sees whether another one has refreshed since.
	Generation uint64
	// AuthTime is when the person last proved who they are; zero when unknown.
	AuthTime time.Time
}

// DefaultDeadline bounds an operation when New is given none.
const DefaultDeadline = 5 * time.Second

// Store is the token store of one user. Its methods may be called from several
// goroutines; what has to be atomic between sessions is done under Lock, which
// Load, Save and Delete do not take.
type Store struct {
	calls    *calls
	service  string
	lockFile string
	deadline time.Duration
	now      func() time.Time
	// turn lets the goroutines of this process queue for the file lock.
	turn chan struct{}
}

// New returns a store that keeps its items under a service name. lockFile is the
// per-user lock; its folder is created (0700) when it is missing. deadline
// bounds the keyring's part of every operation; zero or less means
// DefaultDeadline. It does no I/O.
func New(k Keyring, service, lockFile string, deadline time.Duration) *Store {
	if deadline <= 0 {
		deadline = DefaultDeadline
	}
	return &Store{
		calls: newCalls(k, service), service: service, lockFile: lockFile,
		deadline: deadline, now: time.Now, turn: make(chan struct{}, 1),
	}
}

// Prepare begins to open the way to the keyring, where there is one to open, so that the
// first read need not wait for that. The keyring is asked for nothing.
func (s *Store) Prepare() {
	if k, ok := s.calls.keyring.(interface{ Prepare() }); ok {
		go k.Prepare()
	}
}

// Load reads the stored sign-in. found is false, without an error, only when
// the keyring is open and holds none. Errors are keyring_locked (also when the
// keyring does not answer within the deadline), keyring_unavailable,
// keyring_corrupt and cancelled. It changes nothing, and it may run while
// another session writes: it then answers the value before or after.
func (s *Store) Load(ctx context.Context) (e Entry, found bool, err error) {
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	e, found, err = s.load(work)
	if err != nil {
		return Entry{}, false, outcome(ctx, fmt.Errorf("reading the sign-in: %w", err))
	}
	return e, found, nil
}

// Check says what is wrong with the keyring: nil when it is open and what it holds
// of the sign-in can be read. Where the keyring can tell that it is locked it is
// asked for nothing else, so that no prompt for its password comes up; another may
// show one. Errors are as for Load.
func (s *Store) Check(ctx context.Context) error {
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	if err := s.unlocked(work); err != nil {
		return outcome(ctx, fmt.Errorf("asking whether the keyring is locked: %w", err))
	}
	_, _, err := s.Load(ctx)
	return err
}

// Save writes the sign-in as the next generation and returns it with that
// generation. The caller holds Lock. When it fails, what was stored before is
// still readable. Cancelling ctx does not interrupt it: the issuer may already
// have replaced the token that is stored, and then this one is the only good
// one. The deadline bounds it.
func (s *Store) Save(ctx context.Context, e Entry) (Entry, error) {
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.deadline)
	defer cancel()
	payload, err := encodeEntry(e)
	if err != nil {
		return Entry{}, problem.New(problem.Internal, fmt.Errorf("writing the sign-in: %w", err))
	}
	generation, err := s.write(work, payload)
	if err != nil {
		return Entry{}, outcome(context.Background(), fmt.Errorf("writing the sign-in: %w", err))
	}
	e.Generation = generation
	return e, nil
}

// Delete removes the sign-in and everything that torn writes left of it. Only an
// explicit sign-out calls it; it also clears a corrupt one. It leaves the named
// secrets. Deleting what is not there is no error. The caller holds Lock.
func (s *Store) Delete(ctx context.Context) error {
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	if err := s.erase(work); err != nil {
		return outcome(ctx, fmt.Errorf("deleting the sign-in: %w", err))
	}
	return nil
}

// Secret returns the small secret of that name. When there is none, create makes
// it once, also when several processes ask at the same time: the write happens
// under Lock, which Secret takes itself, so the caller must not hold it. name is
// lower-case letters and dashes; the value is at most 1,000 bytes of UTF-8.
// A locked or corrupt keyring is an error and never leads to a new secret.
func (s *Store) Secret(ctx context.Context, name string, create func() (secret.Text, error)) (secret.Text, error) {
	if !validSecretName(name) {
		return secret.Text{}, problem.New(problem.Internal, errors.New("a secret has a bad name"))
	}
	value, found, err := s.readSecret(ctx, name)
	if err != nil || found {
		return value, err
	}
	unlock, err := s.Lock(ctx)
	if err != nil {
		return secret.Text{}, err
	}
	defer unlock()
	value, found, err = s.readSecret(ctx, name)
	if err != nil || found {
		return value, err
	}
	value, err = create()
	if err != nil {
		return secret.Text{}, problem.New(problem.Internal, fmt.Errorf("making a secret: %w", err))
	}
	item, err := encodeSecret(value)
	if err != nil {
		return secret.Text{}, problem.New(problem.Internal, fmt.Errorf("making a secret: %w", err))
	}
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	if err := s.calls.set(work, secretItem(name), item); err != nil {
		return secret.Text{}, outcome(ctx, fmt.Errorf("writing a secret: %w", err))
	}
	return value, nil
}

// DeleteSecret removes one named secret, so that the next Secret makes a new one:
// the way out when it is corrupt. What was sealed with it is lost.
func (s *Store) DeleteSecret(ctx context.Context, name string) error {
	if !validSecretName(name) {
		return problem.New(problem.Internal, errors.New("a secret has a bad name"))
	}
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	if err := s.calls.remove(work, secretItem(name)); err != nil {
		return outcome(ctx, fmt.Errorf("deleting a secret: %w", err))
	}
	return nil
}

func (s *Store) readSecret(ctx context.Context, name string) (secret.Text, bool, error) {
	work, cancel := context.WithTimeout(ctx, s.deadline)
	defer cancel()
	item, err := s.calls.get(work, secretItem(name))
	if errors.Is(err, ErrNotFound) {
		return secret.Text{}, false, nil
	}
	var value secret.Text
	if err == nil {
		value, err = decodeSecret(item)
	}
	if err != nil {
		return secret.Text{}, false, outcome(ctx, fmt.Errorf("reading a secret: %w", err))
	}
	return value, true, nil
}

// outcome turns an error of this room into its problem. asked is the context of
// the caller: only its end is a cancellation, that of our deadline is not.
func outcome(asked context.Context, err error) error {
	switch {
	case errors.Is(asked.Err(), context.Canceled):
		return problem.New(problem.Cancelled, err)
	case errors.Is(err, errNoAnswer):
		return problem.With(problem.KeyringLocked, "It did not answer in time.", err)
	case errors.Is(err, ErrLocked):
		return problem.New(problem.KeyringLocked, err)
	case errors.Is(err, errCorrupt):
		return problem.New(problem.KeyringCorrupt, err)
	default:
		return problem.New(problem.KeyringUnavailable, err)
	}
}
