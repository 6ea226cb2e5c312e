package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheManualPageShowsEveryCommandWithoutAWarning(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	text, err := run(t.Context(), os.Stderr, "manual")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "org-backend.8")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "man", "--warnings", "-E", "UTF-8", "-l", file)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=1000", "MANPAGER=cat", "MAN_KEEP_FORMATTING=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	shown, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%v %s", err, stderr.String())
	}
	for _, c := range command().Commands() {
		if c.IsAvailableCommand() && c.Name() != "completion" && !strings.Contains(string(shown), "\n       "+c.Name()) {
			t.Errorf("no word of %s", c.Name())
		}
	}
	if !strings.Contains(string(shown), "2023-11-14") || !strings.Contains(string(shown), "--since") {
		t.Errorf("%s", shown)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if _, err := run(t.Context(), os.Stderr, "manual"); err == nil {
		t.Error("a page without a day")
	}
}
