package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"encounterlauncher/internal/nablasim"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
	"encounterlauncher/internal/secret"
)

const (
	nablaBase      = "/v1/connect/server"
	nablaClient    = "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11"
	audience       = "org-backend"
	launcherClient = "encounter-launcher"
	ehrSecret      = "an-ehr-secret-of-more-than-32-characters"
	callbackSecret = "a-callback-secret-of-more-than-32-characters"
)

// backend is the reference backend before the simulator, with every credential that
// the suite can use.
type backend struct {
	handler http.Handler
	config  Config
	clock   clock

	mu     sync.Mutex
	mutant mutant
}

// mutant breaks a rule in front of a handler that keeps it.
type mutant func(http.Handler) http.Handler

func (w *backend) become(m mutant) { w.mu.Lock(); defer w.mu.Unlock(); w.mutant = m }

func (w *backend) front() http.Handler {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mutant == nil {
		return w.handler
	}
	return w.mutant(w.handler)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func write(t *testing.T, folder, name, text string) string {
	t.Helper()
	file := filepath.Join(folder, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// clock is the computer's, moved on.
type clock struct {
	mu sync.Mutex
	by time.Duration
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return time.Now().Add(c.by) }

func (c *clock) advance(by time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.by += by }

func newBackend(t *testing.T, limits orgconfig.Limits) *backend {
	t.Helper()
	w, folder, issuerKey := &backend{}, t.TempDir(), newKey(t)
	issuer := httptest.NewServer(nil)
	t.Cleanup(issuer.Close)
	issuer.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &issuerKey.PublicKey, KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
			return
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{
			"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys", "authorization_endpoint": issuer.URL + "/a", "token_endpoint": issuer.URL + "/t",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	token := func(who string, changes map[string]any) secret.Text {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: issuerKey}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
		if err != nil {
			t.Fatal(err)
		}
		claims := map[string]any{
			"iss": issuer.URL, "aud": audience, "sub": "subject-" + who, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
			"email": who + "@hospital.example", "external_provider_id": "D-" + who,
		}
		for name, value := range changes {
			claims[name] = value
		}
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return secret.New(text)
	}

	var sim *nablasim.Sim
	vendor := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { sim.ServeHTTP(rw, r) }))
	t.Cleanup(vendor.Close)
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.front().ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	base := front.URL + "/launcher"

	der, err := x509.MarshalPKCS8PrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	server, err := orgserver.New(t.Context(), orgconfig.Config{
		Listen: "127.0.0.1:0", PublicURL: base, Issuer: issuer.URL, Audience: audience, LauncherClientID: launcherClient,
		EHRs:               []orgconfig.EHR{{Name: "ehr", SecretFile: write(t, folder, "ehr.secret", ehrSecret+"\n")}},
		IdentifiersAllowed: true,
		ContextFile:        write(t, folder, "context.json", `{"P-1":{"name":"x","birth_date":"x","gender":"x","pronouns":null}}`),
		Nabla: orgconfig.Nabla{BaseURL: vendor.URL + nablaBase, ClientID: nablaClient,
			KeyFiles: []string{write(t, folder, "nabla.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))}},
		Callbacks: orgconfig.Callbacks{SecretFiles: []string{write(t, folder, "callback.secret", callbackSecret+"\n")}},
		Deliver:   orgconfig.Deliver{Folder: filepath.Join(folder, "notes")},
		NATS: orgconfig.NATS{Folder: filepath.Join(folder, "queue"),
			SealKeyFiles: []string{write(t, folder, "seal.key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")}},
		Limits: limits,
	}, orgserver.Deps{Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	w.handler = server
	if sim, err = nablasim.New(nablasim.Config{BaseURL: vendor.URL + nablaBase, Clients: map[string]nablasim.Client{nablaClient: {JWKS: server.JWKS()}}}); err != nil {
		t.Fatal(err)
	}
	w.config = Config{
		BaseURL: base, ProviderID: "D-ada",
		Token: token("ada", nil), OtherToken: token("ben", nil),
		ExpiredToken: token("ada", map[string]any{"iat": time.Now().Add(-2 * time.Hour).Unix(), "exp": time.Now().Add(-time.Hour).Unix()}),
		IDToken:      token("ada", map[string]any{"aud": launcherClient, "nonce": "n"}),
		EHRToken:     secret.New(ehrSecret), CallbackSecret: secret.New(callbackSecret),
		Slow: true, Now: w.clock.now,
	}
	return w
}
