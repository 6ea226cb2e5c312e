package orgserver

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

// What is refused, by which status and code. Each case is one call that must have no
// effect; w.do holds its answer against the contract, and finds whatever it tells of
// the patient. The first call is good but for what the case says.

// badCall is one row of the table.
type badCall struct {
	what   string
	call   request
	status int
	code   problem.Code
}

func TestBadInput(t *testing.T) {
	w := newWorld(t, twoTenants(t), func(c *orgconfig.Config) {
		c.EHRs = append(c.EHRs, orgconfig.EHR{Name: "ehr-3", Tenant: "north", ClientID: ehrClient, ProviderPrefixes: []string{"D-"}})
	})
	north := map[string]any{"tenant": "north"}
	person := func(changes map[string]any) string {
		all := map[string]any{"tenant": "north"}
		for k, v := range changes {
			all[k] = v
		}
		return w.token(t, all)
	}
	theirs := goodLaunch()
	theirs.ExternalEncounterID = "E-2" // one encounter is of one tenant
	ofNorth, ofSouth, spent := w.taken(t, launchBy(ehrSecret)), w.taken(t, request{path: orgapi.PathLaunches, bearer: southSecret, body: theirs}), w.taken(t, launchBy(ehrSecret))
	signed := w.signedRequest(t, nil)
	by := func(bearer, key string, body any) request {
		return request{path: orgapi.PathEncounters, bearer: bearer, key: key, body: body}
	}
	// The four calls that take a body or a token, with what is to be wrong about it.
	create := func(body any) request { return by(person(nil), "key-bad", body) }
	reopen := func(body any) request {
		return request{path: orgapi.PathEncounterURL, bearer: person(nil), key: "key-bad", body: body}
	}
	launch := func(body any) request { return launchOf(body) }
	me := func(bearer string) request {
		return request{method: http.MethodGet, path: orgapi.PathMe, bearer: bearer}
	}
	register := func(bearer string) request { return launchBy(bearer) }
	handle := orgapi.CreateRequest{Handle: ofNorth}
	whole := mustJSON(t, goodLaunch())
	in := func(whole, old, new string) string {
		t.Helper()
		if !strings.Contains(whole, old) {
			t.Fatalf("%s does not hold %s", whole, old)
		}
		return strings.Replace(whole, old, new, 1)
	}

	// Forgeries of both kinds of token.
	issuer := jose.SigningKey{Algorithm: jose.ES256, Key: w.issuer.key}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&w.issuer.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: &w.issuer.key.PublicKey, KeyID: "issuer-1", Algorithm: "ES256", Use: "sig"})
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]map[string]any{"a person": w.claims(north), "an EHR": w.ehrClaims(nil)}
	forged := func(whose string, alg jose.SignatureAlgorithm, key any) string {
		return sign(t, jose.SigningKey{Algorithm: alg, Key: key}, "issuer-1", "at+jwt", of[whose])
	}
	handmade := func(whose, header, signature string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(mustJSON(t, of[whose]))) + "." + signature
	}
	signatureOf := func(token string) string { return token[strings.LastIndex(token, ".")+1:] }

	const (
		invalid  = problem.RequestInvalid
		nobody   = problem.Unauthorized
		mismatch = problem.ProviderMismatch
	)
	table := map[string][]badCall{
		"unknown field": {
			{"in a create", create(`{"handle":"` + ofNorth + `","patient":"` + canary + `"}`), 400, invalid},
			{"in a reopen", reopen(`{"external_provider_id":"D-17","external_encounter_id":"E-1","name":"` + canary + `"}`), 400, invalid},
			{"in a launch", launch(in(whole, `"E-1"`, `"E-1","mrn":"`+canary+`"`)), 400, invalid},
			{"in the demographics", launch(in(whole, `"pronouns":null`, `"pronouns":null,"ssn":"`+canary+`"`)), 400, invalid},
			{"with a name of its own", launch(in(whole, `"E-1"`, `"E-1","`+canary+`":"x"`)), 400, invalid},
			{"by its capitals", launch(in(whole, `"pronouns"`, `"Pronouns"`)), 400, invalid},
			{"twice the same", launch(in(whole, `"pronouns":null`, `"pronouns":null,"pronouns":"`+canary+`"`)), 400, invalid},
			{"instead of one that is missing", launch(in(whole, `"gender"`, `"sex"`)), 400, invalid},
		},
		"wrong type": {
			{"a number for a handle", create(`{"handle":1234567890123456789012345}`), 400, invalid},
			{"null for a handle", create(`{"handle":null}`), 400, invalid},
			{"a list for a handle", create(`{"handle":["` + ofNorth + `"]}`), 400, invalid},
			{"a number for an id", launch(in(whole, `"D-17"`, `17`)), 400, invalid},
			{"null for an id", launch(in(whole, `"P-1"`, `null`)), 400, invalid},
			{"a list for a name", launch(in(whole, `"Grace `+canary+`"`, `["`+canary+`"]`)), 400, invalid},
			{"a number for a date", launch(in(whole, `"1980-01-31"`, `19800131`)), 400, invalid},
			{"a truth for a gender", launch(in(whole, `"female"`, `true`)), 400, invalid},
			{"a list for the pronouns", launch(in(whole, `"pronouns":null`, `"pronouns":["`+canary+`"]`)), 400, invalid},
			{"an object for the text", launch(in(whole, mustJSON(t, *goodLaunch().UnstructuredContext), `{"text":"`+canary+`"}`)), 400, invalid},
			{"a text for the context", launch(in(whole, whole[strings.Index(whole, `{"patient_dem`):strings.Index(whole, `,"unstructured`)], `"`+canary+`"`)), 400, invalid},
			{"a list for the body", launch("[" + whole + "]"), 400, invalid},
			{"a form for the body", func() request {
				q := launch("name=" + canary)
				q.contentType = "application/x-www-form-urlencoded"
				return q
			}(), 415, invalid},
		},
		"out of bounds": {
			{"an id of 257 characters", launch(in(whole, `"P-1"`, `"`+strings.Repeat("é", 257)+`"`)), 400, invalid},
			{"an empty id", launch(in(whole, `"E-1"`, `""`)), 400, invalid},
			{"an address that is none", launch(in(whole, "ada@hospital.example", canary)), 400, invalid},
			{"a text of 701 characters", launch(in(whole, "Seen last week. ", strings.Repeat("é", 701))), 400, invalid},
			{"a name of 257 characters", launch(in(whole, "Grace ", strings.Repeat("é", 257-len(canary)))), 400, invalid},
			{"pronouns of 60 KB", launch(in(whole, `"pronouns":null`, `"pronouns":"`+strings.Repeat("x", 60<<10)+`"`)), 400, invalid},
			{"a name that turns the line round", launch(in(whole, "Grace ", `\u202e`)), 400, invalid},
			{"a new line in an id", launch(in(whole, `"P-1"`, `"P-1\n`+canary+`"`)), 400, invalid},
			{"a patient without a name", launch(in(whole, "Grace "+canary, " ")), 422, problem.ContextIncomplete},
			{"a patient without a date of birth", launch(in(whole, "1980-01-31", "")), 422, problem.ContextIncomplete},
			{"a patient without a gender", launch(in(whole, "female", "")), 422, problem.ContextIncomplete},
			{"a legacy text that says too little", launch(legacy("Name: " + canary)), 422, problem.ContextIncomplete},
		},
		"1 MB body": {
			{"in a create", create(`{"handle":"` + strings.Repeat(canary, 1<<20/len(canary)) + `"}`), 413, problem.RequestTooLarge},
			{"in a reopen", reopen(strings.Repeat(" ", 1<<20) + `{}`), 413, problem.RequestTooLarge},
			{"in a launch", launch(in(whole, canary, strings.Repeat(canary, 1<<20/len(canary)))), 413, problem.RequestTooLarge},
			{"one byte over 64 KiB", launch(whole + strings.Repeat(" ", orgapi.MaxRequestBytes+1-len(whole))), 413, problem.RequestTooLarge},
			{"of a stranger, who is not read", request{path: orgapi.PathLaunches, bearer: "x", body: strings.Repeat(" ", 1<<20)}, 401, nobody},
		},
		"bad UTF-8": {
			{"in a handle", create([]byte("{\"handle\":\"\xff" + ofNorth + "\"}")), 400, invalid},
			{"in a name", launch([]byte(in(whole, "Grace ", "Gr\xc3"))), 400, invalid},
			{"an overlong form", launch([]byte(in(whole, "Grace ", "\xc0\xaf"))), 400, invalid},
			{"a surrogate in bytes", launch([]byte(in(whole, "Grace ", "\xed\xa0\x80"))), 400, invalid},
			{"half a surrogate pair", launch(in(whole, "Grace ", `\ud800`)), 400, invalid},
			{"in the name of a field", launch([]byte(in(whole, `"pronouns"`, "\"pronouns\xff\""))), 400, invalid},
			{"UTF-16", launch([]byte("\xff\xfe{\x00}\x00")), 400, invalid},
			{"another charset", func() request {
				q := launch(whole)
				q.contentType = "application/json; charset=iso-8859-1"
				return q
			}(), 415, invalid},
			{"in the idempotency key", by(person(nil), "key-\xff"+canary, handle), 400, invalid},
			{"in the request id", func() request { q := create(handle); q.id = "id-\xff" + canary; return q }(), 400, invalid},
		},
		"wrong audience": {
			{"a person's", me(person(map[string]any{"aud": "another-api"})), 401, nobody},
			{"an ID token's", me(person(map[string]any{"aud": launcherID})), 401, nobody},
			{"none", me(person(map[string]any{"aud": nil})), 401, nobody},
			{"an EHR's", register(w.ehrToken(t, map[string]any{"aud": "another-api"})), 401, nobody},
			{"an EHR's client", register(w.ehrToken(t, map[string]any{"aud": ehrClient})), 401, nobody},
			{"of a signed request", by(person(nil), "key-bad", orgapi.CreateRequest{Request: w.signedRequest(t, map[string]any{"aud": "https://other.example"})}), 400, problem.LinkInvalid},
		},
		"expired token": {
			{"a person's", me(person(map[string]any{"exp": w.clock.now().Unix()})), 401, nobody},
			{"a person's without an end", me(person(map[string]any{"exp": nil})), 401, nobody},
			{"an EHR's", register(w.ehrToken(t, map[string]any{"exp": w.clock.now().Unix()})), 401, nobody},
			{"of next year", register(w.ehrToken(t, map[string]any{"nbf": w.clock.now().Add(8000 * time.Hour).Unix()})), 401, nobody},
			{"a signed request", by(person(nil), "key-bad", orgapi.CreateRequest{Request: w.signedRequest(t, map[string]any{"iat": w.clock.now().Add(-4 * time.Minute).Unix(), "exp": w.clock.now().Add(-time.Minute).Unix()})}), 410, problem.LinkExpired},
		},
		"unsigned token": {
			{"a person's by none", me(handmade("a person", `{"alg":"none","typ":"at+jwt"}`, "")), 401, nobody},
			{"a person's by None", me(handmade("a person", `{"alg":"None","kid":"issuer-1"}`, "")), 401, nobody},
			{"a person's cut off", me(handmade("a person", `{"alg":"ES256","kid":"issuer-1"}`, "")), 401, nobody},
			{"an EHR's by none", register(handmade("an EHR", `{"alg":"none","typ":"at+jwt"}`, "")), 401, nobody},
			{"an EHR's cut off", register(handmade("an EHR", `{"alg":"ES256","kid":"issuer-1"}`, "")), 401, nobody},
			{"a signed request", by(person(nil), "key-bad", orgapi.CreateRequest{Request: signed[:strings.LastIndex(signed, ".")+1]}), 400, problem.LinkInvalid},
		},
		"alg confusion": {
			{"HMAC by the public key (DER)", me(forged("a person", jose.HS256, der)), 401, nobody},
			{"HMAC by the public key (PEM)", me(forged("a person", jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))), 401, nobody},
			{"HMAC by the public key (JWK)", me(forged("a person", jose.HS256, jwk)), 401, nobody},
			{"HMAC for an EHR", register(forged("an EHR", jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))), 401, nobody},
			{"RSA under an elliptic key's name", me(forged("a person", jose.RS256, stranger)), 401, nobody},
			{"RSA for an EHR", register(forged("an EHR", jose.PS256, stranger)), 401, nobody},
			{"a good signature, another alg", me(handmade("a person", `{"alg":"ES384","kid":"issuer-1","typ":"at+jwt"}`, signatureOf(forged("a person", jose.ES256, w.issuer.key)))), 401, nobody},
			{"a key that came with the token", me(handmade("a person", `{"alg":"ES256","jwk":`+string(jwk)+`}`, signatureOf(forged("a person", jose.ES256, newKey(t))))), 401, nobody},
			{"keys at an address in the token", me(handmade("a person", `{"alg":"ES256","jku":"https://evil.example/keys"}`, signatureOf(forged("a person", jose.ES256, newKey(t))))), 401, nobody},
			{"another kind of token", me(sign(t, issuer, "issuer-1", "logout+jwt", of["a person"])), 401, nobody},
			{"a signed request by HMAC", by(person(nil), "key-bad", orgapi.CreateRequest{Request: w.requestBy(t, jose.HS256, der)}), 400, problem.LinkInvalid},
			{"a signed request by RSA", by(person(nil), "key-bad", orgapi.CreateRequest{Request: w.requestBy(t, jose.RS256, stranger)}), 400, problem.LinkInvalid},
		},
		"somebody else's token": {
			{"an EHR's for a clinician's", me(w.ehrToken(t, map[string]any{"email": "ada@hospital.example", "external_provider_id": "D-17", "tenant": "north"})), 401, nobody},
			{"a clinician's for an EHR's", register(person(map[string]any{"scope": "launches"})), 401, nobody},
			{"a person's of the EHR's client", register(w.ehrToken(t, map[string]any{"email": "ada@hospital.example"})), 401, nobody},
			{"an EHR's secret for a clinician's", me(ehrSecret), 401, nobody},
			{"an EHR's without the scope", register(w.ehrToken(t, map[string]any{"scope": "openid"})), 403, nobody},
		},
		"other tenant's handle": {
			{"south's in the north", create(orgapi.CreateRequest{Handle: ofSouth}), 403, mismatch},
			{"north's in the south", by(person(map[string]any{"tenant": "south"}), "key-bad", handle), 403, mismatch},
			{"north's signed request in the south", by(person(map[string]any{"tenant": "south"}), "key-bad", orgapi.CreateRequest{Request: signed}), 403, mismatch},
			{"north's encounter reopened in the south", request{path: orgapi.PathEncounterURL, bearer: person(map[string]any{"tenant": "south"}), key: "key-bad", body: orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: "E-1"}}, 403, mismatch},
			{"of somebody without a tenant", by(person(map[string]any{"tenant": nil}), "key-bad", handle), 403, problem.IdentityUnmapped},
		},
		"other provider": {
			{"by handle", by(person(map[string]any{"sub": "subject-2", "external_provider_id": "D-18"}), "key-bad", handle), 403, mismatch},
			{"by signed request", by(person(map[string]any{"sub": "subject-2", "external_provider_id": "D-18"}), "key-bad", orgapi.CreateRequest{Request: signed}), 403, mismatch},
			{"by another's signed request", create(orgapi.CreateRequest{Request: w.signedRequest(t, map[string]any{"jti": "x", "external_provider_id": "D-18"})}), 403, mismatch},
			{"of an encounter that was open", reopen(orgapi.ReopenRequest{ExternalProviderID: "D-18", ExternalEncounterID: "E-1"}), 403, mismatch},
			{"by identifiers", create(orgapi.CreateRequest{ExternalEncounterID: "E-1", ExternalPatientID: "P-1", ExternalProviderID: "D-17"}), 403, problem.LinkFormNotAllowed},
			{"who is not the EHR's", request{path: orgapi.PathLaunches, bearer: w.ehrToken(t, nil), body: in(whole, `"D-17"`, `"X-17"`)}, 403, mismatch},
		},
		"replay": {
			{"a handle by another key", by(person(nil), "key-other", orgapi.CreateRequest{Handle: spent}), 410, problem.HandleSpent},
			{"a handle by another person", by(person(map[string]any{"sub": "subject-2"}), "key-spent", orgapi.CreateRequest{Handle: spent}), 410, problem.HandleSpent},
			{"a key for another handle", by(person(nil), "key-spent", handle), 400, invalid},
			{"a handle that never was", create(orgapi.CreateRequest{Handle: strings.Repeat("Q", 32)}), 410, problem.HandleExpired},
		},
	}
	w.opened(t, by(person(nil), "key-spent", orgapi.CreateRequest{Handle: spent}))
	for item, calls := range table {
		for _, c := range calls {
			t.Run(item+"/"+c.what, func(t *testing.T) {
				w.refused(t, c.call, c.status, c.code)
			})
		}
	}
	// All of it had no effect: what was shown is still good for whom it is for, under
	// the very key of the bad calls.
	w.opened(t, create(handle))
	w.opened(t, by(person(map[string]any{"tenant": "south"}), "key-south", orgapi.CreateRequest{Handle: ofSouth}))
	w.opened(t, by(person(nil), "key-signed", orgapi.CreateRequest{Request: signed}))
	w.taken(t, register(w.ehrToken(t, nil)))
	w.loggedNothing(t, ofNorth, ofSouth, spent, signed, ehrSecret, southSecret)
}

func TestABadBodyIsToldWhichOfOurFieldsIsWrong(t *testing.T) {
	w := newWorld(t)
	whole := mustJSON(t, goodLaunch())
	for body, want := range map[string]string{
		strings.Replace(whole, `,"pronouns":null`, "", 1):            "The body cannot be taken: the field pronouns is missing.",
		strings.Replace(whole, `"1980-01-31"`, "1980", 1):            "The body cannot be taken: the field birth_date has the wrong type.",
		strings.Replace(whole, `"D-17"`, `"D-17","`+canary+`":1`, 1): "The body cannot be taken: it has an unknown field after the field external_provider_id.",
		strings.Replace(whole, "{", `{"`+canary+`":1,`, 1):           "The body cannot be taken: it has an unknown field at the beginning of an object.",
		whole[:len(whole)-1]: "The body cannot be taken: it is not JSON.",
	} {
		if p := w.refused(t, launchOf(body), http.StatusBadRequest, problem.RequestInvalid); p.Detail != want {
			t.Errorf("%q, want %q", p.Detail, want)
		}
	}
}

// requestBy signs the claims of a good signed request in another way.
func (w *world) requestBy(t *testing.T, alg jose.SignatureAlgorithm, key any) string {
	t.Helper()
	return sign(t, jose.SigningKey{Algorithm: alg, Key: key}, "link-1", requestType, map[string]any{
		"iss": linkIssuer, "aud": w.url, "iat": w.clock.now().Unix(), "exp": w.clock.now().Add(2 * time.Minute).Unix(), "jti": "jti-9",
		"external_encounter_id": "E-9", "external_patient_id": "P-1", "external_provider_id": "D-17",
	})
}

// loggedNothing finds what is nobody's business in the log: of the patient, of the
// persons, and words that are secret.
func (w *world) loggedNothing(t *testing.T, words ...string) {
	t.Helper()
	log := w.log.String()
	if !strings.Contains(log, `"msg":"call"`) {
		t.Fatalf("the log does not record calls: %s", log)
	}
	for _, word := range append(words, canary, "1980-01-31", "P-1", "E-1", "D-1", "ada@hospital", "subject-", "eyJ") {
		if strings.Contains(log, word) {
			t.Errorf("the log holds %q", word)
		}
	}
}

func TestAnAssertionThatNablaHasSeenIsNoAnswerToItsQuestion(t *testing.T) {
	w := newWorld(t)
	w.opened(t, w.byHandle(t, w.mint(t), "key-1"))
	w.mu.Lock()
	seen := w.asserted
	w.mu.Unlock()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.config.Nabla.BaseURL+"/oauth/token", strings.NewReader(string(seen)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusUnauthorized || !strings.Contains(string(answer), "jti was used before") {
		t.Errorf("%d %s", response.StatusCode, answer)
	}
	w.loggedNothing(t)
}

func TestBadCallbacks(t *testing.T) {
	w := newCallbackWorld(t)
	_, taken := w.take(t, "E-1")
	_, fresh := exportOf("E-2")
	at := func(age time.Duration) request {
		w.clock.advance(-age)
		defer w.clock.advance(age)
		return w.signed(fresh, nablaSecret)
	}
	unsigned := w.signed(fresh, nablaSecret)
	delete(unsigned.header, nabla.HeaderSignature)
	changed := w.signed(fresh, nablaSecret)
	changed.body = []byte(strings.Replace(string(fresh), "D-17", "D-18", 1))
	cut := w.signed(fresh, nablaSecret)
	cut.body = fresh[:len(fresh)-1]
	for _, c := range []badCall{
		{"replayed callback", w.signed(taken, nablaSecret), 409, problem.RequestInvalid},
		{"replayed callback under an earlier secret", w.signed(taken, earlierSecret), 409, problem.RequestInvalid},
		{"stale timestamp", at(61 * time.Second), 401, problem.Unauthorized},
		{"unsigned", unsigned, 401, problem.Unauthorized},
		{"signed by nobody we know", w.signed(fresh, ehrSecret), 401, problem.Unauthorized},
		{"changed after it was signed", changed, 401, problem.Unauthorized},
		{"truncated after it was signed", cut, 401, problem.Unauthorized},
		{"truncated before it was signed", w.signed(fresh[:len(fresh)-1], nablaSecret), 400, problem.RequestInvalid},
		{"an unknown type", w.signed([]byte(strings.Replace(string(fresh), nabla.NoteExport, "EVERYTHING", 1)), nablaSecret), 400, problem.RequestInvalid},
		{"wrong type", w.signed([]byte(strings.Replace(string(fresh), `"P-1"`, "1", 1)), nablaSecret), 400, problem.RequestInvalid},
		{"bad UTF-8", w.signed([]byte(strings.Replace(string(fresh), canary, canary+"\xff", 1)), nablaSecret), 400, problem.RequestInvalid},
	} {
		t.Run(c.what, func(t *testing.T) {
			w.refused(t, c.call, c.status, c.code)
		})
	}
	// None of them has marked it as seen.
	if got := w.do(t, w.signed(fresh, nablaSecret)); got.status != http.StatusOK {
		t.Errorf("the good callback: %d %s", got.status, got.body)
	}
	w.loggedNothing(t, nablaSecret, earlierSecret)
}

// wire is the real listener before the real backend, with little patience.
func (w *world) wire(t *testing.T, times patience) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	at, ended := make(chan net.Addr, 1), make(chan error, 1)
	cfg := w.config
	cfg.Listen = "127.0.0.1:0"
	go func() {
		ended <- serve(ctx, cfg, w.server, slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), func(a net.Addr) { at <- a }, times)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return (<-at).String()
}

// say writes a call by hand, and then drip again and again until the backend has had
// enough. It returns the answer, or io.EOF when the backend hung up without one.
func say(t *testing.T, address, text, drip string, end bool) (*http.Response, error) {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if end {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	reader := bufio.NewReader(c)
	for i := 0; drip != ""; i++ {
		// Waiting for an answer is what paces the drops.
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := reader.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if i == 3000 {
			t.Fatal("the backend listens for ever")
		}
		_, _ = io.WriteString(c, drip)
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the backend neither answers nor hangs up")
		}
		return nil, io.EOF
	}
	return response, nil
}

func TestBadInputOnTheWire(t *testing.T) {
	w := newWorld(t)
	address := w.wire(t, patience{header: 200 * time.Millisecond, read: 300 * time.Millisecond, write: 5 * time.Second, idle: 5 * time.Second, drain: 5 * time.Second, after: time.After})
	handle := w.mint(t)
	body := mustJSON(t, orgapi.CreateRequest{Handle: handle})
	head := func(path, bearer string, length int) string {
		return fmt.Sprintf("POST /launcher%s HTTP/1.1\r\nHost: backend\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nIdempotency-Key: key-1\r\nContent-Length: %d\r\n", path, bearer, length)
	}
	create := head(orgapi.PathEncounters, w.token(t, nil), len(body))
	chunked := strings.Replace(create, fmt.Sprintf("Content-Length: %d", len(body)), "Transfer-Encoding: chunked", 1)
	launch := mustJSON(t, goodLaunch())
	for _, c := range []struct {
		what, text, drip string
		end              bool
		// status 0: the backend hangs up without a word.
		status int
		code   problem.Code
	}{
		{"slowloris: a header that never ends", create + "X-Slow: ", "a", false, 0, ""},
		{"slowloris: headers without an end", create, "X-A: b\r\n", false, 0, ""},
		{"slowloris: nothing at all", "", "", false, 0, ""},
		{"slowloris: a body that never ends", head(orgapi.PathEncounters, w.token(t, nil), 60_000) + "\r\n" + body[:10], body[10:20], false, 408, problem.RequestInvalid},
		{"slowloris: a body that stops", create + "\r\n" + body[:10], "", false, 408, problem.RequestInvalid},
		{"slowloris: a body in crumbs", chunked + "\r\n", "1\r\n{\r\n", false, 408, problem.RequestInvalid},
		{"slowloris: a body of a stranger's", head(orgapi.PathLaunches, "x", len(launch)) + "\r\n" + launch[:10], "", false, 401, problem.Unauthorized},
		{"truncated body", create + "\r\n" + body[:len(body)-5], "", true, 400, problem.RequestInvalid},
		{"truncated body of an EHR's", head(orgapi.PathLaunches, ehrSecret, len(launch)) + "\r\n" + launch[:len(launch)-5], "", true, 400, problem.RequestInvalid},
		{"truncated body that is JSON without its rest", head(orgapi.PathLaunches, ehrSecret, len(launch)+1) + "\r\n" + launch, "", true, 400, problem.RequestInvalid},
		{"truncated body in chunks", chunked + "\r\n5\r\n" + body[:5] + "\r\n", "", true, 400, problem.RequestInvalid},
		{"chunks that are none", chunked + "\r\nxyz\r\n" + body, "", true, 400, problem.RequestInvalid},
	} {
		t.Run(c.what, func(t *testing.T) {
			response, err := say(t, address, c.text, c.drip, c.end)
			if c.status == 0 {
				if err == nil {
					t.Errorf("got %d", response.StatusCode)
				}
				return
			}
			if err != nil {
				t.Fatal("the backend hung up without an answer")
			}
			text, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			got := reply{response.StatusCode, response.Header, text}
			w.checkEveryAnswer(t, request{}, got)
			if p := got.problem(t); got.status != c.status || p.Code != c.code {
				t.Errorf("got %d %s, want %d %s", got.status, p.Code, c.status, c.code)
			}
		})
	}
	// Headers that are too many, and a line that is none, are refused before they are
	// a call: by net/http, in a text of its own.
	for what, c := range map[string]struct {
		text   string
		status int
	}{
		"64 KB of headers":         {create + "X-Much: " + strings.Repeat(canary, 64<<10/len(canary)) + "\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge},
		"a request that is none":   {canary + "\r\n\r\n", http.StatusBadRequest},
		"two lengths of one body":  {create + "Content-Length: 7\r\n\r\n" + body, http.StatusBadRequest},
		"a negative length":        {strings.Replace(create, "Content-Length: ", "Content-Length: -", 1) + "\r\n" + body, http.StatusBadRequest},
		"a space before the colon": {create + "X-A : b\r\n\r\n" + body, http.StatusBadRequest},
	} {
		t.Run(what, func(t *testing.T) {
			response, err := say(t, address, c.text, "", false)
			if err != nil {
				t.Fatal("the backend hung up without an answer")
			}
			text, _ := io.ReadAll(response.Body)
			if response.StatusCode != c.status || strings.Contains(string(text), canary) {
				t.Errorf("got %d %.100q", response.StatusCode, text)
			}
		})
	}
	// None of them has spent it, or the key.
	response, err := say(t, address, create+"\r\n"+body, "", false)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("the good call: %v", err)
	}
	w.loggedNothing(t, handle, ehrSecret)
}
