package tokenstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"

	"github.com/godbus/dbus/v5"
)

const keyringPassword = "the person's password"

// startBus starts a session bus of its own, without activation of services, and
// makes it that of this process until the test ends.
func startBus(t *testing.T) {
	t.Helper()
	need(t, "dbus-daemon")
	dir, err := os.MkdirTemp("", "bus") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := filepath.Join(dir, "bus.conf")
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=` + dir + `/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("dbus-daemon", "--nofork", "--print-address=1", "--config-file="+config)
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	address := make([]byte, 4096)
	n, err := out.Read(address)
	if err != nil {
		t.Fatal("the session bus did not start")
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", strings.TrimSpace(string(address[:n])))
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("HOME", dir)
	t.Setenv("XDG_DATA_HOME", dir+"/data")
	conn, err := dbus.SessionBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		// godbus shares one connection in a process: the next test must not get it.
		<-conn.Context().Done()
	})
}

// startKeyring starts a gnome-keyring-daemon on the current bus. An empty
// password starts it as a session without a login keyring does.
func startKeyring(t *testing.T, password string) {
	t.Helper()
	need(t, "gnome-keyring-daemon")
	if err := os.MkdirAll(os.Getenv("XDG_DATA_HOME"), 0o700); err != nil {
		t.Fatal(err)
	}
	arguments := []string{"--foreground", "--components=secrets", "--control-directory=" + os.Getenv("XDG_RUNTIME_DIR") + "/keyring"}
	if password != "" {
		arguments = append(arguments, "--unlock")
	}
	owned := awaitName(t, secretsName)
	daemon := exec.Command("gnome-keyring-daemon", arguments...)
	daemon.Env = append(os.Environ(), "DISPLAY=", "WAYLAND_DISPLAY=")
	daemon.Stdin = strings.NewReader(password)
	var said strings.Builder
	daemon.Stderr = &said
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = daemon.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		<-ended
	})
	select {
	case <-owned:
	case <-ended:
		t.Fatalf("gnome-keyring-daemon ended: %s", said.String())
	}
}

// awaitName returns a channel that is closed once somebody owns the name.
func awaitName(t *testing.T, name string) <-chan struct{} {
	t.Helper()
	conn, err := dbus.ConnectSessionBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.AddMatchSignal(dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)); err != nil {
		t.Fatal(err)
	}
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	owned := make(chan struct{})
	go func() {
		for s := range signals {
			if s.Name == "org.freedesktop.DBus.NameOwnerChanged" && len(s.Body) == 3 && s.Body[0] == name && s.Body[2] != "" {
				close(owned)
				return
			}
		}
	}()
	return owned
}

// need fails the test, and never skips it silently, when a program is missing.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if testing.Short() {
			t.Skipf("-short was given and %s is not installed", program)
		}
		t.Fatalf("%s is not installed, so the real keyring was not tested; install it, or say -short to go without", program)
	}
}

func lockKeyring(t *testing.T) {
	t.Helper()
	conn, err := dbus.SessionBus()
	if err != nil {
		t.Fatal(err)
	}
	var done []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err = conn.Object(secretsName, secretsPath).Call(serviceFace+".Lock", 0, []dbus.ObjectPath{loginPath}).Store(&done, &prompt)
	if err != nil || len(done) != 1 {
		t.Fatalf("locking: %v, %v", done, err)
	}
}

func unlockKeyring(t *testing.T) {
	t.Helper()
	conn, err := dbus.SessionBus()
	if err != nil {
		t.Fatal(err)
	}
	var ignored dbus.Variant
	var session dbus.ObjectPath
	service := conn.Object(secretsName, secretsPath)
	if err := service.Call(serviceFace+".OpenSession", 0, "plain", dbus.MakeVariant("")).Store(&ignored, &session); err != nil {
		t.Fatal(err)
	}
	master := struct {
		Session     dbus.ObjectPath
		Parameters  []byte
		Value       []byte
		ContentType string
	}{session, []byte{}, []byte(keyringPassword), "text/plain"}
	// What the login does by PAM; it has no other door without a display.
	if err := service.Call("org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.UnlockWithMasterPassword", 0, dbus.ObjectPath(loginPath), master).Err; err != nil {
		t.Fatal(err)
	}
}

func TestTheRealKeyringConforms(t *testing.T) {
	startBus(t)
	startKeyring(t, keyringPassword)
	conformance(t, OS())
	if err := newStore(t, OS()).Probe(context.Background()); err != nil {
		t.Error(err)
	}
	for i := range 4 {
		if _, err := OS().Get(testService, probeItem(i)); !errors.Is(err, ErrNotFound) {
			t.Errorf("item %d of the probe is left: %v", i, err)
		}
	}
}

func TestALockedRealKeyringIsLockedAndOpensAgainWithEverythingInIt(t *testing.T) {
	ctx := context.Background()
	startBus(t)
	startKeyring(t, keyringPassword)
	s := newStore(t, OS())
	want := save(t, s, entryOf(5000, "a"))
	lockKeyring(t)
	_, found, loadErr := s.Load(ctx)
	_, saveErr := s.Save(ctx, entryOf(20, "b"))
	_, secretErr := s.Secret(ctx, "recents", func() (secret.Text, error) {
		t.Error("a secret was made")
		return secret.New("x"), nil
	})
	for _, err := range []error{loadErr, saveErr, secretErr, s.Delete(ctx), s.Probe(ctx)} {
		if problem.CodeOf(err) != problem.KeyringLocked {
			t.Errorf("got %v: %v", err, problem.Of(err).LogValue())
		}
	}
	if found {
		t.Error("found in a locked keyring")
	}
	unlockKeyring(t)
	if got, found, err := s.Load(ctx); err != nil || !found || !sameEntry(got, want) {
		t.Errorf("after unlocking: found %v, %v", found, err)
	}
}

// prompter stands where the desktop's password prompt stands, shows nothing and
// never answers: a person who is not there.
type prompter struct{ asked chan struct{} }

func (p *prompter) BeginPrompting(dbus.ObjectPath) *dbus.Error {
	p.asked <- struct{}{}
	return nil
}

func (p *prompter) StopPrompting(dbus.ObjectPath) *dbus.Error { return nil }

func TestALockedRealKeyringThatWaitsForThePersonIsLockedAtTheDeadline(t *testing.T) {
	ctx := context.Background()
	startBus(t)
	startKeyring(t, keyringPassword)
	conn, err := dbus.ConnectSessionBus()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := &prompter{asked: make(chan struct{}, 100)}
	if err := conn.Export(p, "/org/gnome/keyring/Prompter", "org.gnome.keyring.internal.Prompter"); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName("org.gnome.keyring.SystemPrompter", 0); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("%v, %v", reply, err)
	}
	s := newStore(t, OS())
	save(t, s, entryOf(20, "a"))
	lockKeyring(t)
	waited := make(chan error, 1)
	asking, cancel := context.WithCancel(ctx)
	go func() { _, _, err := s.Load(asking); waited <- err }()
	<-p.asked
	hasty := *s // the same calls, less patience
	hasty.deadline = 50 * time.Millisecond
	for range 5 {
		if _, found, err := hasty.Load(ctx); found || problem.CodeOf(err) != problem.KeyringLocked {
			t.Errorf("found %v, %v", found, err)
		}
	}
	if n := len(p.asked); n != 0 {
		t.Errorf("the person was asked %d more times", n)
	}
	cancel()
	if err := <-waited; problem.CodeOf(err) != problem.Cancelled {
		t.Errorf("got %v", err)
	}
}

func TestTwoProcessesMakeOneSecretInTheRealKeyring(t *testing.T) {
	startBus(t)
	startKeyring(t, keyringPassword)
	lockFile := filepath.Join(t.TempDir(), "user.lock")
	values := make([]string, 4)
	var all sync.WaitGroup
	for i := range values {
		all.Go(func() {
			out, err := process("secret", lockFile).Output()
			if err != nil {
				t.Error(err)
			}
			values[i] = string(out)
		})
	}
	all.Wait()
	for _, v := range values {
		if v == "" || v != values[0] {
			t.Errorf("the processes have %q", values)
		}
	}
}

func TestABusWithoutAKeyringIsUnavailable(t *testing.T) {
	startBus(t)
	mustBeUnavailable(t)
}

func TestAKeyringServiceWithoutACollectionIsUnavailableAndNotLocked(t *testing.T) {
	startBus(t)
	startKeyring(t, "")
	mustBeUnavailable(t)
}

func TestABusThatIsGoneIsUnavailable(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "nothing"))
	mustBeUnavailable(t)
}

func mustBeUnavailable(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	s := newStore(t, OS())
	_, found, loadErr := s.Load(ctx)
	_, saveErr := s.Save(ctx, entryOf(20, "a"))
	_, secretErr := s.Secret(ctx, "recents", func() (secret.Text, error) { return secret.New("x"), nil })
	for i, err := range []error{loadErr, saveErr, secretErr, s.Delete(ctx)} {
		if problem.CodeOf(err) != problem.KeyringUnavailable {
			t.Errorf("call %d: got %v: %v", i, err, problem.Of(err).LogValue())
		}
	}
	if found {
		t.Error("found without a keyring")
	}
}

func TestWithoutASessionBusNoneIsStarted(t *testing.T) {
	dir := t.TempDir()
	for address, want := range map[string]bool{"": false, "autolaunch:": false, "unix:path=/x": true} {
		if got := hasSessionBus(address, dir); got != want {
			t.Errorf("address %q: %v", address, got)
		}
	}
	if err := os.WriteFile(dir+"/bus", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !hasSessionBus("", dir) {
		t.Error("the user's bus is not seen")
	}
}

func TestAnUnknownErrorOfALockedServiceIsLocked(t *testing.T) {
	named := fmt.Errorf("wrapped: %w", dbus.Error{Name: isLockedName})
	if err := classify(named); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	startBus(t)
	startKeyring(t, keyringPassword)
	if err := classify(io.ErrUnexpectedEOF); !errors.Is(err, ErrUnavailable) {
		t.Errorf("open keyring: %v", err)
	}
	lockKeyring(t)
	if err := classify(io.ErrUnexpectedEOF); !errors.Is(err, ErrLocked) {
		t.Errorf("locked keyring: %v", err)
	}
}

func TestThePlainCaseIsReadShortlyAndEveryOtherIsLeftToTheLibrary(t *testing.T) {
	startBus(t)
	if _, ok := shortcut(testService, "one"); ok {
		t.Error("read without a keyring")
	}
	startKeyring(t, keyringPassword)
	if _, ok := shortcut(testService, "one"); ok {
		t.Error("read what is not there")
	}
	for user, value := range map[string]string{"one": "the value of one", "two": "the value of two"} {
		if err := OS().Set(testService, user, value); err != nil {
			t.Fatal(err)
		}
	}
	if value, ok := shortcut(testService, "one"); !ok || value != "the value of one" {
		t.Errorf("%q, %v", value, ok)
	}
	if _, ok := shortcut(testService+"-of-another", "one"); ok {
		t.Error("read of another service")
	}
	lockKeyring(t)
	if _, ok := shortcut(testService, "one"); ok {
		t.Error("read from a locked keyring")
	}
	unlockKeyring(t)
	if value, ok := shortcut(testService, "two"); !ok || value != "the value of two" {
		t.Errorf("after unlocking: %q, %v", value, ok)
	}
}
