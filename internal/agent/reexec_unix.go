//go:build unix

package agent

import (
	"fmt"
	"os"
	"syscall"

	"encounterlauncher/internal/problem"
)

// Reexecute replaces this process by its own file as it now is on disk, with
// the same arguments and environment. It returns only on failure.
func Reexecute() error {
	path, err := os.Executable()
	if err == nil {
		err = syscall.Exec(path, os.Args, os.Environ())
	}
	return problem.New(problem.Internal, fmt.Errorf("starting the upgraded program: %w", err))
}
