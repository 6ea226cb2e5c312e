package nabla

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/problem"
)

const testClient = "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11"

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// vendor answers what a test tells it to; the strict peer is nablasim, against
// which orgserver's tests run this client.
type vendor struct {
	mu     sync.Mutex
	tokens int
	calls  []*http.Request
	bodies []string
	// answers are used up one by one; the last one stays.
	answers []func(w http.ResponseWriter)
	token   func(w http.ResponseWriter, n int)
}

func goodURL(w http.ResponseWriter) {
	body(w, http.StatusOK, `{"encounter_url":"https://app.nabla.example/open/x","more":1}`)
}

func body(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func status(n int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { body(w, n, `{"reason":"Kanarienvogel"}`) }
}

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	v.next(r, string(text))(w)
}

// next chooses the answer, which may take its time: nobody waits for it here.
func (v *vendor) next(r *http.Request, text string) func(http.ResponseWriter) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, tokenPath) {
		v.tokens++
		token, n := v.token, v.tokens
		return func(w http.ResponseWriter) {
			if token != nil {
				token(w, n)
				return
			}
			body(w, http.StatusOK, `{"access_token":"token-`+strconv.Itoa(n)+`","expires_in":300}`)
		}
	}
	v.calls = append(v.calls, r)
	v.bodies = append(v.bodies, text)
	answer := v.answers[0]
	if len(v.answers) > 1 {
		v.answers = v.answers[1:]
	}
	return answer
}

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type fixture struct {
	*vendor
	client *Client
	clock  *clock
	slept  []time.Duration
}

func newFixture(t *testing.T, answers ...func(http.ResponseWriter)) *fixture {
	t.Helper()
	f := &fixture{vendor: &vendor{answers: answers}, clock: &clock{t: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)}}
	server := httptest.NewServer(f.vendor)
	t.Cleanup(server.Close)
	var err error
	f.client, err = New(Config{
		BaseURL: server.URL + "/v1/connect/server", ClientID: testClient, Keys: []assertion.Key{{ID: "k1", Signer: ecKey(t)}}, Now: f.clock.now,
		Sleep: func(_ context.Context, d time.Duration) error { f.slept = append(f.slept, d); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func payload() CreatePayload {
	return CreatePayload{
		ProviderEmail: "ada@hospital.example", ExternalProviderID: "D-17", ExternalPatientID: "P-1", ExternalEncounterID: "E-1",
		StructuredContext: StructuredContext{Demographics{Name: "Grace", BirthDate: "1980-01-31", Gender: "female"}},
	}
}

func TestACreateIsTheDocumentedCall(t *testing.T) {
	f := newFixture(t, goodURL)
	target, err := f.client.Create(t.Context(), payload())
	if err != nil || target.Reveal() != "https://app.nabla.example/open/x" {
		t.Fatal(err)
	}
	r := f.calls[0]
	if r.Method != http.MethodPost || r.URL.Path != "/v1/connect/server/encounters" || r.URL.RawQuery != "" ||
		r.Header.Get("Authorization") != "Bearer token-1" || r.Header.Get("X-Nabla-Api-Version") != "2026-02-13" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
	}
	want := `{"provider_email":"ada@hospital.example","external_provider_id":"D-17","external_patient_id":"P-1","external_encounter_id":"E-1",` +
		`"structured_context":{"patient_demographics":{"name":"Grace","birth_date":"1980-01-31","gender":"female","pronouns":null}}}`
	if f.bodies[0] != want {
		t.Errorf("body %s", f.bodies[0])
	}
	if _, err := f.client.Refresh(t.Context(), "D-17", "E-1"); err != nil {
		t.Fatal(err)
	}
	if f.calls[1].URL.Path != "/v1/connect/server/encounters/url" || f.bodies[1] != `{"external_provider_id":"D-17","external_encounter_id":"E-1"}` {
		t.Errorf("%s %s", f.calls[1].URL, f.bodies[1])
	}
}

func TestEveryStatusBecomesItsProblem(t *testing.T) {
	create := func(c *Client) error { _, err := c.Create(t.Context(), payload()); return err }
	refresh := func(c *Client) error { _, err := c.Refresh(t.Context(), "D-17", "E-1"); return err }
	for name, c := range map[string]struct {
		call   func(*Client) error
		status int
		want   problem.Code
		calls  int
	}{
		"create 400":  {create, 400, problem.ContextIncomplete, 1},
		"create 422":  {create, 422, problem.ContextIncomplete, 1},
		"create 409":  {create, 409, problem.ProviderConflict, 1},
		"create 404":  {create, 404, problem.VendorUnavailable, 1},
		"create 403":  {create, 403, problem.VendorUnavailable, 1},
		"create 302":  {create, 302, problem.VendorUnavailable, 1},
		"create 401":  {create, 401, problem.VendorUnavailable, 2},
		"create 429":  {create, 429, problem.VendorUnavailable, 3},
		"create 503":  {create, 503, problem.VendorUnavailable, 3},
		"refresh 404": {refresh, 404, problem.EncounterUnknown, 1},
		"refresh 400": {refresh, 400, problem.VendorUnavailable, 1},
		"refresh 500": {refresh, 500, problem.VendorUnavailable, 3},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, status(c.status))
			err := c.call(f.client)
			if !problem.IsCode(err, c.want) || len(f.calls) != c.calls {
				t.Errorf("%v after %d calls", err, len(f.calls))
			}
			if strings.Contains(problem.Of(err).LogValue().String(), "Kanarienvogel") {
				t.Error("what the vendor wrote is passed on")
			}
		})
	}
}

func TestWhatMayPassIsTriedAgain(t *testing.T) {
	f := newFixture(t, status(503), func(w http.ResponseWriter) { w.Header().Set("Retry-After", "2"); status(429)(w) }, goodURL)
	if _, err := f.client.Create(t.Context(), payload()); err != nil {
		t.Fatal(err)
	}
	if len(f.slept) != 2 || f.slept[0] < firstWait/2 || f.slept[0] > firstWait*3/2 || f.slept[1] != 2*time.Second {
		t.Errorf("slept %v", f.slept)
	}
	f = newFixture(t, func(w http.ResponseWriter) { w.Header().Set("Retry-After", "60"); status(503)(w) })
	if _, err := f.client.Create(t.Context(), payload()); !problem.IsCode(err, problem.VendorUnavailable) || len(f.calls) != 1 {
		t.Errorf("a long wait was not told at once: %v, %d calls", err, len(f.calls))
	}
}

func TestARefusedTokenIsRenewedOnce(t *testing.T) {
	f := newFixture(t, status(401), goodURL)
	if _, err := f.client.Create(t.Context(), payload()); err != nil {
		t.Fatal(err)
	}
	if f.tokens != 2 || f.calls[1].Header.Get("Authorization") != "Bearer token-2" {
		t.Errorf("%d tokens", f.tokens)
	}
}

func TestATokenIsFetchedOnceForAllCallersAndAheadOfItsExpiry(t *testing.T) {
	f := newFixture(t, goodURL)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if _, err := f.client.Refresh(t.Context(), "D-17", "E-1"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if f.tokens != 1 {
		t.Errorf("%d tokens for 50 callers", f.tokens)
	}
	f.clock.advance(300*time.Second - expiryMargin)
	if _, err := f.client.Refresh(t.Context(), "D-17", "E-1"); err != nil || f.tokens != 2 {
		t.Errorf("%v, %d tokens", err, f.tokens)
	}
}

func TestATokenEndpointThatRefusesOrTalksNonsenseIsUnavailable(t *testing.T) {
	for name, token := range map[string]func(http.ResponseWriter, int){
		"refuses":         func(w http.ResponseWriter, _ int) { body(w, 401, `{"error":"invalid_client"}`) },
		"no token":        func(w http.ResponseWriter, _ int) { body(w, 200, `{"expires_in":300}`) },
		"no life":         func(w http.ResponseWriter, _ int) { body(w, 200, `{"access_token":"a"}`) },
		"a header's line": func(w http.ResponseWriter, _ int) { body(w, 200, `{"access_token":"a\r\nX: y","expires_in":300}`) },
		"HTML":            func(w http.ResponseWriter, _ int) { _, _ = io.WriteString(w, "<html>") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, goodURL)
			f.token = token
			if _, err := f.client.Create(t.Context(), payload()); !problem.IsCode(err, problem.VendorUnavailable) || f.tokens != 1 || len(f.calls) != 0 {
				t.Errorf("%v, %d tokens, %d calls", err, f.tokens, len(f.calls))
			}
		})
	}
	f := newFixture(t, goodURL)
	f.token = func(w http.ResponseWriter, n int) {
		if n < 3 {
			body(w, 503, `{}`)
			return
		}
		body(w, 200, `{"access_token":"a","expires_in":300}`)
	}
	if _, err := f.client.Create(t.Context(), payload()); err != nil || f.tokens != 3 {
		t.Errorf("%v, %d tokens", err, f.tokens)
	}
}

func TestAnAnswerThatCannotBeUsedIsRefused(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"http":     func(w http.ResponseWriter) { body(w, 200, `{"encounter_url":"http://app.nabla.example/x"}`) },
		"userinfo": func(w http.ResponseWriter) { body(w, 200, `{"encounter_url":"https://a:b@app.nabla.example/x"}`) },
		"no host":  func(w http.ResponseWriter) { body(w, 200, `{"encounter_url":"https:///x"}`) },
		"script":   func(w http.ResponseWriter) { body(w, 200, `{"encounter_url":"javascript:alert(1)"}`) },
		"no URL":   func(w http.ResponseWriter) { body(w, 200, `{}`) },
		"a number": func(w http.ResponseWriter) { body(w, 200, `{"encounter_url":5}`) },
		"not JSON": func(w http.ResponseWriter) { body(w, 200, `<html>`) },
		"HTML": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, `{"encounter_url":"https://app.nabla.example/x"}`)
		},
		"too large": func(w http.ResponseWriter) {
			body(w, 200, `{"encounter_url":"https://app.nabla.example/`+strings.Repeat("x", maxAnswerBytes)+`"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := newFixture(t, answer).client.Create(t.Context(), payload()); !problem.IsCode(err, problem.VendorUnavailable) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestARedirectIsNeverFollowed(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer other.Close()
	f := newFixture(t, func(w http.ResponseWriter) {
		w.Header().Set("Location", other.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	if _, err := f.client.Create(t.Context(), payload()); !problem.IsCode(err, problem.VendorUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestNeitherAnErrorNorItsCauseNamesAnAddress(t *testing.T) {
	f := newFixture(t, goodURL)
	f.client.line.transport = failingTransport{}
	_, err := f.client.Create(t.Context(), payload())
	text := problem.Of(err).LogValue().String()
	if !problem.IsCode(err, problem.VendorUnavailable) || !strings.Contains(text, "the network is gone") || strings.Contains(text, "http") {
		t.Errorf("%s", text)
	}
}

func TestNoFailureOfTheNetworkNamesAnAddress(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3), Port: 443}, Err: errors.New("connection refused")}
	for want, err := range map[string]error{
		"proxyconnect: dial: connection refused": &net.OpError{Op: "proxyconnect", Net: "tcp", Err: refused},
		"dial: connection refused":               &url.Error{Op: "Post", URL: "https://10.1.2.3/", Err: refused},
		"its name cannot be resolved":            &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "10.1.2.3.example"}},
		"context deadline exceeded":              &url.Error{Op: "Post", URL: "https://10.1.2.3/", Err: context.DeadlineExceeded},
		"unexpected EOF":                         io.ErrUnexpectedEOF,
	} {
		if got := withoutAddress(err); got.Error() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
}

type failingTransport struct{}

func (failingTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("the network is gone")
}

func TestACallerWhoGoesAwayEndsOnlyItsOwnCall(t *testing.T) {
	f := newFixture(t, goodURL)
	entered, release := make(chan struct{}), make(chan struct{})
	f.token = func(w http.ResponseWriter, _ int) {
		close(entered)
		<-release
		body(w, 200, `{"access_token":"a","expires_in":300}`)
	}
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := f.client.Create(ctx, payload()); first <- err }()
	<-entered
	go func() { _, err := f.client.Create(context.WithoutCancel(ctx), payload()); second <- err }()
	cancel()
	if err := <-first; !problem.IsCode(err, problem.Cancelled) {
		t.Errorf("the one who went: %v", err)
	}
	close(release)
	if err := <-second; err != nil {
		t.Errorf("the one who stayed: %v", err)
	}
	if f.tokens != 1 {
		t.Errorf("%d tokens", f.tokens)
	}
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	rsaShort, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := func() Config {
		return Config{Region: "eu", ClientID: testClient, Keys: []assertion.Key{{Signer: ecKey(t)}}}
	}
	if c, err := New(good()); err != nil || c.base != "https://eu.api.nabla.com/v1/connect/server" {
		t.Fatalf("%v", err)
	}
	for name, change := range map[string]func(*Config){
		"two addresses":  func(c *Config) { c.BaseURL = "https://x.example" },
		"no address":     func(c *Config) { c.Region = "" },
		"another region": func(c *Config) { c.Region = "ch" },
		"http":           func(c *Config) { c.Region, c.BaseURL = "", "http://x.example" },
		"a slash":        func(c *Config) { c.Region, c.BaseURL = "", "https://x.example/" },
		"localhost":      func(c *Config) { c.Region, c.BaseURL = "", "http://localhost:1" },
		"no UUID":        func(c *Config) { c.ClientID = "client" },
		"no date":        func(c *Config) { c.Version = "latest" },
		"no date either": func(c *Config) { c.UsersVersion = "latest" },
		"no key":         func(c *Config) { c.Keys = nil },
		"an empty key":   func(c *Config) { c.Keys = []assertion.Key{{}} },
		"a short key":    func(c *Config) { c.Keys = []assertion.Key{{Signer: rsaShort}} },
		"P-384":          func(c *Config) { c.Keys = []assertion.Key{{Signer: p384}} },
		"one key twice":  func(c *Config) { c.Keys = append(c.Keys, c.Keys[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			c := good()
			change(&c)
			if _, err := New(c); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// sealed is a key whose private part cannot be had, as in a hardware module.
type sealed struct{ crypto.Signer }

func TestAKeyInAHardwareModuleSignsAndIsPublished(t *testing.T) {
	f := newFixture(t, goodURL)
	next := ecKey(t)
	c, err := New(Config{BaseURL: f.client.base, ClientID: testClient, Keys: []assertion.Key{{ID: "hsm", Signer: sealed{ecKey(t)}}, {ID: "next", Signer: next}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), payload()); err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(c.JWKS(), &set); err != nil || len(set.Keys) != 2 || set.Keys[0]["kid"] != "hsm" || set.Keys[0]["alg"] != "ES256" || set.Keys[1]["kid"] != "next" {
		t.Errorf("%s", c.JWKS())
	}
	for _, k := range set.Keys {
		if _, private := k["d"]; private {
			t.Error("a private key is published")
		}
	}
}
