package nabla

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/problem"
)

func created(at string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { body(w, http.StatusOK, `{"id":"u","created_at":"`+at+`"}`) }
}

func TestAUserIsTheDocumentedCall(t *testing.T) {
	f := newFixture(t, created("2026-11-03T09:00:00.5Z"))
	for user, want := range map[*User]string{
		{ProviderEmail: "ada@hospital.example", ExternalProviderID: "D-17"}: `{"provider_email":"ada@hospital.example","external_provider_id":"D-17"}`,
		{ProviderEmail: "ada@hospital.example", ExternalProviderID: "D-17", Settings: UserSettings{
			Specialty: &Specialty{Kind: OtherSpecialty, OtherName: "Tropical medicine"}, SpeechLocale: "GERMAN_DE", SecondarySpeechLocale: "FRENCH_FR",
		}}: `{"provider_email":"ada@hospital.example","external_provider_id":"D-17","settings":{"specialty":{"kind":"OTHER","other_specialty_name":"Tropical medicine"},` +
			`"speech_locale":"GERMAN_DE","secondary_speech_locale":"FRENCH_FR"}}`,
		{ProviderEmail: "a@b.example", ExternalProviderID: "D-1", Settings: UserSettings{Specialty: &Specialty{Kind: "CARDIOLOGY"}}}: `{"provider_email":"a@b.example","external_provider_id":"D-1","settings":{"specialty":{"kind":"CARDIOLOGY"}}}`,
	} {
		got, err := f.client.CreateUser(t.Context(), *user)
		if err != nil || got.Found || !got.CreatedAt.Equal(time.Date(2026, 11, 3, 9, 0, 0, 5e8, time.UTC)) {
			t.Errorf("%+v, %v", got, err)
		}
		if last := f.bodies[len(f.bodies)-1]; last != want {
			t.Errorf("body %s", last)
		}
	}
	if r := f.calls[0]; r.URL.Path != "/v1/connect/server/users" || r.Header.Get("X-Nabla-Api-Version") != "2026-03-23" {
		t.Errorf("%s %v", r.URL, r.Header)
	}
}

func TestAUserWhoWasThereIsToldApart(t *testing.T) {
	for at, found := range map[string]bool{
		"2026-11-03T08:59:01Z": false, "2026-11-03T08:58:59Z": true, "2024-02-29T12:00:00+01:00": true, "2026-11-03T09:05:00Z": false, "yesterday": false, "": false,
	} {
		got, err := newFixture(t, created(at)).client.CreateUser(t.Context(), User{})
		if err != nil || got.Found != found {
			t.Errorf("%q: %+v, %v", at, got, err)
		}
	}
	// What else the user is made of is not documented.
	f := newFixture(t, func(w http.ResponseWriter) { body(w, http.StatusCreated, `{"user":[],"created_at":5}`) })
	if got, err := f.client.CreateUser(t.Context(), User{}); err != nil || got.Found {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEveryStatusOfUsersBecomesItsProblem(t *testing.T) {
	for n, want := range map[int]problem.Code{
		409: problem.ProviderConflict, 400: problem.RequestInvalid, 422: problem.RequestInvalid, 404: problem.VendorUnavailable,
		403: problem.VendorUnavailable, 500: problem.VendorUnavailable, 429: problem.VendorUnavailable, 302: problem.VendorUnavailable,
	} {
		f := newFixture(t, status(n))
		_, err := f.client.CreateUser(t.Context(), User{})
		if !problem.IsCode(err, want) || strings.Contains(problem.Of(err).LogValue().String(), "Kanarienvogel") {
			t.Errorf("%d: %v", n, err)
		}
	}
	f := newFixture(t, status(503), created(""))
	if _, err := f.client.CreateUser(t.Context(), User{}); err != nil || len(f.calls) != 2 {
		t.Errorf("%v, %d calls", err, len(f.calls))
	}
	f = newFixture(t, func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/html") })
	if _, err := f.client.CreateUser(t.Context(), User{}); !problem.IsCode(err, problem.VendorUnavailable) {
		t.Errorf("HTML: %v", err)
	}
}

func TestEachCallAsksForItsVersionOfTheProtocol(t *testing.T) {
	f := newFixture(t, goodURL, goodURL, created(""))
	c, err := New(Config{
		BaseURL: f.client.base, ClientID: testClient, Keys: []assertion.Key{{Signer: ecKey(t)}}, Version: "2027-01-01", UsersVersion: "2027-02-02",
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Create(t.Context(), payload())
	_, _ = c.Refresh(t.Context(), "D-17", "E-1")
	_, _ = c.CreateUser(t.Context(), User{})
	for i, want := range []string{"2027-01-01", "2027-01-01", "2027-02-02"} {
		if got := f.calls[i].Header.Get("X-Nabla-Api-Version"); got != want {
			t.Errorf("call %d: %s", i, got)
		}
	}
}

func TestKeysInFilesRotateWhileTheClientWorks(t *testing.T) {
	f := newFixture(t, goodURL)
	file := filepath.Join(t.TempDir(), "key.pem")
	put := func() {
		der, err := x509.MarshalPKCS8PrivateKey(ecKey(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put()
	files, err := assertion.OpenFiles(assertion.FilesConfig{Names: []string{file}, Algorithms: assertion.Nabla})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{BaseURL: f.client.base, ClientID: testClient, KeyFiles: files})
	if err != nil {
		t.Fatal(err)
	}
	before := string(c.JWKS())
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	put()
	if after := string(c.JWKS()); after == before || strings.Contains(after, `"d"`) {
		t.Errorf("published %s", after)
	}
	if _, err := c.Create(t.Context(), payload()); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{BaseURL: f.client.base, ClientID: testClient, KeyFiles: files, Keys: []assertion.Key{{Signer: ecKey(t)}}}); err == nil {
		t.Error("two sources of keys were taken")
	}
}
