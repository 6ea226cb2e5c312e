package orgserver

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgstore"
)

// eventWrite bounds one write, so that a peer that is gone holds nothing up.
const eventWrite = 10 * time.Second

// maxSaid is how much a peer may send into its stream.
const maxSaid = 4 << 10

// What a stream has to do.
const (
	workNone    = 0
	workRead    = 1 // send what is stored
	workComment = 2 // give a sign of life
)

// stream is one open stream of events (WHATWG HTML §9.2). Over HTTP/1.1 it takes the
// connection over from net/http, whose buffers and goroutines are several times what
// an idle stream needs; what is left waits for the peer to go. Over HTTP/2, where
// many streams share a connection, the call's own goroutine waits.
type stream struct {
	of      *events
	subject string
	until   time.Time // the end of the access token
	ending  <-chan struct{}
	turn    int // the beat of its signs of life

	// Only who is busy for it uses these.
	out  eventOut
	next uint64
	// epoch names the life of what is read.
	epoch string

	mu    sync.Mutex
	work  int           // guarded by mu
	busy  bool          // guarded by mu: somebody works
	ended bool          // guarded by mu
	done  chan struct{} // closed when it is over; nil when nobody waits
}

// eventOut is where a stream goes. One write is one or more whole events.
type eventOut interface {
	write(text string) bool
	close()
}

// serve opens the stream, and returns when it is over or needs this goroutine no
// longer.
func (s *stream) serve(ctx context.Context, w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", orgapi.EventStreamContentType)
	// A buffering proxy would deliver events in lots (nginx).
	h.Set("X-Accel-Buffering", "no")
	control := http.NewResponseController(w)
	conn, _, err := control.Hijack()
	if err != nil {
		s.out, s.done = &flushed{w, control}, make(chan struct{})
		// The listener's limits are those of a call. Where there are none there is
		// nothing to lift.
		_ = control.SetReadDeadline(time.Time{})
		w.WriteHeader(http.StatusOK)
		s.open()
		select {
		case <-ctx.Done():
		case <-s.done:
		}
		s.end()
		<-s.done // nobody writes any more
		return
	}
	// The limits of a call.
	_ = conn.SetDeadline(time.Time{})
	s.out = taken{conn}
	var head bytes.Buffer
	h.Set("Connection", "close") // so the end of the connection is that of the answer (RFC 9112 §6.3)
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	head.WriteString("HTTP/1.1 200 OK\r\n")
	_ = h.Write(&head) // a buffer takes everything
	head.WriteString("\r\n")
	if !s.out.write(head.String()) {
		s.end()
	}
	s.open()
	go s.watch(conn)
}

// open gives the first sign of life, then what is stored. The stream was made busy.
func (s *stream) open() {
	s.mu.Lock()
	s.work |= workRead | workComment
	s.mu.Unlock()
	go s.run()
}

// watch ends the stream when the peer has gone, or when it goes on sending, which no
// listener does and no limit would stop. Whatever it sends is nothing to us.
func (s *stream) watch(conn net.Conn) {
	var some [16]byte
	for read := 0; read <= maxSaid; {
		n, err := conn.Read(some[:])
		if err != nil {
			break
		}
		read += n
	}
	s.end()
}

// wake has the stream do something, unless it is over.
func (s *stream) wake(work int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work |= work; !s.busy && !s.ended && s.work != workNone {
		s.busy = true
		go s.run()
	}
}

// run does what there is to do. It ends the stream when the peer or the store does
// not take part: the caller comes back.
func (s *stream) run() {
	for {
		s.mu.Lock()
		work := s.work
		s.work = workNone
		if work == workNone || s.ended {
			s.busy = false
			ended := s.ended
			s.mu.Unlock()
			if ended {
				s.finish()
			}
			return
		}
		s.mu.Unlock()
		if (work&workComment != 0 && !s.out.write(":\n\n")) || (work&workRead != 0 && s.read() != nil) {
			s.end()
		}
	}
}

// end ends the stream: now, or when who works for it has finished.
func (s *stream) end() {
	s.mu.Lock()
	first := !s.ended
	s.ended = true
	now := first && !s.busy
	s.mu.Unlock()
	if now {
		s.finish()
	}
}

// finish is called once.
func (s *stream) finish() {
	s.of.leave(s)
	s.out.close()
	if s.done != nil {
		close(s.done)
	}
}

// read sends what is stored and was not sent yet.
func (s *stream) read() error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), orgstore.StoreTime)
		m, err := s.of.stream.GetMsg(ctx, s.next, jetstream.WithGetMsgSubject(storedSubject+s.subject))
		cancel()
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		// The data is JSON of ours, in one line.
		id := s.epoch + "-" + strconv.FormatUint(m.Sequence, 10)
		if !s.out.write("event: " + orgapi.EventExported + "\nid: " + id + "\ndata: " + string(m.Data) + "\n\n") {
			return errors.New("the caller has gone")
		}
		s.next = m.Sequence + 1
	}
}

// taken is a connection that was taken over from net/http.
type taken struct{ conn net.Conn }

func (o taken) write(text string) bool {
	_ = o.conn.SetWriteDeadline(time.Now().Add(eventWrite))
	_, err := o.conn.Write([]byte(text))
	return err == nil
}

func (o taken) close() { _ = o.conn.Close() }

// flushed is an answer that net/http writes.
type flushed struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (o *flushed) write(text string) bool {
	_ = o.control.SetWriteDeadline(time.Now().Add(eventWrite))
	_, err := o.w.Write([]byte(text))
	if err == nil {
		err = o.control.Flush()
	}
	// HTTP/2 ends a stream whose deadline passes while nothing is written.
	_ = o.control.SetWriteDeadline(time.Time{})
	return err == nil
}

func (o *flushed) close() {}
