package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// configuration writes one that works, with more lines behind it.
func configuration(t *testing.T, more string) string {
	t.Helper()
	folder := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nabla.pem":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"ehr.secret": strings.Repeat("s", 40) + "\n",
		"config.yaml": `listen: 127.0.0.1:0
public_url: https://backend.hospital.example/launcher
issuer: https://idp.hospital.example
audience: org-backend
launcher_client_id: encounter-launcher
ehrs:
  - {name: ehr, secret_file: ehr.secret}
nabla:
  region: eu
  client_id: 6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11
  key_files: [nabla.pem]
` + more,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(folder, "config.yaml")
}

func run(ctx context.Context, stderr io.Writer, args ...string) (string, error) {
	c := command()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(stderr)
	c.SetArgs(args)
	err := c.ExecuteContext(ctx)
	return out.String(), err
}

func TestCheckConfigTellsWhatIsWrong(t *testing.T) {
	if out, err := run(t.Context(), io.Discard, "check-config", "--config", configuration(t, "")); err != nil || !strings.Contains(out, "can be used") {
		t.Errorf("%q, %v", out, err)
	}
	for more, want := range map[string]string{"handle_life: 1m\n": "handle_life", "surprise: 1\n": "line 12"} {
		if _, err := run(t.Context(), io.Discard, "check-config", "--config", configuration(t, more)); err == nil || !strings.Contains(err.Error(), want) || exitStatus(err) != 1 {
			t.Errorf("%q: %v", more, err)
		}
	}
}

func TestBadArgumentsEndWithTwo(t *testing.T) {
	for _, args := range [][]string{{"serve"}, {"serve", "--confg", "x"}, {"serve", "x", "--config", "y"}, {"surprise"}, {"version", "x"}} {
		if _, err := run(t.Context(), io.Discard, args...); err == nil || exitStatus(err) != 2 {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestServeAnswersUntilItIsToldToEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := run(ctx, writer, "serve", "--config", configuration(t, ""))
		_ = writer.Close()
		ended <- err
	}()
	lines := json.NewDecoder(reader)
	var line struct{ Msg, Address string }
	if err := lines.Decode(&line); err != nil || line.Msg != "listening" {
		t.Fatalf("%+v, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, io.MultiReader(lines.Buffered(), reader)) }()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+line.Address+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("status %d", response.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
