package orgserver

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"encounterlauncher/internal/nablasim"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

const (
	testClient    = "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11"
	testAudience  = "org-backend"
	launcherID    = "encounter-launcher"
	ehrSecret     = "an-ehr-secret-of-more-than-32-characters"
	nablaBasePath = "/v1/connect/server"
	linkIssuer    = "ehr.hospital.example"
	// canary stands in everything that must not show up anywhere else.
	canary = "Kanarienvogel"
)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// testIssuer is an OIDC issuer that signs whatever it is told to.
type testIssuer struct {
	url   string
	mu    sync.Mutex
	key   *ecdsa.PrivateKey
	kid   string
	down  bool
	asked int // requests for the keys
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newIssuer(t testing.TB) *testIssuer {
	t.Helper()
	i := &testIssuer{key: newKey(t), kid: "issuer-1"}
	mux := http.NewServeMux()
	write := func(w http.ResponseWriter, v any) {
		i.mu.Lock()
		down := i.down
		i.mu.Unlock()
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		write(w, map[string]any{
			"issuer": i.url, "jwks_uri": i.url + "/keys", "authorization_endpoint": i.url + "/a", "token_endpoint": i.url + "/t",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		i.asked++
		set := map[string]any{"keys": []any{
			map[string]any{"kty": "FUTURE", "kid": "of-a-kind-to-come"},
			jose.JSONWebKey{Key: &i.key.PublicKey, KeyID: i.kid, Algorithm: "ES256", Use: "sig"},
		}}
		i.mu.Unlock()
		write(w, set)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

// claims of a good access token; changes are laid over them, nil removes one.
func (w *world) claims(changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": w.issuer.url, "aud": testAudience, "sub": "subject-1", "iat": w.clock.now().Unix(),
		"exp": w.clock.now().Add(5 * time.Minute).Unix(), "email": "ada@hospital.example", "external_provider_id": "D-17",
	}
	for k, v := range changes {
		if v == nil {
			delete(c, k)
			continue
		}
		c[k] = v
	}
	return c
}

func sign(t testing.TB, key jose.SigningKey, kid string, typ jose.ContentType, claims any) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithHeader("kid", kid)
	if typ != "" {
		options = options.WithType(typ)
	}
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (w *world) token(t testing.TB, changes map[string]any) string {
	t.Helper()
	return sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: w.issuer.key}, w.issuer.kid, "at+jwt", w.claims(changes))
}

// world is the real backend before the real simulator and a test issuer.
type world struct {
	clock   *clock
	issuer  *testIssuer
	sim     *nablasim.Sim
	server  *Server
	url     string
	log     *lockedBuffer
	linkKey *ecdsa.PrivateKey
	folder  string
	config  orgconfig.Config
	// nablaFails, when set, answers instead of the simulator's create and refresh.
	mu         sync.Mutex
	nablaFails int
	// watch, when set, sees every request to the simulator before it.
	watch func(*http.Request)
	// asserted is the last request for a token at Nabla.
	asserted []byte
}

func (w *world) failNabla(status int) { w.mu.Lock(); defer w.mu.Unlock(); w.nablaFails = status }

func write(t testing.TB, folder, name, text string) string {
	t.Helper()
	file := filepath.Join(folder, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func newWorld(t testing.TB, changes ...func(*orgconfig.Config)) *world {
	t.Helper()
	w := &world{
		clock: &clock{t: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)}, issuer: newIssuer(t),
		log: &lockedBuffer{}, linkKey: newKey(t), folder: t.TempDir(),
	}
	sim := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		status := w.nablaFails
		if strings.HasSuffix(r.URL.Path, "/oauth/token") {
			w.asserted, _ = io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(w.asserted))
		}
		w.mu.Unlock()
		if status != 0 && strings.HasPrefix(r.URL.Path, nablaBasePath+"/encounters") {
			rw.WriteHeader(status)
			return
		}
		if w.watch != nil {
			w.watch(r)
		}
		w.sim.ServeHTTP(rw, r)
	}))
	t.Cleanup(sim.Close)
	backend := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.server.ServeHTTP(rw, r) }))
	t.Cleanup(backend.Close)
	w.url = backend.URL + "/launcher"

	der, err := x509.MarshalPKCS8PrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	linkJWK, err := json.Marshal(jose.JSONWebKey{Key: &w.linkKey.PublicKey, KeyID: "link-1", Algorithm: "ES256", Use: "sig"})
	if err != nil {
		t.Fatal(err)
	}
	w.config = orgconfig.Config{
		Listen: "127.0.0.1:0", PublicURL: w.url, Issuer: w.issuer.url, Audience: testAudience, LauncherClientID: launcherID,
		EHRs:         []orgconfig.EHR{{Name: "ehr-1", SecretFile: write(t, w.folder, "ehr.secret", ehrSecret+"\n")}},
		LinkKeysFile: write(t, w.folder, "link-keys.json", `{"keys":[{"iss":"`+linkIssuer+`",`+string(linkJWK[1:])+`]}`),
		ContextFile: write(t, w.folder, "context.json", `{
			"P-1": {"name": "Grace `+canary+`", "birth_date": "1980-01-31", "gender": "female", "pronouns": null},
			"P-2": {"name": "", "birth_date": "1980-01-31", "gender": "female"}}`),
		IdentifiersAllowed: true,
		// Its clock stands still, so nobody would be let in again.
		Limits: orgconfig.Limits{PersonPerMinute: 100_000, EHRPerMinute: 100_000},
		Nabla: orgconfig.Nabla{
			BaseURL: sim.URL + nablaBasePath, ClientID: testClient,
			KeyFiles: []string{write(t, w.folder, "nabla.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))},
		},
	}
	for _, change := range changes {
		change(&w.config)
	}
	w.server, err = New(t.Context(), w.config, Deps{Now: w.clock.now, Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.server.Close(); err != nil {
			t.Error(err)
		}
	})
	w.sim, err = nablasim.New(nablasim.Config{
		BaseURL: sim.URL + nablaBasePath, Now: w.clock.now,
		Clients: map[string]nablasim.Client{testClient: {JWKSURL: w.url + PathJWKS}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// reply is an answer that was held against the rules of every answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) problem(t *testing.T) orgapi.Problem {
	t.Helper()
	var p orgapi.Problem
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Fatalf("status %d: %v", r.status, err)
	}
	return p
}

// request is one call; the zero fields are those of a good one.
type request struct {
	method, path, bearer, key, contentType, id string
	body                                       any // string or []byte as it is, else JSON
	header                                     http.Header
	// client and base, when set, reach the backend in another way.
	client *http.Client
	base   string
}

func (w *world) do(t *testing.T, q request) reply {
	t.Helper()
	var body []byte
	switch b := q.body.(type) {
	case nil:
	case string:
		body = []byte(b)
	case []byte:
		body = b
	default:
		var err error
		if body, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	if q.method == "" {
		q.method = http.MethodPost
	}
	if q.client == nil {
		q.client, q.base = http.DefaultClient, w.url
	}
	r, err := http.NewRequestWithContext(t.Context(), q.method, q.base+q.path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if q.contentType == "" {
		q.contentType = "application/json"
	}
	if q.method == http.MethodPost {
		r.Header.Set("Content-Type", q.contentType)
	}
	if q.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+q.bearer)
	}
	if q.key != "" {
		r.Header.Set(orgapi.HeaderIdempotencyKey, q.key)
	}
	if q.id == "" {
		q.id = "call-7"
	}
	r.Header.Set(orgapi.HeaderRequestID, q.id)
	for name, values := range q.header {
		r.Header[name] = values
	}
	response, err := q.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := reply{response.StatusCode, response.Header, read}
	w.checkEveryAnswer(t, q, got)
	heldAgainstContract(t, r, body, got)
	return got
}

func (w *world) checkEveryAnswer(t *testing.T, q request, got reply) {
	t.Helper()
	if got.header.Get("Cache-Control") != "no-store" {
		t.Error("an answer may be stored")
	}
	if id := got.header.Get(orgapi.HeaderRequestID); id == "" || (headerWord(q.id) && id != q.id) {
		t.Errorf("X-Request-Id is %q", id)
	}
	if v := got.header.Get(orgapi.HeaderContract); v != orgapi.ContractVersion {
		t.Errorf("the answer names the contract %q", v)
	}
	if got.status < 400 || q.method == http.MethodHead {
		return
	}
	if kind := got.header.Get("Content-Type"); kind != orgapi.ProblemContentType {
		t.Errorf("a problem is %q", kind)
	}
	p := got.problem(t)
	if p.Status != got.status || !problem.Known(string(p.Code)) || p.Reference == "" || p.Title == "" {
		t.Errorf("problem %+v with status %d", p, got.status)
	}
	if strings.Contains(string(got.body), canary) || strings.Contains(string(got.body), "P-1") {
		t.Error("a problem tells of the patient")
	}
}

func (w *world) refused(t *testing.T, q request, status int, code problem.Code) orgapi.Problem {
	t.Helper()
	got := w.do(t, q)
	if got.status < 400 {
		t.Fatalf("got %d, want %d %s", got.status, status, code)
	}
	p := got.problem(t)
	if got.status != status || p.Code != code {
		t.Fatalf("got %d %s (%s), want %d %s", got.status, p.Code, p.Detail, status, code)
	}
	return p
}

func goodLaunch() orgapi.LaunchRequest {
	note := "Seen last week. " + canary
	return orgapi.LaunchRequest{
		ProviderEmail: "ada@hospital.example", ExternalProviderID: "D-17", ExternalPatientID: "P-1", ExternalEncounterID: "E-1",
		StructuredContext: orgapi.StructuredContext{PatientDemographics: orgapi.Demographics{
			Name: "Grace " + canary, BirthDate: "1980-01-31", Gender: "female",
		}},
		UnstructuredContext: &note,
	}
}

func (w *world) mint(t *testing.T) string {
	t.Helper()
	return w.mintOf(t, goodLaunch())
}

func (w *world) mintOf(t *testing.T, launch orgapi.LaunchRequest) string {
	t.Helper()
	got := w.do(t, request{path: orgapi.PathLaunches, bearer: ehrSecret, body: launch})
	var a orgapi.LaunchAnswer
	if err := json.Unmarshal(got.body, &a); got.status != http.StatusOK || err != nil {
		t.Fatalf("launches: %d %s", got.status, got.body)
	}
	if a.Link != "encounter-launcher://launch?handle="+a.Handle || !handleWord(a.Handle) || a.ExpiresIn != 600 {
		t.Fatalf("launches: %+v", a)
	}
	return a.Handle
}

func (w *world) byHandle(t *testing.T, handle, key string) request {
	t.Helper()
	return request{path: orgapi.PathEncounters, bearer: w.token(t, nil), key: key, body: orgapi.CreateRequest{Handle: handle}}
}

func (w *world) opened(t *testing.T, q request) orgapi.CreateAnswer {
	t.Helper()
	got := w.do(t, q)
	if got.status != http.StatusOK {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	var a orgapi.CreateAnswer
	if err := json.Unmarshal(got.body, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// visit opens a one-time page as a browser would.
func visit(t *testing.T, address string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}
