package doctor

import (
	"slices"
	"time"

	"encounterlauncher/internal/text"
)

// The results of a whole run.
const (
	Fine     = "fine"
	Warnings = "warnings"
	IsBroken = "broken"
)

// Report is what a run found, in words. Its JSON is an answer of the command line and
// is kept stable: fields are only added.
type Report struct {
	Version string    `json:"version"`
	At      time.Time `json:"at"`
	// Result is fine, warnings or broken.
	Result string  `json:"result"`
	Checks []Check `json:"checks"`
	// Fixes are what Fix did and left; absent when it was not asked for.
	Fixes []Fixed `json:"fixes,omitempty"`
}

// Check is one check in words.
type Check struct {
	Name string `json:"name"`
	// Title is how people call it, Group one of the Group constants.
	Title    string `json:"title"`
	Group    string `json:"group"`
	State    State  `json:"state"`
	Findings []Said `json:"findings"`
	MS       int64  `json:"ms"`
}

// Said is one finding in words.
type Said struct {
	Code     string            `json:"code"`
	State    State             `json:"state"`
	Sentence string            `json:"sentence"`
	NextStep string            `json:"next_step"`
	Facts    map[string]string `json:"facts"`
	// Detail is the cause, for the agent's log and an archive; absent everywhere else.
	Detail string `json:"detail,omitempty"`
}

// Describe puts a result into the words of a language.
func Describe(r Result, words text.Catalogue) Check {
	c := Check{Name: r.Name, Title: words.Word("doctor." + r.Name + ".title"), State: r.State, Findings: []Said{}, MS: r.Took.Milliseconds()}
	for _, known := range checks {
		if known.name == r.Name {
			c.Group = known.group
		}
	}
	for _, f := range r.Findings {
		s := Said{Code: f.Code, State: f.State, Facts: f.Facts}
		if s.Facts == nil {
			s.Facts = map[string]string{}
		}
		s.Sentence = word(words, r.Name, f, "sentence")
		if f.State != OK {
			s.NextStep = word(words, r.Name, f, "next")
		}
		c.Findings = append(c.Findings, s)
	}
	return c
}

// Detailed is Describe with the details: for who keeps them in a log, which obeys the
// rule of package problem for causes.
func Detailed(r Result, words text.Catalogue) Check {
	c := Describe(r, words)
	for i, f := range r.Findings {
		c.Findings[i].Detail = f.detail
	}
	return c
}

// word is a word of a finding, with its facts.
func word(words text.Catalogue, check string, f Finding, part string) string {
	for _, known := range anyCheck {
		if known.Name == f.Code {
			check = "any"
		}
	}
	var facts []string
	for name, value := range f.Facts {
		facts = append(facts, name, value)
	}
	return words.Word("doctor."+check+"."+f.Code+"."+part, facts...)
}

// Summarise makes the report of a run.
func Summarise(d Deps, results []Result, words text.Catalogue) Report {
	r := Report{Version: d.Version, At: d.Now().UTC().Truncate(time.Second), Result: ResultOf(results), Checks: []Check{}}
	for _, one := range results {
		r.Checks = append(r.Checks, Describe(one, words))
	}
	return r
}

// ResultOf is the result of a run: broken, warnings, or fine. What was skipped because
// this session cannot show it is fine; what was skipped because something else is wrong
// has that as its warning.
func ResultOf(results []Result) string {
	all := OK
	for _, r := range results {
		all = worst(all, r.State)
	}
	switch all {
	case Broken:
		return IsBroken
	case Warning:
		return Warnings
	}
	return Fine
}

// Known reports whether a check has the name.
func Known(name string) bool { return slices.Contains(Names(), name) }
