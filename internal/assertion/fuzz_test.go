package assertion

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// says is all that an error about a key may say: nothing of the file.
var says = regexp.MustCompile(`^(?:naming a key: |making a signer: )?(?:a key is not PEM|a key file holds more than one key|a key is not an unencrypted private key|a key cannot sign|an RSA key has fewer than 2048 bits|a key fits none of the algorithms \[[A-Z0-9 ]+\]: RSA, or ECDSA on the curve of the algorithm)$`)

// FuzzKeyFile: a file is taken exactly when a slow reading of PEM finds one private
// key in it that the peer takes. Then what is published holds no private part, and
// an assertion verifies by it, once for each, and says what it was asked to.
func FuzzKeyFile(f *testing.F) {
	block := func(kind string, der []byte, err error) string {
		if err != nil {
			f.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			f.Fatal(err)
		}
		der, err := x509.MarshalECPrivateKey(key)
		sec1 := block("EC PRIVATE KEY", der, err)
		der, err = x509.MarshalPKCS8PrivateKey(key)
		pkcs8 := block("PRIVATE KEY", der, err)
		for _, text := range []string{sec1, pkcs8, block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}, nil) + sec1, pkcs8 + pkcs8, strings.ReplaceAll(pkcs8, "PRIVATE", "PUBLIC"), pkcs8[:90], strings.ReplaceAll(pkcs8, "\n", "\r\n"), "x: y\n" + sec1} {
			f.Add([]byte(text), "client", "https://nabla.example/token", int64(60))
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), nil)), "c", "a", int64(300))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END PRIVATE KEY-----\n"), "\u202e", "\xff", int64(0))
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text []byte, client, audience string, life int64) {
		signer, err := parseKey(text)
		blocks := [][2]string{}
		for rest := text; ; {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				break
			}
			blocks = append(blocks, [2]string{b.Type, string(b.Bytes)})
		}
		if len(blocks) > 0 && blocks[0][0] == "EC PARAMETERS" {
			blocks = blocks[1:]
		}
		if err != nil {
			if !says.MatchString(err.Error()) || signer != nil {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if len(blocks) != 1 || !slices.Contains([]string{"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"}, blocks[0][0]) {
			t.Fatalf("%q was taken", text)
		}
		for _, algorithms := range [][]string{Nabla, SMART} {
			s, err := New([]Key{{Signer: signer}}, algorithms)
			if err != nil {
				if !says.MatchString(err.Error()) {
					t.Fatalf("refused with %v", err)
				}
				continue
			}
			var set struct{ Keys []map[string]json.RawMessage }
			if err := json.Unmarshal(s.JWKS(), &set); err != nil || len(set.Keys) != 1 {
				t.Fatalf("published %s, %v", s.JWKS(), err)
			}
			for name := range set.Keys[0] {
				if !slices.Contains([]string{"use", "kty", "kid", "crv", "alg", "x", "y", "n", "e"}, name) {
					t.Fatalf("%s is published", name)
				}
			}
			var public jose.JSONWebKey
			raw, err := json.Marshal(set.Keys[0])
			if err != nil || public.UnmarshalJSON(raw) != nil || !public.IsPublic() || !slices.Contains(algorithms, public.Algorithm) {
				t.Fatalf("published %s, %v", raw, err)
			}
			seconds := time.Duration(uint64(life)%3600) * time.Second
			compact, err := s.Assert(client, audience, now, seconds)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := jwt.ParseSigned(compact, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(public.Algorithm)})
			if err != nil {
				t.Fatal(err)
			}
			var claims jwt.Claims
			if err := parsed.Claims(public, &claims); err != nil {
				t.Fatalf("what is published does not verify it: %v", err)
			}
			// Bytes that are no UTF-8 are not told; a client of ours has none.
			if clean := strings.ToValidUTF8(client, "\ufffd"); clean == client && (claims.Issuer != client || claims.Subject != client) {
				t.Fatalf("%q became %q", client, claims.Issuer)
			}
			if id, err := base64.RawURLEncoding.DecodeString(claims.ID); err != nil || len(id) != 16 || !claims.Expiry.Time().Equal(now.Add(seconds)) || !claims.IssuedAt.Time().Equal(now) || len(claims.Audience) != 1 {
				t.Fatalf("%+v", claims)
			}
			again, err := s.Assert(client, audience, now, seconds)
			if err != nil || again == compact {
				t.Fatalf("an assertion is made twice, %v", err)
			}
		}
	})
}
