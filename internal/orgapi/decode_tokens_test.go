package orgapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func FuzzDecodeTakesWhatItsTokensSay(f *testing.F) {
	for _, body := range []string{
		wholeLaunch, strings.ReplaceAll(wholeLaunch, ":", " :\t"), strings.ReplaceAll(wholeLaunch, ",", "\r\n, "), wholeLaunch + " \n", wholeLaunch + "{",
		strings.Replace(wholeLaunch, `"name"`, `"n\u0061me"`, 1), strings.Replace(wholeLaunch, "Grace", `\"\\\/\b\f\n\r\t\u00e9\ud83d\ude42`, 1),
		strings.Replace(wholeLaunch, "Grace", `\ud83d`, 1), strings.Replace(wholeLaunch, "Grace", `\uFFFD\ud83d`, 1), strings.Replace(wholeLaunch, "Grace", "a\x01b", 1),
		strings.Replace(wholeLaunch, "Grace", `\`, 1), strings.Replace(wholeLaunch, "}", ",}", 1), strings.Replace(wholeLaunch, ",", ",,", 1),
		strings.Replace(wholeLaunch, ",", "", 1), strings.Replace(wholeLaunch, ":", "", 1), strings.Replace(wholeLaunch, ":", "::", 1),
		strings.Replace(wholeLaunch, "null", "nullx", 1), strings.Replace(wholeLaunch, "null", "nul", 1), strings.Replace(wholeLaunch, `"D-17"`, "-1e9", 1),
		"\ufeff" + wholeLaunch, `{"handle":"x"}`, `{}`, `{"a`, `{"provider_email":"\`, `{,`, `{"handle":"x",}`, " { } ",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, of := range []reflect.Type{reflect.TypeFor[LaunchRequest](), reflect.TypeFor[CreateRequest](), reflect.TypeFor[ReopenRequest]()} {
			got, want := reflect.New(of), reflect.New(of)
			err, wantErr := Decode(body, got.Interface()), decodeByTokens(body, want.Interface())
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%s %q: %v, by its tokens %v", of, body, err, wantErr)
			}
			if err == nil && !reflect.DeepEqual(got.Interface(), want.Interface()) {
				t.Fatalf("%s %q: %v, by its tokens %v", of, body, got, want)
			}
		}
	})
}

// decodeByTokens is Decode by the tokens of encoding/json, which takes several times as
// long.
func decodeByTokens(body []byte, into any) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	mended := !bytes.ContainsRune(body, unicode.ReplacementChar) && !bytes.Contains(bytes.ToLower(body), []byte(`\ufffd`))
	s := byTokens{decoder: d, refuseReplacement: mended}
	if err := s.object(reflect.ValueOf(into).Elem()); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

type byTokens struct {
	decoder *json.Decoder
	// refuseReplacement: U+FFFD was not sent, so finding it means that half a
	// surrogate pair was mended.
	refuseReplacement bool
}

func (s byTokens) object(target reflect.Value) error {
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
func (s byTokens) value(name string, target reflect.Value) error {
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
