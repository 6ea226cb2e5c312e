package nablasim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// field is one row of a payload's table. Its name is the path from the root.
type field struct {
	name     string
	object   bool
	optional bool
	nullable bool
	maxRunes int // 0 means no limit
	email    bool
	word     bool // a word of an enum
}

const maxIDRunes = 256

// createFields is the payload of POST /encounters, version 2026-02-13.
var createFields = []field{
	{name: "provider_email", email: true},
	{name: "external_provider_id", maxRunes: maxIDRunes},
	{name: "external_patient_id", maxRunes: maxIDRunes},
	{name: "external_encounter_id", maxRunes: maxIDRunes},
	{name: "structured_context", object: true},
	{name: "structured_context.patient_demographics", object: true},
	{name: "structured_context.patient_demographics.name"},
	{name: "structured_context.patient_demographics.birth_date"},
	{name: "structured_context.patient_demographics.gender"},
	{name: "structured_context.patient_demographics.pronouns", nullable: true},
	{name: "unstructured_context", optional: true, nullable: true, maxRunes: 700},
}

// legacyFields is the payload of POST /encounters before 2026-02-13, as far as the
// vendor's page says: text only.
var legacyFields = []field{
	{name: "provider_email", email: true},
	{name: "external_provider_id", maxRunes: maxIDRunes},
	{name: "external_patient_id", maxRunes: maxIDRunes},
	{name: "external_encounter_id", maxRunes: maxIDRunes},
	{name: "unstructured_context", nullable: true, maxRunes: 700},
}

// refreshFields is the payload of POST /encounters/url.
var refreshFields = []field{
	{name: "external_provider_id", maxRunes: maxIDRunes},
	{name: "external_encounter_id", maxRunes: maxIDRunes},
}

// tokenFields is the payload of POST /oauth/token.
var tokenFields = []field{
	{name: "grant_type"},
	{name: "client_assertion_type"},
	{name: "client_assertion"},
}

// readFields reads one JSON object by its table and returns its texts by path.
// Null and absent are the same in the result. The error is a reason for the
// caller: it names the field, never a value.
func readFields(body []byte, table []field) (map[string]string, error) {
	p, err := readPayload(body, table)
	return p.text, err
}

// payload is a body that was read: texts, and which fields were there, or null.
type payload struct {
	text      map[string]string
	has, null map[string]bool
}

func readPayload(body []byte, table []field) (payload, error) {
	p := payload{text: map[string]string{}, has: map[string]bool{}, null: map[string]bool{}}
	if !utf8.Valid(body) {
		return payload{}, errors.New("the body is not UTF-8")
	}
	rows := map[string]field{}
	for _, f := range table {
		rows[f.name] = f
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return payload{}, errors.New("the body is not a JSON object")
	}
	if err := readObject(d, "", rows, p); err != nil {
		return payload{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return payload{}, errors.New("something follows the JSON object")
	}
	for _, f := range table {
		if !p.has[f.name] && !f.optional {
			return payload{}, fmt.Errorf("%s is missing", f.name)
		}
	}
	return p, nil
}

var errNotJSON = errors.New("the body is not JSON")

func readObject(d *json.Decoder, prefix string, rows map[string]field, p payload) error {
	for d.More() {
		token, err := d.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return errNotJSON
		}
		name := prefix + key
		f, known := rows[name]
		// A dot inside a key would let "a.b" pass for b inside a.
		if !known || strings.Contains(key, ".") {
			return fmt.Errorf("unknown field in %s", where(prefix))
		}
		if p.has[name] {
			return fmt.Errorf("%s is there twice", name)
		}
		p.has[name] = true
		value, err := d.Token()
		if err != nil {
			return errNotJSON
		}
		switch v := value.(type) {
		case json.Delim:
			if v != '{' || !f.object {
				return fmt.Errorf("%s has the wrong type", name)
			}
			if err := readObject(d, name+".", rows, p); err != nil {
				return err
			}
		case string:
			if f.object {
				return fmt.Errorf("%s has the wrong type", name)
			}
			if err := f.check(v); err != nil {
				return err
			}
			p.text[name] = v
		case nil:
			if !f.nullable {
				return fmt.Errorf("%s may not be null", name)
			}
			p.null[name] = true
		default:
			return fmt.Errorf("%s has the wrong type", name)
		}
	}
	if _, err := d.Token(); err != nil {
		return errNotJSON
	}
	return nil
}

func where(prefix string) string {
	if prefix == "" {
		return "the body"
	}
	return strings.TrimSuffix(prefix, ".")
}

func (f field) check(v string) error {
	if strings.TrimSpace(v) == "" && !f.nullable {
		return fmt.Errorf("%s is empty", f.name)
	}
	if f.maxRunes > 0 && utf8.RuneCountInString(v) > f.maxRunes {
		return fmt.Errorf("%s is longer than %d characters", f.name, f.maxRunes)
	}
	if f.word && !wordForm.MatchString(v) {
		return fmt.Errorf("%s is not a word of an enum", f.name)
	}
	if f.email {
		local, host, ok := strings.Cut(v, "@")
		if !ok || local == "" || host == "" || strings.ContainsAny(v, " \t\r\n") || strings.Contains(host, "@") {
			return fmt.Errorf("%s is not an e-mail address", f.name)
		}
	}
	return nil
}
