package doctor

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// A patient, as none of our messages writes her; what an address, a token and a
// telephone number look like.
const somebody = "Grace-Xanthippe Quetzalcoatl"

var (
	lettering = regexp.MustCompile(`[\pL\pM]+`)
	digits    = regexp.MustCompile(`[0-9]+`)
	e164      = regexp.MustCompile(`[0-9]{4,}`)
	mail      = regexp.MustCompile(`[\pL\pN]@[\pL\pN]`)
	address   = regexp.MustCompile(`(?i)[a-z]{2,}://[^\s"'<>\[]`)
)

var (
	joseForm  = regexp.MustCompile(`\beyJ`)
	piecesOf  = regexp.MustCompile(`[\pL\pM\pN_@%+~\\/^=.-]+`)
	betweenOf = regexp.MustCompile(`[./\\=_-]+`)
)

// lettersOf are the runs of letters of every word that may be left in.
func lettersOf() map[string]bool {
	all := map[string]bool{"redacted": true}
	for word := range vocabulary() {
		for _, run := range lettering.FindAllString(word, -1) {
			all[run] = true
		}
	}
	for _, unit := range []string{"ms", "s", "m", "h", "MB", "GB"} {
		all[unit] = true
	}
	return all
}

// onlyOurs reports what of a text is no word of ours, and no small number.
func onlyOurs(text string, ours map[string]bool) string {
	for _, run := range lettering.FindAllString(text, -1) {
		if !ours[run] {
			return run
		}
	}
	for _, piece := range piecesOf.FindAllString(text, -1) {
		if run := e164.FindString(piece); run != "" && !vocabulary()[piece] && !partsKnown(piece) {
			return run
		}
	}
	for _, r := range text {
		if unicode.IsDigit(r) && (r < '0' || r > '9') {
			return string(r)
		}
	}
	return ""
}

func partsKnown(piece string) bool {
	for _, part := range betweenOf.Split(piece, -1) {
		if e164.MatchString(part) && !vocabulary()[part] {
			return false
		}
	}
	return true
}

// FuzzTheScrubber: of a free text only words of the program's own messages and small
// numbers are left, whatever stands around them; done again it changes nothing, and the
// name of a patient beside the text is always taken out.
func FuzzTheScrubber(f *testing.F) {
	for _, seed := range []string{
		"opening the browser: exit status 3", "dial tcp 10.0.0.7:443: connect: connection refused", somebody, "born 1980-01-31, +49 30 1234567", "encounter-launcher://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg",
		"https://a.nabla.com/e?t=x", "ada@hospital.example", `/home/ada/.config/x.json`, "error\u202e3\u200b", "१२३४", "x509: certificate signed by unknown authority", "[redacted] [redacted]", "eyJhbGciOiJFUzI1NiJ9.e30.AA", "12 34 56", "3 4", "7ms 2s",
		"\xff\xfe", "ＧＲＡＣＥ", "policy.json", "=1+1", "the-the_the/the", "OPENING THE BROWSER", "a.b1@9x.example", "ädä@x", "...", "~/~",
	} {
		f.Add(seed, "")
		f.Add("the agent ", seed)
	}
	ours := lettersOf()
	f.Fuzz(func(t *testing.T, a, b string) {
		got := known(a)
		if what := onlyOurs(got, ours); what != "" {
			t.Fatalf("%q became %q, which holds %q", a, got, what)
		}
		if again := known(got); again != got {
			t.Fatalf("%q became %q, then %q", a, got, again)
		}
		beside := known(a + " " + somebody + " " + b)
		for _, part := range []string{"Xanthippe", "Quetzalcoatl"} {
			if strings.Contains(strings.ToLower(beside), strings.ToLower(part)) && !strings.Contains(strings.ToLower(a+b), strings.ToLower(part)) {
				t.Fatalf("%q, %q became %q", a, b, beside)
			}
		}
		if mail.MatchString(got) {
			t.Fatalf("%q became %q", a, got)
		}
		// What this computer's own screen shows of a fact has no address, token or mail.
		shown := masked(a)
		if address.MatchString(shown) || mail.MatchString(shown) || joseForm.MatchString(shown) {
			t.Fatalf("%q is shown as %q", a, shown)
		}
		if masked(shown) != shown {
			t.Fatalf("%q is shown as %q, then %q", a, shown, masked(shown))
		}
		if r := asReference(a); r != "" && (r != a || len(a) != 8 || digits.FindString(a) == a) {
			t.Fatalf("%q is a reference", a)
		}
	})
}

// FuzzALineOfTheLog: whatever stands in the log, what an archive gets of it is one
// line, in which every text is words of ours, a moment, a reference or an id of our
// own field, and no number but those that the agent counts itself.
func FuzzALineOfTheLog(f *testing.F) {
	for _, seed := range []string{
		`{"time":"2026-11-03T09:00:00.5Z","level":"INFO","msg":"launch opened","id":"4f1c0000-0000-4000-8000-000000000000","ms":{"creating":12.5,"x":1}}`,
		`{"time":"Grace","reference":"ABCDEFGH","request_id":"x","took":3,"n":1980}`, `{"a":{"b":[1,"Grace",{"reference":"12345678"}]},"a":null}`, `Grace was here`, `[1]`, `null`, `"x"`,
		`{"reference":"7ABCDEFG","time":"1980-01-31T00:00:00Z","status":200,"patient":"P-1"}`, "{\"msg\":\"\\ud800\\u2028\"}", `{"Quetzalcoatl":true}`,
	} {
		f.Add(seed)
	}
	ours := lettersOf()
	moment := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$`)
	uuid := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	reference := regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{8}$`)
	f.Fuzz(func(t *testing.T, line string) {
		l := readLog(line)
		if strings.ContainsAny(l.text, "\n\r") && json.Valid([]byte(line)) && strings.HasPrefix(strings.TrimSpace(line), "{") {
			t.Fatalf("%q became two lines", line)
		}
		for stage, ms := range l.ms {
			if !slices.Contains(stageNames, stage) || ms != ms {
				t.Fatalf("the stage %q took %v", stage, ms)
			}
		}
		var kept map[string]any
		if json.Unmarshal([]byte(line), new(map[string]any)) != nil || json.Unmarshal([]byte(l.text), &kept) != nil {
			if what := onlyOurs(l.text, ours); what != "" {
				t.Fatalf("%q became %q, which holds %q", line, l.text, what)
			}
			return
		}
		depth := 0
		var walk func(name string, top bool, v any)
		walk = func(name string, top bool, v any) {
			outermost := depth == 0
			depth++
			defer func() { depth-- }()
			switch v := v.(type) {
			case map[string]any:
				for inner, value := range v {
					if what := onlyOurs(inner, ours); what != "" {
						t.Fatalf("%q has a field with %q", line, what)
					}
					if name == "ms" && top {
						if _, isNumber := value.(float64); isNumber && slices.Contains(stageNames, inner) {
							continue
						}
					}
					walk(inner, outermost, value)
				}
			case []any:
				for _, value := range v {
					walk(name, false, value)
				}
			case float64:
				if !top || !slices.Contains([]string{"took", "bytes", "count", "findings", "status"}, name) {
					t.Fatalf("%q keeps the number %v of %q", line, v, name)
				}
			case string:
				own := top && (name == "time" && moment.MatchString(v) || (name == "id" || name == "request_id") && uuid.MatchString(v)) || name == "reference" && reference.MatchString(v) && digits.FindString(v) != v
				if what := onlyOurs(v, ours); what != "" && !own {
					t.Fatalf("%q keeps %q in %q", line, what, v)
				}
			}
		}
		walk("", false, map[string]any(kept))
	})
}
