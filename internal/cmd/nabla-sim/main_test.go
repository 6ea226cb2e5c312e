package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func call(ctx context.Context, out io.Writer, args ...string) error {
	c := command()
	c.SetOut(out)
	c.SetErr(io.Discard)
	c.SetArgs(args)
	return c.ExecuteContext(ctx)
}

func TestBadArgumentsEndWithTwo(t *testing.T) {
	for _, args := range [][]string{
		{"serve"}, {"serve", "--client", "x"}, {"serve", "--client", "a=http://127.0.0.1:1/jwks", "--listen", "0.0.0.0:0"},
		{"serve", "--client", "a=http://127.0.0.1:1/jwks", "extra"}, {"surprise"}, {"serve", "--what"},
	} {
		if err := call(t.Context(), io.Discard, args...); err == nil || exitStatus(err) != 2 {
			t.Errorf("%v: %v", args, err)
		}
	}
	empty := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(empty, []byte(`{"keys":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := call(t.Context(), io.Discard, "serve", "--listen", "127.0.0.1:0", "--client", "a="+empty); err == nil || exitStatus(err) != 1 {
		t.Errorf("an empty key set: %v", err)
	}
}

func TestServePrintsItsBaseAndAnswersUntilItIsToldToEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- call(ctx, writer, "serve", "--listen", "127.0.0.1:0", "--client", "a=http://127.0.0.1:1/jwks")
	}()
	base, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSpace(base)+"/encounters", bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", response.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeUsedEndsWithTwo(t *testing.T) {
	client := []string{"serve", "--listen", "127.0.0.1:0", "--client", "a=http://127.0.0.1:1/jwks"}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("a-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string][]string{
		"control for a network":      {"--control", "0.0.0.0:0"},
		"control without a port":     {"--control", "127.0.0.1"},
		"a secret for nothing":       {"--callback-secret-file", secret},
		"a bearer for nothing":       {"--callback-bearer-file", secret},
		"callbacks without a secret": {"--callback-url", "http://127.0.0.1:1/x"},
	} {
		if err := call(t.Context(), io.Discard, append(client, more...)...); err == nil || exitStatus(err) != 2 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, more := range map[string][]string{
		"callbacks in clear":         {"--callback-url", "http://hospital.example/x", "--callback-secret-file", secret},
		"a secret that is not there": {"--callback-url", "http://127.0.0.1:1/x", "--callback-secret-file", secret + "x"},
		"a version that is not":      {"--api-version", "2026-04-01"},
	} {
		if err := call(t.Context(), io.Discard, append(client, more...)...); err == nil || exitStatus(err) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheControlPortStandsBesideAndEndsWithIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- call(ctx, writer, "serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--client", "a=http://127.0.0.1:1/jwks")
	}()
	lines := bufio.NewReader(reader)
	base, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	control, err := lines.ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(control), "control: ")
	if err != nil || !ok {
		t.Fatalf("%q %v", control, err)
	}
	client := &http.Client{}
	send := func(method, address, body string) int {
		r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	if status := send(http.MethodPost, address+"/faults", `{"call":"create","kind":"503"}`); status != http.StatusOK {
		t.Errorf("a fault: %d", status)
	}
	for i, want := range []int{http.StatusServiceUnavailable, http.StatusUnauthorized} {
		if status := send(http.MethodPost, strings.TrimSpace(base)+"/encounters", "{}"); status != want {
			t.Errorf("call %d: %d", i, status)
		}
	}
	// The control is not reached through the simulator's own port.
	if status := send(http.MethodGet, strings.TrimSuffix(strings.TrimSpace(base), basePath)+"/faults", ""); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
	client.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
