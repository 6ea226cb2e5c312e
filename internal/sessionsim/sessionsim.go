// Package sessionsim stands in for what tells of a person's session on Linux:
// logind on a system bus, screen savers and GNOME's monitor of input on a session
// bus, and for the buses themselves. Tests drive the real watcher with it.
//
// It is never part of a release, and touches no bus but the one whose address it
// is given.
package sessionsim

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

// Bus is a bus of one's own, without services to activate.
type Bus struct {
	// Address is what DBUS_SESSION_BUS_ADDRESS or DBUS_SYSTEM_BUS_ADDRESS is set to.
	Address string
	daemon  *exec.Cmd
}

// StartBus starts dbus-daemon with its socket in a folder, whose path must be short
// (a socket's path has room for 108 bytes).
func StartBus(dir string) (*Bus, error) {
	config := filepath.Join(dir, "bus.conf")
	socket := filepath.Join(dir, "bus")
	rules := `<busconfig><type>session</type><listen>unix:path=` + socket + `</listen><policy context="default">` +
		`<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		return nil, err
	}
	_ = os.Remove(socket) // of a bus that was stopped
	daemon := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--print-address=1")
	out, err := daemon.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := daemon.Start(); err != nil {
		return nil, fmt.Errorf("starting dbus-daemon: %w", err)
	}
	b := &Bus{Address: "unix:path=" + socket, daemon: daemon}
	if !bufio.NewScanner(out).Scan() {
		b.Stop()
		return nil, errors.New("dbus-daemon did not start")
	}
	return b, nil
}

// Stop ends the bus and returns when it has gone.
func (b *Bus) Stop() {
	_ = b.daemon.Process.Kill()
	_ = b.daemon.Wait()
}

const (
	login        = "org.freedesktop.login1"
	loginPath    = "/org/freedesktop/login1"
	loginSession = login + ".Session"
	userPath     = loginPath + "/user/self"
)

// Login is logind with one session.
type Login struct {
	conn  *dbus.Conn
	id    string
	path  dbus.ObjectPath
	props *prop.Properties
	// byID says that the session is found by its number; else only as the person's
	// display.
	byID bool

	mu      sync.Mutex
	removed bool // guarded by mu
}

type shown struct {
	ID   string
	Path dbus.ObjectPath
}

// NewLogin takes logind's name on a bus. id names the session; with an empty one
// the session is found only as the one with the person's screen.
func NewLogin(address, id string) (*Login, error) {
	conn, err := dbus.Connect(address)
	if err != nil {
		return nil, err
	}
	l := &Login{conn: conn, id: id, byID: id != ""}
	if !l.byID {
		l.id = "c1"
	}
	l.path = dbus.ObjectPath(loginPath + "/session/" + l.id)
	l.props, err = prop.Export(conn, l.path, prop.Map{loginSession: {
		"LockedHint":    {Value: false, Emit: prop.EmitTrue},
		"Active":        {Value: true, Emit: prop.EmitTrue},
		"IdleHint":      {Value: false, Emit: prop.EmitTrue},
		"IdleSinceHint": {Value: uint64(0), Emit: prop.EmitTrue},
		"State":         {Value: "active", Emit: prop.EmitTrue},
	}})
	if err == nil {
		_, err = prop.Export(conn, userPath, prop.Map{login + ".User": {"Display": {Value: shown{l.id, l.path}, Emit: prop.EmitFalse}}})
	}
	if err == nil {
		err = conn.Export(manager{l}, loginPath, login+".Manager")
	}
	if err == nil {
		err = take(conn, login)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return l, nil
}

func take(conn *dbus.Conn, name string) error {
	reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = errors.New("somebody else has the name " + name)
	}
	return err
}

// manager is what clients may call.
type manager struct{ login *Login }

func (m manager) GetSession(id string) (dbus.ObjectPath, *dbus.Error) {
	m.login.mu.Lock()
	defer m.login.mu.Unlock()
	if !m.login.byID || m.login.removed || id != m.login.id {
		return "", dbus.NewError(login+".NoSuchSession", nil)
	}
	return m.login.path, nil
}

func (m manager) GetSessionByPID(uint32) (dbus.ObjectPath, *dbus.Error) {
	return "", dbus.NewError(login+".NoSessionForPID", nil)
}

func (m manager) GetUser(uint32) (dbus.ObjectPath, *dbus.Error) {
	m.login.mu.Lock()
	defer m.login.mu.Unlock()
	if m.login.removed {
		return "", dbus.NewError(login+".NoSuchUser", nil)
	}
	return userPath, nil
}

// Lock does what a desktop that locks itself does: the hint says so.
func (l *Login) Lock() { l.props.SetMust(loginSession, "LockedHint", true) }

// Unlock takes the hint back.
func (l *Login) Unlock() { l.props.SetMust(loginSession, "LockedHint", false) }

// AskToLock emits the signal by which "loginctl lock-session" asks.
func (l *Login) AskToLock() error { return l.conn.Emit(l.path, loginSession+".Lock") }

// AskToUnlock emits the signal of "loginctl unlock-session".
func (l *Login) AskToUnlock() error { return l.conn.Emit(l.path, loginSession+".Unlock") }

// Switch gives the screen to another session, or back.
func (l *Login) Switch(away bool) {
	l.props.SetMust(loginSession, "Active", !away)
}

// Idle says that there was no input since a moment; the zero Time is now.
func (l *Login) Idle(since time.Time) {
	if since.IsZero() {
		l.props.SetMust(loginSession, "IdleHint", false)
		return
	}
	l.props.SetMust(loginSession, "IdleSinceHint", uint64(since.UnixMicro()))
	l.props.SetMust(loginSession, "IdleHint", true)
}

// Sleep tells that the computer goes to sleep, or is awake again.
func (l *Login) Sleep(asleep bool) error {
	return l.conn.Emit(loginPath, login+".Manager.PrepareForSleep", asleep)
}

// LogOff has the person leave the session while its programs go on.
func (l *Login) LogOff() { l.props.SetMust(loginSession, "State", "closing") }

// Remove ends the session.
func (l *Login) Remove() error {
	l.mu.Lock()
	l.removed = true
	l.mu.Unlock()
	return l.conn.Emit(loginPath, login+".Manager.SessionRemoved", l.id, l.path)
}

// Close leaves the bus.
func (l *Login) Close() { _ = l.conn.Close() }

// Saver is a screen saver.
type Saver struct {
	conn       *dbus.Conn
	name, path string

	mu   sync.Mutex
	on   bool   // guarded by mu
	idle uint32 // guarded by mu
}

// NewSaver takes the name of a screen saver, such as "org.gnome.ScreenSaver", on a
// bus.
func NewSaver(address, name, path string) (*Saver, error) {
	conn, err := dbus.Connect(address)
	if err != nil {
		return nil, err
	}
	s := &Saver{conn: conn, name: name, path: path}
	if err = conn.Export(saverCalls{s}, dbus.ObjectPath(path), name); err == nil {
		err = take(conn, name)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

type saverCalls struct{ saver *Saver }

func (c saverCalls) GetActive() (bool, *dbus.Error) {
	c.saver.mu.Lock()
	defer c.saver.mu.Unlock()
	return c.saver.on, nil
}

func (c saverCalls) GetSessionIdleTime() (uint32, *dbus.Error) {
	c.saver.mu.Lock()
	defer c.saver.mu.Unlock()
	return c.saver.idle, nil
}

// Set turns the saver on or off, and tells.
func (s *Saver) Set(on bool) error {
	s.mu.Lock()
	s.on = on
	s.mu.Unlock()
	return s.conn.Emit(dbus.ObjectPath(s.path), s.name+".ActiveChanged", on)
}

// Idle is what the saver answers from now on, in its own unit.
func (s *Saver) Idle(units uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = units
}

// Close leaves the bus.
func (s *Saver) Close() { _ = s.conn.Close() }

// Monitor is GNOME's monitor of input.
type Monitor struct {
	conn *dbus.Conn

	mu    sync.Mutex
	idle  time.Duration // guarded by mu
	asked int           // guarded by mu
}

// NewMonitor takes the monitor's name on a bus.
func NewMonitor(address string) (*Monitor, error) {
	const name = "org.gnome.Mutter.IdleMonitor"
	conn, err := dbus.Connect(address)
	if err != nil {
		return nil, err
	}
	m := &Monitor{conn: conn}
	if err = conn.Export(monitorCalls{m}, "/org/gnome/Mutter/IdleMonitor/Core", name); err == nil {
		err = take(conn, name)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return m, nil
}

type monitorCalls struct{ monitor *Monitor }

func (c monitorCalls) GetIdletime() (uint64, *dbus.Error) {
	c.monitor.mu.Lock()
	defer c.monitor.mu.Unlock()
	c.monitor.asked++
	return uint64(c.monitor.idle.Milliseconds()), nil
}

// Idle is what the monitor answers from now on.
func (m *Monitor) Idle(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.idle = d
}

// Asked is how often the monitor was asked.
func (m *Monitor) Asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

// Close leaves the bus.
func (m *Monitor) Close() { _ = m.conn.Close() }
