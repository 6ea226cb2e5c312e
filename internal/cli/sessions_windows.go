package cli

import (
	"context"

	"encounterlauncher/internal/control"
)

// quitAll ends the agents of the user's sessions, and run by the system's account
// those of everybody: each session has an agent of its own.
func (p Program) quitAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quitTimeout)
	defer cancel()
	q, err := control.QuitAll(ctx, p.Layout, p.Executable)
	if err != nil {
		return err
	}
	if q == (control.Quits{}) {
		p.say("no agent runs")
		return nil
	}
	p.say("agents ended: %d, windows closed: %d, still running: %d", q.Ended, q.Closed, q.Left)
	if q.Left > 0 {
		return status(Negative)
	}
	return nil
}
