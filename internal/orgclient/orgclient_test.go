package orgclient

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	handle  = "canary-handle-0123456789"
	token   = "canary-token"
	key     = "canary-key"
	oneTime = "https://app.nabla.example/e?t=canary-url"
	good    = `{"encounter_url":"` + oneTime + `","encounter":{"external_encounter_id":"canary-enc","external_provider_id":"canary-prov","label":"canary label"}}`
	reopen  = `{"encounter_url":"` + oneTime + `"}`
	me      = `{"subject":"s-1","provider_email":"dr@hospital.example","external_provider_id":"p-1"}`
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// backend answers with a script of handlers, one for each attempt; the last one
// answers whatever comes after.
type backend struct {
	*httptest.Server
	mu     sync.Mutex
	script []http.HandlerFunc
	seen   []seen
}

type seen struct {
	method, path string
	header       http.Header
	body         string
}

func newBackend(t *testing.T, script ...http.HandlerFunc) *backend {
	t.Helper()
	b := &backend{script: script}
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(b.answer))
	b.Config.ErrorLog = log.New(io.Discard, "", 0)
	b.StartTLS()
	t.Cleanup(b.Close)
	return b
}

func (b *backend) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	b.seen = append(b.seen, seen{r.Method, r.URL.Path, r.Header.Clone(), string(body)})
	next := b.script[min(len(b.seen), len(b.script))-1]
	b.mu.Unlock()
	next(w, r)
}

func (b *backend) calls() []seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]seen(nil), b.seen...)
}

// clock is time that only sleeping moves.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	slept []time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.slept = append(c.slept, d)
	return ctx.Err()
}

func (c *clock) waits() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]time.Duration(nil), c.slept...)
}

func newClient(t *testing.T, b *backend) (*Client, *clock) {
	t.Helper()
	k := &clock{now: start}
	c, err := New(Config{
		BackendURL: b.URL + "/api", HTTP: b.Client(), Now: k.Now, Sleep: k.Sleep, UserAgent: "encounter-launcher/9",
		Hosts: launch.Addresses{Hosts: []string{"app.nabla.example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, k
}

func link(t *testing.T, query string) launch.Request {
	t.Helper()
	r, err := launch.Parse("encounter-launcher", "encounter-launcher://launch?"+query)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func create(t *testing.T, c *Client) (launch.Target, orgapi.Encounter, error) {
	t.Helper()
	return c.Create(t.Context(), secret.New(token), link(t, "handle="+handle), key)
}

func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func ok(body string) http.HandlerFunc { return answer(http.StatusOK, "application/json", body) }

func refusal(status int, code, reference string) http.HandlerFunc {
	return answer(status, orgapi.ProblemContentType,
		fmt.Sprintf(`{"type":"about:blank","title":"canary title","status":%d,"detail":"canary detail","code":%q,"reference":%q}`, status, code, reference))
}

func with(name, value string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(name, value)
		h(w, r)
	}
}

// hang answers nothing, ever: a handler that merely returned when the caller has
// gone could still be heard.
func hang(_ http.ResponseWriter, r *http.Request) {
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

func reset(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }

func wantCode(t *testing.T, err error, code problem.Code) {
	t.Helper()
	if !problem.IsCode(err, code) {
		t.Fatalf("got %v (code %q), want code %q", err, problem.CodeOf(err), code)
	}
	var out strings.Builder
	p := problem.Of(err)
	slog.New(slog.NewJSONHandler(&out, nil)).Error("m", "problem", p)
	fmt.Fprintf(&out, "%v %+v %s", err, p, p.Error())
	if text := out.String(); strings.Contains(text, "canary") || strings.Contains(text, "://") {
		t.Errorf("a link, token, URL or id shows in %s", text)
	}
}

func TestCreateReturnsTheCheckedAddressAndTheEncounter(t *testing.T) {
	b := newBackend(t, ok(good))
	c, _ := newClient(t, b)
	target, e, err := create(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if got := target.Address().Reveal(); got != oneTime {
		t.Errorf("address %q", got)
	}
	if want := (orgapi.Encounter{ExternalEncounterID: "canary-enc", ExternalProviderID: "canary-prov", Label: "canary label"}); e != want {
		t.Errorf("encounter %+v", e)
	}
}

func TestEveryCallCarriesTheHeadersOfTheContract(t *testing.T) {
	b := newBackend(t, ok(good), ok(reopen), ok(me))
	c, _ := newClient(t, b)
	ctx := WithRequestID(t.Context(), "launch-7")
	if _, _, err := c.Create(ctx, secret.New(token), link(t, "handle="+handle), key); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reopen(ctx, secret.New(token), orgapi.Encounter{ExternalEncounterID: "e", ExternalProviderID: "p"}, key); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Me(ctx, secret.New(token)); err != nil {
		t.Fatal(err)
	}
	want := []struct{ method, path, body string }{
		{"POST", "/api/encounters", `{"handle":"` + handle + `"}`},
		{"POST", "/api/encounters/url", `{"external_provider_id":"p","external_encounter_id":"e"}`},
		{"GET", "/api/me", ""},
	}
	calls := b.calls()
	if len(calls) != len(want) {
		t.Fatalf("%d calls", len(calls))
	}
	for i, w := range want {
		got := calls[i]
		if got.method != w.method || got.path != w.path || got.body != w.body {
			t.Errorf("call %d was %s %s %s", i, got.method, got.path, got.body)
		}
		for name, value := range map[string]string{
			"Authorization": "Bearer " + token, "X-Request-Id": "launch-7", "User-Agent": "encounter-launcher/9",
			"Cache-Control": "no-store", "Accept": "application/json, application/problem+json",
		} {
			if got.header.Get(name) != value {
				t.Errorf("call %d has %s: %q", i, name, got.header.Get(name))
			}
		}
		if k := got.header.Get("Idempotency-Key"); w.method == "POST" && k != key || k == "" {
			t.Errorf("call %d has the key %q", i, k)
		}
		if ct := got.header.Get("Content-Type"); w.method == "POST" && ct != "application/json" {
			t.Errorf("call %d has the type %q", i, ct)
		}
	}
}

func TestARequestIDThatIsNotOneIsReplacedByAFreshUUID(t *testing.T) {
	b := newBackend(t, ok(me))
	c, _ := newClient(t, b)
	given := []string{"", "two words", "line\nbreak", strings.Repeat("x", 129)}
	for _, id := range given {
		if _, err := c.Me(WithRequestID(t.Context(), id), secret.New(token)); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]bool{}
	for _, call := range b.calls() {
		id := call.header.Get("X-Request-Id")
		if len(id) != 36 || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
			t.Errorf("%q is not a random UUID", id)
		}
		ids[id] = true
	}
	if len(ids) != len(given) {
		t.Error("each call should have an id of its own")
	}
}

func TestEachFormOfTheLinkHasItsBody(t *testing.T) {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	signed := part(`{"alg":"ES256","kid":"k","typ":"encounter-launch+jwt"}`) + "." +
		part(`{"iss":"ehr","aud":"https://backend.example/api","iat":1767225600,"exp":1767225660,"jti":"j-1","external_encounter_id":"e","external_patient_id":"p","external_provider_id":"d"}`) + "." +
		part(strings.Repeat("s", 64))
	for query, want := range map[string]string{
		"handle=" + handle:  `{"handle":"` + handle + `"}`,
		"request=" + signed: `{"request":"` + signed + `"}`,
		"external_encounter_id=canary-enc&external_patient_id=pat&external_provider_id=canary-prov": `{"external_encounter_id":"canary-enc","external_patient_id":"pat","external_provider_id":"canary-prov"}`,
	} {
		b := newBackend(t, ok(good))
		c, _ := newClient(t, b)
		if _, _, err := c.Create(t.Context(), secret.New(token), link(t, query), key); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		if got := b.calls()[0].body; got != want {
			t.Errorf("body %s, want %s", got, want)
		}
	}
}

func TestAnAnswerForAnotherEncounterThanTheLinksIsRefused(t *testing.T) {
	for _, query := range []string{
		"external_encounter_id=other&external_patient_id=pat&external_provider_id=canary-prov",
		"external_encounter_id=canary-enc&external_patient_id=pat&external_provider_id=other",
	} {
		b := newBackend(t, ok(good))
		c, _ := newClient(t, b)
		target, e, err := c.Create(t.Context(), secret.New(token), link(t, query), key)
		wantCode(t, err, problem.OrgAnswerInvalid)
		if !target.Address().Empty() || e != (orgapi.Encounter{}) {
			t.Error("nothing of a refused answer may be returned")
		}
	}
}

func TestARequestThatWasNeverParsedIsNotSent(t *testing.T) {
	b := newBackend(t, ok(good))
	c, _ := newClient(t, b)
	_, _, err := c.Create(t.Context(), secret.New(token), launch.Request{}, key)
	wantCode(t, err, problem.Internal)
	_, err = c.Reopen(t.Context(), secret.New(token), orgapi.Encounter{ExternalEncounterID: "e"}, key)
	wantCode(t, err, problem.EncounterUnknown)
	if len(b.calls()) != 0 {
		t.Error("something was sent")
	}
}

func TestWithoutATokenOrAKeyNothingIsSent(t *testing.T) {
	b := newBackend(t, ok(good))
	c, _ := newClient(t, b)
	_, _, err := c.Create(t.Context(), secret.Text{}, link(t, "handle="+handle), key)
	wantCode(t, err, problem.Unauthorized)
	for _, key := range []string{"", "canary key", "canary\nkey", strings.Repeat("k", 129)} {
		_, _, err = c.Create(t.Context(), secret.New(token), link(t, "handle="+handle), key)
		wantCode(t, err, problem.Internal)
	}
	if len(b.calls()) != 0 {
		t.Error("something was sent")
	}
}

func TestATokenThatCannotBeAHeaderIsNeverShown(t *testing.T) {
	b := newBackend(t, ok(me))
	c, _ := newClient(t, b)
	_, err := c.Me(t.Context(), secret.New("canary\ntoken"))
	wantCode(t, err, problem.Unauthorized)
	if len(b.calls()) != 0 {
		t.Error("something was sent")
	}
}

func TestAnAddressThatThePolicyDoesNotAllowIsRefused(t *testing.T) {
	for _, address := range []string{
		"http://app.nabla.example/canary", "https://evil.example/canary", "javascript:canary", "canary",
		"https://canary@app.nabla.example/", "https://app.nabla.example.evil.example/canary",
	} {
		b := newBackend(t, ok(strings.Replace(good, oneTime, address, 1)), ok(strings.Replace(reopen, oneTime, address, 1)))
		c, _ := newClient(t, b)
		_, _, err := create(t, c)
		wantCode(t, err, problem.AddressNotAllowed)
		_, err = c.Reopen(t.Context(), secret.New(token), orgapi.Encounter{ExternalEncounterID: "e", ExternalProviderID: "p"}, key)
		wantCode(t, err, problem.AddressNotAllowed)
	}
}

func TestAnswersThatDoNotKeepTheContractAreRefused(t *testing.T) {
	long := strings.Repeat("x", orgapi.MaxIdentifierRunes+1)
	replace := func(old, new string) http.HandlerFunc { return ok(strings.Replace(good, old, new, 1)) }
	for what, h := range map[string]http.HandlerFunc{
		"no content":              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"accepted for later":      answer(http.StatusAccepted, "application/json", good),
		"empty":                   ok(""),
		"no JSON":                 ok("canary"),
		"no type":                 answer(200, "", good),
		"HTML":                    answer(200, "text/html", good),
		"JSON in another charset": answer(200, "application/json; charset=utf-16", good),
		"a list":                  ok("[" + good + "]"),
		"null":                    ok("null"),
		"cut off":                 ok(good[:len(good)-1]),
		"something behind":        ok(good + "{}"),
		"a member twice":          ok(`{"encounter_url":"https://evil.example/canary",` + good[1:]),
		"an inner member twice":   replace(`"external_encounter_id"`, `"external_encounter_id":"other","external_encounter_id"`),
		"other case":              replace("encounter_url", "Encounter_URL"),
		"not UTF-8":               replace("canary label", "canary \xff"),
		"too large":               ok(good + strings.Repeat(" ", orgapi.MaxAnswerBytes)),
		"no address":              replace("encounter_url", "other"),
		"address empty":           replace(oneTime, ""),
		"address null":            replace(`"`+oneTime+`"`, "null"),
		"address a number":        replace(`"`+oneTime+`"`, "7"),
		"no encounter":            ok(reopen),
		"encounter null":          ok(`{"encounter_url":"` + oneTime + `","encounter":null}`),
		"no encounter id":         replace("external_encounter_id", "other"),
		"no provider id":          replace("external_provider_id", "other"),
		"encounter id empty":      replace("canary-enc", ""),
		"encounter id too long":   replace("canary-enc", long),
		"control in the id":       replace("canary-enc", `canary\u0007`),
		"line break in provider":  replace("canary-prov", `canary\n`),
		"id a number":             replace(`"canary-enc"`, "7"),
		"label a number":          replace(`"canary label"`, "7"),
		"redirected to elsewhere": redirect("https://evil.example/canary"),
		"redirected within":       redirect("/api/encounters?canary"),
		"redirected to nowhere":   redirect(":canary"),
		"redirected with the body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/canary")
			w.WriteHeader(308)
		},
		"not modified": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) },
	} {
		t.Run(what, func(t *testing.T) {
			b := newBackend(t, h)
			c, _ := newClient(t, b)
			target, e, err := create(t, c)
			wantCode(t, err, problem.OrgAnswerInvalid)
			if !target.Address().Empty() || e != (orgapi.Encounter{}) {
				t.Error("nothing of a refused answer may be returned")
			}
			if n := len(b.calls()); n != 1 {
				t.Errorf("%d calls, want 1: such an answer is neither followed nor asked for again", n)
			}
		})
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

func TestAnswersThatAreOnlyNewerOrLargerAreAccepted(t *testing.T) {
	full := strings.Repeat("é", orgapi.MaxIdentifierRunes)
	for what, body := range map[string]string{
		"unknown members":   `{"later":[{"a":1}],` + good[1:],
		"full ids":          strings.Replace(good, "canary-enc", full, 1),
		"as large as can":   good + strings.Repeat(" ", orgapi.MaxAnswerBytes-len(good)),
		"without a label":   strings.Replace(good, `,"label":"canary label"`, "", 1),
		"with a long label": strings.Replace(good, "canary label", strings.Repeat("l", orgapi.MaxLabelBytes+1), 1),
	} {
		b := newBackend(t, answer(200, "application/json; charset=UTF-8", body))
		c, _ := newClient(t, b)
		_, e, err := create(t, c)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(what, "label") && e.Label != "" {
			t.Errorf("%s: %q", what, e.Label)
		}
	}
}

func TestMeSaysForWhomTheBackendTakesTheCaller(t *testing.T) {
	b := newBackend(t, ok(me))
	c, _ := newClient(t, b)
	got, err := c.Me(t.Context(), secret.New(token))
	if want := (orgapi.Me{Subject: "s-1", ProviderEmail: "dr@hospital.example", ExternalProviderID: "p-1"}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, body := range []string{
		`{}`, strings.Replace(me, "s-1", "", 1), strings.Replace(me, "p-1", `canary\t`, 1), strings.Replace(me, `"dr@hospital.example"`, "null", 1),
		strings.Replace(me, "dr@", strings.Repeat("d", maxEmailBytes), 1),
	} {
		b := newBackend(t, ok(body))
		c, _ := newClient(t, b)
		_, err := c.Me(t.Context(), secret.New(token))
		wantCode(t, err, problem.OrgAnswerInvalid)
	}
}

func TestTheCodesOfTheContractArePassedOnWithTheirReference(t *testing.T) {
	for _, row := range problem.Rows() {
		if !backendsOwn(row.Code) {
			continue
		}
		t.Run(string(row.Code), func(t *testing.T) {
			b := newBackend(t, refusal(row.Status, string(row.Code), "ABCDEFGH"))
			c, _ := newClient(t, b)
			_, _, err := create(t, c)
			wantCode(t, err, row.Code)
			if p := problem.Of(err); p.Reference != "ABCDEFGH" || p.Fact != "" {
				t.Errorf("reference %q, fact %q", p.Reference, p.Fact)
			}
		})
	}
}

func TestARefusalThatNamesNoCodeOfTheContractIsJudgedByItsStatus(t *testing.T) {
	for _, c := range []struct {
		status int
		want   problem.Code
	}{
		{400, problem.RequestInvalid}, {401, problem.Unauthorized}, {402, problem.OrgRefused}, {403, problem.OrgRefused},
		{404, problem.OrgAnswerInvalid}, {405, problem.OrgAnswerInvalid}, {407, problem.ProxyAuthNeeded}, {409, problem.OrgRefused},
		{410, problem.OrgRefused}, {413, problem.RequestTooLarge}, {422, problem.RequestInvalid}, {429, problem.OrgBusy},
		{500, problem.OrgAnswerInvalid}, {501, problem.OrgAnswerInvalid}, {502, problem.OrgUnreachable}, {503, problem.OrgBusy},
		{504, problem.OrgUnreachable},
	} {
		for what, h := range map[string]http.HandlerFunc{
			"HTML":                  answer(c.status, "text/html", "canary"),
			"nothing":               answer(c.status, "", ""),
			"unknown code":          refusal(c.status, "canary_code", "canary"),
			"workstation's code":    refusal(c.status, "keyring_locked", "canary"),
			"this program's code":   refusal(c.status, "internal", "canary"),
			"code in another type":  answer(c.status, "application/json", `{"code":"handle_spent"}`),
			"code that is no text":  answer(c.status, orgapi.ProblemContentType, `{"code":7}`),
			"problem that is large": answer(c.status, orgapi.ProblemContentType, `{"code":"handle_spent"}`+strings.Repeat(" ", orgapi.MaxAnswerBytes)),
		} {
			t.Run(fmt.Sprint(c.status, what), func(t *testing.T) {
				b := newBackend(t, h)
				client, _ := newClient(t, b)
				_, _, err := create(t, client)
				wantCode(t, err, c.want)
			})
		}
	}
}

func TestA401IsUnauthorizedWhateverItsBodySays(t *testing.T) {
	b := newBackend(t, refusal(401, "identity_unmapped", "ABCDEFGH"))
	c, _ := newClient(t, b)
	_, _, err := create(t, c)
	wantCode(t, err, problem.Unauthorized)
	if n := len(b.calls()); n != 1 {
		t.Errorf("%d calls: the one retry is the caller's, with a new token", n)
	}
}

func TestWhatMayPassIsTriedAgainWithTheSameKey(t *testing.T) {
	for what, h := range map[string]http.HandlerFunc{
		"reset": reset,
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			_, _ = w.Write([]byte("{"))
		},
		"429": answer(429, "", ""), "500": answer(500, "", ""), "502": answer(502, "", ""), "503": answer(503, "", ""), "504": answer(504, "", ""),
		"vendor_unavailable": refusal(502, "vendor_unavailable", "ABCDEFGH"),
	} {
		t.Run(what, func(t *testing.T) {
			b := newBackend(t, h, h, ok(good))
			c, k := newClient(t, b)
			if _, _, err := create(t, c); err != nil {
				t.Fatal(err)
			}
			calls := b.calls()
			if len(calls) != 3 {
				t.Fatalf("%d calls", len(calls))
			}
			for _, call := range calls {
				if call.header.Get("Idempotency-Key") != key || call.header.Get("X-Request-Id") != calls[0].header.Get("X-Request-Id") || call.body != calls[0].body {
					t.Error("a repeated attempt should be the same request")
				}
			}
			for i, d := range k.waits() {
				if base := firstBackoff << i; d < base/2 || d >= base*3/2 {
					t.Errorf("wait %d was %v", i, d)
				}
			}
		})
	}
}

func TestAfterThreeAttemptsTheFailureIsReported(t *testing.T) {
	for _, c := range []struct {
		h    http.HandlerFunc
		want problem.Code
	}{
		{reset, problem.OrgUnreachable}, {answer(429, "", ""), problem.OrgBusy}, {answer(503, "", ""), problem.OrgBusy},
		{with("Retry-After", "1", answer(503, "", "")), problem.OrgBusy},
		{refusal(502, "vendor_unavailable", "ABCDEFGH"), problem.VendorUnavailable},
		{refusal(503, "context_unavailable", "ABCDEFGH"), problem.ContextUnavailable},
	} {
		b := newBackend(t, c.h)
		client, _ := newClient(t, b)
		_, _, err := create(t, client)
		wantCode(t, err, c.want)
		if n := len(b.calls()); n != maxAttempts {
			t.Errorf("%d attempts", n)
		}
	}
}

func TestWhatWillNotPassIsNotTriedAgain(t *testing.T) {
	for _, h := range []http.HandlerFunc{
		refusal(410, "handle_spent", "ABCDEFGH"), refusal(403, "provider_mismatch", "ABCDEFGH"), refusal(409, "provider_conflict", "ABCDEFGH"),
		answer(400, "", ""), answer(408, "", ""), answer(501, "", ""), ok("{}"),
	} {
		b := newBackend(t, h)
		c, k := newClient(t, b)
		if _, _, err := create(t, c); err == nil {
			t.Fatal("this should fail")
		}
		if len(b.calls()) != 1 || len(k.waits()) != 0 {
			t.Errorf("%d calls", len(b.calls()))
		}
	}
}

func TestRetryAfterIsWaitedForWhenItFits(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"7": 7 * time.Second, "0": 0, start.Add(9 * time.Second).Format(http.TimeFormat): 9 * time.Second,
		start.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		b := newBackend(t, with("Retry-After", text, answer(429, "", "")), ok(good))
		c, k := newClient(t, b)
		if _, _, err := create(t, c); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := k.waits(); len(got) != 1 || got[0] != want {
			t.Errorf("%s: waited %v", text, got)
		}
	}
}

func TestARetryAfterThatDoesNotFitMeansBusyAtOnce(t *testing.T) {
	for _, text := range []string{"15", "3600", start.Add(time.Minute).Format(http.TimeFormat)} {
		b := newBackend(t, with("Retry-After", text, refusal(503, "vendor_unavailable", "ABCDEFGH")))
		c, k := newClient(t, b)
		_, _, err := create(t, c)
		wantCode(t, err, problem.OrgBusy)
		if len(b.calls()) != 1 || len(k.waits()) != 0 {
			t.Errorf("%s: %d calls, waits %v", text, len(b.calls()), k.waits())
		}
	}
	b := newBackend(t, with("Retry-After", "8", answer(429, "", "")))
	c, k := newClient(t, b)
	_, _, err := create(t, c)
	wantCode(t, err, problem.OrgBusy)
	if len(b.calls()) != 2 || len(k.waits()) != 1 {
		t.Errorf("the first 8 s fit, the second do not: %d calls, waits %v", len(b.calls()), k.waits())
	}
}

func TestARetryAfterThatCannotBeReadIsIgnored(t *testing.T) {
	for _, text := range []string{"soon", "-1", "1.5", "99999999999999999999"} {
		b := newBackend(t, with("Retry-After", text, answer(429, "", "")), ok(good))
		c, k := newClient(t, b)
		if _, _, err := create(t, c); err != nil {
			t.Fatal(err)
		}
		if got := k.waits(); len(got) != 1 || got[0] >= firstBackoff*3/2 {
			t.Errorf("%s: waited %v", text, got)
		}
	}
}

func TestABackendThatHangsIsTriedAgainAndThenUnreachable(t *testing.T) {
	b := newBackend(t, hang, ok(good))
	c, k := newClient(t, b)
	c.attempt = 500 * time.Millisecond
	c.sleep = func(ctx context.Context, d time.Duration) error {
		c.attempt = time.Minute // the second attempt has all the time that it needs
		return k.Sleep(ctx, d)
	}
	if _, _, err := create(t, c); err != nil {
		t.Fatal(err)
	}

	tries := 0
	c, _ = newClient(t, b)
	c.attempt = time.Millisecond
	c.trip = roundTrip(func(r *http.Request) (*http.Response, error) {
		tries++
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	_, _, err := create(t, c)
	wantCode(t, err, problem.OrgUnreachable)
	if problem.Of(err).Fact == "" || tries != maxAttempts {
		t.Errorf("%d attempts, %v", tries, err)
	}
}

func TestTheWholeCallEndsInTime(t *testing.T) {
	b := newBackend(t, hang)
	c, _ := newClient(t, b)
	c.total = 30 * time.Millisecond
	_, _, err := create(t, c)
	wantCode(t, err, problem.OrgUnreachable)
	if n := len(b.calls()); n > 1 {
		t.Errorf("%d attempts, though the time was over after the first", n)
	}
	if totalTime != 15*time.Second || attemptTime >= totalTime {
		t.Error("the bounds of the contract have changed")
	}
}

func TestCancellingEndsACallAndAWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) { cancel(); hang(w, r) })
	c, _ := newClient(t, b)
	_, _, err := c.Create(ctx, secret.New(token), link(t, "handle="+handle), key)
	wantCode(t, err, problem.Cancelled)

	ctx, cancel = context.WithCancel(t.Context())
	b = newBackend(t, answer(503, "", ""))
	c, _ = newClient(t, b)
	c.sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return sleep(ctx, time.Hour) }
	_, _, err = c.Create(ctx, secret.New(token), link(t, "handle="+handle), key)
	wantCode(t, err, problem.Cancelled)
	if len(b.calls()) != 1 {
		t.Error("after cancelling nothing more is sent")
	}
}

func TestACallersDeadlineIsNotACancel(t *testing.T) {
	b := newBackend(t, hang)
	c, _ := newClient(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := c.Me(ctx, secret.New(token))
	wantCode(t, err, problem.OrgUnreachable)
}

func TestACertificateThatIsNotTrustedIsNeverTalkedTo(t *testing.T) {
	b := newBackend(t, ok(good))
	c, k := newClient(t, b)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c.trip = transport
	_, _, err := create(t, c)
	wantCode(t, err, problem.TLSUntrusted)
	if len(b.calls()) != 0 || len(k.waits()) != 0 {
		t.Error("an untrusted server is not asked, and not asked again")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestProblemsOfTheTransportArePassedOn(t *testing.T) {
	for code, attempts := range map[problem.Code]int{
		problem.TLSUntrusted: 1, problem.ProxyAuthNeeded: 1, problem.OrgUnreachable: maxAttempts,
	} {
		tries := 0
		c, _ := newClient(t, newBackend(t, ok(good)))
		c.trip = roundTrip(func(r *http.Request) (*http.Response, error) {
			tries++
			return nil, fmt.Errorf("transport: %w", problem.With(code, "A fact.", nil))
		})
		_, _, err := create(t, c)
		wantCode(t, err, code)
		if tries != attempts || problem.Of(err).Fact != "A fact." {
			t.Errorf("%s: %d attempts, %v", code, tries, err)
		}
	}
}

func TestAnErrorThatQuotesTheAddressIsNotPassedOn(t *testing.T) {
	c, _ := newClient(t, newBackend(t, ok(good)))
	c.trip = roundTrip(func(r *http.Request) (*http.Response, error) {
		return nil, &url.Error{Op: "Post", URL: r.URL.String() + "?canary", Err: errors.New("malformed answer canary")}
	})
	_, _, err := create(t, c)
	wantCode(t, err, problem.OrgUnreachable)
}

func TestABackendURLOfAnotherFormMakesNoClient(t *testing.T) {
	for _, address := range []string{
		"", "canary", "backend.example", "//backend.example", "http://backend.example", "http://127.0.0.1:8080", "ftp://backend.example",
		"https:backend.example", "https://", "https:///canary", "https://:443", "https://backend.example:", "https://user@backend.example",
		"https://backend.example?canary", "https://backend.example?", "https://backend.example#canary", "https://backend.example/#",
		"https://backend.example/a b", "https://backend.example/\"canary", "https://backend.example/a//b", "https://backend.example/../b",
		"https://backend.example/a/..", "https://backend.example/./b", "HTTPS://backend.example", "https://bäckend.example", " https://backend.example",
		"https://backend.example/%zz", "https://backend.example\\@canary", "https://backend.example/" + strings.Repeat("x", maxBackendURLBytes),
		"https://backend.example/%2e%2e/canary",
	} {
		_, err := New(Config{BackendURL: address})
		wantCode(t, err, problem.PolicyInvalid)
	}
	for _, address := range []string{
		"http://localhost:8080", "http://127.0.0.1", "http://127.0.0.2:80", "http://[::1]:80", "http://127.0.0.1.evil.example:80", "http://backend.example:80",
	} {
		_, err := New(Config{BackendURL: address, LoopbackHTTP: true})
		wantCode(t, err, problem.PolicyInvalid)
	}
}

func TestABackendURLMayHaveAPortAndAPath(t *testing.T) {
	for address, base := range map[string]string{
		"https://backend.example":               "https://backend.example",
		"https://backend.example/":              "https://backend.example",
		"https://backend.example:8443/a/b":      "https://backend.example:8443/a/b",
		"https://backend.example/launcher/api/": "https://backend.example/launcher/api",
		"https://127.0.0.1:8443":                "https://127.0.0.1:8443",
	} {
		c, err := New(Config{BackendURL: address})
		if err != nil || c.base != base {
			t.Errorf("%s: %+v, %v", address, c, err)
		}
	}
	s := httptest.NewServer(ok(me))
	t.Cleanup(s.Close)
	c, err := New(Config{BackendURL: s.URL, LoopbackHTTP: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Me(t.Context(), secret.New(token)); err != nil {
		t.Error(err)
	}
}

func TestABackendIsThereWhenItRefusesACallerWithoutATokenAsTheContractSays(t *testing.T) {
	const refusal = `{"type":"about:blank","title":"x","status":401,"code":"unauthorized","reference":"ABCD2345"}`
	there := newBackend(t, answer(http.StatusUnauthorized, orgapi.ProblemContentType, refusal))
	c, _ := newClient(t, there)
	if err := c.Reach(t.Context()); err != nil {
		t.Error(err)
	}
	calls := there.calls()
	if len(calls) != 1 || calls[0].method != http.MethodGet || calls[0].path != "/api"+orgapi.PathMe || calls[0].header.Get("Authorization") != "" ||
		calls[0].header.Get(orgapi.HeaderRequestID) == "" || calls[0].header.Get(orgapi.HeaderIdempotencyKey) == "" {
		t.Errorf("sent %+v", calls)
	}
	for what, row := range map[string]struct {
		answer http.HandlerFunc
		code   problem.Code
	}{
		"another server's login":  {answer(http.StatusUnauthorized, "text/html", "<html>"), problem.OrgAnswerInvalid},
		"another server's JSON":   {answer(http.StatusUnauthorized, "application/json", refusal), problem.OrgAnswerInvalid},
		"a problem of no code":    {answer(http.StatusUnauthorized, orgapi.ProblemContentType, `{"code":"canary"}`), problem.OrgAnswerInvalid},
		"an answer to anybody":    {ok(me), problem.OrgAnswerInvalid},
		"a page":                  {answer(http.StatusOK, "text/html", "<html>"), problem.OrgAnswerInvalid},
		"a redirect":              {answer(http.StatusFound, "text/html", ""), problem.OrgAnswerInvalid},
		"no such path":            {answer(http.StatusNotFound, "text/html", ""), problem.OrgAnswerInvalid},
		"a gateway without it":    {answer(http.StatusBadGateway, "text/html", ""), problem.OrgUnreachable},
		"a backend that is busy":  {answer(http.StatusServiceUnavailable, "text/html", ""), problem.OrgBusy},
		"a proxy with a password": {answer(http.StatusProxyAuthRequired, "text/html", ""), problem.ProxyAuthNeeded},
	} {
		b := newBackend(t, row.answer)
		c, k := newClient(t, b)
		if err := c.Reach(t.Context()); problem.CodeOf(err) != row.code {
			t.Errorf("%s: %v", what, err)
		}
		if len(b.calls()) != 1 || len(k.waits()) != 0 {
			t.Errorf("%s: asked %d times", what, len(b.calls()))
		}
	}
	b := newBackend(t, ok(me))
	c, _ = newClient(t, b)
	b.Close()
	wantCode(t, c.Reach(t.Context()), problem.OrgUnreachable)
	untrusted := newBackend(t, ok(me))
	plain, err := New(Config{BackendURL: untrusted.URL, HTTP: &http.Client{Transport: &http.Transport{}}})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, plain.Reach(t.Context()), problem.TLSUntrusted)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantCode(t, c.Reach(ctx), problem.Cancelled)
}
