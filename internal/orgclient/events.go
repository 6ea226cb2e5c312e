package orgclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	// silence is how long a stream may say nothing: more than two of the contract's
	// signs of life.
	silence = 60 * time.Second
	// The bounds of a pause that the backend asks for.
	leastPause = time.Second
	mostPause  = 10 * time.Minute
)

// ErrNoEvents is in the chain of what Events returns for a backend that has no
// events (404): asking again is of no use until it is another backend, or hours
// later.
var ErrNoEvents = errors.New("the backend has no events")

// Cursor is where a reading of events has got to. The zero value begins anew; the
// same Cursor given to the next call goes on where the last one ended. It is the
// caller's and is not safe for concurrent use.
type Cursor struct {
	// LastID is the id of the last event, as the backend gave it; may be empty.
	LastID string
	// Pause is how long the backend asked to be left alone before the next call,
	// 1 s to 10 min; 0 when it asked nothing.
	Pause time.Duration
	// Ignored counts what could not be read as an event of its type.
	Ignored int
}

// Events reads the backend's events (GET /events) until the stream ends, which
// is no error: whoever wants more calls again. opened is called once the backend
// has accepted, take for every export; an error of take ends the reading and is
// returned. Types of events that are not known are passed over, and so are events
// that cannot be read, which are counted.
//
// There is no limit to how long a stream may last. It has died when the answer
// does not begin within the time of one attempt, or when nothing came for 60 s;
// that is org_unreachable. Errors are otherwise as for Create; those with
// ErrNoEvents in their chain are org_answer_invalid.
func (c *Client) Events(ctx context.Context, token secret.Text, from *Cursor, opened func(), take func(orgapi.ExportedEvent) error) error {
	if token.Empty() || !plain(token.Reveal()) {
		return problem.New(problem.Unauthorized, errors.New("there is no access token that a header could carry"))
	}
	from.Pause = 0
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	dead := time.AfterFunc(c.attempt, cancel)
	defer dead.Stop()

	r, err := http.NewRequestWithContext(reading, http.MethodGet, c.base+orgapi.PathEvents, nil)
	if err != nil {
		return problem.New(problem.Internal, errors.New("making the request failed"))
	}
	r.Header = http.Header{
		"Accept": {orgapi.EventStreamContentType},
		// A compressed stream would be delivered in lots.
		"Accept-Encoding":      {"identity"},
		"Authorization":        {"Bearer " + token.Reveal()},
		"Cache-Control":        {"no-store"},
		"User-Agent":           {c.userAgent},
		orgapi.HeaderRequestID: {requestID(ctx)},
	}
	if from.LastID != "" {
		r.Header.Set(orgapi.HeaderLastEventID, from.LastID)
	}
	answer, err := c.trip.RoundTrip(r)
	if err != nil {
		return c.streamBroke(ctx, reading, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(answer.Body, orgapi.MaxAnswerBytes+1))
		if err != nil {
			return c.streamBroke(ctx, reading, err)
		}
		return c.noStream(answer, body, from)
	}
	if !mediaType(answer, orgapi.EventStreamContentType) || answer.Header.Get("Content-Encoding") != "" {
		return problem.New(problem.OrgAnswerInvalid, errors.New("the answer is not a stream of events by its type"))
	}
	opened()
	dead.Reset(c.silence)
	stream := newEventReader(alive{answer.Body, func() { dead.Reset(c.silence) }}, from)
	for {
		e, err := stream.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errTooLarge):
			return problem.New(problem.OrgAnswerInvalid, err)
		case err != nil:
			return c.streamBroke(ctx, reading, err)
		case e.kind != orgapi.EventExported:
			continue
		}
		exported, err := readExported(e.data)
		if err != nil {
			from.Ignored++
			continue
		}
		if err := take(exported); err != nil {
			return err
		}
	}
}

// streamBroke judges a stream that broke: cancelled by the caller, silent, or cut.
func (c *Client) streamBroke(ctx, reading context.Context, err error) error {
	if ctx.Err() != nil {
		return problem.New(problem.Cancelled, ctx.Err())
	}
	return c.broken(reading, err).failure
}

// noStream judges an answer that is not 200.
func (c *Client) noStream(answer *http.Response, body []byte, from *Cursor) error {
	if answer.StatusCode < 300 {
		return problem.New(problem.OrgAnswerInvalid, fmt.Errorf("the answer has status %d", answer.StatusCode))
	}
	got := c.refused(answer, body)
	if got.waitNamed {
		from.Pause = min(max(got.wait, leastPause), mostPause)
	}
	if answer.StatusCode == http.StatusNotFound {
		return problem.New(problem.OrgAnswerInvalid, fmt.Errorf("%w: %w", ErrNoEvents, got.failure))
	}
	return got.failure
}

// alive tells of every sign of life.
type alive struct {
	io.Reader
	sign func()
}

func (a alive) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if n > 0 {
		a.sign()
	}
	return n, err
}

func readExported(data []byte) (e orgapi.ExportedEvent, err error) {
	all, err := object(data)
	if err != nil {
		return e, err
	}
	if e.ExternalEncounterID, err = all.identifier("external_encounter_id"); err != nil {
		return e, err
	}
	if e.ExternalProviderID, err = all.identifier("external_provider_id"); err != nil {
		return e, err
	}
	if e.At, err = all.text("at"); err != nil {
		return e, err
	}
	if _, err := time.Parse(time.RFC3339, e.At); err != nil {
		return e, errors.New("at is not a time by RFC 3339")
	}
	return e, nil
}

var errTooLarge = errors.New("a line or an event of the stream is too large")

// event is one message of a stream, as it was dispatched.
type event struct {
	kind string
	data []byte
}

// eventReader reads server-sent events (WHATWG HTML §9.2.6). It holds at most a
// line and the data of one event.
type eventReader struct {
	in     *bufio.Reader
	cursor *Cursor
	begun  bool
	skipLF bool // the line before ended with CR, so an LF that follows belongs to it
	line   []byte
	id     string
}

func newEventReader(in io.Reader, cursor *Cursor) *eventReader {
	return &eventReader{in: bufio.NewReader(in), cursor: cursor, id: cursor.LastID}
}

// next returns the next event that has data. The returned data is good until the
// next call. An event that the end of the stream cuts off is not one.
func (r *eventReader) next() (event, error) {
	var e event
	some := false
	for {
		line, err := r.readLine()
		if err != nil {
			return event{}, err
		}
		if len(line) == 0 {
			r.cursor.LastID = r.id
			if some {
				return e, nil
			}
			e = event{}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			e.kind = string(value)
		case "data":
			if some {
				e.data = append(e.data, '\n')
			}
			if len(e.data)+len(value) > orgapi.MaxEventBytes {
				return event{}, errTooLarge
			}
			e.data, some = append(e.data, value...), true
		case "id":
			if r.id = string(value); !plain(r.id) || len(r.id) > orgapi.MaxEventIDBytes {
				r.id = "" // one that no header could carry: begin anew next time
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				r.cursor.Pause = min(max(time.Duration(ms)*time.Millisecond, leastPause), mostPause)
			}
		}
	}
}

// readLine returns a line without its end, which is CR LF, LF or CR. After a CR
// it does not wait for what follows.
func (r *eventReader) readLine() ([]byte, error) {
	r.line = r.line[:0]
	for {
		b, err := r.in.ReadByte()
		if err != nil {
			return nil, err
		}
		if r.skipLF {
			r.skipLF = false
			if b == '\n' {
				continue
			}
		}
		if b == '\n' || b == '\r' {
			r.skipLF = b == '\r'
			line := r.line
			if !r.begun {
				r.begun = true
				line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
			}
			return line, nil
		}
		if len(r.line) >= orgapi.MaxEventBytes {
			return nil, errTooLarge
		}
		r.line = append(r.line, b)
	}
}
