package signin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// descriptionLife is how long a discovery document is believed.
const descriptionLife = time.Hour

// description is what a checked discovery document says.
type description struct {
	authorization, token, revocation, endSession string
	// namesIssuer: every authorization answer carries iss (RFC 9207 §3).
	namesIssuer bool
	hosts       []string
	algorithms  []string
	keys        *oidc.RemoteKeySet
	// fetchKeys is done once the keys were asked for ahead of their first use.
	fetchKeys sync.Once
}

// cache keeps one description for descriptionLife. A failure is not kept.
type cache struct {
	fetch func(context.Context) (*description, error)
	now   func() time.Time
	// lock holds one token; a channel, so that waiting for it ends with a context.
	lock  chan struct{}
	value *description
	at    time.Time
}

func newCache(fetch func(context.Context) (*description, error), now func() time.Time) *cache {
	return &cache{fetch: fetch, now: now, lock: make(chan struct{}, 1)}
}

func (c *cache) get(ctx context.Context) (*description, error) {
	select {
	case c.lock <- struct{}{}:
		defer func() { <-c.lock }()
	case <-ctx.Done():
		return nil, &callFailure{cause: ctx.Err()}
	}
	if age := c.now().Sub(c.at); c.value != nil && age >= 0 && age < descriptionLife {
		return c.value, nil
	}
	value, err := c.fetch(ctx)
	if err != nil {
		return nil, err
	}
	c.value, c.at = value, c.now()
	return value, nil
}

// renew fetches the description although one may be known. Where that fails, the
// one that is known stays.
func (c *cache) renew(ctx context.Context) error {
	value, err := c.fetch(ctx)
	if err != nil {
		return err
	}
	select {
	case c.lock <- struct{}{}:
		defer func() { <-c.lock }()
	case <-ctx.Done():
		return &callFailure{cause: ctx.Err()}
	}
	c.value, c.at = value, c.now()
	return nil
}

// discover fetches and checks the provider's discovery document (OpenID Connect
// Discovery §4).
func (c *Client) discover(ctx context.Context) (*description, error) {
	if err := c.checkConfig(); err != nil {
		return nil, err
	}
	ctx = oidc.ClientContext(ctx, c.http)
	provider, err := oidc.NewProvider(ctx, c.config.Issuer)
	var mismatch *oidc.IssuerMismatchError
	if errors.As(err, &mismatch) {
		return nil, failed("The sign-in service is another than the one that the policy names.", "the discovery document names another issuer")
	}
	if err != nil {
		return nil, err
	}
	var document struct {
		Issuer        string   `json:"issuer"`
		Authorization string   `json:"authorization_endpoint"`
		Token         string   `json:"token_endpoint"`
		Keys          string   `json:"jwks_uri"`
		Revocation    string   `json:"revocation_endpoint"`
		EndSession    string   `json:"end_session_endpoint"`
		NamesIssuer   bool     `json:"authorization_response_iss_parameter_supported"`
		Challenges    []string `json:"code_challenge_methods_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := provider.Claims(&document); err != nil {
		return nil, errors.New("the discovery document is not of its form")
	}
	if len(document.Challenges) > 0 && !slices.Contains(document.Challenges, "S256") {
		return nil, failed("The sign-in service does not support the way in which this program signs in.", "the provider does not support PKCE with S256")
	}
	d := &description{
		authorization: document.Authorization, token: document.Token, revocation: document.Revocation, endSession: document.EndSession,
		namesIssuer: document.NamesIssuer, algorithms: signing(document.Algorithms),
	}
	for name, address := range map[string]string{
		"issuer": document.Issuer, "authorization_endpoint": document.Authorization, "token_endpoint": document.Token,
		"jwks_uri": document.Keys, "revocation_endpoint": document.Revocation, "end_session_endpoint": document.EndSession,
	} {
		if address == "" && (name == "revocation_endpoint" || name == "end_session_endpoint") {
			continue
		}
		host, err := c.endpoint(address)
		if err != nil {
			return nil, failed("The sign-in service names an address that is not safe.", name+": "+err.Error())
		}
		if !slices.Contains(d.hosts, host) {
			d.hosts = append(d.hosts, host)
		}
	}
	slices.Sort(d.hosts)
	d.keys = oidc.NewRemoteKeySet(ctx, document.Keys)
	return d, nil
}

// signing keeps the algorithms with which an ID token may be signed: those with a
// public key. None left means RS256, which every provider must have.
func signing(named []string) []string {
	var kept []string
	for _, a := range named {
		switch a {
		case oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA:
			kept = append(kept, a)
		}
	}
	if len(kept) == 0 {
		return []string{oidc.RS256}
	}
	return kept
}

func (c *Client) checkConfig() error {
	invalid := func(fact string, err error) error { return problem.With(problem.PolicyInvalid, fact, err) }
	if _, err := c.endpoint(c.config.Issuer); err != nil {
		return invalid("OIDCIssuer cannot be used.", err)
	}
	if strings.ContainsAny(c.config.Issuer, "?#") {
		return invalid("OIDCIssuer cannot be used.", errors.New("the issuer holds a query or a fragment"))
	}
	if c.config.ClientID == "" {
		return invalid("OIDCClientID cannot be used.", errors.New("the client id is empty"))
	}
	if !slices.Contains(c.config.Scopes, oidc.ScopeOpenID) {
		return invalid("OIDCScopes cannot be used.", errors.New("the scopes lack openid"))
	}
	return nil
}

// endpoint checks the form of an address of the provider and returns its host
// name. The errors quote nothing.
func (c *Client) endpoint(address string) (string, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || address == "" || len(address) > 2048:
		return "", errors.New("not a URL")
	case u.User != nil || u.Fragment != "" || strings.Contains(address, "#") || u.Opaque != "" || u.Hostname() == "" || strings.HasSuffix(u.Host, ":"):
		return "", errors.New("not of the form of an endpoint")
	case u.String() != address || !plain(address):
		return "", errors.New("not written in its plain form")
	case u.Scheme == "http" && c.config.LoopbackHTTP && u.Hostname() == "127.0.0.1" && u.Port() != "":
	case u.Scheme != "https":
		return "", errors.New("not https")
	}
	return strings.ToLower(u.Hostname()), nil
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("\"'`\\<>{}|^$", s[i]) >= 0 {
			return false
		}
	}
	return true
}

// tokens is a successful answer of the token endpoint.
type tokens struct {
	access, refresh secret.Text
	idToken         string
	life            time.Duration
}

// oauthRefusal is an error answer of the token endpoint. code is one of the
// standards' words or "unknown".
type oauthRefusal struct {
	status int
	code   string
}

func (r *oauthRefusal) Error() string {
	return fmt.Sprintf("the sign-in service answered %d with the error %s", r.status, r.code)
}

// token posts a form to the token endpoint. The library's client-credentials flow
// is its one entrance that takes any form: its own refresh cannot carry resource.
func (c *Client) token(ctx context.Context, d *description, form url.Values) (tokens, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, c.http), callTime)
	defer cancel()
	config := clientcredentials.Config{
		ClientID: c.config.ClientID, TokenURL: d.token, EndpointParams: form, AuthStyle: oauth2.AuthStyleInParams,
	}
	got, err := config.Token(ctx)
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		return tokens{}, &oauthRefusal{status: refused.Response.StatusCode, code: standard(refused.ErrorCode)}
	}
	if err != nil {
		return tokens{}, err
	}
	// RFC 6749 §7.1: a token of a type that is not understood is not used.
	if !strings.EqualFold(got.TokenType, "Bearer") {
		return tokens{}, failed("The sign-in service gave an answer that cannot be used.", "the access token is not a bearer token")
	}
	if !plain(got.AccessToken) || !plainOrSpaced(got.RefreshToken) {
		return tokens{}, failed("The sign-in service gave an answer that cannot be used.", "a token holds characters that no token has")
	}
	idToken, _ := got.Extra("id_token").(string)
	life := defaultLife
	if seconds, ok := got.Extra("expires_in").(float64); ok && seconds >= 1 && seconds < 1<<31 {
		life = time.Duration(seconds) * time.Second
	}
	return tokens{access: secret.New(got.AccessToken), refresh: secret.New(got.RefreshToken), idToken: idToken, life: life}, nil
}

// plainOrSpaced allows what RFC 6749 §A.17 allows in a refresh token: visible
// ASCII and space.
func plainOrSpaced(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// person is what a verified ID token says.
type person struct {
	subject, email, nonce string
	authTime              time.Time
}

// fetched hands the keys to the verifier and remembers why they could not be
// fetched: the verifier drops that.
type fetched struct {
	keys oidc.KeySet
	err  error
}

func (f *fetched) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := f.keys.VerifySignature(ctx, token)
	f.err = err
	return payload, err
}

// verify checks an ID token (OpenID Connect Core §3.1.3.7, §12.2): signature by
// the provider's keys, iss, aud, azp, exp, iat and, where present, at_hash. The
// nonce is the caller's.
func (c *Client) verify(ctx context.Context, d *description, got tokens) (person, error) {
	refuse := func(cause string) (person, error) {
		return person{}, failed("The sign-in service's statement of who signed in cannot be trusted.", cause)
	}
	keys := &fetched{keys: d.keys}
	verifier := oidc.NewVerifier(c.config.Issuer, keys, &oidc.Config{
		ClientID: c.config.ClientID, SupportedSigningAlgs: d.algorithms,
		Now: func() time.Time { return c.now().Add(-skew) },
	})
	token, err := verifier.Verify(ctx, got.idToken)
	if err != nil {
		if unreachable(keys.err) {
			return person{}, keys.err
		}
		var untrusted *problem.Problem
		if errors.As(keys.err, &untrusted) {
			return person{}, untrusted
		}
		var expired *oidc.TokenExpiredError
		if errors.As(err, &expired) {
			return refuse("the ID token has expired, or this computer's clock is wrong")
		}
		return refuse("the ID token's signature, issuer, audience or form is wrong")
	}
	var claims struct {
		AuthorizedParty string `json:"azp"`
		Email           string `json:"email"`
		EmailVerified   any    `json:"email_verified"`
		AuthTime        any    `json:"auth_time"`
	}
	if err := token.Claims(&claims); err != nil {
		return refuse("the claims of the ID token are not of their form")
	}
	switch {
	// The library lets the very second of exp pass; OpenID Connect Core §3.1.3.7 does not.
	case !c.now().Add(-skew).Before(token.Expiry):
		return refuse("the ID token has expired, or this computer's clock is wrong")
	// The library makes an exception for one provider; there is none here.
	case !same(token.Issuer, c.config.Issuer):
		return refuse("the ID token names another issuer")
	case claims.AuthorizedParty != "" && !same(claims.AuthorizedParty, c.config.ClientID):
		return refuse("the ID token was issued to another program")
	case len(token.Audience) > 1 && claims.AuthorizedParty == "":
		return refuse("the ID token has several audiences and does not say to which program it was issued")
	case token.IssuedAt.Unix() <= 0 || token.IssuedAt.After(c.now().Add(5*time.Minute)):
		return refuse("the ID token's time of issue is missing or lies in the future")
	case token.Subject == "" || len(token.Subject) > 255 || !shown(token.Subject):
		return refuse("the ID token's subject is missing or not of its form")
	}
	if token.AccessTokenHash != "" && token.VerifyAccessToken(got.access.Reveal()) != nil {
		return refuse("the access token is not the one that the ID token was issued with")
	}
	who := person{subject: token.Subject, nonce: token.Nonce}
	if claims.AuthTime != nil {
		seconds, ok := claims.AuthTime.(float64)
		if !ok || seconds < 1 || seconds > 1<<40 {
			return refuse("the ID token's auth_time is not a time")
		}
		who.authTime = time.Unix(int64(seconds), 0)
	}
	// An address that anybody could have typed is not shown and not audited.
	unverified := claims.EmailVerified == false || claims.EmailVerified == "false"
	if e := claims.Email; !unverified && strings.Contains(e, "@") && len(e) <= 320 && shown(e) {
		who.email = e
	}
	return who, nil
}

// shown reports whether a text may stand in a window, a menu and an audit line:
// no control, format or other invisible character.
func shown(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
