package conformance

import (
	"fmt"
	"io"
	"strings"
)

// Summary counts results.
type Summary struct {
	Passed   int  `json:"passed"`
	Failed   int  `json:"failed"`
	NotTried int  `json:"not_tried"`
	Kept     bool `json:"kept"`
}

// Summarise counts.
func Summarise(results []Result) Summary {
	s := Summary{Kept: Kept(results)}
	for _, r := range results {
		switch r.Outcome {
		case Passed:
			s.Passed++
		case Failed:
			s.Failed++
		default:
			s.NotTried++
		}
	}
	return s
}

// Line is one result for people: what was tried, and, where it failed, what happened
// instead, where the contract says otherwise, and what to mend.
func Line(r Result) string {
	mark := map[Outcome]string{Passed: "✓", Failed: "✗", NotTried: "–"}[r.Outcome]
	if r.Outcome == Failed && r.Severity == Should {
		mark = "!"
	}
	line := fmt.Sprintf("%s %-6s  %-30s  %s", mark, r.Severity, r.ID, r.Sentence)
	if r.Outcome == NotTried {
		line += "\n" + indent + "not tried: " + r.Saw
	}
	if r.Outcome == Failed {
		line += "\n" + indent + "saw:    " + r.Saw + "\n" + indent + "clause: " + r.Clause + "\n" + indent + "mend:   " + r.Mend
	}
	return line
}

var indent = strings.Repeat(" ", 10)

// Verdict is what comes last: the count, and what would let the others be tried.
func Verdict(results []Result) string {
	s := Summarise(results)
	text := fmt.Sprintf("%d passed, %d failed, %d not tried: ", s.Passed, s.Failed, s.NotTried)
	switch {
	case !s.Kept:
		text += "the backend does not keep the contract."
	case s.NotTried > 0:
		text += "what was tried keeps the contract; what was not tried is not known."
	default:
		text += "the backend keeps the contract."
	}
	var needs []string
	counts := map[string]int{}
	for _, r := range results {
		if r.Outcome == NotTried {
			if counts[r.Saw]++; counts[r.Saw] == 1 {
				needs = append(needs, r.Saw)
			}
		}
	}
	for _, need := range needs {
		text += fmt.Sprintf("\n  %d not tried: %s", counts[need], need)
	}
	return text
}

// Table writes all results and the verdict.
func Table(w io.Writer, results []Result) error {
	var b strings.Builder
	for _, r := range results {
		b.WriteString(Line(r) + "\n")
	}
	b.WriteString("\n" + Verdict(results) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}
