package fuzzing

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// Write prints the table: one line for each target, the sum, and what every
// violation says.
func (r Report) Write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "executions\tnew interesting\tfailures\tseconds\t  target")
	for _, t := range r.Targets {
		fmt.Fprintf(table, "%s\t%d\t%d\t%.0f\t  %s\n", thousands(t.Executions), t.New, len(t.Violations), t.Seconds, t)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, t := range r.Targets {
		for _, v := range t.Violations {
			fmt.Fprintf(w, "\n%s, input %s\n%s\n", t, v.Input, v.Says)
		}
	}
	_, err := fmt.Fprintf(w, "\n%s executions of %d targets, %d violations\n", thousands(r.Executions), len(r.Targets), r.Violations)
	if err == nil && r.Short != "" {
		_, err = fmt.Fprintln(w, "not finished: "+r.Short)
	}
	return err
}

func thousands(n int64) string {
	text := fmt.Sprint(n)
	var parts []string
	for len(text) > 3 {
		parts = append([]string{text[len(text)-3:]}, parts...)
		text = text[:len(text)-3]
	}
	return strings.Join(append([]string{text}, parts...), ",")
}

// Save writes the report as JSON, the folder with it.
func (r Report) Save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Load reads a report that Save wrote; a file that is not there is an empty report.
func Load(path string) (Report, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Report{}, nil
	}
	var r Report
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return Report{}, fmt.Errorf("reading the report: %w", err)
	}
	return r, nil
}
