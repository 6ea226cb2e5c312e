//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// startAgent starts the agent detached: a session of its own, no terminal, no
// inherited files, no click.
func startAgent() error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	closeInherited()
	cmd := exec.Command(executable, "agent")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the agent: %w", withoutPath(err))
	}
	return cmd.Process.Release()
}
