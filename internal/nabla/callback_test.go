package nabla

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/secret"
)

const (
	oldSecret = "the-secret-of-last-month"
	newSecret = "the-secret-of-this-month"
	noteBody  = `{"request_uuid":"0c1b4b7e-9d55-4a4f-8c9b-7a116f1e8a52","type":"NOTE_EXPORT","new":{"a":[1]},"data":{` +
		`"external_patient_id":"P-1","external_encounter_id":"E-1","external_provider_id":"D-17",` +
		`"note":{"sections":[{"content":"Cough for <3 days\n","title":"Reason","category":"CHIEF_COMPLAINT"},{"content":"","title":"Other","category":null},{"content":"x","title":"y","category":"OF_NEXT_YEAR"}]},` +
		`"visit_diagnoses":[{"system":"ICD-10","code":"R05","display":"Cough","is_hcc":false,"is_mcc":true}],` +
		`"transcript":[{"text":"Grüezi 👋","speaker_type":"DOCTOR","locale":"de-CH","start_offset_ms":0,"end_offset_ms":1200}]}}`
	instructionsBody = `{"request_uuid":"r-1","type":"PATIENT_INSTRUCTIONS_EXPORT","data":{"external_patient_id":"P-1","external_encounter_id":"E-1","external_provider_id":"D-17","patient_instructions":{"instructions":"Rest."}}}`
)

var callbackTime = time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)

func verifierAt(t testing.TB, now time.Time) *Verifier {
	t.Helper()
	v, err := NewVerifier([]secret.Text{secret.New(newSecret), secret.New(oldSecret)}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func signed(timestamp, signatures string) http.Header {
	return http.Header{HeaderTimestamp: {timestamp}, HeaderSignature: {signatures}}
}

// recomputed is the documented signature, written a second time.
func recomputed(key, timestamp string, body []byte) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(timestamp + string(body)))
	return hex.EncodeToString(h.Sum(nil))
}

func TestACallbackSignedWithAnyOfTheSecretsIsAccepted(t *testing.T) {
	body, at := []byte(noteBody), "2026-11-03T09:00:00Z"
	wrong := strings.Repeat("0", 64)
	for name, signatures := range map[string]string{
		"the new secret":      recomputed(newSecret, at, body),
		"the old secret":      recomputed(oldSecret, at, body),
		"both":                recomputed(oldSecret, at, body) + "," + recomputed(newSecret, at, body),
		"the last of several": wrong + " ,\t" + wrong + ", " + recomputed(newSecret, at, body) + " ",
		"capitals":            strings.ToUpper(recomputed(newSecret, at, body)),
		"sixteen":             strings.Repeat(wrong+",", 15) + recomputed(newSecret, at, body),
	} {
		t.Run(name, func(t *testing.T) {
			if err := verifierAt(t, callbackTime).Verify(signed(at, signatures), body); err != nil {
				t.Error(err)
			}
		})
	}
	h := signed(at, wrong)
	h.Add(HeaderSignature, Sign(secret.New(oldSecret), at, body))
	if err := verifierAt(t, callbackTime).Verify(h, body); err != nil {
		t.Errorf("in a second header: %v", err)
	}
}

func TestTheTimestampMayHaveTheFormsOfISO8601WithAZone(t *testing.T) {
	body := []byte(noteBody)
	for _, at := range []string{
		"2026-11-03T09:00:00Z", "2026-11-03T09:00:00.123Z", "2026-11-03T09:00:00.123456789Z", "2026-11-03T10:00:00+01:00",
		"2026-11-03T04:00:00.5-05:00", "2026-11-03T09:00Z",
	} {
		if err := verifierAt(t, callbackTime.Add(time.Second)).Verify(signed(at, recomputed(newSecret, at, body)), body); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	for _, at := range []string{
		"", "now", "2026-11-03", "2026-11-03T09:00:00", "2026-11-03 09:00:00Z", "1793696400", "2026-13-03T09:00:00Z", "2026-11-03T25:00:00Z", "20261103T090000Z",
		"Tue, 03 Nov 2026 09:00:00 GMT", "2026-11-03T09:00:00Z2026-11-03T09:00:00Z", "2026-11-03T09:00:00." + strings.Repeat("0", 40) + "Z",
	} {
		if err := verifierAt(t, callbackTime).Verify(signed(at, recomputed(newSecret, at, body)), body); !errors.Is(err, ErrHeaders) {
			t.Errorf("%q: %v", at, err)
		}
	}
}

func TestACallbackWorksForAMinuteAndHalfAMinuteAhead(t *testing.T) {
	body, at := []byte(noteBody), "2026-11-03T09:00:00Z"
	header := signed(at, recomputed(newSecret, at, body))
	for after, want := range map[time.Duration]error{
		0: nil, CallbackLife: nil, CallbackLife + time.Nanosecond: ErrStale, 24 * time.Hour: ErrStale,
		-CallbackSkew: nil, -CallbackSkew - time.Nanosecond: ErrStale,
	} {
		if err := verifierAt(t, callbackTime.Add(after)).Verify(header, body); !errors.Is(err, want) {
			t.Errorf("%v after: %v", after, err)
		}
	}
	if err := verifierAt(t, callbackTime).Verify(signed("0001-01-01T00:00:00Z", strings.Repeat("0", 64)), body); !errors.Is(err, ErrStale) {
		t.Errorf("a time before all times: %v", err)
	}
}

func TestACallbackThatWasChangedOrSignedByAnotherIsRefused(t *testing.T) {
	body, at := []byte(noteBody), "2026-11-03T09:00:00Z"
	good := recomputed(newSecret, at, body)
	for name, c := range map[string]struct {
		header http.Header
		body   string
		want   error
	}{
		"a byte of the body": {signed(at, good), noteBody + " ", ErrSignature},
		"an empty body":      {signed(at, good), "", ErrSignature},
		"another timestamp":  {signed("2026-11-03T09:00:01Z", good), noteBody, ErrSignature},
		"the same time, written otherwise": {
			signed("2026-11-03T09:00:00.0Z", good), noteBody, ErrSignature,
		},
		"another's secret":        {signed(at, recomputed("a-secret-that-is-not-ours", at, body)), noteBody, ErrSignature},
		"the body alone":          {signed(at, recomputed(newSecret, "", body)), noteBody, ErrSignature},
		"no signature":            {http.Header{HeaderTimestamp: {at}}, noteBody, ErrHeaders},
		"an empty signature":      {signed(at, ""), noteBody, ErrHeaders},
		"no timestamp":            {http.Header{HeaderSignature: {good}}, noteBody, ErrHeaders},
		"two timestamps":          {http.Header{HeaderTimestamp: {at, at}, HeaderSignature: {good}}, noteBody, ErrHeaders},
		"a comma too many":        {signed(at, good+","), noteBody, ErrHeaders},
		"half a signature":        {signed(at, good[:32]), noteBody, ErrHeaders},
		"a signature and a digit": {signed(at, good+"0"), noteBody, ErrHeaders},
		"no hexadecimal digit":    {signed(at, "g"+good[1:]), noteBody, ErrHeaders},
		"seventeen":               {signed(at, strings.Repeat(good+",", 16)+good), noteBody, ErrHeaders},
	} {
		t.Run(name, func(t *testing.T) {
			if err := verifierAt(t, callbackTime).Verify(c.header, []byte(c.body)); !errors.Is(err, c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestSecretsThatCannotProtectAreRefused(t *testing.T) {
	good := secret.New(newSecret)
	for name, secrets := range map[string][]secret.Text{
		"none": nil, "an empty one": {good, {}}, "a short one": {secret.New("short")},
		"nine": {good, good, good, good, good, good, good, good, good},
	} {
		if _, err := NewVerifier(secrets, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBothTypesOfCallbackAreRead(t *testing.T) {
	got, err := Parse([]byte(noteBody))
	if err != nil {
		t.Fatal(err)
	}
	want := Callback{
		RequestUUID: "0c1b4b7e-9d55-4a4f-8c9b-7a116f1e8a52", Type: NoteExport, ExternalPatientID: "P-1", ExternalEncounterID: "E-1", ExternalProviderID: "D-17",
		Note: &Note{
			Sections: []Section{
				{Content: "Cough for <3 days\n", Title: "Reason", Category: "CHIEF_COMPLAINT"}, {Title: "Other"}, {Content: "x", Title: "y", Category: "OF_NEXT_YEAR"},
			},
			Diagnoses:  []Diagnosis{{System: "ICD-10", Code: "R05", Display: "Cough", IsMCC: true}},
			Transcript: []Utterance{{Text: "Grüezi 👋", SpeakerType: "DOCTOR", Locale: "de-CH", EndOffsetMS: 1200}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	got, err = Parse([]byte(instructionsBody))
	if err != nil || got.Instructions != "Rest." || got.Note != nil || got.ExternalPatientID != "P-1" {
		t.Errorf("%+v, %v", got, err)
	}
}

// changed replaces one part of a good body, which must be there once.
func changed(t *testing.T, body, old, with string) string {
	t.Helper()
	if strings.Count(body, old) != 1 {
		t.Fatalf("%q is there %d times", old, strings.Count(body, old))
	}
	return strings.Replace(body, old, with, 1)
}

func TestWhatIsOptionalMayBeAbsentOrNull(t *testing.T) {
	for name, body := range map[string]string{
		"no diagnoses":        changed(t, noteBody, `"visit_diagnoses"`, `"other_diagnoses"`),
		"null for diagnoses":  changed(t, noteBody, `[{"system":"ICD-10","code":"R05","display":"Cough","is_hcc":false,"is_mcc":true}]`, `null`),
		"no transcript":       changed(t, noteBody, `"transcript"`, `"recording"`),
		"no category":         changed(t, noteBody, `,"category":"CHIEF_COMPLAINT"`, ``),
		"no section":          noteBody[:strings.Index(noteBody, `[{"content"`)] + `[]}}}`,
		"no flag":             changed(t, noteBody, `,"is_mcc":true`, `,"is_hcc_":true`),
		"no speaker":          changed(t, noteBody, `"speaker_type":"DOCTOR"`, `"speaker_type":null`),
		"a fraction":          changed(t, noteBody, `1200`, `1.2005e3`),
		"half a surrogate":    changed(t, noteBody, `Grüezi`, `\ud83d`),
		"diagnoses in note":   changed(t, changed(t, noteBody, `]},"visit_diagnoses"`, `],"visit_diagnoses"`), `1200}]`, `1200}]}`),
		"an id of 256 wide ä": changed(t, noteBody, `"P-1"`, `"`+strings.Repeat("ä", 256)+`"`),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse([]byte(body))
			if err != nil || c.Note == nil {
				t.Fatal(err)
			}
			if name == "a fraction" && c.Note.Transcript[0].EndOffsetMS != 1201 {
				t.Errorf("%d", c.Note.Transcript[0].EndOffsetMS)
			}
			if name == "diagnoses in note" && (len(c.Note.Diagnoses) != 1 || len(c.Note.Transcript) != 1) {
				t.Errorf("%+v", c.Note)
			}
		})
	}
}

func TestABodyThatIsNoCallbackIsRefused(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":                   ``,
		"no JSON":                   `Kanarienvogel`,
		"an array":                  `[` + noteBody + `]`,
		"null":                      `null`,
		"cut off":                   noteBody[:len(noteBody)-1],
		"something behind":          noteBody + `{}`,
		"no UTF-8":                  changed(t, noteBody, "Cough for", "Cough\xff for"),
		"a byte order mark":         "\xef\xbb\xbf" + noteBody,
		"a name twice":              changed(t, noteBody, `"new"`, `"type"`),
		"a name twice far inside":   changed(t, noteBody, `"title":"Reason"`, `"title":"Reason","title":"Reason"`),
		"twice in what is unknown":  changed(t, noteBody, `{"a":[1]}`, `{"a":[{"b":1,"b":2}]}`),
		"nested without end":        changed(t, noteBody, `{"a":[1]}`, strings.Repeat(`[`, 40)+strings.Repeat(`]`, 40)),
		"no request_uuid":           changed(t, noteBody, `"request_uuid"`, `"REQUEST_UUID"`),
		"a number for request_uuid": changed(t, noteBody, `"0c1b4b7e-9d55-4a4f-8c9b-7a116f1e8a52"`, `5`),
		"an empty request_uuid":     changed(t, noteBody, `0c1b4b7e-9d55-4a4f-8c9b-7a116f1e8a52`, ``),
		"a line in request_uuid":    changed(t, noteBody, `0c1b4b7e-9d55-4a4f-8c9b-7a116f1e8a52`, `a\nb`),
		"a long request_uuid":       changed(t, noteBody, `0c1b4b7e-9d55-4a4f-8c9b-7a116f1e8a52`, strings.Repeat("a", 129)),
		"no type":                   changed(t, noteBody, `"type"`, `"kind"`),
		"null for type":             changed(t, noteBody, `"NOTE_EXPORT"`, `null`),
		"no data":                   changed(t, noteBody, `"data"`, `"date"`),
		"no patient":                changed(t, noteBody, `"external_patient_id"`, `"patient_id"`),
		"an empty encounter":        changed(t, noteBody, `"E-1"`, `""`),
		"null for a provider":       changed(t, noteBody, `"D-17"`, `null`),
		"a long id":                 changed(t, noteBody, `"P-1"`, `"`+strings.Repeat("ä", 257)+`"`),
		"a line in an id":           changed(t, noteBody, `"P-1"`, `"P\n1"`),
		"no note":                   changed(t, noteBody, `"note"`, `"notes"`),
		"no sections":               changed(t, noteBody, `"sections"`, `"section"`),
		"null for content":          changed(t, noteBody, `"Cough for <3 days\n"`, `null`),
		"a number for a category":   changed(t, noteBody, `"OF_NEXT_YEAR"`, `5`),
		"a section that is a text":  changed(t, noteBody, `{"content":"","title":"Other","category":null}`, `"Other"`),
		"a text for a flag":         changed(t, noteBody, `true`, `"true"`),
		"a text for an offset":      changed(t, noteBody, `1200`, `"1200"`),
		"an offset without end":     changed(t, noteBody, `1200`, `1e400`),
		"no instructions":           changed(t, instructionsBody, `"instructions"`, `"text"`),
		"a list of instructions":    changed(t, instructionsBody, `"Rest."`, `["Rest."]`),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse([]byte(body))
			if !errors.Is(err, ErrInvalid) || !reflect.DeepEqual(c, Callback{}) {
				t.Fatalf("%+v, %v", c, err)
			}
			if strings.Contains(err.Error(), "Cough") || strings.Contains(err.Error(), "Kanarienvogel") {
				t.Errorf("quoted: %v", err)
			}
		})
	}
}

func TestAnUnknownTypeIsToldApart(t *testing.T) {
	c, err := Parse([]byte(`{"request_uuid":"r-1","type":"SURPRISE","anything":null}`))
	if !errors.Is(err, ErrUnknownType) || !reflect.DeepEqual(c, Callback{RequestUUID: "r-1"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

// encode writes a callback as the vendor does.
func encode(t testing.TB, c Callback) []byte {
	t.Helper()
	data := map[string]any{
		"external_patient_id": c.ExternalPatientID, "external_encounter_id": c.ExternalEncounterID, "external_provider_id": c.ExternalProviderID,
	}
	if c.Note != nil {
		data["note"] = map[string]any{"sections": c.Note.Sections}
		if c.Note.Diagnoses != nil {
			data["visit_diagnoses"] = c.Note.Diagnoses
		}
		if c.Note.Transcript != nil {
			data["transcript"] = c.Note.Transcript
		}
	} else {
		data["patient_instructions"] = map[string]string{"instructions": c.Instructions}
	}
	text, err := json.Marshal(map[string]any{"request_uuid": c.RequestUUID, "type": c.Type, "data": data})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func FuzzACallbackThatIsReadStaysWithinBoundsAndReadsTheSameAgain(f *testing.F) {
	for _, seed := range []string{
		noteBody, instructionsBody, `{}`, `{"request_uuid":"r","type":"SURPRISE"}`, `[[[[`, "\xff", ` [ {"a" : -1.5e+3 , "b\\\"" : [ true, false,null , "\\u00e4" ] , "" : {} }, [ ] ] `, `"`,
		`{"request_uuid":"r","type":"NOTE_EXPORT","data":{"external_patient_id":"\u2028","external_encounter_id":"E","external_provider_id":"D","note":{"sections":[],"transcript":[{"text":"\ud800","start_offset_ms":-1e3,"end_offset_ms":0.5}]}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Parse(raw)
		if json.Valid(raw) && utf8.Valid(raw) {
			// The walk means what encoding/json means, wherever no name is there twice.
			d := json.NewDecoder(bytes.NewReader(raw))
			d.UseNumber()
			var want any
			w := walker{text: string(raw)}
			if got := w.value(0); d.Decode(&want) != nil || w.err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%q was read as %#v", raw, got)
			}
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrUnknownType) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if c.RequestUUID == "" || len(c.RequestUUID) > maxRequestUUID || strings.ContainsAny(c.RequestUUID, " \r\n\x00") {
			t.Errorf("request_uuid %q", c.RequestUUID)
		}
		for _, id := range []string{c.ExternalPatientID, c.ExternalEncounterID, c.ExternalProviderID} {
			if n := utf8.RuneCountInString(id); n < 1 || n > maxExternalID || strings.ContainsAny(id, "\r\n\x00") {
				t.Errorf("id %q", id)
			}
		}
		if (c.Note != nil) != (c.Type == NoteExport) || (c.Type != NoteExport && c.Type != PatientInstructionsExport) {
			t.Errorf("type %q", c.Type)
		}
		again, err := Parse(encode(t, c))
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}

func FuzzACallbackThatIsAcceptedIsSignedAndOfThisMinute(f *testing.F) {
	at := "2026-11-03T09:00:00Z"
	f.Add(at, recomputed(newSecret, at, []byte(noteBody)), []byte(noteBody), int64(0))
	f.Add(at, recomputed(oldSecret, at, nil)+" , "+strings.Repeat("0", 64), []byte{}, int64(time.Minute))
	f.Add(at, recomputed(oldSecret, at, nil), []byte{}, int64(61*time.Second))
	f.Add("2026-11-03T09:00Z", strings.ToUpper(recomputed(newSecret, "2026-11-03T09:00Z", nil)), []byte{}, int64(-time.Second))
	f.Add("", "", []byte(instructionsBody), int64(0))
	f.Fuzz(func(t *testing.T, timestamp, signatures string, body []byte, after int64) {
		now := callbackTime.Add(time.Duration(after))
		if verifierAt(t, now).Verify(signed(timestamp, signatures), body) != nil {
			return
		}
		matches := false
		for _, key := range []string{oldSecret, newSecret} {
			matches = matches || strings.Contains(strings.ToLower(signatures), recomputed(key, timestamp, body))
		}
		made, ok := parseTimestamp(timestamp)
		if !matches || !ok || made.Before(now.Add(-time.Minute)) || made.After(now.Add(30*time.Second)) {
			t.Errorf("accepted %q, %q at %v", timestamp, signatures, now)
		}
	})
}
