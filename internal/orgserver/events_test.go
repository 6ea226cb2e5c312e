package orgserver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

// listener is an open stream of events, line by line.
type listener struct {
	t      *testing.T
	header http.Header
	lines  chan string
	cancel context.CancelFunc
}

// listen opens a stream that must be accepted.
func (w *world) listen(t *testing.T, url, token, lastEventID string) *listener {
	t.Helper()
	return w.listenBy(t, http.DefaultClient, url, token, lastEventID)
}

func (w *world) listenBy(t *testing.T, client *http.Client, url, token, lastEventID string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+orgapi.PathEvents, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set(orgapi.HeaderRequestID, "call-7")
	if lastEventID != "" {
		r.Header.Set(orgapi.HeaderLastEventID, lastEventID)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	heldAgainstContract(t, r, nil, reply{status: response.StatusCode, header: response.Header})
	if response.StatusCode != http.StatusOK || response.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d, %v", response.StatusCode, response.Header)
	}
	l := &listener{t: t, header: response.Header, lines: make(chan string, 64), cancel: cancel}
	go func() {
		defer close(l.lines)
		defer func() { _ = response.Body.Close() }()
		for in := bufio.NewScanner(response.Body); in.Scan(); {
			l.lines <- in.Text()
		}
	}()
	l.is(":", "") // the first sign of life comes at once
	return l
}

// is reads lines that must be next.
func (l *listener) is(want ...string) {
	l.t.Helper()
	for _, w := range want {
		got, ok := <-l.lines
		if !ok || got != w {
			l.t.Fatalf("got %q (open: %v), want %q", got, ok, w)
		}
	}
}

// told reads one event and returns its id and encounter.
func (l *listener) told() (id, encounter string) {
	l.t.Helper()
	l.is("event: encounter.exported")
	id, ok := strings.CutPrefix(<-l.lines, "id: ")
	data, ok2 := strings.CutPrefix(<-l.lines, "data: ")
	var e orgapi.ExportedEvent
	if err := json.Unmarshal([]byte(data), &e); !ok || !ok2 || err != nil {
		l.t.Fatalf("not an event: %q", data)
	}
	eventHeldAgainstContract(l.t, []byte(data))
	l.is("")
	return id, e.ExternalEncounterID
}

func (l *listener) tells(encounters ...string) (lastID string) {
	l.t.Helper()
	for _, want := range encounters {
		id, got := l.told()
		if got != want {
			l.t.Fatalf("told of %s, want %s", got, want)
		}
		lastID = id
	}
	return lastID
}

// ended makes sure that the stream ends without another event.
func (l *listener) ended() {
	l.t.Helper()
	for line := range l.lines {
		if line != ":" && line != "" {
			l.t.Fatalf("got %q", line)
		}
	}
}

func (w *world) exported(t *testing.T, provider string, encounters ...string) {
	t.Helper()
	for _, id := range encounters {
		if err := w.server.Exported(t.Context(), orgapi.ExportedEvent{ExternalEncounterID: id, ExternalProviderID: provider, At: "2026-11-03T09:14:00Z"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnExportIsToldToItsProviderOnly(t *testing.T) {
	w := newWorld(t)
	mine := w.listen(t, w.url, w.token(t, nil), "")
	other := w.listen(t, w.url, w.token(t, map[string]any{"sub": "subject-2", "external_provider_id": "D-18"}), "")
	w.exported(t, "D-17", "E-1")
	w.exported(t, "D-18", "E-2")
	w.exported(t, "D-17", "E-3")
	mine.tells("E-1", "E-3")
	other.tells("E-2")
	if log := w.log.String(); strings.Contains(log, "E-1") || strings.Contains(log, "D-17") {
		t.Error("the log names an encounter or a clinician")
	}
}

func TestWhoComesBackIsToldWhatHappenedMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.exported(t, "D-17", "E-1")
	first := w.listen(t, w.url, w.token(t, nil), "")
	last := first.tells("E-1")
	first.cancel()
	w.exported(t, "D-17", "E-2", "E-3")
	w.exported(t, "D-18", "E-9")
	w.listen(t, w.url, w.token(t, nil), last).tells("E-2", "E-3")
	// An id of another life of the backend, or one that is no id: all of it.
	for _, unknown := range []string{"", "1-1", "x", w.server.events.epoch + "-x", "-", "99999999999999999999"} {
		w.listen(t, w.url, w.token(t, nil), unknown).tells("E-1", "E-2", "E-3")
	}
}

func TestEveryBackendOfOneStoreTellsOfEveryExport(t *testing.T) {
	w := newWorld(t)
	second, err := openEvents(t.Context(), w.server.conn, w.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	twin := *w.server
	twin.events = second
	l := w.listen(t, w.url, w.token(t, nil), "")
	if err := twin.Exported(t.Context(), orgapi.ExportedEvent{ExternalEncounterID: "E-1", ExternalProviderID: "D-17", At: "2026-11-03T09:14:00.5+01:00"}); err != nil {
		t.Fatal(err)
	}
	if next, _ := second.after(l.tells("E-1")); next != 2 {
		t.Error("the other backend does not know the id")
	}
}

func TestOnlyACliniciansAccessTokenOpensAStream(t *testing.T) {
	w := newWorld(t)
	get := func(token string) request {
		return request{method: http.MethodGet, path: orgapi.PathEvents, bearer: token}
	}
	w.refused(t, get(""), http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, get(ehrSecret), http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, get(w.token(t, map[string]any{"exp": w.clock.now().Unix()})), http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, get(w.token(t, map[string]any{"external_provider_id": nil})), http.StatusForbidden, problem.IdentityUnmapped)
	w.refused(t, request{path: orgapi.PathEvents, bearer: w.token(t, nil), body: "{}"}, http.StatusMethodNotAllowed, problem.RequestInvalid)
}

func TestASilentStreamShowsThatItLivesAndEndsWithTheAccessToken(t *testing.T) {
	w := newWorld(t)
	l := w.listen(t, w.url, w.token(t, nil), "")
	other := w.listen(t, w.url, w.token(t, map[string]any{"sub": "subject-2", "external_provider_id": "D-18", "exp": w.clock.now().Add(time.Hour).Unix()}), "")
	for range 3 {
		for range keepAlive {
			w.server.events.beat()
		}
		l.is(":", "")
		other.is(":", "")
	}
	if keepAlive*beat >= orgapi.KeepAliveSeconds*time.Second {
		t.Errorf("a sign of life every %v", keepAlive*beat)
	}
	w.clock.advance(5*time.Minute - time.Nanosecond)
	w.server.events.beat()
	w.exported(t, "D-17", "E-1")
	l.tells("E-1")
	w.clock.advance(time.Nanosecond)
	w.server.events.beat()
	l.ended()
	w.exported(t, "D-18", "E-2")
	for line := range other.lines { // signs of life may have come meanwhile
		if strings.Contains(line, "E-2") {
			return
		}
	}
	t.Error("a stream ended with another's token")
}

func TestAStreamLearnsWithTheNextBeatOfWhatThisProcessDidNotHear(t *testing.T) {
	w := newWorld(t)
	l := w.listen(t, w.url, w.token(t, nil), "")
	if err := w.server.events.hears.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	w.exported(t, "D-17", "E-1")
	w.server.events.beat()
	l.tells("E-1")
	w.exported(t, "D-17", "E-2")
	w.server.events.beat()
	l.tells("E-2")
}

func TestManyStreamsAreToldAndEndTogether(t *testing.T) {
	w := newWorld(t)
	var all []*listener
	for n := range 40 {
		who := map[string]any{"sub": fmt.Sprint("subject-", n/streamsOfOne), "external_provider_id": fmt.Sprint("D-", n/streamsOfOne)}
		all = append(all, w.listen(t, w.url, w.token(t, who), ""))
	}
	var work sync.WaitGroup
	for n := range 5 {
		work.Go(func() { w.exported(t, fmt.Sprint("D-", n), "E-1", "E-2", "E-3") })
		work.Go(w.server.events.beat)
	}
	work.Wait()
	for _, l := range all {
		l.tells("E-1", "E-2", "E-3")
	}
	w.server.events.end()
	for _, l := range all {
		l.ended()
	}
	w.server.events.mu.Lock()
	defer w.server.events.mu.Unlock()
	if n := w.server.events.all; n != 0 || len(w.server.events.open) != 0 {
		t.Errorf("%d streams are still counted", n)
	}
}

func TestOnePersonAndAllTogetherHaveSoManyStreams(t *testing.T) {
	w := newWorld(t)
	var open []*listener
	for range streamsOfOne {
		open = append(open, w.listen(t, w.url, w.token(t, nil), ""))
	}
	q := request{method: http.MethodGet, path: orgapi.PathEvents, bearer: w.token(t, nil)}
	if got := w.do(t, q); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != fmt.Sprint(streamPause) || got.problem(t).Code != problem.OrgBusy {
		t.Fatalf("got %d, %v", got.status, got.header)
	}
	w.listen(t, w.url, w.token(t, map[string]any{"sub": "subject-2", "external_provider_id": "D-18"}), "")
	open[0].cancel()
	for { // until the server has seen it go
		w.server.events.mu.Lock()
		n := w.server.events.all
		w.server.events.mu.Unlock()
		if n == streamsOfOne {
			break
		}
		time.Sleep(time.Millisecond)
	}
	w.listen(t, w.url, w.token(t, nil), "")
	w.server.events.mu.Lock()
	w.server.events.all = streamsOfAll
	w.server.events.mu.Unlock()
	q.bearer = w.token(t, map[string]any{"sub": "subject-3", "external_provider_id": "D-19"})
	w.refused(t, q, http.StatusTooManyRequests, problem.OrgBusy)
}

func TestAnExportOutOfBoundsIsRefused(t *testing.T) {
	w := newWorld(t)
	good := orgapi.ExportedEvent{ExternalEncounterID: "E-1", ExternalProviderID: "D-17", At: "2026-11-03T09:14:00Z"}
	for name, spoil := range map[string]func(*orgapi.ExportedEvent){
		"no encounter": func(e *orgapi.ExportedEvent) { e.ExternalEncounterID = "" },
		"long":         func(e *orgapi.ExportedEvent) { e.ExternalEncounterID = strings.Repeat("é", 257) },
		"two lines":    func(e *orgapi.ExportedEvent) { e.ExternalProviderID = "a\nb" },
		"no time":      func(e *orgapi.ExportedEvent) { e.At = "yesterday" },
	} {
		e := good
		spoil(&e)
		if err := w.server.Exported(t.Context(), e); problem.CodeOf(err) != problem.RequestInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	good.ExternalEncounterID, good.ExternalProviderID = strings.Repeat("𝒳", 256), strings.Repeat("<", 256)
	if err := w.server.Exported(t.Context(), good); err != nil {
		t.Errorf("the largest: %v", err)
	}
}

func TestAStreamDoesNotHoldUpTheEndOfTheServer(t *testing.T) {
	w := newWorld(t)
	cfg := w.config
	ctx, end := context.WithCancel(t.Context())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- Serve(ctx, cfg, w.server, w.server.log, func(a net.Addr) { ready <- a.String() })
	}()
	l := w.listen(t, "http://"+<-ready+"/launcher", w.token(t, nil), "")
	w.exported(t, "D-17", "E-1")
	l.tells("E-1")
	end()
	l.ended()
	// Serve waits for calls under way, and a stream is none that it has to wait for.
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := w.server.Exported(t.Context(), orgapi.ExportedEvent{ExternalEncounterID: "E-2", ExternalProviderID: "D-17", At: "2026-11-03T09:14:00Z"}); err != nil {
		t.Error(err)
	}
}

func TestAStreamOutlivesTheLimitsOfACall(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", version), func(t *testing.T) {
			w := newWorld(t)
			proto := make(chan int, 1)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				proto <- r.ProtoMajor
				w.server.ServeHTTP(rw, r)
			}))
			server.Config.ReadTimeout, server.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
			server.EnableHTTP2 = version == 2
			server.StartTLS()
			t.Cleanup(server.Close)
			l := w.listenBy(t, server.Client(), server.URL+"/launcher", w.token(t, nil), "")
			if got := <-proto; got != version {
				t.Fatalf("spoke HTTP/%d", got)
			}
			for n := range 3 {
				// A connection that says nothing is closed by the same limit, later.
				mute, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, mute)
				id := fmt.Sprint("E-", n)
				w.exported(t, "D-17", id)
				l.tells(id)
			}
			l.cancel()
		})
	}
}

func TestClosingTheBackendEndsItsStreams(t *testing.T) {
	w := newWorld(t)
	l := w.listen(t, w.url, w.token(t, nil), "")
	w.server.events.end()
	l.ended()
}
