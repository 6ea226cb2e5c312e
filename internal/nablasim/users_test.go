package nablasim

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

func (f *fixture) users(token, version, body string) reply {
	header := map[string]string{"Authorization": "Bearer " + token}
	if version != "" {
		header[VersionHeader] = version
	}
	return f.send(http.MethodPost, "/users", body, header)
}

func (f *fixture) user(got reply) userAnswer {
	f.t.Helper()
	var u userAnswer
	if err := json.Unmarshal([]byte(got.text), &u); err != nil || got.status != http.StatusOK {
		f.t.Fatalf("%d %s", got.status, got.text)
	}
	return u
}

func TestAUserIsFoundByItsIDAndItsSettingsAreMerged(t *testing.T) {
	f := newFixture(t)
	token := f.token()
	made := f.user(f.users(token, Version20260323, `{"provider_email":"ada@hospital.example","external_provider_id":"D-17","settings":{"specialty":{"kind":"OTHER","other_specialty_name":"Falconry"},"speech_locale":"ENGLISH_US"}}`))
	if made.CreatedAt != f.now().Format(time.RFC3339) || made.ProviderEmail != "ada@hospital.example" || made.ExternalProviderID != "D-17" ||
		made.Settings.Specialty == nil || made.Settings.Specialty.Kind != "OTHER" || *made.Settings.Specialty.OtherSpecialtyName != "Falconry" ||
		*made.Settings.SpeechLocale != "ENGLISH_US" || made.Settings.SecondarySpeechLocale != nil {
		t.Errorf("%+v", made)
	}
	f.advance(time.Minute)
	merged := f.user(f.users(token, Version20260323, `{"provider_email":"Ada@hospital.example","external_provider_id":"D-17","settings":{"specialty":{"kind":"CARDIOLOGY"},"secondary_speech_locale":"FRENCH_FR"}}`))
	if merged.CreatedAt != made.CreatedAt || merged.Settings.Specialty.Kind != "CARDIOLOGY" || merged.Settings.Specialty.OtherSpecialtyName != nil ||
		*merged.Settings.SpeechLocale != "ENGLISH_US" || *merged.Settings.SecondarySpeechLocale != "FRENCH_FR" {
		t.Errorf("%+v", merged)
	}
	emptied := f.user(f.users(token, Version20260323, `{"provider_email":"ada@hospital.example","external_provider_id":"D-17","settings":{"specialty":null,"secondary_speech_locale":null}}`))
	if emptied.Settings.Specialty != nil || emptied.Settings.SecondarySpeechLocale != nil || emptied.Settings.SpeechLocale == nil {
		t.Errorf("%+v", emptied)
	}
	// A clinician whom create provisioned is the same user.
	f.page(f.call(token, "/encounters", strings.NewReplacer("ada@", "ben@", "D-17", "D-18").Replace(goodCreate)))
	if known := f.user(f.users(token, Version20260323, `{"provider_email":"ben@hospital.example","external_provider_id":"D-18"}`)); known.CreatedAt != f.now().Format(time.RFC3339) {
		t.Errorf("%+v", known)
	}
}

func TestUsersRefusesWhatThePageDoesNotAllow(t *testing.T) {
	f := newFixture(t)
	token := f.token()
	good := `{"provider_email":"ada@hospital.example","external_provider_id":"D-17"}`
	with := func(settings string) string { return strings.Replace(good, "}", `,"settings":`+settings+"}", 1) }
	for name, c := range map[string]struct {
		version, body string
		status        int
	}{
		"the version before":         {Version20260213, good, 404},
		"no version":                 {"", good, 404},
		"no e-mail":                  {Version20260323, `{"external_provider_id":"D-17"}`, 400},
		"an id of 257":               {Version20260323, strings.Replace(good, "D-17", strings.Repeat("é", 257), 1), 400},
		"settings are null":          {Version20260323, with("null"), 400},
		"an unknown setting":         {Version20260323, with(`{"theme":"dark"}`), 400},
		"a specialty without a kind": {Version20260323, with(`{"specialty":{}}`), 400},
		"a kind that is a sentence":  {Version20260323, with(`{"specialty":{"kind":"heart and lungs"}}`), 400},
		"a locale that is a number":  {Version20260323, with(`{"speech_locale":5}`), 400},
		"a locale that is null":      {Version20260323, with(`{"speech_locale":null}`), 400},
	} {
		if got := f.users(token, c.version, c.body); got.status != c.status {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	f.user(f.users(token, Version20260323, good))
	f.user(f.users(token, Version20260323, strings.NewReplacer("ada@", "ben@", "D-17", "D-18").Replace(good)))
	for _, body := range []string{strings.Replace(good, "D-17", "D-18", 1), strings.Replace(good, "ada@", "eve@", 1), strings.Replace(good, "D-17", "D-19", 1)} {
		if got := f.users(token, Version20260323, body); got.status != http.StatusConflict {
			t.Errorf("%s: %d", body, got.status)
		}
	}
}

func TestAnOlderVersionHasTheLegacyFormatAndTheAliases(t *testing.T) {
	f := newFixture(t)
	token := f.token()
	legacy := `{"provider_email":"ada@hospital.example","external_provider_id":"D-17","external_patient_id":"P-1","external_encounter_id":"E-1","unstructured_context":"text"}`
	at := func(path, version, body string) int {
		return f.send(http.MethodPost, path, body, map[string]string{"Authorization": "Bearer " + token, VersionHeader: version}).status
	}
	for _, c := range []struct {
		path, version, body string
		want                int
	}{
		{"/encounter", "2025-11-30", legacy, 200}, {"/encounters", "2025-11-30", legacy, 200}, {"/encounters", "2026-02-12", legacy, 200},
		{"/encounters", Version20260213, legacy, 400}, {"/encounters", "2025-11-30", goodCreate, 400},
		{"/encounters", "2026-02-14", goodCreate, 400}, {"/encounters", "2025-13-40", legacy, 400},
	} {
		if got := at(c.path, c.version, c.body); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.path, c.version, got, c.want)
		}
	}
}

func TestThePinnedVersionAppliesWhereNoneIsNamed(t *testing.T) {
	f := newFixture(t)
	f.sim.version = Version20260323
	token := f.token()
	f.user(f.send(http.MethodPost, "/users", `{"provider_email":"ada@hospital.example","external_provider_id":"D-17"}`, map[string]string{"Authorization": "Bearer " + token}))
	if _, err := New(Config{BaseURL: "http://127.0.0.1:1/v1", Version: "2026-04-01"}); err == nil {
		t.Error("a version that does not exist was pinned")
	}
}
