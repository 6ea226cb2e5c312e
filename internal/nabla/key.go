package nabla

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
)

const (
	minRSABits  = 2048
	maxKeyBytes = 64 << 10
)

// Key signs client assertions. ID is the kid under which Nabla finds the public
// part; when it is empty the RFC 7638 thumbprint serves. Signer is an RSA key of
// at least 2,048 bits (RS256) or an ECDSA key on P-256 (ES256); it may live in a
// hardware module.
type Key struct {
	ID     string
	Signer crypto.Signer
}

// ReadKey reads a private key from a PEM file (PKCS #8, PKCS #1 or SEC 1) that
// holds nothing else. id may be empty; see Key.
func ReadKey(file, id string) (Key, error) {
	f, err := os.Open(file)
	if err != nil {
		return Key{}, fmt.Errorf("opening a key for Nabla Connect: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
	if err != nil {
		return Key{}, fmt.Errorf("reading a key for Nabla Connect: %w", err)
	}
	signer, err := parseKey(text)
	if err != nil {
		return Key{}, err
	}
	k := Key{ID: id, Signer: signer}
	if _, err := k.public(); err != nil {
		return Key{}, err
	}
	return k, nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	// openssl ecparam writes the curve's parameters before the key.
	if block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("a key for Nabla Connect is not PEM")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("a key file for Nabla Connect holds more than one key")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		err = errors.New("the block is no private key")
	}
	if err != nil {
		// The parser's error could quote bytes of the key.
		return nil, errors.New("a key for Nabla Connect is not an unencrypted private key")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key for Nabla Connect cannot sign")
	}
	return signer, nil
}

// public returns the public part with kid, alg and use.
func (k Key) public() (jose.JSONWebKey, error) {
	if k.Signer == nil {
		return jose.JSONWebKey{}, errors.New("a key for Nabla Connect is missing")
	}
	j := jose.JSONWebKey{Key: k.Signer.Public(), KeyID: k.ID, Use: "sig"}
	switch p := j.Key.(type) {
	case *rsa.PublicKey:
		if p.N.BitLen() < minRSABits {
			return jose.JSONWebKey{}, fmt.Errorf("an RSA key for Nabla Connect has fewer than %d bits", minRSABits)
		}
		j.Algorithm = string(jose.RS256)
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return jose.JSONWebKey{}, errors.New("an ECDSA key for Nabla Connect is not on P-256")
		}
		j.Algorithm = string(jose.ES256)
	default:
		return jose.JSONWebKey{}, errors.New("a key for Nabla Connect is neither RSA nor ECDSA")
	}
	if j.KeyID == "" {
		sum, err := j.Thumbprint(crypto.SHA256)
		if err != nil {
			return jose.JSONWebKey{}, fmt.Errorf("naming a key for Nabla Connect: %w", err)
		}
		j.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	}
	return j, nil
}

func (k Key) signer() (jose.Signer, error) {
	public, err := k.public()
	if err != nil {
		return nil, err
	}
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
		return nil, fmt.Errorf("making a signer for Nabla Connect: %w", err)
	}
	return signer, nil
}

func publish(keys []Key) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, k := range keys {
		public, err := k.public()
		if err != nil {
			return nil, err
		}
		if len(set.Key(public.KeyID)) != 0 {
			return nil, errors.New("two keys for Nabla Connect have the same id")
		}
		set.Keys = append(set.Keys, public)
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("publishing the keys for Nabla Connect: %w", err)
	}
	return text, nil
}
