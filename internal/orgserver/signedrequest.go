package orgserver

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

const (
	requestType    = "encounter-launch+jwt"
	maxRequestLife = 5 * time.Minute
	requestSkew    = time.Minute
	maxJTIBytes    = 256
)

// requestKeys are the keys of signed requests by iss and kid. A key verifies one
// algorithm only.
type requestKeys map[[2]string]requestKey

type requestKey struct {
	algorithm jose.SignatureAlgorithm
	key       any
}

// signedRequest is what a verified signed request says.
type signedRequest struct {
	issuer, id                         string
	until                              time.Time
	encounterID, patientID, providerID string
}

func requestAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.RS256}
}

// newRequestKeys reads link_keys_file. nil keys mean that signed requests are not
// taken.
func newRequestKeys(file string) (requestKeys, error) {
	if file == "" {
		return nil, nil
	}
	body, err := orgconfig.ReadTrusted(file, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("link_keys_file: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || len(set.Keys) == 0 {
		return nil, errors.New("link_keys_file: it is not a JWK set with keys")
	}
	keys := requestKeys{}
	for n, raw := range set.Keys {
		var owner struct {
			Issuer string `json:"iss"`
		}
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &owner) != nil || json.Unmarshal(raw, &key) != nil || !key.Valid() || !key.IsPublic() ||
			owner.Issuer == "" || key.KeyID == "" || (key.Use != "" && key.Use != "sig") || !fits(key) {
			return nil, fmt.Errorf("link_keys_file: key %d is not a public signature key with kid, iss and an alg of ES256, EdDSA or RS256 that fits it", n+1)
		}
		name := [2]string{owner.Issuer, key.KeyID}
		if _, twice := keys[name]; twice {
			return nil, fmt.Errorf("link_keys_file: key %d has the kid of another of the same iss", n+1)
		}
		keys[name] = requestKey{jose.SignatureAlgorithm(key.Algorithm), key.Key}
	}
	return keys, nil
}

// fits reports whether a key is of the kind that its alg needs.
func fits(k jose.JSONWebKey) bool {
	switch p := k.Key.(type) {
	case *ecdsa.PublicKey:
		return k.Algorithm == string(jose.ES256) && p.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return k.Algorithm == string(jose.EdDSA)
	case *rsa.PublicKey:
		return k.Algorithm == string(jose.RS256) && p.N.BitLen() >= 2048
	}
	return false
}

// requestClaims are exactly the claims of a signed request: one that is not
// among them is refused, so that nothing of a patient travels in a link.
type requestClaims struct {
	Issuer      *string  `json:"iss"`
	Audience    audience `json:"aud"`
	IssuedAt    *float64 `json:"iat"`
	Expiry      *float64 `json:"exp"`
	ID          *string  `json:"jti"`
	EncounterID *string  `json:"external_encounter_id"`
	PatientID   *string  `json:"external_patient_id"`
	ProviderID  *string  `json:"external_provider_id"`
}

// audience is one string, or a list of one (RFC 7519 §4.1.3).
type audience string

func (a *audience) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audience(one)
		return nil
	}
	var list []string
	if json.Unmarshal(text, &list) != nil || len(list) != 1 {
		return errors.New("aud is not one text")
	}
	*a = audience(list[0])
	return nil
}

// verify checks a signed request by design: signature, type, audience, times.
// Its errors are link_form_not_allowed, link_invalid and link_expired.
func (k requestKeys) verify(compact, audience string, now time.Time) (signedRequest, error) {
	var none signedRequest
	if k == nil {
		return none, problem.New(problem.LinkFormNotAllowed, errors.New("no keys of signed requests are configured"))
	}
	invalid := func(what string) (signedRequest, error) {
		return none, problem.New(problem.LinkInvalid, errors.New("signed request: "+what))
	}
	parsed, err := jose.ParseSignedCompact(compact, requestAlgorithms())
	if err != nil || len(parsed.Signatures) != 1 {
		return invalid("not a compact JWS with an accepted algorithm")
	}
	header := parsed.Signatures[0].Protected
	if header.ExtraHeaders[jose.HeaderType] != requestType {
		return invalid("typ is another")
	}
	unverified, err := claimsIn(parsed.UnsafePayloadWithoutVerification())
	if err != nil {
		return invalid("the claims are not a JSON object with each name once")
	}
	key, known := k[[2]string{text(unverified["iss"]), header.KeyID}]
	if !known || string(key.algorithm) != header.Algorithm {
		return invalid("iss, kid and alg name no key")
	}
	payload, err := parsed.Verify(key.key)
	if err != nil {
		return invalid("the signature is wrong")
	}
	var c requestClaims
	if err := readRequest(payload, &c); err != nil {
		return invalid("a claim is missing, unknown or of the wrong type")
	}
	if string(c.Audience) != audience {
		return invalid("aud is another backend")
	}
	// Half a surrogate pair and bytes that are no UTF-8 become U+FFFD, so that two ids
	// would become one.
	if strings.ContainsRune(*c.ID+*c.EncounterID+*c.PatientID+*c.ProviderID, utf8.RuneError) {
		return invalid("an id holds a broken character")
	}
	if *c.ID == "" || len(*c.ID) > maxJTIBytes || !identifier(*c.EncounterID) || !identifier(*c.PatientID) || !identifier(*c.ProviderID) {
		return invalid("an id is empty, too long or holds control characters")
	}
	issued, expires, ok := times(*c.IssuedAt, *c.Expiry)
	switch {
	case !ok || expires.Sub(issued) > maxRequestLife || !expires.After(issued):
		return invalid("it lives for more than five minutes, or not at all")
	case issued.After(now.Add(requestSkew)):
		return invalid("iat is in the future")
	case !now.Before(expires.Add(requestSkew)):
		return none, problem.New(problem.LinkExpired, nil)
	}
	return signedRequest{
		issuer: *c.Issuer, id: *c.ID, until: expires.Add(requestSkew),
		encounterID: *c.EncounterID, patientID: *c.PatientID, providerID: *c.ProviderID,
	}, nil
}

func times(issued, expires float64) (time.Time, time.Time, bool) {
	for _, t := range []float64{issued, expires} {
		if math.IsNaN(t) || t < 0 || t > 1<<40 {
			return time.Time{}, time.Time{}, false
		}
	}
	return time.Unix(int64(issued), 0), time.Unix(int64(expires), 0), true
}

// readRequest reads exactly the claims of a signed request. encoding/json would take a
// name in any letter case.
func readRequest(payload []byte, c *requestClaims) error {
	named, err := claimsIn(payload)
	if err != nil {
		return err
	}
	known := []string{"iss", "aud", "iat", "exp", "jti", "external_encounter_id", "external_patient_id", "external_provider_id"}
	for _, name := range known {
		if _, there := named[name]; !there {
			return errors.New("a claim is missing")
		}
	}
	if len(named) != len(known) {
		return errors.New("a claim is unknown")
	}
	if err := json.Unmarshal(payload, c); err != nil {
		return err
	}
	if c.Issuer == nil || c.IssuedAt == nil || c.Expiry == nil || c.ID == nil || c.EncounterID == nil || c.PatientID == nil || c.ProviderID == nil {
		return errors.New("a claim is null")
	}
	return nil
}

// claimsIn reads claims, which are an object with each name once (RFC 7519 §4): where a
// name stands twice, or in another letter case, two readers could see two persons.
func claimsIn(payload []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(payload))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("the claims are not a JSON object")
	}
	claims := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		name, isText := token.(string)
		var raw json.RawMessage
		if err != nil || !isText || d.Decode(&raw) != nil {
			return nil, errors.New("the claims are not JSON")
		}
		if _, twice := claims[name]; twice {
			return nil, errors.New("a claim stands there twice")
		}
		claims[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("the claims are not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the claims")
	}
	return claims, nil
}
