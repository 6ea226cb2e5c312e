package doctor

import (
	"context"

	"encounterlauncher/internal/scheme"
)

// checkScheme says who receives the links, and by exactly which command.
func checkScheme(ctx context.Context, w *world, c check) []Finding {
	s, err := w.Scheme()
	if err != nil {
		return []Finding{w.say(c, "failed").because(causeOf(err))}
	}
	var found []Finding
	for _, r := range s.Registrations {
		if r.Has(scheme.Unreadable) {
			found = append(found, w.say(c, "unreadable", "where", r.Where))
		}
	}
	r, effective := s.Effective()
	switch {
	case !effective:
		found = append(found, w.say(c, "none"))
	case !r.Ours && !scheme.SameProgram(r.Program, w.Executable):
		found = append(found, w.say(c, "other_program", "program", r.Program, "where", r.Where))
	case len(r.Faults) > 0 && !r.Has(scheme.Unreadable):
		f := w.say(c, "wrong_command", "where", r.Where, "command", r.Command)
		for _, fault := range r.Faults {
			f.detail += string(fault) + " "
		}
		found = append(found, f)
	case !scheme.SameProgram(r.Program, w.Executable):
		found = append(found, w.say(c, "another_copy", "program", r.Program, "where", r.Where))
	default:
		found = append(found, w.say(c, "fine", "command", r.Command))
	}
	if machine, ok := s.Machine(); ok && effective && r.Place == scheme.ForUser && !scheme.SameProgram(machine.Program, r.Program) {
		found = append(found, w.say(c, "hidden", "where", r.Where))
	}
	asked, err := w.Ask(ctx, s)
	if err == nil && !asked.Agrees {
		f := w.say(c, "tool_disagrees", "tool", asked.Tool)
		f.detail = "the tool names " + asked.Answer
		found = append(found, f)
	}
	return found
}
