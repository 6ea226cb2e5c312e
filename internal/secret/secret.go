// Package secret holds text that must never be seen: tokens, one-time URLs,
// links, keys. A Text prints, logs, formats and marshals as "[redacted]",
// also when it is a field of a struct that is printed.
//
// It never protects against someone who reads this process's memory, and it
// never compares or hashes: whoever needs the value says so with Reveal.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every way of printing a Text shows.
const Redacted = "[redacted]"

// Text is a value that redacts itself. The zero value is empty.
type Text struct {
	// A pointer, so that fmt shows at most an address when it walks through an
	// unexported field, where it does not call Format.
	value *string
}

// New wraps a value. The caller must not keep the plain string.
func New(value string) Text {
	if value == "" {
		return Text{}
	}
	return Text{value: &value}
}

// Reveal returns the value itself. Every call is a place to review: the result
// goes straight into a request header, a sealed file or the opener, never into
// a log, an error, a file in clear, an environment variable or a snapshot.
func (t Text) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// Empty reports whether there is no value.
func (t Text) Empty() bool { return t.value == nil }

// Equal reports whether two texts hold the same value.
func (t Text) Equal(other Text) bool { return t.Reveal() == other.Reveal() }

// String returns "[redacted]", or nothing for an empty text.
func (t Text) String() string {
	if t.Empty() {
		return ""
	}
	return Redacted
}

// Format prints "[redacted]" for every verb, %#v and %q included.
func (t Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue logs "[redacted]".
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText writes "[redacted]" into JSON, XML and every other encoding that
// asks for text. There is deliberately no way to unmarshal.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
