package agent

import (
	"strings"
	"testing"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

func TestThePolicysLanguageIsSpokenAndElseTheSystems(t *testing.T) {
	t.Setenv("LC_ALL", "fr_CA.UTF-8")
	h := newHospital(t)
	w := h.logOn()
	w.refused(h.mint("ada", 1), problem.PolicyMissing)
	says := func(language, locale string) {
		t.Helper()
		want := text.For(language)
		w.await("the words in "+language, func(s view.Snapshot) bool {
			return s.Language == language && s.Locale == locale && s.Launch != nil && strings.HasPrefix(s.Launch.Problem.Sentence, want.Sentence(problem.PolicyMissing)) &&
				s.Launch.Problem.NextStep == want.NextStep(problem.PolicyMissing)
		})
	}
	says("fr", "fr-CA")
	h.setPolicy(map[string]any{"Language": "de"})
	says("de", "de")
	h.setPolicy(map[string]any{"Language": "fr"})
	says("fr", "fr-CA")
	t.Setenv("LC_ALL", "en_GB.UTF-8")
	h.setPolicy(map[string]any{"Language": nil})
	says("en", "en-GB")
}

func TestEveryLanguageThatPolicyAllowsIsSpokenAlsoOnTheSignInsLastPage(t *testing.T) {
	var allowed []string
	for _, key := range policy.Keys() {
		if key.Name == "Language" {
			allowed = key.Allowed
		}
	}
	if len(allowed) == 0 {
		t.Fatal("policy has no languages")
	}
	for _, language := range allowed {
		words := text.For(language)
		if words.Language() != language {
			t.Errorf("policy allows %s, and there is no catalogue", language)
		}
		page := pageWords(words)
		for _, word := range []string{page.Product, page.SignedIn, page.SignedInNext, page.Close, page.Reference, page.Sentence(problem.SigninFailed), page.NextStep(problem.SigninFailed)} {
			if word == "" || len(word) > 5 && word[:5] == "page." {
				t.Errorf("%s: the page says %q", language, word)
			}
		}
		if page.Language != language {
			t.Errorf("the page is marked as %q", page.Language)
		}
	}
}
