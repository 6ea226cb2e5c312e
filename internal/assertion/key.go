package assertion

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

const maxKeyBytes = 64 << 10

// Key signs client assertions. ID is the kid under which the peer finds the public
// part; when it is empty the RFC 7638 thumbprint serves. Signer is an RSA key of
// at least 2,048 bits or an ECDSA key; it may live in a hardware module.
type Key struct {
	ID     string
	Signer crypto.Signer
}

// ReadKey reads a private key from a PEM file (PKCS #8, PKCS #1 or SEC 1) that
// holds nothing else. id may be empty; see Key.
func ReadKey(file, id string) (Key, error) {
	text, err := readBounded(file)
	if err != nil {
		return Key{}, err
	}
	signer, err := parseKey(text)
	if err != nil {
		return Key{}, err
	}
	return Key{ID: id, Signer: signer}, nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	// openssl ecparam writes the curve's parameters before the key.
	if block != nil && block.Type == "EC PARAMETERS" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("a key is not PEM")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("a key file holds more than one key")
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
		return nil, errors.New("a key is not an unencrypted private key")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key cannot sign")
	}
	return signer, nil
}
