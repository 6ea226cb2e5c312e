package doctor

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
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/transport"
	"encounterlauncher/internal/view"
)

const (
	backendHost   = "backend.hospital.example"
	issuerHost    = "login.hospital.example"
	encounterHost = "app.vendor.example"
)

// authority is a certificate authority.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, key, cert}
}

func (a *authority) certify(host string, from, until time.Duration) *tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// site is the network outside: servers by name, and the proxy through which a
// workstation gets to them.
type site struct {
	t       *testing.T
	dir     string
	proxy   *httptest.Server
	public  *authority // plays one that browsers bring along
	private *authority

	mu       sync.Mutex
	servers  map[string]string // guarded by mu: the address of each host
	certs    map[string]*tls.Certificate
	handlers map[string]http.Handler
	wantAuth bool // guarded by mu: the proxy asks for a password
	date     time.Duration
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{
		t: t, dir: t.TempDir(), public: newAuthority(t, "Public Root CA"), private: newAuthority(t, "Hospital Inspection CA"),
		servers: map[string]string{}, certs: map[string]*tls.Certificate{}, handlers: map[string]http.Handler{},
	}
	s.proxy = httptest.NewServer(http.HandlerFunc(s.connect))
	t.Cleanup(s.proxy.Close)
	for _, host := range []string{backendHost, issuerHost, encounterHost} {
		s.serve(host)
		s.certs[host] = s.public.certify(host, -200*24*time.Hour, 90*24*time.Hour)
	}
	s.handlers[encounterHost] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	s.handlers[issuerHost] = http.HandlerFunc(s.issuer(nil))
	s.handlers[backendHost] = s.backend()
	return s
}

// serve starts a server that answers to a name with whatever certificate and handler it
// has at that moment.
func (s *site) serve(host string) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		h, date := s.handlers[host], s.date
		s.mu.Unlock()
		w.Header().Set("Date", time.Now().Add(date).UTC().Format(http.TimeFormat))
		h.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.certs[host] == nil {
			return nil, errors.New("no certificate")
		}
		return s.certs[host], nil
	}}
	server.StartTLS()
	s.t.Cleanup(server.Close)
	s.servers[host] = server.Listener.Addr().String()
}

// connect is the proxy (RFC 9110 §9.3.6).
func (s *site) connect(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.Host)
	s.mu.Lock()
	address, auth := s.servers[host], s.wantAuth
	s.mu.Unlock()
	switch {
	case auth:
		w.Header().Set("Proxy-Authenticate", `Basic realm="hospital"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	case r.Method != http.MethodConnect || address == "":
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	to, err := net.Dial("tcp", address)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	from, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		_ = to.Close()
		return
	}
	_, _ = io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
	go func() { _, _ = io.Copy(from, to); _ = from.Close() }()
}

func (s *site) set(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }

// issuer answers discovery and keys; change alters the document.
func (s *site) issuer(change func(map[string]any)) http.HandlerFunc {
	base := "https://" + issuerHost + "/realms/staff"
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/realms/staff/.well-known/openid-configuration":
			document := map[string]any{
				"issuer": base, "authorization_endpoint": base + "/auth", "token_endpoint": base + "/token", "jwks_uri": base + "/keys",
				"code_challenge_methods_supported": []string{"S256"},
			}
			if change != nil {
				change(document)
			}
			_ = json.NewEncoder(w).Encode(document)
		case "/realms/staff/keys":
			_, _ = io.WriteString(w, `{"keys":[{"kty":"EC"}]}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}
}

// backend is the real one, which no token reaches here.
func (s *site) backend() http.Handler {
	write := func(name string, text []byte) string {
		file := filepath.Join(s.dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			s.t.Fatal(err)
		}
		return file
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	server, err := orgserver.New(context.Background(), orgconfig.Config{
		Listen: "127.0.0.1:0", PublicURL: "https://" + backendHost + "/launcher", Issuer: "https://" + issuerHost + "/realms/staff",
		Audience: "org-backend", LauncherClientID: "encounter-launcher", LinkScheme: "encounter-launcher",
		EHRs: []orgconfig.EHR{{Name: "ehr-1", SecretFile: write("ehr.secret", []byte("an-ehr-secret-of-more-than-32-characters"))}},
		Nabla: orgconfig.Nabla{
			BaseURL: "https://vendor.example/v1/connect/server", ClientID: "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11",
			KeyFiles: []string{write("nabla.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))},
		},
	}, orgserver.Deps{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = server.Close() })
	return server
}

// policy is what IT has set on a workstation of this site.
func (s *site) policy() policy.Snapshot {
	file := filepath.Join(s.dir, "ca.pem")
	var text []byte
	for _, a := range []*authority{s.public, s.private} {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return policy.Snapshot{
		BackendURL: "https://" + backendHost + "/launcher", OIDCIssuer: "https://" + issuerHost + "/realms/staff", OIDCClientID: "encounter-launcher",
		EncounterURLHosts: []string{encounterHost, ".vendor.example"}, ProxyMode: "manual", ProxyURL: s.proxy.URL, ExtraCAFile: file,
	}
}

// healthy is a workstation on which all is well, reached through the site's proxy.
func (s *site) healthy() Deps {
	s.t.Helper()
	p := s.policy()
	root := s.t.TempDir()
	program := filepath.Join(root, "bin", "encounter-launcher")
	for _, file := range []string{program, program + "-window"} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("program"), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	d := Deps{
		Layout: paths.Under(root, ""), Version: "1.2.3", Executable: program, Home: root, Policy: p, Now: time.Now,
		Resolve: func(context.Context, string) ([]string, error) { return nil, errors.New("nothing resolves here") },
		Dial:    new(net.Dialer).DialContext,
		PublicRoot: func(c *x509.Certificate) bool {
			return c.Subject.CommonName == s.public.cert.Subject.CommonName
		},
		Keyring: tokenstore.New(tokenstore.Memory(), "doctor-test", filepath.Join(root, "probe.lock"), time.Minute),
		Agent:   func(context.Context) (view.Snapshot, error) { return view.Snapshot{Version: "1.2.3"}, nil },
		Scheme: func() (scheme.State, error) {
			return scheme.State{Scheme: "encounter-launcher", Registrations: []scheme.Registration{
				{Place: scheme.ForUser, Where: "user", ID: "encounter-launcher.desktop", Command: program + " %u", Program: program, Ours: true, InEffect: true},
			}}, nil
		},
		Ask:  func(context.Context, scheme.State) (scheme.Asked, error) { return scheme.Asked{Agrees: true}, nil },
		Free: func(string) (uint64, error) { return 50 << 30, nil }, Tray: func(context.Context) TrayState { return TrayShown },
		WebView: func() (WebView, error) { return WebView{}, nil }, Display: func() bool { return true },
		Libraries:       func(context.Context, string) ([]string, error) { return nil, nil },
		BrowserPolicies: func() []browserPolicy { return nil }, Copies: func() []string { return nil },
	}
	d.Proxy = func(ctx context.Context, host string) (transport.Proxy, error) {
		return transport.LookupProxy(ctx, p, host)
	}
	d.reconnect(p)
	return d
}

// reconnect gives the workstation the client of a policy.
func (d *Deps) reconnect(p policy.Snapshot) {
	d.Policy = p
	d.HTTP, d.HTTPProblem = transport.NewClient(p, nil)
}

// finds runs one check and fails unless it finds exactly these codes.
func finds(t *testing.T, d Deps, name string, codes ...string) Result {
	t.Helper()
	results := Run(t.Context(), d, []string{name}, nil)
	if len(results) != 1 {
		t.Fatalf("%s gave %d results", name, len(results))
	}
	var got []string
	for _, f := range results[0].Findings {
		got = append(got, f.Code)
	}
	slices.Sort(got)
	slices.Sort(codes)
	if !slices.Equal(got, codes) {
		t.Errorf("%s found %v (%v), want %v", name, got, results[0].Findings, codes)
	}
	return results[0]
}

func fact(t *testing.T, r Result, code, name, want string) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Code == code && f.Facts[name] == want {
			return
		}
	}
	t.Errorf("%s: no %s with %s %q in %v", r.Name, code, name, want, r.Findings)
}

// said is everything that a run says, in every form in which it leaves the room.
func said(d Deps, results []Result, language string) string {
	text, _ := json.Marshal(Summarise(d, results, wordsOf(language)))
	return strings.ToLower(string(text))
}
