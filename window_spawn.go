//go:build !desktop && !bindings && !dev

package main

import (
	"context"
	"errors"
	"os/exec"

	"encounterlauncher/internal/problem"
)

// windowHere is false: this build holds no window and starts another program.
const windowHere = false

// windowProcess is the window's own program, which lies beside this one.
func windowProcess(executable string) *exec.Cmd { return exec.Command(executable + "-window") }

// runWindow is not in this build.
func runWindow(context.Context, windowDeps) error {
	return problem.New(problem.WindowUnavailable, errors.New("this build holds no window"))
}
