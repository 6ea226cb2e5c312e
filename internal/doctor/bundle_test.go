package doctor

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
)

// planted is what must not leave the computer, in the forms in which it comes.
var planted = []string{
	"Marie Curie", "CURIE^MARIE^^", "marie.curie@patients.example", "1934-07-04", "04.07.1934", "MRN-00471112", "00471112", "471112",
	"encounter-launcher://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLgA0", "Zk3vQ9x1T7mB2nR5wY8uLgA0",
	"eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl", "rt-9f8e7d6c5b4a39281706f5e4d3c2b1a0", "hunter2secret",
	"https://app.vendor.example/encounters/one-time/4f1c9a7be2", "https://evil.example/?token=abc", "ada.lovelace@hospital.example",
	"external_patient_id=P-4711", "P-4711", "E-1001", "D-17", "Kanarienvogel", "kanarienvogel", "/home/marie-curie/Documents", "10.20.30.40",
	"Müller-Lüdenscheidt", "李小龙", "+41 79 123 45 67", "patient 9f3c1d2e-1111-4222-8333-abcdefabcdef", "9f3c1d2e-1111-4222-8333-abcdefabcdef",
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// opened reads an archive: every file by its name without the folder, which is returned
// beside.
func opened(t *testing.T, file string) (folder string, files map[string]string) {
	t.Helper()
	z, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files = map[string]string{}
	for _, f := range z.File {
		root, name, ok := strings.Cut(f.Name, "/")
		if !ok || folder != "" && root != folder || strings.Contains(name, "/") {
			t.Errorf("%s is not in the one folder", f.Name)
		}
		folder = root
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	return folder, files
}

// plantEverywhere writes what must not be found wherever the archive is made from, each
// beside something that must.
func plantEverywhere(t *testing.T, s *site) Deps {
	t.Helper()
	d := s.healthy()
	// A device between, with a certificate that names a computer and its user, and a
	// server that says whatever it likes of its version.
	between := newAuthority(t, "Kanarienvogel of Marie Curie")
	authorities, err := os.ReadFile(d.Policy.ExtraCAFile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, d.Policy.ExtraCAFile, string(authorities)+string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: between.cert.Raw})))
	s.set(func() {
		s.certs[backendHost] = between.certify(backendHost, -200*day, 90*day)
		s.handlers[backendHost] = altered(s.handlers[backendHost], func(rec *httptest.ResponseRecorder, _ *http.Request) {
			rec.Header().Set(orgapi.HeaderContract, "1.Kanarienvogel")
		})
	})
	d.reconnect(d.Policy)
	var log bytes.Buffer
	entry := func(fields map[string]any) {
		fields["time"], fields["level"] = "2026-03-01T08:00:00.5Z", "INFO"
		text, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		log.Write(text)
		log.WriteByte('\n')
	}
	for i, secret := range planted {
		entry(map[string]any{"msg": "launch ended", "id": "0190f3a2-0000-4000-8000-0000000000a1", "problem": map[string]any{
			"code": "org_unreachable", "reference": "7K3M9QXA", "fact": "It did not answer in time. " + secret, "cause": "dial tcp: " + secret + ": i/o timeout",
		}})
		entry(map[string]any{"msg": secret, secret: "it", "label": secret, "list": []any{secret, map[string]any{"deep": secret}}, "number": 471112, "patient": 471112})
		entry(map[string]any{"msg": "launch ended", "mrn": 739, "patient": "739", "deep": map[string]any{"id": "9f3c1d2e-1111-4222-8333-abcdefabcdef", "count": 739}, "list": []any{739, "739"}})
		fmt.Fprintf(&log, "panic: %s\n%s\n", secret, secret)
		fmt.Fprintf(&log, `{"time":%q,"msg":"reading the audit","level":%q,"reference":%q}`+"\n", secret, secret, secret)
		entry(map[string]any{"msg": "launch opened", "ms": map[string]any{"received": 0, "signing_in": 10, "creating": 15, "opening": 100 + i, "opened": 200 + i, secret: 471112}})
	}
	write(t, d.Layout.LogFile(), log.String())
	write(t, d.Layout.LogFile()+".1", strings.Join(planted, "\n")+"\n")
	for _, secret := range planted {
		name := strings.NewReplacer("/", "_", ":", "_", "?", "_").Replace(secret)
		write(t, filepath.Join(d.Layout.RecentsDir(), name), secret)
		write(t, filepath.Join(d.Layout.StateDir(), name), secret)
		line := map[string]any{
			"v": 1, "seq": 1, "time": "2026-03-01T08:00:00.000Z", "outcome": secret, "code": secret, "reference": secret, "person": secret, "request_id": secret,
			"withheld": []string{secret}, "extra": secret,
		}
		if shaped().uuid.MatchString(secret) {
			delete(line, "request_id") // the agent's own have this form
		}
		text, _ := json.Marshal(line)
		write(t, filepath.Join(d.Layout.AuditDir(), name+".jsonl"), string(text)+"\n"+secret+"\n")
	}
	write(t, d.Layout.SettingsFile(), `{"Marie Curie":"Marie Curie"}`)
	a, err := audit.Open(d.Layout.AuditDir(), "agent-20260301T080000Z-4711", nil, func() time.Time { return time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC) })
	if err != nil {
		t.Fatal(err)
	}
	err = a.Record(t.Context(), audit.Record{Outcome: audit.Failed, Code: problem.OrgBusy, Reference: "7K3M9QXA", Person: "ada.lovelace@hospital.example", RequestID: "0190f3a2-0000-4000-8000-0000000000a1"})
	if err = errors.Join(err, a.Close()); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(planted, " ")
	for _, name := range []string{"XDG_CURRENT_DESKTOP", "XDG_SESSION_TYPE", "PATIENT", "HTTPS_PROXY_USER"} {
		t.Setenv(name, all)
	}
	for _, secret := range planted {
		d.Policy.Findings = append(d.Policy.Findings, policy.Finding{Key: secret, Source: policy.SourcePerson, Sentence: secret + " in the person's choice is not known: remove it."})
	}
	d.Policy.Values = []policy.Value{
		{Key: "BackendURL", Effective: `"https://backend.hospital.example/launcher"`, Source: policy.SourceMachine, Path: "/etc/encounter-launcher/policy.json"},
		{Key: "HelpDeskURL", Effective: `"https://help.hospital.example/new?token=hunter2secret"`, Source: policy.SourceMachine},
		{Key: "ExtraCAFile", Effective: `"/home/marie-curie/Documents/ca.pem"`, Source: policy.SourceMachine, Path: "/home/marie-curie/Documents"},
		{Key: "ClientCertificateFile", Effective: `"/home/marie-curie/Documents/me.pem"`, Source: policy.SourceMachine},
		{Key: "ClientKeyFile", Effective: `"/home/marie-curie/Documents/me.key"`, Source: policy.SourceMachine},
		{Key: "LinkKeys", Effective: `{"keys":[{"x":"Zk3vQ9x1T7mB2nR5wY8uLgA0"}]}`, Source: policy.SourceMachine},
		{Key: "Language", Effective: "null", Source: policy.SourceSafest, Rejected: []policy.Rejected{{Source: policy.SourcePerson, Path: all, Sentence: "Language is " + all + ": remove it."}}},
	}
	d.Home = "/home/marie-curie"
	d.Copies = func() []string {
		return []string{"/home/marie-curie/Documents/encounter-launcher", "/opt/Marie Curie/encounter-launcher"}
	}
	d.Scheme = func() (scheme.State, error) {
		return scheme.State{Registrations: []scheme.Registration{{
			Where: "/home/marie-curie/.config/Marie Curie", Command: "/opt/Marie Curie/x " + all, Program: "/opt/Marie Curie/x", InEffect: true,
		}}}, nil
	}
	d.BrowserPolicies = func() []browserPolicy {
		return []browserPolicy{{browser: "Chrome", blocked: planted, autoLaunch: []byte(all)}}
	}
	return d
}

func TestAnArchiveHoldsWhatSupportNeedsAndNothingThatIsPlanted(t *testing.T) {
	s := newSite(t)
	d := plantEverywhere(t, s)
	results := Run(t.Context(), d, nil, nil)
	// The person at the computer is told who reads the connection.
	if here := said(d, results, "en"); !strings.Contains(here, "kanarienvogel of marie curie") || !strings.Contains(here, "1.kanarienvogel") {
		t.Error("what is planted was not found")
	}
	file := filepath.Join(t.TempDir(), "support.zip")
	folder, err := WriteBundle(file, false, d, results)
	if err != nil {
		t.Fatal(err)
	}
	root, files := opened(t, file)
	if root != folder || !strings.HasPrefix(root, "encounter-launcher-"+time.Now().UTC().Format("2006")) || len(root) != len("encounter-launcher-20260301-7K3M9QXA") {
		t.Errorf("the folder is %q, told as %q", root, folder)
	}
	onlyMine(t, file)
	for name, text := range files {
		for _, secret := range append([]string{"739"}, planted...) {
			// Also as JSON writes it, and its parts alone.
			quoted, _ := json.Marshal(secret)
			forms := append([]string{secret, strings.Trim(string(quoted), `"`)}, strings.FieldsFunc(secret, func(r rune) bool { return strings.ContainsRune(" ^.@/:?=&+", r) })...)
			for _, form := range forms {
				if len([]rune(form)) < 3 || slices.Contains(innocent, form) {
					continue
				}
				if i := strings.Index(strings.ToLower(text), strings.ToLower(form)); i >= 0 {
					t.Errorf("%s holds %q: …%s…", name, form, text[max(i-60, 0):min(i+60, len(text))])
				}
			}
		}
	}
	// The search would find something: it finds what may be there.
	for name, words := range map[string][]string{
		"README.txt":  {"What is not in it"},
		"doctor.json": {`"name": "policy"`, `"code": "other_copy"`, `"sentence"`, "Public Root CA", "backend.hospital.example", `"result": "broken"`},
		"policy.json": {"https://backend.hospital.example/launcher", `"source": "machine policy"`, "/etc/encounter-launcher/policy.json", "is not known: remove it.", "https://help.hospital.example/new?[redacted]", `"effective": "set"`},
		"agent.log":   {`"code":"org_unreachable"`, `"reference":"7K3M9QXA"`, "0190f3a2-0000-4000-8000-0000000000a1", "dial tcp: [redacted]: i/o timeout", "2026-03-01T08:00:00.5Z", `"opened":2`, "It did not answer in time."},
		"audit.jsonl": {`"outcome":"failed"`, `"code":"org_busy"`, "0190f3a2-0000-4000-8000-0000000000a1"},
		"stages.json": {`"whole"`, `"p95_ms"`},
		"system.json": {`"version": "1.2.3"`, plantedDesktop},
	} {
		for _, word := range words {
			if !strings.Contains(files[name], word) {
				t.Errorf("%s does not hold %q:\n%.1500s", name, word, files[name])
			}
		}
		delete(files, name)
	}
	for name := range files {
		t.Errorf("%s is not said in this test", name)
	}
}

// innocent are parts of what is planted that are words of the program too.
var innocent = []string{"patient", "launch", "encounter-launcher", "handle", "encounters", "one-time", "token", "app", "example", "https", "hospital", "home", "vendor", "123", "evil", "abc", "Documents", "ada", "patients"}

func TestWhyACheckFoundWhatItDidIsInAnArchiveAndInTheAgentsLinesAndNowhereElse(t *testing.T) {
	d := newSite(t).healthy()
	d.Free = func(string) (uint64, error) { return 0, errors.New("permission denied for Marie Curie") }
	results := Run(t.Context(), d, []string{"files"}, nil)
	if strings.Contains(said(d, results, "en"), "denied") {
		t.Error("people read it")
	}
	if got := Detailed(results[0], wordsOf("en")).Findings[0].Detail; got != "permission denied for Marie Curie" {
		t.Errorf("the agent gets %q", got)
	}
	file := filepath.Join(t.TempDir(), "support.zip")
	if _, err := WriteBundle(file, false, d, results); err != nil {
		t.Fatal(err)
	}
	if _, files := opened(t, file); !strings.Contains(files["doctor.json"], `"detail": "permission denied for [redacted]"`) {
		t.Errorf("the archive has %s", files["doctor.json"])
	}
}

func TestStagesAreCountedFromTheEndOfTheStageBefore(t *testing.T) {
	var lines []logLine
	for i := 1; i <= 100; i++ {
		lines = append(lines, readLog(fmt.Sprintf(`{"msg":"launch opened","ms":{"received":0,"signing_in":1,"creating":2,"opening":%d,"opened":%d}}`, 2+i, 12+i)))
	}
	lines = append(lines, readLog(`{"msg":"launch ended","ms":{"received":0,"creating":9000}}`), readLog(`{"msg":"something else","ms":{"opened":5}}`), readLog(`nonsense`))
	s := stagesOf(lines)
	if s.Opened != 100 || s.NotOpened != 1 {
		t.Errorf("got %+v", s)
	}
	for stage, want := range map[string]Times{"signing_in": {100, 1, 1, 1}, "opening": {100, 50, 95, 100}, "opened": {100, 10, 10, 10}, "whole": {100, 62, 107, 112}} {
		if s.Stages[stage] != want {
			t.Errorf("%s: got %+v, want %+v", stage, s.Stages[stage], want)
		}
	}
	if got := stagesOf(nil); got.Opened != 0 || len(got.Stages) != 0 {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestAnArchiveIsBoundedWhateverTheLogHolds(t *testing.T) {
	d := newSite(t).healthy()
	line := `{"time":"2026-03-01T08:00:00Z","msg":"launch ended","reference":"%s"}` + "\n"
	var log bytes.Buffer
	log.WriteString(fmt.Sprintf(line, "AAAAAAAA"))
	log.WriteString(strings.Repeat("x", 3<<20) + "\n")
	for log.Len() < 3<<20+5<<19 {
		fmt.Fprintf(&log, line, "BBBBBBBB")
	}
	log.WriteString(fmt.Sprintf(line, "CCCCCCCC"))
	write(t, d.Layout.LogFile(), log.String())
	for i := range 300 {
		write(t, filepath.Join(d.Layout.AuditDir(), fmt.Sprintf("agent-%d.jsonl", i)), `{"seq":1,"time":"2026-03-01T08:00:00.000Z","outcome":"opened"}`+"\n"+`{"seq":2,"time":"2026-03-01T08:00:01.000Z","outcome":"failed"}`+"\n"+`{"seq":3,"time":"2026-03-01T08:00:01.000Z","outcome":"failed"}`+"\n"+`{"seq":4,"time":"2026-03-01T08:00:01.000Z","outcome":"failed"}`+"\n"+`{"seq":5,"time":"2026-03-01T08:00:01.000Z","outcome":"failed"}`+"\n")
	}
	file := filepath.Join(t.TempDir(), "support.zip")
	if _, err := WriteBundle(file, false, d, nil); err != nil {
		t.Fatal(err)
	}
	_, files := opened(t, file)
	if got := files["agent.log"]; len(got) > 3<<20 || strings.Contains(got, "AAAAAAAA") || !strings.Contains(got, "CCCCCCCC") || strings.Contains(got, "xxxx") {
		t.Errorf("the log has %d bytes", len(got))
	}
	if n := strings.Count(files["audit.jsonl"], "\n"); n != mostAuditLines {
		t.Errorf("the audit has %d lines", n)
	}
}

func TestAnArchiveReplacesNothingUnlessItIsForced(t *testing.T) {
	d := newSite(t).healthy()
	dir := t.TempDir()
	file := filepath.Join(dir, "support.zip")
	write(t, file, "mine")
	if _, err := WriteBundle(file, false, d, nil); !errors.Is(err, ErrExists) {
		t.Errorf("got %v", err)
	}
	if text, _ := os.ReadFile(file); string(text) != "mine" {
		t.Error("the file was changed")
	}
	if _, err := WriteBundle(file, true, d, nil); err != nil {
		t.Error(err)
	}
	opened(t, file)
	if _, err := WriteBundle(filepath.Join(dir, "none", "support.zip"), false, d, nil); err == nil || strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	left, err := fs.Glob(os.DirFS(dir), ".encounter-launcher-*")
	if err != nil || len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}
