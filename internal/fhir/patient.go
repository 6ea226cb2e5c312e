package fhir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
)

const (
	// pronounsURL is the extension of FHIR's core for pronouns.
	pronounsURL = "http://hl7.org/fhir/StructureDefinition/individual-pronouns"
	// maxTextRunes bounds every text of a Patient.
	maxTextRunes = 256
	maxIDBytes   = 64
)

// Patient is what is read of a patient. Every text is printable and of at most 256
// characters; BirthDate is YYYY-MM-DD, Gender one of male, female, other and unknown.
// Pronouns is nil where the EHR knows none.
type Patient struct {
	Name, BirthDate, Gender string
	Pronouns                *string
}

// Patient reads a patient's details: by the resource's id, or by an identifier of
// Config.PatientSystem. It takes at most 7 seconds. Every error is a Problem:
// context_incomplete when the EHR's record must be mended first, context_unavailable
// when the same may succeed later, cancelled when the caller went away.
func (c *Client) Patient(ctx context.Context, id string) (Patient, error) {
	r, err := c.find(ctx, id)
	if err != nil {
		return Patient{}, err
	}
	return r.details(c.now())
}

// resource is the part of Patient (FHIR R4) that is looked at.
type resource struct {
	ResourceType string
	ID           string
	Identifier   []identifier
	Name         []humanName
	Gender       string
	BirthDate    string
	Extension    []extension
	Link         []link
}

type humanName struct {
	Use, Text, Family string
	Given             []string
	Period            *period
}

type link struct{ Type string }

type period struct{ Start, End string }

type extension struct {
	URL                  string
	Extension            []extension
	ValueCodeableConcept *struct {
		Text   string
		Coding []struct{ Display string }
	}
	ValuePeriod *period
}

// find returns the one record of a patient, checked to be of the one who was asked
// for and not merged into another.
func (c *Client) find(ctx context.Context, id string) (resource, error) {
	if (c.system == "" && !resourceID(id)) || (c.system != "" && !searchable(id)) {
		return resource{}, unknown()
	}
	q := request{method: http.MethodGet, path: "/Patient/" + id, attempts: maxAttempts}
	if c.system != "" {
		// In the body, so that no server or proxy writes the number into its log.
		q = request{
			method: http.MethodPost, path: "/Patient/_search", contentType: "application/x-www-form-urlencoded", attempts: maxAttempts,
			body: []byte(url.Values{"identifier": {c.system + "|" + id}, "_count": {"2"}}.Encode()),
		}
	}
	a, err := c.call(ctx, q)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return resource{}, problem.New(problem.Cancelled, err)
	case err != nil:
		return resource{}, unavailable(fmt.Errorf("reading a patient: %w", err))
	case a.status == http.StatusGone, a.status == http.StatusNotFound && c.system == "":
		return resource{}, unknown()
	case a.status != http.StatusOK:
		return resource{}, unavailable(fmt.Errorf("reading a patient: the server answered %d", a.status))
	case !a.isFHIR():
		return resource{}, unavailable(errors.New("reading a patient: the answer is not FHIR's JSON"))
	}
	var r resource
	if c.system == "" {
		r, err = readRecord(a.body)
	} else {
		r, err = readMatch(a.body)
	}
	switch {
	case err != nil:
		return resource{}, err
	case c.system == "" && r.ID != id:
		return resource{}, unavailable(errors.New("reading a patient: the answer is about another one"))
	case c.system != "" && !slices.ContainsFunc(r.Identifier, func(i identifier) bool { return i == identifier{c.system, id} }):
		return resource{}, unavailable(errors.New("reading a patient: the match lacks the identifier"))
	case slices.ContainsFunc(r.Link, func(l link) bool { return l.Type == "replaced-by" }):
		return resource{}, incomplete("The patient's record was merged into another one.")
	}
	return r, nil
}

// unknown says what orgserver's file of patients says too.
func unknown() error { return incomplete("The patient is not known to the source of the details.") }

// incomplete tells what must be mended in the EHR.
func incomplete(fact string) error { return problem.With(problem.ContextIncomplete, fact, nil) }

func unavailable(cause error) error { return problem.New(problem.ContextUnavailable, cause) }

// readRecord reads a Patient. What else stands in it is not looked at.
func readRecord(body []byte) (resource, error) {
	var r resource
	// The decoder's error may quote what it read, and it would mend what is not UTF-8.
	if !utf8.Valid(body) || json.Unmarshal(body, &r) != nil || r.ResourceType != "Patient" || !resourceID(r.ID) {
		return resource{}, unavailable(errors.New("reading a patient: the answer is not a Patient"))
	}
	return r, nil
}

// readMatch reads the one Patient of a Bundle of matches.
func readMatch(body []byte) (resource, error) {
	var bundle struct {
		ResourceType, Type string
		Total              *int
		Entry              []struct {
			Resource json.RawMessage
			Search   struct{ Mode string }
		}
	}
	if !utf8.Valid(body) || json.Unmarshal(body, &bundle) != nil || bundle.ResourceType != "Bundle" || bundle.Type != "searchset" {
		return resource{}, unavailable(errors.New("searching a patient: the answer is not a Bundle of matches"))
	}
	var matches []json.RawMessage
	for _, e := range bundle.Entry {
		// Beside matches there may be warnings (mode outcome).
		if e.Search.Mode == "" || e.Search.Mode == "match" {
			matches = append(matches, e.Resource)
		}
	}
	switch {
	case len(matches) > 1 || (bundle.Total != nil && *bundle.Total > 1):
		return resource{}, incomplete("More than one patient has this number.")
	case len(matches) == 0 && bundle.Total != nil && *bundle.Total != 0:
		return resource{}, unavailable(errors.New("searching a patient: the Bundle lacks its match"))
	case len(matches) == 0:
		return resource{}, unknown()
	}
	return readRecord(matches[0])
}

// details chooses what is told of a patient, and refuses what is not complete.
func (r resource) details(now time.Time) (Patient, error) {
	p := Patient{Name: r.name(now), BirthDate: r.BirthDate, Gender: r.Gender, Pronouns: r.pronouns(now)}
	texts := []string{p.Name, p.BirthDate, p.Gender}
	if p.Pronouns != nil {
		texts = append(texts, *p.Pronouns)
	}
	if slices.ContainsFunc(texts, func(s string) bool { return utf8.RuneCountInString(s) > maxTextRunes || !printable(s) }) {
		return Patient{}, incomplete("The patient's details hold control characters, or are too long.")
	}
	if p.Name == "" {
		return Patient{}, incomplete("The name is missing.")
	}
	if p.BirthDate == "" {
		return Patient{}, incomplete("The date of birth is missing.")
	}
	if _, err := time.Parse(time.DateOnly, p.BirthDate); err != nil {
		if _, _, ok := span(p.BirthDate); !ok {
			return Patient{}, unavailable(errors.New("reading a patient: the date of birth is not a date"))
		}
		return Patient{}, incomplete("The date of birth has no day or month.")
	}
	switch p.Gender {
	case "male", "female", "other", "unknown":
		return p, nil
	case "":
		return Patient{}, incomplete("The gender is missing.")
	}
	return Patient{}, unavailable(errors.New("reading a patient: the gender is none of FHIR's codes"))
}

// useOrder says which use of a name is taken before which; what is not in it is
// never taken.
var useOrder = []string{"official", "usual", "", "temp", "anonymous", "nickname"}

func (r resource) name(now time.Time) string {
	for _, use := range useOrder {
		for _, n := range r.Name {
			if text := n.whole(); n.Use == use && text != "" && n.Period.holds(now) {
				return text
			}
		}
	}
	return ""
}

func (n humanName) whole() string {
	if text := strings.TrimSpace(n.Text); text != "" {
		return text
	}
	var parts []string
	for _, part := range append(slices.Clone(n.Given), n.Family) {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, " ")
}

func (r resource) pronouns(now time.Time) *string {
	for _, e := range r.Extension {
		if e.URL != pronounsURL {
			continue
		}
		text, valid := "", true
		for _, part := range e.Extension {
			switch {
			case part.URL == "value" && part.ValueCodeableConcept != nil:
				text = strings.TrimSpace(part.ValueCodeableConcept.Text)
				for _, coding := range part.ValueCodeableConcept.Coding {
					if text == "" {
						text = strings.TrimSpace(coding.Display)
					}
				}
			case part.URL == "period":
				valid = part.ValuePeriod.holds(now)
			}
		}
		if text != "" && valid {
			return &text
		}
	}
	return nil
}

// holds reports whether a period is not over and has begun; both ends count (FHIR
// R4, Period). One that cannot be read does not hold.
func (p *period) holds(now time.Time) bool {
	if p == nil {
		return true
	}
	if p.Start != "" {
		if from, _, ok := span(p.Start); !ok || now.Before(from) {
			return false
		}
	}
	if p.End != "" {
		if _, to, ok := span(p.End); !ok || !now.Before(to) {
			return false
		}
	}
	return true
}

// span returns the time from and the time before which a dateTime lies: it may name
// a year, a month or a day, in the zone of a place that is not known.
func span(text string) (from, to time.Time, ok bool) {
	for layout, after := range map[string][3]int{"2006": {1, 0, 0}, "2006-01": {0, 1, 0}, time.DateOnly: {0, 0, 1}} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Add(-14 * time.Hour), t.AddDate(after[0], after[1], after[2]).Add(12 * time.Hour), true
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, t.Add(time.Second), true
	}
	return time.Time{}, time.Time{}, false
}

// resourceID is FHIR R4's type id: [A-Za-z0-9\-\.]{1,64}. The dots of a path are not
// ids.
func resourceID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= maxIDBytes && s != "." && s != ".."
}

// searchable refuses what a search would take for more than one value (FHIR R4,
// "Escaping Search Parameters": servers differ in what they undo).
func searchable(s string) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= maxTextRunes && !strings.ContainsAny(s, `|,$\`) &&
		!strings.ContainsFunc(s, unicode.IsSpace) && printable(s)
}

// printable refuses what would break out of a line, or turn it round.
func printable(s string) bool {
	for _, r := range s {
		if unicode.Is(unicode.Cc, r) || r == utf8.RuneError || r == '\u2028' || r == '\u2029' ||
			(r >= '\u202a' && r <= '\u202e') || (r >= '\u2066' && r <= '\u2069') {
			return false
		}
	}
	return true
}
