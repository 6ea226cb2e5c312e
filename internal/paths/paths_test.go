package paths

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/adrg/xdg"
)

// home gives the test a home of its own.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for _, v := range []string{"XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(v, "")
	}
	xdg.Reload()
	t.Cleanup(xdg.Reload)
	return dir
}

func TestTheDemoSharesNothingWithARelease(t *testing.T) {
	home(t)
	release, demo := Of(""), Of(Demo)
	places := func(l Layout) []string {
		return []string{l.Scheme(), l.KeyringService(), l.StateDir(), l.AuditDir(), l.RecentsDir(), l.LogFile(), l.UserLockFile(), l.SettingsFile(), l.MachinePolicyFile(), l.InstallerDefaultsFile()}
	}
	r, d := places(release), places(demo)
	for i := range r {
		if r[i] == d[i] {
			t.Errorf("%q is shared", r[i])
		}
	}
	if release.IsDemo() || !demo.IsDemo() {
		t.Error("flavours mixed up")
	}
}

func TestABuildWithoutLinkTimeVariablesIsARelease(t *testing.T) {
	t.Setenv("flavour", Demo)
	if l := Current(); l.IsDemo() || l.Scheme() != "encounter-launcher" || l.MachinePolicyFile() != machinePolicyFile {
		t.Errorf("got %+v", l)
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
