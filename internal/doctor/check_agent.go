package doctor

import (
	"context"
	"errors"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/tokenstore"
)

func checkAgent(ctx context.Context, w *world, c check) []Finding {
	s, err := w.Agent(ctx)
	switch {
	case errors.Is(err, control.ErrNoAgent):
		return []Finding{w.say(c, "not_running")}
	case err != nil:
		return []Finding{w.say(c, "no_answer").because(causeOf(err))}
	case s.Version != w.Version:
		return []Finding{w.say(c, "other_version", "running", s.Version, "installed", w.Version)}
	}
	return []Finding{w.say(c, "fine", "version", s.Version)}
}

func checkKeyring(ctx context.Context, w *world, c check) []Finding {
	err := w.Keyring.Probe(ctx)
	if err == nil {
		err = w.Keyring.Check(ctx)
	}
	switch {
	case err == nil:
		return []Finding{w.say(c, "fine")}
	case tokenstore.NoAnswer(err):
		return []Finding{w.say(c, "no_answer").because(causeOf(err))}
	}
	code := "failed"
	switch problem.CodeOf(err) {
	case problem.KeyringLocked:
		code = "locked"
	case problem.KeyringUnavailable:
		code = "unavailable"
		if w.Policy.SharedWorkstation {
			code = "not_needed" // a sign-in stays in memory there, by policy
		}
	case problem.KeyringCorrupt:
		code = "corrupt"
	}
	return []Finding{w.say(c, code).because(causeOf(err))}
}

func checkTray(ctx context.Context, w *world, c check) []Finding {
	switch w.Tray(ctx) {
	case TrayShown:
		return []Finding{w.say(c, "fine")}
	case TrayNoSession:
		return []Finding{w.say(c, "no_session")}
	}
	return []Finding{w.say(c, "no_tray")}
}
