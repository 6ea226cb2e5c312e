package notify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// The notification service: Desktop Notifications Specification 1.2.
const (
	service       = "org.freedesktop.Notifications"
	servicePath   = "/org/freedesktop/Notifications"
	getCapability = service + ".GetCapabilities"
	notifyMethod  = service + ".Notify"
	closeMethod   = service + ".CloseNotification"

	// inhibitions is the ability of a service that says by the property Inhibited
	// whether the person wants to be left alone (KDE). Others judge by the urgency.
	inhibitions = "inhibitions"
	inhibited   = "Inhibited"
	properties  = "org.freedesktop.DBus.Properties"
)

const (
	// callLimit is how long the service may take for a call; the first one may
	// have to start it.
	callLimit = 5 * time.Second
	// onceLimit is how long Show may take in all.
	onceLimit = 2 * time.Second
)

// desk is the notification service of the session. It connects when there is
// something to show, and again after the connection was lost. It belongs to the
// goroutine of Run.
type desk struct {
	id     string
	events chan event
	conn   *dbus.Conn
	cancel context.CancelFunc
	// owner is the unique name of the service that shows our note: signals of
	// anybody else are not the person's.
	owner *ownerName
}

func newDesk(id string) *desk { return &desk{id: id, events: make(chan event, 4)} }

// connect returns a connection of our own to the session bus, or an error. It
// never starts a bus.
func connect(ctx context.Context, limit time.Duration) (*dbus.Conn, context.CancelFunc, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	// Neither step of the greeting takes a context.
	patience := time.AfterFunc(limit, cancel)
	defer patience.Stop()
	defer context.AfterFunc(ctx, cancel)()
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithContext(life), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		cancel()
		return nil, nil, errors.New("there is no session bus")
	}
	if conn.Auth(nil) != nil || conn.Hello() != nil {
		_ = conn.Close()
		cancel()
		return nil, nil, errors.New("the session bus does not let us in")
	}
	return conn, cancel, nil
}

func (d *desk) connected(ctx context.Context) error {
	if d.conn != nil && d.conn.Connected() {
		return nil
	}
	d.end()
	conn, cancel, err := connect(ctx, callLimit)
	if err != nil {
		return err
	}
	for _, of := range []string{service, properties} {
		if err := conn.AddMatchSignal(dbus.WithMatchSender(service), dbus.WithMatchInterface(of), dbus.WithMatchObjectPath(servicePath)); err != nil {
			_ = conn.Close()
			cancel()
			return errors.New("the session bus does not pass signals on")
		}
	}
	d.conn, d.cancel, d.owner = conn, cancel, &ownerName{}
	signals := make(chan *dbus.Signal, 8)
	conn.Signal(signals)
	go listen(conn.Context(), signals, d.owner, d.events)
	return nil
}

// show puts a note on the screen and returns its number, or errHeld.
func (d *desk) show(ctx context.Context, n note) (uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := d.connected(ctx); err != nil {
		return 0, err
	}
	can, err := abilities(ctx, d.conn)
	if err != nil {
		return 0, err
	}
	var owner string
	if err := d.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, service).Store(&owner); err != nil {
		return 0, errNone
	}
	d.owner.set(owner)
	if slices.Contains(can, inhibitions) && leftAlone(ctx, d.conn) {
		return 0, errHeld
	}
	return post(ctx, d.conn, d.id, can, n)
}

func (d *desk) close(ctx context.Context, number uint32) error {
	if d.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if d.conn.Object(service, servicePath).CallWithContext(ctx, closeMethod, dbus.FlagNoAutoStart, number).Err != nil {
		return errors.New("the notification service does not take it away")
	}
	return nil
}

func (d *desk) end() {
	if d.conn != nil {
		_ = d.conn.Close()
		d.cancel()
		d.conn = nil
	}
}

// abilities asks what the service can do, and starts it where the session starts
// it on demand.
func abilities(ctx context.Context, conn *dbus.Conn) ([]string, error) {
	var can []string
	if err := conn.Object(service, servicePath).CallWithContext(ctx, getCapability, 0).Store(&can); err != nil {
		return nil, errNone
	}
	return can, nil
}

// leftAlone asks whether the person wants to be left alone.
func leftAlone(ctx context.Context, conn *dbus.Conn) bool {
	var v dbus.Variant
	if err := conn.Object(service, servicePath).CallWithContext(ctx, properties+".Get", dbus.FlagNoAutoStart, service, inhibited).Store(&v); err != nil {
		return false
	}
	is, _ := v.Value().(bool)
	return is
}

// post sends a note and returns its number. What came from outside is escaped
// where the service reads markup; what the service cannot do is left out.
func post(ctx context.Context, conn *dbus.Conn, id string, can []string, n note) (uint32, error) {
	body, actions := n.body, []string{}
	for _, ability := range can {
		switch ability {
		case "body-markup":
			body = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(body)
		case "actions":
			for _, b := range n.buttons {
				actions = append(actions, b.key, b.label)
			}
		}
	}
	hints := map[string]dbus.Variant{"urgency": dbus.MakeVariant(byte(n.urgency))}
	if n.fleeting {
		hints["transient"] = dbus.MakeVariant(true)
	}
	if n.category != "" {
		hints["category"] = dbus.MakeVariant(n.category)
	}
	if id != "" {
		hints["desktop-entry"] = dbus.MakeVariant(id)
	}
	var number uint32
	err := conn.Object(service, servicePath).CallWithContext(ctx, notifyMethod, 0, n.title, uint32(0), id, n.title, body, actions, hints, int32(-1)).Store(&number)
	if err != nil {
		return 0, errors.New("the notification service does not show it")
	}
	return number, nil
}

// showOnce has no desktop entry: desktops take the notes of an application away
// when it leaves the bus, and this one leaves at once.
func showOnce(ctx context.Context, n note) error {
	ctx, cancel := context.WithTimeout(ctx, onceLimit)
	defer cancel()
	conn, end, err := connect(ctx, onceLimit)
	if err != nil {
		return err
	}
	defer end()
	defer func() { _ = conn.Close() }()
	can, err := abilities(ctx, conn)
	if err != nil {
		return err
	}
	_, err = post(ctx, conn, "", can, n)
	return err
}

// listen turns the service's signals into events until the connection ends. The
// token of a press comes before the press (specification 1.2, ActivationToken).
func listen(ctx context.Context, signals <-chan *dbus.Signal, owner *ownerName, events chan<- event) {
	var token event
	for s := range signals {
		if len(s.Body) < 2 || !owner.is(s.Sender) {
			continue
		}
		if s.Name == properties+".PropertiesChanged" {
			if mayBeFree(s.Body) {
				select {
				case events <- event{free: true}:
				case <-ctx.Done():
					return
				}
			}
			continue
		}
		number, ok := s.Body[0].(uint32)
		if !ok {
			continue
		}
		e := event{note: number}
		switch text, _ := s.Body[1].(string); s.Name {
		case service + ".ActivationToken":
			token = event{note: number, token: text}
			continue
		case service + ".ActionInvoked":
			e.key = text
			if e.key == "" {
				continue
			}
			if token.note == number {
				e.token = token.token
			}
			token = event{}
		case service + ".NotificationClosed":
		default:
			continue
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return
		}
	}
}

// mayBeFree reads a PropertiesChanged: whether the person may be disturbed again,
// or it has to be asked for.
func mayBeFree(body []any) bool {
	if of, _ := body[0].(string); of != service {
		return false
	}
	changed, _ := body[1].(map[string]dbus.Variant)
	if v, told := changed[inhibited]; told {
		is, _ := v.Value().(bool)
		return !is
	}
	if len(body) < 3 {
		return false
	}
	unsaid, _ := body[2].([]string)
	return slices.Contains(unsaid, inhibited)
}

// remove has nothing to do: a desktop is told of the program by its package.
func remove(string) error { return nil }
