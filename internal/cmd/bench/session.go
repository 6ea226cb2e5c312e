//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
	"golang.org/x/sys/unix"
)

// patience bounds everything that is waited for: far longer than a loaded machine
// takes, short enough for somebody who looks on.
const patience = 30 * time.Second

// session is a desktop session of the bench's own: folders, bus, keyring, tray
// host and display. Whatever is started in it ends with it.
type session struct {
	dir     string
	env     []string
	started []*exec.Cmd
	notes   *notes
	bus     *dbus.Conn
}

func newSession(ctx context.Context, dir string, b built, w *world) (_ *session, err error) {
	// A process that detaches itself, as the agent does, becomes this one's child
	// and can be waited for.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("becoming the parent of detached processes: %w", err)
	}
	s := &session{dir: dir}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	s.env = []string{
		"PATH=" + b.bin + ":/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "NO_AT_BRIDGE=1",
		"BENCH_NOTES=" + filepath.Join(dir, "notes"), "BENCH_SERVER=" + filepath.Join(dir, "server"),
		"BENCH_CA=" + w.caFile, "BENCH_TOKEN=" + w.scriptToken, "BENCH_BACKEND=" + w.backend,
	}
	for name, folder := range map[string]string{
		"HOME": "home", "XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state",
		"XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache",
	} {
		folder = filepath.Join(dir, folder)
		if err := os.Mkdir(folder, 0o700); err != nil {
			return nil, err
		}
		s.env = append(s.env, name+"="+folder)
	}
	if s.notes, err = listenNotes(filepath.Join(dir, "notes")); err != nil {
		return nil, err
	}
	if err := serveLines(filepath.Join(dir, "server")); err != nil {
		return nil, err
	}
	if err := s.startBus(ctx); err != nil {
		return nil, err
	}
	if err := s.startKeyring(ctx); err != nil {
		return nil, err
	}
	if err := s.hostTray(); err != nil {
		return nil, fmt.Errorf("offering a tray: %w", err)
	}
	return s, s.startDisplay(ctx)
}

// command prepares a program that sees this session and nothing of the person's.
func (s *session) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = s.env, s.dir
	return cmd
}

func (s *session) start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	s.started = append(s.started, cmd)
	return nil
}

// startAndHear starts a program and returns the first line that it prints.
func (s *session) startAndHear(cmd *exec.Cmd) (string, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := s.start(cmd); err != nil {
		return "", err
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		return "", errors.New("it ended without a word")
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return strings.TrimSpace(line), nil
}

// startBus starts a bus that activates no services: only what the bench starts is
// on it.
func (s *session) startBus(ctx context.Context) error {
	config := filepath.Join(s.dir, "bus.conf")
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=` + s.dir + `/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	address, err := s.startAndHear(s.command(ctx, "dbus-daemon", "--nofork", "--print-address=1", "--config-file="+config))
	if err != nil {
		return fmt.Errorf("starting a session bus: %w", err)
	}
	s.env = append(s.env, "DBUS_SESSION_BUS_ADDRESS="+address)
	if s.bus, err = dbus.Connect(address); err != nil {
		return fmt.Errorf("connecting to the session bus: %w", err)
	}
	return nil
}

// tray is the other end of a tray icon: it takes every one and shows none.
type tray struct{}

// RegisterStatusNotifierItem is called by the agent.
func (tray) RegisterStatusNotifierItem(string) *dbus.Error { return nil }

func (s *session) hostTray() error {
	const name, path = "org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher"
	if err := s.bus.Export(tray{}, path, name); err != nil {
		return err
	}
	if _, err := prop.Export(s.bus, path, prop.Map{name: {"IsStatusNotifierHostRegistered": {Value: true, Emit: prop.EmitTrue}}}); err != nil {
		return err
	}
	reply, err := s.bus.RequestName(name, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = errors.New("the name is taken")
	}
	return err
}

func (s *session) startKeyring(ctx context.Context) error {
	cmd := s.command(ctx, "gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets", "--control-directory="+filepath.Join(s.dir, "run", "keyring"))
	cmd.Stdin = strings.NewReader("bench")
	if err := s.start(cmd); err != nil {
		return fmt.Errorf("starting a keyring: %w", err)
	}
	return await(ctx, "the keyring", func() bool {
		var there bool
		err := s.bus.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, "org.freedesktop.secrets").Store(&there)
		return err == nil && there
	})
}

func (s *session) startDisplay(ctx context.Context) error {
	// With -displayfd the server chooses a free number itself and says it when it
	// is ready. Without -noreset it starts anew, and answers nobody meanwhile,
	// whenever its last client leaves.
	number, err := s.startAndHear(s.command(ctx, "Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset"))
	if err != nil {
		return fmt.Errorf("starting a display: %w", err)
	}
	s.env = append(s.env, "DISPLAY=:"+number)
	return nil
}

// close ends what was started, the newest first, and what became this process's
// child on the way.
func (s *session) close() error {
	if s.bus != nil {
		_ = s.bus.Close()
	}
	for _, cmd := range slices.Backward(s.started) {
		end(cmd)
	}
	for _, pid := range children(os.Getpid()) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for {
		if pid, err := syscall.Wait4(-1, nil, 0, nil); pid <= 0 && !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if s.notes != nil {
		s.notes.close()
	}
	return nil
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(3*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	_ = cmd.Wait()
}

func await(ctx context.Context, what string, there func() bool) error {
	for until := time.Now().Add(patience); !there(); time.Sleep(2 * time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("%s did not come", what)
		}
	}
	return nil
}

// moment is a reading of CLOCK_MONOTONIC in nanoseconds, which is the same for
// every process of the machine.
type moment int64

func now() moment {
	var at unix.Timespec
	// The clock is always there and the pointer good: nothing can fail.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &at)
	return moment(at.Nano())
}

// note is what a started program tells: what it is, when that was, and a text.
type note struct {
	at   moment
	kind byte
	text string
}

// The kinds of notes.
const (
	noteOpener = 'o' // xdg-open was started; the text is the address
	noteReady  = 'r' // the Wails program shows its page
	noteSecond = 's' // the first Wails process heard of a second one; the text is its argument
)

// notes is a socket for notes.
type notes struct {
	conn *net.UnixConn
	c    chan note
}

func listenNotes(path string) (*notes, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	n := &notes{conn: conn, c: make(chan note, 64)}
	go func() {
		defer close(n.c)
		message := make([]byte, 16<<10)
		for {
			size, err := conn.Read(message)
			if err != nil {
				return
			}
			if size > 8 {
				n.c <- note{moment(binary.LittleEndian.Uint64(message)), message[8], string(message[9:size])}
			}
		}
	}()
	return n, nil
}

// await returns the next note of a kind whose text ends as given; others are
// dropped.
func (n *notes) await(ctx context.Context, kind byte, ending string) (note, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return note{}, ctx.Err()
		case <-late.C:
			return note{}, fmt.Errorf("nothing was heard of a note of kind %c", kind)
		case got, ok := <-n.c:
			if !ok {
				return note{}, errors.New("the socket for notes was closed")
			}
			if got.kind == kind && strings.HasSuffix(got.text, ending) {
				return got, nil
			}
		}
	}
}

func (n *notes) close() { _ = n.conn.Close() }

// serveLines answers every line with a line: the other end of the bare client.
func serveLines(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
					_, _ = conn.Write([]byte(line))
				}
			}()
		}
	}()
	return nil
}
