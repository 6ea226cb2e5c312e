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
