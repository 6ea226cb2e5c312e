package transport

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// name is one for which httptest's certificate is made; nothing here resolves it.
const name = "https://example.com"

func greeting(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func server(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// caFile writes the server's certificate as an extra authority.
func caFile(t *testing.T, s *httptest.Server) string {
	t.Helper()
	return writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
}

// folder is t.TempDir for Wine too, in which removing a folder can fail.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "transport")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(folder(t), "extra.pem")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// connectProxy is a proxy that knows CONNECT and sends every tunnel to target.
// With a credential it wants that as Proxy-Authorization.
func connectProxy(t *testing.T, target, credential string) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var tunnels atomic.Int32
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		if credential != "" && r.Header.Get("Proxy-Authorization") != credential {
			w.Header().Set("Proxy-Authenticate", `Basic realm="hospital"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		tunnels.Add(1)
		far, err := net.Dial("tcp", target)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
		go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
	}))
	t.Cleanup(p.Close)
	return p, &tunnels
}

func client(t *testing.T, p policy.Snapshot) *http.Client {
	t.Helper()
	c, err := NewClient(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func get(t *testing.T, c *http.Client, address string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	return string(b), err
}

func wantCode(t *testing.T, err error, code problem.Code) {
	t.Helper()
	if !problem.IsCode(err, code) {
		t.Fatalf("got %v (code %q), want code %q", err, problem.CodeOf(err), code)
	}
}

// wantNoAddress fails when what a person or the log would see holds a URL.
func wantNoAddress(t *testing.T, err error) {
	t.Helper()
	var out strings.Builder
	p := problem.Of(err)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "problem", p)
	for _, text := range []string{p.Error(), out.String()} {
		if strings.Contains(text, "://") || strings.Contains(text, "canary") {
			t.Errorf("an address shows in %q", text)
		}
	}
}

func TestAServerOfAnUnknownAuthorityIsUntrusted(t *testing.T) {
	s := server(t, greeting)
	_, err := get(t, client(t, policy.Snapshot{ProxyMode: "direct"}), s.URL+"/canary")
	wantCode(t, err, problem.TLSUntrusted)
	wantNoAddress(t, err)
}

func TestAnExtraAuthorityIsTrustedBesideTheSystems(t *testing.T) {
	s := server(t, greeting)
	c := client(t, policy.Snapshot{ProxyMode: "direct", ExtraCAFile: caFile(t, s)})
	if got, err := get(t, c, s.URL); err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	roots := c.Transport.(*roundTripper).base.TLSClientConfig.RootCAs // there since the call above
	system, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	system.AddCert(s.Certificate())
	if !roots.Equal(system) {
		t.Error("the system's authorities should still be trusted")
	}
}

func TestTheNameInTheCertificateCounts(t *testing.T) {
	s := server(t, greeting)
	p, _ := connectProxy(t, s.Listener.Addr().String(), "")
	c := client(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL, ExtraCAFile: caFile(t, s)})
	_, err := get(t, c, "https://other.example/canary")
	wantCode(t, err, problem.TLSUntrusted)
	wantNoAddress(t, err)
}

func TestAnExpiredCertificateIsUntrustedAndSaysSo(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(greeting))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	file := writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	_, err = get(t, client(t, policy.Snapshot{ProxyMode: "direct", ExtraCAFile: file}), s.URL)
	wantCode(t, err, problem.TLSUntrusted)
	if !strings.Contains(problem.Of(err).Fact, "expired") {
		t.Errorf("fact %q", problem.Of(err).Fact)
	}
}

func TestAServerThatOnlySpeaksOldTLSIsUntrusted(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(greeting))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	s.StartTLS()
	t.Cleanup(s.Close)
	_, err := get(t, client(t, policy.Snapshot{ProxyMode: "direct", ExtraCAFile: caFile(t, s)}), s.URL)
	wantCode(t, err, problem.TLSUntrusted)
}

func TestAServerThatSpeaksNoTLSIsUntrusted(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(greeting))
	t.Cleanup(s.Close)
	_, err := get(t, client(t, policy.Snapshot{ProxyMode: "direct"}), "https://"+s.Listener.Addr().String())
	wantCode(t, err, problem.TLSUntrusted)
}

func TestAClosedPortIsUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, err = get(t, client(t, policy.Snapshot{ProxyMode: "direct"}), "https://"+address+"/canary")
	wantCode(t, err, problem.OrgUnreachable)
	wantNoAddress(t, err)
}

func TestTheContextsOwnErrorIsNotClassified(t *testing.T) {
	entered := make(chan struct{})
	s := server(t, func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // merely returning could still be heard
	})
	c := client(t, policy.Snapshot{ProxyMode: "direct", ExtraCAFile: caFile(t, s)})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Do(r)
	var p *problem.Problem
	if !errors.Is(err, context.Canceled) || errors.As(err, &p) {
		t.Errorf("got %v, want the context's error alone", err)
	}
}

func TestAManualProxyIsUsedByCONNECT(t *testing.T) {
	s := server(t, greeting)
	p, tunnels := connectProxy(t, s.Listener.Addr().String(), "")
	c := client(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL, ExtraCAFile: caFile(t, s)})
	for range 2 {
		if got, err := get(t, c, name); err != nil || got != "hello" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if got := tunnels.Load(); got != 1 {
		t.Errorf("%d tunnels, want 1: the second request should find the connection warm", got)
	}
}

func TestThisComputerIsNeverReachedThroughAProxy(t *testing.T) {
	s := server(t, greeting)
	p, tunnels := connectProxy(t, s.Listener.Addr().String(), "")
	c := client(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL, ExtraCAFile: caFile(t, s)})
	if got, err := get(t, c, s.URL); err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if tunnels.Load() != 0 {
		t.Error("a loopback address went to the proxy")
	}
}

func TestAProxyThatWantsAPasswordIsNamedAsSuch(t *testing.T) {
	s := server(t, greeting)
	p, tunnels := connectProxy(t, s.Listener.Addr().String(), "Basic canary")
	c := client(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL, ExtraCAFile: caFile(t, s)})
	_, err := get(t, c, name)
	wantCode(t, err, problem.ProxyAuthNeeded)
	wantNoAddress(t, err)
	if tunnels.Load() != 0 {
		t.Error("the proxy opened a tunnel")
	}
}

func TestA407InsteadOfAnAnswerIsTheProxys(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) })
	_, err := get(t, client(t, policy.Snapshot{ProxyMode: "direct", ExtraCAFile: caFile(t, s)}), s.URL)
	wantCode(t, err, problem.ProxyAuthNeeded)
}

func TestAProxyThatCannotConnectMeansUnreachable(t *testing.T) {
	s := server(t, greeting)
	p, _ := connectProxy(t, "127.0.0.1:1", "")
	c := client(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL, ExtraCAFile: caFile(t, s)})
	_, err := get(t, c, name)
	wantCode(t, err, problem.OrgUnreachable)
	wantNoAddress(t, err)
}

func TestAProxyThatInterceptsTLSIsUntrusted(t *testing.T) {
	s, interceptor := server(t, greeting), server(t, greeting)
	interceptor.TLS.Certificates = []tls.Certificate{selfSigned(t)}
	p, _ := connectProxy(t, interceptor.Listener.Addr().String(), "")
	c := client(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL, ExtraCAFile: caFile(t, s)})
	_, err := get(t, c, name)
	wantCode(t, err, problem.TLSUntrusted)
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestDirectIgnoresTheEnvironment(t *testing.T) {
	c := client(t, policy.Snapshot{ProxyMode: "direct"})
	if c.Transport.(*roundTripper).base.Proxy != nil {
		t.Error("direct should have no proxy at all")
	}
}

func TestAPolicyThatCannotBeUsedMakesNoClient(t *testing.T) {
	good := caFile(t, server(t, greeting))
	pemText, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	broken := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	for what, p := range map[string]policy.Snapshot{
		"unknown mode":         {ProxyMode: "auto"},
		"mode in capitals":     {ProxyMode: "Direct"},
		"no proxy":             {ProxyMode: "manual"},
		"other scheme":         {ProxyMode: "manual", ProxyURL: "ftp://canary.example:1"},
		"bare host":            {ProxyMode: "manual", ProxyURL: "canary.example:3128"},
		"user in the proxy":    {ProxyMode: "manual", ProxyURL: "http://user:canary@proxy.example:3128"},
		"path in the proxy":    {ProxyMode: "manual", ProxyURL: "http://proxy.example/canary"},
		"query in the proxy":   {ProxyMode: "manual", ProxyURL: "http://proxy.example?canary"},
		"no host":              {ProxyMode: "manual", ProxyURL: "http://:3128"},
		"unparsable":           {ProxyMode: "manual", ProxyURL: "http://canary\x7f"},
		"no file":              {ExtraCAFile: filepath.Join(folder(t), "canary.pem")},
		"a folder":             {ExtraCAFile: folder(t)},
		"empty file":           {ExtraCAFile: writeFile(t, "")},
		"no PEM":               {ExtraCAFile: writeFile(t, "canary")},
		"a key":                {ExtraCAFile: writeFile(t, string(pemText)+key)},
		"a broken certificate": {ExtraCAFile: writeFile(t, string(pemText)+broken)},
		"too large":            {ExtraCAFile: writeFile(t, string(pemText)+strings.Repeat(" ", maxCAFileBytes))},
	} {
		t.Run(what, func(t *testing.T) {
			c, err := NewClient(p, nil)
			wantCode(t, err, problem.PolicyInvalid)
			wantNoAddress(t, err)
			if c != nil {
				t.Error("there should be no client")
			}
		})
	}
}

func TestARedirectToAnotherHostIsNotFollowed(t *testing.T) {
	var reached atomic.Bool
	other := server(t, func(http.ResponseWriter, *http.Request) { reached.Store(true) })
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/canary", http.StatusFound)
		case "/near":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		default:
			greeting(w, r)
		}
	})
	c := client(t, policy.Snapshot{ProxyMode: "direct", ExtraCAFile: caFile(t, s)})
	if got, err := get(t, c, s.URL+"/near"); err != nil || got != "hello" {
		t.Errorf("a redirect within the host: %q, %v", got, err)
	}
	for _, path := range []string{"/away", "/loop"} {
		_, err := get(t, c, s.URL+path)
		wantCode(t, err, problem.OrgAnswerInvalid)
		wantNoAddress(t, err)
	}
	if reached.Load() {
		t.Error("the other host was asked")
	}
}

func TestAWarmPostReusesTheConnectionUntilTheIdleOnesAreClosed(t *testing.T) {
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(greeting))
	s.EnableHTTP2 = true
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	c := client(t, policy.Snapshot{ProxyMode: "direct", ExtraCAFile: caFile(t, s)})
	post := func() string {
		answer, err := c.Post(s.URL, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.Proto
	}
	if proto := post(); proto != "HTTP/2.0" {
		t.Errorf("spoke %s", proto)
	}
	post()
	if got := connections.Load(); got != 1 {
		t.Errorf("%d connections for two warm posts, want 1", got)
	}
	c.CloseIdleConnections()
	post()
	if got := connections.Load(); got != 2 {
		t.Errorf("%d connections after closing the idle one, want 2", got)
	}
}

func TestAnAnswerWithAnEndlessHeaderIsCut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for err == nil {
			_, err = io.WriteString(conn, "X-Canary: "+strings.Repeat("x", 4096)+"\r\n")
		}
	}()
	_, err = get(t, client(t, policy.Snapshot{ProxyMode: "direct"}), "http://"+l.Addr().String())
	wantCode(t, err, problem.OrgUnreachable)
}

func TestACauseNeverQuotesAnAddressOrAnAnswer(t *testing.T) {
	network := &net.OpError{Op: "dial", Err: errors.New("refused")}
	for _, err := range []error{
		&url.Error{Op: "Get", URL: name + "/canary", Err: &url.Error{Op: "parse", URL: "canary", Err: network}},
		fmt.Errorf("malformed answer %q", "canary"),
		&url.Error{Op: "Get", URL: name + "/canary", Err: errors.New("canary")},
	} {
		if got := quoteless(err); strings.Contains(got.Error(), "canary") {
			t.Errorf("%v", got)
		}
	}
	if got := quoteless(fmt.Errorf("dialling: %w", network)); !errors.Is(got, network) {
		t.Errorf("a network's error should stay, got %v", got)
	}
}

func TestACallWaitsForTheRootsAndTrustsNothingWithoutThem(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	read := make(chan struct{})
	begin := func(system func() (*x509.CertPool, error)) *http.Client {
		rt := &roundTripper{ready: make(chan struct{}), base: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
		t.Cleanup(rt.CloseIdleConnections)
		go rt.trust(func() (*x509.CertPool, error) { <-read; return system() }, nil)
		return &http.Client{Transport: rt}
	}
	trusting := begin(func() (*x509.CertPool, error) {
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		return roots, nil
	})
	without := begin(func() (*x509.CertPool, error) { return nil, errors.New("gone") })

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	early, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trusting.Do(early); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that waits does not heed its context: %v", err)
	}
	close(read)
	answer, err := trusting.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if _, err := without.Get(server.URL); !problem.IsCode(err, problem.TLSUntrusted) {
		t.Errorf("without roots: %v", err)
	}
}

func TestAConnectionThatWasOpenedAheadIsUsedByTheNextRequestAndCarriesNothingBefore(t *testing.T) {
	// moreConnections opens one ahead, makes a request, and returns how many more that took.
	moreConnections := func(http2 bool) int {
		var requests atomic.Int32
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { requests.Add(1); greeting(w, r) }))
		s.EnableHTTP2 = http2
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		opened := make(chan struct{}, 8)
		ready := make(chan struct{}, 8)
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				opened <- struct{}{}
			case http.StateActive:
				ready <- struct{}{}
			}
		}
		s.StartTLS()
		defer s.Close()
		c := client(t, policy.Snapshot{ProxyMode: "direct", ExtraCAFile: caFile(t, s)})
		Connect(t.Context(), c, s.URL)
		<-opened
		if http2 {
			<-ready // a server of HTTP/2 speaks first, once TLS is there
		}
		if n := requests.Load(); n != 0 {
			t.Errorf("HTTP/2 %v: %d requests were made", http2, n)
		}
		if text, err := get(t, c, s.URL); err != nil || text != "hello" {
			t.Fatalf("%q, %v", text, err)
		}
		if n := requests.Load(); n != 1 {
			t.Errorf("HTTP/2 %v: %d requests", http2, n)
		}
		return len(opened)
	}
	moreConnections(false)
	// A client that has not heard the server's first word by then opens another one beside
	// it, so it is tried until one has.
	for range 100 {
		if moreConnections(true) == 0 {
			return
		}
	}
	t.Error("a connection that was opened ahead is never used")
}

func TestOpeningAheadOfAServerThatIsNotThereIsNoProblem(t *testing.T) {
	s := server(t, greeting)
	c := client(t, policy.Snapshot{ProxyMode: "direct"})
	Connect(t.Context(), c, s.URL) // whose authority is not known
	s.Close()
	Connect(t.Context(), c, s.URL)
	Connect(t.Context(), c, "::")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	Connect(over, c, s.URL)
}
