package orgapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Decode fills a request type of this package (a struct of strings and structs)
// from one JSON object, and refuses whatever is not exactly that. encoding/json
// alone would repair: it ignores the case of names, lets the last of two equal
// names win, reads null as empty and mends bad UTF-8. The tags say what is
// allowed: a field with omitempty may be absent, a pointer may be null. Errors
// say what is wrong and in which field of ours, never what was sent: they are safe
// for people.
func Decode(body []byte, into any) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	s := strict{text: body}
	if !s.take('{') {
		return errors.New("it is not a JSON object")
	}
	if err := s.object(reflect.ValueOf(into).Elem()); err != nil {
		return err
	}
	if s.space(); s.at < len(body) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

// strict goes once through a text that is UTF-8.
type strict struct {
	text []byte
	at   int
}

var errJSON = errors.New("it is not JSON")

func (s *strict) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// take goes past a character, if it is what comes next.
func (s *strict) take(c byte) bool {
	if s.space(); s.at == len(s.text) || s.text[s.at] != c {
		return false
	}
	s.at++
	return true
}

// object reads what follows the brace.
func (s *strict) object(target reflect.Value) error {
	seen := make([]bool, target.NumField())
	last := ""
	for first := true; !s.take('}'); first = false {
		if !first && !s.take(',') || !s.take('"') {
			return errJSON
		}
		name, err := s.quoted()
		if err != nil {
			return err
		}
		i := fieldNamed(target.Type(), name)
		switch {
		case i < 0 && last == "":
			return errors.New("it has an unknown field at the beginning of an object")
		case i < 0:
			// Its own name is the caller's, and may be anything.
			return errors.New("it has an unknown field after the field " + last)
		}
		last = name
		if seen[i] {
			return errors.New("it has the field " + name + " twice")
		}
		seen[i] = true
		if !s.take(':') {
			return errJSON
		}
		if err := s.value(name, target.Field(i)); err != nil {
			return err
		}
	}
	for i, was := range seen {
		if was {
			continue
		}
		if name, optional := tagOf(target.Type().Field(i)); !optional {
			return errors.New("the field " + name + " is missing")
		}
	}
	return nil
}

// value reads the field of a name, which is one of ours.
func (s *strict) value(name string, target reflect.Value) error {
	wrong := func() error { return errors.New("the field " + name + " has the wrong type") }
	switch {
	case s.take('"'):
		v, err := s.quoted()
		if err != nil {
			return err
		}
		// U+FFFD that was not sent means that half a surrogate pair was mended.
		if strings.ContainsRune(v, unicode.ReplacementChar) && !s.sentReplacement() {
			return errors.New("the field " + name + " holds half a surrogate pair")
		}
		switch {
		case target.Kind() == reflect.String:
			target.SetString(v)
		case target.Kind() == reflect.Pointer && target.Type().Elem().Kind() == reflect.String:
			target.Set(reflect.ValueOf(&v))
		default:
			return wrong()
		}
		return nil
	case s.take('{'):
		if target.Kind() != reflect.Struct {
			return wrong()
		}
		return s.object(target)
	}
	rest := s.text[s.at:] // take has gone past space
	switch {
	case bytes.HasPrefix(rest, []byte("null")):
		if s.at += len("null"); target.Kind() == reflect.Pointer {
			return nil
		}
		return wrong()
	case len(rest) > 0 && strings.IndexByte("[-0123456789tf", rest[0]) >= 0:
		return wrong()
	}
	return errJSON
}

// quoted reads what follows the quotation mark.
func (s *strict) quoted() (string, error) {
	from, plain := s.at, true
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			if plain {
				return string(s.text[from : s.at-1]), nil
			}
			var v string
			if json.Unmarshal(s.text[from-1:s.at], &v) != nil {
				return "", errJSON
			}
			return v, nil
		case c == '\\':
			plain = false
			s.at++ // what follows does not end the string
		case c < ' ':
			return "", errJSON
		}
	}
	return "", errJSON
}

func (s *strict) sentReplacement() bool {
	return bytes.ContainsRune(s.text, unicode.ReplacementChar) || bytes.Contains(bytes.ToLower(s.text), []byte(`\ufffd`))
}

func fieldNamed(t reflect.Type, name string) int {
	for i := range t.NumField() {
		if tag, _ := tagOf(t.Field(i)); tag == name {
			return i
		}
	}
	return -1
}

func tagOf(f reflect.StructField) (name string, optional bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	for option := range strings.SplitSeq(options, ",") {
		optional = optional || option == "omitempty"
	}
	return name, optional
}
