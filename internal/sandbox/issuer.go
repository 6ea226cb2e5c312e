package sandbox

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The lives of what the issuer hands out. The access token's is short, so that a
// demo of some minutes shows the refresh.
const (
	signInLife  = 10 * time.Minute
	codeLife    = time.Minute
	accessLife  = 5 * time.Minute
	refreshLife = 8 * time.Hour
	// maxSignIns bounds the sign-ins that wait for somebody to choose a name.
	maxSignIns = 256
)

// claimProviderID is the claim of the access token that holds the clinician's id
// in the EHR; claimEmail the one with the e-mail.
const (
	claimEmail      = "email"
	claimProviderID = "external_provider_id"
)

// clinician is one invented person who can sign in.
type clinician struct {
	// Key names the person in forms and is the OIDC subject's last part.
	Key, Name, Email, ProviderID string
}

func (c clinician) subject() string { return "sandbox-" + c.Key }

// clinicians are the two people of the sandbox. The addresses end in .example
// (RFC 2606 §2) and reach nobody.
func clinicians() []clinician {
	return []clinician{
		{Key: "ada", Name: "Dr. Ada Moreau", Email: "ada.moreau@hospital.example", ProviderID: "SBX-PROV-ADA"},
		{Key: "ben", Name: "Dr. Ben Okafor", Email: "ben.okafor@hospital.example", ProviderID: "SBX-PROV-BEN"},
	}
}

func clinicianBySubject(subject string) (clinician, bool) {
	for _, c := range clinicians() {
		if c.subject() == subject {
			return c, true
		}
	}
	return clinician{}, false
}

func clinicianByKey(key string) (clinician, bool) {
	for _, c := range clinicians() {
		if c.Key == key {
			return c, true
		}
	}
	return clinician{}, false
}

// issuer is an OIDC issuer for one public client: authorisation code with PKCE
// (S256 only), a loopback redirect on any port (RFC 8252 §7.3), JWT access
// tokens for one audience, refresh tokens that rotate and betray their reuse
// (RFC 9700 §4.14.2), revocation, end of session. It asks for no password.
//
// Everything is in memory: it forgets all when the sandbox ends.
type issuer struct {
	http.Handler
	provider *op.Provider
	clientID string
	audience string
	key      *rsa.PrivateKey
	keyID    string
	now      func() time.Time

	mu       sync.Mutex
	requests map[string]*signInRequest // guarded by mu; by request id
	codes    map[string]*signInRequest // guarded by mu; by code, spent ones too until they expire
	refresh  map[string]*refreshToken  // guarded by mu; by hash of the token, spent ones too
}

// family is all the tokens that descend from one sign-in.
type family struct {
	clientID, subject string
	scopes            []string
	authTime          time.Time
	revoked           bool
}

type refreshToken struct {
	family  *family
	spent   bool
	expires time.Time
}

func newIssuer(base, clientID, audience string, now func() time.Time) (*issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making the issuer's key: %w", err)
	}
	is := &issuer{
		clientID: clientID, audience: audience, key: key, keyID: randomText(), now: now,
		requests: map[string]*signInRequest{}, codes: map[string]*signInRequest{}, refresh: map[string]*refreshToken{},
	}
	config := &op.Config{
		CodeMethodS256: true, GrantTypeRefreshToken: true, DefaultLogoutRedirectURI: base + "/signed-out",
		SupportedScopes: []string{oidc.ScopeOpenID, oidc.ScopeEmail, oidc.ScopeProfile, oidc.ScopeOfflineAccess},
		SupportedClaims: []string{"sub", "aud", "exp", "iat", "iss", "auth_time", "nonce", "azp", "name", claimEmail, "email_verified", claimProviderID},
	}
	_, _ = rand.Read(config.CryptoKey[:])
	// The library's log quotes requests; nothing of them may be written.
	silent := slog.New(slog.NewTextHandler(io.Discard, nil))
	is.provider, err = op.NewProvider(config, is, op.StaticIssuer(base), op.WithAllowInsecure(), op.WithCORSOptions(nil), op.WithLogger(silent))
	if err != nil {
		return nil, fmt.Errorf("building the issuer: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", is.provider)
	mux.HandleFunc("GET /sign-in", is.showSignIn)
	mux.HandleFunc("POST /sign-in", is.chooseClinician)
	mux.HandleFunc("GET /signed-out", showSignedOut)
	is.Handler = mux
	return is, nil
}

// liveSignIns counts the sign-ins whose refresh token would still be accepted.
func (is *issuer) liveSignIns() int {
	is.mu.Lock()
	defer is.mu.Unlock()
	n := 0
	for _, t := range is.refresh {
		if !t.spent && !t.family.revoked && is.now().Before(t.expires) {
			n++
		}
	}
	return n
}

// signInRequest is one authorisation request, from its arrival until its code is
// redeemed. It is op.AuthRequest.
type signInRequest struct {
	id                       string
	request                  oidc.AuthRequest
	created, authTime, coded time.Time
	subject                  string
	done, redeemed           bool
	family                   *family
	issued                   audiences
}

// audiences answers GetAudience. The library asks one object twice, first for
// the access token and then for the ID token; the second must name the client
// only (OIDC Core §2), else an ID token would pass for an access token.
type audiences struct {
	clientID, backend string
	accessMade        bool
}

func (a *audiences) GetAudience() []string {
	if a.accessMade {
		return []string{a.clientID}
	}
	return []string{a.backend}
}

func (a *audiences) accessTokenMade() { a.accessMade = true }

func (r *signInRequest) GetID() string                      { return r.id }
func (r *signInRequest) GetACR() string                     { return "" }
func (r *signInRequest) GetAMR() []string                   { return nil }
func (r *signInRequest) GetAudience() []string              { return r.issued.GetAudience() }
func (r *signInRequest) accessTokenMade()                   { r.issued.accessTokenMade() }
func (r *signInRequest) GetAuthTime() time.Time             { return r.authTime }
func (r *signInRequest) GetClientID() string                { return r.request.ClientID }
func (r *signInRequest) GetNonce() string                   { return r.request.Nonce }
func (r *signInRequest) GetRedirectURI() string             { return r.request.RedirectURI }
func (r *signInRequest) GetResponseType() oidc.ResponseType { return r.request.ResponseType }
func (r *signInRequest) GetResponseMode() oidc.ResponseMode { return r.request.ResponseMode }
func (r *signInRequest) GetScopes() []string                { return r.request.Scopes }
func (r *signInRequest) GetState() string                   { return r.request.State }
func (r *signInRequest) GetSubject() string                 { return r.subject }
func (r *signInRequest) Done() bool                         { return r.done }
func (r *signInRequest) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: r.request.CodeChallenge, Method: r.request.CodeChallengeMethod}
}

// refreshRequest is op.RefreshTokenRequest.
type refreshRequest struct {
	audiences
	family *family
	scopes []string
}

func (r *refreshRequest) GetAMR() []string                 { return nil }
func (r *refreshRequest) GetAuthTime() time.Time           { return r.family.authTime }
func (r *refreshRequest) GetClientID() string              { return r.family.clientID }
func (r *refreshRequest) GetScopes() []string              { return r.scopes }
func (r *refreshRequest) GetSubject() string               { return r.family.subject }
func (r *refreshRequest) SetCurrentScopes(scopes []string) { r.scopes = scopes }

// CreateAuthRequest keeps an authorisation request that the library has checked.
func (is *issuer) CreateAuthRequest(_ context.Context, request *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	if len(request.Prompt) == 1 && request.Prompt[0] == oidc.PromptNone {
		return nil, oidc.ErrLoginRequired()
	}
	if request.CodeChallenge == "" || request.CodeChallengeMethod != oidc.CodeChallengeMethodS256 {
		return nil, oidc.ErrInvalidRequest().WithDescription("code_challenge with code_challenge_method S256 is required")
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	is.forgetExpired()
	if len(is.requests) >= maxSignIns {
		return nil, oidc.ErrServerError().WithDescription("too many sign-ins are waiting")
	}
	r := &signInRequest{
		id: randomText(), request: *request, created: is.now(),
		issued: audiences{clientID: request.ClientID, backend: is.audience},
	}
	is.requests[r.id] = r
	return r, nil
}

// forgetExpired needs mu.
func (is *issuer) forgetExpired() {
	now := is.now()
	for id, r := range is.requests {
		if now.Sub(r.created) > signInLife {
			delete(is.requests, id)
		}
	}
	for code, r := range is.codes {
		if now.Sub(r.coded) > signInLife {
			delete(is.codes, code)
		}
	}
	for hash, t := range is.refresh {
		if now.After(t.expires) {
			delete(is.refresh, hash)
		}
	}
}

// AuthRequestByID returns a request that waits for its code.
func (is *issuer) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	is.mu.Lock()
	defer is.mu.Unlock()
	r, ok := is.requests[id]
	if !ok || is.now().Sub(r.created) > signInLife {
		return nil, errors.New("this sign-in is not known any more")
	}
	return r, nil
}

// SaveAuthCode gives a finished request its code.
func (is *issuer) SaveAuthCode(_ context.Context, id, code string) error {
	is.mu.Lock()
	defer is.mu.Unlock()
	r, ok := is.requests[id]
	if !ok {
		return errors.New("this sign-in is not known any more")
	}
	delete(is.requests, id)
	r.coded = is.now()
	is.codes[code] = r
	return nil
}

// AuthRequestByCode redeems a code, once. A code that comes again takes back
// what the first gave (RFC 6749 §4.1.2).
func (is *issuer) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	is.mu.Lock()
	defer is.mu.Unlock()
	r, ok := is.codes[code]
	switch {
	case !ok || is.now().Sub(r.coded) > codeLife:
		return nil, errors.New("code unknown or expired")
	case r.redeemed:
		if r.family != nil {
			r.family.revoked = true
		}
		return nil, errors.New("code used before")
	}
	r.redeemed = true
	return r, nil
}

// DeleteAuthRequest has nothing to do: the code stays known until it expires, so
// that its reuse is seen.
func (is *issuer) DeleteAuthRequest(context.Context, string) error { return nil }

// CreateAccessToken names an access token; being a JWT it is not kept.
func (is *issuer) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return randomText(), is.now().Add(accessLife), nil
}

// CreateAccessAndRefreshTokens gives the first refresh token of a sign-in, or
// spends the current one for the next.
func (is *issuer) CreateAccessAndRefreshTokens(_ context.Context, request op.TokenRequest, current string) (string, string, time.Time, error) {
	is.mu.Lock()
	defer is.mu.Unlock()
	var f *family
	switch r := request.(type) {
	case *signInRequest:
		f = &family{clientID: r.request.ClientID, subject: r.subject, scopes: r.request.Scopes, authTime: r.authTime}
		r.family = f
	case *refreshRequest:
		token, err := is.liveRefreshToken(current)
		if err != nil {
			return "", "", time.Time{}, oidc.ErrInvalidGrant()
		}
		token.spent = true
		f = token.family
	default:
		return "", "", time.Time{}, oidc.ErrUnsupportedGrantType()
	}
	next := randomText()
	is.refresh[hashOf(next)] = &refreshToken{family: f, expires: is.now().Add(refreshLife)}
	return randomText(), next, is.now().Add(accessLife), nil
}

// liveRefreshToken finds a token that may be used. One that was used before
// ends its whole family: either of the two users may be a thief. It needs mu.
func (is *issuer) liveRefreshToken(token string) (*refreshToken, error) {
	t, ok := is.refresh[hashOf(token)]
	switch {
	case !ok:
		return nil, errors.New("refresh token unknown")
	case t.spent:
		t.family.revoked = true
		return nil, errors.New("refresh token used before")
	case t.family.revoked:
		return nil, errors.New("refresh token revoked")
	case is.now().After(t.expires):
		return nil, errors.New("refresh token expired")
	}
	return t, nil
}

// TokenRequestByRefreshToken says on whose behalf a refresh token speaks.
func (is *issuer) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	is.mu.Lock()
	defer is.mu.Unlock()
	t, err := is.liveRefreshToken(token)
	if err != nil {
		return nil, err
	}
	return &refreshRequest{
		audiences: audiences{clientID: t.family.clientID, backend: is.audience},
		family:    t.family, scopes: slices.Clone(t.family.scopes),
	}, nil
}

// TerminateSession ends every sign-in of one person.
func (is *issuer) TerminateSession(_ context.Context, subject, clientID string) error {
	is.mu.Lock()
	defer is.mu.Unlock()
	for _, t := range is.refresh {
		if t.family.subject == subject && t.family.clientID == clientID {
			t.family.revoked = true
		}
	}
	return nil
}

// RevokeToken ends the family of a refresh token (RFC 7009 §2.1). An access
// token is a JWT that lives for minutes: revoking one changes nothing.
func (is *issuer) RevokeToken(_ context.Context, token, _, clientID string) *oidc.Error {
	is.mu.Lock()
	defer is.mu.Unlock()
	t, ok := is.refresh[hashOf(token)]
	if !ok {
		return nil
	}
	if t.family.clientID != clientID {
		return oidc.ErrInvalidClient().WithDescription("the token was not issued to this client")
	}
	t.family.revoked = true
	return nil
}

// GetRefreshTokenInfo tells the library which texts are refresh tokens.
func (is *issuer) GetRefreshTokenInfo(_ context.Context, _, token string) (string, string, error) {
	is.mu.Lock()
	defer is.mu.Unlock()
	t, ok := is.refresh[hashOf(token)]
	if !ok {
		return "", "", op.ErrInvalidRefreshToken
	}
	return t.family.subject, token, nil
}

// signingKey is op.SigningKey and, with public set, op.Key.
type signingKey struct {
	id  string
	key any
}

func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k signingKey) Algorithm() jose.SignatureAlgorithm          { return jose.RS256 }
func (k signingKey) Use() string                                 { return "sig" }
func (k signingKey) Key() any                                    { return k.key }
func (k signingKey) ID() string                                  { return k.id }

// SigningKey is the private key of this run.
func (is *issuer) SigningKey(context.Context) (op.SigningKey, error) {
	return signingKey{is.keyID, is.key}, nil
}

// SignatureAlgorithms names the one algorithm of the key.
func (is *issuer) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

// KeySet publishes the public part.
func (is *issuer) KeySet(context.Context) ([]op.Key, error) {
	return []op.Key{signingKey{is.keyID, &is.key.PublicKey}}, nil
}

// GetClientByClientID knows the launcher and nobody else.
func (is *issuer) GetClientByClientID(_ context.Context, clientID string) (op.Client, error) {
	if clientID != is.clientID {
		return nil, oidc.ErrInvalidClient().WithDescription("unknown client")
	}
	return publicClient{clientID}, nil
}

// AuthorizeClientIDSecret refuses: a public client has no secret.
func (is *issuer) AuthorizeClientIDSecret(context.Context, string, string) error {
	return errors.New("no client has a secret")
}

// SetUserinfoFromScopes is empty, as the library asks.
func (is *issuer) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest fills the ID token.
func (is *issuer) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, request op.IDTokenRequest, _ []string) error {
	return fillUserinfo(info, request.GetSubject())
}

// SetUserinfoFromToken fills the answer of the userinfo endpoint.
func (is *issuer) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, _, subject, _ string) error {
	return fillUserinfo(info, subject)
}

func fillUserinfo(info *oidc.UserInfo, subject string) error {
	c, ok := clinicianBySubject(subject)
	if !ok {
		return errors.New("nobody of the sandbox")
	}
	info.Subject, info.Name = c.subject(), c.Name
	info.Email, info.EmailVerified = c.Email, true
	info.AppendClaims(claimProviderID, c.ProviderID)
	return nil
}

// SetIntrospectionFromToken refuses: the access tokens are read, not asked about.
func (is *issuer) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errors.New("introspection is not offered")
}

// GetPrivateClaimsFromRequest gives the access token the claims by which the
// backend knows the clinician.
func (is *issuer) GetPrivateClaimsFromRequest(_ context.Context, request op.TokenRequest, _ []string) (map[string]any, error) {
	c, ok := clinicianBySubject(request.GetSubject())
	if !ok {
		return nil, errors.New("nobody of the sandbox")
	}
	if r, ok := request.(interface{ accessTokenMade() }); ok {
		r.accessTokenMade()
	}
	return map[string]any{claimEmail: c.Email, claimProviderID: c.ProviderID}, nil
}

// GetPrivateClaimsFromScopes is not reached: the library prefers the method above.
func (is *issuer) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, errors.New("claims come from the request")
}

// GetKeyByIDAndClientID refuses: no client signs assertions here.
func (is *issuer) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errors.New("no client has a key")
}

// ValidateJWTProfileScopes refuses the JWT profile grant.
func (is *issuer) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, oidc.ErrUnauthorizedClient()
}

// Health reports that memory works.
func (is *issuer) Health(context.Context) error { return nil }

// publicClient is the launcher as the issuer knows it.
type publicClient struct{ id string }

func (c publicClient) GetID() string                       { return c.id }
func (c publicClient) RedirectURIs() []string              { return []string{"http://127.0.0.1/callback"} }
func (c publicClient) PostLogoutRedirectURIs() []string    { return nil }
func (c publicClient) ApplicationType() op.ApplicationType { return op.ApplicationTypeNative }
func (c publicClient) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodNone }
func (c publicClient) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c publicClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
}
func (c publicClient) LoginURL(id string) string           { return "/sign-in?request=" + id }
func (c publicClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
func (c publicClient) IDTokenLifetime() time.Duration      { return accessLife }
func (c publicClient) DevMode() bool                       { return false }
func (c publicClient) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}
func (c publicClient) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}
func (c publicClient) IsScopeAllowed(string) bool           { return false }
func (c publicClient) IDTokenUserinfoClaimsAssertion() bool { return true }
func (c publicClient) ClockSkew() time.Duration             { return 0 }

// randomText is 256 unguessable bits for URLs.
func randomText() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return string(sum[:])
}
