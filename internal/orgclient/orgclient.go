// Package orgclient makes the launcher's calls to the organisation's backend
// (the contract of package orgapi) and checks every answer before anybody sees
// it: size, type, form, the ids, and that the one-time URL leads where the
// policy allows.
//
// It never follows a redirection, never keeps a cookie or an answer, never logs,
// and never repairs what it was sent. No link, token, URL or id is part of an
// error.
package orgclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	// totalTime bounds one call with all its attempts and waits.
	totalTime = 15 * time.Second
	// attemptTime bounds one attempt, so that a connection that was cut silently
	// leaves time for a second one.
	attemptTime = 8 * time.Second
	// maxAttempts counts the first one.
	maxAttempts = 3
	// firstBackoff doubles with every attempt; each wait is 0.5 to 1.5 times it.
	firstBackoff = 250 * time.Millisecond
	// leastTime is what must be left of totalTime for another attempt to make sense.
	leastTime = time.Second

	maxBackendURLBytes = 2048
	maxHeaderValue     = 128
)

// Config is what a Client needs. BackendURL and Hosts are required.
type Config struct {
	// BackendURL is the policy's: https, any port, a path allowed, and nothing
	// else; with LoopbackHTTP also http://127.0.0.1:<port>.
	BackendURL   string
	LoopbackHTTP bool
	// Hosts says which addresses an answer may name.
	Hosts launch.Addresses
	// HTTP gives the transport; its redirect policy, cookies and timeout are not
	// used. Errors of its transport that are problems are passed on. Nil means
	// http.DefaultTransport.
	HTTP *http.Client
	// Now is the clock by which Retry-After is judged; nil means time.Now.
	Now func() time.Time
	// UserAgent is sent with every call; empty means "encounter-launcher".
	UserAgent string
	// Sleep waits between attempts and ends early, with the context's error, when
	// the context does; nil means a timer.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Client makes the calls. It is safe for concurrent use and holds no secret.
type Client struct {
	base      string
	trip      http.RoundTripper
	closeIdle func()
	hosts     launch.Addresses
	now       func() time.Time
	userAgent string
	sleep     func(context.Context, time.Duration) error

	total, attempt, silence time.Duration
}

// New returns the client for a policy, or a policy_invalid problem when the
// BackendURL is not of the form that Config says. It connects to nothing.
func New(c Config) (*Client, error) {
	base, err := backendURL(c.BackendURL, c.LoopbackHTTP)
	if err != nil {
		return nil, problem.With(problem.PolicyInvalid, "BackendURL cannot be used.", err)
	}
	client := c.HTTP
	if client == nil {
		client = &http.Client{}
	}
	made := &Client{
		base: base, trip: client.Transport, closeIdle: client.CloseIdleConnections,
		hosts: c.Hosts, now: c.Now, userAgent: c.UserAgent, sleep: c.Sleep,
		total: totalTime, attempt: attemptTime, silence: silence,
	}
	if made.trip == nil {
		made.trip = http.DefaultTransport
	}
	if made.now == nil {
		made.now = time.Now
	}
	if made.sleep == nil {
		made.sleep = sleep
	}
	if made.userAgent == "" {
		made.userAgent = "encounter-launcher"
	}
	return made, nil
}

func backendURL(raw string, loopbackHTTP bool) (string, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || raw == "" || len(raw) > maxBackendURLBytes:
		return "", errors.New("the backend's address is not a URL")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(raw, "#") || u.Opaque != "":
		return "", errors.New("the backend's address holds more than a host and a path")
	case u.Hostname() == "" || !plain(raw) || u.String() != raw || strings.HasSuffix(u.Host, ":"):
		return "", errors.New("the backend's address is not written in its plain form")
	case strings.Contains(u.Path, "//") || strings.Contains(u.Path+"/", "/../") || strings.Contains(u.Path+"/", "/./"):
		return "", errors.New("the path of the backend's address is not plain")
	case u.Scheme == "http" && loopbackHTTP && u.Hostname() == "127.0.0.1" && u.Port() != "":
	case u.Scheme != "https":
		return "", errors.New("the backend's address is not https")
	}
	return strings.TrimSuffix(raw, "/"), nil
}

// plain reports whether a text is ASCII without space, quote and the characters
// that shells and URL parsers disagree about.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("\"'`\\<>{}|^$", s[i]) >= 0 {
			return false
		}
	}
	return true
}

type requestIDKey struct{}

// WithRequestID returns a context under which every call carries this
// X-Request-Id: one launch has one id, which stands in the logs of both sides. An
// id that is not 1 to 128 letters, digits, '.', '_' or '-' is not used; without
// one every call makes a UUID of its own.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	if id == "" || len(id) > maxHeaderValue {
		return newUUID()
	}
	for i := range len(id) {
		c := id[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return newUUID()
		}
	}
	return id
}

// newUUID makes a random UUID (RFC 9562 §5.4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Create asks for the encounter of a link (POST /encounters) and returns the
// checked one-time URL and what recents may keep. key is the link's idempotency
// key, 1 to 128 visible ASCII characters; the same key makes every retry safe.
//
// Where the link names the encounter and the provider itself, the answer must be
// for these. An over-long label is dropped, it does not stop the launch.
//
// Errors are problems: those of the contract as the backend named them, and
// unauthorized (401: refresh the token and try once more), org_unreachable,
// org_refused, org_busy, org_answer_invalid, address_not_allowed, tls_untrusted,
// proxy_auth_needed, request_invalid, request_too_large and cancelled.
func (c *Client) Create(ctx context.Context, token secret.Text, r launch.Request, key string) (launch.Target, orgapi.Encounter, error) {
	none := orgapi.Encounter{}
	var body orgapi.CreateRequest
	switch r.Form() {
	case launch.FormHandle:
		body.Handle = r.Handle().Reveal()
	case launch.FormRequest:
		body.Request = r.SignedRequest().Reveal()
	case launch.FormIdentifiers:
		body.ExternalEncounterID, body.ExternalPatientID, body.ExternalProviderID = r.Identifiers()
	default:
		return launch.Target{}, none, problem.New(problem.Internal, errors.New("a request that was never parsed"))
	}
	answer, err := c.call(ctx, http.MethodPost, orgapi.PathEncounters, token, key, body)
	if err != nil {
		return launch.Target{}, none, err
	}
	address, encounter, err := readCreateAnswer(answer)
	if err == nil && r.Form() == launch.FormIdentifiers &&
		(encounter.ExternalEncounterID != body.ExternalEncounterID || encounter.ExternalProviderID != body.ExternalProviderID) {
		err = errors.New("the answer is for another encounter than the one asked for")
	}
	if err != nil {
		return launch.Target{}, none, problem.New(problem.OrgAnswerInvalid, err)
	}
	target, err := c.hosts.Check(address)
	if err != nil {
		return launch.Target{}, none, problem.Of(err)
	}
	return target, encounter, nil
}

// Reopen asks for a fresh one-time URL of an encounter that was opened before
// (POST /encounters/url). key and errors are as for Create; a recent encounter
// that the backend does not know any more is encounter_unknown.
func (c *Client) Reopen(ctx context.Context, token secret.Text, e orgapi.Encounter, key string) (launch.Target, error) {
	if !identifier(e.ExternalEncounterID) || !identifier(e.ExternalProviderID) {
		return launch.Target{}, problem.New(problem.EncounterUnknown, errors.New("the ids of the encounter are not of the contract's form"))
	}
	body := orgapi.ReopenRequest{ExternalProviderID: e.ExternalProviderID, ExternalEncounterID: e.ExternalEncounterID}
	answer, err := c.call(ctx, http.MethodPost, orgapi.PathEncounterURL, token, key, body)
	if err != nil {
		return launch.Target{}, err
	}
	address, err := readReopenAnswer(answer)
	if err != nil {
		return launch.Target{}, problem.New(problem.OrgAnswerInvalid, err)
	}
	target, err := c.hosts.Check(address)
	if err != nil {
		return launch.Target{}, problem.Of(err)
	}
	return target, nil
}

// Me asks for whom the backend takes the caller (GET /me). Errors are as for
// Create.
func (c *Client) Me(ctx context.Context, token secret.Text) (orgapi.Me, error) {
	answer, err := c.call(ctx, http.MethodGet, orgapi.PathMe, token, newUUID(), nil)
	if err != nil {
		return orgapi.Me{}, err
	}
	me, err := readMe(answer)
	if err != nil {
		return orgapi.Me{}, problem.New(problem.OrgAnswerInvalid, err)
	}
	return me, nil
}

// Reach finds out without a token whether a backend answers at the address: it is
// one when it refuses the call as the contract says (GET /me, 401 with a problem).
// Nothing is sent twice. Errors are problems: org_unreachable, org_refused,
// org_busy, org_answer_invalid, tls_untrusted, proxy_auth_needed, cancelled, and
// what else a backend may name.
func (c *Client) Reach(ctx context.Context) error {
	header := http.Header{
		"Accept":                    {"application/json, " + orgapi.ProblemContentType},
		"Cache-Control":             {"no-store"},
		"User-Agent":                {c.userAgent},
		orgapi.HeaderIdempotencyKey: {newUUID()},
		orgapi.HeaderRequestID:      {requestID(ctx)},
	}
	got := c.once(ctx, http.MethodGet, c.base+orgapi.PathMe, header, nil)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return problem.New(problem.Cancelled, nil)
	case got.failure == nil:
		return problem.New(problem.OrgAnswerInvalid, errors.New("it told who the caller is although nobody had signed in"))
	case got.failure.Code == problem.Unauthorized && got.contract:
		return nil
	case got.failure.Code == problem.Unauthorized:
		return problem.With(problem.OrgAnswerInvalid, "The policy may name a wrong address for it.", got.failure)
	}
	return got.failure
}

// call does one call with its retries and returns the body of a good answer.
func (c *Client) call(ctx context.Context, method, path string, token secret.Text, key string, body any) ([]byte, error) {
	if token.Empty() || !plain(token.Reveal()) {
		return nil, problem.New(problem.Unauthorized, errors.New("there is no access token that a header could carry"))
	}
	if key == "" || len(key) > maxHeaderValue || !plain(key) {
		return nil, problem.New(problem.Internal, errors.New("the idempotency key is not of its form"))
	}
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return nil, problem.New(problem.Internal, errors.New("writing the request failed"))
		}
	}
	header := http.Header{
		"Accept":                    {"application/json, " + orgapi.ProblemContentType},
		"Authorization":             {"Bearer " + token.Reveal()},
		"Cache-Control":             {"no-store"},
		"User-Agent":                {c.userAgent},
		orgapi.HeaderIdempotencyKey: {key},
		orgapi.HeaderRequestID:      {requestID(ctx)},
	}
	if payload != nil {
		header.Set("Content-Type", "application/json")
	}

	deadline := c.now().Add(c.total)
	whole, cancel := context.WithTimeout(ctx, c.total)
	defer cancel()
	for n := 1; ; n++ {
		got := c.once(whole, method, c.base+path, header, payload)
		if got.failure == nil {
			return got.body, nil
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, problem.New(problem.Cancelled, nil)
		}
		left := deadline.Sub(c.now()) - leastTime
		if got.retry && got.waitNamed && got.wait > left {
			return nil, problem.New(problem.OrgBusy, fmt.Errorf("it asked for more time than the call has: %w", got.failure))
		}
		if !got.retry || n == maxAttempts {
			return nil, got.failure
		}
		wait := got.wait
		if !got.waitNamed {
			wait = jittered(firstBackoff << (n - 1))
		}
		if wait > left {
			return nil, got.failure
		}
		if err := c.sleep(whole, wait); err != nil {
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, problem.New(problem.Cancelled, nil)
			}
			return nil, got.failure
		}
	}
}

// outcome is what one attempt gave: a body, or a failure and what to do about it.
type outcome struct {
	body      []byte
	failure   *problem.Problem
	retry     bool
	wait      time.Duration
	waitNamed bool // the answer said how long to wait
	contract  bool // a refusal of the contract's form (RFC 9457), with a code of ours
}

func (c *Client) once(ctx context.Context, method, address string, header http.Header, payload []byte) outcome {
	ctx, cancel := context.WithTimeout(ctx, c.attempt)
	defer cancel()
	var reader io.Reader
	if payload != nil {
		reader = bytes.NewReader(payload)
	}
	r, err := http.NewRequestWithContext(ctx, method, address, reader)
	if err != nil {
		return outcome{failure: problem.New(problem.Internal, errors.New("making the request failed"))}
	}
	r.Header = header.Clone()
	// The round tripper and not http.Client: no redirects, no cookies, and no
	// *url.Error, which would carry the address into the log.
	answer, err := c.trip.RoundTrip(r)
	if err != nil {
		return c.broken(ctx, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, orgapi.MaxAnswerBytes+1))
	if err != nil {
		return c.broken(ctx, err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return c.refused(answer, body)
	}
	if err := goodAnswer(answer, body); err != nil {
		return outcome{failure: problem.New(problem.OrgAnswerInvalid, err)}
	}
	return outcome{body: body}
}

// broken judges an exchange that gave no whole answer.
func (c *Client) broken(ctx context.Context, err error) outcome {
	// A connection that failed may be one of several to a peer that is gone.
	c.closeIdle()
	if ctx.Err() != nil {
		return outcome{retry: true, failure: problem.With(problem.OrgUnreachable, "It did not answer in time.", ctx.Err())}
	}
	var known *problem.Problem
	if errors.As(err, &known) {
		return outcome{retry: known.Code == problem.OrgUnreachable, failure: known}
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return outcome{failure: problem.New(problem.TLSUntrusted, certificate)}
	}
	// An error that is not the network's may quote the answer, and *url.Error
	// quotes the address.
	var network *net.OpError
	cause := errors.New("the exchange with the backend broke")
	if errors.As(err, &network) {
		cause = network
	}
	return outcome{retry: true, failure: problem.New(problem.OrgUnreachable, cause)}
}

func goodAnswer(answer *http.Response, body []byte) error {
	switch {
	case answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusCreated:
		return fmt.Errorf("the answer has status %d", answer.StatusCode)
	case len(body) > orgapi.MaxAnswerBytes:
		return errors.New("the answer is too large")
	case !mediaType(answer, "application/json"):
		return errors.New("the answer is not JSON by its type")
	}
	return nil
}

func mediaType(answer *http.Response, want string) bool {
	got, params, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	charset, named := params["charset"]
	return err == nil && got == want && (!named || strings.EqualFold(charset, "utf-8"))
}

// refused turns an answer with an error status into a problem.
func (c *Client) refused(answer *http.Response, body []byte) outcome {
	status := answer.StatusCode
	code, fact := codeOfStatus(status)
	reference, contract := "", false
	if mediaType(answer, orgapi.ProblemContentType) && len(body) <= orgapi.MaxAnswerBytes {
		named, ref := readProblem(body)
		reference, contract = ref, problem.Known(string(named))
		// A 401 stays unauthorized whatever its body says: the caller's one refresh
		// hangs on it.
		if status != http.StatusUnauthorized && backendsOwn(named) {
			code, fact = named, ""
		}
	}
	restored := problem.Restore(string(code), reference, fact)
	got := outcome{contract: contract, failure: problem.With(code, fact, fmt.Errorf("the backend answered %d: %w", status, restored))}
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		got.retry = true
		got.wait, got.waitNamed = retryAfter(answer.Header.Get("Retry-After"), c.now())
	}
	return got
}

// codeOfStatus names the failure of an answer that names none itself, as a proxy
// or a gateway in front of the backend would send it.
func codeOfStatus(status int) (problem.Code, string) {
	switch {
	case status < 400:
		return problem.OrgAnswerInvalid, "It redirected the request."
	case status == http.StatusUnauthorized:
		return problem.Unauthorized, ""
	case status == http.StatusBadRequest || status == http.StatusUnprocessableEntity:
		return problem.RequestInvalid, ""
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		return problem.OrgAnswerInvalid, "The policy may name a wrong address for it."
	case status == http.StatusProxyAuthRequired:
		return problem.ProxyAuthNeeded, ""
	case status == http.StatusRequestEntityTooLarge:
		return problem.RequestTooLarge, ""
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return problem.OrgBusy, ""
	case status < 500:
		return problem.OrgRefused, ""
	case status == http.StatusBadGateway || status == http.StatusGatewayTimeout:
		return problem.OrgUnreachable, ""
	}
	return problem.OrgAnswerInvalid, "It reported an error of its own."
}

// backendsOwn reports whether a backend may name this code. The others tell of
// this workstation, and would mislead when they came from somewhere else.
func backendsOwn(code problem.Code) bool {
	switch code {
	case problem.LinkInvalid, problem.LinkFormNotAllowed, problem.LinkExpired, problem.LinkReplayed,
		problem.HandleSpent, problem.HandleExpired, problem.TooManyLinks,
		problem.OrgUnreachable, problem.OrgRefused, problem.OrgBusy, problem.OrgAnswerInvalid,
		problem.RequestInvalid, problem.RequestTooLarge,
		problem.IdentityUnmapped, problem.ProviderMismatch, problem.ProviderConflict,
		problem.ContextUnavailable, problem.ContextIncomplete, problem.EncounterUnknown,
		problem.VendorUnavailable:
		return true
	}
	return false
}

// retryAfter reads Retry-After: seconds or an HTTP date (RFC 9110 §10.2.3).
func retryAfter(text string, now time.Time) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0, false
	}
	return max(0, at.Sub(now)), true
}

func jittered(d time.Duration) time.Duration { return d/2 + mathrand.N(d) }

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
