package canary

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"encounterlauncher/internal/stage"
)

// What every launch says of its patient. Ids are of one launch.
const (
	givenName  = "Zyxandra-Thymée"
	familyName = "Quorvathsdóttir"
	birthDate  = "1883-11-27"
	freeText   = "Kryptoallergie gegen Flumoxadrin «7731», Blutdruck 171/93 <stark>"
	noteText   = "Befund: Wolkenspirale im Oberlappen, nächster Termin am 31. Brachet."
	// proxyName and proxyWord are what the network's proxy asks for.
	proxyName = "proxy-user-of-the-canary"
	proxyWord = "Gr7-proxyWort_Xq51vKe"
)

// word is a random one, for ids and secrets of a run.
func word(before string) string {
	b := make([]byte, 15)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return before + base64.RawURLEncoding.EncodeToString(b)
}

// hospital is everything outside the workstation, each part behind something that
// takes down what flows: tokens and addresses that nobody knows before they are made.
type hospital struct {
	marks    *Marks
	evidence *evidence

	programs  stage.Programs
	authority *stage.Authority
	secrets   *stage.Secrets
	issuer    *stage.Issuer
	sim       *stage.Simulator
	backend   *stage.Backend
	dir       string // the backend's
	temporary string
	metrics   string // host:port

	servers []*http.Server
	// front is between the launcher and the backend, vendor between the backend and
	// the simulator, back between the simulator and the backend.
	front, vendor, back *between
	signIns             *between
	// webhookFails and recordFails have the EHR answer 500; recordIncomplete takes the
	// birth date out of the EHR's record.
	webhookFails, recordFails, recordIncomplete atomic.Bool
	seen                                        atomic.Value // string: the newest Authorization of the launcher's
	received                                    atomic.Int64 // notes at the webhook
	documents                                   atomic.Int64 // notes at the FHIR server
	traced                                      atomic.Int64
}

// between passes requests on, tells heard of each request and answer, and where
// instead is set lets that answer in place of the server.
type between struct {
	to      atomic.Pointer[url.URL]
	client  *http.Transport
	heard   func(r *http.Request, body []byte, status int, header http.Header, answer []byte)
	mu      sync.Mutex
	instead func(w http.ResponseWriter, r *http.Request) bool // guarded by mu
}

// use has something else answer until it is nil again.
func (b *between) use(instead func(w http.ResponseWriter, r *http.Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.instead = instead
}

func (b *between) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if strings.HasSuffix(r.URL.Path, "/events") {
			b.heard(r, nil, 0, nil, nil)
			next.ServeHTTP(w, r)
			return
		}
		b.mu.Lock()
		instead := b.instead
		b.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		if instead != nil {
			b.heard(r, body, 0, nil, nil) // what was sent flowed, whatever becomes of it
			if instead(w, r) {
				return
			}
		}
		taken := httptest.NewRecorder()
		next.ServeHTTP(taken, r)
		b.heard(r, body, taken.Code, taken.Result().Header, taken.Body.Bytes())
		for name, values := range taken.Result().Header {
			w.Header()[name] = values
		}
		w.WriteHeader(taken.Code)
		_, _ = w.Write(taken.Body.Bytes())
	})
}

// handler passes everything on to a server.
func (b *between) handler() http.Handler {
	return b.around(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			host := r.In.Host
			r.SetURL(b.to.Load())
			r.Out.Host = host
		},
		Transport: b.client, ErrorLog: log.New(io.Discard, "", 0), FlushInterval: -1,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
}

func (b *between) toward(address string) {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // an address of the stage's
	}
	b.to.Store(&url.URL{Scheme: u.Scheme, Host: u.Host})
}

// token takes a text as a mark where it is one: what is not there or too short to be
// told from chance is none.
func (h *hospital) token(kind Kind, text string) {
	if len(text) >= shortest {
		h.marks.Add(kind, text)
	}
}

func (h *hospital) bearer(kind Kind, r *http.Request) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		h.token(kind, token)
	}
}

// texts are the texts at the top of a JSON object, none for anything else.
func texts(body []byte) map[string]string {
	var all map[string]any
	_ = json.Unmarshal(body, &all)
	found := map[string]string{}
	for name, v := range all {
		if s, ok := v.(string); ok {
			found[name] = s
		}
	}
	return found
}

// oneTime is the part of a one-time URL that makes it one.
func (h *hospital) oneTime(address string) {
	h.token(OneTimeURL, address[strings.LastIndexByte(address, '/')+1:])
}

func newHospital(ctx context.Context, dir string, p stage.Programs, marks *Marks, e *evidence) (_ *hospital, err error) {
	h := &hospital{marks: marks, evidence: e, programs: p, dir: filepath.Join(dir, "backend"), temporary: filepath.Join(dir, "tmp")}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	for kind, list := range map[Kind][]string{
		PatientName: {givenName, familyName}, BirthDate: {birthDate}, FreeText: {freeText[:20], freeText[20:]}, Note: {noteText},
		ClientSecret: {stage.EHRSecret, stage.CallbackSecret}, ProxyPassword: {proxyWord},
	} {
		for _, text := range list {
			marks.Add(kind, text)
		}
	}
	if h.authority, err = stage.NewAuthority(dir); err != nil {
		return nil, err
	}
	secrets := filepath.Join(dir, "secrets")
	if err := os.Mkdir(secrets, 0o700); err != nil {
		return nil, err
	}
	if h.secrets, err = stage.NewSecrets(secrets); err != nil {
		return nil, err
	}
	if err := h.keys(secrets); err != nil {
		return nil, err
	}
	h.signIns = &between{heard: h.hearIssuer}
	if h.issuer, err = stage.StartIssuer(h.authority, stage.IssuerOptions{Around: h.signIns.around}); err != nil {
		return nil, err
	}
	plain := &http.Transport{}
	trusting := h.authority.Client().Transport.(*http.Transport)
	h.front = &between{client: trusting, heard: h.hearLauncher}
	h.vendor = &between{client: plain, heard: h.hearBackend}
	h.back = &between{client: trusting, heard: h.hearVendor}
	frontURL, err := h.serveTLS(h.front.handler())
	if err != nil {
		return nil, err
	}
	vendorURL, err := h.serveTLS(h.vendor.handler())
	if err != nil {
		return nil, err
	}
	backURL, err := h.serve(h.back.handler())
	if err != nil {
		return nil, err
	}
	if h.sim, err = stage.StartSimulator(ctx, p, h.secrets, stage.SimulatorOptions{PublicURL: vendorURL, CallbackURL: backURL + "/nabla/callbacks"}); err != nil {
		return nil, err
	}
	simAddress, err := listenerOf(h.sim.PID(), h.sim.Control)
	if err != nil {
		return nil, err
	}
	h.vendor.toward("http://" + simAddress)
	return h, h.startBackend(ctx, frontURL, vendorURL)
}

// keys makes the backend's key for the FHIR server, and takes what the files hold as
// marks.
func (h *hospital) keys(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "fhir.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	for _, name := range []string{"nabla.pem", "fhir.pem", "seal.key", "webhook.secret"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if block, _ := pem.Decode(text); block != nil {
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return err
			}
			number, err := parsed.(*ecdsa.PrivateKey).Bytes() // the rest is public, or alike in all
			if err != nil {
				return err
			}
			h.marks.Add(PrivateKey, string(number))
			continue
		}
		h.marks.Add(ClientSecret, strings.TrimSpace(string(text)))
	}
	return nil
}

func (h *hospital) startBackend(ctx context.Context, frontURL, vendorURL string) error {
	ehr, err := h.serve(h.record())
	if err != nil {
		return err
	}
	collector, err := h.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.evidence.add(Traces, "a request of the exporter", append(fmt.Appendf(nil, "%v\n", r.Header), body...))
		h.traced.Add(1)
	}))
	if err != nil {
		return err
	}
	if h.metrics, err = stage.FreePort(); err != nil {
		return err
	}
	secret := func(name string) string { return filepath.Join(h.secrets.Dir, name) }
	h.backend, err = stage.StartBackend(ctx, h.programs, h.secrets, stage.BackendOptions{
		Dir: h.dir, Issuer: h.issuer.URL, Nabla: vendorURL + "/v1/connect/server", PublicURL: frontURL, Authority: h.authority,
		// With this the runtime would write a core where the process lets it.
		Env:     []string{"GOTRACEBACK=crash", "TMPDIR=" + h.temporary},
		Deliver: fmt.Sprintf("{folder: exports, fhir: true, webhook: {url: %q, secret_file: %q}}", ehr+"/notes", secret("webhook.secret")),
		More: fmt.Sprintf("log_level: debug\nlink_keys_file: %q\nidentifiers_allowed: true\nadmin_socket: admin.sock\nmetrics: {listen: %q}\ntraces: {endpoint: %q}\n"+
			"fhir: {base_url: %q, token_url: %q, client_id: backend-at-the-ehr, key_files: [%q]}\n",
			secret("link-keys.json"), h.metrics, collector+"/v1/traces", ehr+"/fhir", ehr+"/token", secret("fhir.pem")),
	})
	if err != nil {
		return err
	}
	h.front.toward("https://" + h.backend.Address)
	h.back.toward("https://" + h.backend.Address)
	return nil
}

func (h *hospital) serve(handler http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: stage.Patience}
	h.servers = append(h.servers, s)
	go func() { _ = s.Serve(l) }()
	return "http://" + l.Addr().String(), nil
}

func (h *hospital) serveTLS(handler http.Handler) (string, error) {
	s, address, err := h.authority.Serve(handler)
	if err == nil {
		h.servers = append(h.servers, s)
	}
	return address, err
}

func (h *hospital) close() {
	if h.backend != nil {
		h.backend.Stop()
	}
	if h.sim != nil {
		h.sim.Stop()
	}
	if h.issuer != nil {
		h.issuer.Close()
	}
	for _, s := range h.servers {
		_ = s.Close()
	}
}

// listenerOf finds the address on which a process listens beside another one.
func listenerOf(pid int, not string) (string, error) {
	sockets := map[string]bool{}
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, entry := range entries {
		target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, entry.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != "0A" || !sockets[fields[9]] {
			continue
		}
		_, port, _ := strings.Cut(fields[1], ":")
		number, err := strconv.ParseUint(port, 16, 16)
		if address := fmt.Sprintf("127.0.0.1:%d", number); err == nil && !strings.HasSuffix(not, address) {
			return address, nil
		}
	}
	return "", errors.New("the simulator listens nowhere")
}

// hearIssuer takes down what the issuer and the launcher tell each other.
func (h *hospital) hearIssuer(r *http.Request, body []byte, _ int, header http.Header, answer []byte) {
	query := r.URL.Query()
	h.token(State, query.Get("state"))
	h.token(State, query.Get("nonce"))
	if form, err := url.ParseQuery(string(body)); err == nil {
		h.token(Verifier, form.Get("code_verifier"))
		h.token(SignInCode, form.Get("code"))
		h.token(RefreshToken, form.Get("refresh_token"))
	}
	if back, err := url.Parse(header.Get("Location")); err == nil {
		h.token(SignInCode, back.Query().Get("code"))
	}
	given := texts(answer)
	h.token(AccessToken, given["access_token"])
	h.token(RefreshToken, given["refresh_token"])
	h.token(IDToken, given["id_token"])
}

// hearLauncher takes down what the launcher, the EHR's server and the backend tell
// each other. Refusals are evidence.
func (h *hospital) hearLauncher(r *http.Request, body []byte, status int, header http.Header, answer []byte) {
	if r.URL.Path == "/encounters" || r.URL.Path == "/encounters/url" {
		if token := r.Header.Get("Authorization"); strings.HasPrefix(token, "Bearer eyJ") { // doctor asks without one
			h.seen.Store(token)
		}
		// That of a reopening is the id of the request, which logs and audits tell on
		// purpose: it stands for no link.
		if key := r.Header.Get("Idempotency-Key"); key != r.Header.Get("X-Request-Id") {
			h.token(IdempotencyKey, key)
		}
		h.bearer(AccessToken, r)
	}
	given, asked := texts(answer), texts(body)
	h.token(Handle, given["handle"])
	h.token(Handle, asked["handle"])
	h.token(SignedRequest, asked["request"])
	if address := given["encounter_url"]; address != "" {
		h.oneTime(address)
	}
	h.refusal(r, status, header, answer)
}

func (h *hospital) bearerSeen() string {
	text, _ := h.seen.Load().(string)
	return text
}

func (h *hospital) refusal(r *http.Request, status int, header http.Header, answer []byte) {
	if status >= http.StatusBadRequest {
		h.evidence.add(BackendAnswers, fmt.Sprintf("%d of %s", status, strings.SplitN(r.URL.Path, "/", 3)[1]), append(fmt.Appendf(nil, "%v\n", header), answer...))
	}
}

// hearBackend takes down what the backend and Nabla tell each other.
func (h *hospital) hearBackend(r *http.Request, body []byte, _ int, _ http.Header, answer []byte) {
	h.bearer(VendorToken, r)
	h.token(Assertion, texts(body)["client_assertion"])
	given := texts(answer)
	h.token(VendorToken, given["access_token"])
	for _, name := range []string{"encounter_url", "url"} {
		if address := given[name]; address != "" {
			h.oneTime(address)
		}
	}
}

// hearVendor takes down how the backend answers Nabla's callbacks.
func (h *hospital) hearVendor(r *http.Request, _ []byte, status int, header http.Header, answer []byte) {
	h.refusal(r, status, header, answer)
}

// record is the EHR: its FHIR server with one patient under every id, the token
// endpoint in front of it, and the endpoint for notes.
func (h *hospital) record() http.Handler {
	answer := func(w http.ResponseWriter, kind string, status int, v any) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		h.token(Assertion, r.FormValue("client_assertion"))
		token := word("fhir-")
		h.token(VendorToken, token)
		answer(w, "application/json", http.StatusOK, map[string]any{"access_token": token, "token_type": "bearer", "expires_in": 300, "scope": r.FormValue("scope")})
	})
	mux.HandleFunc("GET /fhir/Patient/{id}", func(w http.ResponseWriter, r *http.Request) {
		patient := map[string]any{
			"resourceType": "Patient", "id": r.PathValue("id"), "gender": "female", "birthDate": birthDate,
			"name": []any{map[string]any{"use": "official", "family": familyName, "given": []string{givenName}}},
		}
		switch {
		case h.recordFails.Load():
			answer(w, "application/fhir+json", http.StatusInternalServerError, map[string]any{"resourceType": "OperationOutcome", "issue": []any{map[string]any{"diagnostics": familyName}}})
			return
		case h.recordIncomplete.Load():
			delete(patient, "birthDate")
		}
		answer(w, "application/fhir+json", http.StatusOK, patient)
	})
	mux.HandleFunc("POST /fhir/DocumentReference", func(w http.ResponseWriter, r *http.Request) {
		if h.recordFails.Load() {
			answer(w, "application/fhir+json", http.StatusBadRequest, map[string]any{"resourceType": "OperationOutcome", "issue": []any{map[string]any{"diagnostics": noteText}}})
			return
		}
		h.documents.Add(1)
		w.Header().Set("Location", "http://"+r.Host+"/fhir/DocumentReference/1")
		answer(w, "application/fhir+json", http.StatusCreated, map[string]any{"resourceType": "DocumentReference", "id": "1"})
	})
	mux.HandleFunc("POST /notes", func(w http.ResponseWriter, r *http.Request) {
		if h.webhookFails.Load() {
			http.Error(w, "no room for "+familyName+": "+noteText, http.StatusInternalServerError)
			return
		}
		h.received.Add(1)
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
