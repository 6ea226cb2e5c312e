package orgserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgaudit"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

// audited is a world with an audit file.
func audited(t *testing.T) (*world, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "audit", "audit.jsonl")
	return newWorld(t, func(c *orgconfig.Config) { c.Audit.File = file }), file
}

func searched(t *testing.T, file string, q orgaudit.Query) []orgaudit.Record {
	t.Helper()
	var found []orgaudit.Record
	if err := orgaudit.Search(t.Context(), file, q, func(r orgaudit.Record) error { found = append(found, r); return nil }, nil); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTheAuditSaysWhoOpenedWhatAndWhoWasRefused(t *testing.T) {
	w, file := audited(t)
	handle := w.mint(t)
	w.opened(t, w.byHandle(t, handle, "key-1"))
	stranger := w.byHandle(t, w.mint(t), "key-2")
	stranger.bearer = w.token(t, map[string]any{"sub": "subject-2", "email": "ben@hospital.example", "external_provider_id": "D-18"})
	w.refused(t, stranger, http.StatusForbidden, problem.ProviderMismatch)
	reopen := request{path: orgapi.PathEncounterURL, bearer: w.token(t, nil), key: "key-3", body: orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: "E-1"}}
	if got := w.do(t, reopen); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	w.failNabla(http.StatusInternalServerError)
	reopen.key = "key-4"
	w.refused(t, reopen, problem.New(problem.VendorUnavailable, nil).Row().Status, problem.VendorUnavailable)

	at := w.clock.now()
	ada := orgaudit.Record{Time: at, Subject: "subject-1", Email: "ada@hospital.example", Provider: "D-17", Encounter: "E-1", RequestID: "call-7"}
	registered := orgaudit.Record{Time: at, Action: orgaudit.LaunchRegistered, Outcome: orgaudit.Done, Provider: "D-17", Encounter: "E-1", Patient: "P-1", EHR: "ehr-1", RequestID: "call-7"}
	opened, reopened := ada, ada
	opened.Action, opened.Outcome, opened.Patient, opened.EHR = orgaudit.EncounterOpened, orgaudit.Done, "P-1", "ehr-1"
	reopened.Action, reopened.Outcome = orgaudit.EncounterReopened, orgaudit.Done
	mismatch := orgaudit.Record{
		Time: at, Action: orgaudit.EncounterOpened, Outcome: orgaudit.Refused, Code: problem.ProviderMismatch, Subject: "subject-2", Email: "ben@hospital.example",
		Provider: "D-18", AskedProvider: "D-17", Encounter: "E-1", Patient: "P-1", EHR: "ehr-1", RequestID: "call-7",
	}
	broken := reopened
	broken.Outcome, broken.Code = orgaudit.Failed, problem.VendorUnavailable
	want := []orgaudit.Record{registered, opened, registered, mismatch, reopened, broken}
	got := searched(t, file, orgaudit.Query{})
	if len(got) != len(want) {
		t.Fatalf("%d records: %+v", len(got), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("record %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{canary, handle, "http://", "https://", "eyJ"} {
		if strings.Contains(string(text), never) {
			t.Errorf("the audit holds %q", never)
		}
	}
}

func TestWhoIsNotKnownIsNoMatterOfTheAudit(t *testing.T) {
	w, file := audited(t)
	for _, path := range []string{orgapi.PathEncounters, orgapi.PathEncounterURL, orgapi.PathLaunches} {
		w.refused(t, request{path: path, bearer: "invented", key: "key-1", body: map[string]string{}}, http.StatusUnauthorized, problem.Unauthorized)
	}
	if got := searched(t, file, orgaudit.Query{}); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestWhatCannotBeRecordedIsNotHandedOut(t *testing.T) {
	w, _ := audited(t)
	handle := w.mint(t)
	if err := w.server.audits.Close(); err != nil {
		t.Fatal(err)
	}
	for _, q := range []request{
		w.byHandle(t, handle, "key-1"),
		{path: orgapi.PathLaunches, bearer: ehrSecret, body: goodLaunch()},
		{path: orgapi.PathEncounterURL, bearer: w.token(t, nil), key: "key-3", body: orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: "E-1"}},
	} {
		got := w.do(t, q)
		if p := got.problem(t); p.Code != problem.OrgBusy || strings.Contains(string(got.body), "encounter_url") {
			t.Errorf("%s: %d %s", q.path, got.status, got.body)
		}
	}
}

func metricsOf(t *testing.T, w *world) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	w.server.Metrics().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if recorder.Code != http.StatusOK {
		t.Fatalf("status %d", recorder.Code)
	}
	return recorder.Body.String()
}

func TestMetricsCountCallsAndStagesWithoutAnyID(t *testing.T) {
	w := newWorld(t)
	handle := w.mint(t)
	w.opened(t, w.byHandle(t, handle, "key-1"))
	w.refused(t, w.byHandle(t, handle, "key-2"), http.StatusGone, problem.HandleSpent)
	w.refused(t, request{method: http.MethodGet, path: "/P-1/of/" + canary}, http.StatusNotFound, problem.RequestInvalid)
	text := metricsOf(t, w)
	for _, line := range []string{
		`org_backend_calls_total{class="2xx",code="",route="/encounters"} 1`,
		`org_backend_calls_total{class="4xx",code="handle_spent",route="/encounters"} 1`,
		`org_backend_calls_total{class="2xx",code="",route="/launches"} 1`,
		`org_backend_calls_total{class="4xx",code="request_invalid",route="none"} 1`,
		`org_backend_call_seconds_count{class="2xx",route="/encounters"} 1`,
		`org_backend_stage_seconds_count{outcome="ok",stage="create"} 1`,
		`org_backend_stage_seconds_count{outcome="ok",stage="token"} 2`,
		`org_backend_stage_seconds_count{outcome="failed",stage="store"} 1`,
		`org_backend_streams_open 0`, `org_backend_calls_under_way 0`, `org_backend_audit_failures_total{sink="file"} 0`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	for _, part := range []string{"org_backend_build_info{", "go_goroutines ", "process_open_fds "} {
		if !strings.Contains(text, "\n"+part) {
			t.Errorf("no %s", part)
		}
	}
	for _, never := range []string{canary, handle, "P-1", "D-17", "E-1", "subject-1", "ada@", "call-7", "/launcher"} {
		if strings.Contains(text, never) {
			t.Errorf("the metrics hold %q", never)
		}
	}
}

func TestTwoBackendsOfOneProcessCountForThemselves(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	a.mint(t)
	if strings.Contains(metricsOf(t, b), `route="/launches"`) {
		t.Error("one counts the other's calls")
	}
}

func TestTracesFollowACallThroughItsStagesWithoutAnyID(t *testing.T) {
	w := newWorld(t)
	spans := tracetest.NewSpanRecorder()
	w.server.traces = newTraces(spans, 0, "1.2.3")
	q := w.byHandle(t, w.mint(t), "key-1")
	q.header = http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "Tracestate": {"vendor=" + canary}}
	w.opened(t, q)
	names := map[string]sdktrace.ReadOnlySpan{}
	for _, s := range spans.Ended() {
		names[s.Name()] = s
		if state := s.SpanContext().TraceState().String() + s.Parent().TraceState().String(); state != "" {
			t.Errorf("%s carries a text from outside: %s", s.Name(), state)
		}
		for _, a := range s.Attributes() {
			for _, never := range []string{canary, "P-1", "D-17", "E-1", "subject-1", "ada@", "call-7", "http://", "127.0.0.1"} {
				if strings.Contains(a.Value.Emit(), never) {
					t.Errorf("%s: %s holds %q", s.Name(), a.Key, never)
				}
			}
		}
	}
	call, create := names["POST /encounters"], names["create"]
	if call == nil || create == nil || names["token"] == nil || names["store"] == nil {
		t.Fatalf("spans: %v", names)
	}
	if id := call.SpanContext().TraceID().String(); id != "0af7651916cd43dd8448eb211c80319c" || call.Parent().SpanID().String() != "b7ad6b7169203331" {
		t.Errorf("the call does not go on the caller's trace: %s", id)
	}
	if create.Parent().SpanID() != call.SpanContext().SpanID() {
		t.Error("the stage is not the call's")
	}
}

func TestTracesReachTheCollectorAtTheEndOfTheProcess(t *testing.T) {
	got := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(body)
	}))
	defer collector.Close()
	traces, err := openTraces(t.Context(), orgconfig.Traces{Endpoint: collector.URL}, "1.2.3", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, end := traces.call(httptest.NewRequest(http.MethodGet, "/me", nil))
	end("/me", 200, nil)
	if err := traces.close(); err != nil {
		t.Fatal(err)
	}
	if text := <-got; !strings.HasPrefix(text, "/v1/traces application/x-protobuf ") || !strings.Contains(text, "GET /me") {
		t.Errorf("%q", text)
	}
}

func TestTracesThatAreNotTakenAreLoggedWithoutTheAddress(t *testing.T) {
	var log lockedBuffer
	q := &quietly{SpanExporter: failing{}, log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 3 {
		if err := q.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 2)); err != nil {
			t.Error(err)
		}
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || strings.Contains(text, "otel") || !strings.Contains(text, "spans=2") {
		t.Errorf("%q", text)
	}
}

type failing struct{}

func (failing) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	return errors.New("no way to https://otel.hospital.example")
}
func (failing) Shutdown(context.Context) error { return nil }

func readyOf(t *testing.T, w *world) (int, readiness) {
	t.Helper()
	got := w.do(t, request{method: http.MethodGet, path: PathReady})
	var r readiness
	if err := json.Unmarshal(got.body, &r); err != nil {
		t.Fatalf("%d %s", got.status, got.body)
	}
	return got.status, r
}

// do holds problems against their own rules; a readiness is none.
func (w *world) raw(t *testing.T, path string) (int, []byte) {
	t.Helper()
	recorder := httptest.NewRecorder()
	w.server.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	return recorder.Code, recorder.Body.Bytes()
}

func TestABackendIsReadyWhenStoreAndIssuerAnswerAndItDoesNotEnd(t *testing.T) {
	w := newWorld(t)
	w.issuer.down = true
	check := func(what string, status int, failed string) {
		t.Helper()
		got, body := w.raw(t, PathReady)
		var r readiness
		if err := json.Unmarshal(body, &r); err != nil {
			t.Fatal(err)
		}
		var wrong []string
		for part, said := range r.Parts {
			if said != "ok" {
				wrong = append(wrong, part)
			}
		}
		if got != status || r.Ready != (status == http.StatusOK) || strings.Join(wrong, " ") != failed {
			t.Errorf("%s: %d %s", what, got, body)
		}
	}
	check("the issuer is away", http.StatusServiceUnavailable, "issuer")
	w.issuer.mu.Lock()
	w.issuer.down = false
	w.issuer.mu.Unlock()
	w.clock.advance(2 * failurePause)
	check("all is well", http.StatusOK, "")
	if status, r := readyOf(t, w); status != http.StatusOK || !r.Ready {
		t.Errorf("below the prefix: %d", status)
	}
	w.issuer.mu.Lock()
	w.issuer.down = true
	w.issuer.mu.Unlock()
	w.clock.advance(time.Hour)
	check("the issuer is away, and its keys are known", http.StatusOK, "")
	w.server.Drain()
	check("it ends", http.StatusServiceUnavailable, "process")
	if status, _ := w.raw(t, PathHealth); status != http.StatusOK {
		t.Errorf("a process that ends lives: %d", status)
	}
	w.server.conn.NATS().Close()
	w.clock.advance(readyPause)
	status, body := w.raw(t, PathReady)
	if status != http.StatusServiceUnavailable || !strings.Contains(string(body), "JetStream") {
		t.Errorf("the store is away: %d %s", status, body)
	}
}

func TestWhoeverAsksWhetherABackendIsReadyAsksItsStoreOnceASecond(t *testing.T) {
	c, state, asked := &clock{t: time.Now()}, new(storeState), 0
	check := func(context.Context) error { asked++; return errors.New("it is away") }
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 1000 {
		if state.of(gone, c.now, check) == nil {
			t.Fatal("what the store said is forgotten")
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	c.advance(readyPause)
	if err := state.of(t.Context(), c.now, func(context.Context) error { return nil }); err != nil {
		t.Errorf("a store that came back: %v", err)
	}
}

// pair writes a self-signed certificate and its key.
func pair(t *testing.T, folder, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, folder, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, folder, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func nameOf(t *testing.T, c *certificates) string {
	t.Helper()
	config, err := c.current(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Subject.CommonName
}

func TestChangedTLSFilesAreTakenUpAndBrokenOnesAreNot(t *testing.T) {
	folder := t.TempDir()
	pair(t, folder, "first")
	c, log := &clock{t: time.Now()}, &lockedBuffer{}
	cfg := orgconfig.Config{TLSCertFile: filepath.Join(folder, "cert.pem"), TLSKeyFile: filepath.Join(folder, "key.pem"), ClientCAFile: filepath.Join(folder, "cert.pem")}
	files, err := openCertificates(cfg, slog.New(slog.NewTextHandler(log, nil)), c.now)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := files.current(nil)
	if before.ClientAuth != tls.VerifyClientCertIfGiven || before.ClientCAs == nil {
		t.Error("client certificates are not asked for")
	}
	c.advance(time.Minute)
	if again, _ := files.current(nil); again != before {
		t.Error("the same files make another configuration: sessions could not be resumed")
	}
	pair(t, folder, "the second")
	if got := nameOf(t, files); got != "first" {
		t.Errorf("looked before its time: %s", got)
	}
	c.advance(lookPause)
	if got := nameOf(t, files); got != "the second" {
		t.Errorf("not taken up: %s", got)
	}
	write(t, folder, "cert.pem", "half a certif")
	for range 3 {
		c.advance(lookPause)
		if got := nameOf(t, files); got != "the second" {
			t.Errorf("a broken file is served: %s", got)
		}
	}
	if n := strings.Count(log.String(), "cannot be used"); n != 1 || strings.Contains(log.String(), folder) {
		t.Errorf("told %d times: %s", n, log.String())
	}
	if err := os.Remove(cfg.TLSKeyFile); err != nil {
		t.Fatal(err)
	}
	c.advance(lookPause)
	if got := nameOf(t, files); got != "the second" {
		t.Errorf("a missing file ends the service: %s", got)
	}
	pair(t, folder, "number three")
	c.advance(lookPause)
	if got := nameOf(t, files); got != "number three" {
		t.Errorf("after a broken one nothing is taken up: %s", got)
	}
	// A key that is copied and then closed to others is taken up all the same.
	pair(t, folder, "the fourth")
	if err := os.Chmod(cfg.TLSKeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	c.advance(lookPause)
	if got := nameOf(t, files); got != "number three" {
		t.Errorf("a key that all can read is served: %s", got)
	}
	if err := os.Chmod(cfg.TLSKeyFile, 0o600); err != nil {
		t.Fatal(err)
	}
	c.advance(lookPause)
	if got := nameOf(t, files); got != "the fourth" {
		t.Errorf("what can be used now is not taken up: %s", got)
	}
	if err := os.Chmod(cfg.TLSKeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openCertificates(cfg, nil, c.now); err == nil || !strings.Contains(err.Error(), "tls_key_file: ") {
		t.Errorf("a key that all can read: %v", err)
	}
}

// served runs Serve for a handler until the test's end, and returns its address and
// what ends it.
func served(t *testing.T, cfg orgconfig.Config, handler http.Handler, log *slog.Logger) (address string, end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	address, ended := "", make(chan error, 1)
	ready := make(chan string, 1)
	go func() { ended <- Serve(ctx, cfg, handler, log, func(a net.Addr) { ready <- a.String() }) }()
	select {
	case address = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	return address, func() error { cancel(); return <-ended }
}

func TestServeSpeaksHTTP2OverTLSAndMetricsElsewhere(t *testing.T) {
	folder := t.TempDir()
	pair(t, folder, "backend.hospital.example")
	log := &lockedBuffer{}
	w := newWorld(t)
	cfg := orgconfig.Config{
		Listen: "127.0.0.1:0", TLSCertFile: filepath.Join(folder, "cert.pem"), TLSKeyFile: filepath.Join(folder, "key.pem"),
		Metrics: orgconfig.Metrics{Listen: "127.0.0.1:0"},
	}
	address, end := served(t, cfg, w.server, slog.New(slog.NewJSONHandler(log, nil)))
	pool := x509.NewCertPool()
	text, _ := os.ReadFile(cfg.TLSCertFile)
	pool.AppendCertsFromPEM(text)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "backend.hospital.example"}}
	get := func(url string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		return response, string(body)
	}
	if r, _ := get("https://" + address + PathHealth); r.ProtoMajor != 2 || r.StatusCode != http.StatusOK {
		t.Errorf("%s %d", r.Proto, r.StatusCode)
	}
	if r, _ := get("https://" + address + "/metrics"); r.StatusCode != http.StatusNotFound {
		t.Errorf("metrics for everybody: %d", r.StatusCode)
	}
	var line struct{ Msg, Address string }
	if err := json.NewDecoder(strings.NewReader(log.String())).Decode(&line); err != nil || line.Msg != "metrics" {
		t.Fatalf("%+v, %v", line, err)
	}
	if _, body := get("http://" + line.Address + "/metrics"); !strings.Contains(body, `org_backend_calls_total{class="2xx",code="",route="/healthz"} 1`) {
		t.Errorf("%s", body)
	}
	if r, _ := get("http://" + line.Address + PathHealth); r.StatusCode != http.StatusNotFound {
		t.Errorf("the metrics' address serves calls: %d", r.StatusCode)
	}
	transport.CloseIdleConnections()
	if err := end(); err != nil {
		t.Error(err)
	}
}

// watched tells when it was made unready.
type watched struct {
	http.Handler
	drained chan struct{}
}

func (w watched) Drain()                { close(w.drained) }
func (w watched) Metrics() http.Handler { return nil }

func TestABackendThatEndsSaysSoFirstAndStillTakesCallsForAWhile(t *testing.T) {
	handler := watched{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-ending(r.Context()):
			w.WriteHeader(http.StatusGone)
		default:
		}
	}), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, ended := make(chan string, 1), make(chan error, 1)
	cfg := orgconfig.Config{Listen: "127.0.0.1:0", DrainDelay: 2 * time.Second}
	over, asked := make(chan time.Time), make(chan time.Duration, 1)
	p := ordinary()
	p.after = func(d time.Duration) <-chan time.Time { asked <- d; return over }
	go func() {
		ended <- serve(ctx, cfg, handler, slog.New(slog.DiscardHandler), func(a net.Addr) { ready <- a.String() }, p)
	}()
	address := <-ready
	cancel()
	<-handler.drained
	if d := <-asked; d != cfg.DrainDelay {
		t.Errorf("it waits for %v", d)
	}
	// A load balancer that has not asked yet still sends people here, and their
	// streams of events still run.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("status %d", response.StatusCode)
	}
	close(over)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestProbeNamesTheServiceThatDoesNotAnswer(t *testing.T) {
	w := newWorld(t)
	probed := Probe(t.Context(), w.config, Deps{Now: w.clock.now})
	if len(probed) != 2 || probed[0] != (Probed{"issuer", nil}) || probed[1] != (Probed{"nabla.client_id", nil}) {
		t.Errorf("%+v", probed)
	}
	w.issuer.mu.Lock()
	w.issuer.down = true
	w.issuer.mu.Unlock()
	w.config.NATS = orgconfig.NATS{Servers: []string{"nats://127.0.0.1:9"}, SealKeyFiles: []string{write(t, w.folder, "seal", strings.Repeat("A", 43)+"=\n")}}
	if err := Check(w.config); err != nil {
		t.Fatal(err)
	}
	probed = Probe(t.Context(), w.config, Deps{Now: w.clock.now})
	if len(probed) < 3 || probed[0].Err == nil || probed[len(probed)-1].Key != "nats.servers" || probed[len(probed)-1].Err == nil {
		t.Fatalf("%+v", probed)
	}
	if text := probed[0].Err.Error(); strings.Contains(text, "127.0.0.1") || !strings.Contains(text, "; ") {
		t.Errorf("%s", text)
	}
}

// breaks comes to need a new start.
type breaks struct {
	watched
	broken chan struct{}
}

func (b breaks) Broken() <-chan struct{} { return b.broken }

func TestABackendThatNeedsANewStartEndsAsItWouldOtherwiseAndSaysSo(t *testing.T) {
	handler := breaks{watched{http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), make(chan struct{})}, make(chan struct{})}
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- serve(t.Context(), orgconfig.Config{Listen: "127.0.0.1:0"}, handler, slog.New(slog.DiscardHandler), func(a net.Addr) { ready <- a.String() }, ordinary())
	}()
	<-ready
	close(handler.broken)
	<-handler.drained
	if err := <-ended; !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
}
