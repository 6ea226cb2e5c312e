//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"encounterlauncher/internal/nablasim"
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

// keepsRunning starts a block that serves, until the end of the test.
func (r *reader) keepsRunning(b block, ready string) {
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
	r.Cleanup(func() {
		cancel()
		<-ended
		if r.Failed() {
			r.Log(said.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get(ready)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
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
	for _, b := range blocksOf(t, "org-backend.md") {
		t.Log(b.name)
		switch b.name {
		case "config":
			if err := os.WriteFile(filepath.Join(r.folder, "config.yaml"), []byte(r.swap.Replace(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
		case "serve":
			r.keepsRunning(b, at+"/readyz")
		case "launch":
			opens(t, r.does(b))
			if opened := sim.Opened(); len(opened) != 1 || opened[0].ExternalEncounterID != "E-1001" || opened[0].ProviderEmail != "ada.moreau@hospital.example" {
				t.Errorf("%+v", opened)
			}
		case "audit":
			if said := r.does(b); !strings.Contains(said, "ada.moreau@hospital.example") || !strings.Contains(said, "E-1001") {
				t.Errorf("the audit says %s", said)
			}
		default:
			r.does(b)
		}
	}
}
