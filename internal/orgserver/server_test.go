package orgserver

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

func TestAHandleBecomesAnOneTimePageOfTheRightEncounter(t *testing.T) {
	w := newWorld(t)
	a := w.opened(t, w.byHandle(t, w.mint(t), "key-1"))
	if a.Encounter != (orgapi.Encounter{ExternalEncounterID: "E-1", ExternalProviderID: "D-17", Label: "Grace " + canary}) {
		t.Errorf("encounter %+v", a.Encounter)
	}
	if status := visit(t, a.EncounterURL); status != http.StatusOK {
		t.Errorf("the page answers %d", status)
	}
	pages := w.sim.Opened()
	if len(pages) != 1 || pages[0].ExternalEncounterID != "E-1" || pages[0].ProviderEmail != "ada@hospital.example" || pages[0].PatientName != "Grace "+canary {
		t.Errorf("opened %+v", pages)
	}
}

func TestTheSameKeyOfTheSameSubjectRedeemsAgainAndGetsANewURL(t *testing.T) {
	w := newWorld(t)
	q := w.byHandle(t, w.mint(t), "key-1")
	first, second := w.opened(t, q), w.opened(t, q)
	if first.EncounterURL == second.EncounterURL {
		t.Error("a one-time URL was replayed from store")
	}
}

func TestAnotherKeyFindsTheHandleSpent(t *testing.T) {
	w := newWorld(t)
	handle := w.mint(t)
	w.opened(t, w.byHandle(t, handle, "key-1"))
	w.refused(t, w.byHandle(t, handle, "key-2"), http.StatusGone, problem.HandleSpent)
	other := w.byHandle(t, handle, "key-1")
	other.bearer = w.token(t, map[string]any{"sub": "subject-2"})
	w.refused(t, other, http.StatusGone, problem.HandleSpent)
}

func TestAfterExpiryEveryAnswerIsHandleExpired(t *testing.T) {
	w := newWorld(t)
	fresh, spent := w.mint(t), w.mint(t)
	w.opened(t, w.byHandle(t, spent, "key-1"))
	w.clock.advance(10*time.Minute - time.Second)
	w.opened(t, w.byHandle(t, spent, "key-1"))
	w.clock.advance(time.Second)
	w.refused(t, w.byHandle(t, fresh, "key-2"), http.StatusGone, problem.HandleExpired)
	w.refused(t, w.byHandle(t, spent, "key-1"), http.StatusGone, problem.HandleExpired)
	w.refused(t, w.byHandle(t, spent, "key-3"), http.StatusGone, problem.HandleExpired)
	w.refused(t, w.byHandle(t, strings.Repeat("Q", 32), "key-4"), http.StatusGone, problem.HandleExpired)
}

func TestAnotherCliniciansClickNeverSpendsAHandle(t *testing.T) {
	w := newWorld(t)
	handle := w.mint(t)
	stranger := w.byHandle(t, handle, "key-x")
	stranger.bearer = w.token(t, map[string]any{"sub": "subject-2", "email": "ben@hospital.example", "external_provider_id": "D-18"})
	w.refused(t, stranger, http.StatusForbidden, problem.ProviderMismatch)
	w.opened(t, w.byHandle(t, handle, "key-1"))
	w.refused(t, stranger, http.StatusForbidden, problem.ProviderMismatch)
}

func TestOfAHundredRedeemersWithTwoKeysExactlyOneKeyWins(t *testing.T) {
	w := newWorld(t)
	handle := w.mint(t)
	token := w.token(t, nil)
	type outcome struct {
		key    string
		status int
		code   problem.Code
	}
	outcomes := make(chan outcome, 100)
	start := make(chan struct{})
	var group sync.WaitGroup
	for i := range 100 {
		key := fmt.Sprintf("key-%d", i%2)
		group.Go(func() {
			<-start
			got := w.do(t, request{path: orgapi.PathEncounters, bearer: token, key: key, body: orgapi.CreateRequest{Handle: handle}})
			o := outcome{key: key, status: got.status}
			if got.status >= 400 {
				o.code = got.problem(t).Code
			}
			outcomes <- o
		})
	}
	close(start)
	group.Wait()
	close(outcomes)
	won, lost := map[string]int{}, map[string]int{}
	for o := range outcomes {
		switch {
		case o.status == http.StatusOK:
			won[o.key]++
		case o.status == http.StatusGone && o.code == problem.HandleSpent:
			lost[o.key]++
		default:
			t.Errorf("key %s: %d %s", o.key, o.status, o.code)
		}
	}
	if len(won) != 1 || len(lost) != 1 {
		t.Fatalf("won %v, lost %v", won, lost)
	}
	for key, n := range won {
		if n != 50 || lost[key] != 0 {
			t.Errorf("the winning key won %d and lost %d of 50", n, lost[key])
		}
	}
}

func TestAFailureAtNablaLeavesTheHandleToTheSameKey(t *testing.T) {
	w := newWorld(t)
	handle := w.mint(t)
	w.failNabla(http.StatusNotImplemented)
	w.refused(t, w.byHandle(t, handle, "key-1"), http.StatusBadGateway, problem.VendorUnavailable)
	w.refused(t, w.byHandle(t, handle, "key-2"), http.StatusGone, problem.HandleSpent)
	w.failNabla(0)
	w.opened(t, w.byHandle(t, handle, "key-1"))
}

func TestAnIdempotencyKeyIsForOneRequest(t *testing.T) {
	w := newWorld(t)
	first, second := w.mint(t), w.mint(t)
	w.opened(t, w.byHandle(t, first, "key-1"))
	w.refused(t, w.byHandle(t, second, "key-1"), http.StatusBadRequest, problem.RequestInvalid)
	reopen := request{path: orgapi.PathEncounterURL, bearer: w.token(t, nil), key: "key-1", body: orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: "E-1"}}
	w.refused(t, reopen, http.StatusBadRequest, problem.RequestInvalid)
	// Another person's key of the same text is another key.
	other := w.byHandle(t, second, "key-1")
	other.bearer = w.token(t, map[string]any{"sub": "subject-2"})
	w.opened(t, other)
}

func TestAReopenedEncounterGetsAFreshURL(t *testing.T) {
	w := newWorld(t)
	first := w.opened(t, w.byHandle(t, w.mint(t), "key-1"))
	q := request{path: orgapi.PathEncounterURL, bearer: w.token(t, nil), key: "key-2", body: orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: "E-1"}}
	got := w.do(t, q)
	var a orgapi.ReopenAnswer
	if err := json.Unmarshal(got.body, &a); err != nil || got.status != http.StatusOK || a.EncounterURL == first.EncounterURL {
		t.Fatalf("%d %v", got.status, err)
	}
	if visit(t, a.EncounterURL) != http.StatusOK {
		t.Error("the fresh page does not open")
	}
	q.key, q.body = "key-3", orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: "E-404"}
	w.refused(t, q, http.StatusNotFound, problem.EncounterUnknown)
	q.body = orgapi.ReopenRequest{ExternalProviderID: "D-18", ExternalEncounterID: "E-1"}
	w.refused(t, q, http.StatusForbidden, problem.ProviderMismatch)
}

func TestAnEMailAddressOfAnotherUserAtNablaIsAConflict(t *testing.T) {
	w := newWorld(t)
	w.opened(t, w.byHandle(t, w.mint(t), "key-1"))
	q := w.byHandle(t, w.mint(t), "key-2")
	q.bearer = w.token(t, map[string]any{"email": "other@hospital.example"})
	w.refused(t, q, http.StatusConflict, problem.ProviderConflict)
}

func TestIdentifiersNeedPermissionAndACompleteContext(t *testing.T) {
	w := newWorld(t)
	ids := func(patient, provider string) request {
		return request{path: orgapi.PathEncounters, bearer: w.token(t, nil), key: "key-" + patient + provider, body: orgapi.CreateRequest{
			ExternalEncounterID: "E-5", ExternalPatientID: patient, ExternalProviderID: provider}}
	}
	if a := w.opened(t, ids("P-1", "D-17")); a.Encounter.ExternalEncounterID != "E-5" || a.Encounter.Label != "Grace "+canary {
		t.Errorf("%+v", a.Encounter)
	}
	w.refused(t, ids("P-2", "D-17"), http.StatusUnprocessableEntity, problem.ContextIncomplete)
	w.refused(t, ids("P-404", "D-17"), http.StatusUnprocessableEntity, problem.ContextIncomplete)
	w.refused(t, ids("P-1", "D-18"), http.StatusForbidden, problem.ProviderMismatch)

	w = newWorld(t, func(c *orgconfig.Config) { c.IdentifiersAllowed = false })
	w.refused(t, ids("P-1", "D-17"), http.StatusForbidden, problem.LinkFormNotAllowed)
	w = newWorld(t, func(c *orgconfig.Config) { c.ContextFile = "" })
	w.refused(t, ids("P-1", "D-17"), http.StatusServiceUnavailable, problem.ContextUnavailable)
}

func (w *world) signedRequest(t *testing.T, changes map[string]any) string {
	t.Helper()
	c := map[string]any{
		"iss": linkIssuer, "aud": w.url, "iat": w.clock.now().Unix(), "exp": w.clock.now().Add(2 * time.Minute).Unix(), "jti": "jti-1",
		"external_encounter_id": "E-9", "external_patient_id": "P-1", "external_provider_id": "D-17",
	}
	for k, v := range changes {
		if v == nil {
			delete(c, k)
			continue
		}
		c[k] = v
	}
	return sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: w.linkKey}, "link-1", requestType, c)
}

func (w *world) byRequest(t *testing.T, compact, key string) request {
	t.Helper()
	return request{path: orgapi.PathEncounters, bearer: w.token(t, nil), key: key, body: orgapi.CreateRequest{Request: compact}}
}

func TestTheIDOfASignedRequestCountsAsAHandleDoes(t *testing.T) {
	w := newWorld(t)
	compact := w.signedRequest(t, nil)
	w.opened(t, w.byRequest(t, compact, "key-1"))
	w.opened(t, w.byRequest(t, compact, "key-1"))
	w.refused(t, w.byRequest(t, compact, "key-2"), http.StatusGone, problem.HandleSpent)
	// A context that cannot be found spends nothing.
	other := w.signedRequest(t, map[string]any{"jti": "jti-2", "external_patient_id": "P-2"})
	w.refused(t, w.byRequest(t, other, "key-3"), http.StatusUnprocessableEntity, problem.ContextIncomplete)
	w.refused(t, w.byRequest(t, other, "key-4"), http.StatusUnprocessableEntity, problem.ContextIncomplete)
	w.clock.advance(3*time.Minute - time.Second)
	w.opened(t, w.byRequest(t, compact, "key-1"))
	w.clock.advance(time.Second)
	w.refused(t, w.byRequest(t, compact, "key-1"), http.StatusGone, problem.LinkExpired)
}

func TestASignedRequestIsRefusedForEveryFault(t *testing.T) {
	w := newWorld(t)
	now := w.clock.now()
	for name, changes := range map[string]map[string]any{
		"another audience":     {"aud": w.url + "/"},
		"two audiences":        {"aud": []string{w.url, "x"}},
		"unknown issuer":       {"iss": "another.example"},
		"no jti":               {"jti": nil},
		"empty jti":            {"jti": ""},
		"no iat":               {"iat": nil},
		"no exp":               {"exp": nil},
		"too long a life":      {"exp": now.Add(5*time.Minute + time.Second).Unix()},
		"iat in the future":    {"iat": now.Add(61 * time.Second).Unix(), "exp": now.Add(2 * time.Minute).Unix()},
		"exp before iat":       {"exp": now.Add(-time.Second).Unix()},
		"a name of a patient":  {"name": canary},
		"id of the wrong type": {"external_encounter_id": 5},
		"empty id":             {"external_patient_id": ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, w.byRequest(t, w.signedRequest(t, changes), "key-1"), http.StatusBadRequest, problem.LinkInvalid)
		})
	}
	good := w.signedRequest(t, nil)
	claims := strings.Split(good, ".")[1]
	var body map[string]any
	decoded, err := base64.RawURLEncoding.DecodeString(claims)
	if err != nil || json.Unmarshal(decoded, &body) != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&w.linkKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	for name, compact := range map[string]string{
		"another's key":       sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: newKey(t)}, "link-1", requestType, body),
		"another kid":         sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: w.linkKey}, "link-2", requestType, body),
		"another typ":         sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: w.linkKey}, "link-1", "JWT", body),
		"no typ":              sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: w.linkKey}, "link-1", "", body),
		"HMAC by public key":  sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: pemKey}, "link-1", requestType, body),
		"alg none":            base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"`+requestType+`","kid":"link-1"}`)) + "." + claims + ".",
		"not a JWS":           "abc.def",
		"signature cut short": good[:len(good)-4],
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, w.byRequest(t, compact, "key-1"), http.StatusBadRequest, problem.LinkInvalid)
		})
	}
	w.refused(t, w.byRequest(t, strings.Repeat("a", 2049), "key-1"), http.StatusBadRequest, problem.RequestInvalid)
	w.refused(t, w.byRequest(t, w.signedRequest(t, map[string]any{"external_provider_id": "D-18"}), "key-1"), http.StatusForbidden, problem.ProviderMismatch)
	// None of them has spent the id.
	w.opened(t, w.byRequest(t, good, "key-1"))

	w = newWorld(t, func(c *orgconfig.Config) { c.LinkKeysFile = "" })
	w.refused(t, w.byRequest(t, w.signedRequest(t, nil), "key-1"), http.StatusForbidden, problem.LinkFormNotAllowed)
}

func TestOnlyAnAccessTokenForThisBackendIsAccepted(t *testing.T) {
	w := newWorld(t)
	now := w.clock.now()
	key := jose.SigningKey{Algorithm: jose.ES256, Key: w.issuer.key}
	public, err := x509.MarshalPKIXPublicKey(&w.issuer.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	hmacWith := func(secret []byte) string {
		return sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: secret}, "issuer-1", "at+jwt", w.claims(nil))
	}
	payload, _ := json.Marshal(w.claims(nil))
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
	good := w.token(t, nil)
	for name, token := range map[string]string{
		"wrong audience":                w.token(t, map[string]any{"aud": "another-api"}),
		"the launcher's client id":      w.token(t, map[string]any{"aud": launcherID}),
		"no audience":                   w.token(t, map[string]any{"aud": nil}),
		"another issuer":                w.token(t, map[string]any{"iss": "https://evil.example"}),
		"expired this second":           w.token(t, map[string]any{"exp": now.Unix()}),
		"no expiry":                     w.token(t, map[string]any{"exp": nil}),
		"not valid before the end":      w.token(t, map[string]any{"nbf": 1e300}),
		"not valid yet":                 w.token(t, map[string]any{"nbf": now.Add(2 * time.Minute).Unix()}),
		"no subject":                    w.token(t, map[string]any{"sub": nil}),
		"an ID token by its nonce":      w.token(t, map[string]any{"nonce": "n"}),
		"an ID token by its at_hash":    w.token(t, map[string]any{"at_hash": "h"}),
		"an ID token by its use":        w.token(t, map[string]any{"token_use": "id"}),
		"a refresh token by its claim":  w.token(t, map[string]any{"typ": "Refresh"}),
		"another type":                  sign(t, key, "issuer-1", "logout+jwt", w.claims(nil)),
		"HMAC by the public key's DER":  hmacWith(public),
		"HMAC by the public key's PEM":  hmacWith(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		"alg none":                      none,
		"another's signature":           sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: newKey(t)}, "issuer-1", "at+jwt", w.claims(nil)),
		"unknown kid":                   sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: newKey(t)}, "issuer-2", "at+jwt", w.claims(nil)),
		"unsigned":                      good[:strings.LastIndex(good, ".")+1],
		"not a JWT":                     "opaque-token",
		"longer than a header may hold": strings.Repeat("a", maxTokenBytes+1),
	} {
		t.Run(name, func(t *testing.T) {
			p := w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: token}, http.StatusUnauthorized, problem.Unauthorized)
			if p.Detail != "" {
				t.Errorf("a refused token is told why: %s", p.Detail)
			}
		})
	}
	w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe}, http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, header: http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}}, http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: ehrSecret}, http.StatusUnauthorized, problem.Unauthorized)
	for name, token := range map[string]string{
		"at+jwt": good, "JWT": sign(t, key, "issuer-1", "JWT", w.claims(nil)), "no type": sign(t, key, "issuer-1", "", w.claims(nil)),
		"several audiences": w.token(t, map[string]any{"aud": []string{"account", testAudience}}),
	} {
		if got := w.do(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: token}); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

func TestMeSaysForWhomTheBackendTakesTheCaller(t *testing.T) {
	w := newWorld(t)
	got := w.do(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: w.token(t, nil)})
	var me orgapi.Me
	if err := json.Unmarshal(got.body, &me); err != nil || me != (orgapi.Me{Subject: "subject-1", ProviderEmail: "ada@hospital.example", ExternalProviderID: "D-17"}) {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestAnUnknownPersonIsNoClinician(t *testing.T) {
	w := newWorld(t)
	for name, changes := range map[string]map[string]any{
		"no provider id": {"external_provider_id": nil}, "no e-mail": {"email": nil}, "e-mail not verified": {"email_verified": false},
		"a number": {"external_provider_id": 17}, "empty": {"external_provider_id": ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: w.token(t, changes)}, http.StatusForbidden, problem.IdentityUnmapped)
		})
	}
	w = newWorld(t, func(c *orgconfig.Config) {
		c.MappingFile = filepath.Join(filepath.Dir(c.ContextFile), "people.yaml")
		text := "- {subject: subject-1, provider_email: mapped@hospital.example, external_provider_id: D-99}\n"
		if err := os.WriteFile(c.MappingFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	got := w.do(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: w.token(t, nil)})
	if !strings.Contains(string(got.body), "mapped@hospital.example") || !strings.Contains(string(got.body), "D-99") {
		t.Errorf("the mapping file does not decide: %s", got.body)
	}
	w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: w.token(t, map[string]any{"sub": "subject-2"})}, http.StatusForbidden, problem.IdentityUnmapped)
}

func TestInventedKeyIDsDoNotMakeUsAskTheIssuerAgainAndAgain(t *testing.T) {
	w := newWorld(t)
	me := func(token string) request { return request{method: http.MethodGet, path: orgapi.PathMe, bearer: token} }
	forged := sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: newKey(t)}, "invented", "at+jwt", w.claims(nil))
	for range 20 {
		w.refused(t, me(forged), http.StatusUnauthorized, problem.Unauthorized)
	}
	if w.issuer.asked != 1 {
		t.Errorf("the issuer was asked %d times", w.issuer.asked)
	}
	w.clock.advance(keysPause)
	w.issuer.mu.Lock()
	w.issuer.key, w.issuer.kid = newKey(t), "issuer-2"
	w.issuer.mu.Unlock()
	if got := w.do(t, me(w.token(t, nil))); got.status != http.StatusOK || w.issuer.asked != 2 {
		t.Errorf("after a rotation: %d, asked %d times", got.status, w.issuer.asked)
	}
}

func TestAWithdrawnKeyStopsWorking(t *testing.T) {
	w := newWorld(t)
	old := w.token(t, map[string]any{"exp": w.clock.now().Add(time.Hour).Unix()})
	me := request{method: http.MethodGet, path: orgapi.PathMe, bearer: old}
	if got := w.do(t, me); got.status != http.StatusOK {
		t.Fatal(got.status)
	}
	w.issuer.mu.Lock()
	w.issuer.key, w.issuer.kid = newKey(t), "issuer-2"
	w.issuer.mu.Unlock()
	w.clock.advance(keysAge)
	w.refused(t, me, http.StatusUnauthorized, problem.Unauthorized)
}

func TestAnIssuerThatIsDownIsNotABadToken(t *testing.T) {
	w := newWorld(t)
	w.issuer.down = true
	me := request{method: http.MethodGet, path: orgapi.PathMe, bearer: w.token(t, nil)}
	w.refused(t, me, http.StatusServiceUnavailable, problem.OrgUnreachable)
	w.issuer.mu.Lock()
	w.issuer.down = false
	w.issuer.mu.Unlock()
	w.clock.advance(failurePause)
	if got := w.do(t, me); got.status != http.StatusOK {
		t.Errorf("after the issuer came back: %d", got.status)
	}
}

func TestEveryBadBodyIsRefusedWithItsStatus(t *testing.T) {
	w := newWorld(t)
	handle := w.mint(t)
	token := w.token(t, nil)
	create := func(body any) request {
		return request{path: orgapi.PathEncounters, bearer: token, key: "key-1", body: body}
	}
	for name, body := range map[string]any{
		"empty":                       "",
		"not JSON":                    "handle=" + handle,
		"an array":                    `["` + handle + `"]`,
		"null":                        `null`,
		"an unknown field":            `{"handle":"` + handle + `","name":"` + canary + `"}`,
		"a field in capitals":         `{"HANDLE":"` + handle + `"}`,
		"the same field twice":        `{"handle":"x","handle":"` + handle + `"}`,
		"a number":                    `{"handle":12345678901234567890123}`,
		"null for a text":             `{"handle":null}`,
		"an object for a text":        `{"handle":{}}`,
		"something behind it":         `{"handle":"` + handle + `"} {}`,
		"cut off":                     `{"handle":"` + handle,
		"bytes that are not UTF-8":    []byte("{\"handle\":\"\xff\xfe" + handle + "\"}"),
		"half a surrogate pair":       `{"external_encounter_id":"\ud800","external_patient_id":"P-1","external_provider_id":"D-17"}`,
		"no form":                     `{}`,
		"two forms":                   `{"handle":"` + handle + `","request":"a.b.c"}`,
		"a form and one identifier":   `{"handle":"` + handle + `","external_patient_id":"P-1"}`,
		"two identifiers":             `{"external_encounter_id":"E-1","external_provider_id":"D-17"}`,
		"an identifier of 257":        `{"external_encounter_id":"` + strings.Repeat("é", 257) + `","external_patient_id":"P-1","external_provider_id":"D-17"}`,
		"a newline in an identifier":  `{"external_encounter_id":"E\n1","external_patient_id":"P-1","external_provider_id":"D-17"}`,
		"a short handle":              `{"handle":"abc"}`,
		"a handle with other letters": `{"handle":"` + strings.Repeat("+", 32) + `"}`,
		"a byte order mark":           "\ufeff" + `{"handle":"` + handle + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, create(body), http.StatusBadRequest, problem.RequestInvalid)
		})
	}
	w.refused(t, create(`{"handle":"`+strings.Repeat(" ", 1<<20)+`"}`), http.StatusRequestEntityTooLarge, problem.RequestTooLarge)
	q := create(orgapi.CreateRequest{Handle: handle})
	q.contentType = "text/plain"
	w.refused(t, q, http.StatusUnsupportedMediaType, problem.RequestInvalid)
	q.contentType, q.key = "", ""
	w.refused(t, q, http.StatusBadRequest, problem.RequestInvalid)
	q.key = strings.Repeat("k", 129)
	w.refused(t, q, http.StatusBadRequest, problem.RequestInvalid)
	q.key, q.id = "key-1", "a b"
	w.refused(t, q, http.StatusBadRequest, problem.RequestInvalid)
	// None of them has spent the handle or the key.
	w.opened(t, create(orgapi.CreateRequest{Handle: handle}))
}

func TestALaunchIsCheckedWhereTheEHRCanStillMendIt(t *testing.T) {
	w := newWorld(t)
	post := func(change func(*orgapi.LaunchRequest)) request {
		l := goodLaunch()
		change(&l)
		return request{path: orgapi.PathLaunches, bearer: ehrSecret, body: l}
	}
	long := strings.Repeat("é", 701)
	for name, change := range map[string]func(*orgapi.LaunchRequest){
		"no e-mail address":    func(l *orgapi.LaunchRequest) { l.ProviderEmail = "ada" },
		"a provider id of 257": func(l *orgapi.LaunchRequest) { l.ExternalProviderID = strings.Repeat("é", 257) },
		"an empty patient id":  func(l *orgapi.LaunchRequest) { l.ExternalPatientID = " " },
		"a control character":  func(l *orgapi.LaunchRequest) { l.ExternalEncounterID = "E\x7f1" },
		"701 characters":       func(l *orgapi.LaunchRequest) { l.UnstructuredContext = &long },
		"a name that turns":    func(l *orgapi.LaunchRequest) { l.StructuredContext.PatientDemographics.Name = "a\u202eb" },
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, post(change), http.StatusBadRequest, problem.RequestInvalid)
		})
	}
	for name, change := range map[string]func(*orgapi.LaunchRequest){
		"no name":          func(l *orgapi.LaunchRequest) { l.StructuredContext.PatientDemographics.Name = "" },
		"no date of birth": func(l *orgapi.LaunchRequest) { l.StructuredContext.PatientDemographics.BirthDate = "" },
		"no gender":        func(l *orgapi.LaunchRequest) { l.StructuredContext.PatientDemographics.Gender = " " },
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, post(change), http.StatusUnprocessableEntity, problem.ContextIncomplete)
		})
	}
	full, _ := json.Marshal(goodLaunch())
	w.refused(t, request{path: orgapi.PathLaunches, bearer: ehrSecret, body: strings.Replace(string(full), `"pronouns":null`, `"x":null`, 1)}, http.StatusBadRequest, problem.RequestInvalid)
	w.refused(t, request{path: orgapi.PathLaunches, bearer: ehrSecret, body: strings.Replace(string(full), `,"pronouns":null`, ``, 1)}, http.StatusBadRequest, problem.RequestInvalid)
	exact := strings.Repeat("é", 700)
	if got := w.do(t, post(func(l *orgapi.LaunchRequest) { l.UnstructuredContext = &exact })); got.status != http.StatusOK {
		t.Errorf("700 characters: %d", got.status)
	}
}

func TestOnlyAnEHRMayRegisterLaunches(t *testing.T) {
	w := newWorld(t)
	for name, bearer := range map[string]string{"nobody": "", "another": ehrSecret + "x", "a clinician": w.token(t, nil)} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, request{path: orgapi.PathLaunches, bearer: bearer, body: goodLaunch()}, http.StatusUnauthorized, problem.Unauthorized)
		})
	}
}

func TestWhatIsNotACallIsAProblemToo(t *testing.T) {
	w := newWorld(t)
	w.refused(t, request{path: "/nothing"}, http.StatusNotFound, problem.RequestInvalid)
	w.refused(t, request{path: "/encounters/"}, http.StatusNotFound, problem.RequestInvalid)
	w.refused(t, request{path: "/../launcher/me"}, http.StatusNotFound, problem.RequestInvalid)
	got := w.do(t, request{method: http.MethodDelete, path: orgapi.PathEncounters})
	if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != http.MethodPost || got.problem(t).Code != problem.RequestInvalid {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := w.do(t, request{method: http.MethodHead, path: orgapi.PathMe}); got.status != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %d", got.status)
	}
	for path, kind := range map[string]string{orgapi.PathOpenAPI: "application/yaml", PathJWKS: "application/jwk-set+json", PathHealth: "application/json"} {
		if got := w.do(t, request{method: http.MethodGet, path: path}); got.status != http.StatusOK || got.header.Get("Content-Type") != kind || len(got.body) == 0 {
			t.Errorf("%s: %d %s", path, got.status, got.header.Get("Content-Type"))
		}
	}
	if strings.Contains(string(w.server.JWKS()), `"d"`) {
		t.Error("a private key is published")
	}
}

func TestNothingOfALaunchReachesALogOrAFile(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	w := newWorld(t)
	handle := w.mint(t)
	a := w.opened(t, w.byHandle(t, handle, "key-1"))
	w.refused(t, w.byHandle(t, handle, "key-2"), http.StatusGone, problem.HandleSpent)
	spare := w.mint(t)
	token := w.token(t, nil)
	w.do(t, request{path: orgapi.PathEncounters + "/" + spare + "?handle=" + spare, bearer: token, key: "key-3"})
	secrets := []string{canary, handle, spare, a.EncounterURL, token, ehrSecret, "P-1", "E-1", "D-17", "ada@hospital", "subject-1"}
	log := w.log.String()
	if !strings.Contains(log, `"request_id":"call-7"`) || !strings.Contains(log, "handle_spent") {
		t.Fatalf("the log does not record calls: %s", log)
	}
	for _, secret := range secrets {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	err := filepath.WalkDir(temporary, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, secret := range secrets {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s holds %q", filepath.Base(path), secret)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(temporary)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d folders, %v", len(entries), err)
	}
	if info, err := entries[0].Info(); err != nil || (runtime.GOOS != "windows" && info.Mode().Perm() != 0o700) {
		t.Errorf("the store's folder has mode %v, %v", info.Mode(), err)
	}
	second, err := New(context.Background(), w.config, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(temporary); len(entries) != 1 {
		t.Errorf("%d folders are left after one of two servers was closed", len(entries))
	}
}

func TestTheConfigurationIsRefusedForEveryFault(t *testing.T) {
	w := newWorld(t)
	if err := Check(w.config); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(w.folder, "missing")
	short := write(t, w.folder, "short", "short\n")
	wrong := write(t, w.folder, "wrong.json", `{"keys":[{"kty":"oct","k":"AAAA","kid":"a","alg":"HS256","iss":"x"}]}`)
	for key, change := range map[string]func(*orgconfig.Config){
		"audience":           func(c *orgconfig.Config) { c.Audience = c.LauncherClientID },
		"audience: it is m":  func(c *orgconfig.Config) { c.Audience = "" },
		"launcher_client_id": func(c *orgconfig.Config) { c.LauncherClientID = "" },
		"issuer":             func(c *orgconfig.Config) { c.Issuer = "http://idp.example" },
		"public_url":         func(c *orgconfig.Config) { c.PublicURL += "/" },
		"listen":             func(c *orgconfig.Config) { c.Listen = "0.0.0.0:80" },
		"tls_cert_file":      func(c *orgconfig.Config) { c.TLSCertFile = "cert.pem" },
		"handle_life":        func(c *orgconfig.Config) { c.HandleLife = 5 * time.Minute },
		"link_scheme":        func(c *orgconfig.Config) { c.LinkScheme = "HTTP:" },
		"ehrs":               func(c *orgconfig.Config) { c.EHRs = append(c.EHRs, c.EHRs[0]) },
		"secret_file":        func(c *orgconfig.Config) { c.EHRs[0].SecretFile = short },
		"link_keys_file":     func(c *orgconfig.Config) { c.LinkKeysFile = wrong },
		"context_file":       func(c *orgconfig.Config) { c.ContextFile = missing },
		"mapping_file":       func(c *orgconfig.Config) { c.MappingFile = wrong },
		"nabla.key_files":    func(c *orgconfig.Config) { c.Nabla.KeyFiles = []string{short} },
		"nabla.region:":      func(c *orgconfig.Config) { c.Nabla.Region = "eu" },
	} {
		t.Run(key, func(t *testing.T) {
			c := w.config
			c.EHRs = append([]orgconfig.EHR(nil), c.EHRs...)
			change(&c)
			err := Check(c)
			if err == nil || !strings.Contains(err.Error(), key) {
				t.Fatalf("got %v", err)
			}
			if _, newErr := New(t.Context(), c, Deps{}); newErr == nil {
				t.Error("New takes what Check refuses")
			}
		})
	}
}

func TestAConfigurationFileIsStrictAndNamesTheLine(t *testing.T) {
	folder := t.TempDir()
	good := write(t, folder, "good.yaml", "listen: 127.0.0.1:8080\nhandle_life: 12m\nehrs:\n  - {name: a, secret_file: a.secret}\nnabla:\n  key_files: [k.pem]\n")
	c, err := orgconfig.Load(good)
	if err != nil || c.HandleLife != 12*time.Minute || c.EHRs[0].SecretFile != filepath.Join(folder, "a.secret") || c.Nabla.KeyFiles[0] != filepath.Join(folder, "k.pem") {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]string{
		"listen: a\nlissen: b\n":             "line 2",
		"listen: a\nlisten: b\n":             "line 2",
		"listen: a\n---\nlisten: b\n":        "more than one document",
		"":                                   "empty",
		"nabla:\n  client_secret: x\n":       "line 2",
		"handle_life: soon\n":                "line 1",
		strings.Repeat("# more\n", 1<<20/6):  "too large",
		"ehrs: {name: a}\nidentifiers: yes ": "line",
	} {
		_, err := orgconfig.Load(write(t, folder, "bad.yaml", text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
}
