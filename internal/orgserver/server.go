// Package orgserver is the reference implementation of the organisation's
// backend: it knows the clinician from the access token, keeps the context of a
// launch for minutes in memory, and asks Nabla for one-time URLs.
//
// Choices where the design is silent:
//
//   - a handle that was never made cannot be told from one that is gone, so both
//     answer handle_expired;
//   - Nabla is told the clinician's e-mail address of the access token in every
//     form, also where POST /launches named another: one person, one address;
//   - the tenant of a link is compared as the provider is: both are told
//     provider_mismatch, so that it cannot be seen which of them it was;
//   - routes, methods and content types that do not exist are request_invalid
//     with the HTTP status of their own (404, 405, 415);
//   - a store that fails is org_busy, an issuer that does not answer
//     org_unreachable;
//   - exports are kept for a day and told again to whoever comes back, from after
//     the Last-Event-ID or all of them: telling one twice does no harm.
//
// It never writes a one-time URL, a handle, a token or anything of a patient to
// a file or a log, never trusts a link for who the clinician is, and never lets
// one clinician act for another.
package orgserver

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/delivery"
	"encounterlauncher/internal/fhir"
	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgaudit"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore"
	"encounterlauncher/internal/problem"
)

// Paths that are not of the launcher's contract.
const (
	PathHealth = "/healthz"
	PathJWKS   = "/.well-known/jwks.json"
)

const (
	// callTime is below the 15 seconds for which a launcher waits.
	callTime      = 14 * time.Second
	maxHeaderText = 128
)

// Deps is what a test or the sandbox may replace. The zero value is right for
// production.
type Deps struct {
	// Now is the clock that decides expiry; nil means time.Now.
	Now func() time.Time
	// Log may be nil: nothing is logged.
	Log *slog.Logger
	// HTTP reaches the OIDC issuer and Nabla; nil means clients of our own. Every
	// call has a time limit, whatever it says.
	HTTP *http.Client
	// Version is that of the program, for metrics and traces.
	Version string

	// redeliver is after how long a note is given to another backend when one died; 0
	// means what package delivery says.
	redeliver time.Duration
}

// Server is the backend: an http.Handler. It is safe for concurrent use.
type Server struct {
	parts
	handles *orgstore.Handles
	events  *events
	conn    *orgstore.Conn
	// tenants is nil where the organisation has none.
	tenants *orgstore.Tenants
	// deliveries is nil where no callbacks are taken.
	deliveries *delivery.Queue
	routes     map[string]map[string]call

	audits   *orgaudit.Log // nil without an audit
	metrics  *metrics
	traces   *traces // nil without traces
	draining *atomic.Bool
	broken   chan struct{} // see Broken
	store    *storeState
}

// parts are what the configuration makes without starting anything.
type parts struct {
	base       string
	publicURL  string
	scheme     string
	life       time.Duration
	identifier bool
	now        func() time.Time
	log        *slog.Logger
	redeliver  time.Duration
	tokens     *accessTokens
	identities *identities
	ehrs       *ehrServers
	persons    *limits
	servers    *limits
	requests   requestKeys
	contexts   contextSource
	fhir       *fhir.Client // nil where there is none
	nabla      *nabla.Client
	callbacks  *callbacks // nil where none are taken
}

// call is one route: the status and body of its answer, or an error that is, or
// wraps, a Problem.
type call func(w http.ResponseWriter, r *http.Request) (int, any, error)

// raw is a body that is not JSON made here.
type raw struct {
	contentType string
	body        []byte
}

func assemble(cfg orgconfig.Config, deps Deps) (parts, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	p := parts{
		publicURL: cfg.PublicURL, scheme: cfg.Scheme(), life: cfg.Life(), identifier: cfg.IdentifiersAllowed,
		now: deps.Now, log: deps.Log, redeliver: deps.redeliver,
	}
	var faults []error
	if err := cfg.Values(); err != nil {
		faults = append(faults, err)
	}
	if u, err := url.Parse(cfg.PublicURL); err == nil {
		p.base = u.Path
	}
	issuerHTTP := deps.HTTP
	if issuerHTTP == nil {
		issuerHTTP = &http.Client{Timeout: issuerTime}
	}
	p.tokens = &accessTokens{issuer: cfg.Issuer, audience: cfg.Audience, http: issuerHTTP, now: deps.Now}
	var err error
	note := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	p.identities, err = newIdentities(cfg)
	note(err)
	p.requests, err = newRequestKeys(cfg.LinkKeysFile)
	note(err)
	p.fhir, err = newFHIR(cfg, deps)
	note(err)
	p.contexts, err = newContextSource(cfg.ContextFile, p.fhir)
	note(err)
	p.ehrs, err = newEHRs(cfg, p.tokens, p.identities, deps.Now)
	note(err)
	note(tenantFaults(cfg, p.identities, p.requests))
	p.persons, p.servers = newLimits(cfg.Limits, deps.Now)
	_, err = clientCertificates(cfg)
	note(err)
	p.nabla, err = NewNabla(cfg.Nabla, deps)
	note(err)
	note(orgstore.Check(cfg.NATS))
	p.callbacks, err = newCallbacks(cfg, p.tokens, p.ehrs, deps.Now)
	note(err)
	note(checkAdmin(cfg))
	if _, shared := joinKeys(p.clientKeys()...); shared {
		note(errors.New("fhir.key_files: a key is one of nabla.key_files too; make one of its own"))
	}
	return p, errors.Join(faults...)
}

const maxKeyFile = 64 << 10

// NewNabla returns the client of Nabla Connect of a configuration, whose keys are
// read again when their files change. It calls nobody, and returns nil where there
// is no key file, which orgconfig.Config.Values reports.
func NewNabla(cfg orgconfig.Nabla, deps Deps) (*nabla.Client, error) {
	of := nabla.Config{
		BaseURL: cfg.BaseURL, Region: cfg.Region, ClientID: cfg.ClientID,
		Version: cfg.Version, UsersVersion: cfg.UsersVersion, HTTP: deps.HTTP, Now: deps.Now, Log: deps.Log,
	}
	var faults []error
	for _, fault := range nabla.Check(of) {
		faults = append(faults, fmt.Errorf("nabla.%w", fault))
	}
	var err error
	if len(cfg.KeyFiles) > 0 {
		of.KeyFiles, err = assertion.OpenFiles(assertion.FilesConfig{
			Names: cfg.KeyFiles, Algorithms: assertion.Nabla, Log: deps.Log,
			Read: func(file string) ([]byte, error) {
				text, err := orgconfig.ReadBounded(file, maxKeyFile)
				if err == nil {
					err = orgconfig.CheckSecret(file)
				}
				return text, withoutFile(err)
			},
		})
	}
	if err != nil {
		faults = append(faults, fmt.Errorf("nabla.key_files: %w", err))
	}
	if len(faults) > 0 || len(cfg.KeyFiles) == 0 {
		return nil, errors.Join(faults...)
	}
	return nabla.New(of)
}

// New builds a Server and its stores. It does not listen and calls nobody: the
// issuer is discovered with the first token. Every fault of the configuration is
// reported at once.
func New(ctx context.Context, cfg orgconfig.Config, deps Deps) (*Server, error) {
	p, err := assemble(cfg, deps)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	conn, err := orgstore.Connect(cfg.NATS)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	handles, err := orgstore.OpenHandles(ctx, conn, p.life, p.now)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	ev, err := openEvents(ctx, conn, p.now)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	var tenants *orgstore.Tenants
	if p.identities.tenants() {
		if tenants, err = orgstore.OpenTenants(ctx, conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	s := &Server{parts: p, handles: handles, tenants: tenants, events: ev, conn: conn, metrics: newMetrics(deps.Version), draining: new(atomic.Bool), broken: make(chan struct{}), store: new(storeState)}
	if err := s.operate(ctx, cfg, deps.Version); err != nil {
		return nil, errors.Join(fmt.Errorf("configuration: %w", err), s.Close())
	}
	s.routes = map[string]map[string]call{
		p.base + orgapi.PathEncounters:   {http.MethodPost: s.create},
		p.base + orgapi.PathEncounterURL: {http.MethodPost: s.reopen},
		p.base + orgapi.PathMe:           {http.MethodGet: s.me},
		p.base + orgapi.PathEvents:       {http.MethodGet: s.listen},
		p.base + orgapi.PathLaunches:     {http.MethodPost: s.launch},
		p.base + orgapi.PathOpenAPI:      {http.MethodGet: s.openAPI},
		p.base + PathJWKS:                {http.MethodGet: s.jwks},
		p.base + PathHealth:              {http.MethodGet: s.health},
		// Load balancers look at the root, whatever prefix the proxy adds.
		PathHealth:         {http.MethodGet: s.health},
		PathReady:          {http.MethodGet: s.ready},
		p.base + PathReady: {http.MethodGet: s.ready},
	}
	if s.deliveries, err = s.openDeliveries(ctx, cfg, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if s.deliveries != nil {
		s.metrics.observeDeliveries(s.deliveries)
		s.routes[p.base+p.callbacks.path] = map[string]call{http.MethodPost: s.callback}
	}
	return s, nil
}

// Broken is closed when only a new start of this process mends it: see
// delivery.Options. What is in memory goes on being served until then.
func (s *Server) Broken() <-chan struct{} { return s.broken }

// JWKS returns the public keys to register with Nabla and with the FHIR server, as a
// JWK set.
func (s *Server) JWKS() []byte { return s.ourKeys() }

// operate opens what those who operate us look at: audit, metrics, traces.
func (s *Server) operate(ctx context.Context, cfg orgconfig.Config, version string) (err error) {
	s.audits, err = orgaudit.Open(cfg.Audit, s.now, func(sink string, err error) {
		s.metrics.auditFailed.WithLabelValues(sink).Inc()
		s.log.Error("the audit was not written", "sink", sink, "cause", err)
	})
	if err != nil {
		return err
	}
	s.metrics.gauge("org_backend_streams_open", "Open streams of events.", func() float64 { return float64(s.events.count()) })
	s.metrics.gauge("org_backend_vendor_paused", "1 while Nabla fails again and again and is left alone.", func() float64 {
		if s.nabla.Paused() {
			return 1
		}
		return 0
	})
	s.traces, err = openTraces(ctx, cfg.Traces, version, s.log)
	return err
}

// Close ends the streams of events, lets deliveries under way finish for up to ten
// seconds, ends the stores, and writes what audit and traces hold. Handles that were
// not redeemed are lost.
func (s *Server) Close() error {
	s.events.end()
	if s.deliveries != nil {
		s.deliveries.Close()
	}
	return errors.Join(s.conn.Close(), s.traces.close(), s.audits.Close())
}

// ServeHTTP serves the contract of internal/orgapi/openapi.yaml below the path
// of PublicURL, with PathHealth, and PathJWKS (our keys for Nabla).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set(orgapi.HeaderContract, orgapi.ContractVersion)
	id, idErr := requestID(r)
	h.Set(orgapi.HeaderRequestID, id)
	route := "none"
	status, err := http.StatusInternalServerError, error(nil)
	stream := false
	told := &story{orgaudit.Record{RequestID: id}}
	ctx, ended := s.traces.call(r)
	s.metrics.under.Inc()
	defer func() {
		if fault := recover(); fault != nil {
			// What panicked may hold anything: its text is not logged.
			err = problem.New(problem.Internal, errors.New("a call panicked"))
			_ = s.audit(told, err) // a failure of the audit's own is logged there
			status = s.refuse(w, err)
		}
		took := time.Since(started)
		s.metrics.under.Dec()
		s.metrics.call(s.routeLabel(route), status, err, took, stream)
		ended(s.routeLabel(route), status, err)
		s.record(r, route, status, id, took, err)
	}()
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, storyKey{}, told), callTime)
	defer cancel()
	methods, known := s.routes[r.URL.Path]
	handle, allowed := methods[r.Method]
	switch {
	// A proxy's rules are about the paths as they are written: one that is written in
	// another way must not get past them.
	case !known, r.URL.RawPath != "":
		err = &statusError{status: http.StatusNotFound, Problem: problem.With(problem.RequestInvalid, "There is no such call.", nil)}
	case !allowed:
		route = r.URL.Path
		err = &statusError{status: http.StatusMethodNotAllowed, allow: firstKey(methods), Problem: problem.With(problem.RequestInvalid, "The call has another method.", nil)}
	case idErr != nil:
		route, err = r.URL.Path, idErr
	default:
		route = r.URL.Path
		var body any
		status, body, err = handle(w, r.WithContext(ctx))
		// What cannot be recorded is not handed out.
		if unrecorded := s.audited(ctx, told, err); err == nil {
			err = unrecorded
		}
		if err == nil {
			if run, ok := body.(streamed); ok {
				stream = true
				run(r.Context(), w)
				return
			}
			answer(w, status, body)
			return
		}
	}
	status = s.refuse(w, err)
}

func firstKey(m map[string]call) string {
	for k := range m {
		return k
	}
	return ""
}

// record writes the access log: no id of a person, nothing of a body, and a
// path only when it is one of ours.
func (s *Server) record(r *http.Request, route string, status int, id string, took time.Duration, err error) {
	attrs := []slog.Attr{
		slog.String("method", method(r.Method)), slog.String("route", route), slog.Int("status", status),
		slog.String("request_id", id), slog.Float64("took_ms", float64(took.Microseconds())/1000),
	}
	level := slog.LevelInfo
	if err != nil {
		p := problem.Of(err)
		attrs = append(attrs, slog.Any("problem", p))
		level = p.Row().Level
	}
	s.log.LogAttrs(r.Context(), level, "call", attrs...)
}

func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodPost, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return m
	}
	return "other"
}

func (s *Server) refuse(w http.ResponseWriter, err error) int {
	p := problem.Of(err)
	body := orgapi.NewProblem(p)
	var special *statusError
	if errors.As(err, &special) {
		body.Status = special.status
		if special.allow != "" {
			w.Header().Set("Allow", special.allow)
		}
		if special.after > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(special.after.Seconds()))))
		}
	}
	switch {
	case body.Status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case special != nil && special.scope != "":
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+special.scope+`"`) // RFC 6750 §3.1
	}
	answer(w, body.Status, body)
	return body.Status
}

func answer(w http.ResponseWriter, status int, body any) {
	kind := "application/json"
	var text []byte
	switch b := body.(type) {
	case raw:
		kind, text = b.contentType, b.body
	case orgapi.Problem:
		kind = orgapi.ProblemContentType
		text, _ = json.Marshal(b) // a struct of strings and a number
	default:
		text, _ = json.Marshal(b)
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(text) // the caller may be gone
}

// requestID returns the id of a call: the caller's, or our own where it sent
// none or one that is not fit for a log.
func requestID(r *http.Request) (string, error) {
	values := r.Header.Values(orgapi.HeaderRequestID)
	if len(values) == 1 && headerWord(values[0]) {
		return values[0], nil
	}
	id := random(16)
	if len(values) == 0 {
		return id, nil
	}
	return id, problem.With(problem.RequestInvalid, "The header X-Request-Id is not a word of at most 128 characters.", nil)
}

func idempotencyKey(r *http.Request) (string, error) {
	values := r.Header.Values(orgapi.HeaderIdempotencyKey)
	if len(values) != 1 || !headerWord(values[0]) {
		return "", problem.With(problem.RequestInvalid, "The header Idempotency-Key is missing, or not a word of at most 128 characters.", nil)
	}
	return values[0], nil
}

func headerWord(s string) bool {
	if s == "" || len(s) > maxHeaderText {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && strings.IndexByte("-_.:+/=", c) < 0 {
			return false
		}
	}
	return true
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // crypto/rand.Read never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b)
}

// caller returns the clinician who calls.
func (s *Server) caller(r *http.Request) (clinician, error) {
	who, _, err := s.callerUntil(r)
	return who, err
}

// callerUntil is caller, with the end of the access token.
func (s *Server) callerUntil(r *http.Request) (clinician, time.Time, error) {
	token, err := bearer(r)
	if err != nil {
		return clinician{}, time.Time{}, err
	}
	ctx, done := s.stage(r.Context(), stageToken)
	t, err := s.tokens.verified(ctx, token, s.tokens.audience)
	if done(err); err != nil {
		return clinician{}, time.Time{}, err
	}
	p := t.person.Load()
	known := p != nil
	if !known {
		// A NumericDate may have a fraction (RFC 7519 §2); verify has read it already.
		var end float64
		if err := json.Unmarshal(t.claims["exp"], &end); err != nil {
			return clinician{}, time.Time{}, problem.New(problem.Unauthorized, errors.New("the access token does not say when it ends"))
		}
		if s.ehrs.isServer(t.claims) {
			return clinician{}, time.Time{}, problem.New(problem.Unauthorized, errors.New("the access token is a server's, not a person's"))
		}
		p = &person{issuer: text(t.claims["iss"]), subject: text(t.claims["sub"]), end: time.Unix(int64(end), 0)}
	}
	// After the signature, so that a stranger uses up nobody's share.
	if err := s.persons.take(p.issuer, p.subject); err != nil {
		return clinician{}, time.Time{}, err
	}
	if !known {
		if p.who, err = s.identities.of(t.claims); err != nil {
			return clinician{}, time.Time{}, err
		}
		t.person.Store(p)
	}
	return p.who, p.end, nil
}

// Check reports everything that is wrong with a configuration, naming the key of
// each fault, and reads the files that it names. It starts and calls nothing.
func Check(cfg orgconfig.Config) error {
	_, err := assemble(cfg, Deps{})
	faults := []error{err}
	if cfg.TLSCertFile != "" && cfg.TLSKeyFile != "" {
		// Without the authorities: assemble has looked at those.
		cfg.ClientCAFile = ""
		_, err := openCertificates(cfg, slog.New(slog.DiscardHandler), time.Now)
		faults = append(faults, err)
	}
	if cfg.Audit.Syslog != "" {
		if err := orgaudit.CheckSyslog(cfg.Audit.Syslog); err != nil {
			faults = append(faults, fmt.Errorf("audit.syslog: %w", err))
		}
	}
	return errors.Join(faults...)
}
