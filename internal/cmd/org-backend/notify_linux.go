package main

import (
	"net"
	"os"
)

// notify tells systemd how it stands with us (sd_notify(3)). Without systemd, and when
// it does not listen, nothing happens.
func notify(state string) {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return
	}
	_, _ = conn.Write([]byte(state))
	_ = conn.Close()
}
