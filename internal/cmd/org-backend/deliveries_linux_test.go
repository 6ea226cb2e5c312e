package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/delivery"
	"encounterlauncher/internal/nabla"
)

const callbackSecret = "a-secret-shared-with-nabla-of-some-length"

// delivering serves a backend whose EHR answers as it is told, and takes one note.
func delivering(t *testing.T, status *atomic.Int64) (config string, take func(encounter string)) {
	t.Helper()
	ehr := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	t.Cleanup(ehr.Close)
	config = configuration(t, `callbacks: {secret_files: [nabla.secret]}
deliver: {webhook: {url: "`+ehr.URL+`", secret_file: webhook.secret}}
nats: {folder: queue, seal_key_files: [seal.key]}
admin_socket: admin.sock
audit: {file: audit/audit.jsonl}
`)
	folder := filepath.Dir(config)
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nabla.secret": callbackSecret, "webhook.secret": strings.Repeat("w", 40),
		"seal.key": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32)),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := run(ctx, writer, "serve", "--config", config)
		_ = writer.CloseWithError(err)
		ended <- err
	}()
	lines := json.NewDecoder(reader)
	var line struct{ Msg, Address string }
	for line.Msg != "listening" {
		if err := lines.Decode(&line); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, io.MultiReader(lines.Buffered(), reader)) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return config, func(encounter string) {
		body := []byte(`{"request_uuid":"uuid-of-` + encounter + `","type":"PATIENT_INSTRUCTIONS_EXPORT","data":{"external_patient_id":"P-Kanarienvogel",` +
			`"external_encounter_id":"` + encounter + `","external_provider_id":"D-17","patient_instructions":{"instructions":"Rest, Kanarienvogel"}}}`)
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+line.Address+"/launcher/nabla/callbacks", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().UTC().Format(time.RFC3339)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(nabla.HeaderTimestamp, at)
		mac := hmac.New(sha256.New, []byte(callbackSecret))
		_, _ = mac.Write(append([]byte(at), body...))
		r.Header.Set(nabla.HeaderSignature, hex.EncodeToString(mac.Sum(nil)))
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("status %d", response.StatusCode)
		}
	}
}

func listed(t *testing.T, config string, more ...string) delivery.Listing {
	t.Helper()
	out, err := run(t.Context(), io.Discard, append([]string{"deliveries", "--json", "--config", config}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	var l delivery.Listing
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}

func TestAnOperatorSeesWhatWasRefusedAndBringsItOnItsWay(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusUnprocessableEntity)
	config, take := delivering(t, &status)
	if out, err := run(t.Context(), io.Discard, "deliveries", "--config", config); err != nil || out != "0 waiting, 0 put aside, 0 delivered and 0 discarded in the last days\n" {
		t.Errorf("%q, %v", out, err)
	}
	take("E-1")
	take("E-2")
	eventually(t, "both were put aside", func() bool { return listed(t, config).Counts[delivery.Aside] == 2 })
	first := listed(t, config).Items[0]

	out, err := run(t.Context(), io.Discard, "deliveries", "list", "--config", config)
	if err != nil || !strings.Contains(out, first.ID+"  aside  patient instructions") || !strings.Contains(out, "webhook refused (status_422)") ||
		!strings.Contains(out, "\nstatus_422 (2): The place refused") || !strings.Contains(out, "replay --all-aside") || strings.Contains(out, "Kanarienvogel") || strings.Contains(out, "E-1") {
		t.Errorf("%s\n%v", out, err)
	}
	out, err = run(t.Context(), io.Discard, "deliveries", "show", first.ID[:10], "--config", config)
	if err != nil || !strings.Contains(out, `"E-1"`) || !strings.Contains(out, `"D-17"`) || strings.Contains(out, "Kanarienvogel") {
		t.Errorf("%s\n%v", out, err)
	}
	status.Store(http.StatusOK)
	if out, err := run(t.Context(), io.Discard, "deliveries", "replay", first.ID, "--config", config); err != nil || !strings.HasPrefix(out, "1 replayed") {
		t.Errorf("%q, %v", out, err)
	}
	eventually(t, "one was delivered", func() bool { return listed(t, config).Counts[delivery.Delivered] == 1 })
	if l := listed(t, config); len(l.Items) != 1 {
		t.Errorf("%+v", l)
	}
	if l := listed(t, config, "--all"); len(l.Items) != 2 {
		t.Errorf("%+v", l)
	}
	if _, err := run(t.Context(), io.Discard, "deliveries", "replay", first.ID, "--config", config); err == nil || exitStatus(err) != 1 || !strings.Contains(err.Error(), "its content is gone") {
		t.Errorf("%v", err)
	}
	if out, err := run(t.Context(), io.Discard, "deliveries", "replay", "--all-aside", "--json", "--config", config); err != nil || !strings.Contains(out, `"replayed": 1`) {
		t.Errorf("%q, %v", out, err)
	}
	eventually(t, "both were delivered", func() bool { return listed(t, config).Counts[delivery.Delivered] == 2 })
}

func TestDiscardingAsksFirst(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusBadRequest)
	config, take := delivering(t, &status)
	take("E-1")
	eventually(t, "it was put aside", func() bool { return listed(t, config).Counts[delivery.Aside] == 1 })
	id := listed(t, config).Items[0].ID
	c := command()
	var asked bytes.Buffer
	c.SetErr(&asked)
	c.SetOut(io.Discard)
	c.SetIn(strings.NewReader("no\n"))
	c.SetArgs([]string{"deliveries", "discard", id, "--config", config})
	if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(asked.String(), "Type yes") || listed(t, config).Counts[delivery.Aside] != 1 {
		t.Errorf("%q, %v", asked.String(), err)
	}
	if _, err := run(t.Context(), io.Discard, "deliveries", "discard", id, "--json", "--config", config); err == nil || exitStatus(err) != 2 {
		t.Errorf("%v", err)
	}
	if out, err := run(t.Context(), io.Discard, "deliveries", "discard", id, "--yes", "--config", config); err != nil || out != "1 discarded\n" {
		t.Errorf("%q, %v", out, err)
	}
	if l := listed(t, config); l.Counts[delivery.Discarded] != 1 || l.Counts[delivery.Aside] != 0 {
		t.Errorf("%+v", l)
	}
	if out, err := run(t.Context(), io.Discard, "deliveries", "--all", "--config", config); err != nil || !strings.Contains(out, "discarded") || strings.Contains(out, "replay") {
		t.Errorf("what was given up is still advised on: %q, %v", out, err)
	}
	if out, err := run(t.Context(), io.Discard, "audit", "--encounter", "E-1", "--config", config); err != nil || strings.Count(out, "discarded") != 1 {
		t.Errorf("the audit does not say that it was given up: %q, %v", out, err)
	}
}

func TestDeliveriesSaysWhatIsMissing(t *testing.T) {
	without := configuration(t, "")
	for want, args := range map[string][]string{
		"--config FILE":   {"deliveries"},
		"no admin_socket": {"deliveries", "--config", without},
		"does not answer": {"deliveries", "--config", configuration(t, "admin_socket: admin.sock\n")},
		"an id":           {"deliveries", "discard", "--config", without},
		"--all-aside":     {"deliveries", "replay", "--config", without},
		"too many":        {"deliveries", "show", "a", "b", "--config", without},
	} {
		if _, err := run(t.Context(), io.Discard, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
