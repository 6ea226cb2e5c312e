package scheme

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"encounterlauncher/internal/paths"
)

// packaged installs the desktop file of our name for everybody, as a package does.
func packaged(t *testing.T, home, executable string) (file string) {
	t.Helper()
	dir := filepath.Join(home, "machine", "share", "applications")
	file = filepath.Join(dir, testID)
	write(t, file, "[Desktop Entry]\nType=Application\nName=Encounter Launcher\nExec="+executable+" %u\nMimeType="+testKey+";\n", 0o644)
	run(t, "update-desktop-database", dir)
	return file
}

func TestEverythingThatIsRegisteredIsSaidTheOneInEffectFirst(t *testing.T) {
	d, home := newDesktop(t)
	machine, own := filepath.Join(home, "usr", testName), filepath.Join(home, "own", testName)
	program(t, machine)
	program(t, own)
	file := packaged(t, home, machine)
	s := d.look()
	if r, found := s.Effective(); !found || r.Place != ForMachine || r.Where != file || r.Program != machine || r.Command != machine+" %u" || !r.Ours || len(r.Faults) > 0 {
		t.Errorf("the machine's: %+v", s)
	}
	mustRegister(t, d, own)
	foreign(t, d.applications(), "other.desktop")
	write(t, filepath.Join(home, "machine", "xdg", "mimeapps.list"), "[Default Applications]\n"+testKey+"=gone.desktop;other.desktop\n", 0o644)
	s = d.look()
	r, found := s.Effective()
	if !found || r.Place != ForUser || r.Where != d.entryFile() || r.Program != own || !r.Ours || len(r.Faults) > 0 {
		t.Errorf("in effect: %+v", r)
	}
	if m, found := s.Machine(); !found || m.InEffect || m.Program != machine {
		t.Errorf("the machine's: %+v", m)
	}
	if programs := s.Programs(); !slices.Equal(programs, []string{own, machine}) {
		t.Errorf("the programs are %q", programs)
	}
	var got []string
	for _, r := range s.Registrations {
		line := string(r.Place) + " " + strings.TrimPrefix(r.Where, home) + " " + r.ID
		if r.InEffect {
			line += " in effect"
		}
		if r.Ours {
			line += " ours"
		}
		for _, f := range r.Faults {
			line += " " + string(f)
		}
		got = append(got, line)
	}
	want := []string{
		"choice /config/mimeapps.list " + testID + " in effect ours",
		"choice /machine/xdg/mimeapps.list gone.desktop handler_missing",
		"choice /machine/xdg/mimeapps.list other.desktop",
		"user /data/applications/" + testID + " " + testID + " in effect ours",
		"machine /machine/share/applications/" + testID + " " + testID + " ours",
		"user /data/applications/other.desktop other.desktop",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAnExecLineThatDoesNotPassTheLinkAsItsOneArgumentIsTold(t *testing.T) {
	d, home := newDesktop(t)
	executable := filepath.Join(home, "opt", testName)
	program(t, executable)
	for line, want := range map[string][]Fault{
		executable + " %u":                      nil,
		executable + " %U":                      nil,
		`"` + executable + `" %u`:               nil,
		"env " + executable + " %u":             nil,
		executable:                              {LinkMissing},
		executable + " %f":                      {LinkMissing, MoreArguments},
		executable + " %%u":                     {LinkMissing, MoreArguments},
		executable + ` "%u"`:                    {LinkQuoting},
		executable + ` --link=%u`:               {LinkQuoting},
		executable + " --verbose %u":            {MoreArguments},
		executable + " %u %u":                   {MoreArguments},
		executable + ` %u "open`:                {LinkQuoting},
		`"` + executable + ` %u`:                {ProgramUnquoted},
		filepath.Join(home, "opt/gone") + " %u": {ProgramMissing},
		"not-on-the-path %u":                    {ProgramSearched, ProgramMissing},
		"sh %u":                                 {ProgramSearched},
		"":                                      {NoCommand},
	} {
		write(t, d.entryFile(), "[Desktop Entry]\nType=Application\nName=x\nExec="+line+"\nMimeType="+testKey+";\n", 0o644)
		found := d.handlers(testID)
		if len(found) != 1 || found[0].Command != line || !slices.Equal(found[0].Faults, want) {
			t.Errorf("%q: %+v, want %v", line, found, want)
		}
	}
}

func TestAListThatCannotBeReadIsTold(t *testing.T) {
	d, _ := newDesktop(t)
	if err := os.MkdirAll(d.defaultsFile(), 0o755); err != nil {
		t.Fatal(err)
	}
	if s := d.look(); len(s.Registrations) != 1 || s.Registrations[0].Where != d.defaultsFile() || !s.Registrations[0].Has(Unreadable) {
		t.Errorf("%+v", s)
	}
}

func TestTheSystemsOwnToolIsAskedAndCompared(t *testing.T) {
	d, home := newDesktop(t)
	if asked, err := d.look().Ask(t.Context()); err != nil || asked.Tool != "xdg-mime" || asked.Answer != "" || !asked.Agrees {
		t.Errorf("of nobody: %+v, %v", asked, err)
	}
	executable := filepath.Join(home, testName)
	program(t, executable)
	before := d.look()
	mustRegister(t, d, executable)
	if asked, err := d.look().Ask(t.Context()); err != nil || asked.Answer != testID || !asked.Agrees {
		t.Errorf("of us: %+v, %v", asked, err)
	}
	if asked, err := before.Ask(t.Context()); err != nil || asked.Agrees {
		t.Errorf("it agrees with what was before: %+v, %v", asked, err)
	}
	t.Setenv("PATH", filepath.Join(home, "nothing"))
	if asked, err := before.Ask(t.Context()); err != nil || asked != (Asked{Agrees: true}) {
		t.Errorf("without the tool: %+v, %v", asked, err)
	}
}

func TestAStaleFileOfThisUserGoesOnlyWhereTheMachineHasOurs(t *testing.T) {
	d, home := newDesktop(t)
	machine, old := filepath.Join(home, "usr", testName), filepath.Join(home, "old place", testName)
	program(t, machine)
	program(t, old)
	stays := func(when string) {
		t.Helper()
		was := tree(t, home)
		if removed, err := d.removeStale(machine); err != nil || len(removed) > 0 {
			t.Errorf("%s: removed %v, %v", when, removed, err)
		}
		sameTree(t, was, tree(t, home))
	}
	stays("nothing is registered")
	mustRegister(t, d, old)
	stays("the machine has none")
	file := packaged(t, home, old)
	stays("the machine's names another copy")
	write(t, file, "[Desktop Entry]\nType=Application\nName=x\nExec="+machine+" --odd %u\nMimeType="+testKey+";\n", 0o644)
	stays("the machine's is of a wrong form")
	packaged(t, home, machine)
	mustRegister(t, d, machine)
	stays("this user's says the same")
	mustRegister(t, d, old)
	for _, gone := range []bool{false, true} {
		mustRegister(t, d, old)
		if gone {
			if err := os.Remove(old); err != nil {
				t.Fatal(err)
			}
		}
		removed, err := d.removeStale(machine)
		if err != nil || len(removed) != 1 || removed[0].Where != d.entryFile() {
			t.Errorf("gone %v: removed %+v, %v", gone, removed, err)
		}
		if _, err := os.Lstat(d.aliasFile()); err == nil {
			t.Error("the link to the old copy is left")
		}
		if h, err := ownerOf(d); err != nil || h != (Handler{testID, machine}) {
			t.Errorf("owner: %+v, %v", h, err)
		}
	}
	foreign(t, d.applications(), testID)
	stays("somebody else's file under our name")
}

func TestAFolderThatOthersCanChangeIsNotTheMachines(t *testing.T) {
	d, home := newDesktop(t)
	machine, old := filepath.Join(home, "usr", testName), filepath.Join(home, "old", testName)
	program(t, machine)
	program(t, old)
	file := packaged(t, home, machine)
	dir := filepath.Dir(file)
	mustRegister(t, d, old)
	kept := filepath.Join(home, "flatpak", "kept.desktop")
	write(t, kept, read(t, file), 0o644)
	for name, change := range map[string]struct{ open, close func() error }{
		"the folder is open to others":  {func() error { return os.Chmod(dir, 0o777) }, func() error { return os.Chmod(dir, 0o755) }},
		"the file is open to its group": {func() error { return os.Chmod(file, 0o664) }, func() error { return os.Chmod(file, 0o644) }},
		"the file stands in a folder that is open to others": {func() error {
			return errors.Join(os.Chmod(filepath.Dir(kept), 0o777), os.Rename(file, file+".away"), os.Symlink(kept, file))
		}, func() error { return os.Rename(file+".away", file) }},
	} {
		if err := change.open(); err != nil {
			t.Fatal(err)
		}
		s := d.look()
		if m, found := s.Machine(); found {
			t.Errorf("%s: the machine has %+v", name, m)
		}
		if i := slices.IndexFunc(s.Registrations, func(r Registration) bool { return r.Where == file }); i < 0 || s.Registrations[i].Place != ForUser {
			t.Errorf("%s: %+v", name, s)
		}
		if removed, err := d.removeStale(machine); err != nil || len(removed) > 0 {
			t.Errorf("%s: removed %v, %v", name, removed, err)
		}
		if err := change.close(); err != nil {
			t.Fatal(err)
		}
		if _, found := d.look().Machine(); !found {
			t.Errorf("%s: afterwards the machine has none", name)
		}
	}
	elsewhere := t.TempDir() // belongs to somebody else than the files
	if os.Chown(elsewhere, 65534, -1) != nil {
		elsewhere = "/"
	}
	d.layout = paths.Under(elsewhere, "")
	if m, found := d.look().Machine(); found {
		t.Errorf("the machine has %+v", m)
	}
}

func TestRepairingMakesTheProgramTheHandlerAgain(t *testing.T) {
	d, home := newDesktop(t)
	executable, old := filepath.Join(home, "usr", testName), filepath.Join(home, "old", testName)
	program(t, old)
	calls := program(t, executable) // the newest pipe is the one that is written to
	repaired := func(name string, steps int, place Place) {
		t.Helper()
		did, err := d.repair(executable)
		if err != nil || len(did) != steps {
			t.Errorf("%s: did %q, %v", name, did, err)
		}
		if r, found := d.look().Effective(); !found || r.Place != place || r.Program != executable || len(r.Faults) > 0 {
			t.Errorf("%s: in effect is %+v", name, r)
		}
		run(t, "gio", "open", testLink)
		if line, err := calls.ReadString('\n'); err != nil || line != "<"+testLink+">\n" {
			t.Errorf("%s: started with %q, %v", name, line, err)
		}
		was := tree(t, home)
		if did, err := d.repair(executable); err != nil || len(did) > 0 {
			t.Errorf("%s: again it did %q, %v", name, did, err)
		}
		sameTree(t, was, tree(t, home))
	}
	repaired("nobody", 1, ForUser)
	mustRegister(t, d, old)
	repaired("another copy", 2, ForUser)
	foreign(t, d.applications(), "other.desktop")
	write(t, d.defaultsFile(), "[Default Applications]\n"+testKey+"=other.desktop\n", 0o644)
	repaired("another default", 1, ForUser)
	packaged(t, home, executable)
	mustRegister(t, d, old)
	repaired("the machine has it", 1, ForMachine)
	write(t, d.defaultsFile(), "[Default Applications]\n"+testKey+"=other.desktop\n", 0o644)
	repaired("the machine has it, and another is the default", 1, ForMachine)
	if text := read(t, d.defaultsFile()); !strings.Contains(text, "other.desktop") {
		t.Errorf("the other's place in line is gone: %s", text)
	}

	foreign(t, d.applications(), testID)
	was := tree(t, home)
	if did, err := d.repair(executable); err == nil || len(did) > 0 && d.look().settled(executable) {
		t.Errorf("repaired over somebody else's file: %q, %v", did, err)
	}
	if after := tree(t, home); after[d.entryFile()] != was[d.entryFile()] {
		t.Error("somebody else's file was changed")
	}
}

func TestWhatIsRememberedIsForgottenWithTheRegistration(t *testing.T) {
	_, home := newDesktop(t)
	l := paths.Under(home, "")
	executable := filepath.Join(home, "usr", testName)
	program(t, executable)
	if Remembered(l, executable) {
		t.Error("remembered before anything was")
	}
	for range 2 {
		if err := Remember(l, executable); err != nil {
			t.Fatal(err)
		}
	}
	if !Remembered(l, executable) || Remembered(l, executable+"2") {
		t.Error("another program is remembered")
	}
	if err := Unregister(l); err != nil {
		t.Fatal(err)
	}
	if Remembered(l, executable) {
		t.Error("still remembered")
	}
}
