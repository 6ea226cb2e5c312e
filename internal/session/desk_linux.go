package session

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// logind: org.freedesktop.login1(5).
const (
	login        = "org.freedesktop.login1"
	loginPath    = "/org/freedesktop/login1"
	loginManager = login + ".Manager"
	loginSession = login + ".Session"
	loginUser    = login + ".User"
	properties   = "org.freedesktop.DBus.Properties"
)

// The session bus: screen savers, of which each desktop has its own, and GNOME's
// monitor of input. kdeSaver is the name by which KDE's is told from others.
const (
	mutter     = "org.gnome.Mutter.IdleMonitor"
	mutterPath = "/org/gnome/Mutter/IdleMonitor/Core"
	kdeSaver   = "org.kde.screensaver"
)

// saver is a screen saver and where it stands.
type saver struct{ name, path string }

func savers() []saver {
	return []saver{
		{"org.freedesktop.ScreenSaver", "/org/freedesktop/ScreenSaver"},
		{"org.gnome.ScreenSaver", "/org/gnome/ScreenSaver"},
		{"org.cinnamon.ScreenSaver", "/org/cinnamon/ScreenSaver"},
		{"org.mate.ScreenSaver", "/org/mate/ScreenSaver"},
		{"org.xfce.ScreenSaver", "/org/xfce/ScreenSaver"},
	}
}

const (
	// callLimit is how long a bus may take to greet us or to answer.
	callLimit = 5 * time.Second
	// firstPause and mostPause are the pauses before a bus is tried again; each is
	// twice the one before.
	firstPause = time.Second
	mostPause  = time.Minute
)

// desk is logind and the screen savers. Both buses are watched over connections
// of its own.
type desk struct {
	log     *slog.Logger
	changes chan change

	mu      sync.Mutex
	system  *dbus.Conn      // guarded by mu; nil when there is none
	session *dbus.Conn      // guarded by mu; nil when there is none
	own     dbus.ObjectPath // guarded by mu: our session at logind; empty for none
	owned   map[string]bool // guarded by mu: names on the session bus that somebody has
	tried   int             // guarded by mu: how many buses were tried at least once
}

func newDesk(log *slog.Logger) *desk {
	return &desk{log: log, changes: make(chan change), owned: map[string]bool{}}
}

// watch tells changes until ctx ends.
func (d *desk) watch(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { d.keep(ctx, dbus.SystemBusPrivate, &d.system, d.serveSystem) })
	both.Go(func() { d.keep(ctx, dbus.SessionBusPrivateNoAutoStartup, &d.session, d.serveSession) })
	both.Wait()
}

func (d *desk) tell(ctx context.Context, c change) {
	select {
	case d.changes <- c:
	case <-ctx.Done():
	}
}

// tellSources tells who would tell of a lock, once both buses were tried.
func (d *desk) tellSources(ctx context.Context) {
	d.mu.Lock()
	known, seen := d.tried == 2, d.own != ""
	for _, s := range savers() {
		seen = seen || d.owned[s.name]
	}
	d.mu.Unlock()
	if known {
		d.tell(ctx, change{what: sources, on: seen})
	}
}

// keep serves one bus until ctx ends, and tries again when it is not there.
func (d *desk) keep(ctx context.Context, dial func(...dbus.ConnOption) (*dbus.Conn, error), slot **dbus.Conn, serve func(ctx context.Context, conn *dbus.Conn, signals <-chan *dbus.Signal, ready func())) {
	pause, first := firstPause, true
	tried := func() {
		if first {
			first = false
			d.mu.Lock()
			d.tried++
			d.mu.Unlock()
		}
		d.tellSources(ctx)
	}
	for ctx.Err() == nil {
		conn, end, err := connect(ctx, dial)
		if err == nil {
			signals := make(chan *dbus.Signal, 16)
			conn.Signal(signals)
			d.mu.Lock()
			*slot = conn
			d.mu.Unlock()
			pause = firstPause
			serve(conn.Context(), conn, signals, tried)
			d.mu.Lock()
			*slot = nil
			d.mu.Unlock()
			end()
			d.log.Debug("a bus by which the session is watched has gone")
		}
		tried()
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, mostPause)
	}
}

func connect(ctx context.Context, dial func(...dbus.ConnOption) (*dbus.Conn, error)) (*dbus.Conn, func(), error) {
	life, cancel := context.WithCancel(ctx)
	patience := time.AfterFunc(callLimit, cancel) // the greeting takes no context
	defer patience.Stop()
	conn, err := dial(dbus.WithContext(life), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		cancel()
		return nil, nil, err
	}
	end := func() { _ = conn.Close(); cancel() }
	if err := conn.Auth(nil); err != nil {
		end()
		return nil, nil, err
	}
	if err := conn.Hello(); err != nil {
		end()
		return nil, nil, err
	}
	return conn, end, nil
}

// match subscribes to signals. Where that fails the source counts as not there.
func (d *desk) match(conn *dbus.Conn, options ...dbus.MatchOption) bool {
	if err := conn.AddMatchSignalContext(conn.Context(), options...); err != nil {
		d.log.Debug("a bus does not pass signals on", "cause", err)
		return false
	}
	return true
}

// next returns the next signal, nil once the connection has ended. A connection
// that ended before signals was given to it never closes it.
func next(ctx context.Context, signals <-chan *dbus.Signal) *dbus.Signal {
	select {
	case s := <-signals: // nil when it is closed
		return s
	case <-ctx.Done():
		return nil
	}
}

func owners(name string) []dbus.MatchOption {
	return []dbus.MatchOption{
		dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name),
	}
}

// ownerChanged reads a NameOwnerChanged.
func ownerChanged(s *dbus.Signal) (name string, has, ok bool) {
	if s.Name != "org.freedesktop.DBus.NameOwnerChanged" || s.Sender != "org.freedesktop.DBus" || len(s.Body) < 3 {
		return "", false, false
	}
	name, _ = s.Body[0].(string)
	owner, _ := s.Body[2].(string)
	return name, owner != "", name != ""
}

// call asks and never starts a service.
func call(ctx context.Context, conn *dbus.Conn, to, path, method string, arguments ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return conn.Object(to, dbus.ObjectPath(path)).CallWithContext(ctx, method, dbus.FlagNoAutoStart, arguments...)
}

// serveSystem watches our session at logind until the connection ends.
func (d *desk) serveSystem(ctx context.Context, conn *dbus.Conn, signals <-chan *dbus.Signal, ready func()) {
	below := dbus.WithMatchPathNamespace(loginPath + "/session")
	ok := d.match(conn, owners(login)...) &&
		d.match(conn, dbus.WithMatchSender(login), dbus.WithMatchInterface(loginManager), dbus.WithMatchObjectPath(loginPath)) &&
		d.match(conn, dbus.WithMatchSender(login), dbus.WithMatchInterface(loginSession), below) &&
		d.match(conn, dbus.WithMatchSender(login), dbus.WithMatchInterface(properties), below)
	if ok {
		d.find(ctx, conn)
	}
	ready()
	for s := next(ctx, signals); s != nil; s = next(ctx, signals) {
		if name, has, changed := ownerChanged(s); changed {
			if d.setOwn(""); has && name == login {
				d.find(ctx, conn)
			}
			d.tellSources(ctx)
			continue
		}
		d.heard(ctx, conn, s)
	}
	d.setOwn("")
}

func (d *desk) setOwn(own dbus.ObjectPath) (before dbus.ObjectPath) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, d.own = d.own, own
	return before
}

// find finds our session: the one that this program was started in, else the one
// with the person's screen, as for a program that the person's manager of services
// started.
func (d *desk) find(ctx context.Context, conn *dbus.Conn) {
	// Whatever was missed meanwhile: this program runs, so the computer is awake.
	d.tell(ctx, change{what: lock, source: "sleep"})
	path := d.ours(ctx, conn)
	d.setOwn(path)
	if path != "" {
		d.read(ctx, conn, path)
	}
}

func (d *desk) ours(ctx context.Context, conn *dbus.Conn) dbus.ObjectPath {
	var path dbus.ObjectPath
	if id := os.Getenv("XDG_SESSION_ID"); id != "" {
		if call(ctx, conn, login, loginPath, loginManager+".GetSession", id).Store(&path) == nil {
			return path
		}
	}
	if call(ctx, conn, login, loginPath, loginManager+".GetSessionByPID", uint32(os.Getpid())).Store(&path) == nil {
		return path
	}
	var user dbus.ObjectPath
	if call(ctx, conn, login, loginPath, loginManager+".GetUser", uint32(os.Getuid())).Store(&user) != nil {
		return ""
	}
	var display dbus.Variant
	if call(ctx, conn, login, string(user), properties+".Get", loginUser, "Display").Store(&display) != nil {
		return ""
	}
	var shown struct {
		ID   string
		Path dbus.ObjectPath
	}
	if display.Store(&shown) != nil || shown.ID == "" || !shown.Path.IsValid() {
		return ""
	}
	return shown.Path
}

// read reads how our session stands.
func (d *desk) read(ctx context.Context, conn *dbus.Conn, path dbus.ObjectPath) {
	var all map[string]dbus.Variant
	if call(ctx, conn, login, string(path), properties+".GetAll", loginSession).Store(&all) == nil {
		d.apply(ctx, all)
	}
}

func (d *desk) apply(ctx context.Context, all map[string]dbus.Variant) {
	if locked, ok := all["LockedHint"].Value().(bool); ok {
		d.tell(ctx, change{what: lock, source: login, on: locked})
	}
	if active, ok := all["Active"].Value().(bool); ok {
		d.tell(ctx, change{what: away, on: !active})
	}
	// A session from which the person has logged off stays, closing, as long as a
	// program of it runs, and this one does.
	if state, _ := all["State"].Value().(string); state == "closing" {
		d.setOwn("")
		d.tell(ctx, change{what: gone})
		d.tellSources(ctx)
	}
}

func (d *desk) heard(ctx context.Context, conn *dbus.Conn, s *dbus.Signal) {
	d.mu.Lock()
	own := d.own
	d.mu.Unlock()
	switch s.Name {
	case loginManager + ".PrepareForSleep":
		if len(s.Body) == 1 {
			asleep, _ := s.Body[0].(bool)
			d.tell(ctx, change{what: lock, source: "sleep", on: asleep})
			if !asleep {
				d.tell(ctx, change{what: woke})
			}
		}
	case loginManager + ".SessionRemoved":
		if len(s.Body) == 2 && own != "" && s.Body[1] == own {
			d.setOwn("")
			d.tell(ctx, change{what: gone})
			d.find(ctx, conn)
			d.tellSources(ctx)
		}
	case loginManager + ".SessionNew":
		if own == "" {
			d.find(ctx, conn)
			d.tellSources(ctx)
		}
	case loginSession + ".Lock":
		if s.Path == own {
			d.tell(ctx, change{what: lock, source: bySignal, on: true})
		}
	case loginSession + ".Unlock":
		if s.Path == own {
			d.tell(ctx, change{what: lock, source: bySignal})
		}
	case properties + ".PropertiesChanged":
		if s.Path != own || len(s.Body) != 3 || s.Body[0] != loginSession {
			return
		}
		changed, _ := s.Body[1].(map[string]dbus.Variant)
		d.apply(ctx, changed)
		if left, _ := s.Body[2].([]string); len(left) > 0 {
			d.read(ctx, conn, own)
		}
	}
}

// serveSession watches the screen savers until the connection ends.
func (d *desk) serveSession(ctx context.Context, conn *dbus.Conn, signals <-chan *dbus.Signal, ready func()) {
	names := []string{mutter, kdeSaver}
	for _, s := range savers() {
		if d.match(conn, dbus.WithMatchInterface(s.name), dbus.WithMatchMember("ActiveChanged")) {
			names = append(names, s.name)
		}
	}
	for _, name := range names {
		var has bool
		if d.match(conn, owners(name)...) && conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&has) == nil {
			d.has(name, has)
		}
	}
	for _, s := range savers() {
		d.readSaver(ctx, conn, s)
	}
	ready()
	for s := next(ctx, signals); s != nil; s = next(ctx, signals) {
		if name, has, changed := ownerChanged(s); changed {
			d.has(name, has)
			for _, s := range savers() {
				if s.name == name {
					d.readSaver(ctx, conn, s)
				}
			}
			d.tellSources(ctx)
			continue
		}
		for _, saver := range savers() {
			if s.Name == saver.name+".ActiveChanged" && len(s.Body) == 1 {
				on, _ := s.Body[0].(bool)
				d.tell(ctx, change{what: lock, source: saver.name, on: on})
			}
		}
	}
	d.mu.Lock()
	clear(d.owned)
	d.mu.Unlock()
}

func (d *desk) has(name string, has bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owned[name] = has
}

// readSaver reads whether a screen saver is on; one that is not there is off.
func (d *desk) readSaver(ctx context.Context, conn *dbus.Conn, s saver) {
	d.mu.Lock()
	has := d.owned[s.name]
	d.mu.Unlock()
	on := false
	if has && call(ctx, conn, s.name, s.path, s.name+".GetActive").Store(&on) != nil {
		return
	}
	d.tell(ctx, change{what: lock, source: s.name, on: on})
}

// idle asks the best source there is how long there was no input.
func (d *desk) idle(ctx context.Context) (time.Duration, error) {
	d.mu.Lock()
	session, system, own := d.session, d.system, d.own
	owned := make(map[string]bool, len(d.owned))
	for name, has := range d.owned {
		owned[name] = has
	}
	d.mu.Unlock()
	if session != nil && owned[mutter] {
		var ms uint64
		if call(ctx, session, mutter, mutterPath, mutter+".GetIdletime").Store(&ms) == nil {
			return time.Duration(min(ms, mostIdle)) * time.Millisecond, nil
		}
	}
	for _, s := range savers() {
		var units uint32
		if session == nil || !owned[s.name] || call(ctx, session, s.name, s.path, s.name+".GetSessionIdleTime").Store(&units) != nil {
			continue
		}
		// The freedesktop draft says seconds, and so do MATE and Xfce; KDE answers in
		// milliseconds.
		if s.name == savers()[0].name && owned[kdeSaver] {
			return time.Duration(units) * time.Millisecond, nil
		}
		return time.Duration(units) * time.Second, nil
	}
	if system != nil && own != "" {
		return idleHint(ctx, system, own)
	}
	return 0, errGone
}

// mostIdle bounds what is believed of a source, in milliseconds: ten years.
const mostIdle = 10 * 365 * 24 * 3600 * 1000

// idleHint is how long ago logind was told that the session is idle. The desktop
// tells it some minutes late, by its own setting; a session that is not known to
// be idle counts as used.
func idleHint(ctx context.Context, conn *dbus.Conn, own dbus.ObjectPath) (time.Duration, error) {
	var all map[string]dbus.Variant
	if call(ctx, conn, login, string(own), properties+".GetAll", loginSession).Store(&all) != nil {
		return 0, errGone
	}
	idle, ok := all["IdleHint"].Value().(bool)
	if !ok {
		return 0, errGone
	}
	since, _ := all["IdleSinceHint"].Value().(uint64)
	if !idle || since == 0 || since > 1<<62 {
		return 0, nil
	}
	return max(time.Since(time.UnixMicro(int64(since))), 0), nil
}
