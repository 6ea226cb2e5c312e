//go:build unix

package text

import (
	"strings"
	"testing"
)

func TestTheEnvironmentIsReadInTheOrderOfPOSIX(t *testing.T) {
	for _, c := range []struct{ env, languages, formats string }{
		{"", "", ""},
		{"LANG=fr_FR.UTF-8", "fr-FR", "fr-FR"},
		{"LANG=de_DE@euro", "de-DE", "de-DE"},
		{"LANG=fr_FR.UTF-8 LC_MESSAGES=en_GB.UTF-8", "en-GB", "fr-FR"},
		{"LANG=en_US.UTF-8 LC_TIME=en_GB.UTF-8", "en-US", "en-GB"},
		{"LANG=en_US.UTF-8 LC_TIME=en_GB.UTF-8 LC_ALL=es_ES.UTF-8", "es-ES", "es-ES"},
		{"LANG=en_US.UTF-8 LC_ALL= LC_MESSAGES=", "en-US", "en-US"},
		{"LANG=en_US.UTF-8 LANGUAGE=de:fr_CA", "de fr-CA en-US", "en-US"},
		{"LANG=C.UTF-8 LANGUAGE=de", "", ""},
		{"LANGUAGE=de", "", ""},
		{"LC_ALL=C LANG=fr_FR", "", ""},
		{"LC_ALL=POSIX LANG=fr_FR", "", ""},
	} {
		env := map[string]string{}
		for pair := range strings.FieldsSeq(c.env) {
			name, value, _ := strings.Cut(pair, "=")
			env[name] = value
		}
		languages, formats := fromEnvironment(func(name string) string { return env[name] })
		if got := strings.Join(languages, " "); got != c.languages || formats != c.formats {
			t.Errorf("%s: got %q and %q, want %q and %q", c.env, got, formats, c.languages, c.formats)
		}
	}
}

func TestTheSystemIsAskedAnewEveryTime(t *testing.T) {
	t.Setenv("LC_ALL", "fr_CA.UTF-8")
	if got := System() + " " + SystemLocale("fr") + " " + SystemLocale("en"); got != "fr fr-CA en" {
		t.Errorf("got %q", got)
	}
	t.Setenv("LC_ALL", "en_US.UTF-8")
	if got := System() + " " + SystemLocale("fr") + " " + SystemLocale("en"); got != "en fr en-US" {
		t.Errorf("got %q", got)
	}
}
