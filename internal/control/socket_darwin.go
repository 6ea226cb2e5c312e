package control

import (
	"fmt"
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// addressIn returns the path itself; one that is too long fails to bind.
func addressIn(dir, name string) (address string, done func(), err error) {
	return filepath.Join(dir, name), func() {}, nil
}

// credentials returns who the kernel says is at the other end (LOCAL_PEERCRED,
// unix(4)).
func credentials(conn net.Conn) (uid, pid int, err error) {
	err = raw(conn, func(fd int) error {
		c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err != nil {
			return fmt.Errorf("asking who is at the other end: %w", err)
		}
		uid = int(c.Uid)
		pid, _ = unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		return nil
	})
	return uid, pid, err
}
