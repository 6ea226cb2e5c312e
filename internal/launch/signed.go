package launch

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json"
)

// signedType is the typ of a signed request, compared exactly
// (RFC 8725 §3.11: explicit typing).
const signedType = "encounter-launch+jwt"

// maxSignedLife bounds exp - iat, and clockSkew how far the clocks of the EHR's
// server and of this computer may differ.
const (
	maxSignedLife = 5 * time.Minute
	clockSkew     = 60 * time.Second
)

// The three algorithms; each key is fixed to one (RFC 8725 §3.1).
const (
	algES256 = "ES256"
	algEdDSA = "EdDSA"
	algRS256 = "RS256"
)

// signedRequest is a well-formed signed request whose signature nobody has
// looked at yet.
type signedRequest struct {
	algorithm, kid  string
	issuer, id      string
	audience        string
	issued, expires time.Time
}

// parseSigned checks a compact JWS (RFC 7515 §7.1) against the one shape that a
// signed request has. The header holds exactly alg, kid and typ: crit, b64, jwk,
// jku, x5u and their like are refused unread. The claims are exactly iss, aud,
// iat, exp, jti and the three ids: a claim that is not known is refused, so that
// demographics cannot travel in a link by mistake.
//
// Errors name the part and quote nothing.
func parseSigned(compact string) (signedRequest, error) {
	none := signedRequest{}
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return none, errors.New("a compact JWS has three parts")
	}
	header, err := objectIn(parts[0], []string{"alg", "kid", "typ"})
	if err != nil {
		return none, fmt.Errorf("header: %w", err)
	}
	claims, err := objectIn(parts[1], []string{"iss", "aud", "iat", "exp", "jti", keyEncounterID, keyPatientID, keyProviderID})
	if err != nil {
		return none, fmt.Errorf("claims: %w", err)
	}
	if signature, err := decodeSegment(parts[2]); err != nil || len(signature) == 0 {
		return none, errors.New("signature: not base64url, or empty")
	}

	var r signedRequest
	if r.algorithm, err = textOf(header["alg"]); err != nil {
		return none, fmt.Errorf("alg: %w", err)
	}
	if r.algorithm != algES256 && r.algorithm != algEdDSA && r.algorithm != algRS256 {
		return none, errors.New("alg: not one of ES256, EdDSA and RS256")
	}
	if typ, err := textOf(header["typ"]); err != nil || typ != signedType {
		return none, errors.New("typ: not " + signedType)
	}
	for _, name := range []struct {
		name string
		raw  json.RawMessage
		into *string
	}{
		{"kid", header["kid"], &r.kid},
		{"iss", claims["iss"], &r.issuer},
		{"jti", claims["jti"], &r.id},
	} {
		if *name.into, err = textOf(name.raw); err != nil {
			return none, fmt.Errorf("%s: %w", name.name, err)
		}
		if !allVisible(*name.into) || *name.into == "" || utf8.RuneCountInString(*name.into) > MaxIdentifierRunes {
			return none, fmt.Errorf("%s: not 1 to 256 visible characters", name.name)
		}
	}
	for _, name := range []string{keyEncounterID, keyPatientID, keyProviderID} {
		id, err := textOf(claims[name])
		if err != nil || !isIdentifier(id) {
			return none, fmt.Errorf("%s: not 1 to 256 visible characters", name)
		}
	}
	if r.audience, err = audienceOf(claims["aud"]); err != nil {
		return none, fmt.Errorf("aud: %w", err)
	}
	if r.issued, err = instantOf(claims["iat"]); err != nil {
		return none, fmt.Errorf("iat: %w", err)
	}
	if r.expires, err = instantOf(claims["exp"]); err != nil {
		return none, fmt.Errorf("exp: %w", err)
	}
	if life := r.expires.Sub(r.issued); life <= 0 || life > maxSignedLife {
		return none, errors.New("exp: not after iat, or more than five minutes after it")
	}
	return r, nil
}

// decodeSegment decodes strictly: no padding, no stray trailing bits, and none
// of the line breaks that the decoder passes over.
func decodeSegment(segment string) ([]byte, error) {
	for i := 0; i < len(segment); i++ {
		if !isBase64URL(segment[i]) {
			return nil, errors.New("not base64url")
		}
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	return decoded, nil
}

// objectIn reads a JSON object that has exactly the given members. go-jose's
// decoder is used because it compares names exactly and refuses a name that
// stands twice.
func objectIn(segment string, names []string) (map[string]json.RawMessage, error) {
	text, err := decodeSegment(segment)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(text) {
		return nil, errors.New("not valid UTF-8")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		// The decoder's own error may quote a name.
		return nil, errors.New("not a JSON object with each member once")
	}
	for _, name := range names {
		if _, found := object[name]; !found {
			return nil, errors.New("the member " + name + " is missing")
		}
	}
	if len(object) != len(names) {
		return nil, errors.New("there is a member that is not known")
	}
	return object, nil
}

func textOf(raw json.RawMessage) (string, error) {
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil || text == nil {
		return "", errors.New("not a string")
	}
	return *text, nil
}

// audienceOf accepts a string, or a list of exactly one (RFC 7519 §4.1.3): a
// request that is meant for others as well could be replayed there.
func audienceOf(raw json.RawMessage) (string, error) {
	if text, err := textOf(raw); err == nil {
		return text, nil
	}
	var list []*string
	if err := json.Unmarshal(raw, &list); err != nil || len(list) != 1 || list[0] == nil {
		return "", errors.New("not one audience")
	}
	return *list[0], nil
}

// instantOf reads a NumericDate (RFC 7519 §2) in whole seconds, written plainly.
func instantOf(raw json.RawMessage) (time.Time, error) {
	const lastSecondOfYear9999 = 253402300799
	seconds, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || seconds < 0 || seconds > lastSecondOfYear9999 || raw[0] == '-' {
		return time.Time{}, errors.New("not a time in whole seconds")
	}
	return time.Unix(seconds, 0), nil
}
