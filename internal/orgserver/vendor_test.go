package orgserver

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"strings"
	"testing"
)

// pemOfNewKey is a new private key for Nabla.
func pemOfNewKey(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func TestNablasKeysRotateWithoutARestart(t *testing.T) {
	w := newWorld(t)
	file := w.config.Nabla.KeyFiles[0]
	before := string(w.server.JWKS())
	replace := func(text string, mode os.FileMode) {
		if err := os.WriteFile(file+".new", []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	replace("half a key", 0o600)
	if string(w.server.JWKS()) != before {
		t.Error("a broken file took the keys away")
	}
	replace(pemOfNewKey(t), 0o644)
	if string(w.server.JWKS()) != before {
		t.Error("a key that others can read is used")
	}
	if n := strings.Count(w.log.String(), "the keys of before stay in use"); n != 2 {
		t.Errorf("%d warnings: %s", n, w.log.String())
	}
	replace(pemOfNewKey(t), 0o600)
	after := string(w.server.JWKS())
	if after == before || strings.Contains(after, `"d"`) {
		t.Error("the new key is not published")
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+PathJWKS, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK || response.ContentLength != int64(len(after)) {
		t.Errorf("status %d, %d bytes", response.StatusCode, response.ContentLength)
	}
}
