package launch

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"encounterlauncher/internal/problem"
)

// Rules is what an organisation allows: which forms, whose signatures, for which
// backend. It is read-only after NewRules; the zero value allows nothing.
type Rules struct {
	forms    []Form
	keys     []linkKey
	audience string
}

// linkKey is one public key: fixed to one algorithm and to one issuer.
type linkKey struct {
	issuer, kid, algorithm string
	public                 any
}

// minRSABits is the least modulus for RS256 (RFC 7518 §3.3).
const minRSABits = 2048

// NewRules makes rules from policy values: forms is AllowedLinkForms, linkKeys
// the JSON of LinkKeys (nil when unset), audience the BackendURL exactly as the
// policy has it (empty when unset: then no signed request is accepted).
//
// LinkKeys is a JWK set (RFC 7517 §5). Each key needs three members that are
// otherwise optional: kid; alg, fixing the key to one of ES256, EdDSA (Ed25519)
// and RS256 (2,048 bits or more); and iss, our own member, naming the iss claim
// of the requests that the key may sign. A private or symmetric key, a key for
// encryption, the same iss and kid twice, and a set without keys are refused.
//
// Every error is a policy_invalid problem.
func NewRules(forms []string, linkKeys []byte, audience string) (Rules, error) {
	r := Rules{audience: audience}
	for _, form := range forms {
		switch f := Form(form); f {
		case FormHandle, FormRequest, FormIdentifiers:
			r.forms = append(r.forms, f)
		default:
			return Rules{}, problem.With(problem.PolicyInvalid, "AllowedLinkForms names a form that is not known.", nil)
		}
	}
	if linkKeys == nil {
		return r, nil
	}
	keys, err := parseKeys(linkKeys)
	if err != nil {
		return Rules{}, problem.With(problem.PolicyInvalid, "LinkKeys cannot be used.", err)
	}
	r.keys = keys
	return r, nil
}

func parseKeys(text []byte) ([]linkKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("reading the key set: not a JWK set")
	}
	if len(set.Keys) == 0 {
		return nil, errors.New("reading the key set: it holds no key")
	}
	var keys []linkKey
	for i, raw := range set.Keys {
		key, err := parseKey(raw)
		if err != nil {
			return nil, fmt.Errorf("reading key %d: %w", i+1, err)
		}
		for _, other := range keys {
			if other.issuer == key.issuer && other.kid == key.kid {
				return nil, fmt.Errorf("reading key %d: the same iss and kid stand twice", i+1)
			}
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(raw json.RawMessage) (linkKey, error) {
	var ours struct {
		Issuer     string   `json:"iss"`
		Operations []string `json:"key_ops"`
	}
	if err := json.Unmarshal(raw, &ours); err != nil {
		return linkKey{}, errors.New("its members have the wrong types")
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return linkKey{}, errors.New("it is not a JWK")
	}
	switch {
	case ours.Issuer == "":
		return linkKey{}, errors.New("the member iss is missing")
	case jwk.KeyID == "":
		return linkKey{}, errors.New("the member kid is missing")
	case !jwk.IsPublic():
		return linkKey{}, errors.New("it is not a public key")
	case jwk.Use != "" && jwk.Use != "sig":
		return linkKey{}, errors.New("it is not for signatures")
	case ours.Operations != nil && !slices.Contains(ours.Operations, "verify"):
		return linkKey{}, errors.New("it is not for verifying")
	}
	key := linkKey{issuer: ours.Issuer, kid: jwk.KeyID, algorithm: jwk.Algorithm, public: jwk.Key}
	fits := false
	switch public := jwk.Key.(type) {
	case *ecdsa.PublicKey:
		fits = key.algorithm == algES256 && public.Curve == elliptic.P256()
	case ed25519.PublicKey:
		fits = key.algorithm == algEdDSA
	case *rsa.PublicKey:
		fits = key.algorithm == algRS256 && public.N.BitLen() >= minRSABits
	}
	if !fits {
		return linkKey{}, errors.New("its alg is missing or does not fit the key")
	}
	return key, nil
}

// Once identifies a signed request that may be accepted once. Whoever accepts
// links remembers Issuer and ID together until Until and refuses a second one.
// It is zero for the other forms: there the backend spends the handle.
type Once struct {
	Issuer, ID string
	// Until is when the request is refused as expired anyway, skew included.
	Until time.Time
}

// Check reports whether the organisation accepts the request at the given time.
//
// Errors are problems: link_form_not_allowed; link_invalid for a signed request
// with a wrong signature, an unknown key, another audience, or a time in the
// future; link_expired; policy_missing when there is no audience to compare a
// signed request with. With LinkKeys the signature is verified before anything
// that the request says is believed; without, only its shape, audience and times
// are checked here and the backend verifies it. Clocks may differ by 60 seconds.
func (r Rules) Check(now time.Time, request Request) (Once, error) {
	if !slices.Contains(r.forms, request.form) {
		return Once{}, problem.New(problem.LinkFormNotAllowed, nil)
	}
	if request.form != FormRequest {
		return Once{}, nil
	}
	signed, err := parseSigned(request.value.Reveal())
	if err != nil {
		return Once{}, problem.New(problem.LinkInvalid, err)
	}
	if r.keys != nil {
		if err := r.verify(request.value.Reveal(), signed); err != nil {
			return Once{}, problem.With(problem.LinkInvalid, "Its signature is not from a key of the policy.", err)
		}
	}
	switch {
	case r.audience == "":
		return Once{}, problem.With(problem.PolicyMissing, "BackendURL is not set, so a signed request cannot be checked.", nil)
	case signed.audience != r.audience:
		return Once{}, invalid("Its signed request is for another backend.")
	case signed.issued.After(now.Add(clockSkew)):
		return Once{}, invalid("Its signed request is from the future: compare the clocks of this computer and of the EHR's server.")
	case !now.Before(signed.expires.Add(clockSkew)):
		return Once{}, problem.New(problem.LinkExpired, nil)
	}
	return Once{Issuer: signed.issuer, ID: signed.id, Until: signed.expires.Add(clockSkew)}, nil
}

func (r Rules) verify(compact string, signed signedRequest) error {
	for _, key := range r.keys {
		if key.issuer != signed.issuer || key.kid != signed.kid {
			continue
		}
		if key.algorithm != signed.algorithm {
			return errors.New("verifying: the key is fixed to another algorithm")
		}
		jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(key.algorithm)})
		if err != nil {
			return errors.New("verifying: not a compact JWS")
		}
		if _, err := jws.Verify(key.public); err != nil {
			return errors.New("verifying: the signature is wrong")
		}
		return nil
	}
	return errors.New("verifying: no key of that issuer has that kid")
}
