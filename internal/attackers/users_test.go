//go:build attackers && linux

package attackers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// account is an ordinary user of the computer, by number.
type account int

// Two of the users without rights that every Linux has, so that the session bus knows
// them and the computer's list of users stays as it is. Their groups are nobody's.
var clinician, attacker = account(-1), account(-1)

func (a account) group() int {
	if a == root {
		return 0
	}
	return 61000 + int(a)
}

const root = account(0)

// patience bounds everything that is waited for.
const patience = 60 * time.Second

// bin holds the programs and this test's own, for everybody to run.
var bin string

// role is the variable that turns this program into one that tries something.
const role = "ATTACKERS_ROLE"

func TestMain(m *testing.M) {
	if do := os.Getenv(role); do != "" {
		os.Exit(play(do, os.Args[1:]))
	}
	os.Exit(prepare(m))
}

func prepare(m *testing.M) int {
	if os.Getuid() != 0 {
		fmt.Println("NOT TRIED: what another user of the computer can do; becoming two users needs root (make test-attackers).")
		return 1
	}
	for name, a := range map[string]*account{"games": &clinician, "nobody": &attacker} {
		known, err := user.Lookup(name)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		uid, err := strconv.Atoi(known.Uid)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		*a = account(uid)
	}
	dir, err := os.MkdirTemp("", "attackers.")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = filepath.Join(dir, "bin")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(bin, 0o755), build()); err != nil {
		fmt.Println(err)
		return 1
	}
	// The worst that a session can hand down: whatever is closed, the programs close.
	syscall.Umask(0)
	return m.Run()
}

func build() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bin, "tries"), text, 0o755); err != nil {
		return err
	}
	const flavour = "-X encounterlauncher/internal/ground.flavour=demo"
	for name, args := range map[string][]string{
		"encounter-launcher-demo":    {"-ldflags", flavour, "."},
		"encounter-launcher-sandbox": {"./internal/cmd/sandbox"},
		"org-backend":                {"./internal/cmd/org-backend"},
		"desktop":                    {"./internal/cmd/e2e-desktop"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-o", filepath.Join(bin, name)}, args...)...)
		cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

// command prepares a program as a user, in the root folder and without any group.
func (u account) command(env []string, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir = env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u), Gid: uint32(u.group())}, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// tries has a process of a user do one of the roles, and reads what it found.
func tries[T any](t *testing.T, u account, in io.Reader, do string, args ...string) (found T) {
	t.Helper()
	cmd := u.command([]string{role + "=" + do, "PATH=/usr/bin:/bin"}, filepath.Join(bin, "tries"), args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = in, &said
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &found)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", do, err, out, &said)
	}
	return found
}

// folder makes a folder of a user with exactly this mode.
func (u account) folder(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, int(u), u.group()), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// file writes a file of a user with exactly this mode.
func (u account) file(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chown(path, int(u), u.group()), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// place is a folder that everybody can enter, for one test.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(bin), "test.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// running starts a program that is ended with the test, by its id.
func running(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	return cmd
}

// until looks again and again until ok says so.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s in vain", what)
		case <-look.C:
		}
	}
}

// workstation is a session of the clinician: folders, session bus, keyring, the
// sandbox's servers, and an opener that records what it is given.
type workstation struct {
	t        *testing.T
	dir      string
	env      []string
	launcher string
	at       struct{ EHR, Issuer, Backend, Nabla, Control string }
}

// logOn makes a session. more comes behind the environment.
func logOn(t *testing.T, more ...string) *workstation {
	t.Helper()
	w := &workstation{t: t, dir: place(t)}
	home := clinician.folder(t, filepath.Join(w.dir, "home"), 0o755)
	run := clinician.folder(t, filepath.Join(w.dir, "run"), 0o700)
	// Installed beside what it starts, as a package does it; each records its start.
	installed := filepath.Join(w.dir, "opt")
	if err := os.Mkdir(installed, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(bin, "encounter-launcher-demo"))
	if err != nil {
		t.Fatal(err)
	}
	w.launcher = root.file(t, filepath.Join(installed, "encounter-launcher-demo"), string(text), 0o755)
	root.file(t, w.launcher+"-window", "#!/bin/sh\necho window >>"+w.record("windows")+"\n", 0o755)
	root.file(t, filepath.Join(installed, "xdg-open"), "#!/bin/sh\nprintf '%s\\n' \"$1\" >>"+w.record("opened")+"\n", 0o755)
	w.env = append([]string{
		"PATH=" + installed + ":/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + home, "XDG_RUNTIME_DIR=" + run,
		"XDG_STATE_HOME=" + clinician.folder(t, filepath.Join(home, "state"), 0o755),
		"XDG_CONFIG_HOME=" + clinician.folder(t, filepath.Join(home, "config"), 0o755),
		"XDG_DATA_HOME=" + clinician.folder(t, filepath.Join(home, "data"), 0o755),
		"XDG_CACHE_HOME=" + clinician.folder(t, filepath.Join(home, "cache"), 0o755),
		"TMPDIR=" + clinician.folder(t, filepath.Join(w.dir, "tmp"), 0o755),
	}, more...)
	return w
}

// record is a file that what is started writes to.
func (w *workstation) record(name string) string { return filepath.Join(w.dir, "run", name) }

// recorded are the lines of a record.
func (w *workstation) recorded(name string) []string {
	text, err := os.ReadFile(w.record(name))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}

// session starts a bus and an unlocked keyring.
func (w *workstation) session() {
	w.t.Helper()
	bus := filepath.Join(w.dir, "run", "bus")
	cmd := clinician.command(w.env, "dbus-daemon", "--session", "--nofork", "--nopidfile", "--address=unix:path="+bus)
	running(w.t, cmd)
	w.env = append(w.env, "DBUS_SESSION_BUS_ADDRESS=unix:path="+bus)
	until(w.t, "the bus", func() bool { _, err := os.Stat(bus); return err == nil })
	keyring := clinician.command(w.env, "gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	keyring.Stdin = strings.NewReader("the password of the run")
	running(w.t, keyring)
	until(w.t, "the keyring", func() bool {
		store := clinician.command(w.env, "secret-tool", "store", "--label=probe", "probe", "probe")
		store.Stdin = strings.NewReader("probe")
		return store.Run() == nil
	})
}

// serve starts the sandbox's servers; they write the policy.
func (w *workstation) serve() {
	w.t.Helper()
	file := filepath.Join(w.dir, "run", "addresses")
	cmd := clinician.command(w.env, filepath.Join(bin, "encounter-launcher-sandbox"), "--no-launcher", "--no-browser", "--addresses", file)
	cmd.Stderr = os.Stderr
	running(w.t, cmd)
	until(w.t, "the servers", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(text, &w.at) == nil && w.at.EHR != ""
	})
}

// agent starts the launcher's agent and waits until it answers.
func (w *workstation) agent() *exec.Cmd {
	w.t.Helper()
	cmd := running(w.t, clinician.command(w.env, w.launcher, "agent"))
	until(w.t, "the agent", func() bool { return w.status().Agent == "running" })
	return cmd
}

// run runs the launcher once as the clinician.
func (w *workstation) run(args ...string) (status int, said string) {
	cmd := clinician.command(w.env, w.launcher, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode(), string(out)
	case err != nil:
		w.t.Fatal(err)
	}
	return 0, string(out)
}

type status struct {
	Agent    string
	SignedIn bool `json:"signed_in"`
	Launch   *struct{ ID, Stage, Code string }
	Recents  int
}

func (w *workstation) status() (s status) {
	out, _ := clinician.command(w.env, w.launcher, "status", "--json").Output()
	_ = json.Unmarshal(out, &s)
	return s
}

// press presses a button of the EHR and returns the link.
func (w *workstation) press(button string) string {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.at.EHR+"/press/"+button, strings.NewReader(`{"clinician":"ada"}`))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Origin", w.at.EHR)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct{ Link string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Link == "" {
		w.t.Fatalf("no link: %v", err)
	}
	return answer.Link
}

// opened waits until so many addresses have been handed to the browser in all, and
// returns the last.
func (w *workstation) opened(n int) string {
	w.t.Helper()
	until(w.t, fmt.Sprintf("%d addresses to be opened", n), func() bool { return len(w.recorded("opened")) >= n })
	lines := w.recorded("opened")
	if len(lines) != n {
		w.t.Fatalf("%d addresses were opened, not %d", len(lines), n)
	}
	return lines[n-1]
}

// signIn has the clinician press a button, sign in on the page, and get the encounter.
func (w *workstation) signIn() {
	w.t.Helper()
	before := len(w.recorded("opened"))
	if code, said := w.run(w.press("1")); code != 0 {
		w.t.Fatalf("%d: %s", code, said)
	}
	page := w.opened(before + 1)
	if at := tries[visit](w.t, clinician, nil, "browse", page); at.Status != http.StatusOK {
		w.t.Fatalf("the sign-in ended at %d", at.Status)
	}
	w.opened(before + 2)
	until(w.t, "the encounter", func() bool { s := w.status(); return s.SignedIn && s.Recents > 0 })
}
