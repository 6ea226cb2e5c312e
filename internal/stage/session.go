//go:build linux

package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// SessionOptions say what a session has.
type SessionOptions struct {
	// Dir is the session's folder, which exists and is empty. Short, for the names of
	// sockets.
	Dir string
	// Programs are what runs in it.
	Programs Programs
	// Env is added to the environment of everything that runs in it.
	Env []string
	// Display starts an X server (Xvfb), which only windows need.
	Display bool
	// Without a keyring or a tray host a session may be, as some are.
	NoKeyring, NoTray bool
}

// Session is a desktop session of its own: folders, bus, and as its options say
// keyring, tray host and display. It sees nothing of the person's. Whatever is
// started in it ends with it. Its methods are not for several goroutines at once,
// apart from Command, Launcher, Click and those of Notes.
type Session struct {
	// Dir is the session's folder; see Folder.
	Dir string
	// Notes hears what the opener is given.
	Notes *Notes

	programs  Programs
	env       []string
	busAt     string
	daemon    *Program // the bus
	keyring   *Program
	bus       *dbus.Conn // ours
	tray      *dbus.Conn // the tray host's
	items     *atomic.Int64
	noTray    bool
	noKeyring bool

	mu      sync.Mutex
	started []*Program // guarded by mu
}

// folders are a session's, by the variable that names them.
var folders = map[string]string{
	"HOME": "home", "XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state",
	"XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache",
}

// NewSession starts a session. The first one makes this process the parent of what
// its children leave behind.
func NewSession(ctx context.Context, o SessionOptions) (_ *Session, err error) {
	if err := adoptOrphans(); err != nil {
		return nil, err
	}
	s := &Session{Dir: o.Dir, programs: o.Programs, busAt: "unix:path=" + filepath.Join(o.Dir, "bus"), noTray: o.NoTray, items: new(atomic.Int64), noKeyring: o.NoKeyring}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	s.env = append([]string{
		"PATH=" + o.Programs.Bin + ":/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "NO_AT_BRIDGE=1",
		"STAGE_NOTES=" + filepath.Join(o.Dir, "notes"), "DBUS_SESSION_BUS_ADDRESS=" + s.busAt,
	}, o.Env...)
	for name, folder := range folders {
		folder = s.Folder(folder)
		if err := os.Mkdir(folder, 0o700); err != nil {
			return nil, err
		}
		s.env = append(s.env, name+"="+folder)
	}
	if s.Notes, err = ListenNotes(filepath.Join(o.Dir, "notes")); err != nil {
		return nil, err
	}
	if err := s.StartBus(ctx); err != nil {
		return nil, err
	}
	if !o.NoKeyring {
		if err := s.StartKeyring(ctx); err != nil {
			return nil, err
		}
	}
	if !o.NoTray {
		if err := s.StartTrayHost(); err != nil {
			return nil, err
		}
	}
	if o.Display {
		return s, s.startDisplay(ctx)
	}
	return s, nil
}

// Folder is one of the session's folders: home, run (XDG_RUNTIME_DIR), state, config,
// data or cache.
func (s *Session) Folder(name string) string { return filepath.Join(s.Dir, name) }

// Command prepares a program that sees this session and nothing of the person's.
func (s *Session) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = s.env, s.Dir
	return cmd
}

// Start starts a command that ends with the session at the latest.
func (s *Session) Start(cmd *exec.Cmd) (*Program, error) {
	p, err := Start(cmd)
	return s.keep(p), err
}

// StartAndHear starts such a command and returns the first line that it prints.
func (s *Session) StartAndHear(cmd *exec.Cmd) (*Program, string, error) {
	p, line, err := StartAndHear(cmd)
	return s.keep(p), line, err
}

func (s *Session) keep(p *Program) *Program {
	if p != nil {
		s.mu.Lock()
		s.started = append(slices.DeleteFunc(s.started, (*Program).Ended), p)
		s.mu.Unlock()
	}
	return p
}

// Bus is this session's bus, for the caller's own calls. A restart of the bus ends
// it.
func (s *Session) Bus() *dbus.Conn { return s.bus }

// StartBus starts the bus. It activates no services: only what is started here is
// on it. NewSession has called it already; it is for after StopBus. Its address stays.
func (s *Session) StartBus(ctx context.Context) error {
	config := filepath.Join(s.Dir, "bus.conf")
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>` + s.busAt + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(s.Dir, "bus")) // what one that was killed has left
	daemon, _, err := s.StartAndHear(s.Command(context.WithoutCancel(ctx), "dbus-daemon", "--nofork", "--print-address=1", "--config-file="+config))
	if err != nil {
		return fmt.Errorf("starting a session bus: %w", err)
	}
	s.daemon = daemon
	if s.bus, err = dbus.Connect(s.busAt); err != nil {
		return fmt.Errorf("connecting to the session bus: %w", err)
	}
	return nil
}

// StopBus ends the bus at once. Keyring and tray host lose it and are stopped too: as
// on a desktop whose bus is restarted, whoever starts the bus again starts them.
func (s *Session) StopBus() {
	s.StopTrayHost()
	if s.bus != nil {
		_ = s.bus.Close()
		s.bus = nil
	}
	if s.daemon != nil {
		s.daemon.Kill()
		s.daemon = nil
	}
	s.StopKeyring()
}

// RestartBus ends the bus and starts it, the keyring and the tray host again.
func (s *Session) RestartBus(ctx context.Context) error {
	s.StopBus()
	if err := s.StartBus(ctx); err != nil {
		return err
	}
	if !s.noKeyring {
		if err := s.StartKeyring(ctx); err != nil {
			return err
		}
	}
	if s.noTray {
		return nil
	}
	return s.StartTrayHost()
}

// watcher is the other end of a tray icon: it takes every one and shows none.
type watcher struct{ taken *atomic.Int64 }

// RegisterStatusNotifierItem is called by the agent.
func (w watcher) RegisterStatusNotifierItem(string) *dbus.Error {
	w.taken.Add(1)
	return nil
}

// TrayItems is how many icons have been given to the tray host since it was started.
func (s *Session) TrayItems() int { return int(s.items.Load()) }

// StartTrayHost offers a tray.
func (s *Session) StartTrayHost() error {
	if err := s.offerTray(); err != nil {
		return fmt.Errorf("offering a tray: %w", err)
	}
	return nil
}

func (s *Session) offerTray() (err error) {
	const name, path = "org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher"
	if s.tray, err = dbus.Connect(s.busAt); err != nil {
		return err
	}
	s.items = new(atomic.Int64)
	if err := s.tray.Export(watcher{s.items}, path, name); err != nil {
		return err
	}
	if _, err := prop.Export(s.tray, path, prop.Map{name: {"IsStatusNotifierHostRegistered": {Value: true, Emit: prop.EmitTrue}}}); err != nil {
		return err
	}
	reply, err := s.tray.RequestName(name, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = errors.New("the name is taken")
	}
	return err
}

// StopTrayHost takes the tray away, as a desktop's panel that ends.
func (s *Session) StopTrayHost() {
	if s.tray != nil {
		_ = s.tray.Close()
		s.tray = nil
	}
}

func (s *Session) startDisplay(ctx context.Context) error {
	// With -displayfd the server chooses a free number itself and says it when it
	// is ready. Without -noreset it starts anew, and answers nobody meanwhile,
	// whenever its last client leaves.
	_, number, err := s.StartAndHear(s.Command(context.WithoutCancel(ctx), "Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp", "-noreset"))
	if err != nil {
		return fmt.Errorf("starting a display: %w", err)
	}
	s.env = append(s.env, "DISPLAY=:"+number)
	return nil
}

// Close ends what was started, the newest first, and whatever else runs in this
// session: agents that handlers have started.
func (s *Session) Close() {
	s.StopTrayHost()
	if s.bus != nil {
		_ = s.bus.Close()
	}
	for _, pid := range s.strays() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
	s.mu.Lock()
	started := s.started
	s.started = nil
	s.mu.Unlock()
	for _, p := range slices.Backward(started) {
		p.Stop()
	}
	if s.Notes != nil {
		s.Notes.Close()
	}
}

// strays are the children by adoption that run in this session.
func (s *Session) strays() []int {
	s.mu.Lock()
	own := map[int]bool{}
	for _, p := range s.started {
		own[p.PID()] = true
	}
	s.mu.Unlock()
	var found []int
	for _, pid := range Children(os.Getpid()) {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && !own[pid] && bytes.Contains(env, []byte("XDG_RUNTIME_DIR="+s.Folder("run")+"\x00")) {
			found = append(found, pid)
		}
	}
	return found
}

// Ended is how a program of the launcher's ended.
type Ended struct {
	Status   int
	Out, Err string
	// Began and Took are when it was started and how long it took, the start of the
	// process included.
	Began, Took Moment
}

// Launcher runs the launcher to its end. An exit status that is not 0 is no error.
func (s *Session) Launcher(ctx context.Context, args ...string) (Ended, error) {
	cmd := s.Command(ctx, s.programs.Path(LauncherName), args...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	began := Now()
	err := cmd.Run()
	e := Ended{Out: out.String(), Err: said.String(), Began: began, Took: Now() - began}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		e.Status, err = exit.ExitCode(), nil
	}
	return e, err
}

// Click does what the desktop does with a link: it runs the handler.
func (s *Session) Click(ctx context.Context, link string) (Ended, error) {
	return s.Launcher(ctx, link)
}
