package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const release = "1.2.3"

// icons are those of the product.
var icons = filepath.Join("..", "..", "..", "build", "icons")

// program builds a Windows program that does nothing, under a name.
func program(t *testing.T, name, arch, flags string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w "+flags, "-o", path, source)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func stamped(t *testing.T, path string) {
	t.Helper()
	if err := run([]string{"-icons", icons, "-version", release, path}); err != nil {
		t.Fatal(err)
	}
}

func TestAProgramHasIconVersionAndManifestAfterwardsOnBothArchitectures(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for name, flags := range map[string]string{"x.exe": "-H windowsgui", "x.com": ""} {
			path := program(t, name, arch, flags)
			if err := run([]string{"-check", "-version", release, path}); err == nil {
				t.Fatalf("%s %s: what was never put in is found", arch, name)
			}
			stamped(t, path)
			if err := run([]string{"-check", "-version", release, path}); err != nil {
				t.Errorf("%s %s: %v", arch, name, err)
			}
		}
	}
}

func TestTheSameProgramBecomesTheSameBytesHoweverOften(t *testing.T) {
	path := program(t, "x.com", "amd64", "")
	bare, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for i, from := range [][]byte{bare, bare, nil} { // the last time what is stamped already
		if from != nil {
			if err := os.WriteFile(path, from, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		stamped(t, path)
		now, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && !bytes.Equal(now, first) {
			t.Errorf("time %d: other bytes", i+1)
		}
		first = now
	}
}

func TestAProgramOfTheWrongSubsystemOrVersionIsFound(t *testing.T) {
	path := program(t, "x.com", "amd64", "")
	stamped(t, path)
	if err := run([]string{"-check", "-version", "1.2.4", path}); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("another version: %v", err)
	}
	exe := filepath.Join(filepath.Dir(path), "x.exe")
	if err := os.Rename(path, exe); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"-check", "-version", release, exe}); err == nil || !strings.Contains(err.Error(), "subsystem") {
		t.Errorf("a console program under the other name: %v", err)
	}
}

func TestAVersionThatWindowsCannotCompareIsRefused(t *testing.T) {
	for _, bad := range []string{"", "1", "1.2", "v1.2.3", "1.2.70000", "0.0.0", "1.2.3.4", "1.2.3 "} {
		if err := run([]string{"-version", bad, "x.exe"}); err == nil || !strings.HasPrefix(err.Error(), "usage:") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if got := numbers("1.20.3-rc.1"); got != [4]uint16{1, 20, 3, 0} {
		t.Errorf("got %v", got)
	}
}
