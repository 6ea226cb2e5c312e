// Package launch is the grammar of what comes from outside: the link that the
// EHR's button opens (Parse), the rules of the organisation that a link must
// keep (Rules), and the addresses that may be handed to a browser (Addresses).
//
// It is pure: it reads no clock, file, network or environment, and it keeps
// nothing. It refuses and never repairs. A Request can only come from Parse and
// a Target only from Addresses.Check, and neither can be printed; no error of
// this package quotes what it refused.
package launch

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"encounterlauncher/internal/secret"
)

// MaxLinkBytes is the length of the longest link that is looked at.
const MaxLinkBytes = 2048

// MaxIdentifierRunes bounds each external id, in characters, in every form
// (Nabla Connect, Create encounter: "max 256 characters").
const MaxIdentifierRunes = 256

// Form names one of the three kinds of link. The values are those of the policy
// key AllowedLinkForms.
type Form string

// The three forms, in the order in which an organisation should prefer them.
const (
	// FormHandle carries an opaque single-use handle of the backend.
	FormHandle Form = "handle"
	// FormRequest carries a compact JWS signed by the EHR's server.
	FormRequest Form = "request"
	// FormIdentifiers carries three bare ids, which nobody vouches for.
	FormIdentifiers Form = "identifiers"
)

// The keys of a link, each in exactly this spelling.
const (
	keyHandle      = "handle"
	keyRequest     = "request"
	keyEncounterID = "external_encounter_id"
	keyPatientID   = "external_patient_id"
	keyProviderID  = "external_provider_id"
)

// Request is a link that was understood. Only Parse makes one; the zero value
// holds nothing and has no form. Every way of printing it gives "[redacted]".
type Request struct {
	form   Form
	scheme string
	// Every value is a secret.Text, also because fmt does not call Format on an
	// unexported field and would walk into a plain string.
	value                              secret.Text // the handle, or the compact JWS
	encounterID, patientID, providerID secret.Text
}

// Form returns which of the three forms the link had; empty for the zero value.
func (r Request) Form() Form { return r.form }

// Link prints the request in its one canonical way: for the scheme that it was
// parsed with, Parse of the result gives an equal Request. It is never longer
// than the link that was parsed, so it stays within MaxLinkBytes. Empty for the
// zero value.
func (r Request) Link() secret.Text {
	var b strings.Builder
	b.WriteString(r.scheme + "://" + linkHost + "?")
	switch r.form {
	case FormHandle:
		b.WriteString(keyHandle + "=" + r.value.Reveal())
	case FormRequest:
		b.WriteString(keyRequest + "=" + r.value.Reveal())
	case FormIdentifiers:
		b.WriteString(keyEncounterID + "=")
		writeEscaped(&b, r.encounterID.Reveal())
		b.WriteString("&" + keyPatientID + "=")
		writeEscaped(&b, r.patientID.Reveal())
		b.WriteString("&" + keyProviderID + "=")
		writeEscaped(&b, r.providerID.Reveal())
	default:
		return secret.Text{}
	}
	return secret.New(b.String())
}

// writeEscaped escapes exactly the characters that an accepted link cannot hold
// raw inside a value: whatever else was accepted raw stays raw, which is why
// Link never grows beyond the limit.
func writeEscaped(b *strings.Builder, value string) {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(value); i++ {
		switch c := value[i]; c {
		case '%', '&', '+', '#', ';':
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		default:
			b.WriteByte(c)
		}
	}
}

// Equal reports whether two requests ask for the same thing: same form and same
// values, however the links were spelt. Two zero values are equal.
func (r Request) Equal(other Request) bool {
	return r.form == other.form && r.Link().Equal(other.Link())
}

// Handle returns the opaque handle; empty for the other forms.
func (r Request) Handle() secret.Text {
	if r.form != FormHandle {
		return secret.Text{}
	}
	return r.value
}

// SignedRequest returns the compact JWS as it arrived; empty for the other
// forms. It is well formed, but only Rules.Check says whether to believe it.
func (r Request) SignedRequest() secret.Text {
	if r.form != FormRequest {
		return secret.Text{}
	}
	return r.value
}

// Identifiers returns the three external ids of the identifiers form, empty for
// the other forms: the ids inside a signed request are for the backend, which
// verifies it. They identify a patient and must never be logged or shown.
func (r Request) Identifiers() (encounterID, patientID, providerID string) {
	return r.encounterID.Reveal(), r.patientID.Reveal(), r.providerID.Reveal()
}

// String returns "[redacted]".
func (r Request) String() string { return secret.Redacted }

// Format prints "[redacted]" for every verb.
func (r Request) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secret.Redacted) }

// LogValue logs "[redacted]".
func (r Request) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }

// MarshalText writes "[redacted]" into every encoding that asks for text. There
// is deliberately no way to unmarshal.
func (r Request) MarshalText() ([]byte, error) { return []byte(secret.Redacted), nil }
