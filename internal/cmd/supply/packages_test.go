//go:build supply

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// debian packs a program and a text, as a package of Debian.
func debian(t *testing.T, program, text string) string {
	t.Helper()
	folder := t.TempDir()
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"DEBIAN/control": "Package: something\nVersion: 1\nArchitecture: amd64\nMaintainer: Somebody <somebody@hospital.example>\nDescription: invented\nDepends: libc6 (>= 2.34), one | other\nRecommends: third\n",
		"usr/bin/nabla":  string(data), "usr/share/doc/something/text": text,
	} {
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	deb := filepath.Join(t.TempDir(), "something.deb")
	if out, err := exec.Command("dpkg-deb", "-b", "--root-owner-group", folder, deb).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return deb
}

func TestTheBillOfAPackageHasItsFilesItsProgramsPartsAndWhatItNeeds(t *testing.T) {
	repo := clone(t)
	program := built(t, "./internal/cmd/nabla-sim")
	deb := debian(t, program, "a text")
	data, _, err := billOf(repo, deb, "1", epoch)
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{
		`"file:usr/bin/nabla"`, `"file:usr/share/doc/something/text"`, `"pkg:golang/github.com/spf13/cobra@`, `"value": "libc6 (>= 2.34)"`, `"value": "one | other"`, `"value": "third"`,
	} {
		if !strings.Contains(string(data), must) {
			t.Errorf("it lacks %s", must)
		}
	}
	bill := deb + ".cdx.json"
	if err := os.WriteFile(bill, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := verify(repo.root, deb, bill); err != nil {
		t.Error(err)
	}
	// A package whose own hash is right, and one of whose files is another.
	other := debian(t, program, "another text")
	was, err := sumOf(deb)
	if err != nil {
		t.Fatal(err)
	}
	is, err := sumOf(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bill, []byte(strings.ReplaceAll(string(data), was, is)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := verify(repo.root, other, bill); err == nil || !strings.Contains(err.Error(), "usr/share/doc/something/text") {
		t.Errorf("a package with another file ended with %v", err)
	}
}

func TestAPackageWithoutAProgramOrThatIsNoneIsNotDescribed(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := billOf(clone(t), debian(t, text, "a text"), "1", epoch); err == nil || !strings.Contains(err.Error(), "contains no program") {
		t.Errorf("it ended with %v", err)
	}
	for _, kind := range []string{"deb", "rpm", "msi"} {
		path := filepath.Join(t.TempDir(), "something."+kind)
		if err := os.WriteFile(path, []byte("no package"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := billOf(clone(t), path, "1", epoch); err == nil {
			t.Errorf("what is no %s was described", kind)
		}
	}
}
