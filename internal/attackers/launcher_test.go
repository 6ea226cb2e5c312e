//go:build attackers && linux

package attackers

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// below names everything below the folders, and them.
func below(t *testing.T, folders ...string) (paths []string) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			paths = append(paths, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func lines(paths []string) *strings.Reader {
	return strings.NewReader(strings.Join(paths, "\n") + "\n")
}

func TestAnotherUserReachesNothingOfARunningLauncher(t *testing.T) {
	w := logOn(t)
	w.session()
	w.serve()
	agent := w.agent()
	w.signIn()
	if code, said := w.run(w.press("2")); code != 0 {
		t.Fatalf("%d: %s", code, said)
	}
	until(t, "the second encounter", func() bool { return w.status().Recents == 2 })
	if code, said := w.run("register"); code != 0 {
		t.Fatalf("%d: %s", code, said)
	}
	if code, said := w.run("settings", "set", "Language", "fr"); code != 0 {
		t.Fatalf("%d: %s", code, said)
	}

	t.Run("files", func(t *testing.T) {
		state, run, settings := filepath.Join(w.dir, "home", "state", "encounter-launcher-demo"), filepath.Join(w.dir, "run", "encounter-launcher-demo"), filepath.Join(w.dir, "home", "config", "encounter-launcher-demo")
		written := below(t, state, run, settings)
		for _, want := range []string{"agent.log", "control.sock", "agent.lock", "settings.json", "user.lock"} {
			if !slices.ContainsFunc(written, func(path string) bool { return filepath.Base(path) == want }) {
				t.Errorf("%s was not looked at: %v", want, written)
			}
		}
		if len(below(t, filepath.Join(state, "audit"))) < 2 || len(below(t, filepath.Join(state, "recents"))) < 2 {
			t.Errorf("audit and recents were not looked at: %v", written)
		}
		for _, path := range written {
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			want := fs.FileMode(0o600)
			if info.IsDir() {
				want = 0o700
			}
			if mode := info.Mode().Perm(); mode != want {
				t.Errorf("%s has mode %04o, not %04o", path, mode, want)
			}
		}
		if could := tries[[]string](t, attacker, lines(written), "look"); len(could) > 0 {
			t.Errorf("another user could %s", strings.Join(could, ", "))
		}
		// What is for the desktop to read holds nothing and cannot be changed.
		shared := below(t, filepath.Join(w.dir, "home"), filepath.Join(w.dir, "tmp"), filepath.Join(w.dir, "opt"))
		for _, can := range tries[[]string](t, attacker, lines(shared), "look") {
			// Debian's tool writes its cache as the session's umask says, which is none here.
			if what, path, _ := strings.Cut(can, " "); what != "read" && filepath.Base(path) != "mimeinfo.cache" {
				t.Errorf("another user could %s %s", what, path)
			}
		}
		t.Logf("%d files and folders of the launcher, %d of the home in all", len(written), len(shared))
	})

	t.Run("process", func(t *testing.T) {
		if could := tries[[]string](t, attacker, nil, "process", strconv.Itoa(agent.Process.Pid)); len(could) > 0 {
			t.Errorf("another user could use %s", strings.Join(could, ", "))
		}
		// The attempts have to be able to succeed: the user's own stop what they look into.
		own := running(t, clinician.command(w.env, "sleep", "600"))
		if could := tries[[]string](t, clinician, nil, "process", strconv.Itoa(own.Process.Pid)); !slices.Contains(could, "environ") || !slices.Contains(could, "kill") {
			t.Errorf("these attempts prove nothing: the user's own process could use %v", could)
		}
		_ = own.Process.Kill() // one that is stopped hears nothing else
	})

	t.Run("sockets", func(t *testing.T) { listensNowhereElse(t, agent.Process.Pid, w) })

	t.Run("control socket", func(t *testing.T) {
		folder := filepath.Join(w.dir, "run", "encounter-launcher-demo")
		socket := filepath.Join(folder, "control.sock")
		if a := tries[answer](t, attacker, nil, "connect", socket); !strings.Contains(a.Dialled, "permission denied") {
			t.Errorf("connecting: %+v", a)
		}
		// The second line: whoever gets in all the same is not listened to.
		for path, mode := range map[string]fs.FileMode{filepath.Dir(folder): 0o755, folder: 0o755, socket: 0o666} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if a := tries[answer](t, attacker, nil, "connect", socket); a.Dialled != "" || a.Said != "" {
			t.Errorf("with every folder open: %+v", a)
		}
		for path, mode := range map[string]fs.FileMode{socket: 0o600, folder: 0o700, filepath.Dir(folder): 0o700} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if s := w.status(); s.Agent != "running" || !s.SignedIn {
			t.Errorf("the agent is %+v", s)
		}
	})
}

// listensNowhereElse holds that a process has one listener, its control socket: none
// on a port and none with an abstract name, which knows no permissions.
func listensNowhereElse(t *testing.T, pid int, w *workstation) {
	t.Helper()
	const inodeOfTCP, stateOfTCP, listening = 9, 3, "0A"
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		for _, fields := range tableOf(t, pid, table) {
			if len(fields) > inodeOfTCP && (fields[stateOfTCP] == listening || strings.HasPrefix(table, "udp")) && owns(t, pid, fields[inodeOfTCP]) {
				t.Errorf("it listens on %s %s", table, fields[1])
			}
		}
	}
	const inodeOfUnix, nameOfUnix, flagsOfUnix, accepts = 6, 7, 3, "00010000"
	var names []string
	for _, fields := range tableOf(t, pid, "unix") {
		if len(fields) > nameOfUnix && fields[flagsOfUnix] == accepts && owns(t, pid, fields[inodeOfUnix]) {
			names = append(names, fields[nameOfUnix])
		}
	}
	if want := []string{filepath.Join(w.dir, "run", "encounter-launcher-demo", "control.sock")}; !slices.Equal(names, want) {
		t.Errorf("it listens on %v, not %v", names, want)
	}
}

func tableOf(t *testing.T, pid int, name string) (rows [][]string) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		rows = append(rows, strings.Fields(lines.Text()))
	}
	return rows
}

func TestNobodyElseIsEverTakenForTheAgent(t *testing.T) {
	const name = "encounter-launcher-demo"
	inState := func(w *workstation) string { return filepath.Join(w.dir, "home", "state", name, "run") }
	for what, c := range map[string]struct {
		// prepare squats, and says what XDG_RUNTIME_DIR is and where the agent has to be;
		// an empty place means that there must be none.
		prepare func(t *testing.T, w *workstation) (runtime, place string)
	}{
		"no runtime folder": {func(_ *testing.T, w *workstation) (string, string) { return "", inState(w) }},
		"a runtime folder of another's, with a socket": {func(t *testing.T, w *workstation) (string, string) {
			theirs := attacker.folder(t, filepath.Join(w.dir, "theirs"), 0o777)
			w.squatted(t, filepath.Join(theirs, name, "control.sock"))
			return theirs, inState(w)
		}},
		"a shared folder with the sticky bit, with a socket": {func(t *testing.T, w *workstation) (string, string) {
			shared := root.folder(t, filepath.Join(w.dir, "shared"), 0o777|os.ModeSticky)
			w.squatted(t, filepath.Join(shared, name, "control.sock"))
			return shared, inState(w)
		}},
		"our own runtime folder, open to all, with a socket": {func(t *testing.T, w *workstation) (string, string) {
			ours := clinician.folder(t, filepath.Join(w.dir, "ours"), 0o777)
			w.squatted(t, filepath.Join(ours, name, "control.sock"))
			return ours, inState(w)
		}},
		"our own runtime folder that others may read": {func(t *testing.T, w *workstation) (string, string) {
			return clinician.folder(t, filepath.Join(w.dir, "ours"), 0o755), inState(w)
		}},
		"a link of another's to a folder of theirs": {func(t *testing.T, w *workstation) (string, string) {
			theirs := attacker.folder(t, filepath.Join(w.dir, "theirs"), 0o777)
			w.squatted(t, filepath.Join(theirs, name, "control.sock"))
			return w.linked(t, theirs), inState(w)
		}},
		"a link of another's to a folder of ours": {func(t *testing.T, w *workstation) (string, string) {
			return w.linked(t, clinician.folder(t, filepath.Join(w.dir, "ours"), 0o700)), inState(w)
		}},
		"a folder of root's": {func(t *testing.T, w *workstation) (string, string) {
			return root.folder(t, filepath.Join(w.dir, "roots"), 0o700), inState(w)
		}},
		"our own closed runtime folder": {func(t *testing.T, w *workstation) (string, string) {
			ours := clinician.folder(t, filepath.Join(w.dir, "ours"), 0o700)
			return ours, filepath.Join(ours, name)
		}},
		"our own closed runtime folder, in it a file of that name": {func(t *testing.T, w *workstation) (string, string) {
			ours := clinician.folder(t, filepath.Join(w.dir, "ours"), 0o700)
			clinician.file(t, filepath.Join(ours, name), "", 0o600)
			return ours, inState(w)
		}},
		"a state folder that another made first": {func(t *testing.T, w *workstation) (string, string) {
			shared := root.folder(t, filepath.Join(w.dir, "shared"), 0o777|os.ModeSticky)
			w.env = append(w.env, "XDG_STATE_HOME="+shared)
			attacker.folder(t, filepath.Join(shared, name), 0o777)
			w.squatted(t, filepath.Join(shared, name, "run", "control.sock"))
			return "", ""
		}},
		"a state folder that is another's link": {func(t *testing.T, w *workstation) (string, string) {
			shared := root.folder(t, filepath.Join(w.dir, "shared"), 0o777|os.ModeSticky)
			w.env = append(w.env, "XDG_STATE_HOME="+shared)
			theirs := attacker.folder(t, filepath.Join(w.dir, "theirs"), 0o777)
			w.squatted(t, filepath.Join(theirs, "run", "control.sock"))
			link := filepath.Join(shared, name)
			if err := os.Symlink(theirs, link); err != nil {
				t.Fatal(err)
			}
			if err := os.Lchown(link, int(attacker), attacker.group()); err != nil {
				t.Fatal(err)
			}
			return "", ""
		}},
		"our own state folder, open to all, with a socket": {func(t *testing.T, w *workstation) (string, string) {
			state := clinician.folder(t, filepath.Join(w.dir, "home", "state", name), 0o777)
			w.squatted(t, filepath.Join(state, "run", "control.sock"))
			return "", ""
		}},
	} {
		t.Run(what, func(t *testing.T) {
			w := logOn(t, "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent")
			w.t = t
			runtime, place := c.prepare(t, w)
			w.env = append(w.env, "XDG_RUNTIME_DIR="+runtime)
			link := name + "://launch?handle=" + strings.Repeat("A", 32)
			if place == "" {
				if code, said := w.run("agent"); code == 0 || strings.Contains(said, w.dir) {
					t.Errorf("an agent ended with %d: %s", code, said)
				}
				if code, said := w.run(link); code != 3 || strings.Contains(said, "AAAA") {
					t.Errorf("the link ended with %d: %s", code, said)
				}
				w.nothingHeard(t)
				return
			}
			// The link starts the agent, as for a person.
			if code, said := w.run(link); code != 2 && code != 0 {
				t.Errorf("the link ended with %d: %s", code, said)
			}
			t.Cleanup(func() { w.run("quit") })
			if s := w.status(); s.Agent != "running" {
				t.Errorf("the agent is %q", s.Agent)
			}
			info, err := os.Lstat(filepath.Join(place, "control.sock"))
			if err != nil || info.Mode() != fs.ModeSocket|0o600 {
				t.Errorf("the socket is %v, %v", info, err)
			}
			if folder, err := os.Lstat(place); err != nil || folder.Mode() != fs.ModeDir|0o700 {
				t.Errorf("its folder is %v, %v", folder, err)
			}
			if a := tries[answer](t, attacker, nil, "connect", filepath.Join(place, "control.sock")); a.Dialled == "" {
				t.Errorf("another user was let in: %+v", a)
			}
			w.nothingHeard(t)
		})
	}
}

// squatted has the attacker listen on a socket.
func (w *workstation) squatted(t *testing.T, socket string) {
	t.Helper()
	heard := filepath.Join(attacker.folder(t, filepath.Join(w.dir, "heard"), 0o777), "lines")
	running(t, attacker.command([]string{role + "=squat"}, filepath.Join(bin, "tries"), socket, heard))
	until(t, "the squatter", func() bool { text, _ := os.ReadFile(heard); return len(text) > 0 })
	// Whoever is root or the same user would be answered: it can be reached.
	tries[any](t, attacker, nil, "dial", socket)
	if err := os.Truncate(heard, 0); err != nil {
		t.Fatal(err)
	}
}

// nothingHeard holds that a squatter, where there is one, was sent nothing.
func (w *workstation) nothingHeard(t *testing.T) {
	t.Helper()
	if text, _ := os.ReadFile(filepath.Join(w.dir, "heard", "lines")); len(text) > 0 {
		t.Errorf("the squatter heard %s", text)
	}
}

// linked is a link of the attacker's.
func (w *workstation) linked(t *testing.T, to string) string {
	t.Helper()
	link := filepath.Join(w.dir, "link")
	if err := os.Symlink(to, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, int(attacker), attacker.group()); err != nil {
		t.Fatal(err)
	}
	return link
}

func TestAnotherUserWhoHasReadTheStateOfASignInHandsNothingIn(t *testing.T) {
	w := logOn(t)
	w.session()
	w.serve()
	w.agent()
	if code, said := w.run(w.press("1")); code != 0 {
		t.Fatalf("%d: %s", code, said)
	}
	page := w.opened(1)
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	// The worst that such a person can do: they sign in themselves, for the challenge,
	// the nonce and the state of this very page, and so have a code that fits.
	way := tries[visit](t, attacker, nil, "browse", page)
	answered := ""
	for _, at := range way.Trail {
		if strings.HasPrefix(at, u.Query().Get("redirect_uri")+"?") {
			answered = at
		}
	}
	if answered == "" || way.Status != http.StatusForbidden {
		t.Fatalf("their browser ended at %d after %v", way.Status, way.Trail)
	}
	// Again, by hand, and many times.
	for range 20 {
		if v := tries[visit](t, attacker, nil, "get", answered); v.Status != http.StatusForbidden {
			t.Errorf("their answer was taken: %d", v.Status)
		}
	}
	if s := w.status(); s.SignedIn || s.Launch == nil || s.Launch.Stage != "signing_in" {
		t.Errorf("the wait has ended: %+v", s)
	}
	// The clinician's own browser still may.
	if at := tries[visit](t, clinician, nil, "browse", page); at.Status != http.StatusOK {
		t.Errorf("the sign-in ended at %d", at.Status)
	}
	w.opened(2)
	until(t, "the sign-in", func() bool { return w.status().SignedIn })
}

func TestWhatAnotherUserPutsWhereProgramsAreLookedForIsNotStarted(t *testing.T) {
	w := logOn(t)
	w.serve()
	open := root.folder(t, filepath.Join(w.dir, "open"), 0o777|os.ModeSticky)
	ran := filepath.Join(w.dir, "run", "planted-ran")
	for _, name := range []string{"xdg-open", "x-www-browser", "www-browser", "dbus-launch", "dbus-daemon", "xdg-mime", "update-desktop-database", "sh", "gio", "encounter-launcher-demo", "encounter-launcher-demo-window"} {
		attacker.file(t, filepath.Join(open, name), "#!/bin/sh\necho "+name+" \"$@\" >>"+ran+"\n", 0o755)
	}
	installed := filepath.Join(w.dir, "opt")
	w.env = append(w.env, "PATH="+open+"::.:"+installed+":/usr/bin:/bin", "LD_PRELOAD="+filepath.Join(open, "evil.so"), "LD_LIBRARY_PATH="+open, "GOCOVERDIR="+open)
	w.agent()
	w.signIn()
	if text, err := os.ReadFile(ran); err == nil {
		t.Errorf("what another user planted was started: %s", text)
	}
	if could := tries[[]string](t, attacker, lines(below(t, installed)), "look"); slices.ContainsFunc(could, func(can string) bool { return !strings.HasPrefix(can, "read ") }) {
		t.Errorf("beside the program another user could %v", could)
	}
	// LD_PRELOAD and its like are for a dynamic linker, which the program does not have.
	f, err := elf.Open(w.launcher)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 || f.Section(".interp") != nil {
		t.Errorf("it is linked with %v, %v", libraries, err)
	}
}
