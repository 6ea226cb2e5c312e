package orgstore

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// tidySoon has the stream tidied some time after everything that is in it now has
// expired.
func (s *stream) tidySoon() {
	if s.tidying.CompareAndSwap(false, true) {
		time.AfterFunc(s.kept+s.kept/16, s.tidy)
	}
}

// tidy lets go of the room that handles took, once all of them have expired: the map
// in which JetStream keeps what is in memory never becomes smaller by itself, and
// that of a million handles takes as much as the whole process at rest.
func (s *stream) tidy() {
	ctx, cancel := context.WithTimeout(context.Background(), StoreTime)
	defer cancel()
	info, err := s.stream.Info(ctx)
	switch {
	case s.conn.nc.IsClosed():
		return
	case err == nil && info.State.Msgs == 0:
		s.tidying.Store(false)
		_ = s.drop(ctx, info.State.LastSeq) // it takes room, and no more
	default:
		time.AfterFunc(s.kept/16, s.tidy)
	}
}

// drop removes what was written up to last, where nothing of it is left, and nothing
// that was written since. JetStream makes its map anew if that is all.
func (s *stream) drop(ctx context.Context, last uint64) error {
	return s.stream.Purge(ctx, jetstream.WithPurgeSequence(last+1))
}
