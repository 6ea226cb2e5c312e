//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// Units of figures.
const (
	ms = "ms"
	mb = "MB"
	kb = "kB"
	us = "µs"
	// kb1024 is a kB of 1,024 bytes, as the kernel counts memory.
	kb1024 = "KB"
	// perSecond is of what more is better.
	perSecond = "/s"
)

// stats are what becomes of a sample. The median counts; minimum and maximum show
// how noisy the machine was.
type stats struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// sample collects values of one thing, in the unit of its figure.
type sample struct{ values []float64 }

func (s *sample) add(d moment)   { s.values = append(s.values, float64(d)/1e6) }
func (s *sample) addKB(kb int64) { s.values = append(s.values, float64(kb)/1024) }

func (s *sample) stats() *stats {
	v := slices.Sorted(slices.Values(s.values))
	n := len(v)
	return &stats{N: n, Median: (v[(n-1)/2] + v[n/2]) / 2, Min: v[0], Max: v[n-1]}
}

// percentile returns the value that so many of a hundred do not exceed.
func (s *sample) percentile(p int) *stats {
	v := slices.Sorted(slices.Values(s.values))
	at := v[(len(v)*p+99)/100-1]
	return &stats{N: len(v), Median: at, Min: at, Max: at}
}

// goal is what a figure should reach.
type goal struct {
	// Of is "ratio" (ours to the peer's median) or "value" (our median).
	Of string `json:"of"`
	// Exactly one of them is set.
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
}

func ratioAtMost(r float64) *goal  { return &goal{Of: "ratio", AtMost: r} }
func valueAtMost(v float64) *goal  { return &goal{Of: "value", AtMost: v} }
func ratioAtLeast(r float64) *goal { return &goal{Of: "ratio", AtLeast: r} }
func valueAtLeast(v float64) *goal { return &goal{Of: "value", AtLeast: v} }

// met reports whether what was reached is enough.
func (g goal) met(reached float64) bool {
	if g.AtLeast > 0 {
		return reached >= g.AtLeast
	}
	return reached <= g.AtMost
}

// figure is one row of the table.
type figure struct {
	ID     string  `json:"id"`
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Ours   *stats  `json:"ours"`
	Peer   string  `json:"peer,omitempty"`
	Theirs *stats  `json:"theirs,omitempty"`
	Ratio  float64 `json:"ratio,omitempty"`
	Goal   *goal   `json:"goal,omitempty"`
	Met    *bool   `json:"met,omitempty"`
}

// report is the whole result.
type report struct {
	CPUs    int      `json:"cpus"`
	Go      string   `json:"go"`
	Kernel  string   `json:"kernel"`
	Load    []string `json:"load"`
	Figures []figure `json:"figures"`
	// Recorded are figures that other commands have left behind.
	Recorded []recorded `json:"recorded,omitempty"`
}

func newReport() *report {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // told for reading only
	return &report{CPUs: runtime.NumCPU(), Go: runtime.Version(), Kernel: strings.TrimSpace(string(kernel)), Load: []string{load()}}
}

// load is the machine's load average over the last minute: above the number of
// processors, somebody else was at work too.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func (r *report) sample() *sample { return &sample{} }

func (r *report) add(f figure) {
	if f.Theirs != nil {
		f.Ratio = f.Ours.Median / f.Theirs.Median
	}
	if f.Goal != nil {
		reached := f.Ours.Median
		if f.Goal.Of == "ratio" {
			reached = f.Ratio
		}
		met := f.Goal.met(reached)
		f.Met = &met
	}
	r.Figures = append(r.Figures, f)
}

func (r *report) write(path string) error {
	r.Load = append(r.Load, load())
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func (r *report) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nfigure\tmedian (min–max)\tn\tpeer\tmedian (min–max)\tn\tratio\tgoal\t")
	for _, f := range r.Figures {
		fmt.Fprintf(w, "%s\t%s\t%d\t", f.Name, f.Ours.text(f.Unit), f.Ours.N)
		if f.Theirs != nil {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t", f.Peer, f.Theirs.text(f.Unit), f.Theirs.N, times(f.Ratio))
		} else {
			fmt.Fprint(w, "\t\t\t\t")
		}
		fmt.Fprintf(w, "%s\t\n", f.outcome())
	}
	for i, x := range r.Recorded {
		if i == 0 {
			fmt.Fprint(w, "\t\t\t\t\t\t\t\t\nnot of this run\tvalue\t\tby\tat\t\t\tgoal\t\n")
		}
		fmt.Fprintf(w, "%s\t%s\t\t%s\t%s\t\t\t%s\t\n", x.Name, x.Value, x.By, x.At.UTC().Format("2006-01-02 15:04"), outcome(x.Goal, x.Met))
	}
	_ = w.Flush() // the table goes where errors would go
	fmt.Fprintf(to, "\n%d processors, %s, Linux %s, load %s before and %s after\n", r.CPUs, r.Go, r.Kernel, r.Load[0], r.Load[len(r.Load)-1])
}

func (s *stats) text(unit string) string {
	if s.Min == s.Max {
		return fmt.Sprintf("%.1f %s", s.Median, unit)
	}
	return fmt.Sprintf("%.1f %s (%.1f–%.1f)", s.Median, unit, s.Min, s.Max)
}

func times(ratio float64) string {
	if ratio < 0.1 {
		return fmt.Sprintf("1/%.0f", 1/ratio)
	}
	return fmt.Sprintf("%.2f×", ratio)
}

func (f figure) outcome() string {
	if f.Goal == nil {
		return ""
	}
	return outcome(f.Goal.text(f.Unit), f.Met)
}

// outcome is a goal and whether it was reached.
func outcome(goal string, met *bool) string {
	switch {
	case met == nil:
		return goal
	case *met:
		return goal + "  met"
	}
	return goal + "  MISSED"
}

// text is the goal of a figure of that unit, in words.
func (g goal) text(unit string) string {
	sign, bound := "≤", g.AtMost
	if g.AtLeast > 0 {
		sign, bound = "≥", g.AtLeast
	}
	if g.Of == "ratio" {
		return sign + " " + times(bound)
	}
	return fmt.Sprintf("%s %.0f %s", sign, bound, unit)
}
