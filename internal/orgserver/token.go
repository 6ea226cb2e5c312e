package orgserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	maxTokenBytes = 16 << 10
	tokenSkew     = time.Minute
	// keysAge is how long a withdrawn key may go on working. keysPause is how often
	// tokens with invented key ids can make us ask the issuer, failurePause how
	// often we ask one that did not answer while we have no keys at all.
	keysAge      = 15 * time.Minute
	keysPause    = 10 * time.Second
	failurePause = time.Second
	issuerTime   = 5 * time.Second
	maxKeysBytes = 256 << 10
	// maxNumericDate is a time that no clock shows, and from which on a float64 is no
	// int64 any more.
	maxNumericDate = 1 << 40
	maxKeys        = 64
)

// accessTokenAlgorithms are asymmetric only: none and HS* would let whoever
// knows the public key sign (RFC 8725 §2.1, §3.1).
func accessTokenAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
}

// bearer returns the one bearer token of a request (RFC 6750 §2.1).
func bearer(r *http.Request) (secret.Text, error) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 || len(values[0]) <= 7 || !strings.EqualFold(values[0][:7], "Bearer ") {
		return secret.Text{}, problem.New(problem.Unauthorized, errors.New("the call does not carry exactly one bearer token"))
	}
	if len(values[0]) > maxTokenBytes {
		return secret.Text{}, problem.New(problem.Unauthorized, errors.New("the bearer token is too long"))
	}
	return secret.New(values[0][7:]), nil
}

// accessTokens verifies the access tokens of one issuer.
type accessTokens struct {
	issuer, audience string
	http             *http.Client
	now              func() time.Time

	known  knownTokens
	flight singleflight.Group
	mu     sync.Mutex
	// jwksURL is empty until the issuer was discovered.
	jwksURL string
	keys    []jose.JSONWebKey
	// generation counts how often keys were fetched.
	generation uint64
	// fetched is when keys were read, tried when that was last attempted, failure
	// how the last attempt ended.
	fetched, tried time.Time
	failure        error
}

// verifyFor returns the claims of an access token for an audience, which are read only.
// A token that was verified by the issuer's present keys is not verified again; the
// keys are fetched once for all audiences.
func (a *accessTokens) verifyFor(ctx context.Context, token secret.Text, audience string) (map[string]json.RawMessage, error) {
	t, err := a.verified(ctx, token, audience)
	return t.claims, err
}

func (a *accessTokens) verified(ctx context.Context, token secret.Text, audience string) (knownToken, error) {
	id := idOf(token, audience)
	if t, ok := a.known.find(id); ok {
		// The keys are as fresh as for a token never seen.
		if _, generation, err := a.current(ctx, false); err == nil && t.good(generation, a.now()) {
			return t, nil
		}
	}
	t, err := a.examine(ctx, token, audience)
	if err != nil {
		return knownToken{}, err
	}
	a.known.keep(id, t, len(token.Reveal()))
	return t, nil
}

// examine verifies an access token by RFC 9068 §4 and RFC 8725. An ID token is
// refused whatever its audience.
func (a *accessTokens) examine(ctx context.Context, token secret.Text, audience string) (knownToken, error) {
	// A JWT is compact (RFC 7519 §1): the other forms have headers that nobody has signed.
	parsed, err := jose.ParseSignedCompact(token.Reveal(), accessTokenAlgorithms())
	if err != nil || len(parsed.Signatures) != 1 {
		// The parser's error may quote the token.
		return knownToken{}, problem.New(problem.Unauthorized, errors.New("the access token is not a JWT with an accepted algorithm"))
	}
	if err := checkType(parsed.Signatures[0].Protected); err != nil {
		return knownToken{}, problem.New(problem.Unauthorized, err)
	}
	set := &keySet{of: a}
	algorithms := make([]string, 0, len(accessTokenAlgorithms()))
	for _, alg := range accessTokenAlgorithms() {
		algorithms = append(algorithms, string(alg))
	}
	verified, err := oidc.NewVerifier(a.issuer, set, &oidc.Config{
		ClientID: audience, SupportedSigningAlgs: algorithms, Now: a.now,
	}).Verify(ctx, token.Reveal())
	if set.unreachable != nil {
		return knownToken{}, problem.With(problem.OrgUnreachable, "The sign-in service does not answer it.", set.unreachable)
	}
	if err != nil {
		return knownToken{}, problem.New(problem.Unauthorized, classify(err, set))
	}
	var claims onceNamed
	if err := verified.Claims(&claims); err != nil {
		return knownToken{}, problem.New(problem.Unauthorized, errors.New("the access token's claims cannot be read"))
	}
	now := a.now()
	return knownToken{claims, set.generation, now, verified.Expiry, new(atomic.Pointer[person])}, a.checkClaims(verified, claims, now)
}

// onceNamed are claims in which no name stands twice, and none of those that the
// verifier reads in another letter case: it takes the last of them, whatever its case,
// and who reads the claims by their names would see another person or time.
type onceNamed map[string]json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (c *onceNamed) UnmarshalJSON(payload []byte) error {
	claims, err := claimsIn(payload)
	if err != nil {
		return err
	}
	for name := range claims {
		for _, read := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "nonce", "at_hash", "_claim_names", "_claim_sources"} {
			if name != read && strings.EqualFold(name, read) {
				return errors.New("a claim is named in another letter case")
			}
		}
	}
	*c = claims
	return nil
}

// checkType accepts at+jwt (RFC 9068 §2.1), the plain JWT that most issuers
// write, and none.
func checkType(h jose.Header) error {
	typ, present := h.ExtraHeaders[jose.HeaderType]
	if !present {
		return nil
	}
	text, ok := typ.(string)
	switch strings.TrimPrefix(strings.ToLower(text), "application/") {
	case "at+jwt", "jwt":
		if ok {
			return nil
		}
	}
	return errors.New("the token's type is not that of an access token")
}

func (a *accessTokens) checkClaims(t *oidc.IDToken, claims map[string]json.RawMessage, now time.Time) error {
	fault := func(what string) error { return problem.New(problem.Unauthorized, errors.New(what)) }
	// The verifier lets the very second of exp pass, and five minutes before nbf.
	if !now.Before(t.Expiry) {
		return fault("the access token is expired")
	}
	if raw, ok := claims["nbf"]; ok {
		var nbf float64
		if json.Unmarshal(raw, &nbf) != nil || nbf > maxNumericDate || time.Unix(int64(nbf), 0).After(now.Add(tokenSkew)) {
			return fault("the access token is not valid yet")
		}
	}
	if t.Subject == "" {
		return fault("the access token has no subject")
	}
	for _, name := range []string{"nonce", "at_hash", "c_hash"} {
		if _, ok := claims[name]; ok {
			return fault("the token is an ID token")
		}
	}
	// Two issuers say in a claim of their own what a token is for.
	for name, words := range map[string][]string{"token_use": {"access"}, "typ": {"bearer", "at+jwt", "jwt"}} {
		if raw, ok := claims[name]; ok && !oneOf(raw, words) {
			return fault("the token says that it is not an access token")
		}
	}
	return nil
}

func oneOf(raw json.RawMessage, words []string) bool {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return false
	}
	for _, w := range words {
		if strings.EqualFold(text, w) {
			return true
		}
	}
	return false
}

// classify says why a token was refused without what stood in it.
func classify(err error, set *keySet) error {
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return errors.New("the access token is expired")
	case set.refused:
		return errors.New("the access token's signature does not verify")
	}
	return errors.New("the access token's issuer, audience or times are wrong")
}

// keySet is the issuer's keys for one verification, and remembers why it failed:
// the verifier flattens errors.
type keySet struct {
	of          *accessTokens
	generation  uint64
	unreachable error
	refused     bool
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	parsed, err := jose.ParseSignedCompact(token, accessTokenAlgorithms())
	if err != nil || len(parsed.Signatures) != 1 {
		k.refused = true
		return nil, errors.New("the token is not a JWT")
	}
	header := parsed.Signatures[0].Protected
	for _, renew := range []bool{false, true} {
		keys, generation, err := k.of.current(ctx, renew)
		if err != nil {
			k.unreachable = err
			return nil, err
		}
		named := false
		for _, key := range keys {
			if (header.KeyID != "" && key.KeyID != header.KeyID) || (key.Algorithm != "" && key.Algorithm != header.Algorithm) {
				continue
			}
			named = true
			if payload, err := parsed.Verify(key.Key); err == nil {
				k.generation = generation
				return payload, nil
			}
		}
		// A known key that does not verify is a forgery, not a rotation.
		if named && header.KeyID != "" {
			break
		}
	}
	k.refused = true
	return nil, errors.New("no key verifies the token")
}

// current returns the issuer's keys and their generation. renew asks for newer ones, which is granted
// once in a while for all callers together. Keys that cannot be renewed go on
// serving; only without any is the issuer unreachable.
func (a *accessTokens) current(ctx context.Context, renew bool) ([]jose.JSONWebKey, uint64, error) {
	keys, generation, stale, failure := a.peek(renew)
	if !stale {
		return keys, generation, failure
	}
	done := a.flight.DoChan("keys", func() (any, error) {
		if _, _, stale, _ := a.peek(renew); stale {
			a.fetch(context.WithoutCancel(ctx))
		}
		return nil, nil
	})
	select {
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	case <-done:
	}
	keys, generation, _, failure = a.peek(false)
	return keys, generation, failure
}

func (a *accessTokens) peek(renew bool) (keys []jose.JSONWebKey, generation uint64, stale bool, failure error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	stale = renew || a.fetched.IsZero() || now.Sub(a.fetched) >= keysAge
	pause := keysPause
	if a.failure != nil && a.fetched.IsZero() {
		// Nobody gets in. With keys that still serve everybody would only wait for an
		// issuer that hangs, again and again.
		pause = failurePause
	}
	// Time that went backwards must not stop renewal for ever.
	if since := now.Sub(a.tried); !a.tried.IsZero() && since >= 0 && since < pause {
		stale = false
	}
	if a.fetched.IsZero() {
		return nil, 0, stale, a.failure
	}
	return a.keys, a.generation, stale, nil
}

func (a *accessTokens) fetch(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, issuerTime)
	defer cancel()
	keys, err := a.load(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tried, a.failure = a.now(), err
	if err == nil {
		a.keys, a.fetched = keys, a.tried
		a.generation++
	}
}

func (a *accessTokens) load(ctx context.Context) ([]jose.JSONWebKey, error) {
	a.mu.Lock()
	address := a.jwksURL
	a.mu.Unlock()
	if address == "" {
		var err error
		if address, err = a.discover(ctx); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("the issuer's keys have no usable address")
	}
	response, err := a.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetching the issuer's keys: %w", withoutURL(err))
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching the issuer's keys: status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxKeysBytes))
	if err != nil {
		return nil, fmt.Errorf("reading the issuer's keys: %w", err)
	}
	keys, err := signingKeys(body)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.jwksURL = address
	a.mu.Unlock()
	return keys, nil
}

// onlySafely keeps an issuer from sending us for its keys to where anybody on the way
// could exchange them.
func onlySafely(to *http.Request, via []*http.Request) error {
	const most = 5
	if len(via) > most || (to.URL.Scheme != "https" && !orgconfig.IsLoopbackHTTP(to.URL)) {
		return http.ErrUseLastResponse
	}
	return nil
}

// discover finds the issuer's keys (OpenID Connect Discovery §4); the library
// compares the issuer.
func (a *accessTokens) discover(ctx context.Context) (string, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, a.http), a.issuer)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			return "", fmt.Errorf("discovering the issuer: %w", withoutURL(err))
		}
		return "", errors.New("the issuer's discovery document is missing, not readable, or another issuer's")
	}
	var document struct {
		JWKSURL string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return "", errors.New("the issuer's discovery document cannot be read")
	}
	u, err := url.Parse(document.JWKSURL)
	issuer, issuerErr := url.Parse(a.issuer)
	if err != nil || issuerErr != nil || u.Host == "" || (u.Scheme != "https" && (!orgconfig.IsLoopbackHTTP(u) || !orgconfig.IsLoopbackHTTP(issuer))) {
		return "", errors.New("the issuer's keys are not at an https address")
	}
	return document.JWKSURL, nil
}

func withoutURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

// signingKeys reads a JWK set and passes over what it does not know: one key of a
// new kind must not shut everybody out (RFC 7517 §5). Symmetric keys are never taken.
func signingKeys(body []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("the issuer's keys are not a JWK set")
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) == nil && key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") && len(keys) < maxKeys {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the issuer publishes no usable key")
	}
	return keys, nil
}
