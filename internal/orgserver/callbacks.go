package orgserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"encounterlauncher/internal/delivery"
	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	// pathCallbacks is where Nabla calls unless the configuration says otherwise.
	pathCallbacks = "/nabla/callbacks"
	// unprovenBytes bounds what is read, at the same time, of callbacks of which it is not
	// known yet whether they are Nabla's: whoever reaches us may send one of 8 MB, on as
	// many connections as they like. It is enough for a dozen of the largest.
	unprovenBytes = 96 << 20
	// callbackPause is the Retry-After of a callback that could not be kept.
	callbackPause = 5 * time.Second
)

// callbacks is how Nabla's callbacks are known for its own; nil where there is no
// route for them.
type callbacks struct {
	path     string
	verifier *nabla.Verifier
	// unproven is how much may still be read; see unprovenBytes.
	unproven atomic.Int64
	// tokens is nil where Nabla needs no bearer token.
	tokens           *accessTokens
	audience, client string
	clientOf         func(claims map[string]json.RawMessage) string
}

// newCallbacks also checks whatever a callback that was taken needs: a place to
// bring it to, and a queue that outlives us.
func newCallbacks(cfg orgconfig.Config, clinicians *accessTokens, servers *ehrServers, now func() time.Time) (*callbacks, error) {
	var faults []error
	fault := func(key, what string) { faults = append(faults, fmt.Errorf("callbacks.%s: %s", key, what)) }
	faults = append(faults, delivery.Check(cfg))
	section := cfg.Callbacks
	if len(section.SecretFiles) == 0 {
		if section.Path != "" || section.Bearer != (orgconfig.Bearer{}) || cfg.Deliver != (orgconfig.Deliver{}) {
			fault("secret_files", "there is none, so no callback is taken and nothing delivered")
		}
		return nil, errors.Join(faults...)
	}
	c := &callbacks{path: section.Path, client: section.Bearer.ClientID, audience: section.Bearer.Audience}
	c.unproven.Store(unprovenBytes)
	if c.path == "" {
		c.path = pathCallbacks
	}
	if u, err := url.Parse(c.path); err != nil || u.Path != c.path || c.path[0] != '/' || path.Clean(c.path) != c.path || c.path == "/" {
		fault("path", "it is not a plain path such as "+pathCallbacks)
	}
	var err error
	if c.verifier, err = newVerifier(section.SecretFiles, now); err != nil {
		faults = append(faults, err)
	}
	if b := section.Bearer; b != (orgconfig.Bearer{}) {
		switch {
		case !orgconfig.ServerURL(strings.TrimSuffix(b.Issuer, "/")):
			fault("bearer.issuer", "it is not a plain https URL")
		case b.Audience == "":
			fault("bearer.audience", "it is missing")
		case b.ClientID == "":
			fault("bearer.client_id", "it is missing: without it any client of the issuer's would do")
		case b.Issuer == cfg.Issuer:
			c.tokens = clinicians
		default:
			c.tokens = &accessTokens{issuer: b.Issuer, audience: b.Audience, http: clinicians.http, now: now}
		}
	}
	if servers != nil {
		c.clientOf = servers.clientOf
	}
	public, err := url.Parse(cfg.PublicURL)
	if development := err == nil && orgconfig.IsLoopbackHTTP(public); cfg.NATS.Folder == "" && len(cfg.NATS.Servers) == 0 && !development {
		faults = append(faults, errors.New("nats.folder: callbacks are taken, but without it (or nats.servers) they would be lost with this process"))
	}
	return c, errors.Join(faults...)
}

func newVerifier(files []string, now func() time.Time) (*nabla.Verifier, error) {
	secrets := make([]secret.Text, 0, len(files))
	for _, file := range files {
		word, err := orgconfig.ReadSecret(file)
		if err != nil {
			return nil, fmt.Errorf("callbacks.secret_files: %w", err)
		}
		if strings.Contains(word, " ") {
			return nil, errors.New("callbacks.secret_files: one does not hold one line without spaces")
		}
		secrets = append(secrets, secret.New(word))
	}
	v, err := nabla.NewVerifier(secrets, now)
	if err != nil {
		return nil, fmt.Errorf("callbacks.secret_files: %w", err)
	}
	return v, nil
}

// openDeliveries opens the queue of callbacks and begins to deliver; nil where no
// callbacks are taken.
func (s *Server) openDeliveries(ctx context.Context, cfg orgconfig.Config, conn *orgstore.Conn) (*delivery.Queue, error) {
	if s.callbacks == nil {
		return nil, nil
	}
	places, err := delivery.Places(cfg, s.fhir, s.now)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if !conn.Durable() {
		s.log.Warn("callbacks are kept in memory only, and lost with this process: this is for development")
	}
	return delivery.Open(ctx, conn, places, delivery.Options{
		Broken:      func() { close(s.broken) }, // once
		GiveUpAfter: cfg.Deliver.GiveUpAfter, Remember: cfg.Deliver.Remember, Now: s.now, Log: s.log, AckWait: s.redeliver,
		Exported: func(ctx context.Context, encounterID, providerID string, at time.Time) error {
			err := s.Exported(ctx, orgapi.ExportedEvent{ExternalEncounterID: encounterID, ExternalProviderID: providerID, At: at.UTC().Format(time.RFC3339)})
			if err == nil {
				s.delivered(encounterID, providerID)
			}
			return err
		},
	})
}

// callbackAnswer is Nabla's response protocol.
type callbackAnswer struct {
	RequestUUID string `json:"request_uuid"`
}

// callback is Nabla's call: by the letter of its pages "Callback authentication" and
// "Response protocol". Nothing is read of a body before its signature is right, and
// it is answered 200 only once it is kept durably. When it cannot be kept the answer
// is 503, which callers try again, and not the 429 of the code: Nabla has not asked
// for too much.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := s.callbacks.read(w, r)
	if err != nil {
		return 0, nil, err
	}
	if err := s.callbacks.bearer(r); err != nil {
		return 0, nil, err
	}
	c, err := nabla.Parse(body)
	switch {
	case errors.Is(err, nabla.ErrUnknownType):
		return 0, nil, problem.With(problem.RequestInvalid, "The type of the callback is not known.", err)
	case err != nil:
		return 0, nil, problem.With(problem.RequestInvalid, "The body is not a callback.", err)
	}
	storyOf(r).hears(c)
	ctx, done := s.stage(r.Context(), stageDelivery)
	err = s.deliveries.Accept(ctx, c.RequestUUID, c.Type, body)
	done(err)
	switch {
	case err == nil:
		return http.StatusOK, callbackAnswer{c.RequestUUID}, nil
	case errors.Is(err, delivery.ErrSeen):
		return 0, nil, &statusError{status: http.StatusConflict, Problem: problem.With(problem.RequestInvalid, "The callback was taken before.", nil)}
	case errors.Is(err, delivery.ErrTooLarge):
		return 0, nil, problem.New(problem.RequestTooLarge, err)
	}
	return 0, nil, &statusError{status: http.StatusServiceUnavailable, after: callbackPause, Problem: problem.New(problem.OrgBusy, err)}
}

// read returns the body of a callback whose signature is right.
func (c *callbacks) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := checkKind(r); err != nil {
		return nil, err
	}
	from := &metered{from: http.MaxBytesReader(w, r.Body, nabla.MaxCallbackBytes), left: &c.unproven}
	defer func() { c.unproven.Add(from.taken) }()
	body, err := readAll(from)
	if from.none {
		return nil, &statusError{status: http.StatusServiceUnavailable, after: callbackPause, Problem: problem.New(problem.OrgBusy, errors.New("too much is being read of callbacks that may not be Nabla's"))}
	}
	if err != nil {
		return nil, err
	}
	if err := c.verifier.Verify(r.Header, body); err != nil {
		return nil, problem.New(problem.Unauthorized, err)
	}
	return body, nil
}

// metered reads for as long as there is something left of what all may read together.
type metered struct {
	from  io.Reader
	left  *atomic.Int64
	taken int64
	none  bool
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.from.Read(p)
	m.taken += int64(n)
	if m.left.Add(-int64(n)) < 0 {
		m.none = true
		return n, errors.New("nothing is left")
	}
	return n, err
}

// bearer checks the access token that Nabla shows, where the organisation asks for
// one.
func (c *callbacks) bearer(r *http.Request) error {
	if c.tokens == nil {
		return nil
	}
	token, err := bearer(r)
	if err != nil {
		return err
	}
	claims, err := c.tokens.verifyFor(r.Context(), token, c.audience)
	if err != nil {
		return err
	}
	if c.clientOf(claims) != c.client {
		return problem.New(problem.Unauthorized, errors.New("the access token is another client's than Nabla's"))
	}
	return nil
}
