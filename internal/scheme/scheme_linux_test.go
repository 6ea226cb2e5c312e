package scheme

import (
	"bufio"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

const (
	testName = "encounter-launcher"
	testKey  = "x-scheme-handler/encounter-launcher"
	testID   = "encounter-launcher.desktop"
	testLink = "encounter-launcher://launch?external_encounter_id=E%2B1&external_patient_id=P&external_provider_id=D"
)

// newDesktop gives the test, and the tools that it starts, a home of its own.
func newDesktop(t *testing.T) (d desktop, home string) {
	t.Helper()
	home = t.TempDir()
	for name, value := range map[string]string{
		"HOME": home, "XDG_DATA_HOME": home + "/data", "XDG_CONFIG_HOME": home + "/config",
		"XDG_DATA_DIRS": home + "/machine/share", "XDG_CONFIG_DIRS": home + "/machine/xdg",
		"XDG_CURRENT_DESKTOP": "", "DESKTOP_SESSION": "", "KDE_FULL_SESSION": "", "GNOME_DESKTOP_SESSION_ID": "",
		// Openers look for a display before they look for handlers; none of them
		// connects to it. A bus address that leads nowhere keeps them from
		// starting a bus.
		"DISPLAY": ":0", "DBUS_SESSION_BUS_ADDRESS": "unix:path=" + home + "/no-bus",
	} {
		t.Setenv(name, value)
	}
	return desktop{name: testName, dataHome: home + "/data", configHome: home + "/config", layout: paths.Under(home, "")}, home
}

func ownerOf(d desktop) (Handler, error) { return d.look().Owner(), nil }

func write(t *testing.T, file, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// program writes a handler that reports its arguments through a pipe.
func program(t *testing.T, path string) (calls *bufio.Reader) {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "calls")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	// Open for both, so that reading waits for a handler that is yet to start.
	f, err := os.OpenFile(pipe, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CALLS", pipe)
	write(t, path, "#!/bin/sh\nfor a in \"$@\"; do line=\"$line<$a>\"; done\necho \"$line\" >\"$CALLS\"\n", 0o755)
	return bufio.NewReader(f)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// tree lists every file below a folder with its content.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Type()&fs.ModeSymlink != 0:
			files[path], err = os.Readlink(path)
		case entry.Type().IsRegular():
			var text []byte
			text, err = os.ReadFile(path)
			files[path] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func sameTree(t *testing.T, before, after map[string]string) {
	t.Helper()
	for path, text := range after {
		if old, found := before[path]; !found {
			t.Errorf("%s is left behind:\n%s", path, text)
		} else if old != text {
			t.Errorf("%s was\n%q\nand is\n%q", path, old, text)
		}
	}
	for path := range before {
		if _, found := after[path]; !found {
			t.Errorf("%s is gone", path)
		}
	}
}

func mustRegister(t *testing.T, d desktop, executable string) {
	t.Helper()
	if err := d.register(executable); err != nil {
		t.Fatal(err)
	}
}

func TestEveryOpenerOfTheSystemStartsTheRegisteredProgramWithTheLinkAsOneArgument(t *testing.T) {
	for _, name := range []string{
		"encounter-launcher", "with space", "two  spaces", `quote"quote`, "apostrophe's", `back\slash`, `\\two`, "percent%20", "%u", "%", "dollar$HOME", "back`tick",
		"semi;colon&and|pipe", "(paren)*?[x]", "~tilde #hash", "Zoë 診療", `all "of' \them\ $at %u once`,
	} {
		t.Run(name, func(t *testing.T) {
			d, home := newDesktop(t)
			executable := filepath.Join(home, "bin dir", name)
			calls := program(t, executable)
			before := tree(t, home)
			mustRegister(t, d, executable)
			if out, err := exec.Command("desktop-file-validate", d.entryFile()).CombinedOutput(); err != nil {
				t.Errorf("not a valid desktop file: %s", out)
			}
			for _, opener := range [][]string{{"gio", "open"}, {"xdg-open"}} {
				if out, err := exec.Command(opener[0], append(opener[1:], testLink)...).CombinedOutput(); err != nil {
					t.Errorf("%s: %v, %s", opener, err, out)
					continue
				}
				if line, err := calls.ReadString('\n'); err != nil || line != "<"+testLink+">\n" {
					t.Errorf("%s started it with %q, %v", opener, line, err)
				}
			}
			if h, err := ownerOf(d); err != nil || h != (Handler{testID, executable}) {
				t.Errorf("owner: %+v, %v", h, err)
			}
			if err := d.unregister(); err != nil {
				t.Fatal(err)
			}
			sameTree(t, before, tree(t, home))
		})
	}
}

func TestAPathIsQuotedAsTheSpecificationSaysWhereNoLinkCanHelp(t *testing.T) {
	for _, name := range []string{"with space", `quote"quote`, `back\slash`, "percent%20", "%u", "dollar$HOME", "back`tick", `all "of' \them\ $at %u once`} {
		t.Run(name, func(t *testing.T) {
			d, home := newDesktop(t)
			d.dataHome = filepath.Join(home, "my data")
			t.Setenv("XDG_DATA_HOME", d.dataHome)
			executable := filepath.Join(home, "bin dir", name)
			calls := program(t, executable)
			mustRegister(t, d, executable)
			if _, err := os.Lstat(d.aliasFile()); err == nil {
				t.Error("a link whose own path needs quoting was made")
			}
			if out, err := exec.Command("desktop-file-validate", d.entryFile()).CombinedOutput(); err != nil {
				t.Errorf("not a valid desktop file: %s", out)
			}
			if out, err := exec.Command("gio", "open", testLink).CombinedOutput(); err != nil {
				t.Fatalf("%v, %s\n%s", err, out, read(t, d.entryFile()))
			}
			if line, err := calls.ReadString('\n'); err != nil || line != "<"+testLink+">\n" {
				t.Errorf("started with %q, %v", line, err)
			}
			if h, err := ownerOf(d); err != nil || h != (Handler{testID, executable}) {
				t.Errorf("owner: %+v, %v", h, err)
			}
		})
	}
}

func TestTheToolsOfTheSystemAgreeOnTheOwner(t *testing.T) {
	d, home := newDesktop(t)
	executable := filepath.Join(home, "encounter-launcher")
	program(t, executable)
	agree := func(want string) {
		t.Helper()
		h, err := ownerOf(d)
		if err != nil || h.ID != want || run(t, "xdg-mime", "query", "default", testKey) != want {
			t.Errorf("want %q: we say %+v, %v, xdg-mime %q", want, h, err, run(t, "xdg-mime", "query", "default", testKey))
		}
		if want != "" && !strings.Contains(run(t, "gio", "mime", testKey), ": "+want+"\n") {
			t.Errorf("want %q, gio: %s", want, run(t, "gio", "mime", testKey))
		}
	}
	agree("")
	foreign(t, home+"/machine/share/applications", "other.desktop")
	run(t, "update-desktop-database", home+"/machine/share/applications")
	agree("other.desktop")
	mustRegister(t, d, executable)
	agree(testID)
	mustRegister(t, d, executable)
	agree(testID)
	if err := d.unregister(); err != nil {
		t.Fatal(err)
	}
	agree("other.desktop")
}

// foreign installs a handler of somebody else.
func foreign(t *testing.T, dir, id string) {
	t.Helper()
	write(t, filepath.Join(dir, id), "[Desktop Entry]\nType=Application\nName=Other\nExec=/bin/true %u\nMimeType="+testKey+";\n", 0o644)
}

func TestUnregisteringPutsEveryListBackAsItWas(t *testing.T) {
	for name, before := range map[string]string{
		"no list":                 "",
		"other things":            "[Added Associations]\ntext/plain=a.desktop;\n\n# a comment\n[Default Applications]\ntext/html=b.desktop\n",
		"a foreign default":       "[Default Applications]\n" + testKey + "=other.desktop\ntext/html=b.desktop;\n",
		"foreign defaults":        "[Default Applications]\n" + testKey + "=other.desktop;third.desktop;\n",
		"spaces":                  "\n[Default Applications]\n" + testKey + " = other.desktop ; third.desktop\n\n",
		"a group with no default": "[Default Applications]\n\n[Added Associations]\ntext/plain=a.desktop\n",
		"no default group":        "[Added Associations]\n" + testKey + "=other.desktop;\n",
		"a similar key":           "[Default Applications]\n" + testKey + "-demo=" + testID + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			d, home := newDesktop(t)
			executable := filepath.Join(home, "encounter-launcher")
			program(t, executable)
			foreign(t, d.applications(), "other.desktop")
			run(t, "update-desktop-database", d.applications())
			if before != "" {
				write(t, d.defaultsFile(), before, 0o600)
			}
			was := tree(t, home)
			mustRegister(t, d, executable)
			mustRegister(t, d, executable)
			if h, err := ownerOf(d); err != nil || h.ID != testID {
				t.Errorf("owner %+v, %v in\n%s", h, err, read(t, d.defaultsFile()))
			}
			if before != "" {
				if info, err := os.Stat(d.defaultsFile()); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the list's mode changed: %v, %v", info.Mode(), err)
				}
			}
			if err := d.unregister(); err != nil {
				t.Fatal(err)
			}
			sameTree(t, was, tree(t, home))
			if h, err := ownerOf(d); err != nil || h.ID != "other.desktop" {
				t.Errorf("owner after: %+v, %v", h, err)
			}
			if err := d.unregister(); err != nil {
				t.Fatal(err)
			}
			sameTree(t, was, tree(t, home))
		})
	}
}

func TestWhatADesktopAddedForUsGoesToo(t *testing.T) {
	d, home := newDesktop(t)
	executable := filepath.Join(home, "encounter-launcher")
	program(t, executable)
	mustRegister(t, d, executable)
	run(t, "gio", "mime", testKey, testID)
	run(t, "xdg-mime", "default", testID, testKey)
	if err := d.unregister(); err != nil {
		t.Fatal(err)
	}
	for path, text := range tree(t, home) {
		if strings.Contains(text, testID) {
			t.Errorf("%s still names us:\n%s", path, text)
		}
	}
}

func TestAListOfOneDesktopDoesNotHideTheRegistration(t *testing.T) {
	d, home := newDesktop(t)
	t.Setenv("XDG_CURRENT_DESKTOP", "ubuntu:GNOME")
	executable := filepath.Join(home, "encounter-launcher")
	program(t, executable)
	foreign(t, d.applications(), "other.desktop")
	special, silent := filepath.Join(d.configHome, "gnome-mimeapps.list"), filepath.Join(d.configHome, "xfce-mimeapps.list")
	write(t, special, "[Default Applications]\n"+testKey+"=other.desktop\n", 0o644)
	write(t, silent, "[Default Applications]\ntext/html=b.desktop\n", 0o644)
	run(t, "update-desktop-database", d.applications())
	was := tree(t, home)
	if h, err := ownerOf(d); err != nil || h.ID != "other.desktop" {
		t.Errorf("before: %+v, %v", h, err)
	}
	mustRegister(t, d, executable)
	if h, err := ownerOf(d); err != nil || h.ID != testID {
		t.Errorf("registered: %+v, %v", h, err)
	}
	if strings.Contains(read(t, silent), testID) {
		t.Error("a list that says nothing of the scheme was changed")
	}
	if err := d.unregister(); err != nil {
		t.Fatal(err)
	}
	sameTree(t, was, tree(t, home))
}

func TestAListThatIsALinkStaysOne(t *testing.T) {
	d, home := newDesktop(t)
	executable := filepath.Join(home, "encounter-launcher")
	program(t, executable)
	elsewhere := filepath.Join(home, "dotfiles", "mimeapps.list")
	write(t, elsewhere, "[Default Applications]\ntext/html=b.desktop\n", 0o644)
	if err := os.MkdirAll(d.configHome, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, d.defaultsFile()); err != nil {
		t.Fatal(err)
	}
	was := tree(t, home)
	mustRegister(t, d, executable)
	if !strings.Contains(read(t, elsewhere), testID) {
		t.Error("the list behind the link was not changed")
	}
	if err := d.unregister(); err != nil {
		t.Fatal(err)
	}
	sameTree(t, was, tree(t, home))
}

func TestAForeignHandlerUnderOurNameStays(t *testing.T) {
	d, home := newDesktop(t)
	executable := filepath.Join(home, "encounter-launcher")
	program(t, executable)
	foreign(t, d.applications(), testID)
	write(t, d.defaultsFile(), "[Default Applications]\n"+testKey+"="+testID+"\n", 0o644)
	was := tree(t, home)
	if err := d.register(executable); err == nil {
		t.Error("a foreign file was taken over")
	}
	if err := d.unregister(); err != nil {
		t.Error(err)
	}
	sameTree(t, was, tree(t, home))
	if h, err := ownerOf(d); err != nil || h.ID != testID || h.Program == executable {
		t.Errorf("owner: %+v, %v", h, err)
	}
}

func TestWithoutTheToolsTheListOfDefaultsSuffices(t *testing.T) {
	d, home := newDesktop(t)
	executable := filepath.Join(home, "encounter-launcher")
	calls := program(t, executable)
	path := os.Getenv("PATH")
	was := tree(t, home)
	t.Setenv("PATH", filepath.Join(home, "nothing"))
	mustRegister(t, d, executable)
	t.Setenv("PATH", path)
	run(t, "gio", "open", testLink)
	if line, err := calls.ReadString('\n'); err != nil || line != "<"+testLink+">\n" {
		t.Errorf("started with %q, %v", line, err)
	}
	t.Setenv("PATH", filepath.Join(home, "nothing"))
	if err := d.unregister(); err != nil {
		t.Fatal(err)
	}
	sameTree(t, was, tree(t, home))
}

func TestTheRegistrationFollowsTheProgramWhenItMoves(t *testing.T) {
	d, home := newDesktop(t)
	was := tree(t, home)
	for _, place := range []string{"a place", "plain", "another place"} {
		executable := filepath.Join(home, place, "encounter-launcher")
		program(t, executable)
		mustRegister(t, d, executable)
		if h, err := ownerOf(d); err != nil || h.Program != executable {
			t.Errorf("owner: %+v, %v", h, err)
		}
		if err := os.RemoveAll(filepath.Dir(executable)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.unregister(); err != nil {
		t.Fatal(err)
	}
	sameTree(t, was, tree(t, home))
}

func TestTheDemoAndTheReleaseLiveSideBySide(t *testing.T) {
	release, home := newDesktop(t)
	demo := release
	demo.name = testName + "-demo"
	a, b := filepath.Join(home, "release"), filepath.Join(home, "demo")
	program(t, a)
	program(t, b)
	mustRegister(t, release, a)
	was := tree(t, home)
	mustRegister(t, demo, b)
	for d, want := range map[desktop]Handler{release: {testID, a}, demo: {testName + "-demo.desktop", b}} {
		if h, err := ownerOf(d); err != nil || h != want {
			t.Errorf("owner: %+v, %v", h, err)
		}
	}
	if !strings.Contains(read(t, demo.entryFile()), "Name=Encounter Launcher Demo\n") {
		t.Error("the menus show both under one name")
	}
	if err := demo.unregister(); err != nil {
		t.Fatal(err)
	}
	sameTree(t, was, tree(t, home))
}

func TestWhatCannotBeRegisteredIsRefusedWithoutATrace(t *testing.T) {
	d, home := newDesktop(t)
	write(t, home+"/plain", "", 0o644)
	for _, name := range []string{"a=b", "line\nbreak", "tab\t", "bad\xffutf"} {
		write(t, filepath.Join(home, name), "", 0o755)
	}
	was := tree(t, home)
	for _, executable := range []string{"", "relative", "./relative", home, home + "/missing", home + "/plain", home + "/a=b", home + "/line\nbreak", home + "/tab\t", home + "/bad\xffutf"} {
		if err := d.register(executable); err == nil {
			t.Errorf("%q was registered", executable)
		}
	}
	sameTree(t, was, tree(t, home))
}

func TestTheDoorNamesItsFailures(t *testing.T) {
	err := Register(paths.Of(paths.Demo), "relative")
	if !problem.IsCode(err, problem.Internal) || problem.Of(err).Fact == "" {
		t.Errorf("got %v", err)
	}
}

func FuzzTheExecLineNamesTheProgram(f *testing.F) {
	for _, seed := range []string{"/usr/bin/encounter-launcher", `/a "b" \c\ $d %u`, "/%%", "/env", "/ x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if checkProgram(path) != nil || strings.HasSuffix(path, "/env") {
			return
		}
		line := execLine(path)
		if got, rest := programOf(line); got != path || len(faultsOf(rest)) > 0 {
			t.Errorf("%q became %q, read as %q and then %q", path, line, got, rest)
		}
		if !strings.HasSuffix(line, " %u") || strings.ContainsAny(line, "\n\r") {
			t.Errorf("%q became %q", path, line)
		}
	})
}

func FuzzTheListComesBackAsItWas(f *testing.F) {
	f.Add("[Default Applications]\n" + testKey + "=other.desktop;\n")
	f.Add("[Added Associations]\n\n[Default Applications]")
	f.Fuzz(func(t *testing.T, before string) {
		if strings.Contains(before, testID) {
			return
		}
		with := withDefault(before, testKey, testID)
		if ids := idsIn(with, defaultsGroup, testKey); len(ids) == 0 || ids[0] != testID {
			t.Errorf("%q became %q", before, with)
		}
		after := withoutID(with, testKey, testID)
		// What said nothing before may be gone afterwards: a missing line break at
		// the end, an empty group of defaults, an empty list for our key.
		plain := func(text string) string {
			var lines []string
			for line := range strings.SplitSeq(text, "\n") {
				name, value, _ := strings.Cut(line, "=")
				empty := strings.TrimSpace(name) == testKey && strings.Trim(value, "; \t\r") == ""
				if line != "" && strings.TrimSpace(line) != defaultsGroup && !empty {
					lines = append(lines, line)
				}
			}
			return strings.Join(lines, "\n")
		}
		if plain(after) != plain(before) {
			t.Errorf("%q became %q, then %q", before, with, after)
		}
	})
}
