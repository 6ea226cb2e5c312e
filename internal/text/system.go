package text

import "strings"

// System is the language to speak when nobody has decided on one: the first of
// those that the person asked the system for and that has a catalogue, else
// English. It asks the system anew every time.
func System() string {
	wanted, _ := asked()
	return firstSpoken(wanted)
}

// SystemLocale is how times and dates are written in a language of the
// catalogue: a BCP 47 tag of the language with the system's region where the
// system speaks it, such as "en-GB", else the language alone. It asks the system
// anew every time.
func SystemLocale(language string) string {
	wanted, formats := asked()
	return localeFor(language, append([]string{formats}, wanted...))
}

func firstSpoken(wanted []string) string {
	for _, tag := range wanted {
		if primary, _ := parts(tag); spoken(primary) {
			return primary
		}
	}
	return English
}

func localeFor(language string, tags []string) string {
	for _, tag := range tags {
		if primary, region := parts(tag); primary == language && region != "" {
			return language + "-" + region
		}
	}
	return language
}

// parts takes the language and the region out of a BCP 47 tag, in their usual
// case. Windows' names of locales, which may end in "_" and a sort order, are
// read too. What is no such tag has neither.
func parts(tag string) (language, region string) {
	tag, _, _ = strings.Cut(tag, "_")
	language, rest, more := strings.Cut(tag, "-")
	language = strings.ToLower(language)
	if len(language) < 2 || len(language) > 3 || !within(language, 'a', 'z') {
		return "", ""
	}
	for more {
		var subtag string
		subtag, rest, more = strings.Cut(rest, "-")
		subtag = strings.ToUpper(subtag)
		switch {
		case len(subtag) == 2 && within(subtag, 'A', 'Z'), len(subtag) == 3 && within(subtag, '0', '9'):
			return language, subtag
		case len(subtag) < 2:
			return language, "" // an extension begins: no region follows it
		}
	}
	return language, ""
}

func within(s string, low, high byte) bool {
	for i := range len(s) {
		if s[i] < low || s[i] > high {
			return false
		}
	}
	return true
}
