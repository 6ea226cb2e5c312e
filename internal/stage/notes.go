//go:build linux

package stage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Note is what a started program tells: what it is, when that was, and a text.
type Note struct {
	At   Moment
	Kind byte
	Text string
}

// NoteOpener is the kind of a note of the opener; its text is the address. Programs
// of others have kinds of their own.
const NoteOpener = 'o'

// Notes is a socket for notes. It keeps them in the order in which they came, until
// they are taken.
type Notes struct {
	conn *net.UnixConn

	mu     sync.Mutex
	kept   []Note        // guarded by mu
	closed bool          // guarded by mu
	more   chan struct{} // guarded by mu: closed and replaced when something came
}

// ListenNotes listens for notes: datagrams of a Moment (eight bytes, little endian),
// a kind (one byte) and a text of at most 16 KiB.
func ListenNotes(path string) (*Notes, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	n := &Notes{conn: conn, more: make(chan struct{})}
	go n.read()
	return n, nil
}

func (n *Notes) read() {
	message := make([]byte, 16<<10+9)
	for {
		size, err := n.conn.Read(message)
		n.mu.Lock()
		if err != nil {
			n.closed = true
		} else if size > 8 {
			n.kept = append(n.kept, Note{Moment(binary.LittleEndian.Uint64(message)), message[8], string(message[9:size])})
		}
		close(n.more)
		n.more = make(chan struct{})
		n.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Take returns what has come since the last Take or Await, and keeps it no longer.
func (n *Notes) Take() []Note {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := n.kept
	n.kept = nil
	return kept
}

// More returns a channel that is closed when a note comes after this call.
func (n *Notes) More() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.more
}

// Await returns the next note of a kind whose text ends as given, and drops those
// that came before it. It waits for Patience at most.
func (n *Notes) Await(ctx context.Context, kind byte, ending string) (Note, error) {
	late := time.NewTimer(Patience)
	defer late.Stop()
	for {
		got, found, closed, more := n.next(kind, ending)
		switch {
		case found:
			return got, nil
		case closed:
			return Note{}, errors.New("the socket for notes was closed")
		}
		select {
		case <-ctx.Done():
			return Note{}, ctx.Err()
		case <-late.C:
			return Note{}, fmt.Errorf("nothing was heard of a note of kind %c", kind)
		case <-more:
		}
	}
}

func (n *Notes) next(kind byte, ending string) (got Note, found, closed bool, more <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, note := range n.kept {
		if note.Kind == kind && strings.HasSuffix(note.Text, ending) {
			n.kept = n.kept[i+1:]
			return note, true, false, nil
		}
	}
	n.kept = nil
	return Note{}, false, n.closed, n.more
}

// Close ends the socket.
func (n *Notes) Close() { _ = n.conn.Close() }
