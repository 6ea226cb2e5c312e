package fhir

import (
	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
)

// What is accepted of a Patient is whole, printable and bounded, whatever a server
// sends; what is refused is one of two problems.
func FuzzPatient(f *testing.F) {
	for _, seed := range []string{
		`{"resourceType":"Patient","id":"p-1","name":[{"use":"official","family":"Lovelace","given":["Ada"]}],"birthDate":"1815-12-10","gender":"female"}`,
		`{"resourceType":"Patient","id":"p-1","name":[{"text":"Ada","period":{"start":"2020-01","end":"2030-01-01T00:00:00Z"}}],"birthDate":"1815-12","gender":"other"}`,
		`{"resourceType":"Patient","id":"p-1","name":[{"text":"A\u202eda"}],"birthDate":"1815-12-10","gender":"unknown"}`,
		`{"resourceType":"Patient","id":"p-1","name":[{"text":"Ada"}],"birthDate":"1815-12-10","gender":"male","extension":[{"url":"` + pronounsURL + `","extension":[{"url":"value","valueCodeableConcept":{"coding":[{"display":"they/them"}]}},{"url":"period","valuePeriod":{"start":"2020"}}]}]}`,
		`{"resourceType":"Bundle"}`, `null`, `[`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := readRecord(body)
		var p Patient
		if err == nil {
			p, err = r.details(now)
		}
		if err != nil {
			var refusal *problem.Problem
			if !errors.As(err, &refusal) || (refusal.Code != problem.ContextIncomplete && refusal.Code != problem.ContextUnavailable) {
				t.Fatalf("refused with %v", err)
			}
			if p != (Patient{}) {
				t.Fatal("something of a refused patient was given out")
			}
			return
		}
		texts := []string{p.Name, p.BirthDate, p.Gender}
		if p.Pronouns != nil {
			texts = append(texts, *p.Pronouns)
		}
		for _, text := range texts {
			if text == "" || !utf8.ValidString(text) || utf8.RuneCountInString(text) > maxTextRunes {
				t.Fatalf("%q was accepted", text)
			}
			for _, c := range text {
				if c < ' ' || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) {
					t.Fatalf("%q was accepted", text)
				}
			}
		}
		if d, err := time.Parse(time.DateOnly, p.BirthDate); err != nil || d.Format(time.DateOnly) != p.BirthDate {
			t.Fatalf("the date %q was accepted", p.BirthDate)
		}
	})
}
