package launch

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	jose "github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// The oracles of this file say the grammar of section 4 of the design a second time,
// slowly and by other means: regular expressions, a decoder of one's own, the tables
// of Unicode. They share no function with what they judge.

var (
	linkShape  = regexp.MustCompile(`^[eE][nN][cC][oO][uU][nN][tT][eE][rR]-[lL][aA][uU][nN][cC][hH][eE][rR]://[lL][aA][uU][nN][cC][hH]/?\?([^#+;]*)$`)
	pairShape  = regexp.MustCompile(`^(handle|request|external_encounter_id|external_patient_id|external_provider_id)=((?:[^%&]|%[0-9A-Fa-f]{2})*)$`)
	escape     = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	handleForm = regexp.MustCompile(`^[A-Za-z0-9_-]{22,64}$`)
	jwsForm    = regexp.MustCompile(`^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$`)
	wholeForm  = regexp.MustCompile(`^(0|[1-9][0-9]{0,11})$`)
)

func seen(text string) bool {
	if !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		look := r
		if r >= 0xFF01 && r <= 0xFF5E { // a full-width form is judged as what it looks like
			look = r - 0xFEE0
		}
		if look < 0x80 {
			if look <= ' ' || look == 0x7f || strings.ContainsRune("\"'\\`$<>", look) {
				return false
			}
			continue
		}
		if !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S) || r == utf8.RuneError || r == 0x2800 || r == 0xFFFC ||
			unicode.In(r, unicode.Quotation_Mark, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return false
		}
	}
	return true
}

func nameable(text string) bool {
	n := len([]rune(text))
	return n >= 1 && n <= 256 && seen(text) && !escape.MatchString(text)
}

// membersOf walks a JSON text by tokens: an object, each name once, nothing after it.
func membersOf(text []byte) (map[string]json.RawMessage, bool) {
	if !json.Valid(text) || !utf8.Valid(text) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	all := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false
		}
		var raw json.RawMessage
		if _, twice := all[name.(string)]; twice || d.Decode(&raw) != nil {
			return nil, false
		}
		all[name.(string)] = raw
	}
	_, closed := d.Token()
	_, end := d.Token()
	return all, closed == nil && errors.Is(end, io.EOF)
}

func stringOf(raw json.RawMessage) (string, bool) {
	var s string
	return s, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
}

// claimed is what a header and claims say, where they are of the one shape.
type claimed struct {
	alg, kid, iss, aud, jti string
	iat, exp                int64
}

func shapeOf(header, claims []byte) (claimed, bool) {
	var c claimed
	h, ok := membersOf(header)
	p, ok2 := membersOf(claims)
	if !ok || !ok2 || len(h) != 3 || len(p) != 8 {
		return c, false
	}
	var typ string
	texts := true
	take := func(from map[string]json.RawMessage, name string) string {
		s, ok := stringOf(from[name])
		texts = texts && ok
		return s
	}
	c.alg, c.kid, typ = take(h, "alg"), take(h, "kid"), take(h, "typ")
	c.iss, c.jti = take(p, "iss"), take(p, "jti")
	ids := []string{take(p, "external_encounter_id"), take(p, "external_patient_id"), take(p, "external_provider_id")}
	if !texts || typ != "encounter-launch+jwt" || !slices.Contains([]string{"ES256", "EdDSA", "RS256"}, c.alg) {
		return c, false
	}
	for _, id := range ids {
		if !nameable(id) {
			return c, false
		}
	}
	for _, name := range []string{c.kid, c.iss, c.jti} {
		if n := len([]rune(name)); n < 1 || n > 256 || !seen(name) {
			return c, false
		}
	}
	if c.aud, ok = stringOf(p["aud"]); !ok {
		var list []json.RawMessage
		if json.Unmarshal(p["aud"], &list) != nil || len(list) != 1 {
			return c, false
		}
		if c.aud, ok = stringOf(list[0]); !ok {
			return c, false
		}
	}
	for name, into := range map[string]*int64{"iat": &c.iat, "exp": &c.exp} {
		if !wholeForm.Match(p[name]) {
			return c, false
		}
		*into, _ = strconv.ParseInt(string(p[name]), 10, 64)
		if *into >= time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix() {
			return c, false
		}
	}
	return c, c.exp > c.iat && c.exp-c.iat <= 300
}

// compactOf takes a compact JWS apart.
func compactOf(compact string) (header, claims []byte, ok bool) {
	m := jwsForm.FindStringSubmatch(compact)
	if m == nil {
		return nil, nil, false
	}
	var parts [3][]byte
	for i := range parts {
		part, err := base64.RawURLEncoding.DecodeString(m[i+1])
		if err != nil || base64.RawURLEncoding.EncodeToString(part) != m[i+1] {
			return nil, nil, false
		}
		parts[i] = part
	}
	return parts[0], parts[1], len(parts[2]) > 0
}

// grammar says which form a link has and what it carries; "" means that it is
// refused.
func grammar(text string) (form Form, values map[string]string) {
	m := linkShape.FindStringSubmatch(text)
	if len(text) > 2048 || m == nil || !seen(text) {
		return "", nil
	}
	values = map[string]string{}
	for _, pair := range strings.Split(m[1], "&") {
		kv := pairShape.FindStringSubmatch(pair)
		if kv == nil {
			return "", nil
		}
		value := escape.ReplaceAllStringFunc(kv[2], func(s string) string {
			n, _ := strconv.ParseUint(s[1:], 16, 8)
			return string([]byte{byte(n)})
		})
		if _, twice := values[kv[1]]; twice || !seen(value) {
			return "", nil
		}
		values[kv[1]] = value
	}
	switch {
	case len(values) == 1 && handleForm.MatchString(values["handle"]):
		return FormHandle, values
	case len(values) == 1 && values["request"] != "":
		header, claims, ok := compactOf(values["request"])
		if _, shaped := shapeOf(header, claims); ok && shaped {
			return FormRequest, values
		}
	case len(values) == 3 && nameable(values["external_encounter_id"]) && nameable(values["external_patient_id"]) && nameable(values["external_provider_id"]):
		return FormIdentifiers, values
	}
	return "", nil
}

// facts are all the sentences that a refused link may be told: so none quotes it.
var facts = []string{
	"It is longer than 2,048 bytes.", "It is not valid UTF-8.", "It holds a character that must not stand in a link.", "It has no question mark.",
	"It does not begin as a launch link does.", "It has a fragment.", "It holds a plus sign, which must be written %2B.",
	"Its percent-encoding or its separators are wrong.", "It holds a key without a value.", "It holds a key that is not known.",
	"It holds a key twice.", "It holds an encoded character that must not stand in a link.",
	"Its handle is not 22 to 64 letters, digits, hyphens and underscores.", "Its signed request is not one.",
	"An identifier is empty, longer than 256 characters, or encoded twice.", "An identifier is missing.", "It mixes forms.",
}

// cause is what an error about a signed request or its keys may say.
var cause = regexp.MustCompile(`^(?:(?:header|claims|signature|alg|typ|kid|iss|jti|aud|iat|exp|external_(?:encounter|patient|provider)_id|verifying|reading the key set|reading key \d+): )*` +
	`(?:a compact JWS has three parts|not base64url(?:, or empty)?|not valid UTF-8|not a JSON object with each member once|the member (?:alg|kid|typ|iss|aud|iat|exp|jti|external_(?:encounter|patient|provider)_id) is missing|` +
	`there is a member that is not known|not one of ES256, EdDSA and RS256|not encounter-launch\+jwt|not 1 to 256 visible characters|not a string|not one audience|not a time in whole seconds|not after iat, or more than five minutes after it|` +
	`the key is fixed to another algorithm|not a compact JWS|the signature is wrong|no key of that issuer has that kid|` +
	`not a JWK set|it holds no key|the same iss and kid stand twice|its members have the wrong types|it is not a JWK|it is not a public key|it is not for signatures|it is not for verifying|its alg is missing or does not fit the key)$`)

func checkCause(t *testing.T, err error) {
	t.Helper()
	if c := problem.Of(err).Unwrap(); c != nil && !cause.MatchString(c.Error()) {
		t.Errorf("an error that is no sentence of ours: %q", c)
	}
}

func checkLink(t *testing.T, text string) {
	t.Helper()
	form, values := grammar(text)
	r, err := Parse(testScheme, text)
	if (err == nil) != (form != "") {
		t.Fatalf("%q: %v, and the grammar says %q", text, err, form)
	}
	if err != nil {
		if !problem.IsCode(err, problem.LinkInvalid) || !slices.Contains(facts, problem.Of(err).Fact) || r != (Request{}) {
			t.Fatalf("refused with %v, %+v", err, r)
		}
		checkCause(t, err)
		return
	}
	encounter, patient, provider := r.Identifiers()
	if r.Form() != form || r.Handle().Reveal() != values["handle"] || r.SignedRequest().Reveal() != values["request"] ||
		encounter != values["external_encounter_id"] || patient != values["external_patient_id"] || provider != values["external_provider_id"] {
		t.Fatalf("%q was read as another link", text)
	}
	checkPrintsBack(t, text, r)
}

// FuzzParse: a link is accepted exactly when the grammar says so, means exactly what
// stands there, prints to a link of the same meaning, and a refusal is one of our
// sentences and leaves nothing behind.
func FuzzParse(f *testing.F) {
	addVectors(f, "testdata/links.jsonl", func(v vector) {
		if len(v.Link) < 2*MaxLinkBytes {
			f.Add(v.Link)
		}
	})
	f.Add(ids("Zo%C3%AB%2B%26%25"))
	f.Add(ids("%EF%BC%84") + "&")
	f.Add(ids("%EF%BF%BC"))
	f.Add(testScheme + "://launch?request=" + sign(f, newTestKeys(f).es256, validHeader("ES256"), validClaims()))
	f.Add("ENCOUNTER-LAUNCHER://LAUNCH/?external_provider_id=%C3%A9&external_patient_id=a&external_encounter_id=" + strings.Repeat("%F0%9F%99%82", 30))
	f.Fuzz(checkLink)
}

// FuzzLinkOfParts begins where the grammar begins, so that the fuzzing spends its time
// on the values.
func FuzzLinkOfParts(f *testing.F) {
	f.Add(uint8(0), testHandle, "", "")
	f.Add(uint8(1), "E%2b1", "é", "D\u200b")
	f.Add(uint8(2), "E", "%25%34%31", "%4")
	f.Fuzz(func(t *testing.T, how uint8, a, b, c string) {
		begin := testScheme + "://launch" + []string{"?", "/?"}[how&1]
		switch how / 2 % 3 {
		case 0:
			checkLink(t, begin+"handle="+a)
		case 1:
			checkLink(t, begin+"external_encounter_id="+a+"&external_patient_id="+b+"&external_provider_id="+c)
		case 2:
			encode := base64.RawURLEncoding.EncodeToString
			checkLink(t, begin+"request="+encode([]byte(a))+"."+encode([]byte(b))+"."+c)
		}
	})
}

// FuzzSignedRequest signs what the fuzzing makes of header and claims: a request is
// accepted exactly when it has the one shape and was signed, unchanged, by the key that
// policy holds for its issuer and kid, for this backend and at its time.
func FuzzSignedRequest(f *testing.F) {
	keys := newTestKeys(f)
	forms := []string{"request"}
	governed, err := NewRules(forms, keys.set(f), backend)
	if err != nil {
		f.Fatal(err)
	}
	without, err := NewRules(forms, nil, backend)
	if err != nil {
		f.Fatal(err)
	}
	signers := []struct {
		key           crypto.Signer
		alg, kid, iss string
	}{{keys.es256, "ES256", "es256", "ehr"}, {keys.eddsa, "EdDSA", "eddsa", "ehr"}, {keys.other, "ES256", "other", "another-ehr"}, {keys.rs256, "RS256", "rs256", "ehr"}}
	text := func(o object) []byte {
		b, err := json.Marshal(o)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	for i, s := range signers {
		header := with(with(validHeader(s.alg), "kid", s.kid), "alg", s.alg)
		f.Add(text(header), text(with(validClaims(), "iss", s.iss)), uint8(i)*64, uint16(0), int64(0))
	}
	for name, value := range map[string]any{
		"aud": []string{backend}, "iat": json.Number("-0"), "exp": json.Number("1800000300.5"), "jti": "\ufffd", "external_patient_id": "%41", "iss": "EHR", "name": "Grace",
	} {
		f.Add(text(validHeader("EdDSA")), text(with(validClaims(), name, value)), uint8(1), uint16(0), int64(0))
	}
	for name, value := range map[string]any{"crit": []string{"exp"}, "b64": false, "typ": "JWT", "alg": "none", "jwk": object{}} {
		f.Add(text(with(validHeader("EdDSA"), name, value)), text(validClaims()), uint8(1), uint16(0), int64(0))
	}
	f.Add(text(validHeader("EdDSA")), text(validClaims()), uint8(1), uint16(9), int64(0))
	f.Add(text(validHeader("EdDSA")), bytes.Replace(text(validClaims()), []byte(`"iss"`), []byte(`"ISS"`), 1), uint8(1), uint16(0), int64(0))
	f.Add(text(validHeader("EdDSA")), text(with(with(validClaims(), "iat", json.Number("-0")), "exp", 300)), uint8(1), uint16(0), int64(-1_800_000_000))
	for _, at := range []int64{-61, -60, 359, 360, -1_800_000_000} {
		f.Add(text(validHeader("EdDSA")), text(validClaims()), uint8(1), uint16(0), at)
	}
	f.Fuzz(func(t *testing.T, header, claims []byte, signer uint8, flip uint16, at int64) {
		// One that signs the same text the same, and quickly, does most of the work.
		s := signers[1]
		if signer%64 == 0 {
			s = signers[signer/64]
		}
		compact := sign(t, s.key, string(header), string(claims))
		now := noon.Add(time.Duration(at%(1<<31)) * time.Second)
		if flip > 0 { // one bit of the signature
			cut := strings.LastIndexByte(compact, '.') + 1
			signature, err := base64.RawURLEncoding.DecodeString(compact[cut:])
			if err != nil {
				t.Fatal(err)
			}
			bit := int(flip) % (8 * len(signature))
			signature[bit/8] ^= 1 << (bit % 8)
			compact = compact[:cut] + base64.RawURLEncoding.EncodeToString(signature)
		}
		c, shaped := shapeOf(header, claims)
		r, err := Parse(testScheme, requestLink(compact))
		fits := len(requestLink(compact)) <= MaxLinkBytes
		if (err == nil) != (shaped && fits) {
			t.Fatalf("%s %s: %v", header, claims, err)
		}
		if err != nil {
			return
		}
		timely := c.iat <= now.Unix()+60 && now.Unix() < c.exp+60
		genuine := flip == 0 && c.alg == s.alg && c.kid == s.kid && c.iss == s.iss
		for _, row := range []struct {
			rules Rules
			want  bool
		}{{governed, genuine && timely && c.aud == backend}, {without, timely && c.aud == backend}, {Rules{}, false}} {
			once, err := row.rules.Check(now, r)
			if (err == nil) != row.want {
				t.Fatalf("%s %s by %s, at %v: %v", header, claims, s.kid, now, err)
			}
			if err == nil && once != (Once{c.iss, c.jti, time.Unix(c.exp+60, 0)}) || err != nil && once != (Once{}) {
				t.Fatalf("%+v", once)
			}
			if code := problem.CodeOf(err); err != nil && code != problem.LinkInvalid && code != problem.LinkExpired && code != problem.LinkFormNotAllowed {
				t.Fatalf("refused with %s", code)
			}
			if err != nil {
				checkCause(t, err)
			}
		}
	})
}

// FuzzLinkKeys: what is accepted is a set of public keys, each with kid and issuer of
// its own and of the kind that its one algorithm needs; a refusal quotes nothing.
func FuzzLinkKeys(f *testing.F) {
	keys := newTestKeys(f)
	f.Add(keys.set(f))
	es := jwk(f, keys.es256.Public(), "k", "ES256", "ehr")
	for name, value := range map[string]any{"d": "AA", "use": "enc", "key_ops": []string{"sign"}, "alg": "HS256", "kty": "oct", "crv": "P-384", "x": "AA", "kid": nil, "iss": 7, "x5c": []string{"AA"}} {
		f.Add(keySet(f, with(es, name, value)))
	}
	f.Add(keySet(f, es, es))
	private, err := jose.JSONWebKey{Key: keys.eddsa, KeyID: "k", Algorithm: "EdDSA"}.MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"keys":[{"iss":"ehr",` + string(private[1:]) + `]}`))
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[null]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA","alg":"ES256","kid":"k","iss":"i"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := NewRules([]string{"request"}, text, backend)
		if err != nil {
			if !problem.IsCode(err, problem.PolicyInvalid) || r.keys != nil || r.forms != nil || r.audience != "" {
				t.Fatalf("refused with %v, %+v", err, r)
			}
			checkCause(t, err)
			return
		}
		var plain struct {
			Keys []map[string]json.RawMessage `json:"keys"`
		}
		if err := json.Unmarshal(text, &plain); err != nil || len(plain.Keys) == 0 || len(plain.Keys) != len(r.keys) {
			t.Fatalf("%s was accepted: %v", text, err)
		}
		named := map[[2]string]bool{}
		for i, k := range plain.Keys {
			kid, ok1 := stringOf(k["kid"])
			iss, ok2 := stringOf(k["iss"])
			alg, ok3 := stringOf(k["alg"])
			kty, _ := stringOf(k["kty"])
			crv, _ := stringOf(k["crv"])
			fits := alg == "ES256" && kty == "EC" && crv == "P-256" || alg == "EdDSA" && kty == "OKP" && crv == "Ed25519" || alg == "RS256" && kty == "RSA"
			if !ok1 || !ok2 || !ok3 || kid == "" || iss == "" || named[[2]string{iss, kid}] || !fits || k["d"] != nil && string(k["d"]) != "null" && string(k["d"]) != `""` {
				t.Fatalf("%s was accepted", text)
			}
			named[[2]string{iss, kid}] = true
			if r.keys[i].issuer != iss || r.keys[i].kid != kid || r.keys[i].algorithm != alg {
				t.Fatalf("%+v of %s", r.keys[i], text)
			}
		}
	})
}

var openable = regexp.MustCompile(`^https://((?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?::([1-9][0-9]{0,4}))?(/(?:[A-Za-z0-9._~!$&()*+,;=:@/\[\]-]|%[0-9A-Fa-f]{2})*)?(\?(?:[A-Za-z0-9._~!$&()*+,;=:@/?\[\]-]|%[0-9A-Fa-f]{2})*)?(#(?:[A-Za-z0-9._~!$&()*+,;=:@/?\[\]#-]|%[0-9A-Fa-f]{2})*)?$`)

var loopbackForm = regexp.MustCompile(`^http://127\.0\.0\.1:[1-9][0-9]{0,4}/`)

// FuzzAddress: what is opened has exactly the shape of RFC 3986 that a browser and we
// read alike, on a host of the list; nothing else is, and a refusal does not quote it.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"https://app.nabla.com:443/e?t=abc#f", "http://127.0.0.1:8080/", "https://nabla.com", "https://a@b.nabla.com/%2f", "https://app.nabla.com\\.evil.example/", "https://connect.example:8443/?a=[1]",
		"https://connect.example/[", "https://a.nabla.com/#a#b", "https://connect.example/%zz", "https://connect.example?a?b",
	} {
		f.Add(seed)
	}
	addVectors(f, "testdata/addresses.jsonl", func(v vector) { f.Add(v.URL) })
	hosts := []string{".nabla.com", "connect.example"}
	f.Fuzz(func(t *testing.T, address string) {
		m := openable.FindStringSubmatch(address)
		listed := m != nil && len(m[1]) <= 253 && (m[1] == "connect.example" || strings.HasSuffix(m[1], ".nabla.com"))
		for _, anyPort := range []bool{false, true} {
			target, err := Addresses{Hosts: hosts, AnyPort: anyPort}.Check(secret.New(address))
			if err != nil {
				if !problem.IsCode(err, problem.AddressNotAllowed) || target != (Target{}) || !strings.HasPrefix(problem.Of(err).Unwrap().Error(), "checking an address: ") && problem.Of(err).Unwrap().Error() != "reading an address: it is not a URL" {
					t.Fatalf("refused with %v", problem.Of(err).LogValue())
				}
				continue
			}
			if !listed || m[1] != target.Host() || target.Address().Reveal() != address || len(address) > MaxAddressBytes {
				t.Fatalf("opened %q", address)
			}
			if port, err := strconv.Atoi(m[2]); m[2] != "" && (err != nil || port > 65535 || !anyPort && port != 443) {
				t.Fatalf("opened %q", address)
			}
			// What may be opened may be opened again as it stands: nothing was mended.
			if again, err := (Addresses{Hosts: []string{target.Host()}, AnyPort: anyPort}).Check(target.Address()); err != nil || again != target {
				t.Fatalf("%q is not opened twice: %v", address, err)
			}
		}
		if _, err := (Addresses{AnyPort: true}).Check(secret.New(address)); err == nil {
			t.Fatalf("no list opened %q", address)
		}
		if target, err := (Addresses{LoopbackHTTP: true}).Check(secret.New(address)); err == nil && !loopbackForm.MatchString(address) {
			t.Fatalf("%v opened as loopback: %q", target, address)
		}
	})
}

func addVectors(f *testing.F, file string, add func(vector)) {
	text, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	n := 0
	for line := range bytes.Lines(text) {
		var v vector
		if err := json.Unmarshal(line, &v); err != nil {
			f.Fatal(err)
		}
		add(v)
		n++
	}
	if n < 20 {
		f.Fatalf("%d vectors", n)
	}
}
