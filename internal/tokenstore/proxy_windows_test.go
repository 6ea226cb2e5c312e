package tokenstore

import (
	"strings"
	"testing"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

func TestTheLongestCredentialOfAProxyFitsIntoCredentialManager(t *testing.T) {
	s := New(OS(), "encounter-launcher-test", "", 0)
	// Wine keeps an item in a registry key of its name, which has 255 characters at most.
	host, long := strings.Repeat(strings.Repeat("a", 49)+".", 4)[:199], strings.Repeat("ü", 256)
	t.Cleanup(func() { _ = s.ForgetProxyCredential(t.Context(), host) })
	if err := s.SetProxyCredential(t.Context(), host, secret.New(long), secret.New(long)); err != nil {
		t.Fatal(problem.Of(err).LogValue())
	}
	got, found, err := s.ProxyCredential(t.Context(), host)
	if err != nil || !found || got.User.Reveal() != long || got.Password.Reveal() != long {
		t.Errorf("read back: %v, %v", found, err)
	}
	if err := s.ForgetProxyCredential(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	if _, found, err := s.ProxyCredential(t.Context(), host); found || err != nil {
		t.Errorf("after forgetting: %v, %v", found, err)
	}
}
