// Package fhir is the client of the EHR's FHIR R4 server, with SMART Backend Services
// authentication: it reads a patient's details, and files an exported note.
//
// Choices where FHIR leaves one:
//
//   - a patient who is not active or has died is read like any other: notes are
//     written about both;
//   - a record that was merged into another (link replaced-by) is refused and not
//     followed: the EHR must say itself which patient it means;
//   - a name is the official one, else the usual one, else another that is in use,
//     never an old or maiden one; its text, else given names and family name,
//     without prefix and suffix, which are titles;
//   - a date of birth without day or month is refused: the reader could take it for
//     a whole one;
//   - a server that sends more than one patient, another one than was asked for, or
//     one without the identifier that was searched for, is not believed.
//
// How a failed reading becomes a problem:
//
//	404, 410, no match          context_incomplete, "The patient is not known …"
//	merged, several, incomplete context_incomplete
//	401                         a new access token, once; then context_unavailable
//	everything else             context_unavailable: 403, 429, 5xx, redirects,
//	                            time-outs, answers that cannot be used
//
// It never writes but a DocumentReference, never follows a redirect or a reference,
// never keeps anything of a patient, never logs an id, and no error of it quotes what
// a server said.
package fhir

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/secret"
)

// The bounds of one call. A launcher waits 15 seconds in all, and Nabla is asked
// after us.
const (
	callTime      = 7 * time.Second
	attemptTime   = 4 * time.Second
	maxAttempts   = 3
	firstWait     = 200 * time.Millisecond
	maxRetryAfter = 2 * time.Second
	// maxAnswerBytes leaves room for a photo in a Patient.
	maxAnswerBytes = 4 << 20
)

const fhirJSON = "application/fhir+json"

// Config says how to reach the FHIR server and as whom.
type Config struct {
	// BaseURL is the server's base, without a trailing slash: https, or http to
	// 127.0.0.1 for development.
	BaseURL string
	// TokenURL is the token endpoint, under the same rules; empty means the one that
	// BaseURL + "/.well-known/smart-configuration" names.
	TokenURL string
	// ClientID is the id under which the server registered us.
	ClientID string
	// Keys are our keys, RSA or P-384: the first signs, all are published by JWKS.
	Keys []assertion.Key
	// Scopes are asked for; empty means what reading patients needs.
	Scopes []string
	// PatientSystem, when set, says that patients are named by an identifier of this
	// system and not by the resource's id.
	PatientSystem string
	// HTTP is the client to use; nil means one of our own. Redirects are never
	// followed, and every attempt has a time limit, whatever it says.
	HTTP *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Sleep waits between attempts; nil means a real timer.
	Sleep func(context.Context, time.Duration) error
}

// Client speaks to one FHIR server. It is safe for concurrent use; its access token
// is fetched once for all callers and lives only in memory.
type Client struct {
	base     string
	loopback bool
	system   string
	http     *http.Client
	now      func() time.Time
	sleep    func(context.Context, time.Duration) error
	tokens   *tokens
}

// New checks the configuration and returns a Client. It makes no call. Its errors
// begin with the name of the field, as the configuration file calls it.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil || !plain(base) || strings.HasSuffix(cfg.BaseURL, "/") {
		return nil, errors.New("base_url: it is not a plain https URL without a trailing slash")
	}
	c := &Client{base: cfg.BaseURL, loopback: loopbackHTTP(base), system: cfg.PatientSystem, http: &http.Client{}, now: cfg.Now, sleep: cfg.Sleep}
	if cfg.TokenURL != "" && !c.endpoint(cfg.TokenURL) {
		return nil, errors.New("token_url: it is not a plain https URL")
	}
	if cfg.ClientID == "" {
		return nil, errors.New("client_id: it is missing")
	}
	if c.system != "" && !searchable(c.system) {
		return nil, errors.New("patient_system: it holds a space, a control character or one of | , $ \\")
	}
	if len(cfg.Scopes) == 0 {
		cfg.Scopes = []string{ReadScope(cfg.PatientSystem)}
	}
	if slices.ContainsFunc(cfg.Scopes, func(s string) bool { return !scopeToken(s) }) {
		return nil, errors.New("scopes: an entry is not one scope")
	}
	signer, err := assertion.New(cfg.Keys, assertion.SMART)
	if err != nil {
		return nil, fmt.Errorf("key_files: %w", err)
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.sleep == nil {
		c.sleep = sleep
	}
	if cfg.HTTP != nil {
		*c.http = *cfg.HTTP
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.tokens = &tokens{client: c, clientID: cfg.ClientID, scope: strings.Join(cfg.Scopes, " "), signer: signer, fixed: cfg.TokenURL}
	return c, nil
}

// ReadScope is the scope that reading patients needs (SMART App Launch 2.2, "Scopes
// for requesting FHIR Resources"): to search by an identifier is a right of its own.
func ReadScope(patientSystem string) string {
	if patientSystem == "" {
		return "system/Patient.r"
	}
	return "system/Patient.rs"
}

// WriteScope is the scope that AddDocument needs.
const WriteScope = "system/DocumentReference.c"

// Authenticate fetches an access token, or has one: whether the server knows our
// client and its keys. It changes nothing there.
func (c *Client) Authenticate(ctx context.Context) error {
	_, err := c.tokens.get(ctx)
	return err
}

// JWKS returns the public parts of our keys as a JWK set (RFC 7517 §5), JSON.
func (c *Client) JWKS() []byte { return c.tokens.signer.JWKS() }

// plain accepts https, and http to 127.0.0.1.
func plain(u *url.URL) bool {
	return u.Host != "" && u.Hostname() != "" && u.User == nil && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" &&
		(u.Scheme == "https" || loopbackHTTP(u))
}

func loopbackHTTP(u *url.URL) bool { return u.Scheme == "http" && u.Hostname() == "127.0.0.1" }

// endpoint accepts what New or a server names as the token endpoint: http only
// beside a server that is reached so too.
func (c *Client) endpoint(text string) bool {
	u, err := url.Parse(text)
	return err == nil && plain(u) && (u.Scheme == "https" || c.loopback)
}

// scopeToken is RFC 6749 §3.3.
func scopeToken(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return s != ""
}

// request is one call below the base.
type request struct {
	method, path, contentType, ifNoneExist string
	body                                   []byte
	// attempts are how often it may be made.
	attempts int
}

type answer struct {
	status      int
	contentType string
	located     bool
	body        []byte
	retryAfter  time.Duration
}

// call makes a request with a living token, again where the failure may pass. Its
// answer may have any status.
func (c *Client) call(ctx context.Context, q request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	renewed := false
	for attempt := 1; ; attempt++ {
		token, err := c.tokens.get(ctx)
		if err != nil {
			return answer{}, fmt.Errorf("authenticating with the FHIR server: %w", err)
		}
		a, err := c.send(ctx, q, token)
		if err == nil && a.status == http.StatusUnauthorized && !renewed {
			// A token may have been revoked before its time; a second refusal is about
			// us, not about the token.
			renewed = true
			c.tokens.forget(token)
			attempt--
			continue
		}
		if err == nil && !mayPass(a.status) {
			return a, nil
		}
		if attempt >= q.attempts || ctx.Err() != nil || c.wait(ctx, attempt, a.retryAfter) != nil {
			return a, err
		}
	}
}

func (c *Client) send(ctx context.Context, q request, token secret.Text) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, q.method, c.base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return answer{}, errors.New("a request to the FHIR server cannot be made")
	}
	r.Header.Set("Accept", fhirJSON)
	if q.contentType != "" {
		r.Header.Set("Content-Type", q.contentType)
	}
	if q.ifNoneExist != "" {
		r.Header.Set("If-None-Exist", q.ifNoneExist)
		// The server need not send a note back to whom it has it from.
		r.Header.Set("Prefer", "return=minimal")
	}
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	return c.do(r)
}

// do makes one attempt and reads the answer within its bound.
func (c *Client) do(r *http.Request) (answer, error) {
	response, err := c.http.Do(r)
	if err != nil {
		return answer{}, broken(r.Context(), err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return answer{}, broken(r.Context(), err)
	}
	if len(body) > maxAnswerBytes {
		return answer{}, errors.New("the answer is too large")
	}
	kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	return answer{
		status: response.StatusCode, contentType: strings.ToLower(strings.TrimSpace(kind)), body: body,
		located:    response.Header.Get("Location") != "" || response.Header.Get("Content-Location") != "",
		retryAfter: c.retryAfter(response.Header.Get("Retry-After")),
	}, nil
}

// broken says why a call failed in words of our own: those of net/http quote what
// the server sent and the address that was called.
func broken(ctx context.Context, err error) error {
	var certificate *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return errors.New("the caller went away")
	case ctx.Err() != nil:
		return errors.New("the server did not answer in time")
	case errors.As(err, &certificate):
		return errors.New("the server's certificate is not trusted")
	case errors.As(err, &network):
		return fmt.Errorf("the server cannot be reached: %w", network.Err)
	}
	return errors.New("the connection to the server broke")
}

func mayPass(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout ||
		(status >= 500 && status != http.StatusNotImplemented)
}

// wait sleeps before the next attempt: as long as the server asks when that is
// short, else with jitter so that many callers do not return at once.
func (c *Client) wait(ctx context.Context, attempt int, retryAfter time.Duration) error {
	if retryAfter > maxRetryAfter {
		return errors.New("the server asks to wait for longer than the caller would")
	}
	d := firstWait << (attempt - 1)
	if n, err := rand.Int(rand.Reader, big.NewInt(int64(d))); err == nil {
		d = d/2 + time.Duration(n.Int64())
	}
	return c.sleep(ctx, max(d, retryAfter))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// retryAfter reads both forms of RFC 9110 §10.2.3; what is neither counts as
// nothing.
func (c *Client) retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 3600)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, at.Sub(c.now())), time.Hour)
	}
	return 0
}

// isFHIR reports whether a body is FHIR's JSON; servers may also say plain JSON.
func (a answer) isFHIR() bool {
	return a.contentType == fhirJSON || a.contentType == "application/json"
}
