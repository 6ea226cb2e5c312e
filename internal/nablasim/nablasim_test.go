package nablasim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	testClient = "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11"
	goodCreate = `{"provider_email":"ada@hospital.example","external_provider_id":"D-17","external_patient_id":"P-1","external_encounter_id":"E-1",` +
		`"structured_context":{"patient_demographics":{"name":"Grace","birth_date":"1980-01-31","gender":"female","pronouns":null}},"unstructured_context":null}`
)

type fixture struct {
	t    *testing.T
	mu   sync.Mutex
	time time.Time
	sim  *Sim
	url  string
	key  *ecdsa.PrivateKey
	keys []jose.JSONWebKey // what the client publishes
	log  bytes.Buffer
	jti  int
}

func (f *fixture) now() time.Time { f.mu.Lock(); defer f.mu.Unlock(); return f.time }
func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.time = f.time.Add(d)
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, key: key, time: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)}
	f.keys = []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k1", Algorithm: "ES256", Use: "sig"}}
	jwks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: f.keys})
	}))
	t.Cleanup(jwks.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.sim.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	f.url = server.URL
	f.sim, err = New(Config{
		BaseURL: f.url + "/v1/connect/server", Now: f.now, Clients: map[string]Client{testClient: {JWKSURL: jwks.URL}},
		Log: slog.New(slog.NewTextHandler(&f.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// claims of a good assertion with changes laid over them; nil removes one.
func (f *fixture) claims(changes map[string]any) map[string]any {
	f.jti++
	c := map[string]any{
		"iss": testClient, "sub": testClient, "aud": f.sim.tokenEndpoint, "iat": f.now().Unix(),
		"exp": f.now().Add(time.Minute).Unix(), "jti": "jti-" + strconv.Itoa(f.jti),
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

func (f *fixture) sign(alg jose.SignatureAlgorithm, key any, kid string, claims any) string {
	f.t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		f.t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

func (f *fixture) assertion(changes map[string]any) string {
	return f.sign(jose.ES256, f.key, "k1", f.claims(changes))
}

type reply struct {
	status int
	header http.Header
	text   string
}

func (f *fixture) send(method, path, body string, header map[string]string) reply {
	f.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = f.url + "/v1/connect/server" + path
	}
	r, err := http.NewRequestWithContext(f.t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if response.Header.Get("Cache-Control") != "no-store" {
		f.t.Error("an answer may be stored")
	}
	got := reply{response.StatusCode, response.Header, string(text)}
	if below, ours := strings.CutPrefix(r.URL.Path, "/v1/connect/server"); ours {
		held(f.t, protocolDoc, method, below, []byte(body), got)
	}
	return got
}

func (f *fixture) ask(assertion string) reply {
	body, _ := json.Marshal(map[string]string{"grant_type": "client_credentials", "client_assertion_type": assertionType, "client_assertion": assertion})
	return f.send(http.MethodPost, "/oauth/token", string(body), nil)
}

func (f *fixture) token() string {
	f.t.Helper()
	got := f.ask(f.assertion(nil))
	var a tokenAnswer
	if err := json.Unmarshal([]byte(got.text), &a); err != nil || got.status != http.StatusOK || a.ExpiresIn <= 0 {
		f.t.Fatalf("%d %s", got.status, got.text)
	}
	return a.AccessToken
}

func (f *fixture) call(token, path, body string) reply {
	return f.send(http.MethodPost, path, body, map[string]string{"Authorization": "Bearer " + token, VersionHeader: "2026-02-13"})
}

func (f *fixture) page(got reply) string {
	f.t.Helper()
	var a encounterURL
	if err := json.Unmarshal([]byte(got.text), &a); err != nil || got.status != http.StatusOK || a.EncounterURL == "" {
		f.t.Fatalf("%d %s", got.status, got.text)
	}
	return a.EncounterURL
}

func TestAnAssertionIsRefusedForEveryFault(t *testing.T) {
	f := newFixture(t)
	now := f.now()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&f.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	good := f.assertion(nil)
	for name, assertion := range map[string]string{
		"not a JWT":             "abc",
		"unknown client":        f.assertion(map[string]any{"iss": "x", "sub": "x"}),
		"sub is not iss":        f.assertion(map[string]any{"sub": "x"}),
		"aud is the base":       f.assertion(map[string]any{"aud": f.url + "/v1/connect/server"}),
		"two audiences":         f.assertion(map[string]any{"aud": []string{f.sim.tokenEndpoint, "x"}}),
		"no exp":                f.assertion(map[string]any{"exp": nil}),
		"no iat":                f.assertion(map[string]any{"iat": nil}),
		"no jti":                f.assertion(map[string]any{"jti": nil}),
		"expired":               f.assertion(map[string]any{"exp": now.Unix(), "iat": now.Add(-time.Minute).Unix()}),
		"six minutes":           f.assertion(map[string]any{"exp": now.Add(6 * time.Minute).Unix()}),
		"a long life half over": f.assertion(map[string]any{"iat": now.Add(-4 * time.Minute).Unix(), "exp": now.Add(4 * time.Minute).Unix()}),
		"iat in the future":     f.assertion(map[string]any{"iat": now.Add(2 * time.Minute).Unix(), "exp": now.Add(3 * time.Minute).Unix()}),
		"nbf in the future":     f.assertion(map[string]any{"nbf": now.Add(2 * time.Minute).Unix()}),
		"another's key":         f.sign(jose.ES256, other, "k1", f.claims(nil)),
		"unknown kid":           f.sign(jose.ES256, f.key, "k2", f.claims(nil)),
		"no kid":                f.sign(jose.ES256, f.key, "", f.claims(nil)),
		"HMAC by the key":       f.sign(jose.HS256, public, "k1", f.claims(nil)),
		"another algorithm":     f.sign(jose.RS256, rsaKey, "k1", f.claims(nil)),
		"PS256":                 f.sign(jose.PS256, rsaKey, "k1", f.claims(nil)),
		"signature cut":         good[:len(good)-4],
	} {
		t.Run(name, func(t *testing.T) {
			got := f.ask(assertion)
			if got.status != http.StatusUnauthorized || !strings.Contains(got.text, `"invalid_client"`) {
				t.Errorf("%d %s", got.status, got.text)
			}
		})
	}
	// Only now is the good one used up, and its replay is refused.
	if got := f.ask(good); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.text)
	}
	if got := f.ask(good); got.status != http.StatusUnauthorized || !strings.Contains(got.text, "jti") {
		t.Errorf("replay: %d %s", got.status, got.text)
	}
}

func TestATokenRequestIsReadByTheLetter(t *testing.T) {
	f := newFixture(t)
	for name, c := range map[string]struct {
		body, contentType string
		status            int
	}{
		"a form":            {"grant_type=client_credentials", "application/x-www-form-urlencoded", 415},
		"another grant":     {`{"grant_type":"password","client_assertion_type":"` + assertionType + `","client_assertion":"a"}`, "", 400},
		"another assertion": {`{"grant_type":"client_credentials","client_assertion_type":"saml","client_assertion":"a"}`, "", 400},
		"a field missing":   {`{"grant_type":"client_credentials"}`, "", 400},
		"a field too many":  {`{"grant_type":"client_credentials","client_assertion_type":"` + assertionType + `","client_assertion":"a","client_id":"b"}`, "", 400},
	} {
		t.Run(name, func(t *testing.T) {
			header := map[string]string{}
			if c.contentType != "" {
				header["Content-Type"] = c.contentType
			}
			if got := f.send(http.MethodPost, "/oauth/token", c.body, header); got.status != c.status {
				t.Errorf("%d %s", got.status, got.text)
			}
		})
	}
}

func TestKeysRotateWithoutDowntime(t *testing.T) {
	f := newFixture(t)
	f.token()
	next, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.keys = append(f.keys, jose.JSONWebKey{Key: &next.PublicKey, KeyID: "k2", Algorithm: "ES256"})
	f.advance(jwksRefetch)
	if got := f.ask(f.sign(jose.ES256, next, "k2", f.claims(nil))); got.status != http.StatusOK {
		t.Errorf("the new key: %d %s", got.status, got.text)
	}
	if got := f.ask(f.assertion(nil)); got.status != http.StatusOK {
		t.Errorf("the old key: %d %s", got.status, got.text)
	}
}

func TestAStaticKeyMeansRS256Only(t *testing.T) {
	f := newFixture(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	f.sim, err = New(Config{BaseURL: f.url + "/v1/connect/server", Now: f.now, Clients: map[string]Client{
		testClient: {PublicKeyPEM: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.ask(f.sign(jose.RS256, key, "any", f.claims(nil))); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := f.ask(f.assertion(nil)); got.status != http.StatusUnauthorized {
		t.Errorf("ES256: %d %s", got.status, got.text)
	}
}

func TestACallNeedsALivingTokenAndAKnownVersion(t *testing.T) {
	f := newFixture(t)
	token := f.token()
	for name, header := range map[string]map[string]string{
		"none": {}, "another": {"Authorization": "Bearer x"}, "basic": {"Authorization": "Basic " + token}, "empty": {"Authorization": "Bearer "},
	} {
		if got := f.send(http.MethodPost, "/encounters", goodCreate, header); got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	with := func(path, version, kind string) int {
		h := map[string]string{"Authorization": "Bearer " + token}
		if version != "" {
			h[VersionHeader] = version
		}
		if kind != "" {
			h["Content-Type"] = kind
		}
		return f.send(http.MethodPost, path, goodCreate, h).status
	}
	for _, c := range []struct {
		path, version, kind string
		want                int
	}{
		{"/encounters", "", "", 200},
		{"/encounters", "2026-03-23", "", 200},
		{"/encounters", "2025-01-01", "", 400},
		{"/encounters?nabla-api-version=2026-02-13", "", "", 200},
		{"/encounters?nabla-api-version=2026-02-13", "2026-03-23", "", 400},
		{"/encounters?nabla-api-version=new", "", "", 400},
		{"/encounters", "", "text/plain", 415},
		{"/encounters", "", "application/json; charset=utf-8", 200},
		{"/encounter", "", "", 200},
		{"/nothing", "", "", 404},
	} {
		if got := with(c.path, c.version, c.kind); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if got := f.send(http.MethodGet, "/encounters", "", nil); got.status != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", got.status)
	}
	f.advance(defaultTokenLife)
	if got := with("/encounters", "", ""); got != http.StatusUnauthorized {
		t.Errorf("an expired token: %d", got)
	}
}

func TestAPayloadIsReadByTheLetter(t *testing.T) {
	f := newFixture(t)
	token := f.token()
	swap := func(old, replacement string) string {
		if !strings.Contains(goodCreate, old) {
			t.Fatalf("%s is not in the payload", old)
		}
		return strings.Replace(goodCreate, old, replacement, 1)
	}
	for name, c := range map[string]struct {
		body, reason string // no reason: accepted
	}{
		"good":                     {goodCreate, ""},
		"no unstructured context":  {swap(`,"unstructured_context":null`, ``), ""},
		"700 characters":           {swap(`"unstructured_context":null`, `"unstructured_context":"`+strings.Repeat("é", 700)+`"`), ""},
		"pronouns":                 {swap(`"pronouns":null`, `"pronouns":"they/them"`), ""},
		"256 characters":           {swap(`"E-1"`, `"`+strings.Repeat("é", 256)+`"`), ""},
		"701 characters":           {swap(`"unstructured_context":null`, `"unstructured_context":"`+strings.Repeat("é", 701)+`"`), "longer than 700"},
		"an id of 257":             {swap(`"D-17"`, `"`+strings.Repeat("é", 257)+`"`), "longer than 256"},
		"an unknown field":         {swap(`{"provider_email"`, `{"x":1,"provider_email"`), "unknown field"},
		"an unknown field inside":  {swap(`{"name"`, `{"x":"y","name"`), "unknown field in structured_context.patient_demographics"},
		"a path for a name":        {swap(`"structured_context":{`, `"structured_context.patient_demographics":{"name":"x"},"structured_context":{`), "unknown field"},
		"capitals":                 {swap(`"provider_email"`, `"Provider_Email"`), "unknown field"},
		"no e-mail":                {swap(`"provider_email":"ada@hospital.example",`, ``), "provider_email is missing"},
		"e-mail without at":        {swap(`ada@hospital`, `ada`), "not an e-mail address"},
		"an empty id":              {swap(`"E-1"`, `""`), "external_encounter_id is empty"},
		"a number for an id":       {swap(`"E-1"`, `1`), "wrong type"},
		"null for an id":           {swap(`"E-1"`, `null`), "may not be null"},
		"no pronouns":              {swap(`,"pronouns":null`, ``), "pronouns is missing"},
		"a list for pronouns":      {swap(`"pronouns":null`, `"pronouns":["they"]`), "wrong type"},
		"null for the context":     {swap(`{"patient_demographics":{"name":"Grace","birth_date":"1980-01-31","gender":"female","pronouns":null}}`, `null`), "may not be null"},
		"text for the context":     {swap(`{"patient_demographics":{"name":"Grace","birth_date":"1980-01-31","gender":"female","pronouns":null}}`, `"x"`), "wrong type"},
		"the legacy format":        {`{"provider_email":"a@b","external_provider_id":"D-17","external_patient_id":"P-1","external_encounter_id":"E-1","unstructured_context":"text"}`, "structured_context is missing"},
		"the same field twice":     {swap(`"external_encounter_id":"E-1"`, `"external_encounter_id":"E-1","external_encounter_id":"E-1"`), "twice"},
		"something behind it":      {goodCreate + "{}", "follows"},
		"cut off":                  {goodCreate[:len(goodCreate)-3], "not JSON"},
		"an array":                 {"[]", "not a JSON object"},
		"empty":                    {"", "not a JSON object"},
		"bytes that are not UTF-8": {swap("Grace", "Gr\xffce"), "not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.call(token, "/encounters", c.body)
			var r refusal
			if c.reason == "" {
				f.page(got)
				return
			}
			if err := json.Unmarshal([]byte(got.text), &r); err != nil || got.status != http.StatusBadRequest || !strings.Contains(r.Reason, c.reason) {
				t.Errorf("%d %s", got.status, got.text)
			}
		})
	}
	if got := f.call(token, "/encounters", `"`+strings.Repeat("x", maxBodyBytes)+`"`); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("more than 1 MiB: %d", got.status)
	}
}

func TestAnEMailAddressAndAnIDBelongTogether(t *testing.T) {
	f := newFixture(t)
	token := f.token()
	f.page(f.call(token, "/encounters", goodCreate))
	f.page(f.call(token, "/encounters", strings.Replace(goodCreate, "ada@", "Ada@", 1)))
	for _, other := range []string{strings.Replace(goodCreate, "ada@", "eve@", 1), strings.Replace(goodCreate, "D-17", "D-18", 1)} {
		if got := f.call(token, "/encounters", other); got.status != http.StatusConflict {
			t.Errorf("%d %s", got.status, got.text)
		}
	}
}

func TestAnEncounterKeepsItsPatient(t *testing.T) {
	f := newFixture(t)
	token := f.token()
	f.page(f.call(token, "/encounters", goodCreate))
	if got := f.call(token, "/encounters", strings.Replace(goodCreate, "P-1", "P-2", 1)); got.status != http.StatusBadRequest || !strings.Contains(got.text, "another external_patient_id") {
		t.Errorf("%d %s", got.status, got.text)
	}
	f.page(f.call(token, "/encounters", strings.NewReplacer("ada@", "ben@", "D-17", "D-18").Replace(goodCreate)))
}

func TestAnEncounterIsRefreshedByItsClinicianOnly(t *testing.T) {
	f := newFixture(t)
	token := f.token()
	first := f.page(f.call(token, "/encounters", goodCreate))
	ids := func(provider, encounter string) string {
		return `{"external_provider_id":"` + provider + `","external_encounter_id":"` + encounter + `"}`
	}
	for _, path := range []string{"/encounters/url", "/encounter/url"} {
		if fresh := f.page(f.call(token, path, ids("D-17", "E-1"))); fresh == first {
			t.Error("the same URL twice")
		}
	}
	for _, body := range []string{ids("D-17", "E-2"), ids("D-18", "E-1")} {
		if got := f.call(token, "/encounters/url", body); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", body, got.status)
		}
	}
	if got := f.call(token, "/encounters/url", `{"external_provider_id":"D-17"}`); got.status != http.StatusBadRequest {
		t.Errorf("%d", got.status)
	}
}

func TestAPageOpensOnceAndForTenMinutes(t *testing.T) {
	f := newFixture(t)
	create := func() string { return f.page(f.call(f.token(), "/encounters", goodCreate)) }
	address := create()
	if got := f.send(http.MethodHead, address, "", nil); got.status != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %d", got.status)
	}
	if got := f.send(http.MethodPost, address, "", nil); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", got.status)
	}
	got := f.send(http.MethodGet, address, "", nil)
	for _, want := range []string{"<h1>Encounter E-1</h1>", `data-encounter="E-1"`, `data-provider="D-17"`, "ada@hospital.example", `lang="en"`} {
		if got.status != http.StatusOK || !strings.Contains(got.text, want) {
			t.Errorf("%d, the page lacks %s", got.status, want)
		}
	}
	if strings.Contains(got.text, "Grace") || strings.Contains(got.text, "P-1") {
		t.Error("the page shows the patient")
	}
	if csp := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || got.header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%v", got.header)
	}
	if got := f.send(http.MethodGet, address, "", nil); got.status != http.StatusGone || !strings.Contains(got.text, `data-refused="spent"`) || strings.Contains(got.text, "E-1") {
		t.Errorf("again: %d %s", got.status, got.text)
	}
	if o := f.sim.Opened(); len(o) != 1 || o[0] != (Opening{"E-1", "D-17", "ada@hospital.example", "Grace", f.now()}) {
		t.Errorf("%+v", o)
	}

	address = create()
	f.advance(PageLife - time.Second)
	if got := f.send(http.MethodGet, address, "", nil); got.status != http.StatusOK {
		t.Errorf("in its last second: %d", got.status)
	}
	address = create()
	f.advance(PageLife)
	if got := f.send(http.MethodGet, address, "", nil); got.status != http.StatusGone || !strings.Contains(got.text, `data-refused="expired"`) {
		t.Errorf("after ten minutes: %d", got.status)
	}
	f.advance(keepSpent)
	create()
	if got := f.send(http.MethodGet, address, "", nil); got.status != http.StatusNotFound {
		t.Errorf("long after: %d", got.status)
	}
}

func TestOfManyVisitorsOneOpensThePage(t *testing.T) {
	f := newFixture(t)
	address := f.page(f.call(f.token(), "/encounters", goodCreate))
	statuses := make(chan int, 32)
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
			if response, err := http.DefaultClient.Do(r); err == nil {
				_ = response.Body.Close()
				statuses <- response.StatusCode
			}
		})
	}
	group.Wait()
	close(statuses)
	count := map[int]int{}
	for s := range statuses {
		count[s]++
	}
	if count[http.StatusOK] != 1 || count[http.StatusGone] != 31 {
		t.Errorf("%v", count)
	}
}

func TestMarkupInAnIDStaysText(t *testing.T) {
	f := newFixture(t)
	got := f.send(http.MethodGet, f.page(f.call(f.token(), "/encounters", strings.Replace(goodCreate, `"E-1"`, `"<script>\"'&"`, 1))), "", nil)
	if strings.Contains(got.text, "<script>") || !strings.Contains(got.text, "&lt;script&gt;") {
		t.Errorf("%s", got.text)
	}
}

func TestTheLogHoldsNoIDsURLsOrTokens(t *testing.T) {
	f := newFixture(t)
	token := f.token()
	address := f.page(f.call(token, "/encounters", goodCreate))
	f.send(http.MethodGet, address, "", nil)
	f.call(token+"x", "/encounters", goodCreate)
	f.call(token, "/encounters", strings.Replace(goodCreate, "{", `{"Grace": 1, `, 1))
	log := f.log.String()
	if !strings.Contains(log, "status=200") || !strings.Contains(log, `status=401 reason="the bearer token is unknown or expired"`) || strings.Count(log, "reason=") != 2 {
		t.Fatalf("it does not say what was answered, and why: %s", log)
	}
	for _, secret := range []string{"E-1", "P-1", "D-17", "ada@", "Grace", token, address[strings.LastIndex(address, "/")+1:]} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}
