//go:build unix

package orgconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASecretIsOneLineThatOnlyItsOwnerCanRead(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want string // of the error; empty for none
	}{
		"owner alone":        {"a word\n", 0o600, ""},
		"owner reads":        {"a word\r\n", 0o400, ""},
		"without line feed":  {"a word", 0o600, ""},
		"group reads":        {"a word\n", 0o640, "others"},
		"everybody reads":    {"a word\n", 0o604, "others"},
		"everybody writes":   {"a word\n", 0o602, "others"},
		"empty":              {"\n", 0o600, "empty"},
		"two lines":          {"a\nb\n", 0o600, "one line"},
		"a zero byte":        {"a\x00b\n", 0o600, "one line"},
		"larger than it may": {strings.Repeat("x", maxSecretBytes+1), 0o600, "too large"},
	} {
		_ = os.Remove(file)
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		// What root's own group may read is root's alone: see below.
		_ = os.Chown(file, -1, 1)
		if err := os.Chmod(file, test.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSecret(file)
		switch {
		case test.want == "" && (err != nil || got != "a word"):
			t.Errorf("%s: %q, %v", name, got, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), dir)):
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckSecret(dir); err == nil {
		t.Error("a folder passes for a secret")
	}
	if err := CheckSecret(file + ".absent"); err == nil || strings.Contains(err.Error(), dir) {
		t.Errorf("%v", err)
	}
}

// A credential of systemd's is root's, with an access list that shows as 0440. Only
// root can make such a file, so the rule itself is asked.
func TestACredentialOfSystemdPasses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("a word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o440); err != nil {
		t.Fatal(err)
	}
	roots := os.Chown(file, 0, 0) == nil
	if _, err := ReadSecret(file); (err == nil) != roots {
		t.Errorf("owned by root: %v; %v", roots, err)
	}
	if roots {
		if err := os.Chown(file, 0, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSecret(file); err == nil {
			t.Error("what another group than root's reads passes")
		}
	}
}
