package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// What a window shows is read as a screen reader reads it: over AT-SPI, on the
// accessibility bus that the session bus names.

const (
	accessible  = "org.a11y.atspi.Accessible"
	text        = "org.a11y.atspi.Text"
	getProperty = "org.freedesktop.DBus.Properties.Get"
	// mostSeen bounds the walk through a window.
	mostSeen = 2000
	readTime = 10 * time.Second
)

// stateFocused is the bit of ATSPI_STATE_FOCUSED.
const stateFocused = 1 << 12

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
	// Focused says that the keyboard goes there.
	Focused bool `json:"focused,omitempty"`
}

// roleOf names a role as AT-SPI does (atspi-constants.h, AtspiRole): WebKit gives the
// number and no name. Those that a page of ours has are named.
func roleOf(number uint32) string {
	switch number {
	case 27:
		return "image"
	case 29:
		return "label"
	case 31:
		return "list"
	case 32:
		return "list item"
	case 39:
		return "panel"
	case 43:
		return "push button"
	case 54:
		return "status bar"
	case 62:
		return "toggle button"
	case 73:
		return "paragraph"
	case 79:
		return "entry"
	case 83:
		return "heading"
	case 85:
		return "section"
	case 95:
		return "document web"
	case 110:
		return "landmark"
	case 115:
		return "timer"
	case 116:
		return "static"
	}
	return fmt.Sprint("role ", number)
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
	out := []seen{}
	err := d.look(pid, func(ctx context.Context, bus *dbus.Conn, program reference) { walk(ctx, bus, program, &out) })
	return out, err
}

// focused returns where the keyboard is in the windows of a process: the innermost
// object that says so, or nothing.
func (d *desktop) focused(pid uint32) (seen, error) {
	var found seen
	err := d.look(pid, func(ctx context.Context, bus *dbus.Conn, program reference) {
		if at, ok := focusBelow(ctx, bus, program, new(int)); ok {
			found, _ = describe(ctx, bus, at)
		}
	})
	return found, err
}

// look calls see with the accessible root of a process.
func (d *desktop) look(pid uint32, see func(ctx context.Context, bus *dbus.Conn, program reference)) error {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	var address string
	if err := d.conn.Object("org.a11y.Bus", "/org/a11y/bus").CallWithContext(ctx, "org.a11y.Bus.GetAddress", 0).Store(&address); err != nil {
		return fmt.Errorf("asking for the accessibility bus: %w", err)
	}
	bus, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connecting to the accessibility bus: %w", err)
	}
	defer bus.Close()
	programs, err := children(ctx, bus, reference{"org.a11y.atspi.Registry", "/org/a11y/atspi/accessible/root"})
	if err != nil {
		return err
	}
	for _, p := range programs {
		var owner uint32
		if bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionUnixProcessID", 0, p.Bus).Store(&owner) == nil && owner == pid {
			see(ctx, bus, p)
			return nil
		}
	}
	return errors.New("this process shows nothing that can be read")
}

func isFocused(ctx context.Context, bus *dbus.Conn, r reference) bool {
	var states []uint32
	return bus.Object(r.Bus, r.Path).CallWithContext(ctx, accessible+".GetState", 0).Store(&states) == nil && len(states) > 0 && states[0]&stateFocused != 0
}

func focusBelow(ctx context.Context, bus *dbus.Conn, r reference, looked *int) (reference, bool) {
	if *looked++; *looked > mostSeen || ctx.Err() != nil {
		return reference{}, false
	}
	below, err := children(ctx, bus, r)
	if err == nil {
		for _, c := range below {
			if found, ok := focusBelow(ctx, bus, c, looked); ok {
				return found, true
			}
		}
	}
	return r, isFocused(ctx, bus, r)
}

func children(ctx context.Context, bus *dbus.Conn, of reference) ([]reference, error) {
	object := bus.Object(of.Bus, of.Path)
	var list []reference
	if err := object.CallWithContext(ctx, accessible+".GetChildren", 0).Store(&list); err != nil {
		return nil, fmt.Errorf("reading what is shown: %w", err)
	}
	if len(list) > 0 {
		return list, nil
	}
	// A web view answers for the page, which is in another process, only when asked
	// for one child.
	var count dbus.Variant
	if object.CallWithContext(ctx, getProperty, 0, accessible, "ChildCount").Store(&count) != nil {
		return nil, nil
	}
	n, _ := count.Value().(int32)
	for i := range min(n, mostSeen) {
		var r reference
		if object.CallWithContext(ctx, accessible+".GetChildAtIndex", 0, i).Store(&r) == nil && r.Path != "/org/a11y/atspi/null" {
			list = append(list, r)
		}
	}
	return list, nil
}

// walk reads an object and all below it. What vanishes meanwhile is passed over.
func walk(ctx context.Context, bus *dbus.Conn, r reference, out *[]seen) {
	if len(*out) >= mostSeen || ctx.Err() != nil {
		return
	}
	s, ok := describe(ctx, bus, r)
	if !ok {
		return
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

// describe reads one object; it is not ok when it has vanished.
func describe(ctx context.Context, bus *dbus.Conn, r reference) (seen, bool) {
	object := bus.Object(r.Bus, r.Path)
	var s seen
	if object.CallWithContext(ctx, accessible+".GetRoleName", 0).Store(&s.Role) != nil {
		return s, false
	}
	var role uint32
	if s.Role == "" && object.CallWithContext(ctx, accessible+".GetRole", 0).Store(&role) == nil {
		s.Role = roleOf(role)
	}
	var name dbus.Variant
	if object.CallWithContext(ctx, getProperty, 0, accessible, "Name").Store(&name) == nil {
		s.Name, _ = name.Value().(string)
	}
	s.Focused = isFocused(ctx, bus, r)
	var interfaces []string
	if object.CallWithContext(ctx, accessible+".GetInterfaces", 0).Store(&interfaces) == nil && slices.Contains(interfaces, text) &&
		object.CallWithContext(ctx, text+".GetText", 0, int32(0), int32(-1)).Store(&s.Text) == nil {
		// The mark stands where a child is shown.
		s.Text = strings.Trim(s.Text, "\ufffc ")
	}
	return s, true
}
