package orgapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
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
	d := json.NewDecoder(bytes.NewReader(body))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	mended := !bytes.ContainsRune(body, unicode.ReplacementChar) && !bytes.Contains(bytes.ToLower(body), []byte(`\ufffd`))
	s := strict{decoder: d, refuseReplacement: mended}
	if err := s.object(reflect.ValueOf(into).Elem()); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

type strict struct {
	decoder *json.Decoder
	// refuseReplacement: U+FFFD was not sent, so finding it means that half a
	// surrogate pair was mended.
	refuseReplacement bool
}

var errJSON = errors.New("it is not JSON")

func (s strict) object(target reflect.Value) error {
	seen := make([]bool, target.NumField())
	for s.decoder.More() {
		token, err := s.decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return errJSON
		}
		i := fieldNamed(target.Type(), name)
		if i < 0 {
			return errors.New("it has an unknown field")
		}
		if seen[i] {
			return errors.New("it has the field " + name + " twice")
		}
		seen[i] = true
		if err := s.value(name, target.Field(i)); err != nil {
			return err
		}
	}
	if _, err := s.decoder.Token(); err != nil {
		return errJSON
	}
	for i, was := range seen {
		if name, optional := tagOf(target.Type().Field(i)); !was && !optional {
			return errors.New("the field " + name + " is missing")
		}
	}
	return nil
}

// value reads the field of a name, which is one of ours.
func (s strict) value(name string, target reflect.Value) error {
	token, err := s.decoder.Token()
	if err != nil {
		return errJSON
	}
	switch v := token.(type) {
	case nil:
		if target.Kind() == reflect.Pointer {
			return nil
		}
	case string:
		if s.refuseReplacement && strings.ContainsRune(v, unicode.ReplacementChar) {
			return errors.New("the field " + name + " holds half a surrogate pair")
		}
		if target.Kind() == reflect.Pointer && target.Type().Elem().Kind() == reflect.String {
			target.Set(reflect.ValueOf(&v))
			return nil
		}
		if target.Kind() == reflect.String {
			target.SetString(v)
			return nil
		}
	case json.Delim:
		if v == '{' && target.Kind() == reflect.Struct {
			return s.object(target)
		}
	}
	return errors.New("the field " + name + " has the wrong type")
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
