package signin

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	clientID  = "launcher"
	plantSub  = "sub-1"
	plantMail = "dr.canary@hospital.example"
)

// signingKey is made once: making RSA keys is most of what these tests would do.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// issuer is an OpenID provider that keeps to the letter what a provider may
// demand, and breaks what a test wants broken.
type issuer struct {
	*httptest.Server
	t     *testing.T
	clock *clock

	mu         sync.Mutex
	codes      map[string]url.Values // by code: the authorization request
	refresh    map[string]*family    // every token ever issued, by value
	authorized []url.Values
	exchanged  []url.Values
	revoked    []url.Values
	hits       map[string]int

	// What a test wants otherwise; nil means as it should be.
	document func(map[string]any)
	claims   func(map[string]any)
	sign     func(claims []byte) string
	answer   func(map[string]any)
	redirect func(url.Values)
	take     map[string]http.HandlerFunc // by path, instead of the real handler
}

// family is the line of tokens that one sign-in began. A token of the line that
// is used twice ends the whole line (RFC 9700 §4.14.2).
type family struct {
	current string
	dead    bool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := unstarted(t)
	i.StartTLS()
	return i
}

func unstarted(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{
		t: t, clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, codes: map[string]url.Values{}, refresh: map[string]*family{},
		hits: map[string]int{}, take: map[string]http.HandlerFunc{},
	}
	i.Server = httptest.NewUnstartedServer(i)
	i.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.hits[r.URL.Path]++
	take := i.take[r.URL.Path]
	i.mu.Unlock()
	switch {
	case take != nil:
		take(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		i.serveDocument(w)
	case r.URL.Path == "/keys":
		i.json(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: signingKey().Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	case r.URL.Path == "/authorize":
		i.serveAuthorize(w, r)
	case r.URL.Path == "/token" && r.Method == http.MethodPost:
		i.serveToken(w, r)
	case r.URL.Path == "/revoke" && r.Method == http.MethodPost:
		if form, ok := i.form(w, r); ok {
			i.mu.Lock()
			i.revoked = append(i.revoked, form)
			i.mu.Unlock()
		}
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

func (i *issuer) serveDocument(w http.ResponseWriter) {
	d := map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
		"revocation_endpoint": i.URL + "/revoke", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"}, "code_challenge_methods_supported": []string{"S256"},
		"authorization_response_iss_parameter_supported": true,
	}
	if i.document != nil {
		i.document(d)
	}
	i.json(w, d)
}

func (i *issuer) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	redirect, err := url.Parse(q.Get("redirect_uri"))
	switch {
	case !once(q):
		i.t.Error("a parameter of the authorization request stands twice")
	case q.Get("response_type") != "code" || q.Get("client_id") != clientID:
		i.t.Errorf("response_type %q, client_id %q", q.Get("response_type"), q.Get("client_id"))
	case !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		i.t.Errorf("scope %q", q.Get("scope"))
	case err != nil || redirect.Scheme != "http" || redirect.Hostname() != "127.0.0.1" || redirect.Port() == "" || redirect.Path != "/callback" || redirect.RawQuery != "":
		i.t.Errorf("redirect_uri %q", q.Get("redirect_uri"))
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43:
		i.t.Errorf("challenge %q by %q", q.Get("code_challenge"), q.Get("code_challenge_method"))
	case len(q.Get("state")) < 22 || len(q.Get("nonce")) < 22 || q.Get("state") == q.Get("nonce"):
		i.t.Error("state and nonce should be long and different")
	}
	code := "canary-code-" + rand.Text()
	back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {i.URL}}
	i.mu.Lock()
	i.authorized = append(i.authorized, q)
	i.codes[code] = q
	i.mu.Unlock()
	if i.redirect != nil {
		i.redirect(back)
	}
	redirect.RawQuery = back.Encode()
	http.Redirect(w, r, redirect.String(), http.StatusFound)
}

func (i *issuer) form(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	body, err := io.ReadAll(r.Body)
	form, err2 := url.ParseQuery(string(body))
	if err != nil || err2 != nil || !once(form) || form.Get("client_id") != clientID || form.Has("client_secret") || r.Header.Get("Authorization") != "" ||
		r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" {
		i.refuse(w, "invalid_request")
		return nil, false
	}
	return form, true
}

func once(v url.Values) bool {
	for _, values := range v {
		if len(values) != 1 {
			return false
		}
	}
	return true
}

func (i *issuer) refuse(w http.ResponseWriter, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "canary description https://canary.example"})
}

func (i *issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	form, ok := i.form(w, r)
	if !ok {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.exchanged = append(i.exchanged, form)
	var nonce string
	line := &family{}
	switch form.Get("grant_type") {
	case "authorization_code":
		request, found := i.codes[form.Get("code")]
		delete(i.codes, form.Get("code"))
		sum := sha256.Sum256([]byte(form.Get("code_verifier")))
		if !found || len(form.Get("code_verifier")) < 43 || base64.RawURLEncoding.EncodeToString(sum[:]) != request.Get("code_challenge") ||
			form.Get("redirect_uri") != request.Get("redirect_uri") || form.Get("resource") != request.Get("resource") || form.Has("audience") {
			i.refuse(w, "invalid_grant")
			return
		}
		nonce = request.Get("nonce")
	case "refresh_token":
		line = i.refresh[form.Get("refresh_token")]
		if line == nil || line.dead || form.Has("code") || form.Has("redirect_uri") {
			i.refuse(w, "invalid_grant")
			return
		}
		if line.current != form.Get("refresh_token") {
			line.dead = true
			i.refuse(w, "invalid_grant")
			return
		}
	default:
		i.refuse(w, "unsupported_grant_type")
		return
	}
	access := "canary-access-" + rand.Text()
	line.current = "canary-refresh-" + rand.Text()
	i.refresh[line.current] = line
	sum := sha256.Sum256([]byte(access))
	claims := map[string]any{
		"iss": i.URL, "sub": plantSub, "aud": clientID, "email": plantMail, "email_verified": true,
		"iat": i.clock.Now().Unix(), "exp": i.clock.Now().Add(5 * time.Minute).Unix(), "auth_time": i.clock.Now().Unix(),
		"at_hash": base64.RawURLEncoding.EncodeToString(sum[:16]),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if i.claims != nil {
		i.claims(claims)
	}
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		i.t.Error(err)
	}
	sign := i.sign
	if sign == nil {
		sign = func(payload []byte) string { return signedBy(i.t, jose.RS256, signingKey(), "k1", payload) }
	}
	answer := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 600, "refresh_token": line.current, "id_token": sign(payload)}
	if i.answer != nil {
		i.answer(answer)
	}
	maps.DeleteFunc(answer, func(_ string, v any) bool { return v == nil })
	w.Header().Set("Cache-Control", "no-store")
	i.json(w, answer)
}

func signedBy(t *testing.T, algorithm jose.SignatureAlgorithm, key any, kid string, payload []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid))
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (i *issuer) lastAuthorized() url.Values {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.authorized) == 0 {
		return nil
	}
	return i.authorized[len(i.authorized)-1]
}

func (i *issuer) lastExchanged() url.Values {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.exchanged) == 0 {
		return nil
	}
	return i.exchanged[len(i.exchanged)-1]
}

func (i *issuer) exchanges() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.exchanged)
}

func (i *issuer) revocations() []url.Values {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.revoked)
}

func (i *issuer) hit(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.hits[path]
}

func (i *issuer) setTake(path string, h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.take[path] = h
}

// clock is time that only a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// visit is one address that the browser loaded.
type visit struct {
	address string
	status  int
	header  http.Header
	body    string
	closes  bool // the server ends the connection with this answer
}

// browser follows the page's redirects and keeps what it saw.
type browser struct {
	client *http.Client
	mu     sync.Mutex
	visits []visit
	closed chan struct{}
}

func newBrowser(i *issuer) *browser {
	c := *i.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{client: &c, closed: make(chan struct{})}
}

// show is the show of SignIn: it opens the page and stays until the last one.
func (b *browser) show(ctx context.Context, p Page) error {
	defer close(b.closed)
	address := p.Address.Reveal()
	for range 6 {
		v, err := b.load(address)
		if err != nil {
			return nil // the port may be closed: that is for the test to judge
		}
		next := v.header.Get("Location")
		if next == "" {
			return nil
		}
		base, err := url.Parse(address)
		if err != nil {
			return err
		}
		to, err := base.Parse(next)
		if err != nil {
			return err
		}
		address = to.String()
	}
	return nil
}

func (b *browser) load(address string) (visit, error) {
	// Not the sign-in's context: a browser's tab lives on when that has ended.
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return visit{}, err
	}
	answer, err := b.client.Do(r)
	if err != nil {
		return visit{}, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	v := visit{address, answer.StatusCode, answer.Header, string(body), answer.Close}
	b.mu.Lock()
	b.visits = append(b.visits, v)
	b.mu.Unlock()
	return v, err
}

func (b *browser) last() visit {
	<-b.closed
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.visits) == 0 {
		return visit{}
	}
	return b.visits[len(b.visits)-1]
}

func configOf(i *issuer) Config {
	return Config{Issuer: i.URL, ClientID: clientID, MaxAge: -1, HTTP: i.Client(), Now: i.clock.Now}
}

// signIn signs in with a browser of its own.
func signIn(t *testing.T, i *issuer, c *Client) (Grant, *browser, error) {
	t.Helper()
	b := newBrowser(i)
	g, err := c.SignIn(t.Context(), b.show)
	return g, b, err
}
