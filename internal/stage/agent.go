//go:build linux

package stage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Agent is a launcher's agent that runs, whoever has started it.
type Agent struct {
	PID int
	own *Program // where this process has started it
}

// Socket is the agent's control socket in this session.
func (s *Session) Socket() string {
	return filepath.Join(s.Folder("run"), "encounter-launcher", "control.sock")
}

// Agent asks the kernel who listens on the control socket. It says nothing to the
// agent. The error says that none runs.
func (s *Session) Agent() (Agent, error) {
	pid, err := listener(s.Socket())
	if err != nil {
		return Agent{}, fmt.Errorf("no agent runs: %w", err)
	}
	a := Agent{PID: pid}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.started {
		if p.PID() == pid {
			a.own = p
		}
	}
	return a, nil
}

func listener(socket string) (int, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, errors.New("nobody listens")
	}
	defer conn.Close()
	rc, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var inner error
	if err := rc.Control(func(fd uintptr) { peer, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, inner
	}
	return int(peer.Pid), nil
}

// StartAgent starts the agent without a link and returns when it listens.
func (s *Session) StartAgent(ctx context.Context) (Agent, error) {
	p, err := s.Start(s.Command(context.WithoutCancel(ctx), s.programs.Path(LauncherName), "agent"))
	if err != nil {
		return Agent{}, err
	}
	var a Agent
	err = Await(ctx, "the agent", func() bool {
		a, err = s.Agent()
		return err == nil || p.Ended()
	})
	if err == nil && a.PID == 0 {
		err = errors.New("the agent ended: " + p.Said())
	}
	return a, err
}

// Stop asks the agent to end (SIGTERM) and returns when the process is gone.
func (a Agent) Stop(ctx context.Context) error { return a.end(ctx, syscall.SIGTERM) }

// Kill ends the agent as a crash does (SIGKILL) and returns when the process is gone.
func (a Agent) Kill(ctx context.Context) error { return a.end(ctx, syscall.SIGKILL) }

func (a Agent) end(ctx context.Context, with syscall.Signal) error {
	if !a.Alive() {
		return nil
	}
	if err := syscall.Kill(a.PID, with); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return Await(ctx, "the end of the agent", func() bool { return !a.Alive() })
}

// Pause stops the agent's process where it stands (SIGSTOP), as a machine that is
// suspended; Resume lets it go on.
func (a Agent) Pause() error { return syscall.Kill(a.PID, syscall.SIGSTOP) }

// Resume lets a paused agent go on (SIGCONT).
func (a Agent) Resume() error { return syscall.Kill(a.PID, syscall.SIGCONT) }

// Alive reports whether the agent's process is there.
func (a Agent) Alive() bool {
	if a.own != nil {
		return !a.own.Ended()
	}
	return Alive(a.PID)
}

func inOrder(named map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(named)) {
		words = append(words, name+"="+named[name])
	}
	return strings.Join(words, " ")
}
