package policy

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
)

// checkLinkKeys checks the shape of a JWK set (RFC 7517): public keys only, each
// fixed to one algorithm and one issuer. It reads members by their exact names,
// as encoding/json into a struct would not.
func checkLinkKeys(v value, _ rules) string {
	var set map[string]json.RawMessage
	var keys []map[string]json.RawMessage
	if json.Unmarshal(v.object, &set) != nil || json.Unmarshal(set["keys"], &keys) != nil {
		return "must be a JWK set: an object whose member keys is a list of objects"
	}
	if len(keys) == 0 {
		return "must hold at least one key; remove it when links are not signed"
	}
	if len(keys) > maxItems {
		return "must not have more than 64 keys"
	}
	var kids []string
	for _, key := range keys {
		for _, private := range []string{"k", "d", "p", "q", "dp", "dq", "qi", "oth"} {
			if _, ok := key[private]; ok {
				return "must hold public keys only: take the secret or private key out, and replace it with a new one, for it has been seen"
			}
		}
		kid, iss := member(key, "kid"), member(key, "iss")
		if checkText(kid) != "" || len(kid) > 256 || checkText(iss) != "" || len(iss) > 256 {
			return "has a key without kid or without iss, the name of the issuer of its links; each is 1 to 256 bytes"
		}
		if slices.Contains(kids, kid) {
			return "has two keys of the same kid"
		}
		kids = append(kids, kid)
		if !forSigning(key) {
			return "has a key that is not for signatures"
		}
		var ok bool
		switch member(key, "alg") {
		case "ES256":
			ok = es256(key)
		case "EdDSA":
			ok = ed25519Key(key)
		case "RS256":
			ok = rs256(key)
		default:
			return "has a key whose alg is not ES256, EdDSA or RS256"
		}
		if !ok {
			return "has a key whose members do not make a public key of its alg"
		}
	}
	return ""
}

// member returns a member that is a string, or nothing.
func member(key map[string]json.RawMessage, name string) string {
	var s string
	if raw := key[name]; len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// forSigning: use and key_ops are optional (RFC 7517 sections 4.2 and 4.3), but
// where they stand they must allow what the key is for.
func forSigning(key map[string]json.RawMessage) bool {
	if _, ok := key["use"]; ok && member(key, "use") != "sig" {
		return false
	}
	if raw, ok := key["key_ops"]; ok {
		var ops []string
		if json.Unmarshal(raw, &ops) != nil || !slices.Equal(ops, []string{"verify"}) {
			return false
		}
	}
	return true
}

func octets(key map[string]json.RawMessage, name string) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(member(key, name))
	if err != nil {
		return nil
	}
	return b
}

// es256: RFC 7518 sections 3.4 and 6.2.1.
func es256(key map[string]json.RawMessage) bool {
	x, y := octets(key, "x"), octets(key, "y")
	if member(key, "kty") != "EC" || member(key, "crv") != "P-256" || len(x) != 32 || len(y) != 32 {
		return false
	}
	_, err := ecdh.P256().NewPublicKey(slices.Concat([]byte{4}, x, y))
	return err == nil
}

// ed25519Key: RFC 8037 section 2.
func ed25519Key(key map[string]json.RawMessage) bool {
	return member(key, "kty") == "OKP" && member(key, "crv") == "Ed25519" && len(octets(key, "x")) == 32
}

// rs256: RFC 7518 sections 3.3 (2,048 bits or more) and 6.3.1.
func rs256(key map[string]json.RawMessage) bool {
	n, e := new(big.Int).SetBytes(octets(key, "n")), new(big.Int).SetBytes(octets(key, "e"))
	return member(key, "kty") == "RSA" && n.Bit(0) == 1 && n.BitLen() >= 2048 && n.BitLen() <= 8192 &&
		e.Bit(0) == 1 && e.BitLen() > 1 && e.BitLen() <= 31
}
