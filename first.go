//go:build !((linux && desktop) || bindings || dev)

package main

import (
	"context"
	"errors"
	"os/exec"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/first"
	"encounterlauncher/internal/problem"
)

// startedFirst is startAgent where the agent was started before this program was
// initialised.
func startedFirst() (<-chan error, error) {
	agent := first.Attempt().Agent
	if agent == nil {
		return startAgent()
	}
	ended := make(chan error, 1)
	go func() {
		state, err := agent.Wait()
		if err == nil && !state.Success() {
			err = &exec.ExitError{ProcessState: state}
		}
		ended <- err
	}()
	return ended, nil
}

// offeredFirst is what became of the link before this program was initialised; asked
// is false when nobody was asked. The results are those of offer.
func offeredFirst() (ack control.Ack, asked bool, err error) {
	switch o := first.Attempt(); {
	case !o.Asked:
		return control.Ack{}, false, nil
	case o.Late:
		return control.Ack{}, true, problem.New(problem.AgentUnreachable, context.DeadlineExceeded)
	case len(o.Answer) == 0:
		return control.Ack{}, true, problem.New(problem.AgentUnreachable, errors.New("the agent ended while it was asked"))
	default:
		ack, err := control.ReadAck(o.Answer)
		return ack, true, err
	}
}
