package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"encounterlauncher/internal/paths"
)

// pipeBuffer is the size of each direction's buffer in bytes; a snapshot fits.
const pipeBuffer = 16 << 10

// pipeAccess is what a client asks for and what the system's account is given:
// FILE_GENERIC_READ|FILE_GENERIC_WRITE without FILE_CREATE_PIPE_INSTANCE. A client
// that asked for GENERIC_WRITE would ask for that too, and the system's account be
// turned away ("Named Pipe Security and Access Rights", Microsoft Learn).
const pipeAccess = 0x12019b

// identity is a user in a logon session.
type identity struct {
	sid     string
	session uint32
}

// pipeName is the name of the channel of one user in one logon session: sessions
// of a terminal server never meet, and neither do flavours.
func pipeName(program string, who identity) string {
	return `\\.\pipe\` + program + "-" + who.sid + "-" + strconv.FormatUint(uint64(who.session), 10)
}

// pipeSDDL gives the user everything and the system's account reading and writing
// without the right to make further instances of the pipe; who comes over the
// network gets nothing, and nobody else is named.
func pipeSDDL(sid string) string {
	return fmt.Sprintf("D:P(D;;GA;;;NU)(A;;GA;;;%s)(A;;%#x;;;SY)", sid, uint32(pipeAccess))
}

// bind takes the lock of this logon session and then the name. go-winio creates
// the first instance with FILE_CREATE, so a name that somebody else holds is an
// error and never shared.
func bind(l paths.Layout) (listener net.Listener, release func(), err error) {
	me, err := ownIdentity()
	if err != nil {
		return nil, nil, err
	}
	dir, err := l.EnsureRuntimeDir()
	if err != nil {
		return nil, nil, fmt.Errorf("finding the runtime folder: %w", bare(err))
	}
	lock, err := os.OpenFile(filepath.Join(dir, "agent-"+strconv.FormatUint(uint64(me.session), 10)+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the agent's lock: %w", bare(err))
	}
	err = windows.LockFileEx(windows.Handle(lock.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if err != nil {
		_ = lock.Close()
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
			return nil, nil, ErrOwned
		}
		return nil, nil, fmt.Errorf("taking the agent's lock: %w", bare(err))
	}
	name := pipeName(l.Name, me)
	listener, err = winio.ListenPipe(name, &winio.PipeConfig{
		SecurityDescriptor: pipeSDDL(me.sid),
		InputBufferSize:    pipeBuffer,
		OutputBufferSize:   pipeBuffer,
	})
	if err != nil {
		_ = lock.Close()
		return nil, nil, fmt.Errorf("binding the pipe: %w", bare(err))
	}
	takeFirst(name)
	return listener, func() { _ = lock.Close() }, nil
}

// takeFirst takes and drops the pipe's first instance, which go-winio never serves.
// Windows gives it to no client and says at once that the pipe is busy; Wine gives
// it to the first one, whom nobody would ever answer.
func takeFirst(name string) {
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return
	}
	// SECURITY_SQOS_PRESENT alone is the level of anonymity.
	if h, err := windows.CreateFile(text, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, windows.SECURITY_SQOS_PRESENT, 0); err == nil {
		_ = windows.CloseHandle(h)
	}
}

// dial connects and checks the server, in this order: the pipe remembers the
// process that made its instance, and nothing has been sent yet. The connection
// is at the level of anonymity (SECURITY_ANONYMOUS): a server that squats the name
// cannot act as this user.
func dial(ctx context.Context, l paths.Layout) (net.Conn, int, error) {
	me, err := ownIdentity()
	if err != nil {
		return nil, 0, err
	}
	return dialTo(ctx, l.Name, me)
}

// dialTo is dial for the agent of any user in any session.
func dialTo(ctx context.Context, program string, who identity) (net.Conn, int, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	conn, err := winio.DialPipeAccess(ctx, pipeName(program, who), pipeAccess)
	if err != nil {
		if errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
			return nil, 0, ErrNoAgent
		}
		return nil, 0, fmt.Errorf("connecting to the agent: %w", bare(err))
	}
	pid, err := pipePeer(conn, windows.GetNamedPipeServerProcessId)
	if err == nil {
		var server identity
		if server, err = identityOf(pid); err == nil && server != who {
			err = errNotTheirs
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, 0, err
	}
	return conn, int(pid), nil
}

// clientOf tells the user's own processes from the system's account. The access
// list of the pipe lets in these two and nobody else; whoever is not shown to be
// the user counts as the system, which may do less.
func clientOf(conn net.Conn) (peer, error) {
	me, err := ownIdentity()
	if err != nil {
		return peer{}, err
	}
	pid, err := pipePeer(conn, windows.GetNamedPipeClientProcessId)
	if err != nil {
		return peer{}, err
	}
	client, err := identityOf(pid)
	return peerOf(me, client, err, int(pid)), nil
}

// peerOf is how a process counts; err says that it could not be asked who it is.
func peerOf(me, client identity, err error, pid int) peer {
	return peer{own: err == nil && client.sid == me.sid, pid: pid}
}

func pipePeer(conn net.Conn, ask func(windows.Handle, *uint32) error) (uint32, error) {
	c, ok := conn.(interface{ Fd() uintptr })
	if !ok {
		return 0, errors.New("the connection has no handle")
	}
	var pid uint32
	if err := ask(windows.Handle(c.Fd()), &pid); err != nil {
		return 0, fmt.Errorf("asking who is at the other end: %w", bare(err))
	}
	return pid, nil
}

func ownIdentity() (identity, error) { return identityOf(windows.GetCurrentProcessId()) }

func identityOf(pid uint32) (identity, error) {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return identity{}, fmt.Errorf("opening a process: %w", bare(err))
	}
	defer func() { _ = windows.CloseHandle(process) }()
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		return identity{}, fmt.Errorf("opening a process's token: %w", bare(err))
	}
	defer func() { _ = token.Close() }()
	user, err := token.GetTokenUser()
	if err != nil {
		return identity{}, fmt.Errorf("reading a process's user: %w", bare(err))
	}
	who := identity{sid: user.User.Sid.String()}
	if err := windows.ProcessIdToSessionId(pid, &who.session); err != nil {
		return identity{}, fmt.Errorf("reading a process's session: %w", bare(err))
	}
	return who, nil
}
