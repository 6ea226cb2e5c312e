// Package assertion proves which OAuth client we are by a signed JWT (RFC 7523
// §2.2), with keys from files that rotate without downtime: the first key signs,
// all of them are published.
//
// It makes no call, never publishes a private part, never signs with an algorithm
// that its caller did not name, and no error of it quotes a byte of a key.
package assertion

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Algorithms that a peer takes, strongest first for each kind of key.
var (
	// Nabla are those of Nabla Connect (page "Server authentication").
	Nabla = []string{"RS256", "ES256"}
	// SMART are those that a server must know (SMART App Launch 2.2, "Backend
	// Services", asymmetric authentication), so a client uses one of them.
	SMART = []string{"RS384", "ES384"}
)

const (
	minRSABits = 2048
	jtiBytes   = 16
)

// Signer makes assertions with the first of its keys and publishes all of them.
// It is safe for concurrent use.
type Signer struct {
	signer jose.Signer
	jwks   []byte
}

// New returns a Signer. Every key must be fit for one of the algorithms: an RSA
// key of at least 2,048 bits for RS*, an ECDSA key on P-256 for ES256 or on P-384
// for ES384.
func New(keys []Key, algorithms []string) (*Signer, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no key")
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		public, err := k.public(algorithms)
		if err != nil {
			return nil, err
		}
		if len(set.Key(public.KeyID)) != 0 {
			return nil, errors.New("two keys have the same id")
		}
		set.Keys = append(set.Keys, public)
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("publishing the keys: %w", err)
	}
	signer, err := keys[0].signer(set.Keys[0])
	if err != nil {
		return nil, err
	}
	return &Signer{signer: signer, jwks: text}, nil
}

// JWKS returns the public parts of the keys as a JWK set (RFC 7517 §5), JSON.
func (s *Signer) JWKS() []byte { return slices.Clone(s.jwks) }

// Assert makes an assertion for one use (a fresh jti): iss and sub are the client,
// aud is the token endpoint, exp is life after now.
func (s *Signer) Assert(clientID, audience string, now time.Time, life time.Duration) (string, error) {
	var id [jtiBytes]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails since Go 1.24
	text, err := jwt.Signed(s.signer).Claims(jwt.Claims{
		Issuer: clientID, Subject: clientID, Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(life)),
		ID: base64.RawURLEncoding.EncodeToString(id[:]),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing a client assertion: %w", err)
	}
	return text, nil
}

// public returns the public part with kid, alg and use.
func (k Key) public(algorithms []string) (jose.JSONWebKey, error) {
	if k.Signer == nil {
		return jose.JSONWebKey{}, errors.New("a key is missing")
	}
	j := jose.JSONWebKey{Key: k.Signer.Public(), KeyID: k.ID, Use: "sig"}
	fits := func(alg string) bool { return false }
	switch p := j.Key.(type) {
	case *rsa.PublicKey:
		if p.N.BitLen() < minRSABits {
			return jose.JSONWebKey{}, fmt.Errorf("an RSA key has fewer than %d bits", minRSABits)
		}
		fits = func(alg string) bool { return alg[:2] == "RS" }
	case *ecdsa.PublicKey:
		curve := map[elliptic.Curve]string{elliptic.P256(): "ES256", elliptic.P384(): "ES384"}[p.Curve]
		fits = func(alg string) bool { return alg == curve }
	}
	at := slices.IndexFunc(algorithms, fits)
	if at < 0 {
		return jose.JSONWebKey{}, fmt.Errorf("a key fits none of the algorithms %v: RSA, or ECDSA on the curve of the algorithm", algorithms)
	}
	j.Algorithm = algorithms[at]
	if j.KeyID == "" {
		sum, err := j.Thumbprint(crypto.SHA256)
		if err != nil {
			return jose.JSONWebKey{}, fmt.Errorf("naming a key: %w", err)
		}
		j.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	}
	return j, nil
}

func (k Key) signer(public jose.JSONWebKey) (jose.Signer, error) {
	var key any = k.Signer
	switch key.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey:
	default:
		key = cryptosigner.Opaque(k.Signer)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(public.Algorithm), Key: key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", public.KeyID),
	)
	if err != nil {
		return nil, fmt.Errorf("making a signer: %w", err)
	}
	return signer, nil
}
