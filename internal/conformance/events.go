package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"encounterlauncher/internal/orgapi"
)

const (
	// beginTime is the second of the contract, and one for the way.
	beginTime = 2 * time.Second
	// silence is the keep-alive of the contract, and two seconds for the way.
	silence = orgapi.KeepAliveSeconds*time.Second + 2*time.Second
	// exportedTime is how long an exported note may take to the clinician's stream.
	exportedTime = 15 * time.Second
)

func eventsNoToken(ctx context.Context, s *session) error {
	a, err := s.call(ctx, request{method: http.MethodGet, path: orgapi.PathEvents})
	if err != nil {
		return err
	}
	if a.status == http.StatusNotFound {
		return errNotTried{"a backend with events; this one has none (404)"}
	}
	return a.expect(http.StatusUnauthorized)
}

// stream is an open stream of events: its lines as they come.
type stream struct {
	lines chan string
	end   context.CancelFunc
}

// events opens the clinician's stream, and waits where the backend says so.
func (s *session) events(ctx context.Context) (*stream, error) {
	for busy := 0; ; busy++ {
		t, wait, err := s.eventsOnce(ctx)
		if wait == 0 || busy == maxBusy {
			return t, err
		}
		if err := s.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// eventsOnce opens the stream, or says how long to wait before trying again.
func (s *session) eventsOnce(ctx context.Context) (*stream, time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, id, _, err := s.make(ctx, request{method: http.MethodGet, path: orgapi.PathEvents, token: s.Token.Reveal()})
	if err != nil {
		cancel()
		return nil, 0, err
	}
	type opened struct {
		response *http.Response
		err      error
	}
	answered := make(chan opened, 1)
	go func() {
		response, err := s.http.Do(r)
		answered <- opened{response, err}
	}()
	var got opened
	select {
	case got = <-answered:
	case <-s.After(beginTime):
		cancel()
		if late := <-answered; late.err == nil {
			_ = late.response.Body.Close()
		}
		return nil, 0, errors.New("GET /events was not answered within a second")
	}
	if got.err != nil {
		cancel()
		return nil, 0, fmt.Errorf("GET /events was not answered: %s", transportFault(got.err))
	}
	a := answer{status: got.response.StatusCode, header: got.response.Header, where: "GET " + orgapi.PathEvents}
	if a.status != http.StatusOK {
		a.body, _ = io.ReadAll(io.LimitReader(got.response.Body, orgapi.MaxAnswerBytes))
		_ = got.response.Body.Close()
		cancel()
		s.judge(request{}, r, id, nil, a)
		if a.status == http.StatusNotFound {
			return nil, 0, errNotTried{"a backend with events; this one has none (404)"}
		}
		return nil, a.busy(), a.expect(http.StatusOK)
	}
	s.judge(request{}, r, id, nil, a)
	if kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != orgapi.EventStreamContentType {
		_ = got.response.Body.Close()
		cancel()
		return nil, 0, errors.New("GET /events is not " + orgapi.EventStreamContentType)
	}
	out := &stream{lines: make(chan string, 64), end: cancel}
	go func() {
		defer close(out.lines)
		defer func() { _ = got.response.Body.Close() }()
		lines := bufio.NewScanner(got.response.Body)
		lines.Buffer(nil, orgapi.MaxEventBytes)
		for lines.Scan() {
			select {
			case out.lines <- lines.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, 0, nil
}

var errSilent = errors.New("nothing came")

// line returns the next line that is not empty.
func (t *stream) line(limit <-chan time.Time) (string, error) {
	for {
		select {
		case text, ok := <-t.lines:
			if !ok {
				return "", errors.New("the stream of events ended")
			}
			if text != "" {
				return text, nil
			}
		case <-limit:
			return "", errSilent
		}
	}
}

func eventsBegin(ctx context.Context, s *session) error {
	t, err := s.events(ctx)
	if err != nil {
		return err
	}
	defer t.end()
	if _, err := t.line(s.After(beginTime)); errors.Is(err, errSilent) {
		return errors.New("nothing came within a second")
	} else if err != nil {
		return err
	}
	return nil
}

func eventsKeepAlive(ctx context.Context, s *session) error {
	t, err := s.events(ctx)
	if err != nil {
		return err
	}
	defer t.end()
	if _, err := t.line(s.After(beginTime)); err != nil {
		return errNotTried{"a stream that begins"}
	}
	// What is kept comes first, all at once; the silence after it is meant.
	limit := s.After(silence)
	for {
		text, err := t.line(limit)
		if errors.Is(err, errSilent) {
			return errors.New("the stream was silent for more than 25 seconds")
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(text, ":") {
			return nil
		}
	}
}

func eventsExported(ctx context.Context, s *session) error {
	launch, handle, err := s.minted(ctx)
	if err != nil {
		return err
	}
	if _, err := s.created(ctx, handle, key()); err != nil {
		return errNotTried{"POST /encounters to answer"}
	}
	t, err := s.events(ctx)
	if err != nil {
		return err
	}
	defer t.end()
	a, _, err := s.note(ctx, launch.ExternalEncounterID, launch.ExternalProviderID)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return errNotTried{"a callback that is taken"}
	}
	limit := s.After(exportedTime)
	for {
		text, err := t.line(limit)
		if errors.Is(err, errSilent) {
			return fmt.Errorf("no event of the export came within %s", exportedTime)
		}
		if err != nil {
			return err
		}
		data, ok := strings.CutPrefix(text, "data:")
		if !ok {
			continue
		}
		var e orgapi.ExportedEvent
		if json.Unmarshal([]byte(data), &e) != nil || e.ExternalEncounterID != launch.ExternalEncounterID {
			continue
		}
		if fault := schemaFault(s.doc.Components.Schemas["ExportedEvent"].Value, []byte(data)); fault != "" {
			return errors.New(fault)
		}
		for _, canary := range []string{s.patientID, s.patientName, s.patientNote} {
			if strings.Contains(data, canary) {
				return errors.New("the event tells of the patient")
			}
		}
		return nil
	}
}
