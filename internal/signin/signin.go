// Package signin signs a person in at the organisation's OpenID provider: the
// authorization code flow with PKCE in the system's browser, answered on a
// loopback port (RFC 8252), and afterwards the refreshing and the revoking of
// what it gave.
//
// It never opens the browser itself, never stores a token, never sees a
// password, never asks the userinfo endpoint (the ID token says who the person
// is, or nobody does), never follows a redirection, and never shows or logs what
// the provider wrote in words. Nothing that arrives on its port is trusted
// before the state has matched.
package signin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	// defaultTimeout is how long a sign-in page may wait for the person.
	defaultTimeout = 5 * time.Minute
	// callTime bounds each call to the provider.
	callTime = 15 * time.Second
	// skew is how far the clocks of provider and workstation may differ.
	skew = time.Minute
	// defaultLife is assumed of an access token whose life the provider does not
	// name (RFC 6749 §5.1 only recommends it).
	defaultLife = 5 * time.Minute
)

// Config is what a Client needs. Issuer and ClientID are required.
type Config struct {
	// Issuer is the provider's issuer identifier, exactly as the provider writes
	// it: https, or with LoopbackHTTP http://127.0.0.1:<port>.
	Issuer string
	// ClientID names this program at the provider, as a public client.
	ClientID string
	// Audience is for whom the access token is meant: sent as resource (RFC 8707)
	// when it is an absolute URI, else as audience; empty sends neither.
	Audience string
	// Prompt is sent when it is not empty, for example "login".
	Prompt string
	// Scopes are sent as they are; none means openid, email and offline_access.
	// They must hold openid.
	Scopes []string
	// MaxAge is sent, in seconds, unless it is negative; when it was sent, the ID
	// token must prove it with auth_time.
	MaxAge time.Duration
	// RedirectPorts are tried in this order; none means any free port.
	RedirectPorts []int
	// LoopbackHTTP allows a provider on http://127.0.0.1:<port>: the sandbox only.
	LoopbackHTTP bool
	// HTTP gives the transport; its redirect policy, cookies and timeout are not
	// used. Nil means http.DefaultTransport.
	HTTP *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Timeout bounds the wait for the person; 0 means five minutes.
	Timeout time.Duration
	// Log receives, at debug, what happened on the port; nil discards it.
	Log *slog.Logger
	// Words are what the last page says; the zero value says it in English.
	Words Words
}

// Words are the texts of the page that the browser shows when a sign-in has
// ended, in the person's language. They are plain text and never markup; the page
// escapes them.
type Words struct {
	// Language is the BCP 47 tag of all of them.
	Language string
	// Product is the program's name.
	Product string
	// SignedIn and SignedInNext say that it went well, and what comes now.
	SignedIn, SignedInNext string
	// Close says that the tab may be closed, and Reference names what to tell the
	// help desk.
	Close, Reference string
	// Sentence, Fact and NextStep are those of a problem. Fact turns the English
	// fact of a problem into one of the language, or into nothing.
	Sentence func(problem.Code) string
	Fact     func(english string) string
	NextStep func(problem.Code) string
}

// english is how the page speaks to whoever gave no words.
var english = Words{
	Language: "en", Product: "Encounter Launcher",
	SignedIn: "You are signed in", SignedInNext: "Encounter Launcher goes on by itself.",
	Close: "You can close this tab.", Reference: "Reference for the help desk",
	Sentence: func(c problem.Code) string { return (&problem.Problem{Code: c}).Row().Sentence },
	Fact:     func(fact string) string { return fact },
	NextStep: func(c problem.Code) string { return (&problem.Problem{Code: c}).Row().NextStep },
}

// Grant is what a sign-in or a refresh gave.
type Grant struct {
	// Issuer and ClientID are those of the Config, for the store.
	Issuer, ClientID string
	// Subject and Email are the ID token's. Email is empty when the token has none,
	// or says that it is not verified. Both are empty after a refresh that brought
	// no ID token; where a refresh names a subject, the caller compares it with the
	// one who signed in.
	Subject, Email string
	// Access is kept in memory only. Refresh is empty when the provider gave none
	// at sign-in; after a refresh it is the new one, or the old where the provider
	// does not rotate.
	Access, Refresh secret.Text
	// ID is the ID token itself, for EndSession; empty after a refresh that brought
	// none. It is kept in memory only.
	ID secret.Text
	// Expiry is when Access ends, by this computer's clock.
	Expiry time.Time
	// AuthTime is when the person proved who they are: the ID token's auth_time, or
	// at sign-in without one, the moment of the sign-in. Zero after a refresh that
	// does not say.
	AuthTime time.Time
}

// Page is the address that the person's browser has to show.
type Page struct {
	// Address holds state, nonce and challenge of this one sign-in.
	Address secret.Text
	// Hosts are the host names, lower-case and without port, that the provider's
	// own discovery document names: the allow-list by which the opener judges
	// Address, any port being allowed.
	Hosts []string
}

// Client signs in, refreshes, revokes and says where the provider's session ends. It
// is safe for concurrent use; it keeps the provider's description for an hour and no
// token at all.
type Client struct {
	config   Config
	http     *http.Client
	now      func() time.Time
	log      *slog.Logger
	provider *cache
	// turn holds one token: only one sign-in waits in the browser at a time.
	turn chan struct{}
	// lingering is the listener of the sign-in before, which may still be showing
	// its last page. Guarded by turn.
	lingering *callbackServer
}

// New returns a Client. It connects to nothing: the provider is asked for its
// description by the first call that needs it, and again after a failure.
func New(c Config) *Client {
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if len(c.Scopes) == 0 {
		c.Scopes = []string{"openid", "email", "offline_access"}
	}
	if c.Words.Language == "" {
		c.Words = english
	}
	client := &Client{config: c, now: c.Now, log: c.Log, turn: make(chan struct{}, 1)}
	if client.now == nil {
		client.now = time.Now
	}
	if client.log == nil {
		client.log = slog.New(slog.DiscardHandler)
	}
	client.http = newDoor(c.HTTP)
	client.provider = newCache(client.discover, client.now)
	return client
}

// SignIn waits for one free port, hands the page to show, waits for the
// provider's answer on the port, and returns what it is worth. show opens the
// page; an error of it ends the sign-in and is returned. Its context ends with
// the sign-in, whatever the outcome.
//
// Errors are problems: signin_cancelled (ctx was cancelled, or the provider says
// that access was declined), signin_failed with a fact, policy_invalid,
// tls_untrusted and proxy_auth_needed. Requests on the port that are not the
// answer, whatever they hold, change nothing.
func (c *Client) SignIn(ctx context.Context, show func(context.Context, Page) error) (Grant, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	default:
		return Grant{}, problem.With(problem.SigninFailed, "Another sign-in is waiting in the browser.", nil)
	}
	// Round strips the monotonic reading, which stands still while the computer
	// sleeps.
	begun := c.now().Round(0)
	ctx, cancel := context.WithTimeoutCause(ctx, c.config.Timeout, errTimedOut)
	defer cancel()

	description, err := c.provider.get(ctx)
	if err != nil {
		return Grant{}, c.signInProblem(ctx, "describing", err)
	}
	if c.lingering != nil {
		c.lingering.close()
		c.lingering = nil
	}
	listener, err := listen(ctx, c.config.RedirectPorts)
	if err != nil {
		return Grant{}, problem.With(problem.SigninFailed, "No port that the policy allows for the answer of the sign-in page is free.", err)
	}
	attempt := newAttempt(listener.Addr().String())
	server := serveCallback(listener, attempt.state, c.config.Words, c.log)
	c.lingering = server
	address := c.pageAddress(description, attempt)

	shown := make(chan error, 1)
	go func() { shown <- show(ctx, Page{Address: address, Hosts: slices.Clone(description.hosts)}) }()
	for {
		select {
		case err := <-shown:
			if err != nil {
				server.close()
				return Grant{}, c.showProblem(ctx, err)
			}
			shown = nil // the page is open; now only the answer counts
		case <-ctx.Done():
			server.close()
			return Grant{}, c.signInProblem(ctx, "waiting", context.Cause(ctx))
		case answer := <-server.answers:
			grant, err := c.redeem(ctx, description, attempt, answer, begun)
			if err != nil {
				p := c.signInProblem(ctx, "redeeming", err)
				server.finish(p)
				return Grant{}, p
			}
			server.finish(nil)
			return grant, nil
		}
	}
}

// errTimedOut is the cause of a context that ended because nobody signed in.
var errTimedOut = errors.New("nobody signed in before the time was over")

// attempt is what one sign-in must find again in its answer.
type attempt struct{ redirect, state, nonce, verifier string }

func newAttempt(address string) attempt {
	return attempt{
		redirect: "http://" + address + callbackPath,
		state:    rand.Text(), nonce: rand.Text(), // 128 bits each
		verifier: oauth2.GenerateVerifier(),
	}
}

func (c *Client) pageAddress(d *description, a attempt) secret.Text {
	config := oauth2.Config{
		ClientID: c.config.ClientID, RedirectURL: a.redirect, Scopes: c.config.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: d.authorization},
	}
	options := []oauth2.AuthCodeOption{
		oauth2.S256ChallengeOption(a.verifier),
		oauth2.SetAuthURLParam("nonce", a.nonce),
	}
	if name := c.audienceName(); name != "" {
		options = append(options, oauth2.SetAuthURLParam(name, c.config.Audience))
	}
	if c.config.Prompt != "" {
		options = append(options, oauth2.SetAuthURLParam("prompt", c.config.Prompt))
	}
	if c.config.MaxAge >= 0 {
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.FormatInt(int64(c.config.MaxAge/time.Second), 10)))
	}
	return secret.New(config.AuthCodeURL(a.state, options...))
}

// audienceName says under which parameter Audience travels: resource wants an
// absolute URI without a fragment (RFC 8707 §2).
func (c *Client) audienceName() string {
	if c.config.Audience == "" {
		return ""
	}
	u, err := url.Parse(c.config.Audience)
	if err == nil && u.IsAbs() && !strings.Contains(c.config.Audience, "#") {
		return "resource"
	}
	return "audience"
}

// withResource adds resource to a token request (RFC 8707 §2.2). audience is a
// parameter of the authorization request only.
func (c *Client) withResource(form url.Values) url.Values {
	if c.audienceName() == "resource" {
		form.Set("resource", c.config.Audience)
	}
	return form
}

// redeem judges the provider's answer and exchanges its code.
func (c *Client) redeem(ctx context.Context, d *description, a attempt, answer authorizationAnswer, begun time.Time) (Grant, error) {
	if c.now().Round(0).Sub(begun) > c.config.Timeout {
		return Grant{}, errTimedOut
	}
	// RFC 9207 §2.4: before anything else of the answer is believed, errors too.
	if answer.issuer != "" && !same(answer.issuer, c.config.Issuer) || answer.issuer == "" && d.namesIssuer {
		return Grant{}, failed("The answer does not come from the sign-in service that the policy names.", "the iss of the answer is missing or another")
	}
	if answer.failure != "" {
		return Grant{}, refusedBy(answer.failure)
	}
	got, err := c.token(ctx, d, c.withResource(url.Values{
		"grant_type": {"authorization_code"}, "code": {answer.code}, "redirect_uri": {a.redirect}, "code_verifier": {a.verifier},
	}))
	if err != nil {
		return Grant{}, err
	}
	if got.idToken == "" {
		return Grant{}, failed("The sign-in service did not say who signed in.", "the answer has no ID token")
	}
	person, err := c.verify(ctx, d, got)
	if err != nil {
		return Grant{}, err
	}
	if !same(person.nonce, a.nonce) {
		return Grant{}, failed("The answer belongs to another sign-in.", "the nonce of the ID token is missing or another")
	}
	if err := c.checkAge(person.authTime, begun); err != nil {
		return Grant{}, err
	}
	grant := c.grant(got, person)
	if grant.AuthTime.IsZero() {
		grant.AuthTime = c.now()
	}
	return grant, nil
}

// checkAge holds auth_time against the max_age that was sent (OpenID Connect Core
// §3.1.2.1): the provider counted from the request, not from now.
func (c *Client) checkAge(authTime, begun time.Time) error {
	const fact = "The sign-in service did not check the person anew."
	switch {
	case c.config.MaxAge < 0:
		return nil
	case authTime.IsZero():
		return failed(fact, "the ID token has no auth_time though max_age was sent")
	case authTime.Before(begun.Add(-c.config.MaxAge - skew)):
		return failed(fact, "auth_time is older than max_age")
	case authTime.After(c.now().Add(skew)):
		return failed(fact, "auth_time lies in the future")
	}
	return nil
}

// Prepare fetches the provider's discovery document unless it is known, so that a
// Refresh that follows need not wait for it, and then begins to fetch its keys, for the
// ID token that most refreshes bring. What goes wrong is left to that.
func (c *Client) Prepare(ctx context.Context) {
	describe, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	d, err := c.provider.get(describe)
	if err != nil {
		return
	}
	d.fetchKeys.Do(func() {
		go func() {
			ctx, cancel := context.WithTimeout(ctx, callTime)
			defer cancel()
			// The library has no other door to its keys: it fetches them to find that
			// none of them has signed this.
			_, _ = d.keys.VerifySignature(oidc.ClientContext(ctx, c.http), unsigned)
		}()
	})
}

// unsigned is a JWS of an empty object under an empty signature: no key has made it.
const unsigned = "eyJhbGciOiJFUzI1NiJ9.e30."

// Reach asks the provider for its discovery document, whether or not it is known
// already, and says what is wrong: nil when people could sign in as far as that
// tells. Errors are problems: signin_failed with a fact, cancelled, policy_invalid,
// tls_untrusted and proxy_auth_needed.
func (c *Client) Reach(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err := c.provider.renew(call)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return problem.New(problem.Cancelled, nil)
	case call.Err() != nil:
		return problem.With(problem.SigninFailed, "The sign-in service cannot be reached.", call.Err())
	}
	return c.signInProblem(call, "describing", err)
}

// Refresh exchanges a refresh token for a new Grant. The old token is spent from
// then on where the provider rotates: the caller stores Grant.Refresh before it
// does anything else.
//
// With an error that came after the provider had answered (its keys could not be
// fetched, or the ID token does not stand up to them or to this computer's clock) the
// Grant holds Refresh and nothing else. That is to be stored too, though it gives
// nobody access now: with the old token the person would be signed out for good.
//
// Errors are problems: signin_needed when the provider does not accept the token
// any more; org_unreachable when it could not be asked (the person stays signed
// in); cancelled; policy_invalid, tls_untrusted and proxy_auth_needed; anything
// else is signin_failed.
func (c *Client) Refresh(ctx context.Context, refresh secret.Text) (Grant, error) {
	if refresh.Empty() {
		return Grant{}, problem.New(problem.SigninNeeded, errors.New("there is no refresh token"))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*callTime)
	defer cancel()
	d, err := c.provider.get(ctx)
	if err != nil {
		return Grant{}, c.refreshProblem(ctx, "describing", err)
	}
	got, err := c.token(ctx, d, c.withResource(url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {refresh.Reveal()},
	}))
	if err != nil {
		return Grant{}, c.refreshProblem(ctx, "refreshing", err)
	}
	var who person
	if got.idToken != "" {
		if who, err = c.verify(ctx, d, got); err != nil {
			return Grant{Refresh: got.refresh}, c.refreshProblem(ctx, "verifying", err)
		}
	}
	return c.grant(got, who), nil
}

func (c *Client) grant(got tokens, who person) Grant {
	return Grant{
		Issuer: c.config.Issuer, ClientID: c.config.ClientID,
		Subject: who.subject, Email: who.email, AuthTime: who.authTime,
		Access: got.access, Refresh: got.refresh, ID: secret.New(got.idToken), Expiry: c.now().Add(got.life),
	}
}

// Revoke tells the provider to forget a refresh token (RFC 7009), where its
// discovery document names how; where it does not, there is nothing to do.
// Errors are as for Refresh. The caller forgets the token whatever the outcome.
func (c *Client) Revoke(ctx context.Context, refresh secret.Text) error {
	if refresh.Empty() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	d, err := c.provider.get(ctx)
	if err != nil {
		return c.refreshProblem(ctx, "describing", err)
	}
	if d.revocation == "" {
		return nil
	}
	form := url.Values{"token": {refresh.Reveal()}, "token_type_hint": {"refresh_token"}, "client_id": {c.config.ClientID}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.revocation, strings.NewReader(form.Encode()))
	if err != nil {
		return c.refreshProblem(ctx, "revoking", errors.New("making the request failed"))
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := c.http.Do(r)
	if err != nil {
		return c.refreshProblem(ctx, "revoking", err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return c.refreshProblem(ctx, "revoking", &callFailure{kind: answeredStatus, status: answer.StatusCode})
	}
	return nil
}

// EndSession returns the page that ends the provider's own session in the person's
// browser (OpenID Connect RP-Initiated Logout 1.0 §2); only the browser has that
// session's cookies, so only it can end it. idToken is the newest one that was
// received; it may have expired. Without one the provider may ask the person to
// confirm. found is false where the discovery document names no such page.
//
// Nothing is sent of where to go afterwards: that would have to be registered, and
// a random port cannot be. Errors are as for Refresh.
func (c *Client) EndSession(ctx context.Context, idToken secret.Text) (page Page, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	d, err := c.provider.get(ctx)
	if err != nil {
		return Page{}, false, c.refreshProblem(ctx, "describing", err)
	}
	if d.endSession == "" {
		return Page{}, false, nil
	}
	address, err := url.Parse(d.endSession) // checked when it was described
	if err != nil {
		return Page{}, false, c.refreshProblem(ctx, "describing", errors.New("the end of the session has no address"))
	}
	q := address.Query()
	q.Set("client_id", c.config.ClientID)
	if hint := idToken.Reveal(); hint != "" && len(hint) <= mostHint {
		q.Set("id_token_hint", hint)
	}
	address.RawQuery = q.Encode()
	return Page{Address: secret.New(address.String()), Hosts: slices.Clone(d.hosts)}, true, nil
}

// same compares in constant time: how much of a value matched tells nobody
// anything.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// failed is a signin_failed with a fact for people and a cause for the log, both
// constants of this program.
func failed(fact, cause string) error {
	return problem.With(problem.SigninFailed, fact, errors.New(cause))
}

// refusedBy turns an OAuth error code into a problem.
func refusedBy(code string) error {
	switch code = standard(code); code {
	case "access_denied":
		return problem.With(problem.SigninCancelled, "The sign-in service reports that access was declined.", errors.New("the sign-in service answered access_denied"))
	case unknownError:
		return failed("The sign-in service reported an error.", "the sign-in service answered an error code that is not a standard one")
	}
	return failed("The sign-in service answered “"+code+"”.", "the sign-in service answered "+code)
}

const unknownError = "unknown"

// standard returns an error code that the standards define (RFC 6749 §4.1.2.1 and
// §5.2, RFC 8707 §2, OpenID Connect Core §3.1.2.6), and unknownError for anything
// else: that is text from outside and is never repeated.
func standard(code string) string {
	switch code {
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
		"unsupported_response_type", "invalid_scope", "invalid_target", "access_denied", "server_error", "temporarily_unavailable",
		"interaction_required", "login_required", "account_selection_required", "consent_required", "request_not_supported":
		return code
	}
	return unknownError
}

// showProblem passes on why the page could not be opened. Any other error may
// quote the address.
func (c *Client) showProblem(ctx context.Context, err error) error {
	if context.Cause(ctx) != nil {
		return c.signInProblem(ctx, "showing", err)
	}
	var known *problem.Problem
	if errors.As(err, &known) {
		return known
	}
	return problem.With(problem.SigninFailed, "The sign-in page could not be opened.", errors.New("showing the page failed"))
}

// signInProblem is the one door for the errors of SignIn.
func (c *Client) signInProblem(ctx context.Context, step string, err error) *problem.Problem {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errTimedOut) || errors.Is(err, errTimedOut):
		return problem.With(problem.SigninFailed, "Nobody signed in before the time was over.", errTimedOut)
	case errors.Is(cause, context.Canceled):
		return problem.New(problem.SigninCancelled, nil)
	case cause != nil:
		return problem.With(problem.SigninFailed, "Nobody signed in before the time was over.", cause)
	}
	var known *problem.Problem
	if errors.As(err, &known) && known.Code != problem.OrgUnreachable {
		return known
	}
	if unreachable(err) {
		return problem.With(problem.SigninFailed, "The sign-in service cannot be reached.", fmt.Errorf("%s: %w", step, safe(err)))
	}
	var refused *oauthRefusal
	if errors.As(err, &refused) {
		return problem.Of(refusedBy(refused.code))
	}
	return problem.With(problem.SigninFailed, "The sign-in service gave an answer that cannot be used.", fmt.Errorf("%s: %w", step, safe(err)))
}

// refreshProblem is the one door for the errors of Refresh and Revoke.
func (c *Client) refreshProblem(ctx context.Context, step string, err error) *problem.Problem {
	if cause := ctx.Err(); cause != nil {
		if errors.Is(cause, context.Canceled) {
			return problem.New(problem.Cancelled, nil)
		}
		return problem.With(problem.OrgUnreachable, "The sign-in service did not answer in time.", cause)
	}
	var known *problem.Problem
	if errors.As(err, &known) && known.Code != problem.OrgUnreachable {
		return known
	}
	if unreachable(err) {
		return problem.With(problem.OrgUnreachable, "The sign-in service cannot be reached.", fmt.Errorf("%s: %w", step, safe(err)))
	}
	var refused *oauthRefusal
	if errors.As(err, &refused) {
		switch refused.code {
		case "invalid_grant", "interaction_required", "login_required", "consent_required":
			return problem.New(problem.SigninNeeded, fmt.Errorf("%s: the sign-in service answered %s", step, refused.code))
		}
		return problem.Of(refusedBy(refused.code))
	}
	return problem.With(problem.SigninFailed, "The sign-in service gave an answer that cannot be used.", fmt.Errorf("%s: %w", step, safe(err)))
}
