package main

import (
	"fmt"
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// endedAtOnce is the fact of a window that never showed its page.
func endedAtOnce() string { return "It ended at once; it needs Microsoft Edge WebView2." }

// startAgent starts the agent detached: no console, a process group of its own,
// no inherited handles. The channel delivers its end, should that come while this
// process lives: nil when another agent was first.
func startAgent() (<-chan error, error) {
	executable, err := ownProgram()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	cmd := agentProcess(executable)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the agent: %w", withoutPath(err))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended, nil
}

// ownFolder is where processes that last work: no caller's folder, which they would
// keep from being removed. Empty, which is the caller's, where the system names none.
func ownFolder() string {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return ""
	}
	return dir
}

func agentProcess(executable string) *exec.Cmd {
	cmd := exec.Command(executable, "agent")
	cmd.Dir = ownFolder()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		CreationFlags:    windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP,
		NoInheritHandles: true,
	}
	return cmd
}
