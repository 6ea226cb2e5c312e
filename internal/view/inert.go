package view

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// mostMarks is how many combining marks one character carries at most: no name needs
// more, and a stack of them is drawn over the lines around it.
const mostMarks = 3

// Inert makes a text from outside harmless in one line of tray or terminal: without
// control, direction, invisible, private and unassigned characters, every run of
// white space and line ends one space, and not longer than most characters, of which
// the last is an ellipsis where it was cut. It is idempotent. Markup stays as it is:
// who shows it where markup has a meaning has to escape it.
//
// The joiners go too. Names in some scripts are then written less well, but they
// read the same, and nothing can hide between two letters.
func Inert(s string, most int) string {
	var kept []rune
	space, marks := false, 0
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = len(kept) > 0
			continue
		case !unicode.IsGraphic(r) || r == utf8.RuneError || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
			continue
		case !unicode.Is(unicode.M, r):
			marks = 0
		case marks == mostMarks || len(kept) == 0:
			continue
		default:
			marks++
		}
		if space {
			kept, space = append(kept, ' '), false
		}
		if kept = append(kept, r); len(kept) > most {
			return strings.TrimRight(string(kept[:max(most-1, 0)]), " ") + "…"
		}
	}
	return string(kept)
}
