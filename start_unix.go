//go:build unix

package main

import (
	"fmt"
	"os/exec"
	"syscall"
)

// endedAtOnce is the fact of a window that never showed its page.
func endedAtOnce() string { return "It ended at once; it needs a display." }

// startAgent starts the agent detached: a session of its own, no terminal, no
// inherited files, no click. The channel delivers its end, should that come while
// this process lives: nil when another agent was first.
func startAgent() (<-chan error, error) {
	executable, err := ownProgram()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	closeInherited()
	cmd := agentProcess(executable)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the agent: %w", withoutPath(err))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended, nil
}

// ownFolder is where processes that last work: no caller's folder, which they would
// keep from being unmounted.
func ownFolder() string { return "/" }

func agentProcess(executable string) *exec.Cmd {
	cmd := exec.Command(executable, "agent")
	cmd.Dir = ownFolder()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}
