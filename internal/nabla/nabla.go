// Package nabla is the client of Nabla Connect that the organisation's backend
// uses: server authentication (RFC 7523), creating an encounter, asking for a
// fresh one-time URL, provisioning users; and what Nabla calls back is verified
// and read here.
//
// How the vendor's answers become problems:
//
//	400, 422             context_incomplete on create: the payload was refused, and
//	                     what varies in it is what the EHR knows of patient and
//	                     clinician; request_invalid on users
//	409                  provider_conflict
//	404 on refresh       encounter_unknown
//	401                  a new access token, once; then vendor_unavailable
//	everything else      vendor_unavailable: 429, 5xx, redirects, time-outs, answers
//	                     that cannot be used
//
// Every call may be repeated, since the vendor finds what it made before: so what
// may pass is tried again, with jitter, and as late as Retry-After asks where the
// caller still waits then. A vendor who fails again and again is left alone for
// some seconds (circuit breaker), and callers hear so at once.
//
// It never runs on a workstation, never keeps or logs a one-time URL, an access
// token or anything of a patient, never passes on what the vendor wrote in a
// refusal, and never sends the legacy create format.
package nabla

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// The dated versions of the protocol (header X-Nabla-Api-Version) whose payloads
// this package sends.
const (
	// DefaultVersion is that of create and refresh.
	DefaultVersion = "2026-02-13"
	// DefaultUsersVersion is that of users, which it brought.
	DefaultUsersVersion = "2026-03-23"
)

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
	// rotate without downtime. Exactly one of Keys and KeyFiles is set.
	Keys []assertion.Key
	// KeyFiles are our keys where they may change while we work.
	KeyFiles *assertion.Files
	// Version and UsersVersion are the dated versions to ask for; empty means
	// DefaultVersion and DefaultUsersVersion.
	Version, UsersVersion string
	// HTTP, when it has a Transport, is how the vendor is reached; else it is a
	// transport of our own. Nothing else of it is used: redirects are never
	// followed, and every attempt has a time limit of ours.
	HTTP *http.Client
	// Now is the clock that decides how long tokens live; nil means time.Now.
	// Time-outs and the circuit breaker go by the machine's.
	Now func() time.Time
	// Sleep waits between attempts; nil means a real timer.
	Sleep func(context.Context, time.Duration) error
	// Log is told when the vendor is left alone and taken up again, and when a
	// token cannot be renewed; nil: nothing is logged.
	Log *slog.Logger
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
	line     *line
	now      func() time.Time
	sleep    func(context.Context, time.Duration) error
	log      *slog.Logger
	auth     *authenticator
	encounters,
	encounterURL,
	users endpoint
}

// New checks the configuration and returns a Client. It makes no call.
func New(cfg Config) (*Client, error) {
	if err := errors.Join(Check(cfg)...); err != nil {
		return nil, err
	}
	base, loopback, err := baseURL(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Version == "" {
		cfg.Version = DefaultVersion
	}
	if cfg.UsersVersion == "" {
		cfg.UsersVersion = DefaultUsersVersion
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var keys prover
	switch {
	case (cfg.KeyFiles == nil) == (len(cfg.Keys) == 0):
		return nil, errors.New("exactly one of keys and key files for Nabla Connect must be given")
	case cfg.KeyFiles != nil:
		keys = cfg.KeyFiles
	default:
		if keys, err = assertion.New(cfg.Keys, assertion.Nabla); err != nil {
			return nil, fmt.Errorf("keys for Nabla Connect: %w", err)
		}
	}
	c := &Client{base: base, loopback: loopback, line: newLine(cfg), now: cfg.Now, sleep: cfg.Sleep, log: cfg.Log}
	c.auth = &authenticator{client: c, clientID: cfg.ClientID, keys: keys}
	for _, e := range []struct {
		to            *endpoint
		path, version string
	}{
		{&c.auth.endpoint, tokenPath, cfg.Version},
		{&c.encounters, "/encounters", cfg.Version},
		{&c.encounterURL, "/encounters/url", cfg.Version},
		{&c.users, "/users", cfg.UsersVersion},
	} {
		if *e.to, err = newEndpoint(base, e.path, e.version); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Check says everything that is wrong with a configuration, keys apart, each fault as
// "base_url: what is wrong".
func Check(cfg Config) []error {
	var faults []error
	if _, _, err := baseURL(cfg); err != nil {
		faults = append(faults, err)
	}
	for _, version := range [][2]string{{"version", cfg.Version}, {"users_version", cfg.UsersVersion}} {
		if _, err := time.Parse(time.DateOnly, version[1]); version[1] != "" && err != nil {
			faults = append(faults, fmt.Errorf("%s: it is not a date such as %s", version[0], DefaultVersion))
		}
	}
	if !isUUID(cfg.ClientID) {
		faults = append(faults, errors.New("client_id: it is not a UUID"))
	}
	return faults
}

func baseURL(cfg Config) (base string, loopback bool, err error) {
	if (cfg.BaseURL == "") == (cfg.Region == "") {
		return "", false, errors.New("region: exactly one of it and base_url must be set")
	}
	if cfg.Region != "" {
		if cfg.Region != "us" && cfg.Region != "eu" {
			return "", false, errors.New("region: it is neither us nor eu")
		}
		return "https://" + cfg.Region + ".api.nabla.com/v1/connect/server", false, nil
	}
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(cfg.BaseURL, "/") {
		return "", false, errors.New("base_url: it is not a plain URL without a trailing slash")
	}
	loopback = u.Scheme == "http" && u.Hostname() == "127.0.0.1"
	if u.Scheme != "https" && !loopback {
		return "", false, errors.New("base_url: it is not https")
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
	return c.oneTimeURL(ctx, c.encounters, p, refusedCreate)
}

// Refresh returns a fresh one-time URL of an encounter that exists. Every error
// is a Problem.
func (c *Client) Refresh(ctx context.Context, providerID, encounterID string) (secret.Text, error) {
	return c.oneTimeURL(ctx, c.encounterURL, refreshPayload{providerID, encounterID}, refusedRefresh)
}

// JWKS returns the public parts of our keys as a JWK set (RFC 7517 §5), JSON.
func (c *Client) JWKS() []byte { return c.auth.keys.JWKS() }

// RetryAfter returns for how long the vendor asked to be left alone, at most an
// hour, where err says that it did; else 0. It is meant for whoever has more time
// than a person at a screen.
func RetryAfter(err error) time.Duration {
	var asked *leaveAlone
	if errors.As(err, &asked) {
		return asked.wait
	}
	return 0
}

// leaveAlone is a failure together with the wait that was asked for.
type leaveAlone struct {
	error
	wait time.Duration
}

func (l *leaveAlone) Unwrap() error { return l.error }

// refusals says which statuses mean more than that the vendor is unavailable.
type refusals func(status int) problem.Code

func refusedCreate(status int) problem.Code {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return problem.ContextIncomplete
	case http.StatusConflict:
		return problem.ProviderConflict
	}
	return problem.VendorUnavailable
}

func refusedRefresh(status int) problem.Code {
	if status == http.StatusNotFound {
		return problem.EncounterUnknown
	}
	return problem.VendorUnavailable
}

func (c *Client) oneTimeURL(ctx context.Context, to endpoint, payload any, refused refusals) (secret.Text, error) {
	answer, err := c.call(ctx, to, payload, refused)
	if err != nil {
		return secret.Text{}, err
	}
	target, err := c.readURL(answer)
	if err != nil {
		return secret.Text{}, problem.New(problem.VendorUnavailable, err)
	}
	return target, nil
}

// Authenticate fetches an access token, or has one: whether Nabla knows our client
// and its keys. It changes nothing there.
func (c *Client) Authenticate(ctx context.Context) error {
	_, err := c.auth.token(ctx)
	return err
}

// call posts one payload, again where the failure may pass, and returns an answer
// of the kind 2xx.
func (c *Client) call(ctx context.Context, to endpoint, payload any, refused refusals) (vendorAnswer, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return vendorAnswer{}, problem.New(problem.Internal, errors.New("a payload for Nabla Connect cannot be written"))
	}
	end := time.Now().Add(callTime)
	renewed := false
	for attempt := 1; ; attempt++ {
		proof, err := c.auth.token(ctx)
		if err != nil {
			return vendorAnswer{}, failed(ctx, fmt.Errorf("authenticating with Nabla Connect: %w", err))
		}
		answer, err := c.line.post(ctx, end, to, body, proof.bearer)
		if err == nil {
			if answer.status/100 == 2 {
				return answer, nil
			}
			err = fmt.Errorf("Nabla Connect answered %d", answer.status)
			if answer.status == http.StatusUnauthorized && !renewed {
				// A token may have been revoked before its time; a second refusal is about
				// us, not about the token.
				renewed = true
				c.auth.forget(proof)
				attempt--
				continue
			}
			if !mayPass(answer.status) {
				return vendorAnswer{}, problem.New(refused(answer.status), err)
			}
		}
		if err = c.again(ctx, end, attempt, c.retryAfter(answer), err); err != nil {
			return vendorAnswer{}, failed(ctx, err)
		}
	}
}

// failed tells a caller who went away from a vendor who did not answer.
func failed(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return problem.New(problem.Cancelled, err)
	}
	if errors.Is(err, errLeftAlone) {
		return problem.With(problem.VendorUnavailable, "It has failed several times in a row and is tried again in a few seconds.", err)
	}
	return problem.New(problem.VendorUnavailable, err)
}

func mayPass(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || isFailure(status)
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
