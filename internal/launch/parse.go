package launch

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// linkHost is the only host of a link, version 1.
const linkHost = "launch"

// Parse reads a link of the given scheme (in lower case), version 1:
//
//	<scheme>://launch?handle=…
//	<scheme>://launch?request=…
//	<scheme>://launch?external_encounter_id=…&external_patient_id=…&external_provider_id=…
//
// Scheme and host are compared without regard to the case of ASCII letters; the
// path is empty or "/"; keys may stand in any order, each exactly once, spelt
// plainly. It takes no clock and no policy: whether the organisation allows the
// form, and whether a signed request is genuine and fresh, is for Rules.Check.
//
// Every error is a link_invalid problem whose fact says what an integrator has
// to mend; it never quotes the link.
func Parse(scheme, text string) (Request, error) {
	query, err := queryOf(scheme, text)
	if err != nil {
		return Request{}, err
	}
	values, err := valuesOf(query)
	if err != nil {
		return Request{}, err
	}
	return requestOf(scheme, values)
}

func invalid(fact string) error { return problem.With(problem.LinkInvalid, fact, nil) }

// queryOf checks everything before the question mark, and the raw characters of
// the whole, by comparing with the one permitted shape: nothing has to be
// searched for userinfo, ports or dot segments, because no place is left for
// them.
func queryOf(scheme, text string) (string, error) {
	switch {
	case len(text) > MaxLinkBytes:
		return "", invalid("It is longer than 2,048 bytes.")
	case !utf8.ValidString(text):
		return "", invalid("It is not valid UTF-8.")
	case !allVisible(text):
		return "", invalid("It holds a character that must not stand in a link.")
	}
	before, query, found := strings.Cut(text, "?")
	if !found {
		return "", invalid("It has no question mark.")
	}
	prefix := scheme + "://" + linkHost
	if !hasPrefixFold(before, prefix) || before[len(prefix):] != "" && before[len(prefix):] != "/" {
		return "", invalid("It does not begin as a launch link does.")
	}
	if strings.Contains(query, "#") {
		return "", invalid("It has a fragment.")
	}
	if strings.Contains(query, "+") {
		return "", invalid("It holds a plus sign, which must be written %2B.")
	}
	return query, nil
}

// linkValues has one field for each key of the grammar; nil means absent.
type linkValues struct {
	handle, request                    *string
	encounterID, patientID, providerID *string
}

func (v *linkValues) field(key string) **string {
	switch key {
	case keyHandle:
		return &v.handle
	case keyRequest:
		return &v.request
	case keyEncounterID:
		return &v.encounterID
	case keyPatientID:
		return &v.patientID
	case keyProviderID:
		return &v.providerID
	}
	return nil
}

// valuesOf reads the pairs itself, because url.ParseQuery passes over empty
// pairs and decodes keys; the values are those that ParseQuery gives.
func valuesOf(query string) (linkValues, error) {
	parsed, err := url.ParseQuery(query)
	if err != nil {
		return linkValues{}, invalid("Its percent-encoding or its separators are wrong.")
	}
	var values linkValues
	for pair := range strings.SplitSeq(query, "&") {
		key, _, found := strings.Cut(pair, "=")
		if !found {
			return linkValues{}, invalid("It holds a key without a value.")
		}
		field := values.field(key)
		if field == nil {
			return linkValues{}, invalid("It holds a key that is not known.")
		}
		if *field != nil || len(parsed[key]) != 1 {
			return linkValues{}, invalid("It holds a key twice.")
		}
		value := parsed[key][0]
		if !allVisible(value) {
			return linkValues{}, invalid("It holds an encoded character that must not stand in a link.")
		}
		*field = &value
	}
	return values, nil
}

func requestOf(scheme string, v linkValues) (Request, error) {
	identifiers := 0
	for _, id := range []*string{v.encounterID, v.patientID, v.providerID} {
		if id != nil {
			identifiers++
		}
	}
	switch {
	case v.handle != nil && v.request == nil && identifiers == 0:
		if !isHandle(*v.handle) {
			return Request{}, invalid("Its handle is not 22 to 64 letters, digits, hyphens and underscores.")
		}
		return Request{form: FormHandle, scheme: scheme, value: secret.New(*v.handle)}, nil
	case v.request != nil && v.handle == nil && identifiers == 0:
		if _, err := parseSigned(*v.request); err != nil {
			return Request{}, problem.With(problem.LinkInvalid, "Its signed request is not one.", err)
		}
		return Request{form: FormRequest, scheme: scheme, value: secret.New(*v.request)}, nil
	case identifiers == 3 && v.handle == nil && v.request == nil:
		for _, id := range []*string{v.encounterID, v.patientID, v.providerID} {
			if !isIdentifier(*id) {
				return Request{}, invalid("An identifier is empty, longer than 256 characters, or encoded twice.")
			}
		}
		return Request{
			form: FormIdentifiers, scheme: scheme,
			encounterID: secret.New(*v.encounterID), patientID: secret.New(*v.patientID), providerID: secret.New(*v.providerID),
		}, nil
	case identifiers > 0 && v.handle == nil && v.request == nil:
		return Request{}, invalid("An identifier is missing.")
	}
	return Request{}, invalid("It mixes forms.")
}
