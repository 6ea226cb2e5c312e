//go:build !((linux && desktop) || bindings || dev)

package main

import (
	"context"
	"errors"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/first"
	"encounterlauncher/internal/problem"
)

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
