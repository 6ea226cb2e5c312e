package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/conformance"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
)

func wordFile(t *testing.T, word string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "word")
	if err := os.WriteFile(file, []byte(word), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// served is a backend at a loopback address; no identity provider stands behind it.
func served(t *testing.T) string {
	t.Helper()
	front := httptest.NewServer(nil)
	t.Cleanup(front.Close)
	cfg, err := orgconfig.Load(configuration(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	cfg.PublicURL = front.URL + "/launcher"
	server, err := orgserver.New(t.Context(), cfg, orgserver.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	front.Config.Handler = server
	return cfg.PublicURL
}

func TestConformanceSaysWhatWasTriedAndWhatWasNot(t *testing.T) {
	base := served(t)
	out, err := run(t.Context(), io.Discard, "conformance", "--base-url", base)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"✓ must    no-token", "– must    me ", "not tried: needs a clinician's access token (--token-file)", "what was not tried is not known", " not tried: needs an EHR server's credential (--ehr-token-file)\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing says %q:\n%s", want, out)
		}
	}
	out, err = run(t.Context(), io.Discard, "conformance", "--base-url", base, "--json", "--only", "no-token,me")
	var told struct {
		Summary conformance.Summary
		Results []conformance.Result
	}
	if err != nil || json.Unmarshal([]byte(out), &told) != nil || len(told.Results) != 2 || told.Summary.Passed != 1 || told.Summary.NotTried != 1 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestConformanceEndsWithOneForABackendThatBreaksTheContract(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	out, err := run(t.Context(), io.Discard, "conformance", "--base-url", server.URL, "--token", "a-token-that-nobody-sees")
	if err == nil || exitStatus(err) != 1 || !strings.Contains(out, "✗ must    no-token") || !strings.Contains(out, "mend:   ") {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(out, "a-token-that-nobody-sees") {
		t.Error("the token is printed")
	}
}

func TestConformanceRefusesWhatItCannotUse(t *testing.T) {
	token := wordFile(t, "token\n")
	for name, args := range map[string][]string{
		"no backend":              {},
		"not https":               {"--base-url", "http://backend.hospital.example"},
		"a file that is not":      {"--base-url", "https://backend.hospital.example", "--token-file", "/does/not/exist"},
		"two lines":               {"--base-url", "https://backend.hospital.example", "--token-file", wordFile(t, "a\nb\n")},
		"a token twice":           {"--base-url", "https://backend.hospital.example", "--token-file", token, "--token", "x"},
		"an unknown case":         {"--base-url", "https://backend.hospital.example", "--token-file", token, "--only", "nothing"},
		"authorities that aren't": {"--base-url", "https://backend.hospital.example", "--token-file", token, "--ca-file", token},
		"nobody who answers":      {"--base-url", "http://127.0.0.1:1", "--token-file", token},
		"an argument too many":    {"--base-url", "https://backend.hospital.example", "x"},
	} {
		out, err := run(t.Context(), io.Discard, append([]string{"conformance"}, args...)...)
		if err == nil || exitStatus(err) != 2 || out != "" {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if name == "not https" && !strings.Contains(err.Error(), "base URL") {
			t.Errorf("it names something else: %v", err)
		}
	}
}

func TestThePublishedCasesAreListed(t *testing.T) {
	out, err := run(t.Context(), io.Discard, "conformance", "--list")
	if err != nil || strings.Count(out, "\n") != len(conformance.Cases()) {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run(t.Context(), io.Discard, "conformance", "--list", "--json")
	var cases []conformance.Case
	if err != nil || json.Unmarshal([]byte(out), &cases) != nil || len(cases) != len(conformance.Cases()) || cases[0].Clause == "" {
		t.Errorf("%v: %.200s", err, out)
	}
}
