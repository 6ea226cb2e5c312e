// Package nablasim is a strict simulator of Nabla Connect for development and
// tests: it refuses whatever the vendor's protocol page does not allow, and its
// one-time pages work once and for ten minutes.
//
// Where the vendor's documentation is silent it takes the strict reading:
//
//   - every required text must be non-empty, every external id has at most 256
//     characters, and each field of the table must be there, pronouns included;
//   - an unknown, missing or doubled field, a wrong type, a body that is not
//     UTF-8 or not JSON alone is 400, another content type 415, more than 1 MiB
//     413, an unknown version 400;
//   - e-mail addresses are compared without regard to case;
//   - the same external_encounter_id for another patient is 400, for another
//     clinician it is allowed (both may then refresh it);
//   - refreshing an encounter that this clinician never created is 404;
//   - a version is any of the two that are known, or a date before 2026-02-13, which
//     asks for the legacy create format (unstructured_context alone); without one
//     the pinned version of the configuration applies;
//   - POST /users is 404 below 2026-03-23, and 200 whether it found or created; an
//     id with another e-mail address than its user's is 409, too;
//   - the words of an enum are letters, digits, underscores and hyphens;
//   - an assertion lives at most five minutes, with 60 seconds of skew on iat.
//
// It calls the organisation back, too: an export is signed by the letter and its
// answer held against the response protocol. Clock, faults and exports are moved
// by Control, on a listener of its own. openapi.yaml says what it speaks.
//
// It never talks to Nabla, keeps everything in memory, and writes no id, URL,
// token or name into its log.
package nablasim

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// What the protocol page fixes.
const (
	// PageLife is how long a one-time URL works.
	PageLife = 10 * time.Minute
	// VersionHeader and VersionQuery choose a dated version.
	VersionHeader = "X-Nabla-Api-Version"
	VersionQuery  = "nabla-api-version"
	// Version20260213 and Version20260323 are the versions that are known.
	Version20260213 = "2026-02-13"
	Version20260323 = "2026-03-23"
)

// What the protocol page leaves open.
const (
	defaultTokenLife = 10 * time.Minute
	maxBodyBytes     = 1 << 20
	// keepSpent is how long a dead one-time URL is told apart from an unknown one.
	keepSpent = time.Hour
)

// Client is one registered OAuth client. Exactly one of its fields is set.
type Client struct {
	// JWKSURL is where the client publishes its keys, the vendor's preferred way.
	// It is fetched again when an unknown kid arrives, at most every five seconds.
	JWKSURL string
	// JWKS is a fixed JWK set.
	JWKS []byte
	// PublicKeyPEM is one static RSA key (PKIX or PKCS #1), which means RS256 only.
	PublicKeyPEM []byte
}

// Config describes one simulator.
type Config struct {
	// BaseURL is the base under which callers reach the protocol, for example
	// "http://127.0.0.1:4000/v1/connect/server". The path is where the handler
	// serves it; BaseURL + "/oauth/token" is the only accepted audience.
	BaseURL string
	// PageBase is the start of every one-time URL, without a trailing slash, for
	// example "http://127.0.0.1:4000". Empty means scheme and host of BaseURL.
	PageBase string
	// Clients by their UUID.
	Clients map[string]Client
	// Version is the organisation's pinned version, which applies when a call names
	// none; empty means 2026-02-13.
	Version string
	// Callbacks says where exports go; without a URL nothing can be exported.
	Callbacks Callbacks
	// TokenLife is how long a bearer token works; 0 means ten minutes.
	TokenLife time.Duration
	// HTTP fetches JWKS URLs; nil means a client of our own with a short timeout.
	HTTP *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Sleep waits for a fault that is slow; nil means a real timer.
	Sleep func(context.Context, time.Duration) error
	// Log may be nil: nothing is logged.
	Log *slog.Logger
}

// Opening is one one-time page that was really opened. PatientName shows tests
// which context arrived; the page itself does not show it.
type Opening struct {
	ExternalEncounterID string
	ExternalProviderID  string
	ProviderEmail       string
	PatientName         string
	At                  time.Time
}

// Sim is the simulator: an http.Handler for the protocol and the pages. It is
// safe for concurrent use.
type Sim struct {
	base, tokenEndpoint string
	basePath            string
	pageBase, pagePath  string
	tokenLife           time.Duration
	version             string
	exports             *exporter
	clients             map[string]*keySource
	clock               *movedClock
	sleep               func(context.Context, time.Duration) error
	faults              faults
	log                 *slog.Logger
	mux                 *http.ServeMux

	mu         sync.Mutex
	assertions map[string]time.Time // client and jti, seen, until
	tokens     map[string]time.Time // bearer token, until
	idOfEmail  map[string]string    // folded e-mail address, external_provider_id
	usersByID  map[string]*user
	encounters map[string]*encounter
	pages      map[string]*page
	order      []string // keys of pages, oldest first
	opened     []Opening
	// exportForms are the buttons of pages that were opened, each good for one press.
	exportForms map[string]exportForm
}

type encounter struct {
	id, patientID, patientName string
	// providers holds each clinician's e-mail as it was given, by provider id.
	providers map[string]string
	last      string // provider id of the one who created it last
}

type page struct {
	encounter  *encounter
	providerID string
	email      string
	made       time.Time
	spent      bool
}

// New checks the configuration and returns a simulator. It calls nobody: a JWKS
// URL is fetched with the first assertion.
func New(cfg Config) (*Sim, error) {
	base, err := url.Parse(cfg.BaseURL)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") || base.RawQuery != "" || base.Fragment != "" || strings.HasSuffix(cfg.BaseURL, "/") {
		return nil, errors.New("the base URL of the simulator is not an http or https URL without a trailing slash")
	}
	if cfg.PageBase == "" {
		cfg.PageBase = base.Scheme + "://" + base.Host
	}
	pages, err := url.Parse(cfg.PageBase)
	if err != nil || pages.Host == "" || strings.HasSuffix(cfg.PageBase, "/") {
		return nil, errors.New("the page base of the simulator is not a URL without a trailing slash")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: 5 * time.Second}
	}
	if cfg.TokenLife == 0 {
		cfg.TokenLife = defaultTokenLife
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sim{
		base: cfg.BaseURL, tokenEndpoint: cfg.BaseURL + "/oauth/token", basePath: base.Path,
		pageBase: cfg.PageBase, pagePath: pages.Path + "/open/",
		tokenLife: cfg.TokenLife, clock: &movedClock{real: cfg.Now}, sleep: cfg.Sleep, log: cfg.Log,
		clients:    map[string]*keySource{},
		assertions: map[string]time.Time{}, tokens: map[string]time.Time{},
		idOfEmail: map[string]string{}, usersByID: map[string]*user{},
		encounters: map[string]*encounter{}, pages: map[string]*page{}, exportForms: map[string]exportForm{},
	}
	if s.version = cfg.Version; s.version == "" {
		s.version = Version20260213
	}
	if !known(s.version) {
		return nil, errors.New("the pinned version of the simulator is not one that exists")
	}
	if s.exports, err = newExporter(cfg.Callbacks); err != nil {
		return nil, err
	}
	for id, c := range cfg.Clients {
		if s.clients[id], err = newKeySource(c, cfg.HTTP); err != nil {
			return nil, fmt.Errorf("client of the simulator: %w", err)
		}
	}
	s.mux = http.NewServeMux()
	s.mux.HandleFunc(s.basePath+"/oauth/token", s.faulty(CallToken, s.post(s.token)))
	for _, alias := range []string{"/encounters", "/encounter"} {
		s.mux.HandleFunc(s.basePath+alias, s.faulty(CallCreate, s.post(s.authorised(s.create))))
		s.mux.HandleFunc(s.basePath+alias+"/url", s.faulty(CallRefresh, s.post(s.authorised(s.refresh))))
	}
	s.mux.HandleFunc(s.basePath+"/users", s.faulty(CallUsers, s.post(s.authorised(s.users))))
	s.mux.HandleFunc(s.basePath+"/openapi.yaml", document(OpenAPI))
	s.mux.HandleFunc(s.pagePath+"{token}", s.faulty(CallPage, s.open))
	s.mux.HandleFunc(s.pagePath+"{token}/export", s.exportNote)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "not_found", "there is no such call")
	})
	return s, nil
}

func (s *Sim) now() time.Time { return s.clock.now() }

// ServeHTTP serves the protocol below BaseURL's path and the one-time pages
// below PageBase's.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s.mux.ServeHTTP(w, r)
}

// Opened returns the pages that were opened, oldest first.
func (s *Sim) Opened() []Opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Opening(nil), s.opened...)
}

// call is one POST: it returns the status and the body of the answer.
type call func(r *http.Request, body []byte) (int, any)

// refusal is the body of every refused call but those of the token endpoint.
type refusal struct {
	Error  string `json:"error"`
	Reason string `json:"reason"`
}

func refuse(w http.ResponseWriter, status int, code, reason string) {
	answer(w, status, refusal{code, reason})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *Sim) post(c call) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "this call is a POST")
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
		if err != nil {
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				refuse(w, http.StatusRequestEntityTooLarge, "too_large", "the body is larger than 1 MiB")
				return
			}
			refuse(w, http.StatusBadRequest, "invalid_request", "the body was cut off")
			return
		}
		status, result := c(r, body)
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		}
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "nabla-sim answered", append([]slog.Attr{
			slog.String("call", strings.TrimPrefix(r.Pattern, s.basePath)), slog.Int("status", status),
		}, why(result)...)...)
		answer(w, status, result)
	}
}

// why is the reason of a refusal, which names fields and never what stands in them.
func why(result any) []slog.Attr {
	switch no := result.(type) {
	case refusal:
		return []slog.Attr{slog.String("reason", no.Reason)}
	case *refusal:
		return []slog.Attr{slog.String("reason", no.Reason)}
	case oauthError:
		return []slog.Attr{slog.String("reason", no.Description)}
	}
	return nil
}

// authorised lets a call through when it carries a living bearer token and names
// a version that exists.
func (s *Sim) authorised(next call) call {
	return func(r *http.Request, body []byte) (int, any) {
		values := r.Header.Values("Authorization")
		if len(values) != 1 || len(values[0]) < 8 || !strings.EqualFold(values[0][:7], "Bearer ") {
			return http.StatusUnauthorized, refusal{"unauthorized", "the call needs exactly one bearer token"}
		}
		s.mu.Lock()
		until, known := s.tokens[values[0][7:]]
		s.mu.Unlock()
		if !known || !s.now().Before(until) {
			return http.StatusUnauthorized, refusal{"unauthorized", "the bearer token is unknown or expired"}
		}
		if reason := checkVersion(r); reason != "" {
			return http.StatusBadRequest, refusal{"unknown_version", reason}
		}
		if reason := checkContentType(r); reason != "" {
			return http.StatusUnsupportedMediaType, refusal{"unsupported_media_type", reason}
		}
		return next(r, body)
	}
}

func checkVersion(r *http.Request) string {
	named := namedVersions(r)
	for i, v := range named {
		if !known(v) {
			return "the version is not one that exists"
		}
		if v != named[0] && i > 0 {
			return "two different versions are named"
		}
	}
	return ""
}

func namedVersions(r *http.Request) []string {
	named := append([]string(nil), r.Header.Values(VersionHeader)...)
	return append(named, r.URL.Query()[VersionQuery]...)
}

// known reports whether a version may be asked for. The versions before
// 2026-02-13 are not listed anywhere: every date before it is one.
func known(version string) bool {
	_, err := time.Parse(time.DateOnly, version)
	return err == nil && (version == Version20260213 || version == Version20260323 || legacy(version))
}

// legacy reports whether a version has the create format before 2026-02-13.
func legacy(version string) bool { return version < Version20260213 }

// versionOf returns the version that applies to a call.
func (s *Sim) versionOf(r *http.Request) string {
	if named := namedVersions(r); len(named) > 0 {
		return named[0]
	}
	return s.version
}

func checkContentType(r *http.Request) string {
	kind, parameters, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	parameters = strings.ToLower(strings.TrimSpace(parameters))
	if !strings.EqualFold(strings.TrimSpace(kind), "application/json") || (parameters != "" && parameters != "charset=utf-8") {
		return "the body must be application/json"
	}
	return ""
}

func (s *Sim) create(r *http.Request, body []byte) (int, any) {
	table := createFields
	if legacy(s.versionOf(r)) {
		table = legacyFields
	}
	p, err := readFields(body, table)
	if err != nil {
		return http.StatusBadRequest, refusal{"invalid_request", err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.encounters[p["external_encounter_id"]]
	if e != nil && e.patientID != p["external_patient_id"] {
		return http.StatusBadRequest, refusal{"invalid_request", "external_encounter_id belongs to another external_patient_id"}
	}
	u, refused := s.provision(p["provider_email"], p["external_provider_id"])
	if refused != nil {
		return http.StatusConflict, *refused
	}
	if e == nil {
		e = &encounter{id: p["external_encounter_id"], patientID: p["external_patient_id"], providers: map[string]string{}}
		s.encounters[e.id] = e
	}
	e.patientName = p["structured_context.patient_demographics.name"]
	e.providers[u.id], e.last = p["provider_email"], u.id
	return http.StatusOK, s.mint(e, u.id, p["provider_email"])
}

func (s *Sim) refresh(_ *http.Request, body []byte) (int, any) {
	p, err := readFields(body, refreshFields)
	if err != nil {
		return http.StatusBadRequest, refusal{"invalid_request", err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	provider := p["external_provider_id"]
	e := s.encounters[p["external_encounter_id"]]
	if e == nil || e.providers[provider] == "" {
		return http.StatusNotFound, refusal{"not_found", "there is no such encounter of this provider"}
	}
	return http.StatusOK, s.mint(e, provider, e.providers[provider])
}

type encounterURL struct {
	EncounterURL string `json:"encounter_url"`
}

// mint makes a one-time page. The caller holds mu.
func (s *Sim) mint(e *encounter, provider, email string) encounterURL {
	now := s.now()
	for len(s.order) > 0 {
		oldest := s.pages[s.order[0]]
		if now.Sub(oldest.made) < PageLife+keepSpent {
			break
		}
		delete(s.pages, s.order[0])
		s.order = s.order[1:]
	}
	token := random()
	s.pages[token] = &page{encounter: e, providerID: provider, email: email, made: now}
	s.order = append(s.order, token)
	return encounterURL{s.pageBase + "/open/" + token}
}

func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}
