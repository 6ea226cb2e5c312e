package nablasim

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// controlled is a fixture with its control port.
type controlled struct {
	*fixture
	*organisation
	at string
}

func newControlled(t *testing.T) *controlled {
	t.Helper()
	f, o := withOrganisation(t, nil)
	server := httptest.NewServer(f.sim.Control())
	t.Cleanup(server.Close)
	return &controlled{f, o, server.URL}
}

func (c *controlled) ask(method, path, body string, header map[string]string) reply {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.at+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		if name == "Host" {
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	got := reply{response.StatusCode, response.Header, string(text)}
	held(c.t, controlDoc, method, path, []byte(body), got)
	return got
}

func (c *controlled) do(method, path, body string, into any) {
	c.t.Helper()
	got := c.ask(method, path, body, nil)
	if got.status != http.StatusOK {
		c.t.Fatalf("%s %s: %d %s", method, path, got.status, got.text)
	}
	if into == nil {
		into = &struct{}{}
	}
	if err := json.Unmarshal([]byte(got.text), into); err != nil {
		c.t.Fatal(err)
	}
}

func TestTheControlPortRefusesWhatItDoesNotKnow(t *testing.T) {
	c := newControlled(t)
	for name, q := range map[string]struct {
		method, path, body string
		header             map[string]string
		status             int
	}{
		"an unknown call":           {"GET", "/secrets", "", nil, 404},
		"another method":            {"PUT", "/clock", "", nil, 405},
		"a page of a browser":       {"POST", "/reset", "", map[string]string{"Origin": "https://evil.example"}, 403},
		"a page by another header":  {"GET", "/encounters", "", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		"another name for this one": {"GET", "/encounters", "", map[string]string{"Host": "evil.example"}, 403},
		"a form":                    {"POST", "/clock", "freeze=true", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		"an unknown field":          {"POST", "/clock", `{"speed":2}`, nil, 400},
		"a field twice":             {"POST", "/clock", `{"freeze":true,"freeze":false}`, nil, 400},
		"capitals":                  {"POST", "/clock", `{"Freeze":true}`, nil, 400},
		"the wrong type":            {"POST", "/clock", `{"freeze":"yes"}`, nil, 400},
		"something behind":          {"POST", "/clock", `{"freeze":true}{}`, nil, 400},
		"not UTF-8":                 {"POST", "/clock", "{\"freeze\":true,\"\xff\":1}", nil, 400},
		"an array":                  {"POST", "/clock", `[]`, nil, 400},
		"null":                      {"POST", "/clock", `null`, nil, 400},
		"nothing to change":         {"POST", "/clock", `{}`, nil, 400},
		"a century":                 {"POST", "/clock", `{"offset_seconds":3153600000}`, nil, 400},
		"a body for a GET":          {"GET", "/clock", `{}`, nil, 400},
		"1 MiB":                     {"POST", "/clock", `{"x":"` + strings.Repeat("x", maxControlBytes) + `"}`, nil, 413},
		"an unknown call's fault":   {"POST", "/faults", `{"call":"delete","kind":"500"}`, nil, 400},
		"an unknown kind":           {"POST", "/faults", `{"call":"create","kind":"418"}`, nil, 400},
		"another call's kind":       {"POST", "/faults", `{"call":"token","kind":"spent_url"}`, nil, 400},
		"an id of one's own":        {"POST", "/faults", `{"call":"create","kind":"500","id":3}`, nil, 400},
		"times and always":          {"POST", "/faults", `{"call":"create","kind":"500","times":3,"always":true}`, nil, 400},
		"less than never":           {"POST", "/faults", `{"call":"create","kind":"500","times":-1}`, nil, 400},
		"more than certain":         {"POST", "/faults", `{"call":"create","kind":"500","probability":1.5}`, nil, 400},
		"a seed for nothing":        {"POST", "/faults", `{"call":"create","kind":"500","seed":4}`, nil, 400},
		"slow without a delay":      {"POST", "/faults", `{"call":"create","kind":"slow"}`, nil, 400},
		"a delay without slow":      {"POST", "/faults", `{"call":"create","kind":"500","delay_ms":5}`, nil, 400},
		"an hour's delay":           {"POST", "/faults", `{"call":"create","kind":"slow","delay_ms":3600000}`, nil, 400},
		"retry after a 500":         {"POST", "/faults", `{"call":"create","kind":"500","retry_after_seconds":5}`, nil, 400},
		"no such fault":             {"DELETE", "/faults/99", "", nil, 404},
		"no such encounter":         {"POST", "/exports", `{"external_encounter_id":"E-9"}`, nil, 404},
		"no such type":              {"POST", "/exports", `{"external_encounter_id":"E-1","type":"X"}`, nil, 400},
	} {
		got := c.ask(q.method, q.path, q.body, q.header)
		if got.status != q.status || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	if list := c.sim.Faults(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if clock := c.sim.Clock(); clock.OffsetSeconds != 0 || clock.Frozen {
		t.Errorf("%+v", clock)
	}
}

func TestTheClockIsMovedFrozenAndReset(t *testing.T) {
	c := newControlled(t)
	var clock Clock
	c.do("POST", "/clock", `{"offset_seconds":3600}`, &clock)
	if !clock.Now.Equal(c.now().Add(time.Hour)) || clock.OffsetSeconds != 3600 || clock.Frozen {
		t.Errorf("%+v", clock)
	}
	c.do("POST", "/clock", `{"freeze":true,"advance_seconds":60}`, &clock)
	stands := c.now().Add(time.Hour + time.Minute)
	c.advance(5 * time.Minute)
	c.do("GET", "/clock", "", &clock)
	if !clock.Now.Equal(stands) || !clock.Frozen {
		t.Errorf("%+v", clock)
	}
	c.do("POST", "/clock", `{"freeze":false}`, &clock)
	c.advance(time.Minute)
	c.do("GET", "/clock", "", &clock)
	if !clock.Now.Equal(stands.Add(time.Minute)) || clock.Frozen {
		t.Errorf("%+v", clock)
	}
	c.do("DELETE", "/clock", "", &clock)
	if !clock.Now.Equal(c.now()) || clock.OffsetSeconds != 0 {
		t.Errorf("%+v", clock)
	}
}

func TestByTheClockAPageGrowsOldAndATokenEndsButOthersKeepTheirTime(t *testing.T) {
	c := newControlled(t)
	token := c.token()
	address := c.page(c.call(token, "/encounters", goodCreate))
	c.do("POST", "/clock", `{"advance_seconds":600}`, nil)
	if got := c.send(http.MethodGet, address, "", nil); got.status != http.StatusGone || !strings.Contains(got.text, `data-refused="expired"`) {
		t.Errorf("%d %s", got.status, got.text)
	}
	if got := c.call(token, "/encounters", goodCreate); got.status != http.StatusUnauthorized {
		t.Errorf("an old token: %d", got.status)
	}
	c.page(c.call(c.token(), "/encounters", goodCreate)) // the caller's assertion is in time
	if done, err := c.sim.Export(t.Context(), Export{ExternalEncounterID: "E-1"}); err != nil || len(done.Faults) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	_, head := c.last(t)
	if at, err := time.Parse(time.RFC3339, head.Get(TimestampHeader)); err != nil || !at.Equal(c.now()) {
		t.Errorf("the callback says %v", at)
	}
	c.do("POST", "/clock", `{"everything":true}`, nil)
	if got := c.fixture.ask(c.assertion(nil)); got.status != http.StatusUnauthorized {
		t.Errorf("an assertion of ten minutes ago: %d", got.status)
	}
	if _, err := c.sim.Export(t.Context(), Export{ExternalEncounterID: "E-1"}); err != nil {
		t.Error(err)
	}
	_, head = c.last(t)
	if at, err := time.Parse(time.RFC3339, head.Get(TimestampHeader)); err != nil || !at.Equal(c.now().Add(10*time.Minute)) {
		t.Errorf("the callback says %v", at)
	}
}

// afterFault plans one and returns how a create then ends: its answer, or an error.
func (c *controlled) afterFault(fault, token string) (*http.Response, string, error) {
	c.t.Helper()
	c.do("POST", "/faults", fault, nil)
	return c.create(token)
}

func (c *controlled) create(token string) (*http.Response, string, error) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+"/v1/connect/server/encounters", strings.NewReader(strings.Replace(goodCreate, "E-1", "E-2", 1)))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // else it would be tried again by itself
	response, err := client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return response, string(text), err
}

// made reports whether the encounter of create exists.
func (c *controlled) made() bool {
	for _, e := range c.sim.Encounters() {
		if e.ExternalEncounterID == "E-2" {
			return true
		}
	}
	return false
}

func TestEveryFaultOfACallHappens(t *testing.T) {
	c := newControlled(t)
	token := c.token()
	for _, kind := range kindsOf[CallCreate] {
		t.Run(kind, func(t *testing.T) {
			c.sim.mu.Lock()
			delete(c.sim.encounters, "E-2")
			c.sim.mu.Unlock()
			var slept time.Duration
			c.sim.sleep = func(_ context.Context, d time.Duration) error { slept = d; return nil }
			more := map[string]string{FaultSlow: `,"delay_ms":1500`, Fault429: `,"retry_after_seconds":7`}[kind]
			response, text, err := c.afterFault(`{"call":"create","kind":"`+kind+`"`+more+`}`, token)
			status, contentType := 0, ""
			if response != nil {
				status, contentType = response.StatusCode, response.Header.Get("Content-Type")
			}
			done := true
			good := false
			switch kind {
			case Fault429:
				done, good = false, status == 429 && response.Header.Get("Retry-After") == "7"
			case Fault500:
				done, good = false, status == 500
			case Fault503:
				done, good = false, status == 503 && response.Header.Get("Retry-After") == ""
			case FaultSlow:
				good = status == 200 && slept == 1500*time.Millisecond
			case FaultReset:
				done, good = false, err != nil && response == nil
			case FaultHTML:
				done, good = false, status == 200 && strings.HasPrefix(contentType, "text/html")
			case FaultBig:
				done, good = false, status == 200 && len(text) > bigBytes && json.Valid([]byte(text))
			case FaultLostAnswer:
				good = err != nil && response == nil
			case FaultTruncated:
				good = status == 200 && err != nil && !json.Valid([]byte(text)) && strings.HasPrefix(text, `{"encounter_url"`)
			case FaultWrongType:
				good = status == 200 && strings.HasPrefix(contentType, "text/plain") && json.Valid([]byte(text))
			case FaultSpentURL:
				var a encounterURL
				_ = json.Unmarshal([]byte(text), &a)
				good = c.send(http.MethodGet, a.EncounterURL, "", nil).status == http.StatusGone
			}
			if !good || c.made() != done {
				t.Errorf("status %d (%s), error %v, made %v", status, contentType, err, c.made())
			}
			// It happened once.
			if response, _, err := c.create(token); err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("afterwards: %v", err)
			}
			c.do("DELETE", "/faults", "", nil)
		})
	}
}

func TestAFaultHappensToItsCallOnly(t *testing.T) {
	c := newControlled(t)
	calls := map[string]func() int{
		CallToken:  func() int { return c.fixture.ask(c.assertion(nil)).status },
		CallCreate: func() int { return c.call(c.token(), "/encounters", goodCreate).status },
		CallRefresh: func() int {
			return c.call(c.token(), "/encounters/url", `{"external_provider_id":"D-17","external_encounter_id":"E-1"}`).status
		},
		CallUsers: func() int {
			return c.users(c.token(), Version20260323, `{"provider_email":"ada@hospital.example","external_provider_id":"D-17"}`).status
		},
	}
	for name, call := range calls {
		for _, other := range []string{CallToken, CallCreate, CallRefresh, CallUsers, CallPage} {
			if other == CallToken && name != CallToken {
				continue // every call here gets a token first
			}
			c.do("POST", "/faults", `{"call":"`+other+`","kind":"503"}`, nil)
			if got, want := call(), map[bool]int{true: 503, false: 200}[other == name]; got != want {
				t.Errorf("%s with a fault of %s: %d", name, other, got)
			}
			c.do("DELETE", "/faults", "", nil)
		}
	}
	address := c.page(c.call(c.token(), "/encounters", goodCreate))
	c.do("POST", "/faults", `{"call":"page","kind":"503"}`, nil)
	if got := c.send(http.MethodGet, address, "", nil); got.status != 503 {
		t.Errorf("the page: %d", got.status)
	}
	if got := c.send(http.MethodGet, address, "", nil); got.status != 200 {
		t.Errorf("the page afterwards: %d, so the fault has spent it", got.status)
	}
}

func TestFaultsAreCountedListedAndTakenAway(t *testing.T) {
	c := newControlled(t)
	token := c.token()
	var made Fault
	c.do("POST", "/faults", `{"call":"create","kind":"500","times":2}`, &made)
	if made.ID == 0 || made.Times != 2 {
		t.Fatalf("%+v", made)
	}
	var statuses []int
	for range 3 {
		statuses = append(statuses, c.call(token, "/encounters", goodCreate).status)
	}
	if statuses[0] != 500 || statuses[1] != 500 || statuses[2] != 200 {
		t.Errorf("%v", statuses)
	}
	var list faultList
	c.do("GET", "/faults", "", &list)
	if len(list.Faults) != 1 || list.Faults[0].Happened != 2 {
		t.Errorf("%+v", list)
	}
	c.do("POST", "/faults", `{"call":"create","kind":"503","always":true}`, &made)
	for range 5 {
		if got := c.call(token, "/encounters", goodCreate); got.status != 503 {
			t.Errorf("%d", got.status)
		}
	}
	c.do("DELETE", "/faults/2", "", &list)
	if len(list.Faults) != 1 {
		t.Errorf("%+v", list)
	}
	c.page(c.call(token, "/encounters", goodCreate))
	for range maxFaults - 1 {
		if _, err := c.sim.AddFault(Fault{Call: CallCreate, Kind: Fault500}); err != nil {
			t.Fatal(err)
		}
	}
	if got := c.ask("POST", "/faults", `{"call":"create","kind":"500"}`, nil); got.status != 400 {
		t.Errorf("one fault more than there may be: %d", got.status)
	}
}

func TestTheSameSeedGivesTheSameFaults(t *testing.T) {
	c := newControlled(t)
	token := c.token()
	play := func(seed string) string {
		c.do("POST", "/faults", `{"call":"create","kind":"500","always":true,"probability":0.5,"seed":`+seed+`}`, nil)
		outcome := ""
		for range 24 {
			outcome += map[bool]string{true: ".", false: "x"}[c.call(token, "/encounters", goodCreate).status == 200]
		}
		c.do("DELETE", "/faults", "", nil)
		return outcome
	}
	first, again, other := play("7"), play("7"), play("8")
	if first != again || first == other || !strings.Contains(first, "x") || !strings.Contains(first, ".") {
		t.Errorf("%s %s %s", first, again, other)
	}
}

func TestEveryFaultOfAnExportHappens(t *testing.T) {
	c := newControlled(t)
	for _, kind := range kindsOf[CallExport] {
		var slept time.Duration
		c.sim.sleep = func(_ context.Context, d time.Duration) error { slept = d; return nil }
		before := len(c.bodies)
		c.do("POST", "/faults", `{"call":"export","kind":"`+kind+`"`+map[string]string{FaultSlow: `,"delay_ms":1500`}[kind]+`}`, nil)
		var done Exported
		c.do("POST", "/exports", `{"external_encounter_id":"E-1"}`, &done)
		if kind == FaultLostAnswer {
			if len(done.Faults) != 1 {
				t.Errorf("%s: %+v", kind, done)
			}
			continue // whether it arrived nobody knows
		}
		c.organisation.mu.Lock()
		body, head, sent := c.bodies[len(c.bodies)-1], c.heads[len(c.heads)-1], len(c.bodies)-before
		c.organisation.mu.Unlock()
		timestamp := head.Get(TimestampHeader)
		at, _ := time.Parse(time.RFC3339, timestamp)
		signed := head.Get(SignatureHeader) == SignCallback(timestamp, body, c.sim.exports.Secrets...)
		known := strings.Contains(string(body), `"type":"NOTE_EXPORT"`)
		old := !at.Equal(c.now())
		if signed == (kind == FaultBadSignature) || known == (kind == FaultUnknownType) || old != (kind == FaultStale) ||
			(sent == 2) != (kind == FaultReplay) || (slept == 1500*time.Millisecond) != (kind == FaultSlow) {
			t.Errorf("%s: signed %v, known %v, at %v, sent %d, slept %v", kind, signed, known, at, sent, slept)
		}
	}
}

func TestTheControlPortTellsIDsOnlyAndForgets(t *testing.T) {
	c := newControlled(t)
	address := c.page(c.call(c.token(), "/encounters", goodCreate))
	c.send(http.MethodGet, address, "", nil)
	for path, want := range map[string]string{
		"/encounters": `{"encounters":[{"external_encounter_id":"E-1","external_provider_ids":["D-17"]}]}`,
		"/openings":   `{"openings":[{"external_encounter_id":"E-1","external_provider_id":"D-17","at":"2026-11-03T09:00:00.000Z"}]}`,
	} {
		if got := c.ask("GET", path, "", nil); strings.TrimSpace(got.text) != want {
			t.Errorf("%s: %s", path, got.text)
		}
	}
	c.do("POST", "/clock", `{"offset_seconds":60}`, nil)
	c.do("POST", "/faults", `{"call":"page","kind":"500"}`, nil)
	c.do("POST", "/reset", "", nil)
	if len(c.sim.Encounters()) != 0 || len(c.sim.Opened()) != 0 || len(c.sim.Faults()) != 0 || c.sim.Clock().OffsetSeconds != 0 {
		t.Error("something was kept")
	}
	if got := c.send(http.MethodGet, address, "", nil); got.status != http.StatusNotFound {
		t.Errorf("%d", got.status)
	}
	// The document is served by both.
	if got := c.ask("GET", "/openapi.yaml", "", nil); got.text != string(ControlOpenAPI) {
		t.Error("another document")
	}
	if got := c.send(http.MethodGet, "/openapi.yaml", "", nil); got.text != string(OpenAPI) {
		t.Error("another document")
	}
	if got := c.send(http.MethodPost, "/openapi.yaml", "", nil); got.status != http.StatusMethodNotAllowed {
		t.Errorf("%d", got.status)
	}
}

var buttonForm = regexp.MustCompile(`<form method="post" action="([^"]+)">`)

func TestTheButtonOfAPageExportsOnce(t *testing.T) {
	f, o := withOrganisation(t, nil)
	page := f.send(http.MethodGet, f.page(f.call(f.token(), "/encounters", goodCreate)), "", nil)
	form := buttonForm.FindStringSubmatch(page.text)
	if form == nil || !strings.Contains(page.header.Get("Content-Security-Policy"), "form-action 'self'") {
		t.Fatal("the page has no button")
	}
	if got := f.send(http.MethodGet, f.url+form[1], "", nil); got.status != http.StatusMethodNotAllowed || len(o.bodies) != 0 {
		t.Errorf("a GET: %d, %d callbacks", got.status, len(o.bodies))
	}
	got := f.send(http.MethodPost, f.url+form[1], "", nil)
	if got.status != http.StatusOK || !strings.Contains(got.text, `data-exported="done"`) || len(o.bodies) != 1 {
		t.Errorf("%d %s", got.status, got.text)
	}
	if body, _ := o.last(t); !strings.Contains(string(body), `"external_encounter_id":"E-1"`) {
		t.Errorf("%s", body)
	}
	if again := f.send(http.MethodPost, f.url+form[1], "", nil); again.status != http.StatusGone || len(o.bodies) != 1 {
		t.Errorf("the same button: %d, %d callbacks", again.status, len(o.bodies))
	}
	o.answer = func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusServiceUnavailable) }
	form = buttonForm.FindStringSubmatch(got.text)
	if got = f.send(http.MethodPost, f.url+form[1], "", nil); !strings.Contains(got.text, `data-exported="failed"`) || !strings.Contains(got.text, "the status is 503") {
		t.Errorf("%d %s", got.status, got.text)
	}
	form = buttonForm.FindStringSubmatch(got.text)
	f.advance(exportFormLife)
	if got = f.send(http.MethodPost, f.url+form[1], "", nil); got.status != http.StatusGone || len(o.bodies) != 2 {
		t.Errorf("a button of an hour ago: %d", got.status)
	}
}
