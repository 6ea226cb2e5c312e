package tokenstore

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// answering gives the same error to every call and counts what would change the
// keyring.
type answering struct {
	err     error
	changes atomic.Int32
}

func (a *answering) Get(string, string) (string, error) { return "", a.err }
func (a *answering) Set(string, string, string) error   { a.changes.Add(1); return a.err }
func (a *answering) Delete(string, string) error        { a.changes.Add(1); return a.err }

func TestLockedAndUnavailableAreToldApartAndChangeNothing(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		err  error
		want problem.Code
	}{
		{ErrLocked, problem.KeyringLocked},
		{ErrUnavailable, problem.KeyringUnavailable},
		{errors.New("something nobody has heard of"), problem.KeyringUnavailable},
	} {
		k := &answering{err: c.err}
		s := newStore(t, k)
		_, found, loadErr := s.Load(ctx)
		_, saveErr := s.Save(ctx, entryOf(20, "a"))
		_, secretErr := s.Secret(ctx, "recents", func() (secret.Text, error) {
			t.Error("a secret was made")
			return secret.New("x"), nil
		})
		deleteErr := s.Delete(ctx)
		for _, err := range []error{loadErr, saveErr, secretErr, deleteErr} {
			if problem.CodeOf(err) != c.want {
				t.Errorf("%v: got %v", c.err, err)
			}
		}
		if found || k.changes.Load() != 0 {
			t.Errorf("%v: found %v, %d changes", c.err, found, k.changes.Load())
		}
	}
}

// waiting blocks like a keyring that asks the person for a password.
type waiting struct {
	Keyring
	asked   atomic.Int32
	release chan struct{}
}

func (w *waiting) Get(service, user string) (string, error) {
	w.asked.Add(1)
	<-w.release
	return w.Keyring.Get(service, user)
}

func TestAKeyringThatWaitsForThePersonIsLockedAndAskedOnce(t *testing.T) {
	ctx := context.Background()
	inner := Memory()
	want := save(t, newTornStore(inner), entryOf(20, "a"))
	k := &waiting{Keyring: inner, release: make(chan struct{})}
	s := newStore(t, k)
	s.deadline = 10 * time.Millisecond
	for range 5 {
		if _, found, err := s.Load(ctx); found || problem.CodeOf(err) != problem.KeyringLocked {
			t.Fatalf("found %v, %v", found, err)
		}
	}
	if n := k.asked.Load(); n != 1 {
		t.Errorf("the person was asked %d times", n)
	}
	close(k.release)
	s.deadline = time.Minute
	if got, found, err := s.Load(ctx); err != nil || !found || !sameEntry(got, want) {
		t.Errorf("after unlocking: found %v, %v", found, err)
	}
}

func TestACancelledCallerIsLetGoAtOnce(t *testing.T) {
	k := &waiting{Keyring: Memory(), release: make(chan struct{})}
	defer close(k.release)
	s := newStore(t, k)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { _, _, err := s.Load(ctx); result <- err }()
	cancel()
	if err := <-result; problem.CodeOf(err) != problem.Cancelled {
		t.Errorf("got %v", err)
	}
}

func TestASaveIsNotInterruptedByACancelledLaunch(t *testing.T) {
	k := Memory()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	want, err := newStore(t, k).Save(ctx, entryOf(6000, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if got, found, err := newStore(t, k).Load(context.Background()); err != nil || !found || !sameEntry(got, want) {
		t.Errorf("found %v, %v", found, err)
	}
}

type panicking struct{ Keyring }

func (panicking) Get(string, string) (string, error) { panic("closed channel with a secret in it") }

func TestAClientThatPanicsIsUnavailableAndSaysNothing(t *testing.T) {
	_, _, err := newStore(t, panicking{Memory()}).Load(context.Background())
	if problem.CodeOf(err) != problem.KeyringUnavailable {
		t.Fatalf("got %v", err)
	}
	if text := problem.Of(err).LogValue().String(); strings.Contains(text, "secret") {
		t.Errorf("the log would say %s", text)
	}
}

func TestNoOutcomeShowsTheToken(t *testing.T) {
	ctx := context.Background()
	m := &memory{items: map[[2]string]string{}}
	s := newTornStore(m)
	e := save(t, s, entryOf(9000, "canary"))
	m.items[[2]string{testService, partItem(e.Generation, 0)}] = "canary-changed"
	_, _, err := s.Load(ctx)
	m.items[[2]string{testService, headItem}] = "canary"
	_, _, err2 := s.Load(ctx)
	m.items[[2]string{testService, "secret.x"}] = "canary"
	_, err3 := s.Secret(ctx, "x", nil)
	for _, err := range []error{err, err2, err3} {
		if err == nil || strings.Contains(err.Error()+problem.Of(err).LogValue().String(), "canary") {
			t.Errorf("got %v", problem.Of(err).LogValue())
		}
	}
}

func TestASecretNeedsAPlainName(t *testing.T) {
	s := newStore(t, Memory())
	for _, name := range []string{"", "A", "a.b", "refresh.1.0/", strings.Repeat("a", 41)} {
		if _, err := s.Secret(context.Background(), name, nil); problem.CodeOf(err) != problem.Internal {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestASecretThatCannotBeMadeLeavesNone(t *testing.T) {
	k := Memory()
	s := newStore(t, k)
	for _, made := range []string{"", strings.Repeat("x", 1001), "\xff"} {
		if _, err := s.Secret(context.Background(), "x", func() (secret.Text, error) { return secret.New(made), nil }); problem.CodeOf(err) != problem.Internal {
			t.Errorf("got %v", err)
		}
	}
	if _, err := s.Secret(context.Background(), "x", func() (secret.Text, error) { return secret.Text{}, errors.New("no entropy") }); err == nil {
		t.Error("the error is lost")
	}
	if n := len(k.(*memory).items); n != 0 {
		t.Errorf("%d items", n)
	}
}

// stating is a keyring that can say whether it is locked, and tells of being asked
// for anything else.
type stating struct {
	Keyring
	locked bool
	err    error
	asked  atomic.Int32
}

func (s *stating) Locked() (bool, error) { return s.locked, s.err }

func (s *stating) Get(service, user string) (string, error) {
	s.asked.Add(1)
	return s.Keyring.Get(service, user)
}

func TestALookAtALockedKeyringThatCanSaySoAsksForNothingElse(t *testing.T) {
	for _, c := range []struct {
		keyring *stating
		want    problem.Code
		asked   bool
	}{
		{&stating{Keyring: Memory(), locked: true}, problem.KeyringLocked, false},
		{&stating{Keyring: Memory(), err: ErrUnavailable}, problem.KeyringUnavailable, false},
		{&stating{Keyring: Memory()}, "", true},
		{&stating{Keyring: &answering{err: ErrLocked}}, problem.KeyringLocked, true},
	} {
		if err := newStore(t, c.keyring).Check(context.Background()); problem.CodeOf(err) != c.want || c.keyring.asked.Load() > 0 != c.asked {
			t.Errorf("%+v: %v, asked %d times", c, err, c.keyring.asked.Load())
		}
	}
	if err := newStore(t, Memory()).Check(context.Background()); err != nil {
		t.Errorf("one that cannot say: %v", err)
	}
}
