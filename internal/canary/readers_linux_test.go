package canary

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// eventually waits for something that another process or goroutine does.
func eventually(t *testing.T, what string, there func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !there(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// holds reports in which places the evidence has a mark.
func holds(e *evidence) map[PlaceName]bool {
	s := NewSearcher(testMarks())
	e.search(s)
	found := map[PlaceName]bool{}
	for _, f := range s.finds {
		found[f.Place] = true
	}
	return found
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAMarkIsFoundInAFileInItsNameAndInWhatALinkPointsTo(t *testing.T) {
	for what, plant := range map[string]func(t *testing.T, dir string){
		"a file":        func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a", "b"), "x "+testToken) },
		"a name":        func(t *testing.T, dir string) { write(t, filepath.Join(dir, "a", testToken+".json"), "x") },
		"a folder":      func(t *testing.T, dir string) { write(t, filepath.Join(dir, testToken, "b"), "x") },
		"a hidden file": func(t *testing.T, dir string) { write(t, filepath.Join(dir, ".a", ".b"), testToken) },
		"a link": func(t *testing.T, dir string) {
			if err := os.Symlink("/nowhere/"+testToken, filepath.Join(dir, "a")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "z"), "nothing")
		e := newEvidence()
		e.files(dir, func(string) PlaceName { return UserFiles })
		if found := holds(e); len(found) != 0 {
			t.Errorf("nothing is planted, and found in %v", found)
		}
		plant(t, dir)
		e.files(dir, func(string) PlaceName { return UserFiles })
		if !holds(e)[UserFiles] {
			t.Errorf("%s: not found", what)
		}
	}
}

func TestAMarkIsFoundInAFileThatWasThereForAMomentOnly(t *testing.T) {
	dir, keep := t.TempDir(), t.TempDir()
	f, err := watchFleeting(keep, func(string) PlaceName { return FleetingFiles }, dir)
	if err != nil {
		t.Fatal(err)
	}
	passing := filepath.Join(dir, "new", "folder", "passing")
	write(t, passing, "")
	eventually(t, "the second name", func() bool { return f.held.Load() == 1 })
	write(t, passing, testToken) // as whoever has it open goes on writing
	if err := os.RemoveAll(filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	e := newEvidence()
	f.close(e)
	if !holds(e)[FleetingFiles] {
		t.Error("not found")
	}
	if left, _ := os.ReadDir(keep); len(left) > 0 {
		t.Errorf("%d files are left", len(left))
	}
}

func TestAMarkIsFoundInArgumentsAndEnvironmentOfWhateverRunsAndOthersAreLeftAlone(t *testing.T) {
	carries := "CANARY_TEST=" + t.TempDir()
	for _, c := range []struct {
		env, arg string
		want     PlaceName
	}{
		{carries, testToken, OpenerArgv}, {carries + "\x00A=" + testToken, "x", OpenerEnv}, {"B=" + testToken, testToken, ""},
	} {
		// The shell goes on to a program that waits for its input to end.
		cmd := exec.Command("/bin/sh", "-c", `echo "$1"; read x; exit`, "sh", c.arg)
		cmd.Env = strings.Split(c.env, "\x00")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		e := newEvidence()
		p := &processes{evidence: e, carries: []byte(carries + "\x00"), roleOf: func([]string) role { return role{OpenerArgv, OpenerEnv} }}
		p.look(map[string]bool{})
		found := holds(e)
		if c.want != "" && !found[c.want] || len(found) > 1 || c.want == "" && len(found) > 0 {
			t.Errorf("found in %v, not in %q", found, c.want)
		}
		_ = in.Close()
		_ = cmd.Wait()
	}
}

// privateBus is a session bus of the test's own.
func privateBus(t *testing.T) (socket string) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "bus")
	config := filepath.Join(dir, "bus.conf")
	write(t, config, fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`, socket))
	cmd := exec.Command("dbus-daemon", "--nofork", "--print-address=1", "--config-file="+config)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return socket
}

func connect(t *testing.T, socket string) *dbus.Conn {
	t.Helper()
	c, err := dbus.Connect("unix:path=" + socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// keeper answers with what it was given, as a keyring does.
type keeper struct{}

func (keeper) GetSecret(text string) (string, *dbus.Error) {
	return strings.ToLower(text) + testToken, nil
}

func TestAMarkIsFoundInWhateverIsSaidOnTheBusAndToldApartByWhomItIsSaidTo(t *testing.T) {
	for want, say := range map[PlaceName]func(us, them *dbus.Conn) error{
		BusNotices: func(us, _ *dbus.Conn) error {
			return us.Object(noticesName, "/org/freedesktop/Notifications").Call(noticesName+".Notify", 0, testName).Err
		},
		BusTray: func(us, _ *dbus.Conn) error {
			return us.Emit("/MenuBar", "com.canonical.dbusmenu.ItemsPropertiesUpdated", map[string]dbus.Variant{"label": dbus.MakeVariant(testName)})
		},
		// An answer does not say of itself what it is about.
		BusKeyring: func(us, _ *dbus.Conn) error {
			return us.Object(keyringName, "/org/freedesktop/secrets/x").Call("org.freedesktop.Secret.Item.GetSecret", 0, "x").Err
		},
		BusOther: func(us, _ *dbus.Conn) error {
			return us.Emit("/somewhere", "org.example.Thing.Happened", []byte(testToken))
		},
	} {
		socket := privateBus(t)
		e := newEvidence()
		m, err := monitorBus(socket, e)
		if err != nil {
			t.Fatal(err)
		}
		us, them := connect(t, socket), connect(t, socket)
		if err := them.Export(keeper{}, "/org/freedesktop/secrets/x", "org.freedesktop.Secret.Item"); err != nil {
			t.Fatal(err)
		}
		if _, err := them.RequestName(keyringName, dbus.NameFlagDoNotQueue); err != nil {
			t.Fatal(err)
		}
		// Nobody takes notices on this bus; what was said was said all the same.
		if err := say(us, them); err != nil && want != BusNotices {
			t.Fatal(err)
		}
		eventually(t, string(want), func() bool { return holds(e)[want] })
		if found := holds(e); len(found) != 1 {
			t.Errorf("%s: found in %v", want, found)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestABusThatEndsBeforeTheSearchIsTold(t *testing.T) {
	socket := privateBus(t)
	m, err := monitorBus(socket, newEvidence())
	if err != nil {
		t.Fatal(err)
	}
	_ = m.conn.Close()
	m.done.Wait()
	if m.close() == nil {
		t.Error("what was not heard to the end is taken for the whole")
	}
}
