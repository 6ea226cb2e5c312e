package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// What a window shows is read as a screen reader reads it: over AT-SPI, on the
// accessibility bus that the session bus names.

const (
	accessible = "org.a11y.atspi.Accessible"
	// mostSeen bounds the walk through a window.
	mostSeen = 2000
	readTime = 10 * time.Second
)

// reference names one accessible object.
type reference struct {
	Bus  string
	Path dbus.ObjectPath
}

// seen is one thing that a window shows.
type seen struct {
	Role string `json:"role"`
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
}

// turnOnReading tells programs of this session that somebody reads along.
func turnOnReading(conn *dbus.Conn) error {
	err := conn.Object("org.a11y.Bus", "/org/a11y/bus").SetProperty("org.a11y.Status.IsEnabled", dbus.MakeVariant(true))
	if err != nil {
		return fmt.Errorf("turning accessibility on: %w", err)
	}
	return nil
}

// read returns what the windows of a process show.
func (d *desktop) read(pid uint32) ([]seen, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	var address string
	if err := d.conn.Object("org.a11y.Bus", "/org/a11y/bus").CallWithContext(ctx, "org.a11y.Bus.GetAddress", 0).Store(&address); err != nil {
		return nil, fmt.Errorf("asking for the accessibility bus: %w", err)
	}
	bus, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("connecting to the accessibility bus: %w", err)
	}
	defer bus.Close()
	programs, err := children(ctx, bus, reference{"org.a11y.atspi.Registry", "/org/a11y/atspi/accessible/root"})
	if err != nil {
		return nil, err
	}
	for _, p := range programs {
		var owner uint32
		if bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixProcessID", 0, p.Bus).Store(&owner) != nil || owner != pid {
			continue
		}
		out := []seen{}
		walk(ctx, bus, p, &out)
		return out, nil
	}
	return nil, errors.New("this process shows nothing that can be read")
}

func children(ctx context.Context, bus *dbus.Conn, of reference) ([]reference, error) {
	var list []reference
	if err := bus.Object(of.Bus, of.Path).CallWithContext(ctx, accessible+".GetChildren", 0).Store(&list); err != nil {
		return nil, fmt.Errorf("reading what is shown: %w", err)
	}
	return list, nil
}

// walk reads an object and all below it. What vanishes meanwhile is passed over.
func walk(ctx context.Context, bus *dbus.Conn, r reference, out *[]seen) {
	if len(*out) >= mostSeen || ctx.Err() != nil {
		return
	}
	object := bus.Object(r.Bus, r.Path)
	var s seen
	if object.CallWithContext(ctx, accessible+".GetRoleName", 0).Store(&s.Role) != nil {
		return
	}
	var name dbus.Variant
	if object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, accessible, "Name").Store(&name) == nil {
		s.Name, _ = name.Value().(string)
	}
	// Objects without text refuse, which is no fault.
	if object.CallWithContext(ctx, "org.a11y.atspi.Text.GetText", 0, int32(0), int32(-1)).Store(&s.Text) == nil {
		s.Text = strings.Trim(s.Text, "\ufffc ")
	}
	*out = append(*out, s)
	below, err := children(ctx, bus, r)
	if err != nil {
		return
	}
	for _, c := range below {
		walk(ctx, bus, c, out)
	}
}
