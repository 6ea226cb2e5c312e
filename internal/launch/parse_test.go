package launch

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	testScheme = "encounter-launcher"
	testHandle = "Zk3vQ9x1T7mB2nR5wY8uLg"
	handleLink = testScheme + "://launch?handle=" + testHandle
)

// ids makes a link of the identifiers form with the given raw encounter id.
func ids(encounter string) string {
	return testScheme + "://launch?external_encounter_id=" + encounter + "&external_patient_id=P-1&external_provider_id=D-1"
}

type vector struct {
	Name, Link, URL, Expect string
	AllowedForms            []string `json:"allowed_forms"`
	Hosts                   []string
}

func vectors(t *testing.T, file string) []vector {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []vector
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	if lines.Err() != nil || len(all) < 20 {
		t.Fatalf("read %d vectors: %v", len(all), lines.Err())
	}
	return all
}

func TestEveryLinkVectorIsJudgedAsWritten(t *testing.T) {
	for _, v := range vectors(t, "testdata/links.jsonl") {
		t.Run(v.Name, func(t *testing.T) {
			forms := v.AllowedForms
			if forms == nil {
				forms = []string{"handle", "request"}
			}
			rules, err := NewRules(forms, nil, "https://backend.example/api")
			if err != nil {
				t.Fatal(err)
			}
			r, err := Parse(testScheme, v.Link)
			if err == nil {
				_, err = rules.Check(time.Unix(1_800_000_000, 0), r)
			}
			if (err == nil) != (v.Expect == "accept") {
				t.Fatalf("want %s, got %v", v.Expect, err)
			}
			if err != nil && len(v.Link) > 20 && strings.Contains(fmt.Sprint(err, problem.Of(err).LogValue()), v.Link[:20]) {
				t.Error("the refusal quotes the link")
			}
		})
	}
}

func TestLinksOfTheGrammarAreAccepted(t *testing.T) {
	long := strings.Repeat("é", MaxIdentifierRunes)
	for name, c := range map[string]struct {
		link, encounter string
		form            Form
	}{
		"upper-case host and slash":          {testScheme + "://LAUNCH/?handle=" + testHandle, "", FormHandle},
		"mixed case":                         {"Encounter-Launcher://Launch?handle=" + testHandle, "", FormHandle},
		"escapes in a handle":                {testScheme + "://launch?handle=%5Ak3vQ9x1T7mB2nR5wY8uL%67", "", FormHandle},
		"hyphens and underscores":            {testScheme + "://launch?handle=----------__________--", "", FormHandle},
		"an encoded plus":                    {ids("E%2B1"), "E+1", FormIdentifiers},
		"an encoded fragment sign":           {ids("E%231"), "E#1", FormIdentifiers},
		"an encoded ampersand and semicolon": {ids("E%26%3B"), "E&;", FormIdentifiers},
		"an equals sign and a slash":         {ids("E=/?:@!*()"), "E=/?:@!*()", FormIdentifiers},
		"a lone percent sign":                {ids("100%25"), "100%", FormIdentifiers},
		"letters of another script, raw":     {ids("Zoë-診療"), "Zoë-診療", FormIdentifiers},
		"letters of another script, encoded": {ids("Zo%C3%AB"), "Zoë", FormIdentifiers},
		"one character":                      {ids("1"), "1", FormIdentifiers},
		"256 characters of two bytes":        {ids(long), long, FormIdentifiers},
		"another order":                      {testScheme + "://launch?external_provider_id=D-1&external_encounter_id=E-1&external_patient_id=P-1", "E-1", FormIdentifiers},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Parse(testScheme, c.link)
			if err != nil {
				t.Fatal(err)
			}
			encounter, patient, provider := r.Identifiers()
			if r.Form() != c.form || encounter != c.encounter || c.form == FormIdentifiers && (patient != "P-1" || provider != "D-1") {
				t.Errorf("got %s %q %q %q", r.Form(), encounter, patient, provider)
			}
			checkPrintsBack(t, c.link, r)
		})
	}
}

func TestEverythingOutsideTheGrammarIsRefused(t *testing.T) {
	query := "?handle=" + testHandle
	cases := map[string]string{
		"the host with a dot":            testScheme + "://launch." + query,
		"the host with a colon":          testScheme + "://launch:" + query,
		"the host with an empty port":    testScheme + "://launch:/" + query,
		"an empty userinfo":              testScheme + "://@launch" + query,
		"an encoded host":                testScheme + "://%6Caunch" + query,
		"slashes around the host":        testScheme + "://" + "/launch//" + query,
		"two slashes after the host":     testScheme + "://launch//" + query,
		"an encoded slash":               testScheme + "://launch/%2F" + query,
		"an encoded dot":                 testScheme + "://launch/%2e" + query,
		"a dot segment":                  testScheme + "://launch/." + query,
		"path parameters":                testScheme + "://launch/;x" + query,
		"no colon":                       testScheme + "//launch" + query,
		"one slash":                      testScheme + ":/launch" + query,
		"three slashes":                  testScheme + ":///launch" + query,
		"backslashes":                    testScheme + `:\\launch` + query,
		"a full-width letter":            testScheme + "://ｌaunch" + query,
		"scheme: something before it":    "x" + handleLink,
		"scheme: the demo's":             testScheme + "-demo://launch" + query,
		"scheme: shorter":                "encounter://launch" + query,
		"scheme: nested":                 testScheme + ":" + handleLink,
		"scheme: none":                   "launch" + query,
		"scheme: web+":                   "web+" + handleLink,
		"query: none":                    testScheme + "://launch?",
		"query: two question marks":      testScheme + "://launch?" + query,
		"query: a question mark after":   handleLink + "?",
		"query: two queries":             handleLink + query,
		"query: a trailing ampersand":    handleLink + "&",
		"query: a leading ampersand":     testScheme + "://launch?&handle=" + testHandle,
		"query: two ampersands":          strings.Replace(ids("E-1"), "&", "&&", 1),
		"query: an empty key":            handleLink + "&=",
		"query: an empty key and value":  handleLink + "&=x",
		"query: a key alone":             testScheme + "://launch?handle",
		"query: an encoded key":          testScheme + "://launch?%68andle=" + testHandle,
		"query: a key, encoded twin":     handleLink + "&%68andle=" + testHandle,
		"query: an upper-case key":       testScheme + "://launch?HANDLE=" + testHandle,
		"query: a key with brackets":     testScheme + "://launch?handle[]=" + testHandle,
		"query: a HTML ampersand":        strings.ReplaceAll(ids("E-1"), "&", "&amp;"),
		"query: an encoded ampersand":    strings.ReplaceAll(ids("E-1"), "&", "%26"),
		"query: an encoded equals":       testScheme + "://launch?handle%3D" + testHandle,
		"query: a truncated escape":      handleLink + "%4",
		"query: a lone percent":          handleLink + "%",
		"query: a semicolon":             ids("E;1"),
		"a fragment":                     handleLink + "#",
		"a fragment before":              testScheme + "://launch#" + query,
		"handle: 21 characters":          testScheme + "://launch?handle=" + testHandle[:21],
		"handle: a dot":                  handleLink + ".",
		"handle: an encoded dot":         handleLink + "%2e",
		"handle: padding":                handleLink + "==",
		"handle: a plus":                 handleLink + "+",
		"handle: an encoded plus":        handleLink + "%2B",
		"handle: a slash":                handleLink + "/",
		"handle: encoded twice":          testScheme + "://launch?handle=%255Ak3vQ9x1T7mB2nR5wY8uLg",
		"handle: Arabic digits":          testScheme + "://launch?handle=" + strings.Repeat("٣", 22),
		"handle: full-width digits":      testScheme + "://launch?handle=" + strings.Repeat("３", 22),
		"handle: accents":                testScheme + "://launch?handle=" + strings.Repeat("é", 22),
		"handle: Cyrillic":               testScheme + "://launch?handle=" + strings.Repeat("а", 22),
		"identifier: empty":              ids(""),
		"identifier: a raw space":        ids("E 1"),
		"identifier: a raw plus":         ids("E+1"),
		"identifier: encoded twice":      ids("E%2522"),
		"identifier: encoded thrice":     ids("E%252522"),
		"identifier: bad UTF-8, encoded": ids("E%FF"),
		"identifier: overlong":           ids("E%C0%A2"),
		"identifier: surrogate":          ids("E%ED%A0%80"),
		"identifier: bad UTF-8, raw":     ids("E\xff"),
		"identifier: 257 of two bytes":   ids(strings.Repeat("é", MaxIdentifierRunes+1)),
		"identifiers: one alone":         testScheme + "://launch?external_patient_id=P-1",
		"identifiers: with a request":    ids("E-1") + "&request=a.b.c",
		"identifiers: two of one":        ids("E-1") + "&external_patient_id=P-2",
		"request: empty":                 testScheme + "://launch?request=",
		"request: and a handle":          handleLink + "&request=a.b.c",
		"version":                        handleLink + "&v=2",
		"a leading byte order mark":      "\ufeff" + handleLink,
		"a leading space":                " " + handleLink,
		"a trailing space":               handleLink + " ",
		"a trailing tab":                 handleLink + "\t",
		"a NUL":                          handleLink + "\x00",
		"two links":                      handleLink + "\n" + handleLink,
		"quoted":                         `"` + handleLink + `"`,
		"only the scheme":                testScheme + ":",
		"UNC":                            `\\evil.example\share`,
		"too long":                       ids(strings.Repeat("E", 200)) + "&" + strings.Repeat("x", MaxLinkBytes),
	}
	for name, link := range cases {
		t.Run(name, func(t *testing.T) { checkRefused(t, link) })
	}
}

func checkRefused(t *testing.T, link string) {
	t.Helper()
	r, err := Parse(testScheme, link)
	if !problem.IsCode(err, problem.LinkInvalid) {
		t.Fatalf("got %v for %q", err, link)
	}
	if r.Form() != "" || !r.Link().Empty() {
		t.Error("a refused link left something behind")
	}
	if problem.Of(err).Fact == "" {
		t.Error("an integrator is not told what to mend")
	}
}

func TestNoInvisibleOrQuotingCharacterIsAcceptedRawOrEncoded(t *testing.T) {
	bad := []rune{
		0x00, 0x01, 0x07, '\t', '\n', 0x0B, '\r', 0x1B, 0x1F, 0x7F, 0x80, 0x85, 0x9F,
		' ', '"', '\'', '\\', '`', '$', '<', '>',
		0xA0, 0x1680, 0x2000, 0x2003, 0x2009, 0x200A, 0x202F, 0x205F, 0x3000, // spaces
		0x2028, 0x2029, // separators
		0xAD, 0x061C, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, // zero width, direction
		0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069, // bidi
		0x2060, 0x2061, 0x2062, 0x2063, 0x2064, 0x206A, 0x206F, 0xFEFF, 0xFFF9, 0xFFFA, 0xFFFB,
		0x034F, 0x115F, 0x1160, 0x17B4, 0x3164, 0xFFA0, 0x2800, 0xFFFC, 0xFFFD, // invisible letters and marks
		0xFE00, 0xFE0F, 0x180B, 0xE0100, // variation selectors
		0xE0001, 0xE0020, 0xE0041, 0xE007F, // tags
		0xFDD0, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF, 0x0378, // no characters
		0xE000, 0xF8FF, 0xF0000, 0x10FFFD, // private
		0x2018, 0x2019, 0x201C, 0x201D, 0xAB, 0xBB, 0xFF02, 0xFF07, 0xFF3C, 0xFF40, 0xFF04, 0xFF1C, 0xFF1E, // quotes and their kin
		0x600, 0x6DD, 0x70F, 0x110BD, 0x1D173, // other format characters
	}
	for _, r := range bad {
		t.Run(fmt.Sprintf("U+%04X", r), func(t *testing.T) {
			checkRefused(t, ids("E"+string(r)+"1"))
			encoded := ""
			for _, b := range []byte(string(r)) {
				encoded += fmt.Sprintf("%%%02x", b)
			}
			checkRefused(t, ids("E"+encoded+"1"))
			checkRefused(t, handleLink+encoded)
		})
	}
}

func TestTheLimitIsTwoThousandAndFortyEightBytes(t *testing.T) {
	// A two-byte letter written as escapes takes six bytes and counts as one
	// character, so three identifiers can fill a link.
	third := strings.Repeat("%C3%A9", 200)
	link := testScheme + "://launch?external_encounter_id=" + strings.Repeat("%C3%A9", 60) + "&external_patient_id=" + third + "&external_provider_id="
	link += strings.Repeat("%C3%A9", (MaxLinkBytes-len(link))/6)
	link += strings.Repeat("x", MaxLinkBytes-len(link))
	if _, err := Parse(testScheme, link); len(link) != MaxLinkBytes || err != nil {
		t.Errorf("%d bytes: %v", len(link), err)
	}
	_, err := Parse(testScheme, link+"x")
	if err == nil || !strings.Contains(err.Error(), "2,048") {
		t.Errorf("one byte more: %v", err)
	}
	_, err = Parse(testScheme, strings.Repeat("\xff", MaxLinkBytes+1))
	if err == nil || !strings.Contains(err.Error(), "2,048") {
		t.Errorf("the length is not looked at first: %v", err)
	}
}

func TestARawPlusIsRefusedWithAWordOfHelp(t *testing.T) {
	_, err := Parse(testScheme, ids("E+1"))
	if err == nil || !strings.Contains(err.Error(), "%2B") {
		t.Errorf("got %v", err)
	}
}

func TestTheSameRequestInTwoSpellingsIsEqual(t *testing.T) {
	a, errA := Parse(testScheme, ids("Zo%C3%AB"))
	b, errB := Parse(testScheme, testScheme+"://LAUNCH/?external_provider_id=D-1&external_patient_id=%50-1&external_encounter_id=Zoë")
	c, errC := Parse(testScheme, ids("Zoe"))
	if err := errors.Join(errA, errB, errC); err != nil {
		t.Fatal(err)
	}
	if !a.Equal(b) || a.Equal(c) || a.Equal(Request{}) || !(Request{}).Equal(Request{}) {
		t.Error("Equal is wrong")
	}
	if a.Link().Reveal() != b.Link().Reveal() {
		t.Error("one request has two canonical links")
	}
}

func TestOnlyTheFormsOwnValuesAreGiven(t *testing.T) {
	handle, err := Parse(testScheme, handleLink)
	if err != nil {
		t.Fatal(err)
	}
	if e, p, d := handle.Identifiers(); handle.Handle().Reveal() != testHandle || !handle.SignedRequest().Empty() || e+p+d != "" {
		t.Error("handle")
	}
	identifiers, err := Parse(testScheme, ids("E-1"))
	if err != nil {
		t.Fatal(err)
	}
	if !identifiers.Handle().Empty() || !identifiers.SignedRequest().Empty() {
		t.Error("identifiers")
	}
	var zero Request
	if e, p, d := zero.Identifiers(); !zero.Handle().Empty() || !zero.SignedRequest().Empty() || e+p+d != "" {
		t.Error("zero")
	}
}

// checkUnprintable prints a value in every way there is, also as a field.
func checkUnprintable(t *testing.T, v any, canaries ...string) {
	t.Helper()
	type hidden struct{ inner any }
	var out bytes.Buffer
	for _, v := range []any{v, hidden{v}, &hidden{v}, []any{v}, struct{ Exported any }{v}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	for _, canary := range canaries {
		if strings.Contains(out.String(), canary) || strings.Contains(out.String(), fmt.Sprintf("%x", canary)) {
			t.Errorf("%q was printed:\n%s", canary, out.String())
		}
	}
	if !strings.Contains(out.String(), secret.Redacted) {
		t.Error("the reader should see that something was redacted")
	}
}

func TestARequestCannotBePrinted(t *testing.T) {
	for _, link := range []string{handleLink, ids("E-canary")} {
		r, err := Parse(testScheme, link)
		if err != nil {
			t.Fatal(err)
		}
		checkUnprintable(t, r, testHandle, "canary", "P-1", "D-1")
		checkUnprintable(t, &r, testHandle, "canary", "P-1", "D-1")
		if r.String() != secret.Redacted {
			t.Error("String")
		}
	}
}

// checkPrintsBack holds what accepting implies.
func checkPrintsBack(t *testing.T, text string, r Request) {
	t.Helper()
	link := r.Link().Reveal()
	again, err := Parse(testScheme, link)
	if err != nil {
		t.Fatalf("the canonical link is refused: %v", err)
	}
	if !again.Equal(r) || again.Link().Reveal() != link {
		t.Error("the canonical link means something else")
	}
	if len(text) > MaxLinkBytes || len(link) > len(text) {
		t.Errorf("%d bytes became %d", len(text), len(link))
	}
	if !strings.HasPrefix(link, testScheme+"://launch?") {
		t.Error("the canonical link is not of the scheme")
	}
	switch r.Form() {
	case FormHandle:
		if h := r.Handle().Reveal(); len(h) < 22 || len(h) > 64 {
			t.Error("handle outside its limits")
		}
	case FormRequest:
		parts := strings.Split(r.SignedRequest().Reveal(), ".")
		if header, err := base64.RawURLEncoding.DecodeString(parts[0]); len(parts) != 3 || err != nil || !json.Valid(header) {
			t.Error("no compact JWS")
		}
	case FormIdentifiers:
		e, p, d := r.Identifiers()
		for _, id := range []string{e, p, d} {
			if n := utf8.RuneCountInString(id); n < 1 || n > MaxIdentifierRunes || strings.ContainsAny(id, " \"'\\`$<>\r\n\t\x00") {
				t.Error("identifier outside its limits")
			}
		}
	default:
		t.Error("no form")
	}
}
