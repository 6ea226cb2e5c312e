//go:build unix

package text

import (
	"os"
	"strings"
)

// asked returns the languages that the person prefers, best first, and the
// locale in which times are to be written, as BCP 47 tags.
func asked() (languages []string, formats string) { return fromEnvironment(os.Getenv) }

// fromEnvironment reads the variables in the order of POSIX (Base Definitions
// §8.2: LC_ALL, then the category's own, then LANG), and GNU gettext's list
// LANGUAGE, which counts only where a language was chosen at all.
func fromEnvironment(getenv func(string) string) (languages []string, formats string) {
	chosen := func(category string) string {
		for _, name := range []string{"LC_ALL", category, "LANG"} {
			if value := getenv(name); value != "" {
				return fromPOSIX(value)
			}
		}
		return ""
	}
	if messages := chosen("LC_MESSAGES"); messages != "" {
		for name := range strings.SplitSeq(getenv("LANGUAGE"), ":") {
			if tag := fromPOSIX(name); tag != "" {
				languages = append(languages, tag)
			}
		}
		languages = append(languages, messages)
	}
	return languages, chosen("LC_TIME")
}

// fromPOSIX turns "fr_CA.UTF-8@euro" into "fr-CA", and the locales that speak no
// language into nothing.
func fromPOSIX(name string) string {
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ".")
	if name == "C" || name == "POSIX" {
		return ""
	}
	return strings.ReplaceAll(name, "_", "-")
}
