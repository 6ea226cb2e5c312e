//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// generator is one of HTTP/1.1 requests: so many connections that are kept alive,
// each of which sends its next request when it has the answer to the last one. It
// knows just enough HTTP for the servers that it measures, because every processor
// second of its own is one that they do not get.
type generator struct {
	address     string
	connections int
}

// reply is what came back for one request.
type reply struct {
	status int
	body   []byte
	took   time.Duration
}

// run sends every request once and returns the answers in the same order, and how
// long all of them took together. The connections are there before the clock starts.
func (l generator) run(ctx context.Context, requests [][]byte) ([]reply, time.Duration, error) {
	replies := make([]reply, len(requests))
	senders := make([]*sender, l.connections)
	for i := range senders {
		senders[i] = &sender{address: l.address}
		if err := senders[i].dial(); err != nil {
			return nil, 0, err
		}
		defer senders[i].close()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for _, s := range senders {
		all.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(requests) {
					return
				}
				var err error
				if replies[n], err = s.send(requests[n]); err != nil {
					cancel(fmt.Errorf("request %d of %d: %w", n+1, len(requests), err))
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	return replies, took, context.Cause(ctx)
}

// sender is one connection.
type sender struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
	// bodies is what answers are kept in, so that not each is an allocation.
	bodies []byte
}

func (s *sender) dial() error {
	conn, err := net.DialTimeout("tcp", s.address, patience)
	if err != nil {
		return err
	}
	s.conn, s.in = conn, bufio.NewReader(conn)
	return nil
}

func (s *sender) close() { _ = s.conn.Close() }

// send sends one request and reads its answer. A server may end a connection after
// an answer that says so, as nginx does after a thousand.
func (s *sender) send(request []byte) (reply, error) {
	began := time.Now()
	if err := s.conn.SetDeadline(began.Add(patience)); err != nil {
		return reply{}, err
	}
	if _, err := s.conn.Write(request); err != nil {
		return reply{}, err
	}
	status, length, last, err := readHead(s.in)
	if err != nil {
		return reply{}, err
	}
	if cap(s.bodies)-len(s.bodies) < length {
		s.bodies = make([]byte, 0, max(64<<10, length))
	}
	body := s.bodies[len(s.bodies) : len(s.bodies)+length : len(s.bodies)+length]
	s.bodies = s.bodies[:len(s.bodies)+length]
	if _, err := io.ReadFull(s.in, body); err != nil {
		return reply{}, err
	}
	got := reply{status, body, time.Since(began)}
	if last {
		s.close()
		return got, s.dial()
	}
	return got, nil
}

// readHead reads status line and header of an answer with a Content-Length.
func readHead(in *bufio.Reader) (status, length int, last bool, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, 0, false, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, 0, false, errors.New("the answer is not HTTP/1.1")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, false, errors.New("the answer has no status")
	}
	length = -1
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return 0, 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, 0, false, errors.New("the answer's length is no number")
			}
		case bytes.EqualFold(name, []byte("Connection")):
			last = bytes.EqualFold(value, []byte("close"))
		}
	}
	if length < 0 || length > 1<<20 {
		return 0, 0, false, errors.New("the answer does not say how long it is")
	}
	return status, length, last, nil
}

// post writes a request as it goes over the wire.
func post(host, path string, header [][2]string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, host, len(body))
	for _, h := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}
