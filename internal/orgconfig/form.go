package orgconfig

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// FormError is what is wrong with the form of a YAML file: each fault with its line,
// and never a value of the file, which may be a secret or a patient's.
type FormError struct {
	Faults []string
	// Read means that everything else was read all the same.
	Read bool
}

func (e *FormError) Error() string { return strings.Join(e.Faults, "\n") }

var (
	unknownKey = regexp.MustCompile(`(?s)^(line \d+): field (.+) not found in type `)
	plainKey   = regexp.MustCompile(`^[a-z_]{1,40}$`)
	wrongType  = regexp.MustCompile("(?s)^(line \\d+): cannot unmarshal .* into ([^ `]+)$")
	twice      = regexp.MustCompile(`(?s)^(line \d+): (?:mapping key .* already defined at (line \d+)|field .* already set in type .*)$`)
	wants      = map[string]string{
		"time.Duration": "is not a duration such as 90s, 10m or 24h",
		"int":           "is not a whole number",
		"float64":       "is not a number",
		"bool":          "is neither true nor false",
		"string":        "is not a text",
		"[]string":      "is not a list of texts, such as [one, two]",
	}
)

// form says in words for people what the library says in those of Go.
func form(err error) error {
	var typed *yaml.TypeError
	if !errors.As(err, &typed) {
		return err
	}
	e := &FormError{Read: true}
	for _, text := range typed.Errors {
		switch {
		case unknownKey.MatchString(text):
			m := unknownKey.FindStringSubmatch(text)
			name := "what stands here"
			if plainKey.MatchString(m[2]) {
				name = m[2]
			}
			e.Faults = append(e.Faults, fmt.Sprintf("%s: %s is no key of this place; see org-backend config-reference", m[1], name))
		case wrongType.MatchString(text):
			m := wrongType.FindStringSubmatch(text)
			want := wants[m[2]]
			switch {
			case want != "":
			case strings.HasPrefix(m[2], "[]"):
				want = "is not a list of entries, each with its keys"
			default:
				want = "is not a section with keys of its own"
			}
			e.Faults = append(e.Faults, m[1]+": what stands here "+want)
		case twice.MatchString(text):
			m := twice.FindStringSubmatch(text)
			where := ""
			if m[2] != "" {
				where = " in " + m[2]
			}
			e.Faults, e.Read = append(e.Faults, m[1]+": the key was given already"+where), false
		default:
			e.Faults, e.Read = append(e.Faults, text), false
		}
	}
	return e
}
