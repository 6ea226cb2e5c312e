package agent

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/transport"
)

// refusing is a keyring that answers every call in the same way.
type refusing struct{ err error }

func (r refusing) Get(string, string) (string, error) { return "", r.err }
func (r refusing) Set(string, string, string) error   { return r.err }
func (r refusing) Delete(string, string) error        { return r.err }

func TestAProxysCredentialComesFromTheKeyringAndSetAnewItIsAnother(t *testing.T) {
	store := func(k tokenstore.Keyring) *tokenstore.Store {
		return tokenstore.New(k, "test", filepath.Join(t.TempDir(), "lock"), 0)
	}
	s := store(tokenstore.Memory())
	asked := proxyCredentials{s}
	if _, found, err := asked.ProxyCredential(t.Context(), "proxy"); found || err != nil {
		t.Errorf("nothing is stored: %v, %v", found, err)
	}
	var stamps []string
	for range 2 {
		// A clock of Windows stands still for some milliseconds; nobody types that fast.
		for before := time.Now().Round(0); !time.Now().Round(0).After(before); {
			runtime.Gosched()
		}
		if err := s.SetProxyCredential(t.Context(), "proxy", secret.New("ada"), secret.New("right")); err != nil {
			t.Fatal(err)
		}
		c, found, err := asked.ProxyCredential(t.Context(), "proxy")
		if err != nil || !found || c.User.Reveal() != "ada" || c.Password.Reveal() != "right" {
			t.Fatalf("got %v, %v", found, err)
		}
		stamps = append(stamps, c.Stamp)
	}
	if stamps[0] == stamps[1] {
		t.Error("the same credential set anew should count as another")
	}
	if _, found, err := (proxyCredentials{store(refusing{tokenstore.ErrUnavailable})}).ProxyCredential(t.Context(), "proxy"); found || err != nil {
		t.Errorf("without a keyring nothing is stored: %v, %v", found, err)
	}
	if _, found, err := asked.ProxyCredential(t.Context(), "fe80::1%eth0"); found || err != nil {
		t.Errorf("for an address with a zone nothing is stored: %v, %v", found, err)
	}
	if _, _, err := (proxyCredentials{store(refusing{tokenstore.ErrLocked})}).ProxyCredential(t.Context(), "proxy"); !problem.IsCode(err, problem.KeyringLocked) {
		t.Errorf("locked: %v", err)
	}
}

// asksWho is a proxy that wants a name and a password and never lets anybody out; given
// counts the requests that had one.
func asksWho(t *testing.T) (proxy *httptest.Server, given *atomic.Int32) {
	given = new(atomic.Int32)
	proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			given.Add(1)
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Proxy-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	t.Cleanup(proxy.Close)
	return proxy, given
}

func TestAProxyIsGivenNobodysCredentialWhereSeveralPeopleShareTheComputerAndAskedForItAnewAfterASignOut(t *testing.T) {
	proxy, given := asksWho(t)
	a, err := newAgent(Options{Layout: paths.Under(t.TempDir(), ""), Version: "test", Keyring: tokenstore.Memory(), Headless: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.store.SetProxyCredential(t.Context(), "127.0.0.1", secret.New("ada"), secret.New("canary")); err != nil {
		t.Fatal(err)
	}
	for _, shared := range []bool{true, false} {
		r := a.build(policy.Snapshot{
			BackendURL: "https://backend.hospital.example", OIDCIssuer: "https://login.hospital.example", OIDCClientID: "launcher", EncounterURLHosts: []string{"app.example"},
			AllowedLinkForms: []string{"handle"}, ProxyMode: "manual", ProxyURL: proxy.URL, SharedWorkstation: shared,
		}, *a.words.Load())
		if r.refuse != nil {
			t.Fatal(problem.Of(r.refuse).LogValue())
		}
		a.session.use(r.id)
		ask := func() error {
			answer, err := r.http.Get("http://intranet.example/")
			if err == nil {
				_ = answer.Body.Close()
			}
			return err
		}
		before := given.Load()
		if err := ask(); problem.IsCode(err, problem.ProxyAuthNeeded) != shared || (given.Load() > before) == shared {
			t.Errorf("shared %v: %v, given %d times", shared, err, given.Load()-before)
		}
		if !shared {
			if err := a.store.ForgetProxyCredential(t.Context(), "127.0.0.1"); err != nil {
				t.Fatal(err)
			}
		}
		a.session.depart(a.session.end)
		if err := ask(); !problem.IsCode(err, problem.ProxyAuthNeeded) {
			t.Errorf("shared %v, after the sign-out: %v", shared, err)
		}
		transport.Retire(r.http)
	}
}
