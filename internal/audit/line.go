package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
)

const (
	layout     = 1
	timeLayout = "2006-01-02T15:04:05.000Z"
	// maxLine is far above the longest line that this room writes.
	maxLine = 4096
	// The end of a line: the hash of the bytes before this, which are the line's
	// JSON without its closing brace.
	hashMark = `,"hash":"`
	hashEnd  = `"}`
)

// line is one line of a file. The order of the fields is that on disk; "hash"
// follows "prev".
type line struct {
	Layout    int    `json:"v"`
	Sequence  uint64 `json:"seq"` // from 1, through all files of one agent
	Time      string `json:"time"`
	Outcome   string `json:"outcome"`
	Code      string `json:"code,omitempty"`
	Reference string `json:"reference,omitempty"`
	Person    string `json:"person,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Count is the number of refusals that this line stands for, between Since and
	// Until; of files for outcome "removed".
	Count int    `json:"count,omitempty"`
	Since string `json:"since,omitempty"`
	Until string `json:"until,omitempty"`
	// Withheld names the fields whose value was not of their form.
	Withheld []string `json:"withheld,omitempty"`
	// After stands in the first line of a file: the file that was the newest then,
	// in which Prev is the hash of the newest line, of AfterTime. In every other
	// line Prev is the hash of the line before.
	After     string `json:"after,omitempty"`
	AfterTime string `json:"after_time,omitempty"`
	// Torn is the hash of the bytes between the line before and this one, which a
	// crash left.
	Torn string `json:"torn,omitempty"`
	// Through: every file whose newest line is not after this may be missing.
	Through  string `json:"through,omitempty"`
	Previous string `json:"prev"`
}

func (l line) at() time.Time { return parseTime(l.Time) }

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// parseTime returns the zero time for what is not one.
func parseTime(text string) time.Time {
	t, err := time.Parse(timeLayout, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// encode returns the line with its newline, and its hash.
func (l line) encode() ([]byte, string, error) {
	out, err := json.Marshal(l)
	if err != nil {
		return nil, "", errors.New("a line cannot be encoded")
	}
	out = out[:len(out)-1]
	hash := hashOf(out)
	out = append(out, hashMark+hash+hashEnd+"\n"...)
	if len(out) > maxLine {
		return nil, "", errors.New("a line is too long")
	}
	return out, hash, nil
}

// decode reads a line without its newline. ok is false unless every byte is as
// encode wrote it.
func decode(text []byte) (l line, hash string, ok bool) {
	const tail = len(hashMark) + 2*sha256.Size + len(hashEnd)
	if len(text) <= tail || len(text) >= maxLine {
		return line{}, "", false
	}
	body, end := text[:len(text)-tail], text[len(text)-tail:]
	hash = hashOf(body)
	if string(end) != hashMark+hash+hashEnd {
		return line{}, "", false
	}
	if json.Unmarshal(append(bytes.Clone(body), '}'), &l) != nil || l.Layout != layout || l.at().IsZero() {
		return line{}, "", false
	}
	return l, hash, true
}

// lineOf takes over the values of a record that are of their form.
func lineOf(r Record) line {
	l := line{Layout: layout}
	take := func(into *string, field, value string, valid bool) {
		switch {
		case valid:
			*into = value
		default:
			l.Withheld = append(l.Withheld, field)
		}
	}
	l.Outcome = "unknown"
	take(&l.Outcome, "outcome", r.Outcome, validOutcome(r.Outcome))
	take(&l.Code, "code", string(r.Code), r.Code == "" || problem.Known(string(r.Code)))
	take(&l.Reference, "reference", r.Reference, r.Reference == "" || validReference(r.Reference))
	take(&l.Person, "person", r.Person, r.Person == "" || validPerson(r.Person))
	take(&l.RequestID, "request_id", r.RequestID, r.RequestID == "" || validRequestID(r.RequestID))
	return l
}

func consists(text, of string) bool { return strings.Trim(text, of) == "" }

func validOutcome(s string) bool {
	return s != "" && len(s) <= 32 && consists(s, "abcdefghijklmnopqrstuvwxyz_")
}

func validReference(s string) bool {
	return len(s) == 8 && strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && (r < 'A' || r > 'Z') }) < 0
}

// validPerson refuses what a subject or an e-mail is not: an address, a link, or
// a token of the JOSE family (RFC 7515 §3: a header that begins with `{"`).
func validPerson(s string) bool {
	if len(s) > 254 || !utf8.ValidString(s) || strings.Contains(s, "://") || strings.HasPrefix(s, "eyJ") {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) && r != ' ' }) < 0
}

// validRequestID leaves no room for a handle, whose alphabet is wider.
func validRequestID(s string) bool {
	return len(s) >= 8 && len(s) <= 36 && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'f') && r != '-'
	}) < 0
}
