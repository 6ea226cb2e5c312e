//go:build unix

package paths

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheRuntimeFolderIsTheSessionsWhenItIsOursAndClosed(t *testing.T) {
	home(t)
	session := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", session)
	if err := os.Chmod(session, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := Of("").EnsureRuntimeDir()
	if err != nil || dir != filepath.Join(session, "encounter-launcher") {
		t.Fatalf("got %q, %v", dir, err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestAnOpenOrMissingRuntimeFolderFallsBackToTheStateFolder(t *testing.T) {
	base := home(t)
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"open": open, "unset": "", "relative": "run", "missing": filepath.Join(base, "none"), "no folder": file} {
		t.Setenv("XDG_RUNTIME_DIR", value)
		dir, err := Of("").EnsureRuntimeDir()
		if err != nil || dir != filepath.Join(Of("").StateDir(), "run") {
			t.Errorf("%s: got %q, %v", name, dir, err)
		}
	}
}

func TestAFolderThatIsOpenToOthersIsRefusedAndLeftAsItIs(t *testing.T) {
	home(t)
	dir := Of("").StateDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Of("").EnsureStateDir(); err == nil {
		t.Error("an open folder was accepted")
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o755 {
		t.Error("the folder was changed")
	}
}

func TestALinkInPlaceOfAFolderIsRefused(t *testing.T) {
	base := home(t)
	if err := os.MkdirAll(filepath.Dir(Of("").StateDir()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(base, Of("").StateDir()); err != nil {
		t.Fatal(err)
	}
	if _, err := Of("").EnsureStateDir(); err == nil {
		t.Error("a symbolic link was accepted")
	}
}

func TestALayoutUnderARootKeepsEverythingBelowIt(t *testing.T) {
	home(t)
	session := t.TempDir()
	if err := os.Chmod(session, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", session)
	for _, flavour := range []string{"", Demo} {
		root := t.TempDir()
		l := Under(root, flavour)
		runtime, err := l.EnsureRuntimeDir()
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range []string{runtime, l.StateDir(), l.SettingsFile(), l.MachinePolicyFile(), l.InstallerDefaultsFile(), l.SandboxDir()} {
			if rel, err := filepath.Rel(root, place); err != nil || !filepath.IsLocal(rel) {
				t.Errorf("%q is not below the root", place)
			}
		}
		if l.Name != Of(flavour).Name || l.Flavour != flavour {
			t.Errorf("got %+v", l)
		}
	}
}

func TestTheMachineRootPrefixesEveryMachineFolderAndItsOwnerStandsForRoot(t *testing.T) {
	home(t)
	machineRoot = t.TempDir()
	t.Cleanup(func() { machineRoot = "" })
	l := Of("")
	for _, f := range []string{l.MachinePolicyFile(), l.InstallerDefaultsFile()} {
		if !strings.HasPrefix(f, machineRoot+string(filepath.Separator)) {
			t.Errorf("%q is outside the machine root", f)
		}
	}
	file := filepath.Join(machineRoot, "policy.json")
	if err := os.WriteFile(file, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	trusted := func(mode os.FileMode) bool {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return l.TrustedMachineFile(info)
	}
	if !trusted(0o644) || trusted(0o664) || trusted(0o666) {
		t.Error("a machine file is trusted exactly when only its owner can write to it")
	}
}
