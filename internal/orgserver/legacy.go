package orgserver

import (
	"strings"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

// How a launch that has no structured_context is understood. Before 2026-02-13 all
// that Nabla was told of a patient stood in the text of unstructured_context. We send
// the current payload only, so the text has to carry it: in lines of their own, a
// label, a colon, a value. Whatever else stands there is left alone, and the whole
// text goes on as it is. Nothing is guessed: a date in another form, or two lines
// for one value, are refused.

// readLaunch reads the body of POST /launches in either format.
func readLaunch(body []byte) (orgapi.LaunchRequest, error) {
	var legacy orgapi.LegacyLaunchRequest
	// No body is of both formats: the one demands what the other refuses.
	if orgapi.Decode(body, &legacy) == nil {
		return lift(legacy)
	}
	var launch orgapi.LaunchRequest
	return launch, decode(body, &launch)
}

// lift makes the current payload of a legacy one. Its errors are request_invalid
// for a text that is too long, and context_incomplete, which says what to write.
func lift(l orgapi.LegacyLaunchRequest) (orgapi.LaunchRequest, error) {
	if utf8.RuneCountInString(l.UnstructuredContext) > orgapi.MaxUnstructuredContextRunes {
		return orgapi.LaunchRequest{}, problem.With(problem.RequestInvalid, "The field unstructured_context has more than 700 characters.", nil)
	}
	d, err := demographicsIn(l.UnstructuredContext)
	if err != nil {
		return orgapi.LaunchRequest{}, err
	}
	return orgapi.LaunchRequest{
		ProviderEmail: l.ProviderEmail, ExternalProviderID: l.ExternalProviderID,
		ExternalPatientID: l.ExternalPatientID, ExternalEncounterID: l.ExternalEncounterID,
		StructuredContext:   orgapi.StructuredContext{PatientDemographics: d},
		UnstructuredContext: &l.UnstructuredContext,
	}, nil
}

// detail is one of the values that a text may carry.
type detail int

const (
	detailName detail = iota
	detailBirthDate
	detailGender
	detailPronouns
	details
)

// detailLabelled returns which value a label stands for.
func detailLabelled(label string) (detail, bool) {
	switch strings.ToLower(label) {
	case "name", "patient name":
		return detailName, true
	case "birth date", "date of birth", "dob":
		return detailBirthDate, true
	case "gender", "sex":
		return detailGender, true
	case "pronouns":
		return detailPronouns, true
	}
	return 0, false
}

// demographicsIn finds the labelled lines of a text. Every value that it returns
// stands in the text, letter for letter. Its
// error is context_incomplete.
func demographicsIn(text string) (orgapi.Demographics, error) {
	var found [details]string
	for line := range strings.Lines(text) {
		label, value, ok := strings.Cut(line, ":")
		which, known := detailLabelled(strings.TrimSpace(label))
		value = strings.TrimSpace(value)
		if !ok || !known || value == "" {
			continue
		}
		// None of the values has a colon: a second label follows in the line.
		if strings.Contains(value, ":") {
			return orgapi.Demographics{}, problem.With(problem.ContextIncomplete, "A line of the text holds more than one value: write a line of its own for each.", nil)
		}
		if found[which] != "" {
			return orgapi.Demographics{}, problem.With(problem.ContextIncomplete, "The text has two lines for the name, the date of birth, the gender or the pronouns: write one line for each.", nil)
		}
		found[which] = value
	}
	if found[detailBirthDate] != "" {
		if _, err := time.Parse(time.DateOnly, found[detailBirthDate]); err != nil {
			return orgapi.Demographics{}, problem.With(problem.ContextIncomplete, "The date of birth in the text is not a date of the form YYYY-MM-DD.", nil)
		}
	}
	if fact := missing(found); fact != "" {
		return orgapi.Demographics{}, problem.With(problem.ContextIncomplete, fact, nil)
	}
	d := orgapi.Demographics{Name: found[detailName], BirthDate: found[detailBirthDate], Gender: found[detailGender]}
	if found[detailPronouns] != "" {
		d.Pronouns = &found[detailPronouns]
	}
	return d, nil
}

// missing says which lines a text lacks and how to write them, or nothing.
func missing(found [details]string) string {
	var lines []string
	for which, line := range [...]string{detailName: "“Name: …”", detailBirthDate: "“Date of birth: YYYY-MM-DD”", detailGender: "“Gender: …”"} {
		if found[which] == "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return "Send structured_context, or add to unstructured_context, each in a line of its own: " + strings.Join(lines, ", ") + "."
}
