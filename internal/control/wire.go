package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
)

// host is what every request names in its Host header: a channel of one program
// has one name, and a request made by anything else shows itself.
const host = "encounter-launcher"

// The routes. linkRoute is frozen: request, answer and address never change, so
// that an old handler and a new agent always understand each other.
const (
	linkRoute     = "/v1/link"
	refusalRoute  = "/v1/refusal"
	snapshotRoute = "/v1/snapshot"
	watchRoute    = "/v1/watch"
	policyRoute   = "/v1/policy"
	intentRoutes  = "/v1/"
)

// The names of the fields in bodies.
const (
	linkField      = "link"
	tokenField     = "activation_token"
	startupField   = "startup_id"
	codeField      = "code"
	referenceField = "reference"
	idField        = "id"
	lastField      = "last"
	allField       = "all"
	keyField       = "key"
	valueField     = "value"
	finishField    = "finish"
)

// maxActivation bounds an activation token and a startup id, in bytes. Both end
// up in the environment of the browser; compositors' are below 100.
const maxActivation = 512

// maxID bounds the ids in intents, and the key and the value of a choice, in
// bytes.
const maxID = 128

// linkBody is the request of the frozen route.
type linkBody struct {
	Link            string `json:"link"`
	ActivationToken string `json:"activation_token"`
	StartupID       string `json:"startup_id"`
}

// refusalBody reports a link that a handler refused by itself.
type refusalBody struct {
	Code      problem.Code `json:"code"`
	Reference string       `json:"reference"`
}

// intentBody is the union of what intents carry.
type intentBody struct {
	ID              string `json:"id,omitempty"`
	Last            bool   `json:"last,omitempty"`
	All             bool   `json:"all,omitempty"`
	Key             string `json:"key,omitempty"`
	Value           string `json:"value,omitempty"`
	Finish          bool   `json:"finish,omitempty"`
	ActivationToken string `json:"activation_token,omitempty"`
	StartupID       string `json:"startup_id,omitempty"`
}

// refusal is the answer to what was not done. The sentences are in the language
// of the person; code, reference and fact restore the problem.
type refusal struct {
	Code      problem.Code `json:"code"`
	Reference string       `json:"reference"`
	Sentence  string       `json:"sentence"`
	NextStep  string       `json:"next_step"`
	Fact      string       `json:"fact"`
}

// allowed says for every intent which fields its body may have.
func allowed(intent string) ([]string, bool) {
	switch intent {
	case SignIn, ShowSignIn, OpenHelpDesk, OpenWindow:
		return []string{tokenField, startupField}, true
	case SignOut:
		return []string{allField}, true
	case OpenRecent:
		return []string{idField, lastField, tokenField, startupField}, true
	case Cancel, RemoveRecent:
		return []string{idField}, true
	case Choose:
		return []string{keyField, valueField}, true
	case Retry, FreshLink:
		return []string{idField, tokenField, startupField}, true
	case Quit:
		return []string{finishField}, true
	case ClearRecents, UndoRemove, Check:
		return nil, true
	}
	return nil, false
}

// object is the outer level of a body: exact field names, none twice.
type object map[string]json.RawMessage

// decode reads one JSON object. encoding/json alone would take a field in any
// case, keep the last of two, mend broken UTF-8 and ignore what follows.
func decode(body []byte) (object, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the body is not a JSON object")
	}
	o := object{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, errors.New("the body is not JSON")
		}
		name, ok := t.(string)
		if !ok {
			return nil, errors.New("the body is not a JSON object")
		}
		if _, twice := o[name]; twice {
			return nil, errors.New("a field of the body stands there twice")
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, errors.New("the body is not JSON")
		}
		o[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("the body is not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the body")
	}
	return o, nil
}

// only refuses fields that are not named.
func (o object) only(names ...string) error {
next:
	for have := range o {
		for _, name := range names {
			if have == name {
				continue next
			}
		}
		return errors.New("the body has an unknown field")
	}
	return nil
}

// text returns a field of type string, or nothing when it is absent.
func (o object) text(name string) (string, error) {
	raw, ok := o[name]
	if !ok {
		return "", nil
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", errors.New("a field of the body is not a string")
	}
	return *s, nil
}

// flag returns a field of type bool, or false when it is absent.
func (o object) flag(name string) (bool, error) {
	raw, ok := o[name]
	if !ok {
		return false, nil
	}
	var b *bool
	if err := json.Unmarshal(raw, &b); err != nil || b == nil {
		return false, errors.New("a field of the body is not a boolean")
	}
	return *b, nil
}

// activation returns what may go into the environment of the opener. It is a
// comfort, so one that cannot be used is left out and nothing is refused for it.
func (o object) activation() (Activation, error) {
	token, err := o.text(tokenField)
	if err != nil {
		return Activation{}, err
	}
	startup, err := o.text(startupField)
	if err != nil {
		return Activation{}, err
	}
	return Activation{Token: usable(token), StartupID: usable(startup)}, nil
}

func usable(s string) string {
	if !printable(s, maxActivation) {
		return ""
	}
	return s
}

// printable reports whether s is short and visible ASCII.
func printable(s string, most int) bool {
	if len(s) > most {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// decodeLink reads the request of the frozen route, where a newer handler may
// send fields that this agent does not know.
func decodeLink(body []byte) (string, Activation, error) {
	o, err := decode(body)
	if err != nil {
		return "", Activation{}, err
	}
	link, err := o.text(linkField)
	if err != nil {
		return "", Activation{}, err
	}
	a, err := o.activation()
	return link, a, err
}

// decodeRefusal reads what a handler refused by itself.
func decodeRefusal(body []byte) (problem.Code, string, error) {
	o, err := decode(body)
	if err != nil {
		return "", "", err
	}
	if err := o.only(codeField, referenceField); err != nil {
		return "", "", err
	}
	code, err := o.text(codeField)
	if err != nil {
		return "", "", err
	}
	reference, err := o.text(referenceField)
	if err != nil {
		return "", "", err
	}
	p := problem.Restore(code, reference, "")
	if string(p.Code) != code || p.Reference != reference {
		return "", "", errors.New("the body names no problem")
	}
	return p.Code, p.Reference, nil
}

// decodeIntent reads an intent; an empty body stands for an empty object.
func decodeIntent(name string, body []byte) (Intent, error) {
	names, ok := allowed(name)
	if !ok {
		return Intent{}, errors.New("there is no such intent")
	}
	i := Intent{Name: name}
	if len(body) == 0 {
		return i, i.check()
	}
	o, err := decode(body)
	if err != nil {
		return Intent{}, err
	}
	if err := o.only(names...); err != nil {
		return Intent{}, err
	}
	if i.ID, err = o.text(idField); err != nil {
		return Intent{}, err
	}
	if i.Last, err = o.flag(lastField); err != nil {
		return Intent{}, err
	}
	if i.All, err = o.flag(allField); err != nil {
		return Intent{}, err
	}
	if i.Finish, err = o.flag(finishField); err != nil {
		return Intent{}, err
	}
	if i.Key, err = o.text(keyField); err != nil {
		return Intent{}, err
	}
	if i.Value, err = o.text(valueField); err != nil {
		return Intent{}, err
	}
	if i.Activation, err = o.activation(); err != nil {
		return Intent{}, err
	}
	return i, i.check()
}

// check refuses what an intent's own fields contradict.
func (i Intent) check() error {
	if !printable(i.ID, maxID) {
		return errors.New("the id is not one of ours")
	}
	if !printable(i.Key, maxID) || !printable(i.Value, maxID) || i.Name == Choose && i.Key == "" {
		return errors.New("the choice is not one of ours")
	}
	if i.Name == RemoveRecent && i.ID == "" {
		return errors.New("remove-recent needs an id")
	}
	if i.Name == OpenRecent && i.Last == (i.ID != "") {
		return errors.New("open-recent needs either an id or last")
	}
	return nil
}

// encodeIntent writes the body of an intent.
func encodeIntent(i Intent) ([]byte, error) {
	return encode(intentBody{ID: i.ID, Last: i.Last, All: i.All, Finish: i.Finish, Key: i.Key, Value: i.Value, ActivationToken: i.Activation.Token, StartupID: i.Activation.StartupID})
}

// encode writes JSON without the escapes that are only meant for HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, errors.New("writing JSON")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
