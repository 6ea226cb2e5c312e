package cli

import (
	"testing"
	"time"

	"encounterlauncher/internal/agent"
)

// The second is for what an agent does after the last that it waits for.
func TestWhoTellsAnAgentToQuitWaitsLongerThanItTakes(t *testing.T) {
	if agent.EndsWithin+time.Second > quitTimeout {
		t.Errorf("an agent may take %v, and %v later it counts as left", agent.EndsWithin, quitTimeout)
	}
}
