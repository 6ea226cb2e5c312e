package agent

import (
	"path/filepath"
	"testing"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
	"encounterlauncher/internal/tokenstore"
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
