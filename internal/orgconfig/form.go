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
		return syntax(err)
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
			e.Faults, e.Read = append(e.Faults, lineOf.FindString(text)+"what stands here cannot be used"), false
		}
	}
	return e
}

var (
	lineOf = regexp.MustCompile(`^line \d+: `)
	// plainWords is what the library says of a file that is no YAML, where it quotes
	// nothing of it.
	plainWords = regexp.MustCompile(`^yaml: (?:line \d+: )?[a-zA-Z][a-zA-Z0-9 ',:()\[\]{}<>.-]*$`)
)

// syntax says what is wrong with a file that is no YAML. Some errors of the library
// hold what stands in the file, and a password may begin with a * or a !.
func syntax(err error) error {
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "yaml: unknown anchor "):
		return errors.New("an alias has no anchor: a text that begins with * must be in quotes")
	case strings.HasPrefix(text, "yaml: anchor "):
		return errors.New("an anchor holds itself")
	case strings.HasPrefix(text, "yaml: cannot decode "), strings.HasPrefix(text, "yaml: !!binary "):
		return errors.New("a value is not what its tag says: a text that begins with ! must be in quotes")
	case strings.HasPrefix(text, "yaml: invalid map key"):
		return errors.New("a key is a list or a section")
	case plainWords.MatchString(text):
		return err
	}
	return errors.New("it is not YAML")
}
