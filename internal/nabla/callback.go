package nabla

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The types of callback (Nabla Connect, page "Callback types").
const (
	NoteExport                = "NOTE_EXPORT"
	PatientInstructionsExport = "PATIENT_INSTRUCTIONS_EXPORT"
)

// Callback is a verified call of Nabla's, by the letter of its page "Callback
// types". Of Note and Instructions exactly one is set, as Type says. It is all
// about a patient: it is never logged.
type Callback struct {
	RequestUUID, Type                                          string
	ExternalPatientID, ExternalEncounterID, ExternalProviderID string
	Note                                                       *Note
	Instructions                                               string
}

// Note is the data of NOTE_EXPORT.
type Note struct {
	Sections   []Section
	Diagnoses  []Diagnosis
	Transcript []Utterance
}

// Section is one section of a note. Category is one of the vendor's words; empty
// (null there) fits none. Several sections may share one.
type Section struct {
	Content  string `json:"content"`
	Title    string `json:"title"`
	Category string `json:"category"`
}

// Diagnosis is one of visit_diagnoses.
type Diagnosis struct {
	System  string `json:"system"`
	Code    string `json:"code"`
	Display string `json:"display"`
	IsHCC   bool   `json:"is_hcc"`
	IsMCC   bool   `json:"is_mcc"`
}

// Utterance is one part of the transcript. Offsets are in milliseconds.
type Utterance struct {
	Text          string `json:"text"`
	SpeakerType   string `json:"speaker_type"`
	Locale        string `json:"locale"`
	StartOffsetMS int64  `json:"start_offset_ms"`
	EndOffsetMS   int64  `json:"end_offset_ms"`
}

// The bounds of what identifies something in a callback, in characters.
const (
	maxRequestUUID = 128
	maxExternalID  = 256
	maxDepth       = 32
)

var (
	// ErrUnknownType: the vendor calls with a type that is not known here, which is
	// answered with 400.
	ErrUnknownType = errors.New("the callback is of a type that is not known")
	// ErrInvalid: the body is not a callback by the letter, which is answered with
	// 400. What wraps it names the field, never a value.
	ErrInvalid = errors.New("the body is not a callback of Nabla Connect")
)

// Parse reads the body of a callback that was verified.
//
// It is strict in what is documented: UTF-8, one JSON object, no name twice,
// request_uuid of 1 to 128 letters, digits and "-_.:", the three ids of 1 to 256
// characters without control characters, every text a text. It is open to what the
// vendor may add without a new version: further fields are passed over, categories
// and speakers of other names kept as they are, and what is optional or may be null
// may be absent, false included. Offsets with a fraction are rounded. Where the
// diagnoses and the transcript stand is not quite said: beside the note, or, when
// they are not there, inside it.
//
// For ErrUnknownType the Callback has its RequestUUID, for every other error it is
// empty.
func Parse(raw []byte) (Callback, error) {
	if !utf8.Valid(raw) {
		return Callback{}, invalid("it is not UTF-8")
	}
	if !json.Valid(raw) {
		return Callback{}, invalid("it is not JSON")
	}
	w := walker{text: string(raw)}
	tree := w.value(0)
	if w.err != nil {
		return Callback{}, w.err
	}
	root, ok := tree.(map[string]any)
	if !ok {
		return Callback{}, invalid("it is not a JSON object")
	}
	r := reader{}
	c := Callback{RequestUUID: r.word(root, "request_uuid"), Type: r.text(root, "type")}
	if r.err != nil {
		return Callback{}, r.err
	}
	if c.Type != NoteExport && c.Type != PatientInstructionsExport {
		return Callback{RequestUUID: c.RequestUUID}, ErrUnknownType
	}
	data := r.object(root, "data")
	c.ExternalPatientID = r.id(data, "external_patient_id")
	c.ExternalEncounterID = r.id(data, "external_encounter_id")
	c.ExternalProviderID = r.id(data, "external_provider_id")
	if c.Type == NoteExport {
		c.Note = r.note(data)
	} else {
		c.Instructions = r.text(r.object(data, "patient_instructions"), "instructions")
	}
	if r.err != nil {
		return Callback{}, r.err
	}
	return c, nil
}

func invalid(what string) error { return fmt.Errorf("%w: %s", ErrInvalid, what) }

// walker makes a tree of a text that is JSON. encoding/json alone would repair: it
// takes the last of two equal names, and names in another case; its tokens cost ten
// times as much as the walk, and a clinician waits for the answer.
type walker struct {
	text string
	at   int
	err  error
}

func (w *walker) fault(what string) {
	if w.err == nil {
		w.err = invalid(what)
	}
}

// next passes over blanks and returns the byte that follows. Valid JSON has one
// wherever this is called.
func (w *walker) next() byte {
	for w.text[w.at] == ' ' || w.text[w.at] == '\n' || w.text[w.at] == '\r' || w.text[w.at] == '\t' {
		w.at++
	}
	return w.text[w.at]
}

func (w *walker) value(depth int) any {
	first := w.next()
	if depth > maxDepth {
		w.fault("it is nested too deeply")
	}
	if w.err != nil {
		return nil
	}
	switch first {
	case '{':
		return w.object(depth)
	case '[':
		return w.list(depth)
	case '"':
		return w.string()
	case 't':
		w.at += len("true")
		return true
	case 'f':
		w.at += len("false")
		return false
	case 'n':
		w.at += len("null")
		return nil
	}
	start := w.at
	for w.at < len(w.text) && strings.IndexByte("+-.0123456789Ee", w.text[w.at]) >= 0 {
		w.at++
	}
	return json.Number(w.text[start:w.at])
}

func (w *walker) object(depth int) map[string]any {
	object := map[string]any{}
	for w.at++; w.next() != '}' && w.err == nil; {
		if w.text[w.at] == ',' {
			w.at++
			w.next()
		}
		name := w.string()
		w.next()
		w.at++ // the colon
		if _, twice := object[name]; twice {
			w.fault("it has the same name twice")
		}
		object[name] = w.value(depth + 1)
		if w.err != nil {
			return nil
		}
	}
	w.at++
	return object
}

func (w *walker) list(depth int) []any {
	list := []any{}
	for w.at++; w.next() != ']' && w.err == nil; {
		if w.text[w.at] == ',' {
			w.at++
		}
		list = append(list, w.value(depth+1))
		if w.err != nil {
			return nil
		}
	}
	w.at++
	return list
}

// string reads a text, which begins where the walker stands.
func (w *walker) string() string {
	start := w.at
	escaped := false
	for w.at++; w.text[w.at] != '"'; w.at++ {
		if w.text[w.at] == '\\' {
			escaped = true
			w.at++
		}
	}
	w.at++
	if !escaped {
		return w.text[start+1 : w.at-1]
	}
	var text string
	if json.Unmarshal([]byte(w.text[start:w.at]), &text) != nil {
		w.fault("it is not JSON")
	}
	return text
}

// reader takes fields out of objects and keeps the first fault.
type reader struct{ err error }

func (r *reader) fault(name, what string) {
	if r.err == nil {
		r.err = invalid(name + " " + what)
	}
}

// field returns a value of the wanted type. An optional one may be absent or null.
func field[T any](r *reader, o map[string]any, name string, optional bool) (value T, there bool) {
	v, found := o[name]
	if optional && v == nil {
		return value, false
	}
	value, there = v.(T)
	switch {
	case !found:
		r.fault(name, "is missing")
	case !there:
		r.fault(name, "has the wrong type")
	}
	return value, there
}

func (r *reader) object(o map[string]any, name string) map[string]any {
	v, _ := field[map[string]any](r, o, name, false)
	return v
}

func (r *reader) text(o map[string]any, name string) string {
	v, _ := field[string](r, o, name, false)
	return v
}

func (r *reader) optionalText(o map[string]any, name string) string {
	v, _ := field[string](r, o, name, true)
	return v
}

func (r *reader) optionalBool(o map[string]any, name string) bool {
	v, _ := field[bool](r, o, name, true)
	return v
}

// word is a text that is safe in a log and as a key.
func (r *reader) word(o map[string]any, name string) string {
	v := r.text(o, name)
	ok := v != "" && len(v) <= maxRequestUUID
	for i := range len(v) {
		c := v[i]
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c == '.' || c == ':')
	}
	if !ok {
		r.fault(name, "is not a UUID")
	}
	return v
}

func (r *reader) id(o map[string]any, name string) string {
	v := r.text(o, name)
	if n := utf8.RuneCountInString(v); n == 0 || n > maxExternalID {
		r.fault(name, "does not have 1 to 256 characters")
	}
	for _, c := range v {
		if unicode.IsControl(c) {
			r.fault(name, "holds a control character")
		}
	}
	return v
}

// objects reads a list; nil where it is optional and absent or null.
func objects[T any](r *reader, o map[string]any, name string, optional bool, read func(map[string]any) T) []T {
	list, there := field[[]any](r, o, name, optional)
	if !there {
		return nil
	}
	out := make([]T, 0, len(list))
	for _, item := range list {
		object, ok := item.(map[string]any)
		if !ok {
			r.fault(name, "holds something that is no object")
			return nil
		}
		out = append(out, read(object))
	}
	return out
}

// milliseconds reads a time in the transcript.
func (r *reader) milliseconds(o map[string]any, name string) int64 {
	v, _ := field[json.Number](r, o, name, false)
	if whole, err := v.Int64(); err == nil {
		return whole
	}
	const most = 1 << 53
	f, err := v.Float64()
	if err != nil || math.Abs(f) > most {
		r.fault(name, "is not a number of milliseconds")
		return 0
	}
	return int64(math.Round(f))
}

func (r *reader) note(data map[string]any) *Note {
	note := r.object(data, "note")
	return &Note{
		Sections: objects(r, note, "sections", false, func(o map[string]any) Section {
			return Section{Content: r.text(o, "content"), Title: r.text(o, "title"), Category: r.optionalText(o, "category")}
		}),
		Diagnoses: objects(r, holder(data, note, "visit_diagnoses"), "visit_diagnoses", true, func(o map[string]any) Diagnosis {
			return Diagnosis{
				System: r.text(o, "system"), Code: r.text(o, "code"), Display: r.text(o, "display"),
				IsHCC: r.optionalBool(o, "is_hcc"), IsMCC: r.optionalBool(o, "is_mcc"),
			}
		}),
		Transcript: objects(r, holder(data, note, "transcript"), "transcript", true, func(o map[string]any) Utterance {
			return Utterance{
				Text: r.text(o, "text"), SpeakerType: r.optionalText(o, "speaker_type"), Locale: r.optionalText(o, "locale"),
				StartOffsetMS: r.milliseconds(o, "start_offset_ms"), EndOffsetMS: r.milliseconds(o, "end_offset_ms"),
			}
		}),
	}
}

func holder(data, note map[string]any, name string) map[string]any {
	if _, beside := data[name]; beside {
		return data
	}
	return note
}
