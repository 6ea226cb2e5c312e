package agent

import (
	"fmt"
	"os"
	"os/exec"

	"encounterlauncher/internal/problem"
)

// Reexecute starts this program's own file as it now is on disk, with the same
// arguments and environment; the caller then ends.
func Reexecute() error {
	path, err := os.Executable()
	if err == nil {
		cmd := exec.Command(path, os.Args[1:]...)
		if err = cmd.Start(); err == nil {
			return cmd.Process.Release()
		}
	}
	return problem.New(problem.Internal, fmt.Errorf("starting the upgraded program: %w", err))
}
