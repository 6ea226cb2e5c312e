package fhir

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/problem"
)

// canary stands in everything that a server says and no error may repeat.
const canary = "Kanarienvogel"

// What is said to be mended in the EHR.
const (
	factUnknown   = "The patient is not known to the source of the details."
	factSeveral   = "More than one patient has this number."
	factMerged    = "The patient's record was merged into another one."
	factName      = "The name is missing."
	factBirthDate = "The date of birth is missing."
	factPartial   = "The date of birth has no day or month."
	factGender    = "The gender is missing."
	factText      = "The patient's details hold control characters, or are too long."
)

func p384(t *testing.T) assertion.Key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return assertion.Key{Signer: k}
}

type call struct {
	method, target, body string
	header               http.Header
}

// ehr answers what a test tells it to; the strict peer is the independent server,
// see independent_test.go.
type ehr struct {
	mu         sync.Mutex
	discovered int
	tokens     []url.Values
	calls      []call
	// answers are used up one by one; the last one stays.
	answers []http.HandlerFunc
	config  http.HandlerFunc
	token   http.HandlerFunc
	url     string
}

func say(status int, kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func status(n int) http.HandlerFunc { return say(n, fhirJSON, `{"diagnostics":"`+canary+`"}`) }

func (e *ehr) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch r.URL.Path {
	case "/fhir/.well-known/smart-configuration":
		e.discovered++
		if e.config != nil {
			e.config(w, r)
			return
		}
		say(http.StatusOK, "application/json", `{"token_endpoint":"`+e.url+`/token"}`)(w, r)
	case "/token":
		form, _ := url.ParseQuery(string(text))
		e.tokens = append(e.tokens, form)
		if e.token != nil {
			e.token(w, r)
			return
		}
		say(http.StatusOK, "application/json", fmt.Sprintf(`{"access_token":"token-%d","token_type":"Bearer","expires_in":300}`, len(e.tokens)))(w, r)
	default:
		e.calls = append(e.calls, call{r.Method, r.URL.RequestURI(), string(text), r.Header.Clone()})
		answer := e.answers[0]
		if len(e.answers) > 1 {
			e.answers = e.answers[1:]
		}
		answer(w, r)
	}
}

func (e *ehr) asked() int { e.mu.Lock(); defer e.mu.Unlock(); return len(e.tokens) }

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type fixture struct {
	*ehr
	client *Client
	clock  *clock
	mu     sync.Mutex
	slept  []time.Duration
}

func newFixture(t *testing.T, system string, answers ...http.HandlerFunc) *fixture {
	t.Helper()
	f := &fixture{ehr: &ehr{answers: answers}, clock: &clock{t: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)}}
	server := httptest.NewServer(f.ehr)
	t.Cleanup(server.Close)
	f.url = server.URL
	var err error
	f.client, err = New(Config{
		BaseURL: server.URL + "/fhir", ClientID: "launcher", Keys: []assertion.Key{p384(t)}, PatientSystem: system, Now: f.clock.now,
		Sleep: func(_ context.Context, d time.Duration) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.slept = append(f.slept, d)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// changed is the JSON of a whole Patient with members laid over it; nil removes one.
func changed(t *testing.T, changes map[string]any) string {
	t.Helper()
	r := map[string]any{
		"resourceType": "Patient", "id": "p-1", "birthDate": "1815-12-10", "gender": "female",
		"identifier": []any{map[string]any{"system": "urn:mrn", "value": "77"}},
		"name":       []any{map[string]any{"use": "official", "given": []any{"Ada"}, "family": "Lovelace"}},
	}
	for k, v := range changes {
		if v == nil {
			delete(r, k)
			continue
		}
		r[k] = v
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func patient(t *testing.T, changes map[string]any) http.HandlerFunc {
	t.Helper()
	return say(http.StatusOK, fhirJSON+"; charset=utf-8", changed(t, changes))
}

// silent checks that an error tells nothing that came from outside.
func silent(t *testing.T, err error) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, word := range []string{canary, "p-1", "77", "http://", "token-"} {
			if strings.Contains(e.Error(), word) {
				t.Errorf("an error holds %q: %s", word, e)
			}
		}
	}
}

func refused(t *testing.T, err error, code problem.Code, fact string) {
	t.Helper()
	var p *problem.Problem
	if !errors.As(err, &p) || p.Code != code || p.Fact != fact {
		t.Fatalf("got %v, want %s %q", err, code, fact)
	}
	silent(t, err)
}

func TestAPatientIsReadWithATokenThatThisClientProved(t *testing.T) {
	f := newFixture(t, "", patient(t, map[string]any{
		"active": false, "deceasedBoolean": true, // no reason to refuse
		"extension": []any{map[string]any{"url": pronounsURL, "extension": []any{map[string]any{"url": "value", "valueCodeableConcept": map[string]any{"text": "she/her"}}}}},
	}))
	got, err := f.client.Patient(t.Context(), "p-1")
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "Ada Lovelace" || got.BirthDate != "1815-12-10" || got.Gender != "female" || got.Pronouns == nil || *got.Pronouns != "she/her" {
		t.Errorf("%+v", got)
	}
	c := f.calls[0]
	if c.method != http.MethodGet || c.target != "/fhir/Patient/p-1" || c.header.Get("Accept") != fhirJSON || c.header.Get("Authorization") != "Bearer token-1" {
		t.Errorf("%+v", c)
	}
	form := f.tokens[0]
	if form.Get("grant_type") != "client_credentials" || form.Get("scope") != "system/Patient.r" || form.Get("client_assertion_type") != assertionType || strings.Count(form.Get("client_assertion"), ".") != 2 {
		t.Errorf("the token request is %v", form)
	}
}

func TestAPatientIsSearchedByIdentifierWhereASystemIsSet(t *testing.T) {
	bundle := func(text string) http.HandlerFunc {
		return say(http.StatusOK, fhirJSON, `{"resourceType":"Bundle","type":"searchset",`+text+`}`)
	}
	one := changed(t, nil)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		code   problem.Code
		fact   string
	}{
		"one":                    {bundle(`"total":1,"entry":[{"resource":` + one + `,"search":{"mode":"match"}}]`), "", ""},
		"one beside a warning":   {bundle(`"entry":[{"resource":{"resourceType":"OperationOutcome"},"search":{"mode":"outcome"}},{"resource":` + one + `}]`), "", ""},
		"none":                   {bundle(`"total":0`), problem.ContextIncomplete, factUnknown},
		"two":                    {bundle(`"entry":[{"resource":` + one + `},{"resource":` + one + `}]`), problem.ContextIncomplete, factSeveral},
		"one of two":             {bundle(`"total":2,"entry":[{"resource":` + one + `}]`), problem.ContextIncomplete, factSeveral},
		"one that is not there":  {bundle(`"total":1`), problem.ContextUnavailable, ""},
		"another number":         {bundle(`"entry":[{"resource":` + changed(t, map[string]any{"identifier": []any{map[string]any{"system": "urn:mrn", "value": "78"}}}) + `}]`), problem.ContextUnavailable, ""},
		"another system":         {bundle(`"entry":[{"resource":` + changed(t, map[string]any{"identifier": []any{map[string]any{"system": "urn:ssn", "value": "77"}}}) + `}]`), problem.ContextUnavailable, ""},
		"a record that is empty": {bundle(`"entry":[{}]`), problem.ContextUnavailable, ""},
		"no Bundle":              {say(http.StatusOK, fhirJSON, one), problem.ContextUnavailable, ""},
		"not found":              {status(http.StatusNotFound), problem.ContextUnavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "urn:mrn", c.answer)
			got, err := f.client.Patient(t.Context(), "77")
			if c.code != "" {
				refused(t, err, c.code, c.fact)
				return
			}
			if err != nil || got.Name != "Ada Lovelace" {
				t.Fatalf("%+v, %v", got, err)
			}
			q := f.calls[0]
			if q.method != http.MethodPost || q.target != "/fhir/Patient/_search" || q.body != "_count=2&identifier=urn%3Amrn%7C77" {
				t.Errorf("%+v", q)
			}
			if f.tokens[0].Get("scope") != "system/Patient.rs" {
				t.Errorf("the scope is %q", f.tokens[0].Get("scope"))
			}
		})
	}
}

func TestAnIdThatCannotBeOneIsUnknownAndNobodyIsAsked(t *testing.T) {
	for system, ids := range map[string][]string{
		"":        {"", ".", "..", "a/b", "a b", "a?b", "ä", "%2e", strings.Repeat("a", 65), "a\n"},
		"urn:mrn": {"", "1,2", "1|2", `1\2`, "1$2", "1 2", "1\u202e2", "\xff", strings.Repeat("1", 257)},
	} {
		for _, id := range ids {
			f := newFixture(t, system, patient(t, nil))
			_, err := f.client.Patient(t.Context(), id)
			refused(t, err, problem.ContextIncomplete, factUnknown)
			if len(f.calls) != 0 || f.asked() != 0 {
				t.Errorf("%q was asked for", id)
			}
		}
	}
}

func TestWhatARecordLacksIsSaid(t *testing.T) {
	name := func(members ...map[string]any) map[string]any {
		list := []any{}
		for _, m := range members {
			list = append(list, m)
		}
		return map[string]any{"name": list}
	}
	long := strings.Repeat("x", 257)
	for what, c := range map[string]struct {
		changes map[string]any
		code    problem.Code
		fact    string
	}{
		"no name":                  {map[string]any{"name": nil}, problem.ContextIncomplete, factName},
		"an empty name":            {name(map[string]any{"use": "official", "text": "  "}), problem.ContextIncomplete, factName},
		"an old name only":         {name(map[string]any{"use": "old", "text": "Ada Byron"}), problem.ContextIncomplete, factName},
		"a name of the past":       {name(map[string]any{"text": "Ada Byron", "period": map[string]any{"end": "1835"}}), problem.ContextIncomplete, factName},
		"a masked name":            {name(map[string]any{"extension": []any{map[string]any{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}}}), problem.ContextIncomplete, factName},
		"a name over lines":        {name(map[string]any{"text": "Ada\nLovelace"}), problem.ContextIncomplete, factText},
		"a name turned round":      {name(map[string]any{"text": "Ada \u202eecalevoL"}), problem.ContextIncomplete, factText},
		"a name of 257":            {name(map[string]any{"text": long}), problem.ContextIncomplete, factText},
		"no date of birth":         {map[string]any{"birthDate": nil}, problem.ContextIncomplete, factBirthDate},
		"a year of birth":          {map[string]any{"birthDate": "1815"}, problem.ContextIncomplete, factPartial},
		"a month of birth":         {map[string]any{"birthDate": "1815-12"}, problem.ContextIncomplete, factPartial},
		"a day that is none":       {map[string]any{"birthDate": "1815-02-30"}, problem.ContextUnavailable, ""},
		"no gender":                {map[string]any{"gender": nil}, problem.ContextIncomplete, factGender},
		"a gender of its own":      {map[string]any{"gender": "F"}, problem.ContextUnavailable, ""},
		"a merged record":          {map[string]any{"link": []any{map[string]any{"other": map[string]any{"reference": "Patient/p-2"}, "type": "replaced-by"}}}, problem.ContextIncomplete, factMerged},
		"another patient":          {map[string]any{"id": "p-2"}, problem.ContextUnavailable, ""},
		"no id":                    {map[string]any{"id": nil}, problem.ContextUnavailable, ""},
		"another resource":         {map[string]any{"resourceType": "Person"}, problem.ContextUnavailable, ""},
		"a name of another type":   {map[string]any{"name": "Ada"}, problem.ContextUnavailable, ""},
		"pronouns of control":      {map[string]any{"extension": []any{map[string]any{"url": pronounsURL, "extension": []any{map[string]any{"url": "value", "valueCodeableConcept": map[string]any{"text": "she\x00her"}}}}}}, problem.ContextIncomplete, factText},
		"a record that replaced":   {map[string]any{"link": []any{map[string]any{"type": "replaces"}}}, "", ""},
		"a gender that is unknown": {map[string]any{"gender": "unknown"}, "", ""},
	} {
		t.Run(what, func(t *testing.T) {
			_, err := newFixture(t, "", patient(t, c.changes)).client.Patient(t.Context(), "p-1")
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, c.code, c.fact)
		})
	}
}

func TestTheNameInUseIsTaken(t *testing.T) {
	for name, c := range map[string]struct{ names, want string }{
		"the official one":           {`[{"use":"usual","text":"Ada"},{"use":"official","text":"Augusta Ada King"}]`, "Augusta Ada King"},
		"else the usual one":         {`[{"text":"A. K."},{"use":"usual","text":"Ada"}]`, "Ada"},
		"else one without a use":     {`[{"use":"maiden","text":"Ada Byron"},{"use":"nickname","text":"AL"},{"text":"Ada King"}]`, "Ada King"},
		"at last a nickname":         {`[{"use":"nickname","text":"AL"}]`, "AL"},
		"the first of two":           {`[{"use":"official","text":"A"},{"use":"official","text":"B"}]`, "A"},
		"not one that is over":       {`[{"use":"official","text":"Ada Byron","period":{"end":"2020-07-08"}},{"use":"official","text":"Ada King"}]`, "Ada King"},
		"not one that is to come":    {`[{"use":"official","text":"B","period":{"start":"2027-01"}},{"use":"usual","text":"A"}]`, "A"},
		"one that ends this year":    {`[{"use":"official","text":"A","period":{"start":"2026-11-03","end":"2026"}}]`, "A"},
		"one that ended at an hour":  {`[{"use":"official","text":"B","period":{"end":"2026-11-03T08:59:58Z"}},{"text":"A"}]`, "A"},
		"not one of an unread time":  {`[{"use":"official","text":"B","period":{"end":"soon"}},{"text":"A"}]`, "A"},
		"parts without titles":       {`[{"given":["Augusta"," ","Ada"],"family":"King","prefix":["Countess"],"suffix":["Esq."]}]`, "Augusta Ada King"},
		"a family name alone":        {`[{"family":"King"}]`, "King"},
		"text before parts":          {`[{"text":"Ada King","family":"X"}]`, "Ada King"},
		"an official one without it": {`[{"use":"official"},{"use":"usual","text":"Ada"}]`, "Ada"},
	} {
		t.Run(name, func(t *testing.T) {
			var r resource
			if err := json.Unmarshal([]byte(`{"name":`+c.names+`}`), &r); err != nil {
				t.Fatal(err)
			}
			if got := r.name(time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPronounsAreTheOnesInUseAndMayBeMissing(t *testing.T) {
	value := func(concept string, more string) string {
		return `{"url":"` + pronounsURL + `","extension":[{"url":"value","valueCodeableConcept":` + concept + `}` + more + `]}`
	}
	for name, c := range map[string]struct{ extensions, want string }{
		"none":                  {`[]`, ""},
		"another extension":     {`[{"url":"urn:x","extension":[{"url":"value","valueCodeableConcept":{"text":"x"}}]}]`, ""},
		"text":                  {`[` + value(`{"text":"they/them","coding":[{"display":"x"}]}`, "") + `]`, "they/them"},
		"display":               {`[` + value(`{"coding":[{"code":"LA29519-8"},{"display":"she/her/her/hers/herself"}]}`, "") + `]`, "she/her/her/hers/herself"},
		"a code alone":          {`[` + value(`{"coding":[{"code":"LA29519-8"}]}`, "") + `]`, ""},
		"no longer, then now":   {`[` + value(`{"text":"x"}`, `,{"url":"period","valuePeriod":{"end":"2020"}}`) + `,` + value(`{"text":"he/him"}`, "") + `]`, "he/him"},
		"a value of no concept": {`[{"url":"` + pronounsURL + `","extension":[{"url":"value","valueString":"x"}]}]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var r resource
			if err := json.Unmarshal([]byte(`{"extension":`+c.extensions+`}`), &r); err != nil {
				t.Fatal(err)
			}
			got := r.pronouns(time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC))
			if (got == nil) != (c.want == "") || (got != nil && *got != c.want) {
				t.Errorf("got %v, want %q", got, c.want)
			}
		})
	}
}

func TestEveryFailureOfTheServerIsAProblemThatTellsNothing(t *testing.T) {
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/"+canary, http.StatusTemporaryRedirect)
	}
	for name, c := range map[string]struct {
		answers []http.HandlerFunc
		code    problem.Code
		fact    string
		calls   int
	}{
		"unknown":            {[]http.HandlerFunc{status(404)}, problem.ContextIncomplete, factUnknown, 1},
		"gone":               {[]http.HandlerFunc{status(410)}, problem.ContextIncomplete, factUnknown, 1},
		"forbidden":          {[]http.HandlerFunc{status(403)}, problem.ContextUnavailable, "", 1},
		"bad request":        {[]http.HandlerFunc{status(400)}, problem.ContextUnavailable, "", 1},
		"never a good token": {[]http.HandlerFunc{status(401)}, problem.ContextUnavailable, "", 2},
		"always busy":        {[]http.HandlerFunc{status(503)}, problem.ContextUnavailable, "", 3},
		"not implemented":    {[]http.HandlerFunc{status(501)}, problem.ContextUnavailable, "", 1},
		"a redirect":         {[]http.HandlerFunc{redirect}, problem.ContextUnavailable, "", 1},
		"a page":             {[]http.HandlerFunc{say(200, "text/html", canary)}, problem.ContextUnavailable, "", 1},
		"rubbish":            {[]http.HandlerFunc{say(200, fhirJSON, canary)}, problem.ContextUnavailable, "", 1},
		"a truncated answer": {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9999")
			_, _ = io.WriteString(w, canary)
		}}, problem.ContextUnavailable, "", 3},
		"not HTTP": {[]http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = io.WriteString(conn, canary+" p-1\r\n\r\n")
			_ = conn.Close()
		}}, problem.ContextUnavailable, "", 3},
		"too much":  {[]http.HandlerFunc{say(200, fhirJSON, `{"x":"`+strings.Repeat("x", maxAnswerBytes)+`"}`)}, problem.ContextUnavailable, "", 3},
		"not UTF-8": {[]http.HandlerFunc{say(200, fhirJSON, strings.Replace(changed(t, nil), "Ada", "Ad\xff", 1))}, problem.ContextUnavailable, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "", c.answers...)
			_, err := f.client.Patient(t.Context(), "p-1")
			refused(t, err, c.code, c.fact)
			if len(f.calls) != c.calls {
				t.Errorf("it was called %d times, want %d", len(f.calls), c.calls)
			}
		})
	}
}

func TestAFailureThatPassesIsTriedAgainAsLateAsTheServerAsks(t *testing.T) {
	busy := func(after string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Retry-After", after); status(429)(w, r) }
	}
	f := newFixture(t, "", busy("1"), status(502), patient(t, nil))
	if _, err := f.client.Patient(t.Context(), "p-1"); err != nil {
		t.Fatal(err)
	}
	if len(f.slept) != 2 || f.slept[0] != time.Second || f.slept[1] < 200*time.Millisecond || f.slept[1] > 600*time.Millisecond {
		t.Errorf("waited for %v", f.slept)
	}
	f = newFixture(t, "", busy("30"), patient(t, nil))
	_, err := f.client.Patient(t.Context(), "p-1")
	refused(t, err, problem.ContextUnavailable, "")
	if len(f.calls) != 1 {
		t.Errorf("a server that asks for half a minute was called %d times", len(f.calls))
	}
}

func TestARevokedTokenIsRenewedOnce(t *testing.T) {
	f := newFixture(t, "", status(401), patient(t, nil))
	if _, err := f.client.Patient(t.Context(), "p-1"); err != nil {
		t.Fatal(err)
	}
	if f.asked() != 2 || f.calls[1].header.Get("Authorization") != "Bearer token-2" {
		t.Errorf("%d tokens, then %q", f.asked(), f.calls[1].header.Get("Authorization"))
	}
	if f.tokens[0].Get("client_assertion") == f.tokens[1].Get("client_assertion") {
		t.Error("an assertion was used twice")
	}
}

func TestOneTokenServesAllCallers(t *testing.T) {
	f := newFixture(t, "", patient(t, nil))
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if _, err := f.client.Patient(t.Context(), "p-1"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if f.asked() != 1 || f.discovered != 1 {
		t.Errorf("%d tokens, %d discoveries", f.asked(), f.discovered)
	}
}

func TestATokenIsRenewedAheadWhileTheOldOneServes(t *testing.T) {
	f := newFixture(t, "", patient(t, nil))
	read := func() string {
		t.Helper()
		if _, err := f.client.Patient(t.Context(), "p-1"); err != nil {
			t.Fatal(err)
		}
		f.ehr.mu.Lock()
		defer f.ehr.mu.Unlock()
		return f.calls[len(f.calls)-1].header.Get("Authorization")
	}
	read()
	f.clock.advance(151 * time.Second) // past half of its life
	if got := read(); got != "Bearer token-1" {
		t.Errorf("the caller waited for %s", got)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if got := read(); got == "Bearer token-2" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("still %s", got)
		}
	}
	f.clock.advance(300 * time.Second) // past its end
	if got := read(); got != "Bearer token-3" {
		t.Errorf("an ended token was used: %s", got)
	}
}

func TestATokenEndpointThatCannotBeUsedIsNot(t *testing.T) {
	for name, c := range map[string]struct {
		config, token http.HandlerFunc
		tokens        int
	}{
		"no discovery":             {config: status(404)},
		"a page":                   {config: say(200, "text/html", canary)},
		"no endpoint":              {config: say(200, "application/json", `{}`)},
		"an endpoint without TLS":  {config: say(200, "application/json", `{"token_endpoint":"http://ehr.example/`+canary+`"}`)},
		"an endpoint with a user":  {config: say(200, "application/json", `{"token_endpoint":"https://`+canary+`@ehr.example/"}`)},
		"a refusal":                {token: say(400, "application/json", `{"error":"`+canary+`"}`), tokens: 1},
		"no token":                 {token: say(200, "application/json", `{"token_type":"bearer","expires_in":300}`), tokens: 1},
		"a token for a header":     {token: say(200, "application/json", `{"access_token":"a\r\nX: `+canary+`","token_type":"bearer","expires_in":300}`), tokens: 1},
		"a token of another type":  {token: say(200, "application/json", `{"access_token":"a","token_type":"mac","expires_in":300}`), tokens: 1},
		"a token that never lived": {token: say(200, "application/json", `{"access_token":"a","token_type":"bearer"}`), tokens: 1},
		"a server that is down":    {token: status(500), tokens: 3},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "", patient(t, nil))
			f.config, f.token = c.config, c.token
			_, err := f.client.Patient(t.Context(), "p-1")
			refused(t, err, problem.ContextUnavailable, "")
			if len(f.tokens) != c.tokens || len(f.calls) != 0 {
				t.Errorf("%d tokens were asked for, and %d patients", len(f.tokens), len(f.calls))
			}
		})
	}
}

func TestATokenEndpointThatMovedIsFoundAgain(t *testing.T) {
	f := newFixture(t, "", patient(t, nil))
	f.token = status(404)
	_, err := f.client.Patient(t.Context(), "p-1")
	refused(t, err, problem.ContextUnavailable, "")
	f.token = nil
	if _, err := f.client.Patient(t.Context(), "p-1"); err != nil || f.discovered != 2 {
		t.Errorf("%v after %d discoveries", err, f.discovered)
	}
}

func TestACallerWhoGoesAwayIsNotToldThatTheServerFailed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := newFixture(t, "", func(w http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	_, err := f.client.Patient(ctx, "p-1")
	refused(t, err, problem.Cancelled, "")
}

func TestAServerThatDoesNotAnswerInTimeIsUnavailable(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f := newFixture(t, "", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, err := f.client.Patient(ctx, "p-1")
	refused(t, err, problem.ContextUnavailable, "")
}

func TestAConfigurationThatCannotBeUsedIsRefusedByItsKey(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := Config{BaseURL: "https://ehr.example/fhir", ClientID: "launcher", Keys: []assertion.Key{p384(t)}}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for key, changes := range map[string][]func(*Config){
		"base_url": {
			func(c *Config) { c.BaseURL = "" }, func(c *Config) { c.BaseURL += "/" }, func(c *Config) { c.BaseURL = "http://ehr.example" },
			func(c *Config) { c.BaseURL += "?x" }, func(c *Config) { c.BaseURL = "https://u@ehr.example" }, func(c *Config) { c.BaseURL = "http://localhost:1" },
		},
		"token_url":      {func(c *Config) { c.TokenURL = "http://127.0.0.1:1/token" }, func(c *Config) { c.TokenURL = "token" }},
		"client_id":      {func(c *Config) { c.ClientID = "" }},
		"patient_system": {func(c *Config) { c.PatientSystem = "a|b" }, func(c *Config) { c.PatientSystem = "a b" }},
		"scopes":         {func(c *Config) { c.Scopes = []string{"a b"} }, func(c *Config) { c.Scopes = []string{""} }},
		"key_files": {
			func(c *Config) { c.Keys = nil }, func(c *Config) { c.Keys = []assertion.Key{{Signer: small}} },
			func(c *Config) { c.Keys = []assertion.Key{{Signer: p256}} },
		},
	} {
		for n, change := range changes {
			c := good
			change(&c)
			if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
				t.Errorf("%s, %d: %v", key, n, err)
			}
		}
	}
}

func document() Document {
	return Document{
		RequestUUID: "6F1E8A52-0C1B-4B7E-9D55-2A4F0C9B7A11", Kind: KindNote, PatientID: "p-1", EncounterID: "E-1", ProviderID: "D-17",
		Title: "Note", Text: "Grüße, " + canary, At: time.Date(2026, 11, 3, 10, 0, 0, 0, time.FixedZone("", 3600)),
	}
}

func TestADocumentIsFiledOnConditionThatItIsNotThere(t *testing.T) {
	f := newFixture(t, "", say(201, fhirJSON, ""))
	if err := f.client.AddDocument(t.Context(), document()); err != nil {
		t.Fatal(err)
	}
	c := f.calls[0]
	if c.method != http.MethodPost || c.target != "/fhir/DocumentReference" || c.header.Get("Content-Type") != fhirJSON ||
		c.header.Get("If-None-Exist") != "identifier=urn%3Aietf%3Arfc%3A3986%7Curn%3Auuid%3A6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11" {
		t.Errorf("%+v", c)
	}
	want := `{"resourceType":"DocumentReference","identifier":[{"system":"urn:ietf:rfc:3986","value":"urn:uuid:6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11"}],` +
		`"status":"current","type":{"coding":[{"system":"http://loinc.org","code":"11506-3","display":"Progress note"}]},` +
		`"category":[{"coding":[{"system":"http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category","code":"clinical-note","display":"Clinical Note"}]}],` +
		`"subject":{"reference":"Patient/p-1","type":"Patient"},"date":"2026-11-03T09:00:00.000Z",` +
		`"author":[{"type":"Practitioner","identifier":{"value":"D-17"}}],` +
		`"content":[{"attachment":{"contentType":"text/plain; charset=utf-8","data":"R3LDvMOfZSwgS2FuYXJpZW52b2dlbA==","title":"Note","creation":"2026-11-03T09:00:00.000Z"}}],` +
		`"context":{"encounter":[{"type":"Encounter","identifier":{"value":"E-1"}}]}}`
	if c.body != want {
		t.Errorf("got\n%s\nwant\n%s", c.body, want)
	}
}

func TestADocumentForANumberIsFiledForThePatientWhoHasIt(t *testing.T) {
	found := say(http.StatusOK, fhirJSON, `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":`+changed(t, map[string]any{"name": nil})+`}]}`)
	f := newFixture(t, "urn:mrn", found, say(201, fhirJSON, ""))
	d := document()
	d.PatientID = "77"
	if err := f.client.AddDocument(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if want := `"subject":{"reference":"Patient/p-1","type":"Patient","identifier":{"system":"urn:mrn","value":"77"}}`; !strings.Contains(f.calls[1].body, want) {
		t.Errorf("got %s", f.calls[1].body)
	}
	none := say(http.StatusOK, fhirJSON, `{"resourceType":"Bundle","type":"searchset","total":0}`)
	notFiled(t, newFixture(t, "urn:mrn", none).client.AddDocument(t.Context(), d), true, 0)
	notFiled(t, newFixture(t, "urn:mrn", status(503)).client.AddDocument(t.Context(), d), false, 0)
}

func notFiled(t *testing.T, err error, permanent bool, after time.Duration) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Permanent != permanent || e.RetryAfter != after {
		t.Errorf("got %+v, want permanent %v, after %v", err, permanent, after)
		return
	}
	silent(t, err)
}

func TestARefusalForGoodIsToldFromOneThatMayPass(t *testing.T) {
	later := func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Retry-After", "120"); status(503)(w, r) }
	for name, c := range map[string]struct {
		answer    http.HandlerFunc
		permanent bool
		after     time.Duration
	}{
		"bad":                {status(400), true, 0},
		"several are there":  {status(412), true, 0},
		"too large":          {status(413), true, 0},
		"not understood":     {status(415), true, 0},
		"unprocessable":      {status(422), true, 0},
		"no right":           {status(403), false, 0},
		"no such path":       {status(404), false, 0},
		"a conflict":         {status(409), false, 0},
		"busy":               {later, false, 2 * time.Minute},
		"a page":             {say(200, "text/html", "<p>"+canary), false, 0},
		"a page of creation": {say(201, "text/html", "<p>"+canary), false, 0},
		"nothing":            {say(200, fhirJSON, ""), false, 0},
		"accepted only":      {status(202), false, 0},
		"another resource":   {say(200, fhirJSON, `{"resourceType":"Bundle"}`), false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "", c.answer)
			notFiled(t, f.client.AddDocument(t.Context(), document()), c.permanent, c.after)
			if len(f.calls) != 1 {
				t.Errorf("it was told %d times", len(f.calls))
			}
		})
	}
	for name, answer := range map[string]http.HandlerFunc{
		"created":             say(201, fhirJSON, `{"resourceType":"DocumentReference"}`),
		"created, an outcome": say(201, "application/json", `{"resourceType":"OperationOutcome"}`),
		"there already":       say(200, fhirJSON, `{"resourceType":"DocumentReference"}`),
		"there, by place": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/fhir/DocumentReference/1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := newFixture(t, "", answer).client.AddDocument(t.Context(), document()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestADocumentThatCanNeverBeFiledIsNotSent(t *testing.T) {
	for name, change := range map[string]func(*Document){
		"no kind":      func(d *Document) { d.Kind = "" },
		"no uuid":      func(d *Document) { d.RequestUUID = "" },
		"no encounter": func(d *Document) { d.EncounterID = "" },
		"no provider":  func(d *Document) { d.ProviderID = "" },
		"no text":      func(d *Document) { d.Text = "" },
		"not UTF-8":    func(d *Document) { d.Text = "\xff" },
		"no patient":   func(d *Document) { d.PatientID = "a/b" },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, "", status(500))
			d := document()
			change(&d)
			notFiled(t, f.client.AddDocument(t.Context(), d), true, 0)
			if f.asked() != 0 {
				t.Error("the server was called")
			}
		})
	}
}

func TestAnExportWithoutAUUIDStillHasOneName(t *testing.T) {
	if a, b := canonical("export-1"), canonical("export-1"); a != b || a == canonical("export-2") || len(a) != 36 {
		t.Errorf("%q and %q", a, b)
	}
}
