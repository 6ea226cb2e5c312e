package agent

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

const (
	// examineTime bounds the process that examines the computer; by itself it ends
	// within ten seconds.
	examineTime = 15 * time.Second
	// mostDoctorChecks and mostDoctorFindings bound what is believed of it.
	mostDoctorChecks   = 40
	mostDoctorFindings = 40
	mostDoctorText     = 400
	mostDoctorDetail   = 600
)

// examined is the newest examination in codes, from which its words are made anew when
// the language changes.
type examined struct {
	mu sync.Mutex
	// started names the examination; zero for none. running says that it goes on.
	started time.Time    // guarded by mu
	running bool         // guarded by mu
	checks  []doctorLine // guarded by mu; the list itself is never changed
}

// doctorLine is a line of "doctor --json-lines": the first names the checks in Plan,
// then one comes for each check, and the last has neither.
type doctorLine struct {
	Plan     []string        `json:"plan"`
	Groups   []string        `json:"groups"` // of the checks of Plan
	Name     string          `json:"name"`
	Group    string          `json:"group"`
	State    view.CheckState `json:"state"`
	Findings []struct {
		Code     string            `json:"code"`
		State    view.CheckState   `json:"state"`
		Sentence string            `json:"sentence"`
		NextStep string            `json:"next_step"`
		Facts    map[string]string `json:"facts"`
		Detail   string            `json:"detail"`
	} `json:"findings"`
	MS int64 `json:"ms"`
}

// examineComputer begins an examination, or joins the one that goes on.
func (a *Agent) examineComputer() {
	if a.opts.Doctor == nil {
		return
	}
	e := &a.examined
	e.mu.Lock()
	begun := !e.running
	if begun {
		e.started, e.running, e.checks = a.now(), true, nil
	}
	e.mu.Unlock()
	if begun {
		a.showExamination()
		a.examine.ring()
	}
}

// keepExamining makes the examinations that were asked for until ctx ends. It runs
// beside everything else and nothing waits for it.
func (a *Agent) keepExamining(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.examine:
			a.examineOnce(ctx)
		}
	}
}

func (a *Agent) examineOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, examineTime)
	defer cancel()
	err := a.opts.Doctor(ctx, func(line []byte) {
		var l doctorLine
		if json.Unmarshal(line, &l) != nil {
			return
		}
		a.logDetails(l)
		a.examined.take(l)
		a.showExamination()
	})
	e := &a.examined
	e.mu.Lock()
	e.running = false
	// What was promised and did not come is not shown as if it still might.
	e.checks = slices.DeleteFunc(slices.Clone(e.checks), func(l doctorLine) bool { return l.State == view.CheckWaiting })
	if len(e.checks) == 0 {
		e.started = time.Time{}
	}
	e.mu.Unlock()
	a.showExamination()
	if err != nil && ctx.Err() == nil {
		a.log.Warn("the computer could not be examined", "problem", problem.Of(err))
	}
}

// logDetails keeps why a check found what it did: no page shows it, and the log is what
// goes to IT.
func (a *Agent) logDetails(l doctorLine) {
	for _, f := range l.Findings[:min(len(l.Findings), mostDoctorFindings)] {
		if f.Detail != "" {
			a.log.Info("a finding of the examination", "check", view.Inert(l.Name, 40), "code", view.Inert(f.Code, 40), "detail", view.Inert(f.Detail, mostDoctorDetail))
		}
	}
}

// take adds a line.
func (e *examined) take(l doctorLine) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case len(l.Plan) > 0:
		e.checks = nil
		for i, name := range l.Plan[:min(len(l.Plan), mostDoctorChecks)] {
			planned := doctorLine{Name: name, State: view.CheckWaiting}
			if i < len(l.Groups) {
				planned.Group = l.Groups[i]
			}
			e.checks = append(e.checks, planned)
		}
	case l.Name == "":
	default:
		switch l.State {
		case view.CheckOK, view.CheckSkipped, view.CheckWarning, view.CheckBroken:
		default:
			return // of a newer program, which says something else
		}
		l.Findings = l.Findings[:min(len(l.Findings), mostDoctorFindings)]
		// Readers hold the list that was there.
		e.checks = slices.Clone(e.checks)
		if i := slices.IndexFunc(e.checks, func(known doctorLine) bool { return known.Name == l.Name }); i >= 0 {
			e.checks[i] = l
		} else if len(e.checks) < mostDoctorChecks {
			e.checks = append(e.checks, l)
		}
	}
}

// showExamination publishes the newest examination in the person's language.
func (a *Agent) showExamination() {
	words := *a.words.Load()
	a.board.change(func(s *view.Snapshot) {
		e := &a.examined
		e.mu.Lock()
		started, running, checks := e.started, e.running, e.checks
		e.mu.Unlock()
		if started.IsZero() {
			s.Doctor = nil
			return
		}
		seen := &view.Doctor{Running: running, StartedAt: started, Checks: []view.DoctorCheck{}}
		for _, l := range checks {
			seen.Checks = append(seen.Checks, l.seen(words))
		}
		s.Doctor = seen
	})
}

// seen is a check in words. What a newer program says that this one has no words for is
// told as that program says it.
func (l doctorLine) seen(words text.Catalogue) view.DoctorCheck {
	name := view.Inert(l.Name, 40)
	c := view.DoctorCheck{Name: name, Title: name, Group: view.Inert(l.Group, 20), State: l.State, Findings: []view.DoctorFinding{}, MS: l.MS}
	if title, ok := doctorWord(words, l.Name, "title"); ok {
		c.Title = title
	}
	for _, f := range l.Findings {
		said := view.DoctorFinding{Code: view.Inert(f.Code, 40), State: f.State, Sentence: view.Inert(f.Sentence, mostDoctorText), NextStep: view.Inert(f.NextStep, mostDoctorText)}
		facts := make([]string, 0, 2*len(f.Facts))
		for fact, value := range f.Facts {
			facts = append(facts, fact, view.Inert(value, mostDoctorText))
		}
		for _, check := range [...]string{l.Name, "any"} {
			sentence, ok := doctorWord(words, check, f.Code+".sentence", facts...)
			if !ok {
				continue
			}
			said.Sentence, said.NextStep = sentence, ""
			if next, ok := doctorWord(words, check, f.Code+".next", facts...); ok && f.State != view.CheckOK {
				said.NextStep = next
			}
			break
		}
		c.Findings = append(c.Findings, said)
	}
	return c
}

// doctorWord returns a word of the doctor's, and whether there is one.
func doctorWord(words text.Catalogue, check, rest string, facts ...string) (string, bool) {
	key := "doctor." + check + "." + rest
	word := words.Word(key, facts...)
	return word, word != key
}
