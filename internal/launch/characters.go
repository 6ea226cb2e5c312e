package launch

import (
	"unicode"
	"unicode/utf8"
)

// isVisible reports whether a character may stand in a link, before or after
// percent-decoding. Only characters with a glyph of their own may: no control,
// format (bidi, zero-width, soft hyphen, byte order mark, tags), space,
// separator, private or unassigned character; no quote of any script, backslash,
// backtick, dollar, less-than or greater-than.
func isVisible(r rune) bool {
	// Windows' best-fit conversion turns full-width forms into the ASCII
	// characters that they look like, so they are judged as those.
	if r >= 0xFF01 && r <= 0xFF5E {
		r -= 0xFEE0
	}
	switch r {
	case ' ', '"', '\'', '\\', '`', '$', '<', '>', utf8.RuneError:
		return false
	}
	if r < utf8.RuneSelf {
		return r > 0x20 && r < 0x7F
	}
	// The Braille blank and the object replacement character count as symbols
	// in Unicode and yet show nothing, or something else.
	if r == 0x2800 || r == 0xFFFC {
		return false
	}
	return unicode.IsPrint(r) &&
		!unicode.Is(unicode.Quotation_Mark, r) &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) &&
		!unicode.Is(unicode.Variation_Selector, r)
}

// allVisible reports whether text is valid UTF-8 made of visible characters.
func allVisible(text string) bool {
	if !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if !isVisible(r) {
			return false
		}
	}
	return true
}

// isIdentifier reports whether text is 1..MaxIdentifierRunes visible characters
// that do not hide a second layer of percent-encoding, which some later reader
// might decode into what was refused here.
func isIdentifier(text string) bool {
	if text == "" || !allVisible(text) || utf8.RuneCountInString(text) > MaxIdentifierRunes {
		return false
	}
	for i := 0; i+2 < len(text); i++ {
		if text[i] == '%' && isHex(text[i+1]) && isHex(text[i+2]) {
			return false
		}
	}
	return true
}

// isHandle reports whether text is a handle: [A-Za-z0-9_-]{22,64}.
func isHandle(text string) bool {
	if len(text) < 22 || len(text) > 64 {
		return false
	}
	for i := 0; i < len(text); i++ {
		if !isBase64URL(text[i]) {
			return false
		}
	}
	return true
}

func isBase64URL(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// hasPrefixFold compares ASCII only: Unicode folding would take the Kelvin sign
// for a k and the long s for an s. prefix is in lower case.
func hasPrefixFold(text, prefix string) bool {
	if len(text) < len(prefix) {
		return false
	}
	for i := 0; i < len(prefix); i++ {
		c := text[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}
