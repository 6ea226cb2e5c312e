package orgserver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// signedBytes is a compact JWS of header and payload as they are, by EdDSA, which
// signs the same the same, with one bit of its signature turned where flip is not 0.
func signedBytes(key ed25519.PrivateKey, header, payload []byte, flip uint16) string {
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature := ed25519.Sign(key, []byte(text))
	if flip > 0 {
		bit := int(flip) % (8 * len(signature))
		signature[bit/8] ^= 1 << (bit % 8)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// members walks a JSON text by tokens: an object, each of its names once, nothing
// after it.
func members(text []byte) (map[string]json.RawMessage, bool) {
	if !json.Valid(text) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	all := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		var raw json.RawMessage
		if err != nil || d.Decode(&raw) != nil {
			return nil, false
		}
		if _, twice := all[name.(string)]; twice {
			return nil, false
		}
		all[name.(string)] = raw
	}
	return all, true
}

func str(raw json.RawMessage) (string, bool) {
	var s string
	return s, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
}

func num(raw json.RawMessage) (float64, bool) {
	var n float64
	return n, len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9') && json.Unmarshal(raw, &n) == nil
}

// names reports whether aud is the audience, or a list with it.
func names(raw json.RawMessage, audience string, onlyOne bool) bool {
	if one, ok := str(raw); ok {
		return one == audience
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || onlyOne && len(list) != 1 {
		return false
	}
	for _, item := range list {
		if one, ok := str(item); ok && one == audience {
			return true
		}
	}
	return false
}

var ourWords = regexp.MustCompile(`^[A-Za-z][A-Za-z ,;:'_-]*$`)

// FuzzAccessToken: whatever the issuer's key signs, a token is taken only when its
// header names that key and a type of access tokens, and when its claims, each there
// once and by its exact name, are of this issuer, for this backend, of now, with a
// subject, and not those of an ID token. What is refused is unauthorized in our words.
func FuzzAccessToken(f *testing.F) {
	const issuer, audience = "https://idp.example", testAudience
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	tokens := &accessTokens{
		issuer: issuer, audience: audience, now: func() time.Time { return now }, http: &http.Client{Transport: nobody{}},
		keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "issuer-1", Algorithm: "EdDSA", Use: "sig"}}, generation: 1, fetched: now, tried: now,
	}
	good := map[string]any{
		"iss": issuer, "aud": audience, "sub": "subject-1", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"email": "ada@hospital.example", "external_provider_id": "D-17",
	}
	text := func(changes map[string]any) []byte {
		all := map[string]any{}
		for _, from := range []map[string]any{good, changes} {
			for k, v := range from {
				if all[k] = v; v == nil {
					delete(all, k)
				}
			}
		}
		b, err := json.Marshal(all)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	const header = `{"alg":"EdDSA","kid":"issuer-1","typ":"at+jwt"}`
	for _, changes := range []map[string]any{
		nil, {"nonce": "n"}, {"aud": []string{"a", audience}}, {"token_use": "id"}, {"typ": "Bearer"}, {"nbf": now.Add(2 * time.Minute).Unix()}, {"exp": now.Unix()},
		{"sub": nil, "SUB": "x"}, {"exp": now.Unix() - 1, "Exp": now.Add(time.Hour).Unix()}, {"iss": nil, "Iss": issuer}, {"sub": ""}, {"exp": 1e300}, {"AT_HASH": "x"}, {"nbf": nil, "Nbf": 1},
	} {
		f.Add([]byte(header), text(changes), uint16(0))
	}
	f.Add([]byte(header), bytes.Replace(text(nil), []byte(`{`), []byte(`{"sub":"another",`), 1), uint16(0))
	f.Add([]byte(header), text(nil), uint16(3))
	for _, h := range []string{`{"alg":"none"}`, `{"alg":"HS256","kid":"issuer-1"}`, `{"alg":"EdDSA"}`, `{"alg":"EdDSA","kid":"other"}`, `{"alg":"EdDSA","typ":"JWT","crit":["x"],"x":1}`, `{"alg":"EdDSA","typ":"secevent+jwt"}`, `{"alg":"EdDSA","alg":"EdDSA"}`} {
		f.Add([]byte(h), text(nil), uint16(0))
	}
	f.Fuzz(func(t *testing.T, header, payload []byte, flip uint16) {
		token := secret.New(signedBytes(key, header, payload, flip))
		found, err := tokens.examine(t.Context(), token, audience)
		h, hOK := members(header)
		p, pOK := members(payload)
		alg, _ := str(h["alg"])
		kid, kidOK := str(h["kid"])
		typ, typOK := str(h["typ"])
		typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
		headerOK := hOK && alg == "EdDSA" && (h["kid"] == nil || kidOK && (kid == "issuer-1" || kid == "")) && (h["typ"] == nil || typOK && (typ == "at+jwt" || typ == "jwt")) && h["crit"] == nil
		iss, _ := str(p["iss"])
		sub, subOK := str(p["sub"])
		exp, expOK := num(p["exp"])
		nbf, nbfOK := num(p["nbf"])
		claimsOK := pOK && iss == issuer && names(p["aud"], audience, false) && subOK && sub != "" && expOK && math.Floor(exp) > float64(now.Unix()) &&
			(p["nbf"] == nil || nbfOK && math.Floor(nbf) <= float64(now.Unix()+60))
		for _, of := range []string{"nonce", "at_hash", "c_hash"} {
			claimsOK = claimsOK && p[of] == nil
		}
		if use, ok := str(p["token_use"]); p["token_use"] != nil && (!ok || !strings.EqualFold(use, "access")) {
			claimsOK = false
		}
		if err == nil {
			if flip > 0 || !headerOK || !claimsOK {
				t.Fatalf("taken: %s %s, %d", header, payload, flip)
			}
			for name, raw := range p {
				if !bytes.Equal(found.claims[name], raw) {
					t.Fatalf("%s of %s is %s", name, payload, found.claims[name])
				}
			}
			// And the same claims are nobody's in another's name, for another backend, or later.
			for _, other := range []*accessTokens{
				{issuer: issuer + "x", now: tokens.now, http: tokens.http, keys: tokens.keys, fetched: now, tried: now},
				{issuer: issuer, now: func() time.Time { return time.Unix(int64(exp), 0) }, http: tokens.http, keys: tokens.keys, fetched: time.Unix(int64(exp), 0), tried: time.Unix(int64(exp), 0)},
			} {
				if _, err := other.examine(t.Context(), token, audience); err == nil {
					t.Fatalf("taken elsewhere or later: %s", payload)
				}
			}
			if _, err := tokens.examine(t.Context(), token, audience+"x"); err == nil && !names(p["aud"], audience+"x", false) {
				t.Fatalf("taken for another audience: %s", payload)
			}
			return
		}
		if problem.CodeOf(err) != problem.Unauthorized || !ourWords.MatchString(problem.Of(err).Unwrap().Error()) {
			t.Fatalf("refused with %v", problem.Of(err).LogValue())
		}
	})
}

// nobody is an issuer that must not be asked.
type nobody struct{}

func (nobody) RoundTrip(*http.Request) (*http.Response, error) { return nil, context.Canceled }

// FuzzSignedRequest: whatever is signed, a request is taken exactly when it is signed
// by the key of its issuer, for this backend, of its time, and holds the eight claims,
// each once and by its exact name.
func FuzzSignedRequest(f *testing.F) {
	const audience = "https://backend.example/api"
	key, ecdsa := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), newKey(f)
	keys := requestKeys{
		{"ehr", "k"}: {jose.EdDSA, key.Public()}, {"another", "k"}: {jose.ES256, &ecdsa.PublicKey}, {"ehr", "e"}: {jose.ES256, &ecdsa.PublicKey},
	}
	const at = int64(1_800_000_000)
	const header = `{"alg":"EdDSA","kid":"k","typ":"encounter-launch+jwt"}`
	claims := `{"iss":"ehr","aud":"` + audience + `","iat":1800000000,"exp":1800000300,"jti":"4f1c","external_encounter_id":"E","external_patient_id":"P","external_provider_id":"D"}`
	for _, c := range []string{
		claims, strings.Replace(claims, `"ehr"`, `"another"`, 1), strings.Replace(claims, `"iss"`, `"ISS"`, 1), strings.Replace(claims, `{`, `{"external_patient_id":"Q",`, 1),
		strings.Replace(claims, `{`, `{"Jti":"5",`, 1), strings.Replace(claims, `{`, `{"name":"Grace",`, 1), strings.Replace(claims, `"P"`, `"\ud800"`, 1), strings.Replace(claims, "1800000300", "1.8000003e9", 1),
		strings.Replace(claims, "1800000300", "1800000301", 1), claims + "{}", strings.Replace(claims, `"4f1c"`, `null`, 1), strings.Replace(claims, audience, audience+"/x", 1), strings.Replace(claims, `"`+audience+`"`, `["`+audience+`","x"]`, 1),
	} {
		f.Add([]byte(header), []byte(c), uint16(0), int64(0))
	}
	f.Add([]byte(header), []byte(claims), uint16(7), int64(0))
	for _, later := range []int64{-61, -60, 359, 360} {
		f.Add([]byte(header), []byte(claims), uint16(0), later)
	}
	for _, h := range []string{`{"alg":"ES256","kid":"e","typ":"encounter-launch+jwt"}`, `{"alg":"EdDSA","kid":"k"}`, `{"alg":"EdDSA","kid":"k","typ":"JWT"}`, `{"alg":"EdDSA","kid":"k","typ":"encounter-launch+jwt","crit":["b64"],"b64":false}`} {
		f.Add([]byte(h), []byte(claims), uint16(0), int64(0))
	}
	f.Fuzz(func(t *testing.T, header, payload []byte, flip uint16, later int64) {
		now := time.Unix(at+later%(1<<31), 0)
		compact := signedBytes(key, header, payload, flip)
		got, err := keys.verify(compact, audience, now)
		h, hOK := members(header)
		p, pOK := members(payload)
		alg, _ := str(h["alg"])
		kid, _ := str(h["kid"])
		typ, _ := str(h["typ"])
		ok := hOK && pOK && alg == "EdDSA" && kid == "k" && typ == "encounter-launch+jwt" && h["crit"] == nil && flip == 0 && len(p) == 8
		var want signedRequest
		for name, into := range map[string]*string{"iss": &want.issuer, "jti": &want.id, "external_encounter_id": &want.encounterID, "external_patient_id": &want.patientID, "external_provider_id": &want.providerID} {
			s, isText := str(p[name])
			*into = s
			ok = ok && isText && strings.TrimSpace(s) != "" && len([]rune(s)) <= 256 && !strings.ContainsRune(s, utf8.RuneError)
			for _, r := range s {
				ok = ok && (name == "jti" || !unicode.Is(unicode.Cc, r) && r != '\u2028' && r != '\u2029' && (r < '\u202a' || r > '\u202e') && (r < '\u2066' || r > '\u2069'))
			}
		}
		iat, ok1 := num(p["iat"])
		exp, ok2 := num(p["exp"])
		iat, exp = math.Floor(iat), math.Floor(exp)
		ok = ok && ok1 && ok2 && want.issuer == "ehr" && len(want.id) <= 256 && names(p["aud"], audience, true) && iat >= 0 && exp > iat && exp-iat <= 300 &&
			float64(now.Unix()+60) >= iat && float64(now.Unix()) < exp+60
		if err == nil && !ok {
			t.Fatalf("taken at %v: %s %s", now, header, payload)
		}
		if err != nil {
			var none signedRequest
			if code := problem.CodeOf(err); got != none || code != problem.LinkInvalid && code != problem.LinkExpired {
				t.Fatalf("refused with %v, %+v", err, got)
			}
			if c := problem.Of(err).Unwrap(); c != nil && !ourWords.MatchString(c.Error()) {
				t.Fatalf("an error that is not in our words: %q", c)
			}
			// What the workstation takes must not be refused here.
			if ok && len(h) == 3 {
				t.Fatalf("refused at %v: %s %s: %v", now, header, payload, problem.Of(err).LogValue())
			}
			return
		}
		if want.until = time.Unix(int64(exp)+60, 0); got != want {
			t.Fatalf("%s was read as %+v", payload, got)
		}
	})
}

// mended reports whether half a surrogate pair was read as U+FFFD.
func mended(raw json.RawMessage, s string) bool {
	return strings.ContainsRune(s, utf8.RuneError) && !bytes.ContainsRune(raw, utf8.RuneError) && !bytes.Contains(bytes.ToLower(raw), []byte(`\ufffd`))
}

// FuzzLaunches sends bodies to POST /launches of the real handler: a body is taken
// exactly when it holds what the contract asks for, and then the handle leads to just
// that; what is refused leaves nothing in the store, and neither answer nor log says
// anything of a patient.
func FuzzLaunches(f *testing.F) {
	w := newWorld(f, func(c *orgconfig.Config) { c.Limits.EHRPerMinute = 10_000_000 })
	good, err := json.Marshal(goodLaunch())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "application/json")
	f.Add(good, "application/json; charset=utf-16")
	for _, change := range [][2]string{
		{`"P-1"`, `" "`}, {`"P-1"`, `"\ud800"`}, {`"P-1"`, `"a\u202eb"`}, {`"pronouns":null`, `"pronouns":""`}, {`"1980-01-31"`, `""`}, {`"D-17"`, `"D-17","D-17":1`},
		{"provider_email", "Provider_Email"}, {"}", "}}"}, {`"female"`, `"` + strings.Repeat("é", 257) + `"`}, {"ada@", "@"},
	} {
		f.Add(bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1), "application/json")
	}
	f.Add([]byte(`{"provider_email":"a@b","external_provider_id":"D","external_patient_id":"P","external_encounter_id":"E","unstructured_context":"Name: Grace\nDOB: 1980-01-31\nSex: f"}`), "Application/JSON;charset=UTF-8")
	handles := 0
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		if len(body) > orgapi.MaxRequestBytes || strings.Contains(contentType, canary) {
			return
		}
		w.clock.advance(time.Second) // handles come to their end
		w.log.mu.Lock()
		w.log.b.Reset()
		w.log.mu.Unlock()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/launcher"+orgapi.PathLaunches, bytes.NewReader(body))
		r.Header = http.Header{"Authorization": {"Bearer " + ehrSecret}, "Content-Type": {contentType}}
		rec := httptest.NewRecorder()
		w.server.ServeHTTP(rec, r)
		got := reply{rec.Code, rec.Header(), rec.Body.Bytes()}
		w.checkEveryAnswer(t, request{}, got)
		if log := w.log.String(); strings.Contains(log, canary) || strings.Contains(log, "Grace") {
			t.Fatalf("the log tells of the patient: %s", log)
		}
		kind, parameters, _ := strings.Cut(contentType, ";")
		isJSON := strings.EqualFold(strings.TrimSpace(kind), "application/json") && (strings.TrimSpace(parameters) == "" || strings.EqualFold(strings.ReplaceAll(strings.TrimSpace(parameters), `"`, ""), "charset=utf-8"))
		want, ok := launchIn(body)
		if got.status == http.StatusOK != (ok && isJSON) {
			t.Fatalf("%d for %q, %s: %s", got.status, contentType, body, got.body)
		}
		if got.status != http.StatusOK {
			if got.status >= 500 {
				t.Fatalf("%d for %s", got.status, body)
			}
			p := got.problem(t)
			if !ourFact.MatchString(p.Detail) {
				t.Fatalf("refused in words that are not ours: %q", p.Detail)
			}
			return
		}
		handles++
		var a orgapi.LaunchAnswer
		if err := json.Unmarshal(got.body, &a); err != nil || a.Link != "encounter-launcher://launch?handle="+a.Handle || !handleForm.MatchString(a.Handle) {
			t.Fatalf("%s", got.body)
		}
		ticket, err := w.server.handles.Look(t.Context(), a.Handle)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := json.Marshal(ticket.Request)
		if err != nil || string(kept) != want {
			t.Fatalf("%s was kept as %s, not %s, %v", body, kept, want, err)
		}
	})
	if handles == 0 {
		f.Log("no body was taken")
	}
}

var handleForm = regexp.MustCompile(`^[A-Za-z0-9_-]{22,64}$`)

// ourFact is what a refused body is told: the names of our fields are in it, nothing
// of the body.
var ourFact = regexp.MustCompile(`^[A-Za-z0-9/ _,.:;“”…'’()-]*$`)

// launchIn reads a body by the tokens of encoding/json and says what is to be kept.
func launchIn(body []byte) (string, bool) {
	all, ok := members(body)
	if !ok || !utf8.Valid(body) {
		return "", false
	}
	texts := map[string]string{}
	for _, name := range []string{"provider_email", "external_provider_id", "external_patient_id", "external_encounter_id"} {
		s, isText := str(all[name])
		if !isText || mended(all[name], s) {
			return "", false
		}
		texts[name] = s
		delete(all, name)
	}
	for _, name := range []string{"external_provider_id", "external_patient_id", "external_encounter_id"} {
		if n := len([]rune(texts[name])); strings.TrimSpace(texts[name]) == "" || n > 256 || !calm(texts[name]) {
			return "", false
		}
	}
	if at := strings.Split(texts["provider_email"], "@"); len(at) != 2 || at[0] == "" || at[1] == "" || strings.Contains(texts["provider_email"], " ") || len(texts["provider_email"]) > 320 || !calm(texts["provider_email"]) {
		return "", false
	}
	l := orgapi.LaunchRequest{ProviderEmail: texts["provider_email"], ExternalProviderID: texts["external_provider_id"], ExternalPatientID: texts["external_patient_id"], ExternalEncounterID: texts["external_encounter_id"]}
	if raw, there := all["unstructured_context"]; there && string(raw) != "null" {
		s, isText := str(raw)
		if !isText || mended(raw, s) || len([]rune(s)) > 700 || strings.Contains(s, "\x00") {
			return "", false
		}
		l.UnstructuredContext = &s
	}
	delete(all, "unstructured_context")
	details := map[string]string{}
	if raw, there := all["structured_context"]; there {
		outer, ok := members(raw)
		inner, ok2 := members(outer["patient_demographics"])
		if !ok || !ok2 || len(outer) != 1 || len(all) != 1 {
			return "", false
		}
		pronouns, there := inner["pronouns"]
		if !there || len(inner) != 4 {
			return "", false
		}
		if string(pronouns) == "null" {
			delete(inner, "pronouns")
		}
		for _, name := range []string{"name", "birth_date", "gender", "pronouns"} {
			if raw, there := inner[name]; there {
				s, isText := str(raw)
				if !isText || mended(raw, s) {
					return "", false
				}
				details[name] = s
				delete(inner, name)
			} else if name != "pronouns" {
				return "", false
			}
		}
		if len(inner) != 0 && pronouns == nil {
			return "", false
		}
	} else if len(all) != 0 || l.UnstructuredContext == nil {
		return "", false
	} else {
		labels := map[string]string{"name": "name", "patient name": "name", "birth date": "birth_date", "date of birth": "birth_date", "dob": "birth_date", "gender": "gender", "sex": "gender", "pronouns": "pronouns"}
		for _, line := range strings.Split(*l.UnstructuredContext, "\n") {
			i := strings.IndexByte(line, ':')
			if i < 0 {
				continue
			}
			name, value := labels[strings.ToLower(strings.TrimSpace(line[:i]))], strings.TrimSpace(line[i+1:])
			if name == "" || value == "" {
				continue
			}
			if details[name] != "" || strings.Contains(value, ":") {
				return "", false
			}
			details[name] = value
		}
		if _, err := time.Parse(time.DateOnly, details["birth_date"]); err != nil {
			return "", false
		}
	}
	for name, s := range details {
		if !calm(s) || len([]rune(s)) > 256 || name != "pronouns" && strings.TrimSpace(s) == "" {
			return "", false
		}
	}
	for _, name := range []string{"name", "birth_date", "gender"} {
		if details[name] == "" {
			return "", false
		}
	}
	l.StructuredContext.PatientDemographics = orgapi.Demographics{Name: details["name"], BirthDate: details["birth_date"], Gender: details["gender"]}
	if p, there := details["pronouns"]; there {
		l.StructuredContext.PatientDemographics.Pronouns = &p
	}
	kept, err := json.Marshal(l)
	return string(kept), err == nil
}

// calm reports that nothing breaks out of a line or turns it round.
func calm(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
	})
}
