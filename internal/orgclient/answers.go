package orgclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// maxEmailBytes bounds provider_email (RFC 5321 §4.5.3.1 allows 254).
const maxEmailBytes = 320

// fields are the members of one JSON object by their exact names. encoding/json
// alone would take the last of two equal names and ignore their case, so that
// two readers of one answer could see two answers.
type fields map[string]json.RawMessage

// object reads exactly one object: a name that stands twice, or anything after
// it, is an error. Unknown names are the caller's to ignore, so that a backend
// may be newer than the launcher.
func object(text []byte) (fields, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("the answer is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("the answer is not a JSON object")
	}
	all := fields{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errors.New("the answer is not JSON")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errors.New("the answer is not JSON")
		}
		if _, twice := all[name.(string)]; twice {
			return nil, errors.New("the answer names a member twice")
		}
		all[name.(string)] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("the answer is not JSON")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the answer")
	}
	return all, nil
}

// text returns a member that must be a string. name is a constant of ours, so
// that it may stand in the error.
func (f fields) text(name string) (string, error) {
	raw, ok := f[name]
	if !ok {
		return "", fmt.Errorf("the answer lacks %s", name)
	}
	if raw[0] != '"' {
		return "", fmt.Errorf("%s is not a string", name)
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("%s is not a string", name)
	}
	// encoding/json makes U+FFFD of half a surrogate pair: two ids could become one.
	if strings.ContainsRune(s, utf8.RuneError) && holdsHalfAPair(raw) {
		return "", fmt.Errorf("%s holds half a surrogate pair", name)
	}
	return s, nil
}

// holdsHalfAPair looks into a JSON string for an escape of one half of a surrogate pair
// without the other (RFC 8259 §8.2).
func holdsHalfAPair(raw []byte) bool {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		r := escaped(raw[i:])
		switch {
		case r < 0: // \n and its like
			i++
		case !utf16.IsSurrogate(r):
			i += 5
		case utf16.DecodeRune(r, escaped(raw[min(i+6, len(raw)):])) == utf8.RuneError:
			return true
		default:
			i += 11
		}
	}
	return false
}

// escaped returns the number of a \u escape at the beginning of a text, -1 where there
// is none.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

func (f fields) identifier(name string) (string, error) {
	s, err := f.text(name)
	if err == nil && !identifier(s) {
		err = fmt.Errorf("%s is empty, too long or holds a control character", name)
	}
	if err != nil {
		return "", err
	}
	return s, nil
}

// identifier reports whether a text is of the form of an external id: 1 to 256
// characters, none of them a control character.
func identifier(s string) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= orgapi.MaxIdentifierRunes && printable(s)
}

func printable(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

func (f fields) address() (secret.Text, error) {
	s, err := f.text("encounter_url")
	if err == nil && s == "" {
		err = errors.New("encounter_url is empty")
	}
	return secret.New(s), err
}

func readCreateAnswer(body []byte) (address secret.Text, e orgapi.Encounter, err error) {
	answer, err := object(body)
	if err != nil {
		return secret.Text{}, e, err
	}
	if address, err = answer.address(); err != nil {
		return secret.Text{}, e, err
	}
	raw, ok := answer["encounter"]
	if !ok {
		return secret.Text{}, e, errors.New("the answer lacks encounter")
	}
	inner, err := object(raw)
	if err != nil {
		return secret.Text{}, e, fmt.Errorf("reading encounter: %w", err)
	}
	if e.ExternalEncounterID, err = inner.identifier("external_encounter_id"); err != nil {
		return secret.Text{}, orgapi.Encounter{}, err
	}
	if e.ExternalProviderID, err = inner.identifier("external_provider_id"); err != nil {
		return secret.Text{}, orgapi.Encounter{}, err
	}
	if _, ok := inner["label"]; ok {
		if e.Label, err = inner.text("label"); err != nil {
			return secret.Text{}, orgapi.Encounter{}, err
		}
	}
	// A label is an ornament of the recents: it must not keep a clinician from the
	// patient, and cutting it could cut a name into another one.
	if len(e.Label) > orgapi.MaxLabelBytes {
		e.Label = ""
	}
	return address, e, nil
}

func readReopenAnswer(body []byte) (secret.Text, error) {
	answer, err := object(body)
	if err != nil {
		return secret.Text{}, err
	}
	return answer.address()
}

func readMe(body []byte) (orgapi.Me, error) {
	answer, err := object(body)
	if err != nil {
		return orgapi.Me{}, err
	}
	var me orgapi.Me
	if me.Subject, err = answer.identifier("subject"); err != nil {
		return orgapi.Me{}, err
	}
	if me.ProviderEmail, err = answer.text("provider_email"); err != nil {
		return orgapi.Me{}, err
	}
	if len(me.ProviderEmail) > maxEmailBytes || !printable(me.ProviderEmail) {
		return orgapi.Me{}, errors.New("provider_email is too long or holds a control character")
	}
	if me.ExternalProviderID, err = answer.identifier("external_provider_id"); err != nil {
		return orgapi.Me{}, err
	}
	return me, nil
}

// readProblem takes code and reference from an RFC 9457 body. The rest is text
// from outside and is not shown. A body that cannot be read names nothing.
func readProblem(body []byte) (problem.Code, string) {
	answer, err := object(body)
	if err != nil {
		return "", ""
	}
	code, err := answer.text("code")
	if err != nil {
		return "", ""
	}
	reference, err := answer.text("reference")
	if err != nil {
		reference = ""
	}
	return problem.Code(code), reference
}
