package launch

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/problem"
)

const backend = "https://backend.example/api"

var noon = time.Unix(1_800_000_000, 0)

type testKeys struct {
	es256, other *ecdsa.PrivateKey
	eddsa        ed25519.PrivateKey
	rs256        *rsa.PrivateKey
}

func newTestKeys(t testing.TB) testKeys {
	t.Helper()
	es256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, eddsa, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs256, err := rsa.GenerateKey(rand.Reader, minRSABits)
	if err != nil {
		t.Fatal(err)
	}
	return testKeys{es256, other, eddsa, rs256}
}

type object = map[string]any

func validHeader(alg string) object {
	return object{"alg": alg, "kid": strings.ToLower(alg), "typ": "encounter-launch+jwt"}
}

func validClaims() object {
	return object{
		"iss": "ehr", "aud": backend, "iat": noon.Unix(), "exp": noon.Unix() + 300, "jti": "4f1c",
		"external_encounter_id": "E-canary", "external_patient_id": "P-canary", "external_provider_id": "D-canary",
	}
}

// with returns a copy with one member changed, or removed where value is nil.
func with(o object, name string, value any) object {
	o = maps.Clone(o)
	if value == nil {
		delete(o, name)
	} else {
		o[name] = value
	}
	return o
}

func encode(t testing.TB, v any) string {
	t.Helper()
	if text, ok := v.(string); ok {
		return base64.RawURLEncoding.EncodeToString([]byte(text))
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// sign signs by hand, so that headers and claims may be what no library would
// write. header and claims are objects, or the JSON text itself.
func sign(t testing.TB, key crypto.Signer, header, claims any) string {
	t.Helper()
	input := encode(t, header) + "." + encode(t, claims)
	sum := sha256.Sum256([]byte(input))
	var signature []byte
	var err error
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, signErr := ecdsa.Sign(rand.Reader, key, sum[:])
		signature, err = make([]byte, 64), signErr
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
	case ed25519.PrivateKey:
		signature = ed25519.Sign(key, []byte(input))
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	default:
		err = fmt.Errorf("no such key: %T", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// jwk is a key as the policy holds it.
func jwk(t testing.TB, key crypto.PublicKey, kid, alg, iss string) object {
	t.Helper()
	b, err := jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: alg, Use: "sig"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var o object
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	if iss != "" {
		o["iss"] = iss
	}
	return o
}

func keySet(t testing.TB, keys ...object) []byte {
	t.Helper()
	b, err := json.Marshal(object{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (k testKeys) set(t testing.TB) []byte {
	return keySet(t,
		jwk(t, k.es256.Public(), "es256", "ES256", "ehr"),
		jwk(t, k.eddsa.Public(), "eddsa", "EdDSA", "ehr"),
		jwk(t, k.rs256.Public(), "rs256", "RS256", "ehr"),
		jwk(t, k.other.Public(), "other", "ES256", "another-ehr"),
	)
}

func requestLink(compact string) string { return testScheme + "://launch?request=" + compact }

func mustRules(t testing.TB, forms []string, keys []byte) Rules {
	t.Helper()
	r, err := NewRules(forms, keys, backend)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustParse(t testing.TB, link string) Request {
	t.Helper()
	r, err := Parse(testScheme, link)
	if err != nil {
		t.Fatalf("%v: %v", err, problem.Of(err).LogValue())
	}
	return r
}

func TestASignedRequestOfEachAlgorithmIsAcceptedOnce(t *testing.T) {
	keys := newTestKeys(t)
	rules := mustRules(t, []string{"request"}, keys.set(t))
	for alg, key := range map[string]crypto.Signer{"ES256": keys.es256, "EdDSA": keys.eddsa, "RS256": keys.rs256} {
		compact := sign(t, key, validHeader(alg), validClaims())
		r := mustParse(t, requestLink(compact))
		checkPrintsBack(t, requestLink(compact), r)
		checkUnprintable(t, r, compact, "canary", "4f1c")
		once, err := rules.Check(noon, r)
		if err != nil {
			t.Errorf("%s: %v", alg, problem.Of(err).LogValue())
			continue
		}
		if want := (Once{"ehr", "4f1c", noon.Add(6 * time.Minute)}); once.Issuer != want.Issuer || once.ID != want.ID || !once.Until.Equal(want.Until) {
			t.Errorf("%s: got %+v", alg, once)
		}
		if e, p, d := r.Identifiers(); e+p+d != "" || r.SignedRequest().Reveal() != compact {
			t.Errorf("%s: a signed request gives more than itself", alg)
		}
	}
}

func TestTheAudienceMayBeAListOfExactlyOne(t *testing.T) {
	keys := newTestKeys(t)
	rules := mustRules(t, []string{"request"}, keys.set(t))
	r := mustParse(t, requestLink(sign(t, keys.es256, validHeader("ES256"), with(validClaims(), "aud", []string{backend}))))
	if _, err := rules.Check(noon, r); err != nil {
		t.Error(err)
	}
}

func TestARequestOfAnotherShapeIsRefusedWithoutClockOrPolicy(t *testing.T) {
	key := newTestKeys(t).es256
	header, claims := validHeader("ES256"), validClaims()
	good := sign(t, key, header, claims)
	parts := strings.Split(good, ".")
	text := func(o object) string { b, _ := json.Marshal(o); return string(b) }
	cases := map[string]string{
		"two parts":               parts[0] + "." + parts[1],
		"four parts":              good + ".",
		"five parts, encrypted":   "a.b.c.d.e",
		"no signature":            parts[0] + "." + parts[1] + ".",
		"no header":               "." + parts[1] + "." + parts[2],
		"detached":                parts[0] + ".." + parts[2],
		"padding":                 parts[0] + "." + parts[1] + "." + parts[2] + "==",
		"standard alphabet":       strings.Replace(good, parts[2], parts[2]+"%2B%2F", 1),
		"JSON serialisation":      "%7B%7D",
		"trailing bits":           parts[0] + "." + parts[1] + ".AB",
		"header: a list":          sign(t, key, "[]", claims),
		"header: null":            sign(t, key, "null", claims),
		"header: bad UTF-8":       sign(t, key, strings.Replace(text(header), "es256", "es\xff256", 1), claims),
		"header: text after it":   sign(t, key, text(header)+"{}", claims),
		"header: twice alg":       sign(t, key, strings.Replace(text(header), "{", `{"alg":"none",`, 1), claims),
		"header: case of a name":  sign(t, key, strings.Replace(text(header), `"alg"`, `"ALG"`, 1), claims),
		"claims: a list":          sign(t, key, header, "[]"),
		"claims: twice aud":       sign(t, key, header, strings.Replace(text(claims), "{", `{"aud":"x",`, 1)),
		"claims: bad UTF-8":       sign(t, key, header, strings.Replace(text(claims), "4f1c", "4f\xc31c", 1)),
		"claims: lone surrogate":  sign(t, key, header, strings.Replace(text(claims), "4f1c", `\ud800`, 1)),
		"claims: an escaped name": sign(t, key, header, strings.Replace(text(claims), "{", `{"\u0061ud":"x",`, 1)),
	}
	for _, alg := range []any{"none", "None", "HS256", "ES384", "RS512", "PS256", "es256", "", 1, []string{"ES256"}} {
		cases[fmt.Sprintf("alg %v", alg)] = sign(t, key, with(header, "alg", alg), claims)
	}
	for _, typ := range []any{"JWT", "", "Encounter-Launch+JWT", "application/encounter-launch+jwt", "at+jwt", 7} {
		cases[fmt.Sprintf("typ %v", typ)] = sign(t, key, with(header, "typ", typ), claims)
	}
	for _, name := range []string{"alg", "kid", "typ"} {
		cases["no "+name] = sign(t, key, with(header, name, nil), claims)
	}
	for _, name := range []string{"crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "cty", "zip", "nonce", "url", "iss"} {
		cases["header "+name] = sign(t, key, with(header, name, "x"), claims)
	}
	for name := range claims {
		cases["no "+name] = sign(t, key, header, with(claims, name, nil))
	}
	for _, name := range []string{"sub", "nbf", "name", "birth_date", "structured_context", "backend", "ISS"} {
		cases["claim "+name] = sign(t, key, header, with(claims, name, "x"))
	}
	for _, name := range []string{"external_encounter_id", "external_patient_id", "external_provider_id", "iss", "jti"} {
		for _, value := range []any{"", strings.Repeat("x", 257), "a b", "a\"b", "a\nb", "a\u202eb", "a\u200bb", 7, []string{"x"}, true} {
			cases[fmt.Sprintf("%s %.9q", name, fmt.Sprint(value))] = sign(t, key, header, with(claims, name, value))
		}
	}
	for _, kid := range []any{"", 7, "a b", strings.Repeat("k", 257)} {
		cases[fmt.Sprintf("kid %.9v", kid)] = sign(t, key, with(header, "kid", kid), claims)
	}
	for _, aud := range []any{[]string{}, []string{backend, backend}, []string{backend, "x"}, 7, []any{backend, 7}, []any{7}, object{"a": backend}} {
		cases[fmt.Sprintf("aud %v", aud)] = sign(t, key, header, with(claims, "aud", aud))
	}
	for _, name := range []string{"iat", "exp"} {
		for _, value := range []any{"1800000000", -1, 1.5, json.Number("1.8e9"), json.Number("1800000000.0"), json.Number("99999999999999"), json.Number("-0.5"), true} {
			cases[fmt.Sprintf("%s %v %T", name, value, value)] = sign(t, key, header, with(claims, name, value))
		}
	}
	for _, name := range []string{"alg", "typ", "kid"} {
		cases["null "+name] = sign(t, key, strings.Replace(text(with(header, name, "N")), `"N"`, "null", 1), claims)
	}
	for name := range claims {
		cases["null "+name] = sign(t, key, header, strings.Replace(text(with(claims, name, "N")), `"N"`, "null", 1))
	}
	cases["a life of 301 s"] = sign(t, key, header, with(claims, "exp", noon.Unix()+301))
	cases["no life"] = sign(t, key, header, with(claims, "exp", noon.Unix()))
	cases["a negative life"] = sign(t, key, header, with(claims, "exp", noon.Unix()-1))

	mustParse(t, requestLink(good))
	for name, compact := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(testScheme, requestLink(compact))
			if !problem.IsCode(err, problem.LinkInvalid) {
				t.Fatalf("got %v", err)
			}
			if shown := fmt.Sprint(err, problem.Of(err).LogValue()); strings.Contains(shown, "canary") || strings.Contains(shown, "4f1c") {
				t.Errorf("the refusal quotes the request: %s", shown)
			}
		})
	}
}

func TestAForgedSignatureIsRefused(t *testing.T) {
	keys := newTestKeys(t)
	rules := mustRules(t, []string{"request"}, keys.set(t))
	good := sign(t, keys.es256, validHeader("ES256"), validClaims())
	parts := strings.Split(good, ".")
	changed := encode(t, with(validClaims(), "external_patient_id", "P-2"))

	mac := hmac.New(sha256.New, []byte("public"))
	mac.Write([]byte(parts[0] + "." + parts[1]))
	for name, compact := range map[string]string{
		"changed claims":            parts[0] + "." + changed + "." + parts[2],
		"a zero signature":          parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"a short signature":         parts[0] + "." + parts[1] + ".AAAA",
		"a MAC":                     parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
		"another person's key":      sign(t, keys.other, validHeader("ES256"), validClaims()),
		"an unknown kid":            sign(t, keys.es256, with(validHeader("ES256"), "kid", "new"), validClaims()),
		"an unknown issuer":         sign(t, keys.es256, validHeader("ES256"), with(validClaims(), "iss", "nobody")),
		"the key of another issuer": sign(t, keys.other, with(validHeader("ES256"), "kid", "other"), validClaims()),
		"another algorithm's kid":   sign(t, keys.eddsa, with(validHeader("EdDSA"), "kid", "es256"), validClaims()),
		"the right key, wrong alg":  sign(t, keys.rs256, with(validHeader("EdDSA"), "kid", "rs256"), validClaims()),
	} {
		t.Run(name, func(t *testing.T) {
			r := mustParse(t, requestLink(compact))
			once, err := rules.Check(noon, r)
			if !problem.IsCode(err, problem.LinkInvalid) || once != (Once{}) {
				t.Errorf("got %v", err)
			}
			// An expired forgery is a forgery: its times are not believed.
			if _, err := rules.Check(noon.Add(time.Hour), r); !problem.IsCode(err, problem.LinkInvalid) {
				t.Errorf("expired: got %v", err)
			}
		})
	}
}

func TestTimesAndAudienceAreCheckedWithAndWithoutKeys(t *testing.T) {
	keys := newTestKeys(t)
	for _, set := range [][]byte{nil, keys.set(t)} {
		rules := mustRules(t, []string{"request"}, set)
		check := func(at time.Time, claims object) error {
			_, err := rules.Check(at, mustParse(t, requestLink(sign(t, keys.es256, validHeader("ES256"), claims))))
			return err
		}
		for name, c := range map[string]struct {
			at     time.Time
			claims object
			want   problem.Code
		}{
			"the first moment":     {noon.Add(-60 * time.Second), validClaims(), ""},
			"before":               {noon.Add(-61 * time.Second), validClaims(), problem.LinkInvalid},
			"the last moment":      {noon.Add(359 * time.Second), validClaims(), ""},
			"expired":              {noon.Add(360 * time.Second), validClaims(), problem.LinkExpired},
			"another backend":      {noon, with(validClaims(), "aud", "https://other.example/api"), problem.LinkInvalid},
			"a slash more":         {noon, with(validClaims(), "aud", backend+"/"), problem.LinkInvalid},
			"another case":         {noon, with(validClaims(), "aud", strings.ToUpper(backend)), problem.LinkInvalid},
			"a list of another":    {noon, with(validClaims(), "aud", []string{"x"}), problem.LinkInvalid},
			"an empty audience":    {noon, with(validClaims(), "aud", ""), problem.LinkInvalid},
			"the shortest of life": {noon, with(validClaims(), "exp", noon.Unix()+1), ""},
		} {
			if err := check(c.at, c.claims); problem.CodeOf(err) != c.want {
				t.Errorf("%s (keys: %v): want %q, got %v", name, set != nil, c.want, err)
			}
		}
	}
}

func TestWithoutABackendNoSignedRequestIsAccepted(t *testing.T) {
	rules, err := NewRules([]string{"request"}, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	r := mustParse(t, requestLink(sign(t, newTestKeys(t).es256, validHeader("ES256"), with(validClaims(), "aud", ""))))
	if _, err := rules.Check(noon, r); !problem.IsCode(err, problem.PolicyMissing) {
		t.Errorf("got %v", err)
	}
}

func TestAFormThatPolicyDoesNotNameIsRefused(t *testing.T) {
	links := map[string]string{
		"handle":      handleLink,
		"identifiers": ids("E-1"),
		"request":     requestLink(sign(t, newTestKeys(t).es256, validHeader("ES256"), validClaims())),
	}
	for allowed := range links {
		rules := mustRules(t, []string{allowed}, nil)
		for form, link := range links {
			once, err := rules.Check(noon, mustParse(t, link))
			switch {
			case form == allowed && err != nil:
				t.Errorf("%s: %v", form, err)
			case form != allowed && !problem.IsCode(err, problem.LinkFormNotAllowed):
				t.Errorf("%s where %s is allowed: %v", form, allowed, err)
			case form != "request" && once != (Once{}):
				t.Errorf("%s: it has no jti", form)
			}
		}
	}
	for _, nothing := range []Rules{{}, mustRules(t, nil, nil)} {
		if _, err := nothing.Check(noon, mustParse(t, handleLink)); !problem.IsCode(err, problem.LinkFormNotAllowed) {
			t.Errorf("no rules allow something: %v", err)
		}
	}
	if _, err := mustRules(t, []string{"handle"}, nil).Check(noon, Request{}); !problem.IsCode(err, problem.LinkFormNotAllowed) {
		t.Errorf("the zero request is allowed: %v", err)
	}
}

func TestAPolicyThatCannotBeMeantIsRefused(t *testing.T) {
	keys := newTestKeys(t)
	es := jwk(t, keys.es256.Public(), "k", "ES256", "ehr")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private := jwk(t, keys.es256, "k", "ES256", "ehr")
	if _, found := private["d"]; !found {
		t.Fatal("the private key is not one")
	}
	for name, set := range map[string][]byte{
		"nothing":              []byte(""),
		"no object":            []byte("[]"),
		"null":                 []byte("null"),
		"no keys":              []byte(`{}`),
		"an empty set":         keySet(t),
		"a key that is none":   []byte(`{"keys":[7]}`),
		"an empty key":         []byte(`{"keys":[{}]}`),
		"one good, one bad":    keySet(t, es, object{"kty": "EC"}),
		"no iss":               keySet(t, with(es, "iss", nil)),
		"an iss of numbers":    keySet(t, with(es, "iss", 7)),
		"no kid":               keySet(t, with(es, "kid", nil)),
		"no alg":               keySet(t, with(es, "alg", nil)),
		"alg of another kind":  keySet(t, with(es, "alg", "RS256")),
		"alg none":             keySet(t, with(es, "alg", "none")),
		"for encryption":       keySet(t, with(es, "use", "enc")),
		"for signing":          keySet(t, with(es, "key_ops", []string{"sign"})),
		"private":              keySet(t, private),
		"symmetric":            []byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"k","alg":"HS256","iss":"ehr"}]}`),
		"P-384":                keySet(t, jwk(t, p384.Public(), "k", "ES256", "ehr")),
		"RSA of 1,024 bits":    keySet(t, jwk(t, weak.Public(), "k", "RS256", "ehr")),
		"RSA for PS256":        keySet(t, jwk(t, keys.rs256.Public(), "k", "PS256", "ehr")),
		"one kid of two keys":  keySet(t, es, jwk(t, keys.other.Public(), "k", "ES256", "ehr")),
		"a member that's dup.": []byte(`{"keys":[],"keys":[]}`),
	} {
		if _, err := NewRules([]string{"request"}, set, backend); !problem.IsCode(err, problem.PolicyInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, form := range []string{"", "Handle", "handles", "all"} {
		if _, err := NewRules([]string{"handle", form}, nil, backend); !problem.IsCode(err, problem.PolicyInvalid) {
			t.Errorf("form %q: got %v", form, err)
		}
	}
	if _, err := NewRules([]string{"request"}, keySet(t, es, jwk(t, keys.other.Public(), "k", "ES256", "another")), backend); err != nil {
		t.Errorf("two issuers may each have a key of the same name: %v", err)
	}
}
