package orgserver

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

// statusError is a problem that HTTP has a status of its own for.
type statusError struct {
	status int
	allow  string
	// after, when set, is when the caller may try again, scope what its token lacks.
	after time.Duration
	scope string
	*problem.Problem
}

func (e *statusError) Unwrap() error { return e.Problem }

// readBody reads the whole body as one JSON object into a type of the contract.
func readBody(w http.ResponseWriter, r *http.Request, into any) error {
	text, err := readText(w, r)
	if err != nil {
		return err
	}
	return decode(text, into)
}

func decode(text []byte, into any) error {
	if err := orgapi.Decode(text, into); err != nil {
		return problem.With(problem.RequestInvalid, "The body cannot be taken: "+err.Error()+".", nil)
	}
	return nil
}

// readText reads the whole body, which must call itself JSON.
func readText(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := checkKind(r); err != nil {
		return nil, err
	}
	return readAll(http.MaxBytesReader(w, r.Body, orgapi.MaxRequestBytes))
}

func checkKind(r *http.Request) error {
	kind, parameters, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	parameters = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(parameters), `"`, ""))
	if !strings.EqualFold(strings.TrimSpace(kind), "application/json") || (parameters != "" && parameters != "charset=utf-8") {
		return &statusError{status: http.StatusUnsupportedMediaType, Problem: problem.With(problem.RequestInvalid, "The body must be application/json.", nil)}
	}
	return nil
}

func readAll(from io.Reader) ([]byte, error) {
	body, err := io.ReadAll(from)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, problem.New(problem.RequestTooLarge, errors.New("the body is over the limit"))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &statusError{status: http.StatusRequestTimeout, Problem: problem.With(problem.RequestInvalid, "The body came too slowly.", nil)}
	case err != nil:
		return nil, problem.With(problem.RequestInvalid, "The body was cut off.", err)
	}
	return body, nil
}

// identifier reports whether a text may be an external id: 1 to 256 characters,
// none of which a log or a screen would act on.
func identifier(s string) bool {
	return strings.TrimSpace(s) != "" && utf8.RuneCountInString(s) <= orgapi.MaxIdentifierRunes && printable(s)
}

// printable refuses what would break out of a line, or turn it round.
func printable(s string) bool {
	for _, r := range s {
		if unicode.Is(unicode.Cc, r) || r == '\u2028' || r == '\u2029' ||
			(r >= '\u202a' && r <= '\u202e') || (r >= '\u2066' && r <= '\u2069') {
			return false
		}
	}
	return true
}

func email(s string) bool {
	local, host, ok := strings.Cut(s, "@")
	return ok && local != "" && host != "" && !strings.ContainsAny(s, " ") && !strings.Contains(host, "@") &&
		len(s) <= 320 && printable(s)
}

func checkLaunch(l orgapi.LaunchRequest) error {
	switch {
	case !email(l.ProviderEmail):
		return problem.With(problem.RequestInvalid, "The field provider_email is not an e-mail address.", nil)
	case !identifier(l.ExternalProviderID):
		return problem.With(problem.RequestInvalid, "The field external_provider_id is empty, too long or holds control characters.", nil)
	case !identifier(l.ExternalPatientID):
		return problem.With(problem.RequestInvalid, "The field external_patient_id is empty, too long or holds control characters.", nil)
	case !identifier(l.ExternalEncounterID):
		return problem.With(problem.RequestInvalid, "The field external_encounter_id is empty, too long or holds control characters.", nil)
	}
	return checkContext(patientContext{l.StructuredContext.PatientDemographics, l.UnstructuredContext})
}

// checkContext tells a context that is not complete (the clinician can mend that
// in the EHR) from one that can never be sent.
func checkContext(c patientContext) error {
	d := c.Demographics
	texts := []string{d.Name, d.BirthDate, d.Gender}
	if d.Pronouns != nil {
		texts = append(texts, *d.Pronouns)
	}
	for _, text := range texts {
		if !printable(text) {
			return problem.With(problem.RequestInvalid, "The patient's details hold control characters.", nil)
		}
		if utf8.RuneCountInString(text) > orgapi.MaxDemographicRunes {
			return problem.With(problem.RequestInvalid, "One of the patient's details has more than 256 characters.", nil)
		}
	}
	switch {
	case c.Unstructured != nil && strings.ContainsRune(*c.Unstructured, 0):
		return problem.With(problem.RequestInvalid, "The field unstructured_context holds control characters.", nil)
	case c.Unstructured != nil && utf8.RuneCountInString(*c.Unstructured) > orgapi.MaxUnstructuredContextRunes:
		return problem.With(problem.RequestInvalid, "The field unstructured_context has more than 700 characters.", nil)
	case strings.TrimSpace(d.Name) == "":
		return problem.With(problem.ContextIncomplete, "The name is missing.", nil)
	case strings.TrimSpace(d.BirthDate) == "":
		return problem.With(problem.ContextIncomplete, "The date of birth is missing.", nil)
	case strings.TrimSpace(d.Gender) == "":
		return problem.With(problem.ContextIncomplete, "The gender is missing.", nil)
	}
	return nil
}

// label bounds a patient's name for an answer, at a character's edge.
func label(name string) string {
	if len(name) <= orgapi.MaxLabelBytes {
		return name
	}
	cut := orgapi.MaxLabelBytes
	for !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut]
}
