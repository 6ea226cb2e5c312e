package orgstore

import (
	"context"
	"time"
)

// shelf is where tickets lie: in this process's own memory (memory), or in a stream of
// a cluster that several backends share (stream). What Handles promises is decided
// above it, once for both. It never judges whether a ticket has expired.
type shelf interface {
	// write keeps a ticket's state and launch, in one atomic step: if nothing was
	// written under its name since it was read (its revision; 0 says that nothing was
	// ever there), and if the spender, where one is named, has written no other.
	write(ctx context.Context, doing string, t Ticket, spender string) (written, error)
	// read returns what lies under a name; without anything the revision is 0.
	read(ctx context.Context, name string) (Ticket, error)
	// room refuses new handles before the shelf is full, so that those that are there
	// can be redeemed. size is about what the launch takes.
	room(ctx context.Context, size int) error
}

// written is what became of a write that did not fail.
type written struct {
	// revision is the ticket's new one; 0 says that nothing was written.
	revision uint64
	// changed says that somebody else has written under the name. With again it may
	// have been an attempt of this write whose answer was lost.
	changed, again bool
	// before is what the spender had written already.
	before *Ticket
}

// keptFor is how long what lies on a shelf is kept at least: twice a handle's life, so
// that a late click is told from one that never had a handle while it is still
// likely to be asked about, and longer than a signed request lives.
func keptFor(life time.Duration) time.Duration {
	if d, err := time.ParseDuration(shortened); err == nil {
		return d
	}
	return max(2*life, minKept)
}

// shortened is for a measurement, which would else wait for twenty minutes: how long
// what lies on a shelf is kept. The linker sets it (-X); in a release it is empty.
var shortened string
