package orgserver

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

func legacy(text string) orgapi.LegacyLaunchRequest {
	return orgapi.LegacyLaunchRequest{
		ProviderEmail: "ada@hospital.example", ExternalProviderID: "D-17", ExternalPatientID: "P-1", ExternalEncounterID: "E-1",
		UnstructuredContext: text,
	}
}

func launchOf(body any) request {
	return request{path: orgapi.PathLaunches, bearer: ehrSecret, body: body}
}

func TestALegacyTextThatCarriesEnoughBecomesTheCurrentPayload(t *testing.T) {
	w := newWorld(t)
	text := "Name: Grace " + canary + "\r\nDate of birth: 1980-01-31\r\nGender: female\r\nPronouns: she/her\r\nSeen last week for a cough."
	a := w.opened(t, w.byHandle(t, w.taken(t, launchOf(legacy(text))), "key-1"))
	if a.Encounter.Label != "Grace "+canary || a.Encounter.ExternalEncounterID != "E-1" {
		t.Errorf("%+v", a.Encounter)
	}
	if visit(t, a.EncounterURL) != http.StatusOK || w.sim.Opened()[0].PatientName != "Grace "+canary {
		t.Error("Nabla did not get the patient's name")
	}
	l, err := readLaunch([]byte(mustJSON(t, legacy(text))))
	d := l.StructuredContext.PatientDemographics
	if err != nil || d.BirthDate != "1980-01-31" || d.Gender != "female" || *d.Pronouns != "she/her" || *l.UnstructuredContext != text {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestALegacyTextIsUnderstoodByTheLetterOrNotAtAll(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"other words, any case, any order": {"SEX: x\nnote\n dob : 2000-02-29 \n\nPATIENT NAME:\tA B", ""},
		"birth date":                       {"Name: A\nBirth date: 1980-01-31\nGender: f", ""},
		"letters of other scripts":         {"Name: Ḿaría 🙂\nDOB: 1980-01-31\nGender: weiblich", ""},
		"labels within other words":        {"Name: A\nDOB: 1980-01-31\nGender: f\nMedication name: x\nThe name: y\nAllergies: none: none", ""},
		"a label without a value":          {"Name:\nName: A\nDOB: 1980-01-31\nGender: f\nPronouns:", ""},
		"nothing":                          {"", "“Name: …”, “Date of birth: YYYY-MM-DD”, “Gender: …”."},
		"prose":                            {"Grace, female, born 1980-01-31", "“Name: …”, “Date of birth: YYYY-MM-DD”, “Gender: …”."},
		"no name":                          {"DOB: 1980-01-31\nGender: f", ": “Name: …”."},
		"no date":                          {"Name: A\nGender: f", ": “Date of birth: YYYY-MM-DD”."},
		"no gender":                        {"Name: A\nDOB: 1980-01-31\nGender: ", ": “Gender: …”."},
		"a date of another form":           {"Name: A\nDOB: 31.01.1980\nGender: f", "not a date"},
		"a date that is ambiguous":         {"Name: A\nDOB: 01/02/1980\nGender: f", "not a date"},
		"a date that never was":            {"Name: A\nDOB: 1981-02-29\nGender: f", "not a date"},
		"a date and an age":                {"Name: A\nDOB: 1980-01-31 (46)\nGender: f", "not a date"},
		"two names":                        {"Name: A\nPatient name: B\nDOB: 1980-01-31\nGender: f", "two lines"},
		"the same name twice":              {"Name: A\nName: A\nDOB: 1980-01-31\nGender: f", "two lines"},
		"two dates":                        {"Name: A\nDOB: 1980-01-31\nBirth date: 1980-01-30\nGender: f", "two lines"},
		"two pronouns":                     {"Name: A\nDOB: 1980-01-31\nGender: f\nPronouns: she\nPronouns: he", "two lines"},
		"all in one line":                  {"Name: A, DOB: 1980-01-31, Gender: f", "more than one value"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := demographicsIn(c.text)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if p := problem.Of(err); err == nil || p.Code != problem.ContextIncomplete || !strings.Contains(p.Fact, c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestALegacyPayloadIsAsStrictAsTheCurrentOne(t *testing.T) {
	w := newWorld(t)
	good := "Name: Grace " + canary + "\nDOB: 1980-01-31\nGender: female\n"
	whole := mustJSON(t, legacy(good))
	change := func(old, new string) string {
		if !strings.Contains(whole, old) {
			t.Fatalf("%s is not in the body", old)
		}
		return strings.Replace(whole, old, new, 1)
	}
	for name, c := range map[string]struct {
		body   any
		status int
		code   problem.Code
	}{
		"no text":              {change(`,"unstructured_context":`+mustJSON(t, good), ""), 400, problem.RequestInvalid},
		"null for the text":    {change(mustJSON(t, good), "null"), 400, problem.RequestInvalid},
		"an unknown field":     {change(`"D-17"`, `"D-17","name":"`+canary+`"`), 400, problem.RequestInvalid},
		"a missing field":      {change(`"external_patient_id":"P-1",`, ""), 400, problem.RequestInvalid},
		"an empty id":          {change(`"P-1"`, `" "`), 400, problem.RequestInvalid},
		"701 characters":       {legacy(good + strings.Repeat("é", 701-len(good))), 400, problem.RequestInvalid},
		"a name that turns":    {legacy(strings.Replace(good, "Grace", "a\u202eb", 1)), 400, problem.RequestInvalid},
		"a control character":  {legacy(strings.Replace(good, "female", "f\x01", 1)), 400, problem.RequestInvalid},
		"a lone return":        {legacy(strings.Replace(good, "female", "f\rPronouns", 1)), 400, problem.RequestInvalid},
		"an incomplete text":   {legacy("Name: " + canary), 422, problem.ContextIncomplete},
		"both, one incomplete": {strings.Replace(mustJSON(t, goodLaunch()), `"birth_date":"1980-01-31"`, `"birth_date":""`, 1), 422, problem.ContextIncomplete},
		"structured as a null": {change(`"D-17"`, `"D-17","structured_context":null`), 400, problem.RequestInvalid},
		"structured but empty": {change(`"D-17"`, `"D-17","structured_context":{}`), 400, problem.RequestInvalid},
		"nothing of a patient": {`{}`, 400, problem.RequestInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, launchOf(c.body), c.status, c.code)
		})
	}
	w.taken(t, launchOf(legacy(good+strings.Repeat("é", 700-len(good)))))
	if log := w.log.String(); strings.Contains(log, canary) || strings.Contains(log, "P-1") {
		t.Error("the log tells of the patient")
	}
}

func FuzzLift(f *testing.F) {
	f.Add("Name: A\nDOB: 1980-01-31\nGender: f\nPronouns: x\nrest")
	f.Add("patient name:B\r\nbirth date:1980-01-31\r\nsex:m\r\n")
	f.Add("Name: A\nName: B\nDOB: 1980-01-31\nGender: f")
	f.Add("Name: A; DOB: 1980-01-31; Gender: f")
	f.Add("NAME:\u00a0A\u2028\nDOB:1980-1-31\nSEX:\x00")
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return // a JSON text of it would be another
		}
		body, err := json.Marshal(legacy(text))
		if err != nil {
			t.Fatal(err)
		}
		l, err := readLaunch(body)
		if err != nil {
			if p := problem.Of(err); p.Code != problem.RequestInvalid && p.Code != problem.ContextIncomplete {
				t.Fatal(p.Code)
			}
			return
		}
		if *l.UnstructuredContext != text {
			t.Fatalf("%q became %q", text, *l.UnstructuredContext)
		}
		d := l.StructuredContext.PatientDemographics
		values := []string{d.Name, d.BirthDate, d.Gender}
		if d.Pronouns != nil {
			values = append(values, *d.Pronouns)
		}
		for _, v := range values {
			if v == "" || !strings.Contains(text, v) || strings.ContainsAny(v, "\n:") {
				t.Fatalf("%q does not stand in %q", v, text)
			}
		}
		if _, err := time.Parse(time.DateOnly, d.BirthDate); err != nil {
			t.Fatal(err)
		}
		// The payload that is made of it is one that we take.
		again, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readLaunch(again); err != nil {
			t.Fatal(err)
		}
	})
}
