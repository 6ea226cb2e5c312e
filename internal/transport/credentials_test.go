package transport

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// one answers every question with a credential, and counts them.
type one struct {
	credential Credential
	asked      atomic.Int32
}

func (o *one) ProxyCredential(context.Context, string) (Credential, bool, error) {
	o.asked.Add(1)
	return o.credential, true, nil
}

// keyring is a stand-in for the person's; asked counts how often it was.
type keyring struct {
	stored map[string]Credential
	err    error
	asked  atomic.Int32
	hosts  []string
}

func (k *keyring) ProxyCredential(_ context.Context, host string) (Credential, bool, error) {
	k.asked.Add(1)
	k.hosts = append(k.hosts, host)
	c, found := k.stored[host]
	return c, found, k.err
}

func credential(user, password, stamp string) Credential {
	return Credential{User: secret.New(user), Password: secret.New(password), Stamp: stamp}
}

func someone() *one {
	return &one{credential: Credential{User: secret.New("ada"), Password: secret.New("canary"), Stamp: "1"}}
}

func TestAProxyThatTakesNoPasswordIsNamedAsSuchAndGetsNone(t *testing.T) {
	var shown atomic.Bool
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown.Store(shown.Load() || r.Header.Get(proxyAuthorization) != "")
		w.Header().Add(proxyAuthenticate, "Negotiate")
		w.Header().Add(proxyAuthenticate, "NTLM")
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(p.Close)
	k := someone()
	_, err := get(t, clientWithCredentials(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL}, k), name)
	wantCode(t, err, problem.ProxyAuthNeeded)
	if fact := problem.Of(err).Fact; fact != "The proxy wants a way of signing in that this program does not have." {
		t.Errorf("fact %q", fact)
	}
	if shown.Load() || k.asked.Load() != 0 {
		t.Error("the credential was asked for, or shown")
	}
}

func TestA407OfAServerNeverGetsTheProxysCredential(t *testing.T) {
	var shown atomic.Bool
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		shown.Store(shown.Load() || r.Header.Get(proxyAuthorization) != "")
		w.Header().Set(proxyAuthenticate, `Basic realm="x"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
	})
	proxy, _ := connectProxy(t, s.Listener.Addr().String(), "Basic YWRhOmNhbmFyeQ==")
	for _, rules := range []policy.Snapshot{{ProxyMode: "direct"}, {ProxyMode: "manual", ProxyURL: proxy.URL}} {
		rules.ExtraCAFile = caFile(t, s)
		address := s.URL
		if rules.ProxyURL != "" {
			address = name
		}
		_, err := get(t, clientWithCredentials(t, rules, someone()), address)
		wantCode(t, err, problem.ProxyAuthNeeded)
		if shown.Load() {
			t.Error("the server was shown the credential")
		}
	}
}

func TestARefusedCredentialIsSentAgainOnlyAfterALongTime(t *testing.T) {
	var guesses atomic.Int32
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(proxyAuthorization) != "" {
			guesses.Add(1)
		}
		w.Header().Set(proxyAuthenticate, `Basic realm="x"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(p.Close)
	c := clientWithCredentials(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL}, someone())
	var passed atomic.Int64
	start := time.Now()
	c.Transport.(*roundTripper).purse.now = func() time.Time { return start.Add(time.Duration(passed.Load())) }
	for range 4 {
		_, err := get(t, c, name)
		wantCode(t, err, problem.ProxyAuthNeeded)
		if text := err.Error() + problem.Of(err).LogValue().String(); strings.Contains(text, "canary") || strings.Contains(text, "YWRhOmNhbmFyeQ") {
			t.Errorf("it shows: %s", text)
		}
	}
	if guesses.Load() != 1 {
		t.Errorf("%d guesses, want 1", guesses.Load())
	}
	passed.Store(int64(refusalKept))
	_, err := get(t, c, name)
	wantCode(t, err, problem.ProxyAuthNeeded)
	if guesses.Load() != 2 {
		t.Errorf("%d guesses after a long time, want 2", guesses.Load())
	}
}

func clientWithCredentials(t *testing.T, p policy.Snapshot, k Credentials) *http.Client {
	t.Helper()
	c, err := NewClient(p, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestACredentialGoesToItsOwnProxyOnly(t *testing.T) {
	p := newPurse(nil)
	p.coins["proxy.hospital.example"] = &coin{credential: someone().credential}
	for address, want := range map[string]bool{
		"http://proxy.hospital.example:3128": true, "https://Proxy.Hospital.example": true,
		"http://other.hospital.example:3128": false, "http://proxy.hospital.example.evil.example": false,
	} {
		if got, err := p.connectHeader(t.Context(), mustURL(t, address), ""); err != nil || (got != nil) != want {
			t.Errorf("%s: %v, %v", address, got != nil, err)
		}
	}
}

func TestWhatAProxyWasGivenIsForgottenWhenThePersonLeaves(t *testing.T) {
	var tunnels atomic.Int32
	var given atomic.Value
	s := server(t, greeting)
	open, _ := connectProxy(t, s.Listener.Addr().String(), "")
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(proxyAuthorization) == "" {
			w.Header().Set(proxyAuthenticate, `Basic realm="x"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		tunnels.Add(1)
		given.Store(r.Header.Get(proxyAuthorization))
		open.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	k := &keyring{stored: map[string]Credential{"127.0.0.1": credential("ada", "canary", "1")}}
	c := clientWithCredentials(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL, ExtraCAFile: caFile(t, s)}, k)
	for range 2 {
		if _, err := get(t, c, name); err != nil {
			t.Fatal(err)
		}
	}
	ada := given.Load()
	ForgetCredentials(c)
	k.stored["127.0.0.1"] = credential("grace", "canary", "2")
	if _, err := get(t, c, name); err != nil || given.Load() == ada || tunnels.Load() != 2 {
		t.Errorf("the next person: %v, through %d tunnels, with ada's: %v", err, tunnels.Load(), given.Load() == ada)
	}
	ForgetCredentials(c)
	delete(k.stored, "127.0.0.1")
	_, err := get(t, c, name)
	wantCode(t, err, problem.ProxyAuthNeeded)
	ForgetCredentials(&http.Client{}) // one of another kind
}

func TestARefusedCredentialIsNotTriedAnewBecauseThePersonHasLeft(t *testing.T) {
	var guesses atomic.Int32
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(proxyAuthorization) != "" {
			guesses.Add(1)
		}
		w.Header().Set(proxyAuthenticate, `Basic realm="x"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(p.Close)
	c := clientWithCredentials(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: p.URL}, someone())
	for range 3 {
		_, err := get(t, c, name)
		wantCode(t, err, problem.ProxyAuthNeeded)
		ForgetCredentials(c)
	}
	if guesses.Load() != 1 {
		t.Errorf("%d guesses, want 1", guesses.Load())
	}
}
