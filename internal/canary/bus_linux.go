package canary

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// monitor hears every message of a session bus, as anybody of the same user may
// (D-Bus specification, org.freedesktop.DBus.Monitoring.BecomeMonitor). It never says
// anything.
type monitor struct {
	conn net.Conn
	done sync.WaitGroup

	mu    sync.Mutex
	err   error // guarded by mu: why it ended
	heard int   // guarded by mu: messages
}

// keyringName and the like are the ends that tell messages apart.
const (
	keyringName = "org.freedesktop.secrets"
	noticesName = "org.freedesktop.Notifications"
	trayName    = "org.kde.StatusNotifierWatcher"
)

// monitorBus begins to listen at the socket of a bus.
func monitorBus(socket string, e *evidence) (*monitor, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listening to the bus: %w", err)
	}
	m := &monitor{conn: conn}
	in := bufio.NewReader(conn)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second)) // a socket always has deadlines
	if err := becomeMonitor(conn, in); err != nil {
		return nil, errors.Join(fmt.Errorf("listening to the bus: %w", err), conn.Close())
	}
	_ = conn.SetDeadline(time.Time{})
	m.done.Go(func() {
		err := m.read(in, e)
		m.mu.Lock()
		m.err = err
		m.mu.Unlock()
	})
	return m, nil
}

func becomeMonitor(conn net.Conn, in *bufio.Reader) error {
	if _, err := fmt.Fprintf(conn, "\x00AUTH EXTERNAL %x\r\n", strconv.Itoa(os.Getuid())); err != nil {
		return err
	}
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "OK ") {
		return errors.New("the bus does not let us in")
	}
	if _, err := io.WriteString(conn, "BEGIN\r\n"); err != nil {
		return err
	}
	// The serials are 1 and 2; the answers to both are awaited, so that from then on
	// nothing is missed.
	for serial, call := range []dbus.Message{
		{Headers: busCall("org.freedesktop.DBus", "Hello")},
		{Headers: busCall("org.freedesktop.DBus.Monitoring", "BecomeMonitor"), Body: []any{[]string{}, uint32(0)}},
	} {
		call.Type = dbus.TypeMethodCall
		if len(call.Body) > 0 {
			call.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(call.Body...))
		}
		if err := encode(conn, &call, uint32(serial+1)); err != nil {
			return err
		}
		for {
			message, _, err := decode(in)
			if err != nil {
				return err
			}
			if to, _ := message.Headers[dbus.FieldReplySerial].Value().(uint32); to == uint32(serial+1) {
				if message.Type != dbus.TypeMethodReply {
					return errors.New("the bus does not let us listen")
				}
				break
			}
		}
	}
	return nil
}

func busCall(face, member string) map[dbus.HeaderField]dbus.Variant {
	return map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant("org.freedesktop.DBus"), dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/DBus")),
		dbus.FieldInterface: dbus.MakeVariant(face), dbus.FieldMember: dbus.MakeVariant(member),
	}
}

// encode writes a message with a serial, which the library would give itself only
// for a connection of its own.
func encode(w io.Writer, message *dbus.Message, serial uint32) error {
	var b bytes.Buffer
	if err := message.EncodeTo(&b, binary.LittleEndian); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(b.Bytes()[8:], serial)
	_, err := w.Write(b.Bytes())
	return err
}

// decode reads one message, and its bytes as they came.
func decode(in *bufio.Reader) (*dbus.Message, []byte, error) {
	var raw bytes.Buffer
	message, err := dbus.DecodeMessage(io.TeeReader(in, &raw))
	return message, raw.Bytes(), err
}

// read keeps every message, by whom it goes to or comes from.
func (m *monitor) read(in *bufio.Reader, e *evidence) error {
	owners := map[string]PlaceName{}  // unique name → what it is asked for
	pending := map[string]PlaceName{} // unique name and serial of a call → its place
	for {
		message, raw, err := decode(in)
		if err != nil {
			return err
		}
		place := placeOf(message, raw, owners, pending)
		member, _ := message.Headers[dbus.FieldMember].Value().(string)
		e.add(place, "message "+member, raw)
		m.mu.Lock()
		m.heard++
		m.mu.Unlock()
	}
}

func placeOf(message *dbus.Message, raw []byte, owners, pending map[string]PlaceName) PlaceName {
	text := func(field dbus.HeaderField) string {
		v := message.Headers[field].Value()
		if path, ok := v.(dbus.ObjectPath); ok {
			return string(path)
		}
		s, _ := v.(string)
		return s
	}
	sender, to, face, path, member := text(dbus.FieldSender), text(dbus.FieldDestination), text(dbus.FieldInterface), text(dbus.FieldPath), text(dbus.FieldMember)
	if member == "NameOwnerChanged" && sender == "org.freedesktop.DBus" && len(message.Body) == 3 {
		name, _ := message.Body[0].(string)
		owner, _ := message.Body[2].(string)
		if of := placeOfName(name); of != "" && owner != "" {
			owners[owner] = of
		}
	}
	if to, ok := message.Headers[dbus.FieldReplySerial].Value().(uint32); ok {
		if of := pending[text(dbus.FieldDestination)+fmt.Sprint(" ", to)]; of != "" {
			return of
		}
	}
	place := BusOther
	switch {
	case placeOfName(to) != "":
		place = placeOfName(to)
	case strings.HasPrefix(path, "/org/freedesktop/secrets") || strings.HasPrefix(face, "org.freedesktop.Secret."):
		place = BusKeyring
	case face == noticesName:
		place = BusNotices
	case face == "com.canonical.dbusmenu" || strings.HasPrefix(face, "org.kde.StatusNotifier") || strings.HasPrefix(path, "/StatusNotifier"):
		place = BusTray
	case owners[to] != "":
		place = owners[to]
	case owners[sender] != "":
		place = owners[sender]
	}
	if message.Type == dbus.TypeMethodCall {
		pending[sender+fmt.Sprint(" ", binary.LittleEndian.Uint32(raw[8:]))] = place
	}
	return place
}

func placeOfName(name string) PlaceName {
	switch name {
	case keyringName:
		return BusKeyring
	case noticesName:
		return BusNotices
	case trayName:
		return BusTray
	}
	return ""
}

// close ends the listening. The error says that it had ended before.
func (m *monitor) close() error {
	m.mu.Lock()
	early := m.err
	m.mu.Unlock()
	_ = m.conn.Close()
	m.done.Wait()
	if early != nil {
		return fmt.Errorf("the bus was not heard to the end: %w", early)
	}
	return nil
}
