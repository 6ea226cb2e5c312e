package doctor

import (
	"context"
	"errors"

	"encounterlauncher/internal/problem"
)

// checkPolicy says what the policy room found. Its sentences are for IT and English;
// the codes say the same in the person's language.
func checkPolicy(_ context.Context, w *world, c check) []Finding {
	var found []Finding
	for _, f := range w.Policy.Findings {
		switch {
		case f.Key == "" && f.RefusesLaunches:
			found = append(found, w.say(c, "unreadable", "source", f.Source))
		case f.Key == "":
			found = append(found, w.say(c, "unread", "source", f.Source))
		case f.Code == problem.PolicyMissing:
			found = append(found, w.say(c, "missing", "key", f.Key))
		case f.RefusesLaunches:
			found = append(found, w.say(c, "refused", "key", f.Key))
		default:
			found = append(found, w.say(c, "rejected", "key", f.Key))
		}
		found[len(found)-1].detail = f.Sentence
	}
	if w.HTTPProblem != nil && w.Policy.LaunchProblem() == nil {
		// Values that are good by themselves and cannot be used on this computer.
		key := "ProxyMode"
		if w.Policy.ExtraCAFile != "" {
			key = "ExtraCAFile"
		}
		var p *problem.Problem
		if errors.As(w.HTTPProblem, &p) && p.Fact != "" {
			key = firstWord(p.Fact)
		}
		found = append(found, w.say(c, "refused", "key", key).because(causeOf(w.HTTPProblem)))
	}
	if len(found) == 0 {
		return []Finding{w.say(c, "fine")}
	}
	return found
}

// firstWord is the key with which transport's sentences about policy begin.
func firstWord(sentence string) string {
	for i := range len(sentence) {
		if sentence[i] == ' ' {
			return sentence[:i]
		}
	}
	return sentence
}
