package agent

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/windows"

	"encounterlauncher/internal/problem"
)

// Reexecute starts this program's own file as it now is on disk, with the same
// arguments and environment; the caller then ends.
func Reexecute() error {
	path, err := os.Executable()
	if err == nil {
		cmd := again(path)
		if err = cmd.Start(); err == nil {
			return cmd.Process.Release()
		}
	}
	return problem.New(problem.Internal, fmt.Errorf("starting the upgraded program: %w", err))
}

// again works in no caller's folder, which it would keep from being removed.
func again(path string) *exec.Cmd {
	cmd := exec.Command(path, os.Args[1:]...)
	if dir, err := windows.GetSystemDirectory(); err == nil {
		cmd.Dir = dir
	}
	return cmd
}
