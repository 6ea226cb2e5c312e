// Package nabla is the client of Nabla Connect that the organisation's backend
// uses: server authentication (RFC 7523), creating an encounter, asking for a
// fresh one-time URL.
//
// How the vendor's answers become problems:
//
//	400, 422             context_incomplete: the payload was refused, and what varies
//	                     in it is what the EHR knows of patient and clinician
//	409 on create        provider_conflict
//	404 on refresh       encounter_unknown
//	401                  a new access token, once; then vendor_unavailable
//	everything else      vendor_unavailable: 429, 5xx, redirects, time-outs, answers
//	                     that cannot be used
//
// It never runs on a workstation, never keeps or logs a one-time URL, an access
// token or anything of a patient, never passes on what the vendor wrote in a
// refusal, and never sends the legacy create format.
package nabla

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// DefaultVersion is the dated version of the protocol whose create payload this
// package sends (header X-Nabla-Api-Version).
const DefaultVersion = "2026-02-13"

// The bounds of one call. A launcher waits 15 seconds in all, so a call that has
// not worked after 12 is better told than awaited.
const (
	callTime       = 12 * time.Second
	attemptTime    = 6 * time.Second
	maxAttempts    = 3
	firstWait      = 200 * time.Millisecond
	maxRetryAfter  = 3 * time.Second
	maxAnswerBytes = 64 << 10
)

// Config says how to reach Nabla and as whom.
type Config struct {
	// BaseURL is the protocol's base, without a trailing slash. When it is empty
	// Region, "us" or "eu", chooses the vendor's; exactly one of the two is set.
	// https, or http to 127.0.0.1 for a simulator.
	BaseURL, Region string
	// ClientID is the UUID of the OAuth client.
	ClientID string
	// Keys are our keys: the first signs, all are published by JWKS, so that keys
	// rotate without downtime.
	Keys []assertion.Key
	// Version is the dated version to ask for; empty means DefaultVersion.
	Version string
	// HTTP is the client to use; nil means one of our own. Redirects are never
	// followed, and every attempt has a time limit, whatever it says.
	HTTP *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Sleep waits between attempts; nil means a real timer.
	Sleep func(context.Context, time.Duration) error
}

// Demographics are patient_demographics. Pronouns nil is sent as null.
type Demographics struct {
	Name      string  `json:"name"`
	BirthDate string  `json:"birth_date"`
	Gender    string  `json:"gender"`
	Pronouns  *string `json:"pronouns"`
}

// StructuredContext is structured_context.
type StructuredContext struct {
	PatientDemographics Demographics `json:"patient_demographics"`
}

// CreatePayload is the body of POST /encounters, version 2026-02-13, field for
// field. UnstructuredContext nil is left out.
type CreatePayload struct {
	ProviderEmail       string            `json:"provider_email"`
	ExternalProviderID  string            `json:"external_provider_id"`
	ExternalPatientID   string            `json:"external_patient_id"`
	ExternalEncounterID string            `json:"external_encounter_id"`
	StructuredContext   StructuredContext `json:"structured_context"`
	UnstructuredContext *string           `json:"unstructured_context,omitempty"`
}

type refreshPayload struct {
	ExternalProviderID  string `json:"external_provider_id"`
	ExternalEncounterID string `json:"external_encounter_id"`
}

// Client speaks to Nabla. It is safe for concurrent use; its access token is
// fetched once for all callers and lives only in memory.
type Client struct {
	base     string
	loopback bool
	version  string
	http     *http.Client
	now      func() time.Time
	sleep    func(context.Context, time.Duration) error
	auth     *authenticator
}

// New checks the configuration and returns a Client. It makes no call.
func New(cfg Config) (*Client, error) {
	base, loopback, err := baseURL(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Version == "" {
		cfg.Version = DefaultVersion
	}
	if _, err := time.Parse(time.DateOnly, cfg.Version); err != nil {
		return nil, errors.New("the version of Nabla Connect is not a date")
	}
	if !isUUID(cfg.ClientID) {
		return nil, errors.New("the client id for Nabla Connect is not a UUID")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	h := &http.Client{}
	if cfg.HTTP != nil {
		*h = *cfg.HTTP
	} else {
		t := http.DefaultTransport.(*http.Transport).Clone()
		// The default of two would close and reopen connections under load.
		t.MaxIdleConnsPerHost = 64
		h.Transport = t
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := &Client{base: base, loopback: loopback, version: cfg.Version, http: h, now: cfg.Now, sleep: cfg.Sleep}
	signer, err := assertion.New(cfg.Keys, assertion.Nabla)
	if err != nil {
		return nil, fmt.Errorf("keys for Nabla Connect: %w", err)
	}
	c.auth = &authenticator{client: c, clientID: cfg.ClientID, signer: signer}
	return c, nil
}

func baseURL(cfg Config) (base string, loopback bool, err error) {
	if (cfg.BaseURL == "") == (cfg.Region == "") {
		return "", false, errors.New("exactly one of base URL and region of Nabla Connect must be set")
	}
	if cfg.Region != "" {
		if cfg.Region != "us" && cfg.Region != "eu" {
			return "", false, errors.New("the region of Nabla Connect is neither us nor eu")
		}
		return "https://" + cfg.Region + ".api.nabla.com/v1/connect/server", false, nil
	}
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(cfg.BaseURL, "/") {
		return "", false, errors.New("the base URL of Nabla Connect is not a plain URL without a trailing slash")
	}
	loopback = u.Scheme == "http" && u.Hostname() == "127.0.0.1"
	if u.Scheme != "https" && !loopback {
		return "", false, errors.New("the base URL of Nabla Connect is not https")
	}
	return cfg.BaseURL, loopback, nil
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// Create creates the encounter, or finds it when its id is known, and returns
// the one-time URL. The vendor makes it idempotent by external_encounter_id, so
// it is repeated after a failure that may pass. Every error is a Problem.
func (c *Client) Create(ctx context.Context, p CreatePayload) (secret.Text, error) {
	return c.call(ctx, "/encounters", p, map[int]problem.Code{
		http.StatusBadRequest:          problem.ContextIncomplete,
		http.StatusUnprocessableEntity: problem.ContextIncomplete,
		http.StatusConflict:            problem.ProviderConflict,
	})
}

// Refresh returns a fresh one-time URL of an encounter that exists. Every error
// is a Problem.
func (c *Client) Refresh(ctx context.Context, providerID, encounterID string) (secret.Text, error) {
	return c.call(ctx, "/encounters/url", refreshPayload{providerID, encounterID}, map[int]problem.Code{
		http.StatusNotFound: problem.EncounterUnknown,
	})
}

// JWKS returns the public parts of our keys as a JWK set (RFC 7517 §5), JSON.
func (c *Client) JWKS() []byte { return c.auth.signer.JWKS() }

// call posts one payload and reads the one-time URL of the answer. refusals says
// which statuses mean more than that the vendor is unavailable.
func (c *Client) call(ctx context.Context, path string, payload any, refusals map[int]problem.Code) (secret.Text, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return secret.Text{}, problem.New(problem.Internal, errors.New("a payload for Nabla Connect cannot be written"))
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	renewed := false
	for attempt := 1; ; attempt++ {
		token, err := c.auth.token(ctx)
		if err != nil {
			return secret.Text{}, failed(ctx, fmt.Errorf("authenticating with Nabla Connect: %w", err))
		}
		answer, err := c.post(ctx, path, body, token)
		switch {
		case err == nil && answer.status/100 == 2:
			target, err := c.readURL(answer)
			if err != nil {
				return secret.Text{}, problem.New(problem.VendorUnavailable, err)
			}
			return target, nil
		case err == nil && answer.status == http.StatusUnauthorized && !renewed:
			// A token may have been revoked before its time; a second refusal is about
			// us, not about the token.
			renewed = true
			c.auth.forget(token)
			attempt--
			continue
		case err == nil && !mayPass(answer.status):
			code, ok := refusals[answer.status]
			if !ok {
				code = problem.VendorUnavailable
			}
			return secret.Text{}, problem.New(code, fmt.Errorf("Nabla Connect answered %d", answer.status))
		case err == nil:
			err = fmt.Errorf("Nabla Connect answered %d", answer.status)
		}
		if attempt == maxAttempts || ctx.Err() != nil {
			return secret.Text{}, failed(ctx, err)
		}
		if waitErr := c.wait(ctx, attempt, answer.retryAfter); waitErr != nil {
			return secret.Text{}, failed(ctx, err)
		}
	}
}

// failed tells a caller who went away from a vendor who did not answer.
func failed(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return problem.New(problem.Cancelled, err)
	}
	return problem.New(problem.VendorUnavailable, err)
}

func mayPass(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout ||
		(status >= 500 && status != http.StatusNotImplemented)
}

var errTooLong = errors.New("Nabla Connect asks to wait for longer than the caller would")

// wait sleeps before the next attempt: as long as the vendor asks when that is
// short, else with jitter so that many callers do not return at once.
func (c *Client) wait(ctx context.Context, attempt int, retryAfter time.Duration) error {
	if retryAfter > maxRetryAfter {
		return errTooLong
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

type vendorAnswer struct {
	status      int
	contentType string
	body        []byte
	retryAfter  time.Duration
}

// post makes one attempt. Its errors name no address: *url.Error would.
func (c *Client) post(ctx context.Context, path string, body []byte, token secret.Text) (vendorAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return vendorAnswer{}, errors.New("a request to Nabla Connect cannot be made")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("X-Nabla-Api-Version", c.version)
	if !token.Empty() {
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	response, err := c.http.Do(request)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return vendorAnswer{}, fmt.Errorf("calling Nabla Connect: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return vendorAnswer{}, fmt.Errorf("reading the answer of Nabla Connect: %w", err)
	}
	if len(read) > maxAnswerBytes {
		return vendorAnswer{}, errors.New("the answer of Nabla Connect is too large")
	}
	return vendorAnswer{
		status: response.StatusCode, contentType: response.Header.Get("Content-Type"), body: read,
		retryAfter: c.retryAfter(response.Header.Get("Retry-After")),
	}, nil
}

// retryAfter reads both forms of RFC 9110 §10.2.3; what is neither counts as
// nothing.
func (c *Client) retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 3600)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(c.now()))
	}
	return 0
}

// readURL reads {"encounter_url": string}. Further fields are the vendor's right
// (only breaking changes make a new version).
func (c *Client) readURL(a vendorAnswer) (secret.Text, error) {
	if err := a.isJSON(); err != nil {
		return secret.Text{}, err
	}
	var answer struct {
		EncounterURL string `json:"encounter_url"`
	}
	if err := json.Unmarshal(a.body, &answer); err != nil {
		// The decoder's error may quote what it read.
		return secret.Text{}, errors.New("the answer of Nabla Connect is not of the form that is documented")
	}
	u, err := url.Parse(answer.EncounterURL)
	if err != nil || u.Host == "" || u.User != nil {
		return secret.Text{}, errors.New("the encounter URL of Nabla Connect is not a URL")
	}
	if u.Scheme != "https" && (!c.loopback || u.Scheme != "http" || u.Hostname() != "127.0.0.1") {
		return secret.Text{}, errors.New("the encounter URL of Nabla Connect is not https")
	}
	return secret.New(answer.EncounterURL), nil
}

func (a vendorAnswer) isJSON() error {
	kind, _, _ := strings.Cut(a.contentType, ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		return errors.New("the answer of Nabla Connect is not JSON")
	}
	return nil
}
