//go:build unix

package cli

import (
	"context"
	"errors"

	"encounterlauncher/internal/control"
)

// quitAll ends the agent, once what is in flight has ended: one serves all sessions
// of a user.
func (p Program) quitAll(ctx context.Context) error {
	err := p.quit(ctx, control.Intent{Name: control.Quit, Finish: true})
	if errors.Is(err, control.ErrNoAgent) {
		p.say("no agent runs")
		return nil
	}
	return err
}
