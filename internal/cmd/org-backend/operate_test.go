package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/orgaudit"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

// withAudit is a configuration whose audit holds three records.
func withAudit(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "audit", "audit.jsonl")
	l, err := orgaudit.Open(orgconfig.Audit{File: file}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []orgaudit.Record{
		{Action: orgaudit.EncounterOpened, Outcome: orgaudit.Done, Subject: "s-1", Email: "ada@hospital.example", Provider: "D-17", Encounter: "E-1", Patient: "P-1", EHR: "ehr-1", RequestID: "call-1"},
		{Action: orgaudit.EncounterOpened, Outcome: orgaudit.Refused, Code: problem.ProviderMismatch, Subject: "s-2", Provider: "D-18", AskedProvider: "D-17", Patient: "P-1"},
		{Action: orgaudit.LaunchRegistered, Outcome: orgaudit.Done, EHR: "ehr-1", Encounter: "E\u202e\x1b[2J\n9", Patient: "P\\2"},
	} {
		if err := l.Record(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return configuration(t, "audit:\n  file: "+file+"\n")
}

func TestTheAuditAnswersWhoOpenedWhat(t *testing.T) {
	config := withAudit(t)
	var asides strings.Builder
	out, err := run(t.Context(), &asides, "audit", "--config", config, "--patient", "P-1", "--since", "1d")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(asides.String(), "--encounter") {
		t.Errorf("it does not say that reopened encounters name no patient: %q", asides.String())
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "TIME ") || !strings.Contains(lines[1], "ada@hospital.example") || !strings.Contains(lines[2], "refused provider_mismatch") || !strings.Contains(lines[2], "D-18 (of D-17)") {
		t.Errorf("%s", out)
	}
	out, err = run(t.Context(), io.Discard, "audit", "--config", config, "--person", "s-1", "--json")
	var r struct {
		Time time.Time
		orgaudit.Record
	}
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || r.Email != "ada@hospital.example" || time.Since(r.Time) > time.Hour {
		t.Errorf("%s, %v", out, err)
	}
}

func TestTheAuditSaysThatNothingFits(t *testing.T) {
	var asides strings.Builder
	out, err := run(t.Context(), &asides, "audit", "--config", withAudit(t), "--patient", "P-1", "--until", "1d")
	if err != nil || out != "" || asides.String() != "no record fits\n" {
		t.Errorf("%q %q %v", out, asides.String(), err)
	}
}

func TestAnIDFromOutsideCanNeitherSteerATerminalNorTurnTheRowRound(t *testing.T) {
	out, err := run(t.Context(), io.Discard, "audit", "--config", withAudit(t), "--patient", `P\2`)
	if err != nil || strings.Count(out, "\n") != 2 || strings.ContainsAny(out, "\x1b\u202e") || !strings.Contains(out, `E\u202e\x1b[2J\n9`) || !strings.Contains(out, `P\\2`) {
		t.Errorf("%q, %v", out, err)
	}
}

func TestTheAuditRefusesATimeThatIsNone(t *testing.T) {
	config := withAudit(t)
	for _, bad := range []string{"yesterday", "-1h", "2026-13-01", "d", "1000000d"} {
		if _, err := run(t.Context(), io.Discard, "audit", "--config", config, "--since", bad); err == nil || exitStatus(err) != 2 {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := run(t.Context(), io.Discard, "audit", "--config", configuration(t, "")); err == nil || !strings.Contains(err.Error(), "audit.file") {
		t.Errorf("%v", err)
	}
}

func TestCheckConfigNamesEveryFaultWithItsLineAndWarns(t *testing.T) {
	file := configuration(t, "log_level: loud\nmetrics:\n  listen: nowhere\n")
	if err := os.Remove(filepath.Join(filepath.Dir(file), "ehr.secret")); err != nil {
		t.Fatal(err)
	}
	_, err := run(t.Context(), io.Discard, "check-config", "--config", file)
	if err == nil {
		t.Fatal("it is accepted")
	}
	for _, want := range []string{"line 12: log_level: ", "line 14: metrics.listen: ", "line 7: ehrs[0].secret_file: "} {
		if !strings.Contains(err.Error(), "\n  "+want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	out, err := run(t.Context(), io.Discard, "check-config", "--config", configuration(t, ""))
	if err != nil || !strings.Contains(out, "warning: audit: ") || !strings.Contains(out, "warning: metrics.listen: ") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestCheckConfigNamesFaultsOfEveryKindAtOnceInTheOrderOfTheirLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	for name, text := range map[string]string{"good.secret": strings.Repeat("s", 40), "short.secret": "short", "bad.pem": "no key", "bad.seal": "no key", "config.yaml": `listen: 0.0.0.0:8080
public_url: https://backend.hospital.example/
issuer: http://login.hospital.example
audience: encounter-launcher
launcher_client_id: encounter-launcher
handle_life: ten minutes
ehrs:
  - {name: main, secret_file: short.secret}
  - {name: main, secret_file: good.secret, client_id: x}
  - {certificate_name: ehr, scop: launches}
tls_cert_file: missing.pem
tls_key_file: missing.pem
nabla:
  region: mars
  client_id: ours
  key_files: [bad.pem]
callbacks:
  secret_files: [short.secret]
deliver:
  webhook: {url: "ftp://ehr"}
nats:
  seal_key_files: [bad.seal]
  replicas: 2
audit:
  syslog: pigeon
limits:
  person_per_minute: many
log_level: loud
`} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := run(t.Context(), io.Discard, "check-config", "--config", file)
	if err == nil {
		t.Fatal("it is accepted")
	}
	rest := err.Error()
	for _, want := range []string{
		"line 2: public_url: ", "line 3: issuer: ", "line 4: audience: ", "line 6: what stands here is not a duration", "line 8: ehrs[0].secret_file: ",
		"line 9: ehrs[1]: ", "line 9: ehrs[1].name: ", "line 10: scop is no key", "line 12: tls_key_file: ", "line 14: nabla.region: ", "line 15: nabla.client_id: ",
		"line 16: nabla.key_files: ", "line 18: callbacks.secret_files: ", "line 20: deliver.webhook.url: ", "line 21: nats.folder: ", "line 22: nats.seal_key_files: ",
		"line 23: nats.replicas: ", "line 25: audit.syslog: ", "line 27: what stands here is not a whole number", "line 28: log_level: ",
	} {
		_, after, found := strings.Cut(rest, "\n  "+want)
		if !found {
			t.Errorf("not, or not in its place: %q in %v", want, err)
			continue
		}
		rest = after
	}
	if strings.Contains(err.Error(), "many") || strings.Contains(err.Error(), "orgconfig") {
		t.Errorf("it shows a value or a word of the program's own: %v", err)
	}
}

func TestCheckConfigAsksTheServicesWhenItIsTold(t *testing.T) {
	file := configuration(t, "")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.NewReplacer("https://idp.hospital.example", "http://127.0.0.1:9", "region: eu", "base_url: http://127.0.0.1:9/v1/connect/server").Replace(string(text)))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t.Context(), io.Discard, "check-config", "--config", file, "--connect")
	if err == nil || exitStatus(err) != 1 || !strings.Contains(out, "line 3: issuer: discovering the issuer: ") || !strings.Contains(out, ": nabla.client_id: ") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestASecretThatOthersCanReadIsRefused(t *testing.T) {
	for _, name := range []string{"ehr.secret", "nabla.pem"} {
		file := configuration(t, "")
		secret := filepath.Join(filepath.Dir(file), name)
		if err := os.Chmod(secret, 0o604); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t.Context(), io.Discard, "check-config", "--config", file); err == nil || !strings.Contains(err.Error(), "by others") || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheReferenceAndTheExampleArePrintedAndWritten(t *testing.T) {
	out, err := run(t.Context(), io.Discard, "config-reference")
	if err != nil || out != string(orgconfig.Reference()) {
		t.Errorf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if _, err := run(t.Context(), io.Discard, "config-reference", "--example", "--output", file); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != string(orgconfig.Example()) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), io.Discard, "config-reference", "--output", file); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a file of somebody's is written over: %v", err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := run(t.Context(), io.Discard, "config-reference", "--force", "--output", file); err != nil {
		t.Error(err)
	}
}

func TestTheVersionIsThatOfTheBuild(t *testing.T) {
	version = "1.2.3"
	defer func() { version = "" }()
	if out, err := run(t.Context(), io.Discard, "version"); err != nil || out != "org-backend 1.2.3\n" {
		t.Errorf("%q, %v", out, err)
	}
}
