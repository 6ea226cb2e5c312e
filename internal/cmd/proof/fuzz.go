//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"encounterlauncher/internal/fuzzing"
)

// executions are those of the full form over all targets, which have leastExecutions
// each.
const (
	executions      = 10_000_000
	leastExecutions = 20_000
)

// fuzz runs every fuzz target.
func fuzz(ctx context.Context, o options, tell progress) ([]row, error) {
	asked := fuzzing.Options{Root: ".", Time: "5s", Least: leastExecutions, Total: executions, Parallel: runtime.NumCPU(), Progress: lines(func(line string) { tell(0, 0, line) })}
	if o.short {
		asked.Time, asked.Least, asked.Total = "1000x", 0, 0
	}
	r, err := fuzzing.Run(ctx, asked)
	if len(r.Targets) == 0 {
		return nil, err
	}
	var rows []row
	for _, t := range r.Targets {
		var notes []string
		for _, v := range t.Violations {
			notes = append(notes, fmt.Sprintf("input %s: %s", v.Input, firstLine(v.Says)))
		}
		rows = append(rows, count(strings.TrimPrefix(t.String(), "internal/"), t.Executions, int64(len(t.Violations)), notes...))
	}
	rows = append(rows, count("all targets together", r.Executions, int64(r.Violations)))
	if err == nil {
		err = r.Save(filepath.Join(o.out, "fuzz.json"))
	}
	if err == nil && r.Short != "" {
		err = errors.New(r.Short)
	}
	return rows, err
}

// lines gives each line that is written to a function, without its end.
type lines func(string)

func (l lines) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		l(strings.TrimRight(line, "\r\n"))
	}
	return len(text), nil
}
