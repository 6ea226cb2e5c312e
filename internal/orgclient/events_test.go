package orgclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const exported = `{"external_encounter_id":"canary-enc","external_provider_id":"canary-prov","at":"2026-11-03T09:14:00Z"}`

func stream(text string) http.HandlerFunc {
	return answer(http.StatusOK, orgapi.EventStreamContentType, text)
}

// listened is what one reading gave.
type listened struct {
	cursor Cursor
	opened int
	events []orgapi.ExportedEvent
	err    error
}

func (l *listened) on(t *testing.T, ctx context.Context, c *Client) *listened {
	t.Helper()
	l.events = nil
	l.err = c.Events(ctx, secret.New(token), &l.cursor, func() { l.opened++ }, func(e orgapi.ExportedEvent) error {
		l.events = append(l.events, e)
		return nil
	})
	return l
}

func listen(t *testing.T, script ...http.HandlerFunc) (*listened, *backend) {
	t.Helper()
	b := newBackend(t, script...)
	c, _ := newClient(t, b)
	return new(listened).on(t, t.Context(), c), b
}

func TestExportsAreReadUntilTheStreamEnds(t *testing.T) {
	l, b := listen(t, stream(":\n\nevent: encounter.exported\nid: 7\ndata: "+exported+"\n\n:\n\nevent:encounter.exported\nid:8\ndata:"+exported+"\n\n"))
	if l.err != nil || l.opened != 1 || len(l.events) != 2 || l.cursor != (Cursor{LastID: "8"}) {
		t.Fatalf("got %+v", l)
	}
	if e := l.events[0]; e.ExternalEncounterID != "canary-enc" || e.ExternalProviderID != "canary-prov" || e.At != "2026-11-03T09:14:00Z" {
		t.Errorf("got %+v", e)
	}
	call := b.calls()[0]
	for name, want := range map[string]string{
		"Accept": "text/event-stream", "Authorization": "Bearer " + token, "Accept-Encoding": "identity",
		"Cache-Control": "no-store", "User-Agent": "encounter-launcher/9", "Last-Event-Id": "",
	} {
		if got := call.header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if call.method != http.MethodGet || call.path != "/api/events" || call.header.Get(orgapi.HeaderRequestID) == "" {
		t.Errorf("asked %+v", call)
	}
}

func TestTheNextReadingGoesOnAfterTheLastEvent(t *testing.T) {
	b := newBackend(t, stream("id: a-1\ndata: x\n\nid: never dispatched\ndata: x\n"))
	c, _ := newClient(t, b)
	l := new(listened).on(t, t.Context(), c)
	if l.cursor.LastID != "a-1" {
		t.Errorf("got %+v", l.cursor)
	}
	if l.on(t, t.Context(), c); b.calls()[1].header.Get("Last-Event-Id") != "a-1" {
		t.Errorf("asked %v", b.calls()[1].header)
	}
}

func TestAnIDThatNoHeaderCouldCarryIsNotSent(t *testing.T) {
	for _, id := range []string{"two words", "a\x00b", "é", strings.Repeat("x", 129)} {
		if l, _ := listen(t, stream("id: 1\n\nid: "+id+"\n\n")); l.cursor.LastID != "" || l.err != nil {
			t.Errorf("%q: %+v", id, l)
		}
	}
}

func TestWhatCannotBeReadAsAnExportIsCountedAndPassedOver(t *testing.T) {
	for _, data := range []string{
		`{}`, `null`, `[]`, `{"external_encounter_id":"","external_provider_id":"p","at":"2026-11-03T09:14:00Z"}`,
		strings.Replace(exported, "canary-enc", strings.Repeat("x", 257), 1), strings.Replace(exported, "canary-enc", `a\nb`, 1),
		strings.Replace(exported, "2026-11-03T09:14:00Z", "2026-11-03 09:14", 1), exported + exported, exported[:20],
		strings.Replace(exported, `"canary-prov"`, "7", 1), "\xff", strings.Repeat("[", 30_000),
		strings.Replace(exported, "{", `{"external_encounter_id":"other",`, 1),
	} {
		l, _ := listen(t, stream("event: encounter.exported\ndata: "+data+"\n\nevent: encounter.exported\ndata: "+exported+"\n\n"))
		if l.err != nil || len(l.events) != 1 || l.cursor.Ignored != 1 {
			t.Errorf("%.60s: %d events, %d ignored, %v", data, len(l.events), l.cursor.Ignored, l.err)
		}
	}
	// Other types and members of a newer backend are no fault.
	l, _ := listen(t, stream("event: encounter.signed\ndata: x\n\ndata: "+exported+"\n\nevent: encounter.exported\ndata: "+strings.Replace(exported, "{", `{"new":{"a":1},`, 1)+"\n\n"))
	if l.err != nil || len(l.events) != 1 || l.cursor.Ignored != 0 {
		t.Errorf("newer: %+v", l)
	}
}

func TestABackendWithoutEventsIsToldApart(t *testing.T) {
	for _, h := range []http.HandlerFunc{answer(http.StatusNotFound, "text/html", "canary"), refusal(http.StatusNotFound, "request_invalid", "AB12CD34")} {
		l, _ := listen(t, h)
		if !errors.Is(l.err, ErrNoEvents) || l.opened != 0 {
			t.Errorf("got %+v", l)
		}
		wantCode(t, l.err, problem.OrgAnswerInvalid)
	}
}

func TestAStreamThatIsRefusedSaysWhyAndForHowLong(t *testing.T) {
	for _, c := range []struct {
		h     http.HandlerFunc
		code  problem.Code
		pause time.Duration
	}{
		{refusal(http.StatusUnauthorized, "unauthorized", "AB12CD34"), problem.Unauthorized, 0},
		{refusal(http.StatusForbidden, "identity_unmapped", "AB12CD34"), problem.IdentityUnmapped, 0},
		{with("Retry-After", "60", refusal(http.StatusTooManyRequests, "org_busy", "AB12CD34")), problem.OrgBusy, time.Minute},
		{with("Retry-After", "0", answer(http.StatusServiceUnavailable, "text/plain", "canary")), problem.OrgBusy, leastPause},
		{with("Retry-After", "86400", answer(http.StatusServiceUnavailable, "text/plain", "canary")), problem.OrgBusy, mostPause},
		{with("Retry-After", "soon", answer(http.StatusServiceUnavailable, "text/plain", "canary")), problem.OrgBusy, 0},
		{redirect("https://elsewhere.example/"), problem.OrgAnswerInvalid, 0},
		{answer(http.StatusOK, "application/json", "{}"), problem.OrgAnswerInvalid, 0},
		{with("Content-Encoding", "gzip", stream("x")), problem.OrgAnswerInvalid, 0},
		{answer(http.StatusNoContent, "", ""), problem.OrgAnswerInvalid, 0},
		{answer(http.StatusBadGateway, "text/plain", "canary"), problem.OrgUnreachable, 0},
		{reset, problem.OrgUnreachable, 0},
	} {
		l, b := listen(t, c.h)
		wantCode(t, l.err, c.code)
		if l.cursor.Pause != c.pause || l.opened != 0 || len(b.calls()) != 1 {
			t.Errorf("%s: %+v after %d calls", c.code, l, len(b.calls()))
		}
	}
	l, _ := listen(t, stream("retry: 5000\n\nretry: soon\n\n"))
	if l.cursor.Pause != 5*time.Second {
		t.Errorf("retry: %+v", l.cursor)
	}
}

func TestAStreamThatIsSilentOrNeverBeginsHasDied(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", orgapi.EventStreamContentType)
		_, _ = io.WriteString(w, ":\n\n")
		_ = http.NewResponseController(w).Flush()
		hang(w, r)
	}
	for name, h := range map[string]http.HandlerFunc{"silent": silent, "never begins": hang} {
		b := newBackend(t, h)
		c, _ := newClient(t, b)
		c.attempt, c.silence = 50*time.Millisecond, 50*time.Millisecond
		if name == "silent" {
			c.attempt = time.Minute
		}
		l := new(listened).on(t, t.Context(), c)
		wantCode(t, l.err, problem.OrgUnreachable)
		if (l.opened == 1) != (name == "silent") {
			t.Errorf("%s: opened %d times", name, l.opened)
		}
	}
}

func TestASignOfLifeKeepsAStreamOpen(t *testing.T) {
	signs := 0
	in := alive{iotest.OneByteReader(strings.NewReader(":\n\n")), func() { signs++ }}
	if _, err := newEventReader(in, new(Cursor)).next(); !errors.Is(err, io.EOF) || signs != 3 {
		t.Errorf("%d signs, %v", signs, err)
	}
}

func TestCancellingEndsAStream(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", orgapi.EventStreamContentType)
		_ = http.NewResponseController(w).Flush()
		cancel()
		hang(w, r)
	})
	c, _ := newClient(t, b)
	wantCode(t, new(listened).on(t, ctx, c).err, problem.Cancelled)
}

func TestWhoTakesEventsMayEndTheStream(t *testing.T) {
	b := newBackend(t, stream("event: encounter.exported\ndata: "+exported+"\n\nevent: encounter.exported\ndata: "+exported+"\n\n"))
	c, _ := newClient(t, b)
	enough, n := errors.New("enough"), 0
	err := c.Events(t.Context(), secret.New(token), new(Cursor), func() {}, func(orgapi.ExportedEvent) error { n++; return enough })
	if !errors.Is(err, enough) || n != 1 {
		t.Errorf("%d events, %v", n, err)
	}
	wantCode(t, c.Events(t.Context(), secret.Text{}, new(Cursor), nil, nil), problem.Unauthorized)
}

// dispatched reads a whole text and returns its events as "kind|data".
func dispatched(text string, in func(io.Reader) io.Reader) (events []string, cursor Cursor, err error) {
	r := newEventReader(in(strings.NewReader(text)), &cursor)
	for {
		e, err := r.next()
		if err != nil {
			return events, cursor, err
		}
		events = append(events, e.kind+"|"+string(e.data))
	}
}

func TestAStreamIsReadAsTheStandardSays(t *testing.T) {
	for text, want := range map[string][]string{
		"data: a\n\n": {"|a"}, "data: a\r\n\r\n": {"|a"}, "data: a\r\r": {"|a"}, "data: a\r\n\ndata: b\n\r": {"|a", "|b"},
		"\xef\xbb\xbfdata: a\n\n": {"|a"}, "\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n": nil, "data: a\n\n\xef\xbb\xbfdata: b\n\n": {"|a"},
		"data: a\ndata: b\ndata\n\n": {"|a\nb\n"}, "data\n\n": {"|"}, "data\ndata\n\n": {"|\n"}, "data:  a\n\n": {"| a"},
		"event: k\n\ndata: a\n\n": {"|a"}, "event: k\nevent: l\ndata: a\n\n": {"l|a"}, ": c\ndata: a\n:c\n\n": {"|a"},
		"data: a": nil, "data: a\n": nil, "Data: a\n\n": nil, " data: a\n\n": nil, "data : a\n\n": nil, "unknown: a\n\n": nil,
		"data: a:b\n\n": {"|a:b"}, "\n\n\n": nil, "": nil,
	} {
		for name, in := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
			if got, _, err := dispatched(text, in); !slices.Equal(got, want) || !errors.Is(err, io.EOF) {
				t.Errorf("%s, %q: got %q, %v, want %q", name, text, got, err, want)
			}
		}
	}
}

func TestALineOrAnEventThatIsTooLargeEndsTheStream(t *testing.T) {
	half := strings.Repeat("x", orgapi.MaxEventBytes/2)
	for name, text := range map[string]string{
		"a line": "data: " + half + half + "\n\n", "a comment": ":" + half + half + "\n", "an event": "data: " + half + "\ndata: " + half + "\n\n",
		"many empty lines of data": strings.Repeat("data\n", orgapi.MaxEventBytes+2) + "\n",
	} {
		l, _ := listen(t, stream(text))
		if l.err == nil {
			t.Errorf("%s is accepted", name)
			continue
		}
		wantCode(t, l.err, problem.OrgAnswerInvalid)
	}
	if l, _ := listen(t, stream("data: "+half+"\n\ndata: "+half+"\n\ndata: "+half+"\n\n")); l.err != nil {
		t.Errorf("several that are not too large: %v", l.err)
	}
}

func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		"event: encounter.exported\nid: 7\ndata: " + exported + "\n\n", ":\r\n\r\ndata: a\rdata: b\n\r\n", "\xef\xbb\xbfretry: 99999999999\n\nid\n\n",
		"data\n\n", "data:\x00\n\n", "data: " + strings.Repeat("x", orgapi.MaxEventBytes+9) + "\n\n", "event: " + strings.Repeat("x", orgapi.MaxEventBytes) + "\ndata: x\n\n", "id: \x00\ndata: " + exported + "\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		read := func(in io.Reader) (events []string, cursor Cursor, err error) {
			r := newEventReader(in, &cursor)
			for {
				var e event
				if e, err = r.next(); err != nil {
					return events, cursor, err
				}
				if len(e.data) > orgapi.MaxEventBytes || len(e.kind) > orgapi.MaxEventBytes {
					t.Fatal("out of bounds")
				}
				events = append(events, e.kind+"|"+string(e.data))
				if exported, err := readExported(e.data); err == nil {
					if !identifier(exported.ExternalEncounterID) || !identifier(exported.ExternalProviderID) {
						t.Fatalf("out of bounds: %+v", exported)
					}
				}
			}
		}
		events, cursor, err := read(bytes.NewReader(input))
		if len(cursor.LastID) > orgapi.MaxEventIDBytes || !plain(cursor.LastID) || cursor.Pause < 0 || cursor.Pause > mostPause {
			t.Fatalf("cursor %+v", cursor)
		}
		// How the network cuts it makes no difference, nor what ends a line.
		if again, c, e := read(iotest.OneByteReader(bytes.NewReader(input))); !slices.Equal(again, events) || c != cursor || !errors.Is(e, err) {
			t.Fatalf("in pieces: %q, %+v, %v", again, c, e)
		}
		if !bytes.Contains(input, []byte("\r")) {
			crlf := bytes.ReplaceAll(input, []byte("\n"), []byte("\r\n"))
			if again, c, _ := read(bytes.NewReader(crlf)); !slices.Equal(again, events) || c != cursor {
				t.Fatalf("with CR LF: %q, %+v", again, c)
			}
		}
	})
}
