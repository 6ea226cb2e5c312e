package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	callTime = 15 * time.Second
	// maxBusyWait is the longest Retry-After that is waited for, maxBusy how often.
	maxBusyWait = time.Minute
	maxBusy     = 20
)

// session is one run: what it knows, and what every answer so far was like.
type session struct {
	Config
	loopback bool
	http     *http.Client
	doc      *openapi3.T

	// The invented patient. Each of the three texts must show up in no problem.
	patientID, patientName, patientNote string

	mu      sync.Mutex // the validator keeps compiled schemas; and what follows
	answers int
	// unreached means that a call failed on its way.
	unreached bool
	broken    map[string][]string // by rule of overall: where it was broken
	secrets   []string            // handles and one-time URLs so far
	who       *orgapi.Me
}

func newSession(cfg Config) (*session, error) {
	cfg, loopback, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(orgapi.OpenAPI)
	if err != nil {
		return nil, errors.New("the contract cannot be read")
	}
	h := &http.Client{}
	if cfg.HTTP != nil {
		*h = *cfg.HTTP
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	word := random(6)
	return &session{
		Config: cfg, loopback: loopback, http: h, doc: doc, broken: map[string][]string{},
		patientID: "CONF-P-" + word, patientName: "Konforma Probanda-" + word, patientNote: "Invented for a test, " + word + ".",
	}, nil
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // crypto/rand.Read never fails since Go 1.24
	return hex.EncodeToString(b)
}

// request is one call; the zero fields are those of a good one.
type request struct {
	method string // empty: POST
	base   string // empty: BaseURL
	path   string
	token  string // of Authorization: Bearer; empty: none
	key    string // Idempotency-Key; empty: none
	kind   string // Content-Type; empty: application/json where there is a body
	noID   bool   // without X-Request-Id
	id     string // X-Request-Id; empty: a new one
	body   any    // string or []byte as it is, else JSON
	header map[string]string
}

// answer is what came back. It is never printed.
type answer struct {
	status int
	header http.Header
	body   []byte
	code   string
	where  string // method and path of the call
}

// nobody reports whether calls failed on their way, and none was ever answered.
func (s *session) nobody() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unreached && s.answers == 0
}

// call makes a call and holds its answer against the rules of every answer.
func (s *session) call(ctx context.Context, q request) (answer, error) {
	for busy := 0; ; busy++ {
		a, err := s.once(ctx, q)
		if err != nil || a.busy() == 0 || busy == maxBusy {
			return a, err
		}
		if err := s.Sleep(ctx, a.busy()); err != nil {
			return a, err
		}
	}
}

func (s *session) once(ctx context.Context, q request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	r, id, body, err := s.make(ctx, q)
	if err != nil {
		return answer{}, err
	}
	a := answer{where: r.Method + " " + q.path}
	if q.path == "" {
		a.where = "the callback"
	}
	response, err := s.http.Do(r)
	if err != nil {
		s.mu.Lock()
		s.unreached = true
		s.mu.Unlock()
		return a, fmt.Errorf("%s was not answered: %s", a.where, transportFault(err))
	}
	defer func() { _ = response.Body.Close() }()
	a.status, a.header = response.StatusCode, response.Header
	if a.body, err = io.ReadAll(io.LimitReader(response.Body, 4*orgapi.MaxAnswerBytes)); err != nil {
		return a, fmt.Errorf("the answer of %s broke off", a.where)
	}
	var p struct {
		Code string `json:"code"`
	}
	if a.status >= 400 && json.Unmarshal(a.body, &p) == nil && problem.Known(p.Code) {
		a.code = p.Code
	}
	s.judge(q, r, id, body, a)
	return a, nil
}

// transportFault says why there was no answer, without the address that the errors
// of http name.
func transportFault(err error) string {
	var outer *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "it took longer than " + callTime.String()
	case errors.As(err, &outer) && outer.Timeout():
		return "it took too long"
	}
	return "the connection failed (is the address right, and the certificate trusted?)"
}

func (s *session) make(ctx context.Context, q request) (r *http.Request, id string, body []byte, err error) {
	switch b := q.body.(type) {
	case nil:
	case string:
		body = []byte(b)
	case []byte:
		body = b
	default:
		if body, err = json.Marshal(b); err != nil {
			return nil, "", nil, err
		}
	}
	if q.method == "" {
		q.method = http.MethodPost
	}
	if q.base == "" {
		q.base = s.BaseURL
	}
	r, err = http.NewRequestWithContext(ctx, q.method, q.base+q.path, bytes.NewReader(body))
	if err != nil {
		return nil, "", nil, errors.New("the address cannot be used")
	}
	if q.kind == "" && q.body != nil {
		q.kind = "application/json"
	}
	if q.kind != "" {
		r.Header.Set("Content-Type", q.kind)
	}
	if q.token != "" {
		r.Header.Set("Authorization", "Bearer "+q.token)
	}
	if q.key != "" {
		r.Header.Set(orgapi.HeaderIdempotencyKey, q.key)
	}
	if !q.noID {
		if id = q.id; id == "" {
			id = uuid.NewString()
		}
		r.Header.Set(orgapi.HeaderRequestID, id)
	}
	for name, value := range q.header {
		r.Header.Set(name, value)
	}
	return r, id, body, nil
}

// The rules of every answer; each is a case of overall.
const (
	ruleNoStore   = "every-answer-no-store"
	ruleRequestID = "every-answer-request-id"
	ruleProblem   = "every-error-is-a-problem"
	ruleDescribed = "every-answer-is-described"
	rulePatient   = "no-problem-tells-of-the-patient"
	ruleSecret    = "no-problem-tells-a-secret"
	ruleContract  = "answers-name-the-contract"
)

// judge holds one answer against the rules of every answer.
func (s *session) judge(q request, r *http.Request, id string, sent []byte, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers++
	broke := func(rule, what string) {
		if len(s.broken[rule]) < 3 {
			s.broken[rule] = append(s.broken[rule], fmt.Sprintf("%s answered %d: %s", a.where, a.status, what))
		}
	}
	if a.header.Get("Cache-Control") != "no-store" {
		broke(ruleNoStore, "Cache-Control is not no-store")
	}
	got := a.header.Get(orgapi.HeaderRequestID)
	switch {
	case got == "":
		broke(ruleRequestID, "it has no X-Request-Id")
	case id != "" && q.id == "" && got != id:
		broke(ruleRequestID, "its X-Request-Id is not the call's")
	}
	if a.header.Get(orgapi.HeaderContract) == "" {
		broke(ruleContract, "it has no "+orgapi.HeaderContract)
	}
	if a.status >= 400 {
		s.judgeProblem(a, broke)
	}
	if fault := s.described(r, sent, a); fault != "" {
		broke(ruleDescribed, fault)
	}
}

func (s *session) judgeProblem(a answer, broke func(rule, what string)) {
	var p orgapi.Problem
	switch {
	case a.header.Get("Content-Type") != orgapi.ProblemContentType:
		broke(ruleProblem, "it is not "+orgapi.ProblemContentType)
	case json.Unmarshal(a.body, &p) != nil:
		broke(ruleProblem, "its body is not a problem")
	case p.Status != a.status:
		broke(ruleProblem, "the problem's status is another")
	case !problem.Known(string(p.Code)):
		broke(ruleProblem, "its code is not of the closed list")
	case !reference(p.Reference):
		broke(ruleProblem, "its reference is not eight letters and digits that people can read out")
	case p.Title == "":
		broke(ruleProblem, "it has no title")
	}
	text := string(a.body)
	for _, canary := range []string{s.patientID, s.patientName, s.patientNote} {
		if strings.Contains(text, canary) {
			broke(rulePatient, "the problem tells of the patient")
		}
	}
	tokens := []string{}
	for _, t := range []secret.Text{s.Token, s.OtherToken, s.ExpiredToken, s.IDToken, s.EHRToken, s.CallbackSecret} {
		if !t.Empty() {
			tokens = append(tokens, t.Reveal())
		}
	}
	if slices.ContainsFunc(append(tokens, s.secrets...), func(word string) bool { return strings.Contains(text, word) }) {
		broke(ruleSecret, "the problem holds a token, a handle or a one-time URL")
	}
}

// reference is the form of openapi.yaml: eight of Crockford's base 32.
func reference(text string) bool {
	return len(text) == 8 && strings.Trim(text, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}

// described returns what of an answer openapi.yaml does not know. It names fields
// and rules, never a value.
func (s *session) described(r *http.Request, sent []byte, a answer) string {
	path := ""
	for _, base := range []string{s.BaseURL, s.EHRURL} {
		if rest, ok := strings.CutPrefix(r.URL.String(), base); ok && path == "" {
			path = rest
		}
	}
	if r.URL.String() == s.CallbackURL {
		path = orgapi.PathCallbacks
	}
	item := s.doc.Paths.Value(path)
	if item == nil || item.GetOperation(r.Method) == nil {
		return "" // other cases say what is answered there
	}
	response := item.GetOperation(r.Method).Responses.Status(a.status)
	if response == nil {
		return "the contract knows no such status there"
	}
	for name, h := range response.Value.Headers {
		// Those of every answer are cases of their own.
		if h.Value.Required && a.header.Get(name) == "" && name != "Cache-Control" && name != orgapi.HeaderRequestID {
			return "the header " + name + " is missing"
		}
	}
	kind := a.header.Get("Content-Type")
	if name, rest, _ := strings.Cut(kind, ";"); strings.EqualFold(strings.TrimSpace(rest), "charset=utf-8") {
		kind = strings.TrimSpace(name)
	}
	media := response.Value.Content[kind]
	if media == nil {
		return "its content type is another than the contract's"
	}
	if !strings.HasSuffix(kind, "json") {
		return ""
	}
	if len(a.body) > orgapi.MaxAnswerBytes {
		return "it is larger than 64 KiB"
	}
	return schemaFault(media.Schema.Value, a.body)
}

func schemaFault(schema *openapi3.Schema, body []byte) string {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return "its body is not JSON"
	}
	err := schema.VisitJSON(value, openapi3.EnableJSONSchema2020())
	if err == nil {
		return ""
	}
	var fault *openapi3.SchemaError
	if errors.As(err, &fault) {
		return "its body breaks the rule " + fault.SchemaField + " of the contract at /" + strings.Join(fault.JSONPointer(), "/")
	}
	return "its body is not what the contract says"
}

// expect compares an answer with a status and, for a refusal, its code.
func (a answer) expect(status int, codes ...problem.Code) error {
	if a.status != status {
		return fmt.Errorf("%s answered %d%s, not %d", a.where, a.status, a.named(), status)
	}
	if len(codes) > 0 && !slices.Contains(codes, problem.Code(a.code)) {
		return fmt.Errorf("%s answered %d%s, and the code is not %s", a.where, a.status, a.named(), codes[0])
	}
	return nil
}

// busy returns how long a backend that has too many calls asks to wait; 0 for another
// answer, and for one that is not worth it.
func (a answer) busy() time.Duration {
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if a.status != http.StatusTooManyRequests || err != nil || seconds < 0 || time.Duration(seconds)*time.Second > maxBusyWait {
		return 0
	}
	return time.Duration(max(1, seconds)) * time.Second
}

func (a answer) named() string {
	if a.code == "" {
		return ""
	}
	return " " + a.code
}

// refused makes a call that has to be refused so.
func (s *session) refused(ctx context.Context, q request, status int, codes ...problem.Code) error {
	a, err := s.call(ctx, q)
	if err != nil {
		return err
	}
	return a.expect(status, codes...)
}

// me is who the backend takes the clinician for.
func (s *session) me(ctx context.Context) (orgapi.Me, error) {
	if s.who != nil {
		return *s.who, nil
	}
	a, err := s.call(ctx, request{method: http.MethodGet, path: orgapi.PathMe, token: s.Token.Reveal()})
	if err != nil {
		return orgapi.Me{}, err
	}
	var who orgapi.Me
	if a.status != http.StatusOK || json.Unmarshal(a.body, &who) != nil || who.ExternalProviderID == "" {
		return orgapi.Me{}, errNotTried{"GET /me to answer"}
	}
	s.who = &who
	return who, nil
}

// launch is a context of the invented patient, for the clinician.
func (s *session) launch(ctx context.Context) (orgapi.LaunchRequest, error) {
	who, err := s.me(ctx)
	if err != nil {
		return orgapi.LaunchRequest{}, err
	}
	note := s.patientNote
	return orgapi.LaunchRequest{
		ProviderEmail: who.ProviderEmail, ExternalProviderID: who.ExternalProviderID,
		ExternalPatientID: s.patientID, ExternalEncounterID: "CONF-E-" + random(8),
		StructuredContext: orgapi.StructuredContext{PatientDemographics: orgapi.Demographics{
			Name: s.patientName, BirthDate: "1980-01-31", Gender: "female",
		}},
		UnstructuredContext: &note,
	}, nil
}

func (s *session) register(ctx context.Context, launch any) (answer, error) {
	return s.call(ctx, request{base: s.EHRURL, path: orgapi.PathLaunches, token: s.EHRToken.Reveal(), body: launch})
}

// mint registers a launch and returns its handle.
func (s *session) mint(ctx context.Context, launch orgapi.LaunchRequest) (string, error) {
	a, err := s.register(ctx, launch)
	if err != nil {
		return "", err
	}
	var made orgapi.LaunchAnswer
	if a.status != http.StatusOK || json.Unmarshal(a.body, &made) != nil || made.Handle == "" {
		return "", errNotTried{"POST /launches to answer"}
	}
	s.remember(made.Handle)
	return made.Handle, nil
}

func (s *session) remember(word string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, word)
}

// minted is launch and mint.
func (s *session) minted(ctx context.Context) (orgapi.LaunchRequest, string, error) {
	launch, err := s.launch(ctx)
	if err != nil {
		return launch, "", err
	}
	handle, err := s.mint(ctx, launch)
	return launch, handle, err
}

// byHandle is the call of a launcher with a handle.
func (s *session) byHandle(handle, key string) request {
	return request{path: orgapi.PathEncounters, token: s.Token.Reveal(), key: key, body: orgapi.CreateRequest{Handle: handle}}
}

// created redeems a handle that has to work.
func (s *session) created(ctx context.Context, handle, key string) (orgapi.CreateAnswer, error) {
	var made orgapi.CreateAnswer
	a, err := s.call(ctx, s.byHandle(handle, key))
	if err != nil {
		return made, err
	}
	if err := a.expect(http.StatusOK); err != nil {
		return made, err
	}
	if json.Unmarshal(a.body, &made) != nil || made.EncounterURL == "" {
		return made, fmt.Errorf("%s answered without an encounter_url", a.where)
	}
	s.remember(made.EncounterURL)
	return made, nil
}

// oneTime holds a one-time URL against its form.
func (s *session) oneTime(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Opaque != "":
		return errors.New("the one-time URL is not one")
	case u.Scheme != "https" && (!s.loopback || u.Scheme != "http"):
		return errors.New("the one-time URL is not https")
	case u.String() != address:
		return errors.New("the one-time URL is not written as a URL is, so a launcher would not open it")
	}
	return nil
}

func key() string { return "conf-" + uuid.NewString() }
