//go:build !linux

package orgserver

import (
	"errors"
	"net"
)

const adminPossible = false

var errNoAdmin = errors.New("there is no admin socket on this system")

func bindAdmin(string) (net.Listener, func(), error) { return nil, nil, errNoAdmin }

func peerUID(net.Conn) (int, error) { return 0, errNoAdmin }
