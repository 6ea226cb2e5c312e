package tokenstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// proxyStore needs no lock: each credential is one item.
func proxyStore(k Keyring) *Store { return New(k, "test", "", 0) }

func TestAProxysCredentialIsKeptForItsHostOnly(t *testing.T) {
	s := proxyStore(Memory())
	if err := s.SetProxyCredential(t.Context(), "Proxy.Hospital.example", secret.New("ada"), secret.New("pa:ss wörd")); err != nil {
		t.Fatal(err)
	}
	got, found, err := s.ProxyCredential(t.Context(), "proxy.hospital.example")
	if err != nil || !found || got.User.Reveal() != "ada" || got.Password.Reveal() != "pa:ss wörd" || got.Set.IsZero() {
		t.Fatalf("got %v %v %v", got, found, err)
	}
	if _, found, err := s.ProxyCredential(t.Context(), "other.hospital.example"); found || err != nil {
		t.Errorf("another proxy has it too: %v", err)
	}
	if _, found, err := s.Load(t.Context()); found || err != nil {
		t.Errorf("the sign-in is another item: %v %v", found, err)
	}
	for range 2 {
		if err := s.ForgetProxyCredential(t.Context(), "proxy.hospital.example"); err != nil {
			t.Fatal(err)
		}
	}
	if _, found, err := s.ProxyCredential(t.Context(), "proxy.hospital.example"); found || err != nil {
		t.Errorf("it was not forgotten: %v", err)
	}
}

// longestHost is a name of 253 bytes.
var longestHost = strings.Repeat(strings.Repeat("a", 62)+".", 4)[:252] + "a"

func TestTheNameOfAProxysHostIsTakenAsTheNetworkAsksForIt(t *testing.T) {
	for name, want := range map[string]string{
		"Proxy.Hospital.example": "proxy.hospital.example", "proxy.hospital.example.": "proxy.hospital.example", "proxy": "proxy", "my_proxy-1": "my_proxy-1",
		"10.1.2.3": "10.1.2.3", "2001:DB8:0::1": "2001:db8::1", longestHost: longestHost,
	} {
		if got, err := ProxyHost(name); err != nil || got != want {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	s := proxyStore(Memory())
	for _, name := range []string{
		"", ".", "..", ":", "-", "a..b", ".a", "a..", "-a", "a-", "a.-b", "proxy:3128", "proxy.hospital.example:3128", "10.1.2.3:3128", "[2001:db8::1]", "[2001:db8::1]:3128",
		"fe80::1%eth0", "http://proxy", "user@proxy", "a/b", "a b", "prôxy", "proxy\n", strings.Repeat("a", 64), longestHost + "a",
	} {
		_, err := ProxyHost(name)
		if !problem.IsCode(err, problem.RequestInvalid) || !strings.Contains(problem.Of(err).Fact, "without a port") {
			t.Errorf("%q: %v", name, err)
		}
		if err := s.SetProxyCredential(t.Context(), name, secret.New("ada"), secret.New("x")); !problem.IsCode(err, problem.RequestInvalid) {
			t.Errorf("%q was stored: %v", name, err)
		}
	}
}

func TestTheLongestCredentialOfAProxyFitsIntoOneItemOfWindows(t *testing.T) {
	k := Memory()
	s := proxyStore(k)
	long := strings.Repeat("\"\\<ü>", 512/6)
	if err := s.SetProxyCredential(t.Context(), longestHost, secret.New(long), secret.New(strings.Repeat("x", 512))); err != nil {
		t.Fatal(err)
	}
	text, err := k.Get("test", "proxy."+longestHost)
	if err != nil || len(text) > itemLimit {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestABadCredentialOfAProxyIsRefusedAndTheOneBeforeStays(t *testing.T) {
	s := proxyStore(Memory())
	if err := s.SetProxyCredential(t.Context(), "proxy", secret.New("ada"), secret.New("first")); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][3]string{
		{"proxy", "", "x"}, {"proxy", "ada", ""}, {"proxy", "a:b", "x"}, {"proxy", "ada\r\nX-Header: 1", "x"}, {"proxy", "ada", "x\x00"},
		{"proxy", "ada\xff", "x"}, {"proxy", strings.Repeat("a", 513), "x"}, {"proxy", "ada", strings.Repeat("a", 513)},
		{"", "ada", "x"}, {"a/b", "ada", "x"}, {"prôxy", "ada", "x"}, {strings.Repeat("a", 254), "ada", "x"},
	} {
		err := s.SetProxyCredential(t.Context(), c[0], secret.New(c[1]), secret.New(c[2]))
		if !problem.IsCode(err, problem.RequestInvalid) {
			t.Errorf("%.20q: %v", c, err)
		}
	}
	if got, _, err := s.ProxyCredential(t.Context(), "proxy"); err != nil || got.Password.Reveal() != "first" {
		t.Errorf("got %v", err)
	}
}

func TestAProxysCredentialThatWasTamperedWithIsCorruptAndShowsNothing(t *testing.T) {
	k := Memory()
	s := proxyStore(k)
	if err := s.SetProxyCredential(t.Context(), "proxy", secret.New("canary"), secret.New("canary")); err != nil {
		t.Fatal(err)
	}
	text, err := k.Get("test", "proxy.proxy")
	if err != nil {
		t.Fatal(err)
	}
	var item map[string]any
	if err := json.Unmarshal([]byte(text), &item); err != nil {
		t.Fatal(err)
	}
	item["user"] = "Y2FuYXJ5Mg=="
	changed, _ := json.Marshal(item)
	for _, bad := range []string{string(changed), "canary", "{}", strings.Repeat(" ", itemLimit) + text} {
		if err := k.Set("test", "proxy.proxy", bad); err != nil {
			t.Fatal(err)
		}
		_, found, err := s.ProxyCredential(t.Context(), "proxy")
		if found || !problem.IsCode(err, problem.KeyringCorrupt) {
			t.Errorf("got %v, %v", found, err)
		}
		if shown := fmt.Sprint(err, problem.Of(err).LogValue()); strings.Contains(shown, "canary") {
			t.Errorf("it shows: %s", shown)
		}
	}
}

// shut is a keyring that answers every call in the same way.
type shut struct{ err error }

func (s shut) Get(string, string) (string, error) { return "", s.err }
func (s shut) Set(string, string, string) error   { return s.err }
func (s shut) Delete(string, string) error        { return s.err }

func TestALockedOrMissingKeyringIsToldWhenAProxysCredentialIsAskedFor(t *testing.T) {
	for outcome, code := range map[error]problem.Code{ErrLocked: problem.KeyringLocked, ErrUnavailable: problem.KeyringUnavailable} {
		s := proxyStore(shut{outcome})
		_, found, err := s.ProxyCredential(t.Context(), "proxy")
		if found || !problem.IsCode(err, code) {
			t.Errorf("read: %v", err)
		}
		if err := s.SetProxyCredential(t.Context(), "proxy", secret.New("a"), secret.New("b")); !problem.IsCode(err, code) {
			t.Errorf("set: %v", err)
		}
		if err := s.ForgetProxyCredential(t.Context(), "proxy"); !problem.IsCode(err, code) {
			t.Errorf("forget: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := proxyStore(Memory()).ProxyCredential(ctx, "proxy"); !problem.IsCode(err, problem.Cancelled) {
		t.Errorf("cancelled: %v", err)
	}
}
