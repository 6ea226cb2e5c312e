package doctor

import (
	"context"
	"os"
	"strconv"

	"github.com/godbus/dbus/v5"
)

const (
	watcherName = "org.kde.StatusNotifierWatcher"
	watcherPath = "/StatusNotifierWatcher"
)

// trayHost asks the session bus for who shows trays (StatusNotifierItem
// specification). Without a session bus there is no session to show one in; godbus
// would start a bus, so it is looked for first.
func trayHost(ctx context.Context) TrayState {
	address := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if address == "" || address == "autolaunch:" {
		address = "unix:path=/run/user/" + strconv.Itoa(os.Getuid()) + "/bus"
	}
	conn, err := dbus.Connect(address, dbus.WithContext(ctx))
	if err != nil {
		return TrayNoSession
	}
	defer conn.Close()
	var shown dbus.Variant
	err = conn.Object(watcherName, watcherPath).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart,
		watcherName, "IsStatusNotifierHostRegistered").Store(&shown)
	if registered, ok := shown.Value().(bool); err == nil && ok && registered {
		return TrayShown
	}
	return TrayNobody
}

func display() bool { return os.Getenv("WAYLAND_DISPLAY") != "" || os.Getenv("DISPLAY") != "" }
