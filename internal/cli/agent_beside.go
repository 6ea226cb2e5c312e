//go:build console

package cli

import (
	"context"
	"errors"
	"io"
	"os/exec"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
)

// agent runs the program beside this one as the agent and waits for its end: a
// program of the console holds none, which makes it smaller by a quarter, and there
// is one file only that an agent can be.
func (p Program) agent(ctx context.Context) error {
	// Not ended with ctx: it is told to quit, so that it can put away what it holds.
	process := exec.Command(p.Executable, "agent")
	// A program without a console cannot write to ours, so what it says goes through here.
	process.Stdout, process.Stderr = struct{ io.Writer }{p.Stdout}, struct{ io.Writer }{p.Stderr}
	if err := process.Start(); err != nil {
		return problem.New(problem.AgentUnreachable, errors.New("the program beside this one could not be started"))
	}
	heed := context.AfterFunc(ctx, func() { _ = p.do(context.WithoutCancel(ctx), control.Intent{Name: control.Quit}) })
	defer heed()
	var ended *exec.ExitError
	switch err := process.Wait(); {
	case errors.As(err, &ended):
		return status(ended.ExitCode())
	case err != nil:
		return problem.New(problem.Internal, errors.New("waiting for the agent failed"))
	}
	return nil
}
