package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"encounterlauncher/internal/problem"
)

// store is a stand-in for a slow store of certificates: each reading takes what the
// next element says.
type store struct {
	own   *ownCertificate
	asked atomic.Int32
	after []time.Duration
	errs  []error
	shown []*tls.Certificate
}

func newStore(after []time.Duration, errs []error) *store {
	s := &store{after: after, errs: errs}
	for range after {
		s.shown = append(s.shown, &tls.Certificate{})
	}
	s.own = &ownCertificate{late: problem.With(problem.PolicyInvalid, "ClientCertificateThumbprint cannot be used.", errors.New("late"))}
	s.own.read = func() (*tls.Certificate, error) {
		i := s.asked.Add(1) - 1
		time.Sleep(s.after[i])
		if s.errs[i] != nil {
			return nil, s.errs[i]
		}
		return s.shown[i], nil
	}
	return s
}

func TestAStoreThatIsSlowHoldsAHandshakeUpForAMomentOnlyAndIsAskedOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore([]time.Duration{10 * time.Second, 0}, []error{nil, nil})
		begun := time.Now()
		for range 2 {
			c, err := s.own.get(t.Context())
			if c != nil || !problem.IsCode(err, problem.PolicyInvalid) || problem.Of(err).Fact == "" {
				t.Errorf("got %v, %v", c, err)
			}
		}
		if took := time.Since(begun); took != 2*certificateTimeout || s.asked.Load() != 1 {
			t.Errorf("it took %v, the store was asked %d times", took, s.asked.Load())
		}
		time.Sleep(10 * time.Second)
		if c, err := s.own.get(t.Context()); err != nil || c != s.shown[1] {
			t.Errorf("once it answers: %v", err)
		}
	})
}

func TestARenewedCertificateThatIsLateLeavesTheOneBeforeInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore([]time.Duration{10 * time.Second, 10 * time.Second, 0}, []error{nil, nil, nil})
		s.own.begin() // when the client is made
		time.Sleep(11 * time.Second)
		begun := time.Now()
		if c, err := s.own.get(t.Context()); err != nil || c != s.shown[0] || time.Since(begun) != renewalTimeout {
			t.Errorf("after %v: %v, the first: %v", time.Since(begun), err, c == s.shown[0])
		}
		time.Sleep(10 * time.Second)
		if c, err := s.own.get(t.Context()); err != nil || c != s.shown[2] {
			t.Errorf("got %v", err)
		}
	})
}

func TestACertificateThatIsGoneIsNotShownAnyMoreThoughTheStoreIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := problem.With(problem.PolicyInvalid, "ClientCertificateThumbprint cannot be used.", errors.New("gone"))
		s := newStore([]time.Duration{0, 0, 10 * time.Second, 0}, []error{nil, gone, gone, nil})
		if _, err := s.own.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if c, err := s.own.get(t.Context()); c != nil || !problem.IsCode(err, problem.PolicyInvalid) {
				t.Errorf("got %v, %v", c, err)
			}
		}
		time.Sleep(10 * time.Second)
		if _, err := s.own.get(t.Context()); err != nil {
			t.Errorf("when it has come back: %v", err)
		}
	})
}

func TestAHandshakeThatEndsWaitsForNoStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore([]time.Duration{time.Second}, []error{nil})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.own.get(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Second)
	})
}
