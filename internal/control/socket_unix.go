//go:build unix

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"encounterlauncher/internal/paths"
)

const (
	socketName = "control.sock"
	lockName   = "agent.lock"
)

// bind takes the lock and then the name. The lock decides alone: a socket is
// removed only by who holds it, so two agents that start at once never take each
// other's socket away, and a crashed agent's is replaced.
func bind(l paths.Layout) (listener net.Listener, release func(), err error) {
	dir, err := l.EnsureRuntimeDir()
	if err != nil {
		return nil, nil, fmt.Errorf("finding the runtime folder: %w", bare(err))
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the agent's lock: %w", bare(err))
	}
	// The lock file stays for ever: to remove it would let two processes hold locks
	// on two files of one name.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil, ErrOwned
		}
		return nil, nil, fmt.Errorf("taking the agent's lock: %w", err)
	}
	socket := filepath.Join(dir, socketName)
	listener, err = listenUnix(dir, socket)
	if err != nil {
		_ = lock.Close()
		return nil, nil, err
	}
	release = func() {
		_ = os.Remove(socket)
		_ = lock.Close()
	}
	return listener, release, nil
}

func listenUnix(dir, socket string) (net.Listener, error) {
	info, err := os.Lstat(socket)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("something that is not a socket has the socket's name")
	case err == nil:
		if err := os.Remove(socket); err != nil {
			return nil, fmt.Errorf("removing the socket of an agent that ended: %w", bare(err))
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("looking at the socket: %w", bare(err))
	}
	address, done, err := addressIn(dir, socketName)
	if err != nil {
		return nil, fmt.Errorf("naming the socket: %w", bare(err))
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("binding the socket: %w", bare(err))
	}
	l.SetUnlinkOnClose(false)
	// Until here the folder (0700) keeps others out, and after it too.
	if err := os.Chmod(socket, 0o600); err != nil {
		_ = l.Close()
		_ = os.Remove(socket)
		return nil, fmt.Errorf("closing the socket to others: %w", bare(err))
	}
	return l, nil
}

// dial connects and checks the server, in this order: the kernel remembers who
// listened on the socket, and nothing has been sent yet.
func dial(ctx context.Context, l paths.Layout) (net.Conn, int, error) {
	dir, err := l.EnsureRuntimeDir()
	if err != nil {
		return nil, 0, fmt.Errorf("finding the runtime folder: %w", bare(err))
	}
	address, done, err := addressIn(dir, socketName)
	if err != nil {
		return nil, 0, fmt.Errorf("naming the socket: %w", bare(err))
	}
	defer done()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", address)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, 0, ErrNoAgent
		}
		return nil, 0, fmt.Errorf("connecting to the agent: %w", bare(err))
	}
	uid, pid, err := credentials(conn)
	if err == nil && uid != os.Geteuid() {
		err = errors.New("the process that has the agent's name belongs to another user")
	}
	if err != nil {
		_ = conn.Close()
		return nil, 0, err
	}
	return conn, pid, nil
}

// clientOf vouches for a client: a process of this user, or an error.
func clientOf(conn net.Conn) (peer, error) {
	uid, pid, err := credentials(conn)
	if err != nil {
		return peer{}, err
	}
	if uid != os.Geteuid() {
		return peer{}, errors.New("the client belongs to another user")
	}
	return peer{own: true, pid: pid}, nil
}

// raw runs f with the descriptor of a connection.
func raw(conn net.Conn, f func(fd int) error) error {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return errors.New("the connection has no descriptor")
	}
	rc, err := c.SyscallConn()
	if err != nil {
		return errors.New("the connection has no descriptor")
	}
	var inner error
	if err := rc.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return errors.New("the connection is closed")
	}
	return inner
}
