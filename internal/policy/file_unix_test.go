//go:build unix

package policy

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

func TestAMachinePolicyThatOthersCouldHaveWrittenRefusesAndSaysHowToMendIt(t *testing.T) {
	for name, spoil := range map[string]struct {
		do   func(t *testing.T, file string)
		want string
	}{
		"group may write":  {func(t *testing.T, file string) { chmod(t, file, 0o664) }, "run chown root:root FILE and chmod 644 FILE"},
		"all may write":    {func(t *testing.T, file string) { chmod(t, file, 0o646) }, "run chown root:root FILE and chmod 644 FILE"},
		"folder is open":   {func(t *testing.T, file string) { chmod(t, filepath.Dir(file), 0o777) }, "run chown root:root DIR and chmod 755 DIR"},
		"symbolic link":    {link, "it is a symbolic link"},
		"dangling link":    {dangle, "it is a symbolic link"},
		"folder is a link": {linkFolder, "DIR is not a folder"},
		"fifo":             {fifo, "it is not a file"},
		"folder":           {folder, "it is not a file"},
		"nothing in it":    {func(t *testing.T, file string) { write(t, file, "", 0o644) }, "it is empty"},
		"not JSON":         {func(t *testing.T, file string) { write(t, file, "BackendURL=x", 0o644) }, "it is not valid JSON at line 1"},
		"too large":        {func(t *testing.T, file string) { write(t, file, goodPolicy+strings.Repeat(" ", maxFile), 0o644) }, "it is larger than 256 KiB"},
		"byte order mark":  {func(t *testing.T, file string) { write(t, file, "\xef\xbb\xbf"+goodPolicy, 0o644) }, "it begins with a byte order mark"},
	} {
		t.Run(name, func(t *testing.T) {
			l := paths.Under(t.TempDir(), "")
			file := l.MachinePolicyFile()
			write(t, file, goodPolicy, 0o644)
			write(t, l.InstallerDefaultsFile(), goodPolicy, 0o644)
			if s := Load(l); s.LaunchProblem() != nil {
				t.Fatalf("before: %v", s.LaunchProblem())
			}
			spoil.do(t, file)
			s := Load(l)
			want := strings.NewReplacer("FILE", file, "DIR", filepath.Dir(file)).Replace(spoil.want)
			if codeOf(s) != problem.PolicyInvalid || len(s.Findings) != 1 || !strings.Contains(s.Findings[0].Sentence, want) ||
				!strings.HasPrefix(s.Findings[0].Sentence, "The machine policy ("+file+") cannot be used: ") || s.BackendURL != "" {
				t.Errorf("%v, %+v", s.LaunchProblem(), s.Findings)
			}
		})
	}
}

func TestAMachinePolicyOfAnotherOwnerIsNotBelieved(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can give a file away; the owner is checked by the tests of paths")
		return
	}
	l := paths.Under(t.TempDir(), "")
	write(t, l.MachinePolicyFile(), goodPolicy, 0o644)
	if err := os.Chown(l.MachinePolicyFile(), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if s := Load(l); codeOf(s) != problem.PolicyInvalid || s.BackendURL != "" {
		t.Errorf("%v, %q", s.LaunchProblem(), s.BackendURL)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, file string) {
	aside := filepath.Join(filepath.Dir(file), "aside.json")
	if err := os.Rename(file, aside); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(aside, file); err != nil {
		t.Fatal(err)
	}
}

func dangle(t *testing.T, file string) {
	remove(t, file)
	if err := os.Symlink(file+".none", file); err != nil {
		t.Fatal(err)
	}
}

func linkFolder(t *testing.T, file string) {
	dir := filepath.Dir(file)
	if err := os.Rename(dir, dir+".aside"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+".aside", dir); err != nil {
		t.Fatal(err)
	}
}

func fifo(t *testing.T, file string) {
	remove(t, file)
	if err := syscall.Mkfifo(file, 0o644); err != nil {
		t.Fatal(err)
	}
}

func folder(t *testing.T, file string) {
	remove(t, file)
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestInstallerDefaultsAreTrustedNoMoreThanPolicy(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	write(t, l.InstallerDefaultsFile(), goodPolicy, 0o666)
	if s := Load(l); codeOf(s) != problem.PolicyInvalid || s.BackendURL != "" {
		t.Errorf("%v, %q", s.LaunchProblem(), s.BackendURL)
	}
	chmod(t, l.InstallerDefaultsFile(), 0o644)
	if s := Load(l); s.LaunchProblem() != nil {
		t.Errorf("%v", s.LaunchProblem())
	}
}

func TestTheDemoReadsTheSandboxsPolicyAndAllowsLoopback(t *testing.T) {
	root := t.TempDir()
	demo, release := paths.Under(root, paths.Demo), paths.Under(root, "")
	policy := strings.NewReplacer("https://encounters.hospital.example", "http://127.0.0.1:8080", ".vendor.example", "127.0.0.1").Replace(goodPolicy)
	if err := paths.EnsurePrivateDir(demo.SandboxDir()); err != nil {
		t.Fatal(err)
	}
	write(t, demo.MachinePolicyFile(), policy, 0o600)
	if s := Load(demo); s.LaunchProblem() != nil || s.BackendURL != "http://127.0.0.1:8080/api" {
		t.Errorf("%v, %+v", s.LaunchProblem(), s.Findings)
	}
	write(t, release.MachinePolicyFile(), policy, 0o644)
	if s := Load(release); codeOf(s) != problem.PolicyInvalid {
		t.Errorf("a release speaks http: %v", s.LaunchProblem())
	}
}

func TestAPersonsFileThatCannotBeReadChangesOnlyThePersonsChoices(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	write(t, l.MachinePolicyFile(), goodPolicy, 0o644)
	write(t, l.SettingsFile(), `{"Language":"fr","Autostart":false}`, 0o600)
	if s := Load(l); s.Language != "fr" || s.Autostart || len(s.Findings) != 0 {
		t.Errorf("%+v", s)
	}
	write(t, l.SettingsFile(), `{"Language":`, 0o600)
	s := Load(l)
	if s.LaunchProblem() != nil || len(s.Findings) != 1 || s.Findings[0].RefusesLaunches || s.Language != "" || s.Autostart {
		t.Errorf("%v, %+v", s.LaunchProblem(), s.Findings)
	}
	for _, f := range s.Findings {
		if strings.Contains(f.Sentence, l.SettingsFile()) {
			t.Errorf("the sentence holds the name of the account's folder: %q", f.Sentence)
		}
	}
}

func TestASettingsFileThatIsALinkStaysOne(t *testing.T) {
	l := paths.Under(t.TempDir(), paths.Demo)
	write(t, l.SettingsFile(), `{"Language":"fr"}`, 0o600)
	link(t, l.SettingsFile())
	if err := Choose(l, "Language", "de"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(l.SettingsFile())
	if err != nil || info.Mode()&os.ModeSymlink == 0 || Load(l).Language != "de" {
		t.Errorf("%v, %v, %q", info.Mode(), err, Load(l).Language)
	}
	remove(t, filepath.Join(filepath.Dir(l.SettingsFile()), "aside.json"))
	if err := Choose(l, "Language", "de"); !problem.IsCode(err, problem.RequestInvalid) {
		t.Errorf("a link that leads nowhere: %v", err)
	}
}

func TestTheExamplePolicyLoadsCleanly(t *testing.T) {
	data, err := os.ReadFile("../../build/policy/example-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	l := paths.Under(t.TempDir(), "")
	write(t, l.MachinePolicyFile(), string(data), 0o644)
	s := Load(l)
	if len(s.Findings) != 0 || s.LaunchProblem() != nil {
		t.Errorf("%v, %+v", s.LaunchProblem(), s.Findings)
	}
	if v := valueOf(t, s, "BackendURL"); v.Source != SourceMachine || v.Path != l.MachinePolicyFile() || !v.Locked {
		t.Errorf("%+v", v)
	}
	if s.MaxSignInAge != 12*time.Hour || len(s.LinkKeys) == 0 {
		t.Errorf("%+v", s)
	}
}

func TestAChoiceIsThePersonsAlone(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	if err := Choose(l, "Language", "fr"); err != nil {
		t.Fatal(problem.Of(err).LogValue())
	}
	if info, err := os.Stat(l.SettingsFile()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
