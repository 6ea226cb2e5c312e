//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/nablasim"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
	"encounterlauncher/internal/secret"
)

// A page's blocks that are marked "run NAME" are run here, in the order of the page, by
// the shell that its readers have. What stands in a block is not changed but for the
// addresses of services that a test cannot have.

type block struct{ language, name, text string }

func blocksOf(t *testing.T, page string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+) run ([a-z-]+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, block{m[1], m[2], m[3]})
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no block to run", page)
	}
	return blocks
}

// reader is somebody who follows a page: a folder, programs, and what the page says
// that they have.
type reader struct {
	*testing.T
	folder string
	env    []string
	swap   *strings.Replacer
}

func newReader(t *testing.T, swap ...string) *reader {
	t.Helper()
	bin := t.TempDir()
	for name, source := range map[string]string{"org-backend": ".", "encounter-launcher": "../../.."} {
		c := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, name), source)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", name, err, out)
		}
	}
	return &reader{T: t, folder: t.TempDir(), env: append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")), swap: strings.NewReplacer(swap...)}
}

func (r *reader) command(ctx context.Context, text string) *exec.Cmd {
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", r.swap.Replace(text))
	c.Dir, c.Env = r.folder, r.env
	return c
}

// does runs a block to its end and returns what it printed.
func (r *reader) does(b block) string {
	r.Helper()
	c := r.command(r.Context(), b.text)
	var said, faults bytes.Buffer
	c.Stdout, c.Stderr = &said, &faults
	if err := c.Run(); err != nil {
		r.Fatalf("%s: %v\n%s%s", b.name, err, said.String(), faults.String())
	}
	return said.String()
}

// keepsRunning starts a block that serves, until stop or the end of the test.
func (r *reader) keepsRunning(b block, ready string) (stop func()) {
	r.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := r.command(ctx, "exec "+b.text)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 30 * time.Second
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		r.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		if r.Failed() {
			r.Log(said.String())
		}
	})
	r.Cleanup(stop)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get(ready)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return stop
			}
		}
		if time.Now().After(deadline) {
			r.Fatal("it does not serve")
		}
	}
}

// idp is the identity provider of the pages: clinicians' tokens, and those of EHR
// servers by client credentials.
type idp struct {
	url string
	key *ecdsa.PrivateKey
}

const clientSecret = "the-client-secret-of-the-ehr"

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{key: key}
	mux := http.NewServeMux()
	write := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		write(w, map[string]any{
			"issuer": p.url, "jwks_uri": p.url + "/keys", "authorization_endpoint": p.url + "/authorize", "token_endpoint": p.url + "/token",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		write(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		id, word, _ := r.BasicAuth()
		if r.FormValue("grant_type") != "client_credentials" || id != "ehr-server" || word != clientSecret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		write(w, map[string]any{"access_token": p.token(t, map[string]any{"sub": id, "client_id": id, "scope": r.FormValue("scope")}), "token_type": "Bearer", "expires_in": 300})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *idp) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key}, (&jose.SignerOptions{}).WithHeader("kid", "k1").WithType("at+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"iss": p.url, "aud": "org-backend", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	text, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// clinician is the one of the pages.
func (p *idp) clinician(t *testing.T) string {
	t.Helper()
	return p.token(t, map[string]any{"sub": "subject-7", "email": "ada.moreau@hospital.example", "employee_number": "D-7"})
}

const nablaClient = "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11"

// newNabla is the simulator at an address of its own.
func newNabla(t *testing.T, client nablasim.Client) (*nablasim.Sim, string) {
	t.Helper()
	var sim *nablasim.Sim
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sim.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	base := server.URL + "/v1/connect/server"
	var err error
	if sim, err = nablasim.New(nablasim.Config{BaseURL: base, Clients: map[string]nablasim.Client{nablaClient: client}}); err != nil {
		t.Fatal(err)
	}
	return sim, base
}

// opens follows the one-time URL of an answer, as the browser would.
func opens(t *testing.T, answer string) {
	t.Helper()
	address := regexp.MustCompile(`"encounter_url":"([^"]+)"`).FindStringSubmatch(answer)
	if address == nil {
		t.Fatalf("there is no one-time URL in %s", answer)
	}
	response, err := http.Get(address[1])
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("the one-time page answers %d", response.StatusCode)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

func TestThePageOfTheBackendRunsItInTenMinutes(t *testing.T) {
	port, identity := freePort(t), newIDP(t)
	at := "http://127.0.0.1:" + port
	sim, base := newNabla(t, nablasim.Client{JWKSURL: at + "/.well-known/jwks.json"})
	r := newReader(t, "127.0.0.1:8080", "127.0.0.1:"+port, "https://login.hospital.example/realms/staff", identity.url, "region: eu", "base_url: "+base)
	r.env = append(r.env, "TOKEN="+identity.clinician(t))
	var serve, launch block
	var stop func()
	rotated := 0
	opensOne := func() {
		t.Helper()
		before := len(sim.Opened())
		opens(t, r.does(launch))
		if opened := sim.Opened(); len(opened) != before+1 || opened[before].ExternalEncounterID != "E-1001" || opened[before].ProviderEmail != "ada.moreau@hospital.example" {
			t.Errorf("%+v", opened)
		}
	}
	for _, b := range blocksOf(t, "org-backend.md") {
		t.Log(b.name)
		switch {
		case b.name == "config":
			if err := os.WriteFile(filepath.Join(r.folder, "config.yaml"), []byte(r.swap.Replace(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
		case b.name == "serve":
			serve = b
			stop = r.keepsRunning(serve, at+"/readyz")
		case b.name == "launch":
			launch = b
			opensOne()
		case b.name == "audit":
			if said := r.does(b); !strings.Contains(said, "ada.moreau@hospital.example") || !strings.Contains(said, "E-1001") {
				t.Errorf("the audit says %s", said)
			}
		// The page says of these that org-backend is started again after them, and what
		// works must work all the time.
		case strings.HasPrefix(b.name, "rotate-"), b.name == "restore":
			rotated++
			if b.name == "restore" {
				stop()
				r.does(b)
			} else {
				r.does(b)
				stop()
			}
			stop = r.keepsRunning(serve, at+"/readyz")
			if b.name == "rotate-nabla-sign" {
				// The page says to wait until Nabla may fetch our keys again.
				seconds, all := int64(10), true
				if err := sim.ChangeClock(nablasim.ClockChange{AdvanceSeconds: &seconds, Everything: &all}); err != nil {
					t.Fatal(err)
				}
			}
			opensOne()
		case b.name == "backup":
			stop()
			r.does(b)
			stop = r.keepsRunning(serve, at+"/readyz")
		default:
			r.does(b)
		}
	}
	if rotated < 6 {
		t.Errorf("only %d steps of rotation and restoring were tried", rotated)
	}
}

// authority signs certificates for the page about EHR servers.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

func (a *authority) sign(t *testing.T, template x509.Certificate) (certificate, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(2), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, &template, a.certificate, &own.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM(t, own)
}

func keyPEM(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// integration is what the page for integrators takes for granted: a backend over TLS
// that knows the EHR by secret, token and certificate and takes every form of link,
// Nabla behind it, and the EHR's webhook.
type integration struct {
	*reader
	url     string
	sim     *nablasim.Sim
	bearer  string
	client  *http.Client
	noticed chan *http.Request // the body is read: see body
	body    []byte
}

const (
	ehrSecret     = "the-secret-of-the-ehr-of-the-page-33"
	webhookSecret = "the-secret-of-the-webhook-1234567890-abc"
)

func newIntegration(t *testing.T) *integration {
	t.Helper()
	identity, ca := newIDP(t), newAuthority(t)
	i := &integration{reader: newReader(t), bearer: identity.clinician(t), noticed: make(chan *http.Request, 1)}
	file := func(name string, text []byte) string {
		t.Helper()
		name = filepath.Join(i.folder, name)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	webhook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		i.body, _ = io.ReadAll(r.Body) // what is missing shows in the signature
		i.noticed <- r
	}))
	t.Cleanup(webhook.Close)
	link, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: &link.PublicKey, KeyID: "link-1", Algorithm: "RS256", Use: "sig"})
	if err != nil {
		t.Fatal(err)
	}
	nablaKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key := ca.sign(t, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	theirs, theirKey := ca.sign(t, x509.Certificate{DNSNames: []string{"ehr.hospital.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	file("link.pem", keyPEM(t, link))
	file("ehr.pem", theirs)
	file("ehr.key", theirKey)
	authorities := file("ca.pem", ca.pem())

	port := freePort(t)
	i.url = "https://127.0.0.1:" + port
	var server *orgserver.Server
	keys := func() []byte { return server.JWKS() }
	published := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(keys())
	}))
	t.Cleanup(published.Close)
	var base string
	i.sim, base = newNabla(t, nablasim.Client{JWKSURL: published.URL})
	cfg := orgconfig.Config{
		Listen: "127.0.0.1:" + port, PublicURL: i.url, TLSCertFile: file("tls.pem", certificate), TLSKeyFile: file("tls.key", key), ClientCAFile: authorities,
		Issuer: identity.url, Audience: "org-backend", LauncherClientID: "encounter-launcher", Claims: orgconfig.Claims{ExternalProviderID: "employee_number"},
		EHRs: []orgconfig.EHR{
			{Name: "by-secret", SecretFile: file("ehr.secret", []byte(ehrSecret+"\n")), LinkIssuer: "ehr.hospital.example"},
			{Name: "by-token", ClientID: "ehr-server"},
			{Name: "by-certificate", CertificateName: "ehr.hospital.example"},
		},
		LinkKeysFile:       file("link-keys.json", []byte(`{"keys":[{"iss":"ehr.hospital.example",`+string(jwk[1:])+`]}`)),
		ContextFile:        file("context.yaml", []byte("P-1001: {name: Testa Example, birth_date: '1980-01-01', gender: female}\n")),
		IdentifiersAllowed: true,
		Nabla:              orgconfig.Nabla{BaseURL: base, ClientID: nablaClient, KeyFiles: []string{file("nabla.pem", keyPEM(t, nablaKey))}},
		Callbacks:          orgconfig.Callbacks{SecretFiles: []string{file("callback.secret", []byte(callbackSecret))}},
		Deliver:            orgconfig.Deliver{Webhook: orgconfig.Webhook{URL: webhook.URL, SecretFile: file("webhook.secret", []byte(webhookSecret))}},
		NATS:               orgconfig.NATS{Folder: filepath.Join(i.folder, "queue"), SealKeyFiles: []string{file("seal.key", []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))))}},
	}
	if server, err = orgserver.New(t.Context(), cfg, orgserver.Deps{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	open, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		ended <- orgserver.Serve(ctx, cfg, server, slog.New(slog.DiscardHandler), func(a net.Addr) { open <- a })
	}()
	select {
	case <-open:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		i.client.CloseIdleConnections()
		cancel()
		if err := errors.Join(<-ended, server.Close()); err != nil {
			t.Error(err)
		}
	})
	pool := x509.NewCertPool()
	pool.AddCert(ca.certificate)
	i.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	payload := `{"provider_email": "ada.moreau@hospital.example", "external_provider_id": "D-7", "external_patient_id": "P-1001", "external_encounter_id": "E-1005",
		"structured_context": {"patient_demographics": {"name": "Testa Example", "birth_date": "1980-01-01", "gender": "female", "pronouns": null}}}`
	file("payload.json", []byte(payload))
	i.env = append(i.env, "CURL_CA_BUNDLE="+authorities, "EHRURL="+i.url, "BACKENDURL="+i.url, "EHR_CREDENTIAL="+ehrSecret,
		"TOKEN_URL="+identity.url+"/token", "CLIENT_ID=ehr-server", "CLIENT_SECRET="+clientSecret, "KID=link-1", "LINK_ISSUER=ehr.hospital.example")
	return i
}

func (i *integration) post(path, body string, header http.Header) (int, string) {
	i.Helper()
	r, err := http.NewRequestWithContext(i.Context(), http.MethodPost, i.url+path, strings.NewReader(body))
	if err != nil {
		i.Fatal(err)
	}
	r.Header = header
	r.Header.Set("Content-Type", "application/json")
	response, err := i.client.Do(r)
	if err != nil {
		i.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		i.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// pressed goes the way of a link from what a block printed to the open page of an
// encounter: the program judges it, the backend takes what it holds. by names the press.
func (i *integration) pressed(by, said, encounter string) {
	i.Helper()
	link := regexp.MustCompile(`encounter-launcher://launch\?[^"\s]+`).FindString(said)
	if link == "" {
		i.Fatalf("there is no link in %s", said)
	}
	// Of a signed request the program says nothing without a policy that names the backend.
	if !strings.Contains(link, "?request=") {
		i.does(block{name: "check-link", text: "encounter-launcher check-link --forms handle,identifiers '" + link + "'"})
	}
	address, err := url.Parse(link)
	if err != nil {
		i.Fatal(err)
	}
	asked := map[string]string{}
	for key, values := range address.Query() {
		asked[key] = values[0]
	}
	body, err := json.Marshal(asked)
	if err != nil {
		i.Fatal(err)
	}
	status, answer := i.post("/encounters", string(body), http.Header{"Authorization": {"Bearer " + i.bearer}, "Idempotency-Key": {"press-" + by}})
	if status != http.StatusOK {
		i.Fatalf("%d %s", status, answer)
	}
	opens(i.T, answer)
	if opened := i.sim.Opened(); opened[len(opened)-1].ExternalEncounterID != encounter || opened[len(opened)-1].PatientName != "Testa Example" {
		i.Errorf("%+v", opened[len(opened)-1])
	}
}

func TestThePageForIntegratorsHoldsCallsThatWork(t *testing.T) {
	i := newIntegration(t)
	opens := map[string]string{"register": "E-1001", "token": "E-1005", "certificate": "E-1005", "legacy": "E-1004", "signed": "E-1002", "identifiers": "E/1003+b"}
	met := map[string]bool{}
	for n, b := range blocksOf(t, "ehr-integration.md") {
		t.Log(b.name)
		met[b.name] = true
		switch encounter := opens[b.name]; {
		case b.name == "ask":
			i.does(b)
		case b.name == "verify":
			i.told()
			i.does(b)
		case encounter != "":
			said := i.does(b)
			i.pressed(b.name, said, encounter)
		default:
			t.Errorf("nothing is known of block %d, %s", n, b.name)
		}
	}
	for name := range opens {
		if !met[name] {
			t.Errorf("the page has no block %s", name)
		}
	}
}

// told lets Nabla export a note, and gives the reader what the webhook got.
func (i *integration) told() {
	i.Helper()
	body := `{"request_uuid":"0f6c0a4e-3c57-4a3e-9a31-6b6d2f3f5f0a","type":"NOTE_EXPORT","data":{"external_patient_id":"P-1001","external_encounter_id":"E-1001",` +
		`"external_provider_id":"D-7","note":{"sections":[{"content":"It is well.","title":"Plan","category":null}]}}}`
	timestamp := time.Now().UTC().Format(time.RFC3339)
	h := http.Header{}
	h.Set("x-nabla-connect-timestamp", timestamp)
	h.Set("x-nabla-connect-signature", nabla.Sign(secret.New(callbackSecret), timestamp, []byte(body)))
	if status, answer := i.post("/nabla/callbacks", body, h); status != http.StatusOK {
		i.Fatalf("%d %s", status, answer)
	}
	select {
	case r := <-i.noticed:
		if string(i.body) != body {
			i.Error("the webhook got something else")
		}
		if err := os.WriteFile(filepath.Join(i.folder, "body.json"), i.body, 0o600); err != nil {
			i.Fatal(err)
		}
		i.env = append(i.env, "TIMESTAMP="+r.Header.Get("X-Encounter-Launcher-Timestamp"), "SIGNATURE="+r.Header.Get("X-Encounter-Launcher-Signature"), "SECRET="+webhookSecret)
	case <-time.After(time.Minute):
		i.Fatal("the webhook was told nothing")
	}
}
