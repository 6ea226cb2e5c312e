//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"encounterlauncher/internal/stage"
)

const (
	// streamsOfOne is how many of a person's are open at a time, at most what the
	// backend allows.
	streamsOfOne = 8
	// aStream is how much memory one may take, in kB of 1,024 bytes.
	aStream = 20
	// openers open streams at the same time.
	openers = 32
	// keptAlive is longer than the pause between two signs of life on a stream.
	keptAlive = 25 * time.Second
)

// idleStreams opens many streams of events, leaves them alone, and reads how much
// memory one of them takes. Then every stream must still give its sign of life.
func (b *bench) idleStreams(ctx context.Context) error {
	if b.streams == 0 {
		return nil
	}
	if err := raiseFiles(uint64(b.streams) + 1000); err != nil {
		return err
	}
	h := b.hospital
	p, err := h.startBackend(ctx, b.built, "streams", "org-backend", "")
	if err != nil {
		return err
	}
	defer h.stop(p)
	tokens := make([]string, (b.streams+streamsOfOne-1)/streamsOfOne)
	for n := range tokens {
		if tokens[n], err = h.token(n); err != nil {
			return err
		}
	}
	open := make([]*stream, b.streams)
	defer func() {
		for _, s := range open {
			if s != nil {
				_ = s.conn.Close()
			}
		}
	}()
	// What all of them share is there with the first.
	if open[0], err = openStream(p.Address, tokens[0]); err != nil {
		return err
	}
	if err := sleep(ctx, b.idle); err != nil {
		return err
	}
	before, err := stage.PSS(p.PID())
	if err != nil {
		return err
	}
	if err := inParallel(openers, b.streams-1, func(n int) (err error) {
		open[n+1], err = openStream(p.Address, tokens[(n+1)/streamsOfOne])
		return err
	}); err != nil {
		return err
	}
	if err := sleep(ctx, b.idle); err != nil {
		return err
	}
	per, own := b.report.sample(), b.report.sample()
	for range 5 {
		after, err := stage.PSS(p.PID())
		if err != nil {
			return err
		}
		anonymous, err := stage.OwnPSS(p.PID())
		if err != nil {
			return err
		}
		per.values = append(per.values, float64(after-before)/float64(b.streams-1))
		own.addKB(anonymous)
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	used := stage.CPU(p.PID())
	began := time.Now()
	if err := inParallel(b.streams, b.streams, func(n int) error { return open[n].alive() }); err != nil {
		return fmt.Errorf("a stream that was idle: %w", err)
	}
	if rest := keptAlive - time.Since(began); rest > 0 {
		if err := sleep(ctx, rest); err != nil {
			return err
		}
	}
	busy := float64((stage.CPU(p.PID()) - used).Milliseconds()) / time.Since(began).Seconds()
	b.report.add(figure{
		ID: "stream", Name: fmt.Sprintf("one of %d idle streams of events, PSS", b.streams), Unit: kb1024, Ours: per.stats(), Goal: valueAtMost(aStream),
	})
	b.report.add(figure{ID: "streams_all", Name: "  all of them, not pages of a file", Unit: mb, Ours: own.stats()})
	b.report.add(figure{ID: "streams_cpu", Name: "  processor time of all of them in a second", Unit: ms, Ours: &stats{1, busy, busy, busy}})
	return nil
}

// raiseFiles allows this process, and those that it starts, so many open files.
func raiseFiles(want uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= want {
		return nil
	}
	if limit.Max < want {
		return fmt.Errorf("%d open files are needed and %d are allowed (ulimit -Hn)", want, limit.Max)
	}
	limit.Cur = want
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

// inParallel calls do with 0 to n-1, so many at a time, and returns the first fault.
func inParallel(at, n int, do func(int) error) error {
	numbers, faults := make(chan int), make(chan error, 1)
	var all sync.WaitGroup
	for range at {
		all.Go(func() {
			for i := range numbers {
				if err := do(i); err != nil {
					select {
					case faults <- err:
					default:
					}
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	all.Wait()
	select {
	case err := <-faults:
		return err
	default:
		return nil
	}
}

// stream is an open stream of events: HTTP/1.1 in chunks.
type stream struct {
	conn net.Conn
	in   *bufio.Reader
}

// openStream opens one and waits for its first sign of life.
func openStream(address, token string) (*stream, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	s := &stream{conn, bufio.NewReaderSize(conn, 512)}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return s, err
	}
	if _, err := fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nAccept: text/event-stream\r\n\r\n", address, token); err != nil {
		return s, err
	}
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		return s, err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return s, fmt.Errorf("GET /events answered %q", line)
	}
	return s, s.alive()
}

// alive waits for the next comment.
func (s *stream) alive() error {
	if err := s.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for {
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if string(line) == ":\n" {
			return nil
		}
		if bytes.HasPrefix(line, []byte("data:")) {
			return errors.New("an idle stream told of an export")
		}
	}
}
