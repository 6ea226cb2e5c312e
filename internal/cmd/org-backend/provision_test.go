package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"encounterlauncher/internal/nablasim"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
)

const listHead = "provider_email,external_provider_id,specialty\n"

// simulated returns a configuration whose Nabla is the simulator, its calls, and a
// function that runs the verb.
func simulated(t *testing.T, onUser func(n int32)) (folder string, calls *atomic.Int32, provision func(ctx context.Context, args ...string) (string, string, error)) {
	t.Helper()
	calls = &atomic.Int32{}
	var sim *nablasim.Sim
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if onUser != nil && strings.HasSuffix(r.URL.Path, "/users") {
			onUser(calls.Load())
		}
		sim.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	file := configuration(t, "")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("region: eu"), []byte("base_url: "+server.URL+"/v1/connect/server"), 1)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := orgconfig.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	client, err := orgserver.NewNabla(cfg.Nabla, orgserver.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	sim, err = nablasim.New(nablasim.Config{BaseURL: cfg.Nabla.BaseURL, Clients: map[string]nablasim.Client{cfg.Nabla.ClientID: {JWKS: client.JWKS()}}})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(file), calls, func(ctx context.Context, args ...string) (string, string, error) {
		var stderr bytes.Buffer
		out, err := run(ctx, &stderr, append([]string{"provision", "--config", file}, args...)...)
		return out, stderr.String(), err
	}
}

func put(t *testing.T, folder, name, text string) string {
	t.Helper()
	file := filepath.Join(folder, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestOneUserIsProvisioned(t *testing.T) {
	_, _, provision := simulated(t, nil)
	ada := []string{"--email", "ada@hospital.example", "--provider-id", "D-17", "--specialty", "CARDIOLOGY", "--speech-locale", "GERMAN_DE"}
	if out, _, err := provision(t.Context(), ada...); err != nil || out != "provisioned\n" {
		t.Errorf("%q, %v", out, err)
	}
	_, _, err := provision(t.Context(), "--email", "ada@hospital.example", "--provider-id", "D-18")
	if err == nil || exitStatus(err) != 1 || !strings.Contains(err.Error(), "two different users") || strings.Contains(err.Error(), "D-18") {
		t.Errorf("a conflict: %v", err)
	}
}

func TestAListIsProvisionedAndItsConflictsAreWritten(t *testing.T) {
	folder, calls, provision := simulated(t, nil)
	list := put(t, folder, "users.csv", listHead+"a@a.example,D-1,CARDIOLOGY\nb@a.example,D-2,\nc@a.example,D-3,\n")
	if _, _, err := provision(t.Context(), "--email", "x@a.example", "--provider-id", "D-2"); err != nil {
		t.Fatal(err)
	}
	before := calls.Load()
	out, _, err := provision(t.Context(), "--csv", list, "--dry-run")
	if err != nil || calls.Load() != before || out != "all is right; 3 of 3 would be sent, 1 with a specialty, 0 with a language; nothing was sent\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := os.Stat(list + ".done"); err == nil {
		t.Error("a dry run left a record")
	}
	conflicts := filepath.Join(folder, "conflicts.csv")
	out, stderr, err := provision(t.Context(), "--csv", list, "--conflicts", conflicts)
	if err == nil || exitStatus(err) != 1 || out != "2 of 3 provisioned, 1 conflict (see "+conflicts+")\n" || !strings.Contains(stderr, "3 of 3") {
		t.Errorf("%q, %q, %v", out, stderr, err)
	}
	text, err := os.ReadFile(conflicts)
	if err != nil || string(text) != "line,provider_email,external_provider_id,reason\n3,b@a.example,D-2,conflict\n" {
		t.Errorf("%s, %v", text, err)
	}
	// The line is mended: only it is sent, and the report of before goes.
	put(t, folder, "users.csv", listHead+"a@a.example,D-1,CARDIOLOGY\nx@a.example,D-2,\nc@a.example,D-3,\n")
	out, _, err = provision(t.Context(), "--csv", list, "--conflicts", conflicts)
	if err != nil || out != "1 of 3 provisioned, 2 done before\n" {
		t.Errorf("%q, %v", out, err)
	}
	if text, err := os.ReadFile(conflicts); err != nil || strings.Contains(string(text), "conflict\n") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestAnInterruptedListSaysHowToGoOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	folder, _, provision := simulated(t, func(n int32) {
		if n == 4 {
			cancel()
		}
	})
	var text strings.Builder
	text.WriteString(listHead)
	for i := range 40 {
		text.WriteString("u" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + "@a.example,D-" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + ",\n")
	}
	list := put(t, folder, "users.csv", text.String())
	out, _, err := provision(ctx, "--csv", list)
	if err == nil || exitStatus(err) != 1 || !strings.Contains(err.Error(), "run the same command again to go on") || !strings.Contains(out, "not tried") {
		t.Errorf("%q, %v", out, err)
	}
	out, _, err = provision(t.Context(), "--csv", list)
	if err != nil || !strings.Contains(out, "done before") || !strings.Contains(out, "of 40 provisioned") {
		t.Errorf("%q, %v", out, err)
	}
}

func TestWhatCannotBeProvisionedEndsWithTwoAndSendsNothing(t *testing.T) {
	folder, calls, provision := simulated(t, nil)
	good := put(t, folder, "good.csv", listHead+"a@a.example,D-1,\n")
	bad := put(t, folder, "bad.csv", listHead+"a@a.example,D-1,\na@a.example,D-1,\n")
	taken := put(t, folder, "taken.csv", listHead+"a@a.example,D-1,\n")
	put(t, folder, "taken.csv.done", "something else\n")
	for name, args := range map[string][]string{
		"nothing":                   {},
		"an argument":               {"x"},
		"no id":                     {"--email", "a@a.example"},
		"no address":                {"--email", "Kanarienvogel", "--provider-id", "D-1"},
		"OTHER without a name":      {"--email", "a@a.example", "--provider-id", "D-1", "--specialty", "OTHER"},
		"one and a list":            {"--csv", good, "--email", "a@a.example"},
		"conflicts of one":          {"--email", "a@a.example", "--provider-id", "D-1", "--conflicts", "x"},
		"conflicts over the list":   {"--csv", good, "--conflicts", folder + "/./good.csv"},
		"conflicts over the record": {"--csv", good, "--conflicts", good + ".done"},
		"conflicts nowhere":         {"--csv", good, "--conflicts", folder + "/none/x"},
		"far too parallel":          {"--csv", good, "--parallel", "17"},
		"no list":                   {"--csv", good + "x"},
		"a list with a fault":       {"--csv", bad},
		"a record that is none":     {"--csv", taken},
		"a rehearsal of the same":   {"--csv", taken, "--dry-run"},
		"a fault in a rehearsal":    {"--csv", bad, "--dry-run"},
	} {
		t.Run(name, func(t *testing.T) {
			out, _, err := provision(t.Context(), args...)
			if err == nil || exitStatus(err) != 2 || out != "" || calls.Load() != 0 || strings.Contains(err.Error(), "Kanarienvogel") {
				t.Errorf("%q, %v, %d calls", out, err, calls.Load())
			}
			if name == "a list with a fault" && !strings.Contains(err.Error(), "line 3: provider_email is that of line 2, too") {
				t.Errorf("%v", err)
			}
		})
	}
	if text, err := os.ReadFile(good); err != nil || string(text) != listHead+"a@a.example,D-1,\n" {
		t.Errorf("the list was changed: %s, %v", text, err)
	}
	if _, err := run(t.Context(), io.Discard, "provision", "--config", configuration(t, ""), "--csv", good, "--dry-run"); err != nil {
		t.Errorf("a right list: %v", err)
	}
}
