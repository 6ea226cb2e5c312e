package orgstore

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"encounterlauncher/internal/orgconfig"
)

const (
	keyBytes = 32
	// idBytes name the key by which a value was sealed.
	idBytes = 4
)

// sealKeys are the keys that seal: the first seals, any opens.
type sealKeys []sealKey

type sealKey struct {
	id   [idBytes]byte
	aead cipher.AEAD
}

// readSealKeys reads the key files; without any it makes a key that lives as long
// as the process.
func readSealKeys(files []string) (sealKeys, error) {
	var keys sealKeys
	for _, file := range files {
		text, err := orgconfig.ReadSecret(file)
		if err != nil {
			return nil, fmt.Errorf("nats.seal_key_files: %w", err)
		}
		secret, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(secret) != keyBytes {
			return nil, fmt.Errorf("nats.seal_key_files: a file does not hold %d bytes in base64 (head -c %d /dev/urandom | base64)", keyBytes, keyBytes)
		}
		key, err := newSealKey(secret)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(keys, func(k sealKey) bool { return k.id == key.id }) {
			return nil, errors.New("nats.seal_key_files: two files hold the same key")
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		secret := make([]byte, keyBytes)
		_, _ = rand.Read(secret) // crypto/rand.Read never fails since Go 1.24
		key, err := newSealKey(secret)
		if err != nil {
			return nil, err
		}
		keys = sealKeys{key}
	}
	return keys, nil
}

func newSealKey(secret []byte) (sealKey, error) {
	derived, err := derive(secret, "values")
	if err != nil {
		return sealKey{}, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return sealKey{}, fmt.Errorf("making a key that seals: %w", err)
	}
	var k sealKey
	// The nonce is random and goes with the value.
	if k.aead, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return sealKey{}, fmt.Errorf("making a key that seals: %w", err)
	}
	id := sha256.Sum256(derived)
	copy(k.id[:], id[:])
	return k, nil
}

// derive makes a key for one use (RFC 5869), so that no two uses share one.
func derive(secret []byte, use string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "org-backend "+use, keyBytes)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return key, nil
}

// Seal encrypts a value (AES-256-GCM) and ties it to its place, so that it cannot
// be moved to another.
func (c *Conn) Seal(place string, value []byte) []byte {
	key := c.keys[0]
	sealed := append(make([]byte, 0, idBytes+len(value)+key.aead.Overhead()), key.id[:]...)
	return key.aead.Seal(sealed, nil, value, []byte(place))
}

var errSealed = errors.New("what is kept cannot be opened: it was sealed by another key, or changed")

// Open decrypts what Seal made for the same place.
func (c *Conn) Open(place string, sealed []byte) ([]byte, error) {
	if len(sealed) < idBytes {
		return nil, errSealed
	}
	for _, key := range c.keys {
		if !bytes.Equal(key.id[:], sealed[:idBytes]) {
			continue
		}
		value, err := key.aead.Open(nil, nil, sealed[idBytes:], []byte(place))
		if err != nil {
			return nil, errSealed
		}
		return value, nil
	}
	return nil, errSealed
}
