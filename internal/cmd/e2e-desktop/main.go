// Command e2e-desktop stands in for the two parts of a desktop that the
// end-to-end test needs and a bare display lacks: the tray host
// (org.kde.StatusNotifierWatcher, com.canonical.dbusmenu) and the notification
// service (org.freedesktop.Notifications). It talks to the real program over the
// real session bus.
//
// With a system bus of the test's own it also stands in for logind.
//
// It also reads what a window shows, as a screen reader does.
//
// It reads one JSON command a line and answers each with one JSON line. It is
// never part of a release and knows nothing of what the menu, a notice or a window
// means.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"

	"encounterlauncher/internal/sessionsim"
)

const (
	watcherName = "org.kde.StatusNotifierWatcher"
	noticeName  = "org.freedesktop.Notifications"
	noticePath  = "/org/freedesktop/Notifications"
)

// notice is one notification as the program sent it.
type notice struct {
	ID      uint32   `json:"id"`
	Summary string   `json:"summary"`
	Body    string   `json:"body"`
	Actions []string `json:"actions"`
	Closed  bool     `json:"closed"`
}

// desktop is what both services share.
type desktop struct {
	conn  *dbus.Conn
	props *prop.Properties
	login *sessionsim.Login // nil without a system bus for it

	mu      sync.Mutex
	item    string   // guarded by mu: bus name of the newest tray item
	notices []notice // guarded by mu
}

// RegisterStatusNotifierItem is called by the tray.
func (d *desktop) RegisterStatusNotifierItem(service string, sender dbus.Sender) *dbus.Error {
	d.mu.Lock()
	d.item = string(sender)
	d.mu.Unlock()
	d.props.SetMust(watcherName, "RegisteredStatusNotifierItems", []string{service})
	return nil
}

// RegisterStatusNotifierHost is part of the watcher's interface.
func (d *desktop) RegisterStatusNotifierHost(string) *dbus.Error { return nil }

// notifications is the notification service's side of desktop.
type notifications struct{ *desktop }

// GetCapabilities says that notices may carry actions.
func (notifications) GetCapabilities() ([]string, *dbus.Error) {
	return []string{"actions", "body", "persistence"}, nil
}

// GetServerInformation names this stand-in.
func (notifications) GetServerInformation() (string, string, string, string, *dbus.Error) {
	return "e2e-desktop", "encounter-launcher", "1", "1.2", nil
}

// Notify keeps a notice, or replaces one.
func (n notifications) Notify(_ string, replaces uint32, _, summary, body string, actions []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.notices {
		if n.notices[i].ID == replaces && replaces != 0 {
			n.notices[i] = notice{replaces, summary, body, actions, false}
			return replaces, nil
		}
	}
	id := uint32(len(n.notices) + 1)
	n.notices = append(n.notices, notice{id, summary, body, actions, false})
	return id, nil
}

// CloseNotification takes a notice away.
func (n notifications) CloseNotification(id uint32) *dbus.Error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.notices {
		if n.notices[i].ID == id {
			n.notices[i].Closed = true
		}
	}
	return nil
}

// entry is one line of the tray's menu.
type entry struct {
	ID       int32   `json:"id"`
	Label    string  `json:"label"`
	Enabled  bool    `json:"enabled"`
	Children []entry `json:"children,omitempty"`
}

func (d *desktop) menuObject() (dbus.BusObject, error) {
	d.mu.Lock()
	item := d.item
	d.mu.Unlock()
	if item == "" {
		return nil, errors.New("no tray item has registered")
	}
	path, err := d.conn.Object(item, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem.Menu")
	if err != nil {
		return nil, fmt.Errorf("asking for the menu: %w", err)
	}
	object, ok := path.Value().(dbus.ObjectPath)
	if !ok {
		return nil, errors.New("the menu is no object")
	}
	return d.conn.Object(item, object), nil
}

func (d *desktop) menu() ([]entry, error) {
	object, err := d.menuObject()
	if err != nil {
		return nil, err
	}
	call := object.Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{})
	if call.Err != nil {
		return nil, fmt.Errorf("reading the menu: %w", call.Err)
	}
	if len(call.Body) != 2 {
		return nil, errors.New("the menu's layout has another shape")
	}
	root, err := entryOf(call.Body[1])
	return root.Children, err
}

func entryOf(v any) (entry, error) {
	parts, ok := v.([]any)
	if !ok || len(parts) != 3 {
		return entry{}, errors.New("a menu entry has another shape")
	}
	id, idOK := parts[0].(int32)
	props, propsOK := parts[1].(map[string]dbus.Variant)
	children, childrenOK := parts[2].([]dbus.Variant)
	if !idOK || !propsOK || !childrenOK {
		return entry{}, errors.New("a menu entry has another shape")
	}
	e := entry{ID: id, Enabled: true}
	e.Label, _ = props["label"].Value().(string)
	if enabled, ok := props["enabled"].Value().(bool); ok {
		e.Enabled = enabled
	}
	for _, child := range children {
		c, err := entryOf(child.Value())
		if err != nil {
			return entry{}, err
		}
		childProps := child.Value().([]any)[1].(map[string]dbus.Variant)
		if visible, ok := childProps["visible"].Value().(bool); ok && !visible {
			continue
		}
		e.Children = append(e.Children, c)
	}
	return e, nil
}

func (d *desktop) click(id int32) error {
	object, err := d.menuObject()
	if err != nil {
		return err
	}
	return object.Call("com.canonical.dbusmenu.Event", 0, id, "clicked", dbus.MakeVariant(""), uint32(0)).Err
}

// act presses a button of a notice.
func (d *desktop) act(id uint32, key string) error {
	return d.conn.Emit(noticePath, noticeName+".ActionInvoked", id, key)
}

// take makes this the owner of a name on the bus.
func (d *desktop) take(name string) error {
	reply, err := d.conn.RequestName(name, dbus.NameFlagDoNotQueue)
	if err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		return fmt.Errorf("taking the name %s: reply %d, %w", name, reply, errors.Join(err))
	}
	return nil
}

// step makes way for a real notification service, and comes back when it has ended.
func (d *desktop) step(aside bool) error {
	if !aside {
		return d.take(noticeName)
	}
	if _, err := d.conn.ReleaseName(noticeName); err != nil {
		return fmt.Errorf("giving the name %s back: %w", noticeName, err)
	}
	return nil
}

// command is one line of standard input.
type command struct {
	Do  string `json:"do"` // menu, click, notices, act, read, focused, aside (ID 1 and back 0); see session for the others
	ID  int64  `json:"id"`
	Key string `json:"key"`
}

func (d *desktop) answer(c command) (any, error) {
	switch c.Do {
	case "menu":
		return d.menu()
	case "click":
		return true, d.click(int32(c.ID))
	case "notices":
		d.mu.Lock()
		defer d.mu.Unlock()
		return append([]notice{}, d.notices...), nil
	case "act":
		return true, d.act(uint32(c.ID), c.Key)
	case "read":
		return d.read(uint32(c.ID))
	case "aside":
		return true, d.step(c.ID != 0)
	case "focused":
		return d.focused(uint32(c.ID))
	case "lock", "unlock", "idle", "switch", "sleep", "logoff":
		return d.session(c)
	default:
		return nil, errors.New("no such command")
	}
}

func serve() error {
	conn, err := dbus.ConnectSessionBus()
	if err != nil {
		return fmt.Errorf("connecting to the session bus: %w", err)
	}
	defer conn.Close()
	d := &desktop{conn: conn}
	d.props, err = prop.Export(conn, "/StatusNotifierWatcher", prop.Map{watcherName: {
		"RegisteredStatusNotifierItems":  {Value: []string{}, Emit: prop.EmitTrue},
		"IsStatusNotifierHostRegistered": {Value: true, Emit: prop.EmitTrue},
		"ProtocolVersion":                {Value: int32(0), Emit: prop.EmitTrue},
	}})
	if err != nil {
		return fmt.Errorf("exporting the watcher's properties: %w", err)
	}
	if err := conn.Export(d, "/StatusNotifierWatcher", watcherName); err != nil {
		return fmt.Errorf("exporting the watcher: %w", err)
	}
	if err := conn.Export(notifications{d}, noticePath, noticeName); err != nil {
		return fmt.Errorf("exporting the notification service: %w", err)
	}
	for _, name := range []string{watcherName, noticeName} {
		if err := d.take(name); err != nil {
			return err
		}
	}
	if d.login, err = newLogin(); err != nil {
		return fmt.Errorf("standing in for logind: %w", err)
	}
	if err := turnOnReading(conn); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]any{"ready": true}); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c command
		err := json.Unmarshal(lines.Bytes(), &c)
		var result any
		if err == nil {
			result, err = d.answer(c)
		}
		line := map[string]any{"result": result}
		if err != nil {
			line = map[string]any{"error": err.Error()}
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
