package control

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// longestAddress is sun_path without its end: unix(7).
const longestAddress = 107

// addressIn returns a name for the socket that fits into an address: where homes
// lie deep on a file server the path itself does not, and goes through a
// descriptor of its folder. done must be called after bind or connect.
func addressIn(dir, name string) (address string, done func(), err error) {
	path := filepath.Join(dir, name)
	if len(path) <= longestAddress {
		return path, func() {}, nil
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	f := os.NewFile(uintptr(fd), "")
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name, func() { _ = f.Close() }, nil
}

// credentials returns who the kernel says is at the other end: for a server the
// process that called listen(2), for a client the one that called connect(2)
// (SO_PEERCRED, unix(7)).
func credentials(conn net.Conn) (uid, pid int, err error) {
	err = raw(conn, func(fd int) error {
		c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return fmt.Errorf("asking who is at the other end: %w", err)
		}
		uid, pid = int(c.Uid), int(c.Pid)
		return nil
	})
	return uid, pid, err
}
