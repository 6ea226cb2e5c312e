package tray

import (
	"context"
	"errors"
	"strings"
	"time"

	"fyne.io/systray"
	"github.com/godbus/dbus/v5"
)

// busLimit is how long the session bus may take to let us in.
const busLimit = 5 * time.Second

// returns says that a notification area may come later, or come back: with its session
// bus.
const returns = true

// start puts the icon on the session bus (StatusNotifierItem). A desktop that has
// no notification area yet finds it there when it gets one.
func start(ctx context.Context, id string, build func()) (gone <-chan struct{}, shut, stop func(), err error) {
	if err := knock(ctx); err != nil {
		return nil, nil, nil, err
	}
	// The library uses this same shared connection, and would start a bus of its own
	// or crash at its end if there were none: so it is made, and ended, here.
	conn, err := dbus.SessionBus()
	if err != nil {
		return nil, nil, nil, errors.New("the session bus cannot be reached")
	}
	systray.SetTitle(id)
	begin, _ := systray.RunWithExternalLoop(nil, nil)
	build()
	meanwhile(conn, begin)
	return conn.Context().Done(), func() {}, ender(conn), nil
}

// restart puts the icon and the menu, as they were, on a session bus that has come
// back.
func restart(ctx context.Context) (gone <-chan struct{}, stop func(), err error) {
	if err := knock(ctx); err != nil {
		return nil, nil, err
	}
	conn, err := dbus.SessionBus() // another one, since the last was lost
	if err != nil {
		return nil, nil, errors.New("the session bus cannot be reached")
	}
	begin, _ := systray.RunWithExternalLoop(nil, nil)
	meanwhile(conn, begin)
	return conn.Context().Done(), ender(conn), nil
}

const (
	watcher     = "org.kde.StatusNotifierWatcher"
	watcherPath = "/StatusNotifierWatcher"
	itemPath    = "/StatusNotifierItem"
	// listensBy is when the library surely listens by itself.
	listensBy = 2 * time.Second
)

// meanwhile shows the icon to a notification area that comes while the library begins:
// it asks for one first, and only then listens for one that comes. To be told of an
// icon twice is nothing to a notification area.
func meanwhile(conn *dbus.Conn, begin func()) {
	comes := []dbus.MatchOption{
		dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, watcher),
	}
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	if conn.AddMatchSignal(comes...) != nil {
		conn.RemoveSignal(signals)
		begin()
		return
	}
	begin()
	go func() {
		defer conn.RemoveSignal(signals)
		defer func() { _ = conn.RemoveMatchSignal(comes...) }()
		for end := time.After(listensBy); ; {
			select {
			case s := <-signals:
				if s == nil {
					return // the bus is gone
				}
				if name, owner := changed(s); name == watcher && owner != "" {
					_ = conn.Object(watcher, watcherPath).Call(watcher+".RegisterStatusNotifierItem", 0, itemPath).Err
				}
			case <-end:
				return
			}
		}
	}()
}

// changed reads NameOwnerChanged; another signal changes nothing.
func changed(s *dbus.Signal) (name, owner string) {
	if s.Name != "org.freedesktop.DBus.NameOwnerChanged" || len(s.Body) < 3 {
		return "", ""
	}
	name, _ = s.Body[0].(string)
	owner, _ = s.Body[2].(string)
	return name, owner
}

func ender(conn *dbus.Conn) func() {
	return func() {
		systray.Quit()
		_ = conn.Close()
	}
}

// knock finds out whether there is a session bus that answers, without starting
// one.
func knock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, busLimit)
	defer cancel()
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithContext(ctx))
	if err != nil {
		return errors.New("there is no session bus")
	}
	defer func() { _ = conn.Close() }()
	if conn.Auth(nil) != nil || conn.Hello() != nil {
		return errors.New("the session bus does not let us in")
	}
	return nil
}

// literal keeps underscores from being taken for access keys (com.canonical.dbusmenu,
// property label).
func literal(title string) string { return strings.ReplaceAll(title, "_", "__") }
