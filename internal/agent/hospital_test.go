//go:build unix

package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/nablasim"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/view"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// TestMain also plays xdg-open, as which this test binary is linked on PATH: it
// tells the test what it was handed, and writes nothing anywhere.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "xdg-open" {
		os.Exit(tellBrowser(os.Args[1:]))
	}
	// Tests read English, whatever the developer's computer speaks.
	os.Setenv("LC_ALL", "C")
	os.Exit(m.Run())
}

type handed struct{ Args []string }

func tellBrowser(args []string) int {
	body, err := json.Marshal(handed{args})
	if err != nil {
		return 90
	}
	answer, err := http.Post(os.Getenv("FAKE_BROWSER"), "application/json", bytes.NewReader(body))
	if err != nil || answer.StatusCode != http.StatusOK {
		return 91
	}
	return 0
}

// turned is the clock of this computer, turned on by a test.
type turned struct {
	mu sync.Mutex
	by time.Duration
}

func (c *turned) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.by)
}

func (c *turned) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by += d
}

// browser is the person's browser: it follows sign-in pages, unless held, and
// opens encounters.
type browser struct {
	t      *testing.T
	server *httptest.Server

	mu         sync.Mutex
	issuer     string   // guarded by mu
	sim        string   // guarded by mu
	held       bool     // guarded by mu: sign-in pages stay open and unanswered
	pages      []string // guarded by mu: sign-in pages
	encounters []string // guarded by mu: one-time URLs
	statuses   []int    // guarded by mu: what those pages answered
	odd        []string // guarded by mu
	helpDesk   string   // guarded by mu: the help desk's page
	helped     int      // guarded by mu: how often it was opened
}

func newBrowser(t *testing.T) *browser {
	b := &browser{t: t}
	b.server = httptest.NewServer(b)
	t.Cleanup(b.server.Close)
	dir := t.TempDir()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "xdg-open"))
	}
	if daemon, notThere := exec.LookPath("dbus-daemon"); err == nil && notThere == nil {
		err = os.Symlink(daemon, filepath.Join(dir, "dbus-daemon")) // for the tests that start a bus
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("FAKE_BROWSER", b.server.URL)
	// Else a program built with the race detector lingers a second at its end.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	return b
}

func (b *browser) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var got handed
	_ = json.NewDecoder(r.Body).Decode(&got)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(got.Args) == 1 && strings.HasPrefix(got.Args[0], b.issuer+"/authorize?"):
		b.pages = append(b.pages, got.Args[0])
		if !b.held {
			go b.follow(got.Args[0])
		}
	case len(got.Args) == 1 && strings.HasPrefix(got.Args[0], b.issuer+"/leave?"):
		b.follow(got.Args[0])
	case len(got.Args) == 1 && strings.HasPrefix(got.Args[0], b.sim+"/open/"):
		status := b.follow(got.Args[0])
		b.encounters, b.statuses = append(b.encounters, got.Args[0]), append(b.statuses, status)
	case len(got.Args) == 1 && b.helpDesk != "" && got.Args[0] == b.helpDesk:
		b.helped++
	default:
		b.odd = append(b.odd, strings.Join(got.Args, " "))
	}
	w.WriteHeader(http.StatusOK)
}

func (b *browser) follow(address string) int {
	answer, err := http.Get(address)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

func (b *browser) hold(held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = held
}

// answer has the person sign in on the page that is open.
func (b *browser) answer() {
	b.mu.Lock()
	page := b.pages[len(b.pages)-1]
	b.mu.Unlock()
	b.follow(page)
}

func (b *browser) seen() (pages, encounters int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.pages), len(b.encounters)
}

func (b *browser) opened() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.encounters...)
}

const (
	ehrSecret  = "an-ehr-secret-of-more-than-32-characters"
	nablaBase  = "/v1/connect/server"
	nablaID    = "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11"
	linkIssuer = "ehr.hospital.example"
	// canary stands in what of a patient must not be found anywhere.
	canary = "Kanarienvogel"
)

// call is one request that reached the backend.
type call struct{ path, key, id string }

// hospital is a workstation with everything around it, each part the real one:
// issuer, backend, simulator, policy file, control socket, browser.
type hospital struct {
	t       *testing.T
	issuer  *issuer
	browser *browser
	backend *orgserver.Server
	outside string // a folder that belongs to the organisation's servers
	sim     *nablasim.Sim
	orgURL  string
	clock   *turned // the workstation's
	server  *turned // the backend's and the simulator's
	layout  paths.Layout
	root    string
	keyring tokenstore.Keyring
	linkKey *ecdsa.PrivateKey
	policy  map[string]any
	log     *os.File

	mu        sync.Mutex
	calls     []call                                        // guarded by mu
	intercept func(http.ResponseWriter, *http.Request) bool // guarded by mu: answers in the backend's place, but for events
	events    func(http.ResponseWriter, *http.Request) bool // guarded by mu: the same for events
	tokens    []string                                      // guarded by mu: those that came with a call for events
	streams   []context.Context                             // guarded by mu: of calls for events
	ends      []context.CancelFunc                          // guarded by mu
	handles   []string                                      // guarded by mu
	snapshots [][]byte                                      // guarded by mu
	links     []string                                      // guarded by mu
	hook      func(a *Agent)                                // changes an agent before it runs
}

func newHospital(t *testing.T) *hospital {
	t.Helper()
	h := &hospital{
		t: t, issuer: newIssuer(t), browser: newBrowser(t), clock: new(turned), server: new(turned), keyring: tokenstore.Memory(),
	}
	h.issuer.life = time.Hour
	// A socket's path has room for 108 bytes.
	root, err := os.MkdirTemp("", "el")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	h.root, h.layout = root, paths.Under(root, paths.Demo)
	h.outside = t.TempDir()
	outside := h.outside

	sim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.sim.ServeHTTP(w, r) }))
	t.Cleanup(sim.Close)
	front := httptest.NewServer(http.HandlerFunc(h.front))
	t.Cleanup(front.Close)
	h.orgURL = front.URL + "/launcher"

	write := func(name string, text []byte) string {
		file := filepath.Join(outside, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	h.linkKey = newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	h.backend, err = orgserver.New(t.Context(), orgconfig.Config{
		Listen: "127.0.0.1:0", PublicURL: h.orgURL, Issuer: h.issuer.URL, Audience: testAudience, LauncherClientID: testClient,
		LinkScheme: h.layout.Scheme(), IdentifiersAllowed: true,
		EHRs:         []orgconfig.EHR{{Name: "ehr-1", SecretFile: write("ehr.secret", []byte(ehrSecret))}},
		LinkKeysFile: write("link-keys.json", h.linkKeys()),
		ContextFile:  write("context.json", []byte(`{"P-`+canary+`": {"name": "Grace `+canary+`", "birth_date": "1980-01-31", "gender": "female"}}`)),
		Nabla: orgconfig.Nabla{
			BaseURL: sim.URL + nablaBase, ClientID: nablaID,
			KeyFiles: []string{write("nabla.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))},
		},
	}, orgserver.Deps{Now: h.server.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.backend.Close() })
	h.sim, err = nablasim.New(nablasim.Config{
		BaseURL: sim.URL + nablaBase, Now: h.server.now, Clients: map[string]nablasim.Client{nablaID: {JWKS: h.backend.JWKS()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.browser.mu.Lock()
	h.browser.issuer, h.browser.sim = h.issuer.URL, sim.URL
	h.browser.mu.Unlock()

	h.policy = map[string]any{
		"OrganizationName": "Test Hospital", "BackendURL": h.orgURL, "OIDCIssuer": h.issuer.URL, "OIDCClientID": testClient,
		"OIDCAudience": testAudience, "OIDCScopes": []string{"openid", "email"}, "EncounterURLHosts": []string{"127.0.0.1"},
		"AllowedLinkForms": []string{"handle", "request"}, "LogLevel": "debug",
	}
	if err := paths.EnsurePrivateDir(h.layout.StateDir()); err != nil {
		t.Fatal(err)
	}
	h.log, err = os.OpenFile(h.layout.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.log.Close() })
	t.Cleanup(h.nothingLeaked) // runs when every agent has ended
	return h
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// front is what stands before the backend: it notes calls and can fail them.
func (h *hospital) front(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/launcher")
	h.mu.Lock()
	intercept := h.intercept
	if path == orgapi.PathEvents {
		// They come in the background, whenever it suits.
		intercept = h.events
		h.tokens = append(h.tokens, r.Header.Get("Authorization"))
	}
	if path != orgapi.PathLaunches {
		h.calls = append(h.calls, call{path, r.Header.Get(orgapi.HeaderIdempotencyKey), r.Header.Get(orgapi.HeaderRequestID)})
	}
	h.mu.Unlock()
	if path != orgapi.PathLaunches && intercept != nil && intercept(w, r) {
		return
	}
	if path == orgapi.PathEvents {
		ctx, end := context.WithCancel(r.Context())
		defer end()
		h.mu.Lock()
		h.streams = append(h.streams, ctx)
		h.ends = append(h.ends, end)
		h.mu.Unlock()
		r, w = r.WithContext(ctx), held{w}
	}
	h.backend.ServeHTTP(w, r)
}

// held keeps a stream in the call that began it, whose context ends it.
type held struct{ http.ResponseWriter }

func (w held) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (held) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }

// openStreams counts the streams of events that the backend has open.
func (h *hospital) openStreams() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		if s.Err() == nil {
			n++
		}
	}
	return n
}

// endStreams ends them, as the end of an access token does.
func (h *hospital) endStreams() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, end := range h.ends {
		end()
	}
}

func (h *hospital) inPlaceOfBackend(answer func(http.ResponseWriter, *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.intercept = answer
}

func refuseWith(code problem.Code) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		row := (&problem.Problem{Code: code}).Row()
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(row.Status)
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": row.Sentence, "status": row.Status, "code": code, "reference": "ABCD2345"})
		return true
	}
}

// asked returns the calls to a route of the backend.
func (h *hospital) asked(path string) []call {
	h.mu.Lock()
	defer h.mu.Unlock()
	var of []call
	for _, c := range h.calls {
		if c.path == path {
			of = append(of, c)
		}
	}
	return of
}

func (h *hospital) linkKeys() []byte {
	jwk, err := json.Marshal(jose.JSONWebKey{Key: &h.linkKey.PublicKey, KeyID: "link-1", Algorithm: "ES256", Use: "sig"})
	if err != nil {
		h.t.Fatal(err)
	}
	return []byte(`{"keys":[{"iss":"` + linkIssuer + `",` + string(jwk[1:]) + `]}`)
}

// setPolicy writes the policy as it stands in h.policy, changed.
func (h *hospital) setPolicy(changes map[string]any) {
	h.t.Helper()
	for k, v := range changes {
		if h.policy[k] = v; v == nil {
			delete(h.policy, k)
		}
	}
	text, err := json.Marshal(h.policy)
	if err != nil {
		h.t.Fatal(err)
	}
	h.writePolicy(text)
}

func (h *hospital) writePolicy(text []byte) {
	h.t.Helper()
	if err := paths.EnsurePrivateDir(h.layout.SandboxDir()); err != nil {
		h.t.Fatal(err)
	}
	file := h.layout.MachinePolicyFile()
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		h.t.Fatal(err)
	}
}

// patients count up so that every encounter of a test has ids of its own.
func encounterID(n int) string { return fmt.Sprint("E-", canary, "-", n) }

// mint is the EHR's button: it registers a launch for a clinician and returns
// the link.
func (h *hospital) mint(clinician string, encounter int) string {
	h.t.Helper()
	body, err := json.Marshal(orgapi.LaunchRequest{
		ProviderEmail: clinician + "@hospital.example", ExternalProviderID: "D-" + clinician,
		ExternalPatientID: "P-" + canary, ExternalEncounterID: encounterID(encounter),
		StructuredContext: orgapi.StructuredContext{PatientDemographics: orgapi.Demographics{
			Name: "Grace " + canary, BirthDate: "1980-01-31", Gender: "female",
		}},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.orgURL+orgapi.PathLaunches, bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+ehrSecret)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	var got orgapi.LaunchAnswer
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || answer.StatusCode != http.StatusOK {
		h.t.Fatalf("minting: %d, %v", answer.StatusCode, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handles = append(h.handles, got.Handle)
	return got.Link
}

// signed is a link of the signed form.
func (h *hospital) signed(clinician string, encounter int, jti string, key *ecdsa.PrivateKey) string {
	h.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "link-1").WithType("encounter-launch+jwt"))
	if err != nil {
		h.t.Fatal(err)
	}
	now := time.Now()
	text, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": linkIssuer, "aud": h.orgURL, "iat": now.Unix(), "exp": now.Add(4 * time.Minute).Unix(), "jti": jti,
		"external_encounter_id": encounterID(encounter), "external_patient_id": "P-" + canary, "external_provider_id": "D-" + clinician,
	}).Serialize()
	if err != nil {
		h.t.Fatal(err)
	}
	return h.layout.Scheme() + "://launch?request=" + text
}

// workstation is one life of the agent, reached over its real socket.
type workstation struct {
	*hospital
	agent  *Agent
	client *control.Client
	end    context.CancelFunc
	ended  chan struct{}
	once   sync.Once
}

// logOn starts an agent. It ends with the test, if not before.
func (h *hospital) logOn() *workstation {
	h.t.Helper()
	server, err := control.Listen(h.layout)
	if err != nil {
		h.t.Fatal(err)
	}
	a, err := newAgent(Options{
		Layout: h.layout, Version: "1.2.3", Keyring: h.keyring, Now: h.clock.now, Headless: true,
		Log:    slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Window: func(context.Context, control.Activation) (<-chan error, error) { return nil, errors.New("no display") },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	a.slow.after = func(time.Duration, func()) func() bool { return func() bool { return true } } // no test is told how fast this computer is
	if h.hook != nil {
		h.hook(a)
	}
	ctx, end := context.WithCancel(context.Background())
	w := &workstation{hospital: h, agent: a, end: end, ended: make(chan struct{})}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for s := range a.Watch(ctx) {
			text, _ := json.Marshal(s)
			h.mu.Lock()
			h.snapshots = append(h.snapshots, text)
			h.mu.Unlock()
		}
	}()
	go func() {
		defer close(w.ended)
		if err := a.run(ctx, server); err != nil {
			h.t.Errorf("the agent ended: %v", err)
		}
		end()
		<-watched
	}()
	h.t.Cleanup(w.logOff)
	if w.client, err = control.Dial(h.t.Context(), h.layout); err != nil {
		h.t.Fatal(err)
	}
	w.await("the first snapshot", func(view.Snapshot) bool { return true })
	return w
}

func (w *workstation) logOff() {
	w.end()
	<-w.ended
}

var errSeen = errors.New("seen")

// await waits for a snapshot, as it arrives over the socket, of which ok is true.
func (w *workstation) await(what string, ok func(view.Snapshot) bool) view.Snapshot {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last view.Snapshot
	err := w.client.Watch(ctx, func(s view.Snapshot) error {
		if last = s; ok(s) {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		text, _ := json.MarshalIndent(last, "", " ")
		w.t.Fatalf("waiting for %s: %v; the last snapshot: %s", what, err, text)
	}
	return last
}

// until waits for something beside the snapshots.
func (h *hospital) until(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("waiting for %s", what)
		}
	}
}

// click hands a link over as the link handler does.
func (w *workstation) click(link string) control.Ack {
	w.t.Helper()
	w.mu.Lock()
	w.links = append(w.links, link)
	w.mu.Unlock()
	c, err := intake.FromText(link)
	if err != nil {
		w.t.Fatal(err)
	}
	ack, err := w.client.Link(w.t.Context(), c, control.Activation{})
	if err != nil {
		w.t.Fatal(err)
	}
	return ack
}

// accepted is click for a link that must be taken; it returns the launch's id.
func (w *workstation) accepted(link string) string {
	w.t.Helper()
	ack := w.click(link)
	if !ack.Accepted || ack.ID == "" {
		w.t.Fatalf("not accepted: %+v", ack)
	}
	return ack.ID
}

func (w *workstation) refused(link string, code problem.Code) control.Ack {
	w.t.Helper()
	ack := w.click(link)
	if ack.Accepted || ack.Code != code || ack.Sentence == "" || ack.NextStep == "" || ack.Reference == "" {
		w.t.Fatalf("got %+v, want %s", ack, code)
	}
	return ack
}

func (w *workstation) do(i control.Intent) {
	w.t.Helper()
	if err := w.client.Do(w.t.Context(), i); err != nil {
		w.t.Fatalf("%s: %v", i.Name, problem.Of(err).LogValue())
	}
}

func (w *workstation) stage(id string, stage view.Stage) view.Snapshot {
	w.t.Helper()
	return w.await(fmt.Sprintf("launch %s to be %s", id, stage), func(s view.Snapshot) bool {
		return s.Launch != nil && s.Launch.ID == id && s.Launch.Stage == stage
	})
}

func (w *workstation) opens(link string) view.Launch {
	w.t.Helper()
	return *w.stage(w.accepted(link), view.Opened).Launch
}

// fails clicks a link that must be accepted and end with the code.
func (w *workstation) fails(link string, code problem.Code) view.Snapshot {
	w.t.Helper()
	return w.failed(w.accepted(link), code)
}

func (w *workstation) failed(id string, code problem.Code) view.Snapshot {
	w.t.Helper()
	s := w.stage(id, view.Failed)
	if s.Launch.Problem.Code != code {
		w.t.Fatalf("failed with %s, want %s", s.Launch.Problem.Code, code)
	}
	return s
}

// launchAfter waits for another launch than the one given to reach a stage.
func (w *workstation) launchAfter(id string, stage view.Stage) view.Launch {
	w.t.Helper()
	return *w.await("the next launch to be "+string(stage), func(s view.Snapshot) bool {
		return s.Launch != nil && s.Launch.ID != id && s.Launch.Stage == stage
	}).Launch
}

func (w *workstation) signedIn() {
	w.t.Helper()
	w.do(control.Intent{Name: control.SignIn})
	w.await("somebody to be signed in", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedIn })
}

// counts holds what the browser was handed against what should have been.
func (w *workstation) counts(pages, encounters int) {
	w.t.Helper()
	if p, e := w.browser.seen(); p != pages || e != encounters {
		w.t.Errorf("the browser was handed %d sign-in pages and %d encounters, want %d and %d", p, e, pages, encounters)
	}
}

// auditLine is what the tests look at of a line of the audit.
type auditLine struct {
	Outcome, Code, Reference, Person string
	RequestID                        string `json:"request_id"`
	Count                            int
}

func (h *hospital) auditLines() []auditLine {
	h.t.Helper()
	files, _ := filepath.Glob(filepath.Join(h.layout.AuditDir(), "*.jsonl"))
	var all []auditLine
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			h.t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var l auditLine
			if err := json.Unmarshal(line, &l); err != nil {
				h.t.Fatal(err)
			}
			all = append(all, l)
		}
	}
	return all
}

// auditOfLaunch waits for the line of a launch and makes sure it is the only one.
func (h *hospital) auditOfLaunch(id string) auditLine {
	h.t.Helper()
	var of []auditLine
	h.until("the audit of a launch", func() bool {
		of = nil
		for _, l := range h.auditLines() {
			if l.RequestID == id {
				of = append(of, l)
			}
		}
		return len(of) > 0
	})
	if len(of) != 1 {
		h.t.Errorf("a launch has %d lines in the audit: %+v", len(of), of)
	}
	return of[0]
}

// nothingLeaked runs after every test of a hospital: the audit is whole, every
// one-time URL was opened at most once, and no file and no snapshot holds a URL,
// a token, a handle, a link or a patient.
func (h *hospital) nothingLeaked() {
	if report, err := audit.Verify(h.layout.AuditDir(), nil); err != nil || !report.OK {
		h.t.Errorf("the audit: %+v, %v", report, err)
	}
	once := map[string]int{}
	seen := map[string]bool{}
	for _, l := range h.auditLines() {
		if l.RequestID != "" {
			once[l.RequestID]++
		}
	}
	for id, n := range once {
		if n != 1 {
			h.t.Errorf("launch %s has %d lines in the audit", id, n)
		}
	}
	h.browser.mu.Lock()
	defer h.browser.mu.Unlock()
	if len(h.browser.odd) > 0 {
		h.t.Errorf("the browser was handed something else: %q", h.browser.odd)
	}
	for i, address := range h.browser.encounters {
		if seen[address] || h.browser.statuses[i] != http.StatusOK {
			h.t.Errorf("a one-time URL was opened twice, or did not work: %d", h.browser.statuses[i])
		}
		seen[address] = true
	}
	secrets := map[string]string{canary: "a patient", "/open/": "a one-time URL", "://launch": "a link"}
	for _, address := range h.browser.encounters {
		secrets[address[strings.LastIndexByte(address, '/')+1:]] = "a one-time URL"
	}
	for _, handle := range h.handles {
		secrets[handle] = "a handle"
	}
	h.issuer.set(func(is *issuer) {
		for _, token := range is.issued {
			secrets[token] = "a token"
		}
	})
	files := 0
	err := filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		for s, what := range secrets {
			if bytes.Contains(text, []byte(s)) {
				h.t.Errorf("%s holds %s", strings.TrimPrefix(path, h.root), what)
			}
		}
		return err
	})
	if err != nil || files == 0 {
		h.t.Errorf("searching %d files: %v", files, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, text := range h.snapshots {
		for s, what := range secrets {
			if bytes.Contains(text, []byte(s)) {
				h.t.Errorf("a snapshot holds %s: %s", what, text)
				return
			}
		}
	}
}

// rawJSON is JSON text that is put into another as it is.
type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

// filesNow is the content of every file below the root.
func (h *hospital) filesNow() map[string]string {
	now := map[string]string{}
	_ = filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			text, _ := os.ReadFile(path)
			now[strings.TrimPrefix(path, h.root)] = string(text)
		}
		return nil
	})
	return now
}
