package canary

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"unicode/utf16"
)

// form is one way in which a mark may have been written.
type form struct {
	kind Kind
	name string
	text string
	// need is how many bytes in a row must stand there: what a dozen bytes of the
	// mark come to, so that a part of a mark is found and chance is not.
	need int
}

// part is how many bytes of a mark are still the mark.
const part = 12

// formsOf returns every way of writing a mark.
func formsOf(kind Kind, text string) []form {
	var all []form
	seen := map[string]bool{}
	add := func(name, written string) {
		if seen[written] || len(written) < shortest {
			return
		}
		seen[written] = true
		need := len(written)
		if len(text) > part {
			need = max(shortest, len(written)*part/len(text))
		}
		all = append(all, form{kind, name, written, need})
	}
	add("plain", text)
	if kind == PatientName || kind == FreeText || kind == Note {
		add("lower case", strings.ToLower(text))
		add("upper case", strings.ToUpper(text))
	}
	add("percent-encoded", url.QueryEscape(text))
	add("percent-encoded", url.PathEscape(text))
	add("percent-encoded", each(text, "%%%02X"))
	add("percent-encoded", each(text, "%%%02x"))
	add("hex", hex.EncodeToString([]byte(text)))
	add("hex", strings.ToUpper(hex.EncodeToString([]byte(text))))
	add("hex with spaces", strings.TrimSpace(each(text, "%02x ")))
	add("hex with backslashes", each(text, `\x%02x`))
	add("octal", octal(text))
	add("bytes as numbers", strings.TrimSpace(each(text, "%d ")))
	add("bytes as numbers", strings.TrimSuffix(each(text, "%d,"), ","))
	add("bytes as numbers", strings.TrimSuffix(each(text, "0x%x, "), ", "))
	for before := range 3 {
		// The ends depend on what stands beside it.
		std := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + text))
		std = std[min(len(std), (before*8+5)/6):]
		std = std[:len(std)-1]
		add("base64", std)
		add("base64url", strings.NewReplacer("+", "-", "/", "_").Replace(std))
	}
	if plain, err := json.Marshal(text); err == nil {
		add("JSON", string(plain[1:len(plain)-1]))
	}
	add("JSON with escapes", escaped(text, "%04x", false))
	add("JSON with escapes", escaped(text, "%04X", false))
	add("JSON with escapes", escaped(text, "%04x", true))
	add("JSON with escapes", escaped(text, "%04X", true))
	quoted := fmt.Sprintf("%q", text)
	add("quoted", quoted[1:len(quoted)-1])
	quoted = fmt.Sprintf("%q", quoted)
	add("quoted twice", quoted[3:len(quoted)-3])
	add("HTML", html.EscapeString(text))
	var little, big strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		little.Write([]byte{byte(unit), byte(unit >> 8)})
		big.Write([]byte{byte(unit >> 8), byte(unit)})
	}
	add("UTF-16LE", little.String())
	add("UTF-16BE", big.String())
	add("backwards", backwards(text))
	if kind == BirthDate {
		all = append(all, dates(text)...)
	}
	return all
}

// dates are the other ways in which people and systems write a day.
func dates(text string) (all []form) {
	var y, m, d int
	if _, err := fmt.Sscanf(text, "%d-%d-%d", &y, &m, &d); err != nil {
		return nil
	}
	for _, written := range []string{
		fmt.Sprintf("%04d%02d%02d", y, m, d), fmt.Sprintf("%02d.%02d.%04d", d, m, y), fmt.Sprintf("%02d/%02d/%04d", d, m, y), fmt.Sprintf("%02d/%02d/%04d", m, d, y),
	} {
		all = append(all, form{BirthDate, "another way of writing a date", written, len(written)})
	}
	return all
}

func each(text, format string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, format, text[i])
	}
	return b.String()
}

// octal is how D-Bus' own tools and git write what is not ASCII.
func octal(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if text[i] < 0x80 {
			b.WriteByte(text[i])
		} else {
			fmt.Fprintf(&b, `\%03o`, text[i])
		}
	}
	return b.String()
}

func escaped(text, format string, all bool) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		if unit < 0x80 && !all {
			b.WriteByte(byte(unit))
		} else {
			fmt.Fprintf(&b, `\u`+format, unit)
		}
	}
	return b.String()
}

func backwards(text string) string {
	runes := []rune(text)
	for i, j := 0, len(runes)-1; i < j; i, j = i+1, j-1 {
		runes[i], runes[j] = runes[j], runes[i]
	}
	return string(runes)
}
