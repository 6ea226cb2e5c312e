package doctor

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"encounterlauncher/internal/scheme"
)

// ownBus starts a session bus for the test and returns its address.
func ownBus(t *testing.T) string {
	t.Helper()
	daemon := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address=1", "--address=unix:dir="+t.TempDir())
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(address)
}

func TestTheTraysHostIsAskedOnTheSessionBus(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	if got := trayHost(t.Context()); got != TrayNoSession {
		t.Errorf("without a bus: %v", got)
	}
	address := ownBus(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	if got := trayHost(t.Context()); got != TrayNobody {
		t.Errorf("without a watcher: %v", got)
	}
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for shown, want := range map[bool]TrayState{false: TrayNobody, true: TrayShown} {
		_, err = prop.Export(conn, watcherPath, prop.Map{watcherName: {"IsStatusNotifierHostRegistered": {Value: shown, Emit: prop.EmitFalse}}})
		if err != nil {
			t.Fatal(err)
		}
		if reply, err := conn.RequestName(watcherName, dbus.NameFlagReplaceExisting|dbus.NameFlagAllowReplacement); err != nil || reply != dbus.RequestNameReplyPrimaryOwner && reply != dbus.RequestNameReplyAlreadyOwner {
			t.Fatalf("%v, %v", reply, err)
		}
		if got := trayHost(t.Context()); got != want {
			t.Errorf("with a watcher that says %v: %v", shown, got)
		}
	}
}

// TestTheWindowsLibrariesAreLookedForWithoutStartingIt takes a program of the system and
// renames the library that it needs: nothing on this computer has that one.
func TestTheWindowsLibrariesAreLookedForWithoutStartingIt(t *testing.T) {
	d := newSite(t).healthy()
	d.Libraries = missingLibraries
	program := d.Executable + "-window"
	whole, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	put := func(text []byte) {
		if err := os.WriteFile(program, text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(whole)
	finds(t, d, "window", "fine")
	put(bytes.ReplaceAll(whole, []byte("libc.so.6\x00"), []byte("libx.so.6\x00")))
	fact(t, finds(t, d, "window", "library_missing"), "library_missing", "library", "libx.so.6")
	// Neither a script nor a program without a loader is run by looking at it.
	ran := filepath.Join(d.Home, "ran")
	put([]byte("#!/bin/sh\n: >" + ran + "\n" + strings.Repeat("#", 64)))
	finds(t, d, "window", "fine")
	if _, err := os.Stat(ran); err == nil {
		t.Error("the window's program was started")
	}
	put(whole[:2048])
	finds(t, d, "window", "failed")
}

func TestBrowserPoliciesAreReadFromTheirFolders(t *testing.T) {
	browserRoot = t.TempDir()
	t.Cleanup(func() { browserRoot = "" })
	if got := browserPolicies("encounter-launcher"); got != nil {
		t.Errorf("of nothing: %v", got)
	}
	write(t, browserRoot+"/etc/opt/chrome/policies/managed/a.json", `{"AutoLaunchProtocolsFromOrigins":[{"protocol":"encounter-launcher","allowed_origins":["*"]}]}`)
	write(t, browserRoot+"/etc/opt/chrome/policies/managed/b.json", `{"URLBlocklist":["encounter-launcher:*"]}`)
	write(t, browserRoot+"/etc/opt/edge/policies/managed/a.json", `{"URLBlocklist":`)
	write(t, browserRoot+"/etc/firefox/policies/policies.json", `{"policies":{"Handlers":{"schemes":{"encounter-launcher":{"action":"useSystemDefault","ask":false}}}}}`)
	d := newSite(t).healthy()
	d.BrowserPolicies = func() []browserPolicy { return browserPolicies("encounter-launcher") }
	r := finds(t, d, "browser", "allowed", "blocked", "unreadable")
	fact(t, r, "blocked", "browser", "Chrome")
	fact(t, r, "unreadable", "browser", "Edge")
	fact(t, r, "allowed", "browser", "Firefox")
}

func TestCopiesAreLookedForOnThePath(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	t.Setenv("PATH", "relative:"+dir)
	t.Setenv("HOME", home)
	write(t, filepath.Join(dir, "encounter-launcher-demo"), "no program")
	if got := copies("encounter-launcher-demo"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	for _, file := range []string{filepath.Join(dir, "encounter-launcher-demo"), filepath.Join(home, ".local", "bin", "encounter-launcher-demo")} {
		write(t, file, "program")
		if err := os.Chmod(file, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := copies("encounter-launcher-demo"); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestAFolderOpenToOthersIsFoundAndClosedByFix(t *testing.T) {
	d := newSite(t).healthy()
	dir := d.Layout.StateDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := finds(t, d, "files", "open_to_others")
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o755 {
		t.Error("the check itself changed it")
	}
	fixed := Fix(t.Context(), d, []Result{r})
	if len(fixed) != 1 || !fixed[0].Done {
		t.Errorf("got %+v", fixed)
	}
	finds(t, d, "files", "fine")
	if fixed := Fix(t.Context(), d, []Result{finds(t, d, "files", "fine")}); len(fixed) != 0 {
		t.Errorf("of nothing wrong: %+v", fixed)
	}
}

func TestAfterARepairOnlyWhatWasRepairedIsLookedAtAgain(t *testing.T) {
	d := newSite(t).healthy()
	if err := os.MkdirAll(d.Layout.StateDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d.Layout.StateDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	asked := 0
	d.Tray = func(context.Context) TrayState { asked++; return TrayNobody }
	only := []string{"files", "tray"}
	results, fixed := FixAndLook(t.Context(), d, func() Deps { return d }, Run(t.Context(), d, only, nil))
	if len(results) != 2 || results[0].Name != "files" || results[0].State != OK || results[1].State != Warning || asked != 1 {
		t.Errorf("the tray was asked %d times: %+v", asked, results)
	}
	if len(fixed) != 2 || !fixed[0].Done || fixed[1].Done {
		t.Errorf("got %+v", fixed)
	}
	// Nothing is looked at again where nothing could be repaired.
	if _, fixed := FixAndLook(t.Context(), d, func() Deps { t.Error("it looks again"); return d }, results); len(fixed) != 1 {
		t.Errorf("got %+v", fixed)
	}
}

func TestFixDoesNotFollowALinkInPlaceOfTheFolder(t *testing.T) {
	d := newSite(t).healthy()
	other := t.TempDir()
	if err := os.Chmod(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(d.Layout.StateDir()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, d.Layout.StateDir()); err != nil {
		t.Fatal(err)
	}
	fixed := Fix(t.Context(), d, []Result{{Name: "files", State: Broken, Findings: []Finding{{Code: "open_to_others", State: Broken}}}})
	if info, _ := os.Stat(other); len(fixed) != 1 || fixed[0].Done || info.Mode().Perm() != 0o755 {
		t.Errorf("got %+v, mode %v", fixed, info.Mode())
	}
}

// The registration itself is tried in the room scheme; here it is that Fix asks for it
// and that the check then finds it.
func TestFixRegistersTheProgramForTheLinks(t *testing.T) {
	d := newSite(t).healthy()
	for name, value := range map[string]string{"XDG_DATA_DIRS": d.Home + "/none", "XDG_CONFIG_DIRS": d.Home + "/none", "XDG_CURRENT_DESKTOP": "", "PATH": d.Home + "/none"} {
		t.Setenv(name, value)
	}
	d.Scheme = func() (scheme.State, error) { return scheme.Look(d.Layout) }
	r := finds(t, d, "scheme", "none")
	fixed := Fix(t.Context(), d, []Result{r})
	if len(fixed) == 0 || !fixed[0].Done || strings.Contains(fixed[0].Sentence, d.Home) {
		t.Errorf("got %+v", fixed)
	}
	finds(t, d, "scheme", "fine")
}

func TestWhatThisProgramDoesNotRepairIsLeftToSomebody(t *testing.T) {
	d := newSite(t).healthy()
	fixed := Fix(t.Context(), d, []Result{{Name: "policy", State: Broken}, {Name: "tray", State: Skipped}, {Name: "dns", State: OK}})
	if len(fixed) != 1 || fixed[0].Check != "policy" || fixed[0].Done {
		t.Errorf("got %+v", fixed)
	}
}
