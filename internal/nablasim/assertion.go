package nablasim

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	assertionType     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	maxAssertionLife  = 5 * time.Minute
	assertionSkew     = time.Minute
	maxAssertionBytes = 8 << 10
	maxJTIBytes       = 256
	jwksRefetch       = 5 * time.Second
	maxJWKSBytes      = 64 << 10
)

// oauthError is the body of a refused token request (RFC 6749 §5.2).
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
}

// token is POST /oauth/token: client credentials with a JWT client assertion
// (RFC 7523 §2.2 and §3).
func (s *Sim) token(r *http.Request, body []byte) (int, any) {
	if reason := checkContentType(r); reason != "" {
		return http.StatusUnsupportedMediaType, oauthError{"invalid_request", reason}
	}
	p, err := readFields(body, tokenFields)
	if err != nil {
		return http.StatusBadRequest, oauthError{"invalid_request", err.Error()}
	}
	if p["grant_type"] != "client_credentials" {
		return http.StatusBadRequest, oauthError{"unsupported_grant_type", "grant_type must be client_credentials"}
	}
	if p["client_assertion_type"] != assertionType {
		return http.StatusBadRequest, oauthError{"invalid_request", "client_assertion_type is not jwt-bearer"}
	}
	if err := s.checkAssertion(r, p["client_assertion"]); err != nil {
		return http.StatusUnauthorized, oauthError{"invalid_client", err.Error()}
	}
	token, now := random(), s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, until := range s.tokens {
		if now.After(until) {
			delete(s.tokens, old)
		}
	}
	s.tokens[token] = now.Add(s.tokenLife)
	return http.StatusOK, tokenAnswer{token, int(s.tokenLife / time.Second)}
}

// checkAssertion returns why an assertion is refused, naming no value of it.
func (s *Sim) checkAssertion(r *http.Request, text string) error {
	if len(text) > maxAssertionBytes {
		return errors.New("the assertion is too long")
	}
	signed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil || len(signed.Headers) != 1 {
		return errors.New("the assertion is not a JWS with RS256 or ES256")
	}
	header := signed.Headers[0]
	if header.KeyID == "" {
		return errors.New("the assertion's header has no kid")
	}
	var unverified jwt.Claims
	if err := signed.UnsafeClaimsWithoutVerification(&unverified); err != nil {
		return errors.New("the assertion's claims are not those of a JWT")
	}
	keys, known := s.clients[unverified.Issuer]
	if !known {
		return errors.New("iss is not a known client")
	}
	now := s.clock.others()
	key, err := keys.find(r, header.KeyID, header.Algorithm, now)
	if err != nil {
		return err
	}
	var claims jwt.Claims
	if err := signed.Claims(key, &claims); err != nil {
		return errors.New("the assertion's signature is wrong")
	}
	switch {
	case claims.Subject != claims.Issuer:
		return errors.New("sub is not iss")
	case len(claims.Audience) != 1 || claims.Audience[0] != s.tokenEndpoint:
		return errors.New("aud is not the token endpoint")
	case claims.Expiry == nil:
		return errors.New("exp is missing")
	case claims.IssuedAt == nil:
		return errors.New("iat is missing")
	case !now.Before(claims.Expiry.Time()):
		return errors.New("the assertion is expired")
	case claims.Expiry.Time().After(now.Add(maxAssertionLife)):
		return errors.New("exp is more than five minutes away")
	case claims.IssuedAt.Time().After(now.Add(assertionSkew)):
		return errors.New("iat is in the future")
	case claims.Expiry.Time().Sub(claims.IssuedAt.Time()) > maxAssertionLife:
		return errors.New("the assertion lives for more than five minutes")
	case claims.NotBefore != nil && claims.NotBefore.Time().After(now.Add(assertionSkew)):
		return errors.New("nbf is in the future")
	case claims.ID == "" || len(claims.ID) > maxJTIBytes:
		return errors.New("jti is missing or too long")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, until := range s.assertions {
		if now.After(until) {
			delete(s.assertions, old)
		}
	}
	once := claims.Issuer + " " + claims.ID
	if _, seen := s.assertions[once]; seen {
		return errors.New("jti was used before")
	}
	s.assertions[once] = claims.Expiry.Time()
	return nil
}

// keySource finds the public keys of one client.
type keySource struct {
	url    string
	http   *http.Client
	static *rsa.PublicKey

	mu      sync.Mutex
	set     jose.JSONWebKeySet
	fetched time.Time
}

func newKeySource(c Client, h *http.Client) (*keySource, error) {
	k := &keySource{url: c.JWKSURL, http: h}
	ways := 0
	if c.JWKSURL != "" {
		ways++
	}
	if c.JWKS != nil {
		ways++
		if err := json.Unmarshal(c.JWKS, &k.set); err != nil {
			return nil, errors.New("the JWK set cannot be read")
		}
		if len(k.set.Keys) == 0 {
			return nil, errors.New("the JWK set is empty")
		}
	}
	if c.PublicKeyPEM != nil {
		ways++
		var err error
		if k.static, err = readRSAPublicKey(c.PublicKeyPEM); err != nil {
			return nil, err
		}
	}
	if ways != 1 {
		return nil, errors.New("exactly one of JWKS URL, JWK set and static key must be given")
	}
	return k, nil
}

func readRSAPublicKey(text []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the static key is not PEM")
	}
	if key, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the static key is not a public key")
	}
	if k, ok := key.(*rsa.PublicKey); ok {
		return k, nil
	}
	return nil, errors.New("the static key is not RSA")
}

// find returns the key for a kid and an algorithm. The algorithm follows the
// key, never the other way round.
func (k *keySource) find(r *http.Request, kid, alg string, now time.Time) (any, error) {
	if k.static != nil {
		if alg != string(jose.RS256) {
			return nil, errors.New("a static key means RS256 only")
		}
		return k.static, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	matches := k.set.Key(kid)
	if len(matches) == 0 && k.url != "" && (k.fetched.IsZero() || now.Sub(k.fetched) >= jwksRefetch) {
		k.fetched = now
		set, err := k.fetch(r)
		if err != nil {
			return nil, errors.New("the client's JWKS URL cannot be read")
		}
		k.set = set
		matches = k.set.Key(kid)
	}
	if len(matches) != 1 {
		return nil, errors.New("kid names no key of the client, or several")
	}
	key := matches[0]
	switch {
	case !key.Valid() || !key.IsPublic():
		return nil, errors.New("the client's key is not a public key")
	case key.Use != "" && key.Use != "sig":
		return nil, errors.New("the client's key is not for signatures")
	case key.Algorithm != "" && key.Algorithm != alg:
		return nil, errors.New("alg is not that of the client's key")
	}
	return key.Key, nil
}

func (k *keySource) fetch(r *http.Request) (set jose.JSONWebKeySet, err error) {
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, k.url, nil)
	if err != nil {
		return set, err
	}
	response, err := k.http.Do(request)
	if err != nil {
		return set, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return set, errors.New("status is not 200")
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxJWKSBytes))
	if err != nil {
		return set, err
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return set, err
	}
	// Private parts in a published set are a fault that a strict peer points out.
	if slices.ContainsFunc(set.Keys, func(j jose.JSONWebKey) bool { return !j.IsPublic() }) {
		return jose.JSONWebKeySet{}, errors.New("the set holds a private key")
	}
	return set, nil
}
