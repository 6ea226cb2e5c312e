package assertion

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeysAreReadFromEveryUsualPEMForm(t *testing.T) {
	folder := t.TempDir()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	must := func(der []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	sec1 := block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ec)))
	pkcs8 := block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ec)))
	for name, c := range map[string]struct {
		text string
		alg  string
	}{
		"PKCS #8 EC":        {pkcs8, "ES256"},
		"PKCS #8 RSA":       {block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(rsaKey))), "RS256"},
		"PKCS #1":           {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), "RS256"},
		"SEC 1":             {sec1, "ES256"},
		"SEC 1 of openssl":  {block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}) + sec1, "ES256"},
		"two keys":          {pkcs8 + pkcs8, ""},
		"a public key":      {block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(ec.Public()))), ""},
		"no PEM":            {"key", ""},
		"a block of rubish": {block("PRIVATE KEY", []byte("rubbish")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(folder, strings.ReplaceAll(name, " ", "-"))
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			k, err := ReadKey(file, "")
			if (err == nil) != (c.alg != "") {
				t.Fatal(err)
			}
			if err == nil {
				if public, err := k.public(Nabla); err != nil || public.Algorithm != c.alg || public.KeyID == "" {
					t.Errorf("%+v, %v", public.Algorithm, err)
				}
			}
		})
	}
}

func TestAKeySignsOnlyWithAnAlgorithmThatThePeerTakes(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key        Key
		algorithms []string
		want       string
	}{
		"RSA for Nabla":   {Key{Signer: rsaKey}, Nabla, "RS256"},
		"P-256 for Nabla": {Key{Signer: p256}, Nabla, "ES256"},
		"P-384 for Nabla": {Key{Signer: p384}, Nabla, ""},
		"RSA for SMART":   {Key{Signer: rsaKey}, SMART, "RS384"},
		"P-384 for SMART": {Key{Signer: p384}, SMART, "ES384"},
		"P-256 for SMART": {Key{Signer: p256}, SMART, ""},
	} {
		t.Run(name, func(t *testing.T) {
			public, err := c.key.public(c.algorithms)
			if (err == nil) != (c.want != "") || public.Algorithm != c.want {
				t.Errorf("%q, %v", public.Algorithm, err)
			}
		})
	}
}
