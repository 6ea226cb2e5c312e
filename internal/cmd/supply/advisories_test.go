//go:build supply

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is here wants the Go module proxy, npm and built pages: `make test-supply` runs it.

var today = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// question is one as the command asks it, with what it printed and reported.
func question(t *testing.T, ask asking, end func(asking) error) (said, report string, err error) {
	t.Helper()
	var out bytes.Buffer
	ask.stdout, ask.stderr = &out, &out
	ask.now = func() time.Time { return today }
	ask.report = filepath.Join(t.TempDir(), "report.json")
	err = end(ask)
	data, readErr := os.ReadFile(ask.report)
	if readErr != nil {
		t.Fatal(readErr)
	}
	return out.String(), string(data), err
}

// wants fails unless the question ended as wanted: nil, "not checked" or a part of the error.
func wants(t *testing.T, err error, want, report, state string) {
	t.Helper()
	var unknown *unasked
	switch {
	case want == "" && err != nil:
		t.Errorf("it ended with %v", err)
	case want == "not checked" && !errors.As(err, &unknown):
		t.Errorf("it ended with %v, and did not say that nothing was checked", err)
	case want == "not checked" && !strings.Contains(err.Error(), "NOT CHECKED, nothing is claimed"):
		t.Errorf("it says %v", err)
	case want != "" && want != "not checked" && (err == nil || errors.As(err, &unknown) || !strings.Contains(err.Error(), want)):
		t.Errorf("it ended with %v, want %s", err, want)
	}
	if !strings.Contains(report, `"state": "`+state+`"`) {
		t.Errorf("the report does not say %q:\n%s", state, report)
	}
}

// database writes a database of advisories with one, about a module and a symbol.
func database(t *testing.T, module, path, symbol string) string {
	t.Helper()
	folder := t.TempDir()
	files := map[string]string{
		"index/db.json":      `{"modified":"2026-11-01T00:00:00Z"}`,
		"index/modules.json": fmt.Sprintf(`[{"path":%q,"vulns":[{"id":"GO-2026-9999","modified":"2026-11-01T00:00:00Z"}]}]`, module),
		"index/vulns.json":   `[{"id":"GO-2026-9999","modified":"2026-11-01T00:00:00Z","aliases":[]}]`,
		"ID/GO-2026-9999.json": fmt.Sprintf(`{"schema_version":"1.3.1","id":"GO-2026-9999","modified":"2026-11-01T00:00:00Z","published":"2026-11-01T00:00:00Z","summary":"An invented weakness","details":"Invented.",
			"affected":[{"package":{"name":%q,"ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],"ecosystem_specific":{"imports":[{"path":%q,"symbols":[%q]}]}}],
			"database_specific":{"url":"https://advisories.example/GO-2026-9999","review_status":"REVIEWED"}}`, module, path, symbol),
	}
	for name, body := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return "file://" + filepath.ToSlash(folder)
}

// govulncheck is the one that the build pins.
func govulncheck(t *testing.T) string {
	t.Helper()
	tool := os.Getenv("GOVULNCHECK")
	if tool == "" {
		t.Fatal("GOVULNCHECK names no tool: run make test-supply")
	}
	return tool
}

func repository(t *testing.T) *tree {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return &tree{root: root, rules: rules{met: map[string]bool{}}}
}

func TestAnAdvisoryAgainstWhatWeCallIsFound(t *testing.T) {
	ask := asking{tool: govulncheck(t), packages: []string{"./internal/paths"}, database: database(t, "github.com/adrg/xdg", "github.com/adrg/xdg", "Reload")}
	said, report, err := question(t, ask, func(a asking) error { return a.vulncheck(repository(t)) })
	wants(t, err, "1 advisories concern us", report, "found")
	if !strings.Contains(said, "FOUND") || !strings.Contains(said, "GO-2026-9999") || strings.Contains(said, "no advisory concerns us") {
		t.Errorf("it says:\n%s", said)
	}
}

func TestAnAdvisoryAgainstWhatNobodyCallsIsToldAndFailsNothing(t *testing.T) {
	ask := asking{tool: govulncheck(t), packages: []string{"./internal/paths"}, database: database(t, "github.com/adrg/xdg", "github.com/adrg/xdg", "NobodyCallsThis")}
	said, report, err := question(t, ask, func(a asking) error { return a.vulncheck(repository(t)) })
	wants(t, err, "", report, "nothing found")
	if !strings.Contains(said, "not reached") || !strings.Contains(said, "GO-2026-9999") {
		t.Errorf("it says:\n%s", said)
	}
}

func TestAnAcceptedAdvisoryIsAcceptedUntilItsLastDay(t *testing.T) {
	for until, want := range map[string]string{"2026-11-25": "", "2026-11-24": "1 advisories concern us"} {
		repo := repository(t)
		repo.rules.Advisories = []accepted{{ID: "GO-2026-9999", Why: "invented", Until: until}}
		ask := asking{tool: govulncheck(t), packages: []string{"./internal/paths"}, database: database(t, "github.com/adrg/xdg", "github.com/adrg/xdg", "Reload")}
		_, report, err := question(t, ask, func(a asking) error { return a.vulncheck(repo) })
		state := "nothing found"
		if want != "" {
			state = "found"
		}
		wants(t, err, want, report, state)
	}
}

func TestADatabaseOfAdvisoriesThatCannotBeAskedIsNeverTakenForAGoodAnswer(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>Sign in to the network</html>")) }))
	defer page.Close()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refusing.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, address := range map[string]string{"a page of a proxy": page.URL, "a refusal": refusing.URL, "nobody": gone.URL, "no folder": "file:///no/such/folder"} {
		t.Run(name, func(t *testing.T) {
			said, report, err := question(t, asking{tool: govulncheck(t), database: address}, func(a asking) error { return a.vulncheck(repository(t)) })
			wants(t, err, "not checked", report, "not checked")
			if strings.Contains(said, "no advisory") {
				t.Errorf("it says:\n%s", said)
			}
		})
	}
}

func TestAdvisoriesAreNotCheckedWhereTheToolCannotBeHad(t *testing.T) {
	ask := asking{tool: "encounters.hospital.example/no/such/tool@v1.0.0", database: database(t, "github.com/adrg/xdg", "github.com/adrg/xdg", "Reload")}
	t.Setenv("GOPROXY", "off")
	_, report, err := question(t, ask, func(a asking) error { return a.vulncheck(repository(t)) })
	wants(t, err, "not checked", report, "not checked")
}

func TestACheckForAdvisoriesThatFailsIsAFailure(t *testing.T) {
	ask := asking{tool: govulncheck(t), packages: []string{"./no/such/package"}, database: database(t, "github.com/adrg/xdg", "github.com/adrg/xdg", "Reload")}
	_, report, err := question(t, ask, func(a asking) error { return a.vulncheck(repository(t)) })
	wants(t, err, "the check of Linux failed", report, "failed")
}

// registry is one of npm's that knows of advisories what body says.
func registry(t *testing.T, status int, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/security/advisories/bulk") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestAnAdvisoryAgainstAPackageOfTheLockFileIsFound(t *testing.T) {
	address := registry(t, http.StatusOK, `{"svelte":[{"id":1,"url":"https://advisories.example/GHSA-aaaa-bbbb-cccc","title":"An invented weakness","severity":"high","vulnerable_versions":"<99.0.0","cwe":[],"cvss":{"score":8,"vectorString":null}}]}`)
	said, report, err := question(t, asking{registry: address}, func(a asking) error { return a.npmAudit(repository(t)) })
	wants(t, err, "advisories concern us", report, "found")
	if !strings.Contains(said, "GHSA-aaaa-bbbb-cccc") || !strings.Contains(said, "svelte") || !strings.Contains(said, "high") {
		t.Errorf("it says:\n%s", said)
	}
}

func TestARegistryWithoutAdvisoriesForUsIsAGoodAnswer(t *testing.T) {
	said, report, err := question(t, asking{registry: registry(t, http.StatusOK, `{}`)}, func(a asking) error { return a.npmAudit(repository(t)) })
	wants(t, err, "", report, "nothing found")
	if !strings.Contains(said, "no advisory concerns us") {
		t.Errorf("it says:\n%s", said)
	}
}

func TestARegistryThatCannotBeAskedForAdvisoriesIsNeverTakenForAGoodAnswer(t *testing.T) {
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, address := range map[string]string{
		"one without the call": registry(t, http.StatusMethodNotAllowed, ""), "one that is out of order": registry(t, http.StatusServiceUnavailable, "{}"),
		"a page of a proxy": registry(t, http.StatusOK, "<html>Sign in to the network</html>"), "nobody": gone.URL,
	} {
		t.Run(name, func(t *testing.T) {
			said, report, err := question(t, asking{registry: address}, func(a asking) error { return a.npmAudit(repository(t)) })
			wants(t, err, "not checked", report, "not checked")
			if strings.Contains(said, "no advisory") {
				t.Errorf("it says:\n%s", said)
			}
		})
	}
}
