package text

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
)

var place = regexp.MustCompile(`\{([^}]*)\}`)

// filled is Word by a regular expression.
func filled(word string, values map[string]string) string {
	return place.ReplaceAllStringFunc(word, func(p string) string {
		if value, ok := values[p[1:len(p)-1]]; ok {
			return value
		}
		return p
	})
}

// FuzzWords asks for every key of every language with values from outside: each
// stands in the word once for each of its placeholders, letter for letter, is never
// searched for placeholders itself, and with all of them nothing is left to fill. The
// fuzzing begins at a key, and a test of every key at every value would be slow: the
// seeds go through them all.
func FuzzWords(f *testing.F) {
	all := slices.Concat(entries[:], findings[:])
	var catalogues []Catalogue
	for _, language := range languages {
		catalogues = append(catalogues, For(language))
	}
	for first := 0; first < len(all); first += 8 {
		f.Add(uint16(first), "", " <b>{sentence}</b> ", "\u202e\x00")
	}
	for _, seed := range [][3]string{{"tray.open_recent", "14:05", "Ada"}, {"notice.body", "{next_step}", "{{sentence}"}, {"fact.", "}", "{"}, {"error.internal", "%d", "${x}"}, {"", " a ", "\t"}} {
		f.Add(uint16(0), seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, first uint16, key, a, b string) {
		for _, c := range catalogues {
			if _, known := c.words[key]; !known && c.Word(key, "a", a) != key {
				t.Fatalf("the key %q, which there is not, says %q", key, c.Word(key, "a", a))
			}
			for i := range 8 {
				e := all[(int(first)+i)%len(all)]
				word, known := c.words[e.key]
				if !known {
					t.Fatalf("%s lacks %s", c.Language(), e.key)
				}
				values, args := map[string]string{}, []string{"no such placeholder", b}
				braces := 0
				for i, name := range e.placeholders {
					values[name] = []string{a, b, a + b}[i%3]
					args = append(args, name, values[name])
					braces += strings.Count(values[name], "{")
				}
				got := c.Word(e.key, args...)
				if got != filled(word, values) {
					t.Fatalf("%s, %s with %q: %q", c.Language(), e.key, args, got)
				}
				if plain := strings.Join(place.Split(word, -1), ""); strings.ContainsAny(plain, "{}") || braces == 0 && strings.Contains(got, "{") {
					t.Fatalf("%s, %s is not filled: %q", c.Language(), e.key, got)
				}
				// Without values the places stay as written, so that a mistake is seen.
				if bare := c.Word(e.key, "no such placeholder", b); bare != word {
					t.Fatalf("%s, %s without values: %q", c.Language(), e.key, bare)
				}
			}
		}
	})
}

// FuzzFacts: a fact is English word for word; in another language it is the
// translation with the value as it was, or it is left out.
func FuzzFacts(f *testing.F) {
	var catalogues []Catalogue
	for _, language := range languages {
		catalogues = append(catalogues, For(language))
	}
	for i, fact := range facts {
		f.Add(uint8(i), fact, "a{name}b")
	}
	f.Add(uint8(0), "nothing of ours", "")
	f.Fuzz(func(t *testing.T, which uint8, unknown, value string) {
		fact := facts[int(which)%len(facts)]
		english := place.ReplaceAllStringFunc(fact, func(string) string { return value })
		for _, c := range catalogues {
			if c.Language() == English {
				if c.Fact(unknown) != unknown || c.Fact(english) != english {
					t.Fatalf("%q is told as %q in English", english, c.Fact(english))
				}
				continue
			}
			translated := c.words[factKey+fact]
			told := c.Fact(english)
			if translated == "" || told != c.words[factKey+english] && told != place.ReplaceAllStringFunc(translated, func(string) string { return value }) && !elsewhere(c, english, told) {
				t.Fatalf("%s: %q is told as %q", c.Language(), english, told)
			}
			if told := c.Fact(unknown); told != "" && told != c.words[factKey+unknown] && !elsewhere(c, unknown, told) {
				t.Fatalf("%s: %q, which nobody wrote, is told as %q", c.Language(), unknown, told)
			}
		}
	})
}

// elsewhere reports whether a fact is that of another row, whose value holds the rest.
func elsewhere(c Catalogue, english, told string) bool {
	for _, fact := range facts {
		parts := place.Split(fact, -1)
		if len(parts) == 2 && len(english) >= len(parts[0])+len(parts[1]) && strings.HasPrefix(english, parts[0]) && strings.HasSuffix(english, parts[1]) {
			value := english[len(parts[0]) : len(english)-len(parts[1])]
			if told == place.ReplaceAllStringFunc(c.words[factKey+fact], func(string) string { return value }) {
				return true
			}
		}
	}
	return false
}

// FuzzWhen: every tag of a locale has a language with every sentence, and every moment
// is told with a day of the calendar, with no place left open.
func FuzzWhen(f *testing.F) {
	for _, tag := range []string{"en", "fr-CA", "x", "ES_mx", "en-US", "", "de-", "zh-Hant-TW", "EN_us.UTF-8"} {
		f.Add(tag, int64(1_800_000_000), int64(time.Hour))
		f.Add(tag, int64(1_800_000_000), int64(30*time.Hour))
	}
	f.Fuzz(func(t *testing.T, tag string, seconds, ago int64) {
		c := For(tag)
		want, _, _ := strings.Cut(strings.ReplaceAll(tag, "_", "-"), "-")
		if !spoken(c.Language()) || spoken(strings.ToLower(want)) && c.Language() != strings.ToLower(want) {
			t.Fatalf("%q gives the language %q", tag, c.Language())
		}
		for _, row := range problem.Rows() {
			if c.Sentence(row.Code) == "" || c.NextStep(row.Code) == "" {
				t.Fatalf("%s says nothing of %s", tag, row.Code)
			}
		}
		now := time.Unix(seconds%(1<<33), 0).UTC()
		when := now.Add(-time.Duration(ago))
		said := c.When(when, now)
		if said == "" || strings.ContainsAny(said, "{}") {
			t.Fatalf("%v seen from %v: %q", when, now, said)
		}
		midnight := func(at time.Time) time.Time { return time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC) }
		days := int(midnight(now).Sub(midnight(when)) / (24 * time.Hour))
		clock := c.Clock(when)
		for key, is := range map[string]bool{"time.today": days == 0, "time.yesterday": days == 1} {
			if is != (said == c.Word(key, "clock", clock)) {
				t.Fatalf("%v seen from %v: %q", when, now, said)
			}
		}
		if year := when.Format("2006"); when.Year() != now.Year() && (days < 0 || days > 6) && !strings.Contains(said, year) {
			t.Fatalf("%v seen from %v: %q lacks the year", when, now, said)
		}
		if back, err := time.Parse("15:04", clock); !c.twelve && (err != nil || back.Hour() != when.Hour() || back.Minute() != when.Minute()) {
			t.Fatalf("%v is told as %q", when, clock)
		}
		if back, err := time.Parse("3:04 PM", strings.ReplaceAll(clock, "\u00a0", " ")); c.twelve && c.Language() == English && (err != nil || back.Hour() != when.Hour() || back.Minute() != when.Minute()) {
			t.Fatalf("%v is told as %q", when, clock)
		}
	})
}
