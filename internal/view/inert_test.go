package view

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestATextFromOutsideIsShortInertAndOnOneLine(t *testing.T) {
	const most = 60
	for in, want := range map[string]string{
		"":                     "",
		"plain":                "plain",
		"  a \n\t b  ":         "a b",
		"a\x00b\x1b[31m\u009b": "ab[31m",
		"\u202a\u202b\u202c\u202d\u202eevil\u2066\u2067\u2068\u2069\u200e\u200f\u061c": "evil",
		"a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg\u034fh\u3164i\ufe0fj\U000e0041k":  "abcdefghijk",
		"a\u2028b\u2029c\u0085d\u00a0e\u3000f":                                         "a b c d e f",
		"<b>&amp;</b>":                                                                 "<b>&amp;</b>",
		"\xff\xfe\ufffd":                                                               "",
		"\ue000private\U000f0000\U0010fffd":                                            "private",
		"\u0378unassigned\uffff\U000e1234":                                             "unassigned",
		"e\u0301":                                                                      "e\u0301",
		"\u0301a" + strings.Repeat("\u0301", 500) + "b":                                "a\u0301\u0301\u0301b",
		"👩\u200d⚕\ufe0f":                                                               "👩⚕",
		"علی\u200cرضا":                                                                 "علیرضا",
		strings.Repeat("é", 61):                                                        strings.Repeat("é", 59) + "…",
		strings.Repeat("é", 60):                                                        strings.Repeat("é", 60),
		strings.Repeat("x", 59) + " yz":                                                strings.Repeat("x", 59) + "…",
		strings.Repeat("x", 58) + " yz":                                                strings.Repeat("x", 58) + "…",
		strings.Repeat("0123456789", 1024):                                             strings.Repeat("0123456789", 6)[:59] + "…",
	} {
		got := Inert(in, most)
		if got != want || !utf8.ValidString(got) || Inert(got, most) != got {
			t.Errorf("%q: got %q, want %q, and then %q", in, got, want, Inert(got, most))
		}
	}
}
