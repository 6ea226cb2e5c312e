//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"encounterlauncher/internal/stage"
)

const (
	clientID = "encounter-launcher"
	audience = "org-backend"
	// pages is where the one-time addresses lead; nobody opens them.
	pages = "https://encounters.bench.example/e/"
	// life of an access token: longer than a run.
	life = time.Hour
)

// world is what lies outside the workstation: the organisation's backend and its
// OIDC issuer, each on a TLS port of its own on loopback. It answers at once and
// with little, so that what is measured is the way to it.
type world struct {
	authority       *stage.Authority
	backend, issuer string
	scriptToken     string
	signer          jose.Signer
	key             *ecdsa.PrivateKey
	servers         []*http.Server

	mu     sync.Mutex
	codes  map[string]url.Values    // guarded by mu: code → authorization request
	serial int                      // guarded by mu
	calls  map[string]call          // guarded by mu: handle → when
	held   map[string]chan struct{} // guarded by mu: handle → closed when it may be answered
	asked  moment                   // guarded by mu: when the issuer was last asked for its discovery document
	given  moment                   // guarded by mu: when the issuer last gave tokens
}

// call is when the backend began and ended to answer for a handle.
type call struct{ arrived, answered moment }

func newWorld(dir string) (*world, error) {
	w := &world{
		codes: map[string]url.Values{}, calls: map[string]call{}, held: map[string]chan struct{}{},
	}
	var err error
	if w.authority, err = stage.NewAuthority(dir); err != nil {
		return nil, fmt.Errorf("making certificates: %w", err)
	}
	if w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	w.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: w.key, KeyID: "k1"}}, nil)
	if err != nil {
		return nil, err
	}
	org := http.NewServeMux()
	org.HandleFunc("POST /encounters", w.create)
	if w.backend, err = w.serve(org); err != nil {
		return nil, err
	}
	idp := http.NewServeMux()
	idp.HandleFunc("GET /.well-known/openid-configuration", w.discovery)
	idp.HandleFunc("GET /authorize", w.authorize)
	idp.HandleFunc("POST /token", w.token)
	idp.HandleFunc("GET /jwks", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: w.key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	})
	if w.issuer, err = w.serve(idp); err != nil {
		return nil, err
	}
	w.scriptToken, err = w.sign(map[string]any{"aud": audience})
	return w, err
}

func (w *world) serve(h http.Handler) (string, error) {
	s, address, err := w.authority.Serve(h)
	if err == nil {
		w.servers = append(w.servers, s)
	}
	return address, err
}

func (w *world) close() {
	for _, s := range w.servers {
		_ = s.Close()
	}
}

// policy is what the launcher obeys.
func (w *world) policy() map[string]any {
	return map[string]any{
		"OrganizationName": "Bench", "BackendURL": w.backend, "OIDCIssuer": w.issuer, "OIDCClientID": clientID, "OIDCAudience": audience,
		"EncounterURLHosts": []string{"encounters.bench.example"}, "ExtraCAFile": w.authority.CAFile, "ProxyMode": "direct",
	}
}

// create answers POST /encounters for every handle with an encounter of its own.
func (w *world) create(rw http.ResponseWriter, r *http.Request) {
	arrived := now()
	var body struct {
		Handle string `json:"handle"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Authorization") == "" {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	hold := w.held[body.Handle]
	w.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	answer(rw, map[string]any{
		"encounter_url": pages + body.Handle,
		"encounter":     map[string]string{"external_encounter_id": body.Handle, "external_provider_id": "D-1", "label": "Ada Example"},
	})
	w.mu.Lock()
	w.calls[body.Handle] = call{arrived, now()}
	w.mu.Unlock()
}

// hold keeps the answer for a handle back until release is called.
func (w *world) hold(handle string) (release func()) {
	c := make(chan struct{})
	w.mu.Lock()
	w.held[handle] = c
	w.mu.Unlock()
	return sync.OnceFunc(func() { close(c) })
}

// callFor returns when the backend was called for a handle.
func (w *world) callFor(handle string) (call, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.calls[handle]
	return c, ok
}

// issuerTimes returns when the issuer was last asked for its discovery document,
// and when it last gave tokens.
func (w *world) issuerTimes() (asked, given moment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked, w.given
}

func (w *world) discovery(rw http.ResponseWriter, _ *http.Request) {
	w.mu.Lock()
	w.asked = now()
	w.mu.Unlock()
	answer(rw, map[string]any{
		"issuer": w.issuer, "authorization_endpoint": w.issuer + "/authorize", "token_endpoint": w.issuer + "/token", "jwks_uri": w.issuer + "/jwks",
		"id_token_signing_alg_values_supported": []string{"ES256"}, "response_types_supported": []string{"code"},
		"subject_types_supported": []string{"public"}, "code_challenge_methods_supported": []string{"S256"},
		"authorization_response_iss_parameter_supported": true,
	})
}

// authorize signs the one clinician in at once.
func (w *world) authorize(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	w.mu.Lock()
	w.serial++
	code := fmt.Sprint("code-", w.serial)
	w.codes[code] = q
	w.mu.Unlock()
	back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {w.issuer}}
	http.Redirect(rw, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

// token gives a new refresh token with every grant, as issuers with rotation do.
func (w *world) token(rw http.ResponseWriter, r *http.Request) {
	id := map[string]any{"aud": clientID}
	w.mu.Lock()
	w.serial++
	serial := w.serial
	if r.FormValue("grant_type") == "authorization_code" {
		q := w.codes[r.FormValue("code")]
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if q == nil || base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge") {
			w.mu.Unlock()
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		id["nonce"] = q.Get("nonce")
	}
	w.mu.Unlock()
	access, err1 := w.sign(map[string]any{"aud": audience, "jti": fmt.Sprint(serial)})
	idToken, err2 := w.sign(id)
	if errors.Join(err1, err2) != nil {
		rw.WriteHeader(http.StatusInternalServerError)
		return
	}
	answer(rw, map[string]any{
		"access_token": access, "id_token": idToken, "token_type": "Bearer",
		"expires_in": int(life.Seconds()), "refresh_token": fmt.Sprint("refresh-", serial),
	})
	w.mu.Lock()
	w.given = now()
	w.mu.Unlock()
}

func (w *world) sign(more map[string]any) (string, error) {
	at := time.Now()
	claims := map[string]any{
		"iss": w.issuer, "sub": "ada", "email": "ada@bench.example", "iat": at.Unix(), "exp": at.Add(life).Unix(), "auth_time": at.Unix(),
	}
	for k, v := range more {
		claims[k] = v
	}
	return jwt.Signed(w.signer).Claims(claims).Serialize()
}

func answer(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(rw).Encode(v)
}

// follow does what the person and the browser do with a sign-in page.
func (w *world) follow(address string) error {
	browser := w.authority.Client()
	defer browser.CloseIdleConnections()
	page, err := browser.Get(address)
	if err != nil {
		return err
	}
	defer page.Body.Close()
	if page.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("the sign-in page answered %d", page.StatusCode)
	}
	return nil
}
