//go:build linux

// Package stage runs the real programs as a desktop and a hospital run them: the
// launcher in a desktop session of its own (bus, unlocked keyring, tray host,
// folders, optionally a display), org-backend, nabla-sim and the sandbox's issuer on
// loopback, with an authority and a machine policy of their own. Tests and the
// commands that measure or prove stand on it.
//
// It never touches the person's own session, keyring, launcher or browser, opens
// nothing in a browser, ends only what it has started or what became its child by
// that, and judges nothing. It is for Linux.
//
// The order is: Programs.Build, NewAuthority, StartIssuer, StartSimulator,
// StartBackend, Programs.WritePolicy, NewSession. Everything that was started has
// a Close or Stop.
package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Patience bounds everything that is waited for: far longer than a loaded machine
// takes, short enough for somebody who looks on.
const Patience = 30 * time.Second

// Moment is a reading of CLOCK_MONOTONIC in nanoseconds, which is the same for
// every process of the machine.
type Moment int64

// Now reads the clock.
func Now() Moment {
	var at unix.Timespec
	// The clock is always there and the pointer good: nothing can fail.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &at)
	return Moment(at.Nano())
}

// Await waits until there returns true, for Patience at most. The error says that
// what did not come.
func Await(ctx context.Context, what string, there func() bool) error {
	for until := time.Now().Add(Patience); !there(); {
		if time.Now().After(until) {
			return fmt.Errorf("%s did not come", what)
		}
		if err := Sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// Sleep waits, or returns the context's error when that ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// FreePort is an address on loopback that nobody listens on. Nobody else is likely
// to take it before the program that is told it.
func FreePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// Listens waits until somebody takes connections at a TCP address, or the program
// that should has ended; p may be nil.
func Listens(ctx context.Context, address string, p *Program) error {
	var ended bool
	err := Await(ctx, "the listener", func() bool {
		if ended = p != nil && p.Ended(); ended {
			return true
		}
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if ended {
		return errors.New("it ended: " + p.Said())
	}
	return err
}
