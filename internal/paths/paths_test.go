package paths

import (
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
