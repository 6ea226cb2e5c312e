package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	testClient   = "launcher"
	testAudience = "org-backend"
)

// issuer is a small strict OIDC issuer: PKCE, rotation of refresh tokens, and
// the end of the whole family when a used one comes again (RFC 9700 §4.14.2).
type issuer struct {
	*httptest.Server
	t      *testing.T
	signer jose.Signer
	key    *ecdsa.PrivateKey
	life   time.Duration
	now    func() time.Time
	stingy bool // guarded by mu: gives no refresh token

	mu       sync.Mutex
	person   string                // guarded by mu: who signs in next
	codes    map[string]url.Values // guarded by mu
	refresh  map[string]string     // guarded by mu: live refresh token → subject
	used     map[string]string     // guarded by mu: rotated away → subject
	thefts   int                   // guarded by mu: used tokens that came again
	rotated  int                   // guarded by mu
	revoked  int                   // guarded by mu
	pages    int                   // guarded by mu: authorization requests
	down     bool                  // guarded by mu
	keyless  bool                  // guarded by mu: its keys cannot be fetched
	serial   int                   // guarded by mu
	lastAuth url.Values            // guarded by mu
	issued   []string              // guarded by mu: every token that was ever given out
	leaves   bool                  // guarded by mu: has an end of session
	left     []url.Values          // guarded by mu: what came to it
	refused  string                // guarded by mu: an error to send people back with, such as access_denied
	atRevoke func()                // guarded by mu: called without it before a revocation is answered; may be nil
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	is := &issuer{
		t: t, key: key, signer: signer, life: 5 * time.Minute, now: time.Now, person: "ada",
		codes: map[string]url.Values{}, refresh: map[string]string{}, used: map[string]string{},
	}
	is.Server = httptest.NewServer(is)
	t.Cleanup(is.Close)
	return is
}

func (is *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if hold := is.atRevoke; hold != nil && r.URL.Path == "/revoke" {
		is.mu.Unlock()
		hold()
		is.mu.Lock()
	}
	if is.down || is.keyless && r.URL.Path == "/jwks" {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		document := map[string]any{
			"issuer": is.URL, "authorization_endpoint": is.URL + "/authorize", "token_endpoint": is.URL + "/token",
			"jwks_uri": is.URL + "/jwks", "revocation_endpoint": is.URL + "/revoke",
			"id_token_signing_alg_values_supported": []string{"ES256"}, "response_types_supported": []string{"code"},
			"subject_types_supported": []string{"public"}, "authorization_response_iss_parameter_supported": true,
		}
		if is.leaves {
			document["end_session_endpoint"] = is.URL + "/leave"
		}
		is.json(w, document)
	case "/jwks":
		is.json(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: is.key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	case "/authorize":
		is.pages++
		q := r.URL.Query()
		is.lastAuth = q
		is.serial++
		code := fmt.Sprint("code-", is.serial)
		q.Set("person", is.person)
		is.codes[code] = q
		back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {is.URL}}
		if is.refused != "" {
			back = url.Values{"error": {is.refused}, "state": {q.Get("state")}, "iss": {is.URL}}
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	case "/token":
		is.token(w, r)
	case "/leave":
		is.left = append(is.left, r.URL.Query())
	case "/revoke":
		delete(is.refresh, r.FormValue("token"))
		is.revoked++
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (is *issuer) token(w http.ResponseWriter, r *http.Request) {
	switch r.FormValue("grant_type") {
	case "authorization_code":
		q, ok := is.codes[r.FormValue("code")]
		delete(is.codes, r.FormValue("code"))
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge") {
			is.refuse(w)
			return
		}
		is.grant(w, q.Get("person"), q.Get("nonce"))
	case "refresh_token":
		old := r.FormValue("refresh_token")
		if subject, stolen := is.used[old]; stolen {
			is.thefts++
			for token, s := range is.refresh {
				if s == subject {
					delete(is.refresh, token)
				}
			}
		}
		subject, ok := is.refresh[old]
		if !ok {
			is.refuse(w)
			return
		}
		delete(is.refresh, old)
		is.used[old] = subject
		is.rotated++
		is.grant(w, subject, "")
	default:
		is.refuse(w)
	}
}

func (is *issuer) grant(w http.ResponseWriter, subject, nonce string) {
	is.serial++
	refresh := "refresh-" + rand.Text()
	is.refresh[refresh] = subject
	now := is.now()
	claims := map[string]any{
		"iss": is.URL, "sub": subject, "iat": now.Unix(), "exp": now.Add(is.life).Unix(), "auth_time": now.Unix(),
		"email": subject + "@hospital.example", "external_provider_id": "D-" + subject,
	}
	with := func(more map[string]any) string {
		all := map[string]any{}
		for k, v := range claims {
			all[k] = v
		}
		for k, v := range more {
			all[k] = v
		}
		token, err := jwt.Signed(is.signer).Claims(all).Serialize()
		if err != nil {
			is.t.Error(err)
		}
		return token
	}
	access := with(map[string]any{"aud": testAudience, "jti": fmt.Sprint(is.serial)})
	is.issued = append(is.issued, access, refresh)
	answer := map[string]any{
		"access_token": access, "token_type": "Bearer",
		"expires_in": int(is.life.Seconds()), "refresh_token": refresh,
	}
	if is.stingy {
		delete(answer, "refresh_token")
		delete(is.refresh, refresh)
	}
	id := map[string]any{"aud": testClient}
	if nonce != "" {
		id["nonce"] = nonce
	}
	idToken := with(id)
	answer["id_token"], is.issued = idToken, append(is.issued, idToken)
	is.json(w, answer)
}

func (is *issuer) refuse(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant"})
}

func (is *issuer) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (is *issuer) set(change func(*issuer)) {
	is.mu.Lock()
	defer is.mu.Unlock()
	change(is)
}
