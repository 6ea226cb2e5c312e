//go:build (desktop || dev) && !bindings

package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// windowPossible reports whether a window can be shown: a Wayland or X11 display
// is named and answers. Wails panics without one.
func windowPossible() error {
	if err := pagesBuilt(); err != nil {
		return err
	}
	return answered()
}

// answered returns nil when one of the displays that the environment names
// accepts a connection.
func answered() error {
	for _, address := range displays(os.Getenv("WAYLAND_DISPLAY"), os.Getenv("XDG_RUNTIME_DIR"), os.Getenv("DISPLAY")) {
		conn, err := net.DialTimeout(address.Network(), address.String(), time.Second)
		if err == nil {
			return conn.Close()
		}
	}
	return errors.New("no display is named, or none of those named answers")
}

// displays returns the addresses at which the named displays answer, the
// preferred one first (wl_display_connect(3); X(7), "display names").
func displays(wayland, runtimeDir, x11 string) []net.Addr {
	var found []net.Addr
	switch {
	case filepath.IsAbs(wayland):
		found = append(found, &net.UnixAddr{Net: "unix", Name: wayland})
	case wayland != "" && runtimeDir != "":
		found = append(found, &net.UnixAddr{Net: "unix", Name: filepath.Join(runtimeDir, wayland)})
	}
	i := strings.LastIndexByte(x11, ':')
	if i < 0 {
		return found
	}
	host, screen := x11[:i], x11[i+1:]
	number, _, _ := strings.Cut(screen, ".")
	n, err := strconv.ParseUint(number, 10, 15)
	if err != nil {
		return found
	}
	if host == "" || host == "unix" {
		socket := "/tmp/.X11-unix/X" + strconv.FormatUint(n, 10)
		return append(found, &net.UnixAddr{Net: "unix", Name: "@" + socket}, &net.UnixAddr{Net: "unix", Name: socket})
	}
	const x11Port = 6000
	return append(found, namedTCP(net.JoinHostPort(strings.Trim(host, "[]"), strconv.FormatUint(n+x11Port, 10))))
}

// namedTCP is a TCP address whose host is still to be looked up.
type namedTCP string

// Network returns "tcp".
func (namedTCP) Network() string { return "tcp" }

// String returns host and port.
func (a namedTCP) String() string { return string(a) }
