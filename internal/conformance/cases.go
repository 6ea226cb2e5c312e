package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

// Where openapi.yaml says it.
const (
	everyCall = "info: rules for every call"
	onCreate  = "POST /encounters"
	onReopen  = "POST /encounters/url"
	onMe      = "GET /me"
	onLaunch  = "POST /launches"
	onEvents  = "GET /events"
	onHook    = "webhook nablaCallback"
	onToken   = "components: security scheme clinician"
	onServer  = "components: security scheme ehr"
	onKey     = "components: parameter Idempotency-Key"
	onDoc     = "GET /openapi.yaml"
)

var (
	clinician = []Need{NeedClinician}
	byEHR     = []Need{NeedClinician, NeedEHR}
	onlyEHR   = []Need{NeedEHR}
	signed    = []Need{NeedSecret}
)

// direct are the cases that ask something; each makes what it needs itself.
var direct = []Case{
	{"contract-is-served", "GET /openapi.yaml gives the contract that the backend keeps", onDoc, Should, nil,
		"Serve the document, so that people and tools find it where they find the backend.", contractIsServed},
	{"unknown-path", "a path that the contract does not know is 404, as a problem", everyCall, Must, nil,
		"Answer what no route takes with a problem too: the router's own page is not one.", unknownPath},
	{"other-method", "another method of a path is 405 with Allow, as a problem", everyCall, Must, nil,
		"Answer a wrong method with a problem too.", otherMethod},
	{"request-id-is-made", "a call without X-Request-Id gets one in its answer", everyCall, Must, nil,
		"Make an id where the caller sent none.", requestIDIsMade},
	{"request-id-is-judged", "an X-Request-Id that is not a word is refused, and is not sent back", everyCall, Must, clinician,
		"What goes into logs must not come from outside unlooked at.", requestIDIsJudged},

	{"me", "GET /me says for whom the clinician's token is taken", onMe, Must, clinician,
		"Map the token's claims to e-mail address and external_provider_id; see the backend's log for which is missing.", meAnswers},
	{"no-token", "a call without a token is 401", onToken, Must, nil,
		"Look at the token before anything else.", noToken},
	{"wrong-token", "a token that is none is 401", onToken, Must, nil,
		"Verify the token; never only read it.", wrongToken},
	{"token-signature", "a token whose signature was changed is 401", onToken, Must, clinician,
		"Verify the signature with the issuer's keys.", tokenSignature},
	{"token-claims", "a token whose claims were changed is 401", onToken, Must, clinician,
		"Verify the signature over the claims that are used.", tokenClaims},
	{"token-alg-none", "a token that says alg none is 401", onToken, Must, clinician,
		"Allow only the algorithms of the issuer's keys.", tokenAlgNone},
	{"token-alg-hs256", "a token that says HS256 is 401", onToken, Must, clinician,
		"Allow only the algorithms of the issuer's keys; a shared secret is never one.", tokenAlgHS256},
	{"token-expired", "a token that has expired is 401", onToken, Must, []Need{NeedExpired},
		"Look at exp, and at the clock of the server.", tokenExpired},
	{"id-token", "an ID token is no access token: 401", onToken, Must, []Need{NeedIDToken},
		"Ask for an audience of the backend's own, which is not the launcher's client id.", idToken},
	{"ehr-is-no-clinician", "an EHR server's credential is no clinician's: 401", onServer, Must, onlyEHR,
		"Keep the two kinds of callers apart.", ehrIsNoClinician},
	{"clinician-is-no-ehr", "a clinician's token may not register launches", onServer, Must, clinician,
		"Ask for the EHR's own credential on POST /launches.", clinicianIsNoEHR},

	{"body-unknown-field", "a body with an unknown field is 400", everyCall, Must, clinician,
		"Read strictly: what is not known may have been meant.", bodyCase(withField)},
	{"body-doubled-field", "a body with the same field twice is 400", everyCall, Must, clinician,
		"Most decoders take the last of two: look for the first, too.", bodyCase(withFieldTwice)},
	{"body-other-case", "a body with a field's name in capitals is 400", everyCall, Must, clinician,
		"Some decoders do not tell capitals: compare names exactly.", bodyCase(withCapitals)},
	{"body-missing-field", "a body without a field that it needs is 400", everyCall, Must, clinician,
		"Tell absent from empty.", bodyCase(withoutField)},
	{"body-wrong-type", "a body with a number for a text is 400", everyCall, Must, clinician,
		"Never convert types.", bodyCase(withNumber)},
	{"body-null", "a body with null for a text is 400", everyCall, Must, clinician,
		"Tell null from empty.", bodyCase(withNull)},
	{"body-behind", "a body with something behind the object is 400", everyCall, Must, clinician,
		"Read to the end.", bodyCase(func(b []byte) []byte { return append(b, `{"x":1}`...) })},
	{"body-bom", "a body with a byte order mark is 400", everyCall, Must, clinician,
		"JSON has none (RFC 8259 §8.1).", bodyCase(func(b []byte) []byte { return append([]byte("\xef\xbb\xbf"), b...) })},
	{"body-not-utf8", "a body that is not UTF-8 is 400", everyCall, Must, clinician,
		"Never mend bytes: a name that was mended is another.", bodyCase(withBadUTF8)},
	{"body-surrogate", "a body with half a surrogate pair is 400", everyCall, Must, clinician,
		"Never mend texts.", bodyCase(withSurrogate)},
	{"body-cut-off", "a body that is cut off is 400", everyCall, Must, clinician,
		"Act on nothing before the whole body was read.", bodyCase(func(b []byte) []byte { return b[:len(b)-2] })},
	{"body-not-an-object", "a body that is an array is 400", everyCall, Must, clinician,
		"Take objects only.", bodyCase(func(b []byte) []byte { return append(append([]byte("["), b...), ']') })},
	{"body-empty", "an empty body is 400", everyCall, Must, clinician,
		"Take objects only.", bodyCase(func([]byte) []byte { return nil })},
	{"body-too-large", "a body of more than 64 KiB is 413", everyCall, Must, clinician,
		"Bound the body before it is read.", bodyTooLarge},
	{"body-of-64-kib", "a body of exactly 64 KiB is taken", everyCall, Should, clinician,
		"The bound of the contract is 64 KiB, not less.", bodyOf64},
	{"content-type", "a body that says that it is not JSON is 415", everyCall, Must, clinician,
		"Take application/json only: a page of a browser cannot send that to another host unasked.", contentType},
	{"no-idempotency-key", "a create or reopen without Idempotency-Key is 400", onKey, Must, clinician,
		"Without the key a retry cannot be told from another click.", noKey},
	{"bad-idempotency-key", "an Idempotency-Key that is not a word of 128 characters is 400", onKey, Must, clinician,
		"Hold the header against its pattern.", badKey},

	{"no-form", "a create with no form is 400", onCreate, Must, clinician,
		"Exactly one of handle, request and the three identifiers.", noForm},
	{"two-forms", "a create with two forms is 400", onCreate, Must, clinician,
		"Exactly one of handle, request and the three identifiers.", twoForms},
	{"handle-form", "a handle of another form is 400", onCreate, Must, clinician,
		"Hold it against the pattern before looking for it.", handleForm},
	{"handle-unknown", "a handle that was never made is 410 handle_expired", onCreate, Must, clinician,
		"Whether one was ever made is nobody's business.", handleUnknown},
	{"request-not-signed", "a signed request that nobody signed is refused", onCreate, Must, clinician,
		"Verify requests by the keys agreed on; alg none is not one.", requestNotSigned},
	{"identifiers-of-another", "identifiers of another clinician are 403", onCreate, Must, clinician,
		"Compare the provider with the token's before anything else is looked up.", identifiersOfAnother},

	{"launch", "POST /launches gives a handle, a link with it, and how long it works", onLaunch, Must, byEHR,
		"See the log for why a launch is refused; handles are 22 to 64 letters, digits, - and _.", launchAnswers},
	{"launch-handles-differ", "two launches of one context have two handles", onLaunch, Must, byEHR,
		"Make each handle of at least 128 random bits.", launchesDiffer},
	{"launch-no-credential", "a launch without a credential is 401", onServer, Must, nil,
		"Only EHR servers may register launches.", launchNoCredential},
	{"launch-long-id", "an id of 256 characters is taken, one of 257 is 400", onLaunch, Must, byEHR,
		"Count characters, not bytes.", launchLongID},
	{"launch-long-text", "an unstructured_context of 700 characters is taken, one of 701 is 400", onLaunch, Must, byEHR,
		"Count characters, not bytes.", launchLongText},
	{"launch-long-name", "a patient's name of 256 characters is taken, one of 257 is 400", onLaunch, Must, byEHR,
		"Count characters, not bytes; what is kept for every link must be bounded.", launchLongName},
	{"launch-incomplete", "a launch whose patient has no name is 422 context_incomplete", onLaunch, Must, byEHR,
		"Tell the EHR at once what Nabla would refuse later.", launchIncomplete},

	{"create", "a handle is redeemed for a one-time URL and the encounter's ids", onCreate, Must, byEHR,
		"See the log for why; a vendor that is not there is 502.", create},
	{"create-again", "the same key redeems a handle again, for a fresh URL", onCreate, Must, byEHR,
		"Remember who redeemed a handle until it expires, and create again; never keep the URL.", createAgain},
	{"create-other-key", "another key gets 410 handle_spent", onCreate, Must, byEHR,
		"A handle is one click's.", createOtherKey},
	{"create-at-once", "of many who redeem a handle at once one succeeds", onCreate, Must, byEHR,
		"Redeem in one atomic step.", createAtOnce},
	{"key-of-another-request", "a key that was used for another request is 400", onKey, Must, byEHR,
		"Remember for each key a hash of the request.", keyOfAnotherRequest},
	{"handle-of-another", "a handle for another clinician is 403 provider_mismatch", onCreate, Must, byEHR,
		"Compare the provider before redeeming.", handleOfAnother},
	{"another-spends-nothing", "another clinician's click is 403, and the handle still works", onCreate, Must, []Need{NeedClinician, NeedOther, NeedEHR},
		"Compare the provider before redeeming.", anotherSpendsNothing},
	{"reopen", "an encounter is reopened through a fresh URL", onReopen, Must, byEHR,
		"Ask Nabla for a fresh URL each time.", reopen},
	{"reopen-of-another", "reopening another clinician's encounter is 403 provider_mismatch", onReopen, Must, clinician,
		"Compare the provider with the token's.", reopenOfAnother},
	{"reopen-unknown", "reopening an encounter that Nabla does not know is 404 encounter_unknown", onReopen, Must, clinician,
		"Tell unknown from unreachable.", reopenUnknown},

	{"events-no-token", "GET /events without a token is 401", onEvents, Must, nil,
		"A stream needs a token as every call does.", eventsNoToken},
	{"events-begin", "a stream of events begins within a second", onEvents, Must, clinician,
		"Send a comment at once and flush it; see that no proxy in between buffers.", eventsBegin},
	{"events-keep-alive", "a stream is never silent for more than 25 seconds", onEvents, Must, []Need{NeedClinician, NeedSlow},
		"Send a comment every 20 seconds.", eventsKeepAlive},

	{"callback", "a signed callback is answered 200 with its request_uuid", onHook, Must, signed,
		"Compare the secret, and that the HMAC is over the timestamp and the raw body.", callback},
	{"callback-instructions", "a callback with instructions is taken, too", onHook, Must, signed,
		"Both types of callback have to be known.", callbackInstructions},
	{"callback-rotation", "of several signatures one has to match", onHook, Must, signed,
		"During a rotation Nabla signs with two secrets.", callbackRotation},
	{"callback-replay", "a request_uuid that was seen is 409", onHook, Must, signed,
		"Remember request_uuids for longer than a timestamp is valid.", callbackReplay},
	{"callback-signature", "a callback with a wrong signature is 401", onHook, Must, signed,
		"Verify before anything is read.", callbackSignature},
	{"callback-unsigned", "a callback without a signature is 401", onHook, Must, nil,
		"Verify before anything is read.", callbackUnsigned},
	{"callback-changed", "a callback whose body was changed is 401", onHook, Must, signed,
		"The HMAC is over the raw body, byte for byte.", callbackChanged},
	{"callback-timestamp", "a callback whose timestamp was changed is 401", onHook, Must, signed,
		"The HMAC is over the timestamp, too.", callbackTimestamp},
	{"callback-stale", "a callback that was signed two minutes ago is 401", onHook, Must, signed,
		"Refuse what is older than 60 seconds, and look at the clock of the server.", callbackStale},
	{"callback-unknown-type", "a callback of an unknown type is 400", onHook, Must, signed,
		"Nabla is told so by 400, and by nothing else.", callbackUnknownType},
	{"callback-unreadable", "a signed callback that is not JSON is 400", onHook, Must, signed,
		"What cannot be read was not taken.", callbackUnreadable},
	{"events-exported", "the clinician's stream of events tells of an exported note", onEvents, Should, []Need{NeedClinician, NeedEHR, NeedSecret},
		"After a callback was delivered to the EHR, send encounter.exported with the ids.", eventsExported},
}

// overall are the cases that look back at every answer of the run; they come last.
var overall = []Case{
	{ruleNoStore, "every answer says no-store", everyCall, Must, nil,
		"Set Cache-Control: no-store on every answer, errors and those of a proxy in front included.", rule(ruleNoStore)},
	{ruleRequestID, "every answer carries the X-Request-Id of its call", everyCall, Must, nil,
		"Send the header back, on errors too.", rule(ruleRequestID)},
	{ruleProblem, "every error is application/problem+json with code and reference", everyCall, Must, nil,
		"See the schema Problem; errors of a proxy in front count.", rule(ruleProblem)},
	{ruleDescribed, "every answer is one that the contract describes", "the operations", Must, nil,
		"Compare the answer with its schema.", rule(ruleDescribed)},
	{rulePatient, "no problem tells anything of the patient", everyCall, Must, nil,
		"Write problems from fixed sentences; never quote what was sent.", rule(rulePatient)},
	{ruleSecret, "no problem holds a token, a handle or a one-time URL", everyCall, Must, nil,
		"Write problems from fixed sentences; never quote what was sent.", rule(ruleSecret)},
	{ruleContract, "answers name the version of the contract", "components: header Encounter-Launcher-Contract", Should, nil,
		"It is not required; encounter-launcher doctor reads it.", rule(ruleContract)},
}

func rule(name string) func(context.Context, *session) error {
	return func(_ context.Context, s *session) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.answers == 0 {
			return errNotTried{"an answer of the backend"}
		}
		if len(s.broken[name]) > 0 {
			return errors.New(strings.Join(s.broken[name], "; "))
		}
		return nil
	}
}

func contractIsServed(ctx context.Context, s *session) error {
	a, err := s.call(ctx, request{method: http.MethodGet, path: orgapi.PathOpenAPI})
	if err != nil {
		return err
	}
	if err := a.expect(http.StatusOK); err != nil {
		return err
	}
	if !bytes.Contains(a.body, []byte("openapi:")) || !bytes.Contains(a.body, []byte(orgapi.PathEncounterURL+":")) {
		return errors.New("what is served is not the contract")
	}
	return nil
}

func unknownPath(ctx context.Context, s *session) error {
	return s.refused(ctx, request{method: http.MethodGet, path: "/no-such-path-" + random(4)}, http.StatusNotFound, problem.RequestInvalid)
}

func otherMethod(ctx context.Context, s *session) error {
	a, err := s.call(ctx, request{method: http.MethodDelete, path: orgapi.PathEncounters})
	if err != nil {
		return err
	}
	if err := a.expect(http.StatusMethodNotAllowed, problem.RequestInvalid); err != nil {
		return err
	}
	if a.header.Get("Allow") != http.MethodPost {
		return errors.New("DELETE /encounters answered 405, and Allow is not POST")
	}
	return nil
}

func requestIDIsMade(ctx context.Context, s *session) error {
	a, err := s.call(ctx, request{method: http.MethodGet, path: orgapi.PathMe, noID: true})
	if err == nil && a.header.Get(orgapi.HeaderRequestID) == "" {
		err = errors.New("the answer has no X-Request-Id")
	}
	return err
}

func requestIDIsJudged(ctx context.Context, s *session) error {
	for _, id := range []string{"two words", strings.Repeat("x", 129), "<script>"} {
		a, err := s.call(ctx, request{method: http.MethodGet, path: orgapi.PathMe, token: s.Token.Reveal(), id: id})
		if err != nil {
			return err
		}
		if err := a.expect(http.StatusBadRequest, problem.RequestInvalid); err != nil {
			return err
		}
		if a.header.Get(orgapi.HeaderRequestID) == id {
			return errors.New("the X-Request-Id that is not a word was sent back")
		}
	}
	return nil
}

func meAnswers(ctx context.Context, s *session) error {
	a, err := s.call(ctx, request{method: http.MethodGet, path: orgapi.PathMe, token: s.Token.Reveal()})
	if err != nil {
		return err
	}
	if err := a.expect(http.StatusOK); err != nil {
		return err
	}
	if fault := schemaFault(s.doc.Components.Schemas["Me"].Value, a.body); fault != "" {
		return errors.New(fault)
	}
	var who orgapi.Me
	if err := json.Unmarshal(a.body, &who); err != nil {
		return errors.New("the body is not that of GET /me")
	}
	if s.ProviderID != "" && who.ExternalProviderID != s.ProviderID {
		return errors.New("the backend takes the clinician for another than --provider-id says")
	}
	return nil
}

// unauthorized asks for me with a token that has to be refused.
func (s *session) unauthorized(ctx context.Context, token string) error {
	return s.unauthorizedAt(ctx, request{method: http.MethodGet, path: orgapi.PathMe, token: token})
}

func (s *session) unauthorizedAt(ctx context.Context, q request) error {
	a, err := s.call(ctx, q)
	if err != nil {
		return err
	}
	if err := a.expect(http.StatusUnauthorized, problem.Unauthorized); err != nil {
		return err
	}
	if a.header.Get("WWW-Authenticate") == "" {
		return fmt.Errorf("%s answered 401 without WWW-Authenticate", a.where)
	}
	return nil
}

func noToken(ctx context.Context, s *session) error {
	for _, q := range []request{
		{method: http.MethodGet, path: orgapi.PathMe},
		{path: orgapi.PathEncounters, key: key(), body: orgapi.CreateRequest{Handle: random(16)}},
		{path: orgapi.PathEncounterURL, key: key(), body: orgapi.ReopenRequest{ExternalProviderID: "x", ExternalEncounterID: "x"}},
	} {
		if err := s.unauthorizedAt(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func wrongToken(ctx context.Context, s *session) error {
	for _, token := range []string{"x", random(32), "e30.e30.e30", "a.b.c"} {
		if err := s.unauthorized(ctx, token); err != nil {
			return err
		}
	}
	return nil
}

func tokenExpired(ctx context.Context, s *session) error {
	return s.unauthorized(ctx, s.ExpiredToken.Reveal())
}

func idToken(ctx context.Context, s *session) error { return s.unauthorized(ctx, s.IDToken.Reveal()) }

func ehrIsNoClinician(ctx context.Context, s *session) error {
	return s.unauthorized(ctx, s.EHRToken.Reveal())
}

func clinicianIsNoEHR(ctx context.Context, s *session) error {
	launch, err := s.launch(ctx)
	if err != nil {
		return err
	}
	a, err := s.call(ctx, request{base: s.EHRURL, path: orgapi.PathLaunches, token: s.Token.Reveal(), body: launch})
	if err != nil {
		return err
	}
	if a.status == http.StatusForbidden {
		return a.expect(http.StatusForbidden, problem.Unauthorized)
	}
	return a.expect(http.StatusUnauthorized, problem.Unauthorized)
}

// bodyCase sends a spoilt body in every call that has one, where the same body,
// unspoilt, would be answered otherwise.
func bodyCase(spoil func([]byte) []byte) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		calls, err := s.bodies(ctx)
		if err != nil {
			return err
		}
		for _, q := range calls {
			good, err := json.Marshal(q.body)
			if err != nil {
				return err
			}
			q.body = spoil(good)
			if err := s.refused(ctx, q, http.StatusBadRequest, problem.RequestInvalid); err != nil {
				return err
			}
		}
		return nil
	}
}

// bodies are calls whose bodies are good, and which have no effect.
func (s *session) bodies(ctx context.Context) ([]request, error) {
	launch, err := s.launch(ctx)
	if err != nil {
		return nil, err
	}
	calls := []request{
		s.byHandle(random(16), key()),
		{path: orgapi.PathEncounterURL, token: s.Token.Reveal(), key: key(), body: orgapi.ReopenRequest{
			ExternalProviderID: launch.ExternalProviderID, ExternalEncounterID: launch.ExternalEncounterID,
		}},
	}
	if !s.EHRToken.Empty() {
		calls = append(calls, request{base: s.EHRURL, path: orgapi.PathLaunches, token: s.EHRToken.Reveal(), body: launch})
	}
	return calls, nil
}

// The bodies of bodies are objects whose first field is a text.
func withField(b []byte) []byte { return append([]byte(`{"x":"y",`), b[1:]...) }

func first(b []byte) (name, value []byte, rest []byte) {
	colon := bytes.IndexByte(b, ':')
	end := colon + 2 + bytes.IndexByte(b[colon+2:], '"') + 1
	return b[1:colon], b[colon+1 : end], b[end:]
}

func withFieldTwice(b []byte) []byte {
	name, value, rest := first(b)
	return slices.Concat([]byte("{"), name, []byte(":"), value, []byte(","), name, []byte(":"), value, rest)
}

func withCapitals(b []byte) []byte {
	name, value, rest := first(b)
	return slices.Concat([]byte("{"), bytes.ToUpper(name), []byte(":"), value, rest)
}

func withoutField(b []byte) []byte {
	_, _, rest := first(b)
	return slices.Concat([]byte("{"), bytes.TrimPrefix(rest, []byte(",")))
}

func withValue(b, value []byte) []byte {
	name, _, rest := first(b)
	return slices.Concat([]byte("{"), name, []byte(":"), value, rest)
}

func withNumber(b []byte) []byte { return withValue(b, []byte("17")) }
func withNull(b []byte) []byte   { return withValue(b, []byte("null")) }

func withBadUTF8(b []byte) []byte {
	_, value, _ := first(b)
	return withValue(b, slices.Concat(value[:len(value)-1], []byte("\xff\"")))
}

func withSurrogate(b []byte) []byte {
	_, value, _ := first(b)
	return withValue(b, slices.Concat(value[:len(value)-1], []byte(`\ud83d"`)))
}

func bodyTooLarge(ctx context.Context, s *session) error {
	calls, err := s.bodies(ctx)
	if err != nil {
		return err
	}
	for _, q := range calls {
		good, err := json.Marshal(q.body)
		if err != nil {
			return err
		}
		q.body = append(good, bytes.Repeat([]byte(" "), orgapi.MaxRequestBytes+1-len(good))...)
		if err := s.refused(ctx, q, http.StatusRequestEntityTooLarge, problem.RequestTooLarge); err != nil {
			return err
		}
	}
	return nil
}

func bodyOf64(ctx context.Context, s *session) error {
	q := s.byHandle(random(16), key())
	good, err := json.Marshal(q.body)
	if err != nil {
		return err
	}
	q.body = append(good, bytes.Repeat([]byte(" "), orgapi.MaxRequestBytes-len(good))...)
	return s.refused(ctx, q, http.StatusGone, problem.HandleExpired)
}

func contentType(ctx context.Context, s *session) error {
	calls, err := s.bodies(ctx)
	if err != nil {
		return err
	}
	for _, q := range calls {
		for _, q.kind = range []string{"text/plain", "application/x-www-form-urlencoded"} {
			if err := s.refused(ctx, q, http.StatusUnsupportedMediaType, problem.RequestInvalid); err != nil {
				return err
			}
		}
	}
	return nil
}

func noKey(ctx context.Context, s *session) error { return s.withKeys(ctx, "") }

func badKey(ctx context.Context, s *session) error {
	return s.withKeys(ctx, "two words", strings.Repeat("k", 129), "<key>")
}

func (s *session) withKeys(ctx context.Context, keys ...string) error {
	calls, err := s.bodies(ctx)
	if err != nil {
		return err
	}
	for _, q := range calls[:2] {
		for _, q.key = range keys {
			if err := s.refused(ctx, q, http.StatusBadRequest, problem.RequestInvalid); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) create(body any) request {
	return request{path: orgapi.PathEncounters, token: s.Token.Reveal(), key: key(), body: body}
}

func noForm(ctx context.Context, s *session) error {
	return s.refused(ctx, s.create("{}"), http.StatusBadRequest, problem.RequestInvalid)
}

func twoForms(ctx context.Context, s *session) error {
	return s.refused(ctx, s.create(orgapi.CreateRequest{Handle: random(16), Request: "a.b.c"}), http.StatusBadRequest, problem.RequestInvalid)
}

func handleForm(ctx context.Context, s *session) error {
	for _, handle := range []string{random(10), random(33), random(16) + "!", random(16) + "\n"} {
		if err := s.refused(ctx, s.create(orgapi.CreateRequest{Handle: handle}), http.StatusBadRequest, problem.RequestInvalid); err != nil {
			return err
		}
	}
	return nil
}

func handleUnknown(ctx context.Context, s *session) error {
	return s.refused(ctx, s.create(orgapi.CreateRequest{Handle: random(16)}), http.StatusGone, problem.HandleExpired)
}

func requestNotSigned(ctx context.Context, s *session) error {
	launch, err := s.launch(ctx)
	if err != nil {
		return err
	}
	for _, q := range []string{"a.b.c", unsignedRequest(s, launch)} {
		a, err := s.call(ctx, s.create(orgapi.CreateRequest{Request: q}))
		if err != nil {
			return err
		}
		// A backend may take no signed requests at all.
		if a.status == http.StatusForbidden {
			err = a.expect(http.StatusForbidden, problem.LinkFormNotAllowed)
		} else {
			err = a.expect(http.StatusBadRequest, problem.LinkInvalid, problem.RequestInvalid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func identifiersOfAnother(ctx context.Context, s *session) error {
	launch, err := s.launch(ctx)
	if err != nil {
		return err
	}
	return s.refused(ctx, s.create(orgapi.CreateRequest{
		ExternalEncounterID: launch.ExternalEncounterID, ExternalPatientID: s.patientID, ExternalProviderID: "CONF-OTHER-" + random(4),
	}), http.StatusForbidden, problem.ProviderMismatch, problem.LinkFormNotAllowed)
}

func launchAnswers(ctx context.Context, s *session) error {
	launch, err := s.launch(ctx)
	if err != nil {
		return err
	}
	a, err := s.register(ctx, launch)
	if err != nil {
		return err
	}
	if err := a.expect(http.StatusOK); err != nil {
		return err
	}
	if fault := schemaFault(s.doc.Components.Schemas["LaunchAnswer"].Value, a.body); fault != "" {
		return errors.New(fault)
	}
	var made orgapi.LaunchAnswer
	if err := json.Unmarshal(a.body, &made); err != nil {
		return errors.New("the answer is not that of POST /launches")
	}
	s.remember(made.Handle)
	switch {
	case !strings.HasSuffix(made.Link, "://launch?handle="+made.Handle):
		return errors.New("the link is not scheme://launch?handle= and the handle")
	case made.ExpiresIn <= 300:
		return errors.New("the handle does not work for longer than the five minutes for which a launcher may hold a link")
	}
	return nil
}

func launchesDiffer(ctx context.Context, s *session) error {
	launch, one, err := s.minted(ctx)
	if err != nil {
		return err
	}
	two, err := s.mint(ctx, launch)
	if err == nil && one == two {
		err = errors.New("the same context has the same handle again")
	}
	return err
}

func launchNoCredential(ctx context.Context, s *session) error {
	note := s.patientNote
	return s.unauthorizedAt(ctx, request{base: s.EHRURL, path: orgapi.PathLaunches, body: orgapi.LaunchRequest{
		ProviderEmail: "nobody@hospital.example", ExternalProviderID: "CONF-NOBODY", ExternalPatientID: s.patientID, ExternalEncounterID: "CONF-E-" + random(8),
		StructuredContext:   orgapi.StructuredContext{PatientDemographics: orgapi.Demographics{Name: s.patientName, BirthDate: "1980-01-31", Gender: "female"}},
		UnstructuredContext: &note,
	}})
}

// bounded registers a launch that is just inside a bound and one that is outside.
func (s *session) bounded(ctx context.Context, change func(l *orgapi.LaunchRequest, text string), longest int) error {
	for extra := range 2 {
		launch, err := s.launch(ctx)
		if err != nil {
			return err
		}
		change(&launch, strings.Repeat("é", longest+extra))
		a, err := s.register(ctx, launch)
		if err != nil {
			return err
		}
		if extra == 0 {
			err = a.expect(http.StatusOK)
		} else {
			err = a.expect(http.StatusBadRequest, problem.RequestInvalid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func launchLongID(ctx context.Context, s *session) error {
	return s.bounded(ctx, func(l *orgapi.LaunchRequest, text string) { l.ExternalEncounterID = text }, orgapi.MaxIdentifierRunes)
}

func launchLongText(ctx context.Context, s *session) error {
	return s.bounded(ctx, func(l *orgapi.LaunchRequest, text string) { l.UnstructuredContext = &text }, orgapi.MaxUnstructuredContextRunes)
}

func launchLongName(ctx context.Context, s *session) error {
	return s.bounded(ctx, func(l *orgapi.LaunchRequest, text string) { l.StructuredContext.PatientDemographics.Name = text }, orgapi.MaxDemographicRunes)
}

func launchIncomplete(ctx context.Context, s *session) error {
	launch, err := s.launch(ctx)
	if err != nil {
		return err
	}
	launch.StructuredContext.PatientDemographics.Name = ""
	a, err := s.register(ctx, launch)
	if err != nil {
		return err
	}
	return a.expect(http.StatusUnprocessableEntity, problem.ContextIncomplete)
}

func create(ctx context.Context, s *session) error {
	launch, handle, err := s.minted(ctx)
	if err != nil {
		return err
	}
	made, err := s.created(ctx, handle, key())
	switch {
	case err != nil:
		return err
	case made.Encounter.ExternalEncounterID != launch.ExternalEncounterID || made.Encounter.ExternalProviderID != launch.ExternalProviderID:
		return errors.New("the answer names another encounter or provider")
	case len(made.Encounter.Label) > orgapi.MaxLabelBytes:
		return errors.New("the label has more than 256 bytes")
	}
	return s.oneTime(made.EncounterURL)
}

func createAgain(ctx context.Context, s *session) error {
	_, handle, err := s.minted(ctx)
	if err != nil {
		return err
	}
	k := key()
	one, err := s.created(ctx, handle, k)
	if err != nil {
		return err
	}
	two, err := s.created(ctx, handle, k)
	if err == nil && one.EncounterURL == two.EncounterURL {
		err = errors.New("the same one-time URL was given twice, so it was kept")
	}
	return err
}

func createOtherKey(ctx context.Context, s *session) error {
	_, handle, err := s.minted(ctx)
	if err != nil {
		return err
	}
	if _, err := s.created(ctx, handle, key()); err != nil {
		return err
	}
	return s.refused(ctx, s.byHandle(handle, key()), http.StatusGone, problem.HandleSpent)
}

// atOnce is how many redeem one handle at the same time.
const atOnce = 8

func createAtOnce(ctx context.Context, s *session) error {
	_, handle, err := s.minted(ctx)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	answers, faults := make([]answer, atOnce), make([]error, atOnce)
	for i := range atOnce {
		group.Go(func() { answers[i], faults[i] = s.call(ctx, s.byHandle(handle, key())) })
	}
	group.Wait()
	if err := errors.Join(faults...); err != nil {
		return err
	}
	done := 0
	for _, a := range answers {
		if a.status == http.StatusOK {
			done++
			continue
		}
		if err := a.expect(http.StatusGone, problem.HandleSpent); err != nil {
			return err
		}
	}
	if done != 1 {
		return fmt.Errorf("%d of %d redeemed it", done, atOnce)
	}
	return nil
}

func keyOfAnotherRequest(ctx context.Context, s *session) error {
	_, one, err := s.minted(ctx)
	if err != nil {
		return err
	}
	_, two, err := s.minted(ctx)
	if err != nil {
		return err
	}
	k := key()
	if _, err := s.created(ctx, one, k); err != nil {
		return err
	}
	return s.refused(ctx, s.byHandle(two, k), http.StatusBadRequest, problem.RequestInvalid)
}

func handleOfAnother(ctx context.Context, s *session) error {
	launch, err := s.launch(ctx)
	if err != nil {
		return err
	}
	launch.ProviderEmail, launch.ExternalProviderID = "another@hospital.example", "CONF-OTHER-"+random(4)
	handle, err := s.mint(ctx, launch)
	if err != nil {
		return errNotTried{"an EHR server that may register launches for any provider"}
	}
	return s.refused(ctx, s.byHandle(handle, key()), http.StatusForbidden, problem.ProviderMismatch)
}

func anotherSpendsNothing(ctx context.Context, s *session) error {
	_, handle, err := s.minted(ctx)
	if err != nil {
		return err
	}
	q := s.byHandle(handle, key())
	q.token = s.OtherToken.Reveal()
	if err := s.refused(ctx, q, http.StatusForbidden, problem.ProviderMismatch); err != nil {
		return err
	}
	_, err = s.created(ctx, handle, key())
	return err
}

func reopen(ctx context.Context, s *session) error {
	launch, handle, err := s.minted(ctx)
	if err != nil {
		return err
	}
	made, err := s.created(ctx, handle, key())
	if err != nil {
		return err
	}
	a, err := s.call(ctx, s.reopening(launch.ExternalProviderID, launch.ExternalEncounterID))
	if err != nil {
		return err
	}
	if err := a.expect(http.StatusOK); err != nil {
		return err
	}
	var again orgapi.ReopenAnswer
	if json.Unmarshal(a.body, &again) != nil || again.EncounterURL == "" {
		return fmt.Errorf("%s answered without an encounter_url", a.where)
	}
	s.remember(again.EncounterURL)
	if again.EncounterURL == made.EncounterURL {
		return errors.New("the same one-time URL was given twice, so it was kept")
	}
	return s.oneTime(again.EncounterURL)
}

func (s *session) reopening(providerID, encounterID string) request {
	return request{path: orgapi.PathEncounterURL, token: s.Token.Reveal(), key: key(), body: orgapi.ReopenRequest{
		ExternalProviderID: providerID, ExternalEncounterID: encounterID,
	}}
}

func reopenOfAnother(ctx context.Context, s *session) error {
	return s.refused(ctx, s.reopening("CONF-OTHER-"+random(4), "CONF-E-"+random(8)), http.StatusForbidden, problem.ProviderMismatch)
}

func reopenUnknown(ctx context.Context, s *session) error {
	who, err := s.me(ctx)
	if err != nil {
		return err
	}
	return s.refused(ctx, s.reopening(who.ExternalProviderID, "CONF-E-"+random(8)), http.StatusNotFound, problem.EncounterUnknown)
}
