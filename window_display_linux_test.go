//go:build (desktop || dev) && !bindings

package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheNamedDisplaysAreWhereTheirServersListen(t *testing.T) {
	for _, c := range []struct{ wayland, runtimeDir, x11, want string }{
		{"", "", "", ""},
		{"wayland-0", "/run/user/7", "", "unix /run/user/7/wayland-0"},
		{"/tmp/w", "", "", "unix /tmp/w"},
		{"wayland-0", "", "", ""},
		{"", "", ":5", "unix @/tmp/.X11-unix/X5,unix /tmp/.X11-unix/X5"},
		{"", "", "unix:5.1", "unix @/tmp/.X11-unix/X5,unix /tmp/.X11-unix/X5"},
		{"", "", "localhost:10.0", "tcp localhost:6010"},
		{"", "", "[::1]:10", "tcp [::1]:6010"},
		{"", "", "5", ""},
		{"", "", ":x", ""},
		{"", "", ":-1", ""},
		{"", "", ":99999", ""},
	} {
		var got []string
		for _, a := range displays(c.wayland, c.runtimeDir, c.x11) {
			got = append(got, a.Network()+" "+a.String())
		}
		if strings.Join(got, ",") != c.want {
			t.Errorf("%q %q %q: %q, want %q", c.wayland, c.runtimeDir, c.x11, got, c.want)
		}
	}
}

func TestADisplayThatNobodyServesIsNoDisplay(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DISPLAY", "")
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("WAYLAND_DISPLAY", "w")
	if answered() == nil {
		t.Error("a display was found where nothing listens")
	}
	l, err := net.Listen("unix", filepath.Join(dir, "w"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := answered(); err != nil {
		t.Errorf("a display that answers: %v", err)
	}
}
