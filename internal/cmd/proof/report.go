//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one thing that was tried, and what came of it.
type row struct {
	Tried string `json:"tried"`
	// Times is how often it was tried; a row with 0 shows nothing and is not met.
	Times int64 `json:"times"`
	// Found and Allowed are counts or figures with their unit.
	Found   string `json:"found"`
	Allowed string `json:"allowed"`
	Met     bool   `json:"met"`
	// Notes say what was found; never a patient, an address, a token or a link.
	Notes []string `json:"notes,omitempty"`
}

// count is a row of which nothing may be found.
func count(tried string, times, found int64, notes ...string) row {
	r := row{Tried: tried, Times: times, Found: number(found), Allowed: "0", Met: times > 0 && found == 0, Notes: notes}
	if times == 0 && found == 0 {
		r.Found = "not tried"
	}
	return r
}

// result is what came of a part.
type result struct {
	Part    string  `json:"part"`
	Shows   string  `json:"shows"`
	Rows    []row   `json:"rows,omitempty"`
	NotRun  string  `json:"not_run,omitempty"` // why it did not run, or not to its end
	Seconds float64 `json:"seconds"`
}

// found counts the rows that are not met.
func (r result) found() (n int) {
	for _, row := range r.Rows {
		if !row.Met {
			n++
		}
	}
	return n
}

func (r result) shown() bool { return r.NotRun == "" && r.found() == 0 }

func (r result) verdict() string {
	switch n := r.found(); {
	case r.NotRun != "" && n > 0:
		return fmt.Sprintf("FOUND in %d of %d, and not run to its end: %s", n, len(r.Rows), r.NotRun)
	case r.NotRun != "":
		return "not run: " + r.NotRun
	case n > 0:
		return fmt.Sprintf("FOUND in %d of %d", n, len(r.Rows))
	default:
		return fmt.Sprintf("shown, %d of %d", len(r.Rows), len(r.Rows))
	}
}

// report is the whole result.
type report struct {
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended"`
	Short  bool      `json:"short"`
	CPUs   int       `json:"cpus"`
	Go     string    `json:"go"`
	Kernel string    `json:"kernel"`
	Parts  []result  `json:"parts"`
	// Shown is true when every part ran and nothing was found.
	Shown bool `json:"shown"`
}

func newReport(short bool) *report {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // told for reading only
	return &report{
		Begun: time.Now().UTC().Truncate(time.Second), Short: short, CPUs: runtime.NumCPU(), Go: runtime.Version(), Kernel: strings.TrimSpace(string(kernel)),
		Shown: true,
	}
}

func (r *report) add(got result) {
	r.Parts = append(r.Parts, got)
	r.Shown = r.Shown && got.shown()
}

// write writes proof.json and proof.md.
func (r *report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "proof.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "proof.md"), []byte(r.page()), 0o644),
	)
}

// print writes the table for people.
func (r *report) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\npart\ttried\thow often\tfound\tallowed\t")
	for _, p := range r.Parts {
		for _, row := range p.Rows {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Part, row.Tried, number(row.Times), row.Found, row.Allowed, mark(row.Met))
		}
		if p.NotRun != "" {
			fmt.Fprintf(w, "%s\tnot run: %s\t\t\t\tNOT RUN\n", p.Part, firstLine(p.NotRun))
		}
	}
	_ = w.Flush() // the table goes where errors would go
	for _, p := range r.Parts {
		for _, row := range p.Rows {
			for _, note := range row.Notes {
				fmt.Fprintf(to, "%s: %s: %s\n", p.Part, row.Tried, note)
			}
		}
	}
	fmt.Fprintf(to, "\n%s\n", r.summary())
}

func (r *report) summary() string {
	shown := 0
	for _, p := range r.Parts {
		if p.shown() {
			shown++
		}
	}
	form := "full form"
	if r.Short {
		form = "short form, which shows less"
	}
	return fmt.Sprintf("%d of %d parts shown (%s) in %v; %d processors, %s, Linux %s",
		shown, len(r.Parts), form, r.Ended.Sub(r.Begun).Round(time.Second), r.CPUs, r.Go, r.Kernel)
}

// page is the report in Markdown.
func (r *report) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Proof\n\n%s. Begun %s.\n", r.summary(), r.Begun.Format(time.RFC3339))
	for _, p := range r.Parts {
		fmt.Fprintf(&b, "\n## %s\n\n%s. **%s**, %.0f s.\n", p.Part, cell(p.Shows), cell(p.verdict()), p.Seconds)
		if len(p.Rows) == 0 {
			continue
		}
		b.WriteString("\n| tried | how often | found | allowed | |\n|---|---:|---:|---:|---|\n")
		for _, row := range p.Rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", cell(row.Tried), number(row.Times), cell(row.Found), cell(row.Allowed), mark(row.Met))
		}
		for _, row := range p.Rows {
			for _, note := range row.Notes {
				fmt.Fprintf(&b, "\n- %s: %s", cell(row.Tried), cell(note))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func mark(met bool) string {
	if met {
		return "ok"
	}
	return "FOUND"
}

// cell is a text as the content of a cell of Markdown.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ", "<", "&lt;").Replace(text)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// number writes n with its thousands apart.
func number(n int64) string {
	digits, sign := strconv.FormatInt(n, 10), ""
	if n < 0 {
		digits, sign = digits[1:], "-"
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
