package main

import (
	"net"
	"path/filepath"
	"testing"
)

func TestSystemdIsToldThatWeAreReady(t *testing.T) {
	notify("READY=1") // nobody listens
	address := filepath.Join(t.TempDir(), "notify")
	socket, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	t.Setenv("NOTIFY_SOCKET", address)
	notify("READY=1")
	text := make([]byte, 64)
	n, _, err := socket.ReadFrom(text)
	if err != nil || string(text[:n]) != "READY=1" {
		t.Errorf("%q, %v", text[:n], err)
	}
}
