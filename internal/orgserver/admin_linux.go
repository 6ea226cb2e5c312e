package orgserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const adminPossible = true

// bindAdmin takes the lock and then the name. The lock decides alone: a socket is
// removed only by who holds it, so that one that a crash left is replaced, and never
// one that is in use. The lock file stays: to remove it would let two processes hold
// locks on two files of one name.
func bindAdmin(path string) (listener net.Listener, release func(), err error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("opening its lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, nil, errors.New("another org-backend uses it")
	}
	l, err := listenAdmin(path)
	if err != nil {
		_ = lock.Close()
		return nil, nil, err
	}
	return l, func() {
		_ = os.Remove(path)
		_ = lock.Close()
	}, nil
}

func listenAdmin(path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("something that is not a socket has its name")
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing the one of a process that ended: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("looking at it: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("binding it: %w", err)
	}
	l.SetUnlinkOnClose(false)
	// Who connects before this is judged by peerUID as everybody is.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("closing it to others: %w", err), l.Close())
	}
	return l, nil
}

// peerUID is who the kernel says has connected (SO_PEERCRED, unix(7)).
func peerUID(c net.Conn) (int, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("it is not a socket of this system")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var who *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { who, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if asked != nil {
		return 0, asked
	}
	return int(who.Uid), nil
}
