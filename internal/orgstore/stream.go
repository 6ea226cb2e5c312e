package orgstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/problem"
)

const (
	handleStream  = "handles"
	handleSubject = "handles."
)

// stream is the shelf that several backends share: one stream in memory, one sealed
// message for each ticket. A write is conditional by Nats-Expected-Last-Subject-
// Sequence, and its spender is the message's id (Nats-Msg-Id).
type stream struct {
	conn   *Conn
	stream jetstream.Stream
	kept   time.Duration
	limit  int64

	mu      sync.Mutex
	used    int64     // guarded by mu: bytes in the stream when it was last asked
	asked   time.Time // guarded by mu: when that was
	added   int64     // guarded by mu: bytes of ours since then
	tidying atomic.Bool
}

// openStream makes the stream, or takes the one that another backend made.
func openStream(ctx context.Context, conn *Conn, kept time.Duration, bytes int64) (*stream, error) {
	cfg := jetstream.StreamConfig{
		Name: handleStream, Subjects: []string{handleSubject + "*"}, Storage: jetstream.MemoryStorage,
		MaxMsgsPerSubject: 1, MaxAge: kept, Duplicates: kept, MaxBytes: bytes, Discard: jetstream.DiscardNew,
		// A copy may lag behind its leader, and a handle that was minted a moment ago
		// would not be there: with several copies the leader answers.
		AllowDirect: conn.replicas == 1,
	}
	s, err := conn.Stream(ctx, cfg)
	for tooLittleRoom(err) && cfg.MaxBytes/2 >= leastBytes {
		cfg.MaxBytes /= 2
		s, err = conn.Stream(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	return &stream{conn: conn, stream: s, kept: kept, limit: cfg.MaxBytes}, nil
}

func (s *stream) write(ctx context.Context, doing string, t Ticket, spender string) (written, error) {
	m, err := s.message(t.name, t.state, t.launch)
	if err != nil {
		return written{}, err
	}
	m.Header = nats.Header{jetstream.ExpectedLastSubjSeqHeader: []string{strconv.FormatUint(t.revision, 10)}}
	if spender != "" {
		m.Header[jetstream.MsgIDHeader] = []string{spender}
	}
	var w written
	var answer ack
	err = repeatedly(ctx, doing, func(limit time.Duration) (err error) {
		if answer, err = s.conn.publish(m, limit); wrongRevision(err) {
			w.changed, err = true, nil
		}
		if err != nil {
			w.again = true
		}
		return err
	})
	switch {
	case err != nil:
		return written{}, err
	case w.changed:
		return w, nil
	case answer.Duplicate:
		before, err := s.get(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
			return s.stream.GetMsg(ctx, answer.Sequence)
		})
		if err == nil && before.revision == 0 {
			err = problem.New(problem.OrgBusy, errors.New("what an idempotency key was used for expires now"))
		}
		return written{before: &before}, err
	}
	return written{revision: answer.Sequence}, nil
}

// message is: the length of the state in two bytes, the state, the launch; sealed.
func (s *stream) message(name string, value state, launch []byte) (*nats.Msg, error) {
	s.tidySoon()
	all := value.append(make([]byte, 2, 2+maxState+len(launch)))
	size := len(all) - 2
	if size > maxState {
		return nil, unwritable()
	}
	binary.BigEndian.PutUint16(all, uint16(size))
	all = append(all, launch...)
	subject := handleSubject + name
	return &nats.Msg{Subject: subject, Data: s.conn.Seal(subject, all)}, nil
}

func (t *Ticket) open(text []byte) error {
	if len(text) < 2 || int(binary.BigEndian.Uint16(text)) > len(text)-2 {
		return errors.New("it is cut short")
	}
	end := 2 + int(binary.BigEndian.Uint16(text))
	if err := json.Unmarshal(text[2:end], &t.state); err != nil {
		return err
	}
	return t.read(text[end:])
}

func (s *stream) read(ctx context.Context, name string) (Ticket, error) {
	t, err := s.get(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return s.stream.GetLastMsgForSubject(ctx, handleSubject+name)
	})
	t.name = name
	return t, err
}

func (s *stream) get(ctx context.Context, from func(context.Context) (*jetstream.RawStreamMsg, error)) (Ticket, error) {
	var m *jetstream.RawStreamMsg
	err := patiently(ctx, "reading a handle", func(ctx context.Context) (err error) {
		if m, err = from(ctx); errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = nil, nil
		}
		return err
	})
	if err != nil || m == nil {
		return Ticket{}, err
	}
	text, err := s.conn.Open(m.Subject, m.Data)
	if err != nil {
		return Ticket{}, problem.New(problem.Internal, err)
	}
	t := Ticket{name: strings.TrimPrefix(m.Subject, handleSubject), revision: m.Sequence}
	if err := t.open(text); err != nil {
		return Ticket{}, problem.New(problem.Internal, errors.New("what is kept of a handle cannot be read"))
	}
	return t, nil
}

// room asks how full the stream is after a second, or when we alone
// have added a sixty-fourth of what it may hold.
func (s *stream) room(ctx context.Context, size int) error {
	s.mu.Lock()
	s.added += int64(size)
	used, due := s.used, s.added > s.limit/64 || time.Since(s.asked) > time.Second
	if due {
		s.asked, s.added = time.Now(), 0
	}
	s.mu.Unlock()
	if due {
		err := patiently(ctx, "asking how full the store is", func(ctx context.Context) error {
			info, err := s.stream.Info(ctx)
			if err == nil {
				used = int64(info.State.Bytes)
			}
			return err
		})
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.used = used
		s.mu.Unlock()
	}
	if used > s.limit/4*3 {
		return problem.New(problem.OrgBusy, errFull)
	}
	return nil
}

// Codes of errors of JetStream that its client has no name for.
const (
	accountIsFull   jetstream.ErrorCode = 10002 // JSAccountResourcesExceededErr
	noServerHasRoom jetstream.ErrorCode = 10005 // JSClusterNoPeersErrF
	noLeader        jetstream.ErrorCode = 10008 // JSClusterNotAvailErr
	serverIsFull    jetstream.ErrorCode = 10023 // JSInsufficientResourcesErr
	memoryIsFull    jetstream.ErrorCode = 10028 // JSMemoryResourcesExceededErr
	duplicateInWork jetstream.ErrorCode = 10158 // JSStreamDuplicateMessageConflict
)

// wrongRevision reports whether somebody else wrote. With several copies the code
// is another one.
func wrongRevision(err error) bool {
	code := codeOf(err)
	return code == jetstream.JSErrCodeStreamWrongLastSequence || code == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// tooLittleRoom reports whether a stream could not be made because it may become too
// large.
func tooLittleRoom(err error) bool {
	switch codeOf(err) {
	case accountIsFull, noServerHasRoom, serverIsFull, memoryIsFull:
		return true
	}
	return false
}

func codeOf(err error) jetstream.ErrorCode {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.ErrorCode
	}
	return 0
}
