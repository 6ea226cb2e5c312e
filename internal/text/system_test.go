package text

import (
	"strings"
	"testing"
)

func TestTheFirstLanguageThatHasACatalogueIsSpoken(t *testing.T) {
	for wanted, want := range map[string]string{
		"": "en", "fr-FR": "fr", "nb-NO de-CH fr-FR": "de", "nb-NO": "en", "FR": "fr", "frr": "en", "es-419": "es", "../fr": "en",
	} {
		if got := firstSpoken(strings.Fields(wanted)); got != want {
			t.Errorf("%q: got %q, want %q", wanted, got, want)
		}
	}
}

func TestTheRegionIsTakenFromWhereTheSystemSpeaksTheLanguage(t *testing.T) {
	for _, c := range []struct{ language, system, want string }{
		{"en", "en-US fr-FR", "en-US"},
		{"fr", "en-US fr-CA", "fr-CA"},
		{"de", "en-US fr-CA", "de"},
		{"de", "de-DE_phoneb", "de-DE"},
		{"de", "de", "de"},
		{"es", "es-419", "es-419"},
		{"en", "en-Latn-GB", "en-GB"},
		{"en", "en-u-GB", "en"},
		{"en", "en-GB/../..", "en"},
	} {
		if got := localeFor(c.language, strings.Fields(c.system)); got != c.want {
			t.Errorf("%s on %q: got %q, want %q", c.language, c.system, got, c.want)
		}
	}
}
