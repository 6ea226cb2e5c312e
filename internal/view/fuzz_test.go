package view

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzInert: what is shown of a text from outside is one line of visible characters
// of the text itself, in its order, within its bound; done again it changes nothing.
func FuzzInert(f *testing.F) {
	for _, seed := range []string{"Ada Lovelace", "a\u202eb\u2066c", "<b>x</b>\r\n\t y", "e\u0301\u0301\u0301\u0301\u0301", "\u0301\u0301", "👩‍👩‍👧\ufe0f", "\xff\xfe", "a\u00a0\u3000b", "\U000e0041\u00ad\u2800", strings.Repeat("ä ", 300), strings.Repeat("é", 21), strings.Repeat("é", 20)} {
		f.Add(seed, 20)
		f.Add(seed, 1)
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = int(uint(most) % 300)
		got := Inert(s, most)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > max(most, 1) {
			t.Fatalf("%q, %d became %q", s, most, got)
		}
		marks, before := 0, ' '
		for _, r := range got {
			if r != ' ' && !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S) || unicode.In(r, unicode.Cf, unicode.Cc, unicode.Co, unicode.Cs, unicode.Bidi_Control, unicode.Variation_Selector) || r == utf8.RuneError {
				t.Fatalf("%q shows %U", s, r)
			}
			if r == ' ' && before == ' ' {
				t.Fatalf("%q has two blanks, or one at its beginning", got)
			}
			if before = r; unicode.Is(unicode.M, r) {
				marks++
			} else {
				marks = 0
			}
			if marks > 3 {
				t.Fatalf("%q stacks marks", got)
			}
		}
		if before == ' ' && got != "" {
			t.Fatalf("%q ends with a blank", got)
		}
		// Every character is of the text, in its order.
		rest := s
		for _, r := range strings.TrimSuffix(got, "…") {
			if r == ' ' {
				continue
			}
			_, after, found := strings.Cut(rest, string(r))
			if !found {
				t.Fatalf("%q became %q", s, got)
			}
			rest = after
		}
		if Inert(got, most) != got && most > 0 {
			t.Fatalf("%q became %q, then %q", s, got, Inert(got, most))
		}
		// A longer bound only adds.
		if longer := Inert(s, most+1); !strings.HasPrefix(longer, strings.TrimSuffix(got, "…")) && !strings.HasPrefix(longer, strings.TrimRight(strings.TrimSuffix(got, "…"), " ")) {
			t.Fatalf("%q at %d is %q, longer %q", s, most, got, longer)
		}
		if text, err := json.Marshal(got); err != nil || strings.Contains(string(text), `\ufffd`) {
			t.Fatalf("%q cannot be sent: %v", got, err)
		}
	})
}
