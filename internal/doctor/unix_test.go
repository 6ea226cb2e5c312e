//go:build unix

package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// plantedDesktop is what an archive says of a session that plantEverywhere has named.
const plantedDesktop = `"desktop": "[redacted]`

// onlyMine fails unless only this user can read a file.
func onlyMine(t *testing.T, file string) {
	t.Helper()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestASecondCopyIsFoundAndOneOfTheSameFolderIsNone(t *testing.T) {
	d := newSite(t).healthy()
	other := filepath.Join(d.Home, "opt", "encounter-launcher")
	if err := os.MkdirAll(filepath.Dir(other), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(d.Home, "encounter-launcher")
	if err := os.Symlink(d.Executable, link); err != nil {
		t.Fatal(err)
	}
	d.Copies = func() []string { return []string{d.Executable, link, other, other} }
	fact(t, finds(t, d, "copies", "other_copy"), "other_copy", "program", "~/opt/encounter-launcher")
}

func TestTheWindowNeedsItsProgramAndADisplay(t *testing.T) {
	d := newSite(t).healthy()
	d.Display = func() bool { return false }
	finds(t, d, "window", "no_display")
	if err := os.Remove(d.Executable + "-window"); err != nil {
		t.Fatal(err)
	}
	finds(t, d, "window", "program_missing")
}

func TestAnArchiveFollowsNoLink(t *testing.T) {
	d := newSite(t).healthy()
	dir := t.TempDir()
	// A link that leads to somebody else's file is not followed.
	link, target := filepath.Join(dir, "link.zip"), filepath.Join(dir, "target")
	write(t, target, "mine")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteBundle(link, false, d, nil); !errors.Is(err, ErrExists) {
		t.Errorf("got %v", err)
	}
	if _, err := WriteBundle(link, true, d, nil); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(target); string(text) != "mine" {
		t.Error("the link was followed")
	}
}
