package orgapi

import (
	"encoding/json"
	"strings"
	"testing"
)

const wholeLaunch = `{"provider_email":"ada@hospital.example","external_provider_id":"D-17","external_patient_id":"P-1","external_encounter_id":"E-1",` +
	`"structured_context":{"patient_demographics":{"name":"Grace","birth_date":"1980-01-31","gender":"female","pronouns":null}},"unstructured_context":"text"}`

func TestABodyIsTakenByTheLetterOrNotAtAll(t *testing.T) {
	for body, want := range map[string]string{
		wholeLaunch: "",
		strings.Replace(wholeLaunch, `,"unstructured_context":"text"`, "", 1):             "",
		strings.Replace(wholeLaunch, `"text"`, "null", 1):                                 "",
		strings.Replace(wholeLaunch, "Grace", `\ud83d\ude42 \ufffd`, 1):                   "",
		strings.Replace(wholeLaunch, "Grace", `\ud83d`, 1):                                "surrogate",
		strings.Replace(wholeLaunch, "Grace", "Gr\xffce", 1):                              "UTF-8",
		strings.Replace(wholeLaunch, `,"pronouns":null`, "", 1):                           "the field pronouns is missing",
		strings.Replace(wholeLaunch, `"pronouns"`, `"Pronouns"`, 1):                       "unknown",
		strings.Replace(wholeLaunch, `"D-17"`, "null", 1):                                 "wrong type",
		strings.Replace(wholeLaunch, `"D-17"`, "17", 1):                                   "the field external_provider_id has the wrong type",
		strings.Replace(wholeLaunch, `"D-17"`, `["D-17"]`, 1):                             "wrong type",
		strings.Replace(wholeLaunch, `"D-17"`, `"D-17","external_provider_id":"D-17"`, 1): "twice",
		wholeLaunch + " x":               "JSON object",
		wholeLaunch[:len(wholeLaunch)-1]: "not JSON",
		"[]":                             "not a JSON object",
		"":                               "not a JSON object",
		strings.Repeat(`{"structured_context":`, 20000): "deep",
	} {
		err := Decode([]byte(body), new(LaunchRequest))
		if want == "deep" { // which of its faults is named does not matter
			if err == nil {
				t.Error("a deep body was accepted")
			}
			continue
		}
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%.80q: %v, want %q", body, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(wholeLaunch))
	f.Add([]byte(`{"provider_email":"\ud83d"}`))
	f.Add([]byte(`{"structured_context":{"patient_demographics":{}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var l LaunchRequest
		if Decode(body, &l) != nil {
			return
		}
		// What is accepted says the same when it is written and read again.
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var again, lax LaunchRequest
		if err := Decode(text, &again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := json.Unmarshal(body, &lax); err != nil {
			t.Fatalf("accepted, but not JSON: %v", err)
		}
		a, _ := json.Marshal(again)
		b, _ := json.Marshal(lax)
		if string(a) != string(text) || string(b) != string(text) {
			t.Fatalf("%s became %s", text, a)
		}
	})
}
