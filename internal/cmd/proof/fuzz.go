//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// fuzzed is what go test says of a fuzz target now and then.
var fuzzed = regexp.MustCompile(`^fuzz: elapsed: .*execs: ([0-9]+)`)

// fuzz runs make fuzz and reads from go's own words which targets ran and how often.
func fuzz(ctx context.Context, o options, tell progress) ([]row, error) {
	each := "40s"
	if o.short {
		each = "2s"
	}
	var rows []row
	err := target(ctx, func(line string) {
		pkg, name, ok := strings.Cut(line, " ")
		if ok && strings.HasPrefix(pkg, "encounterlauncher/") && strings.HasPrefix(name, "Fuzz") {
			rows = append(rows, count(strings.TrimPrefix(pkg, "encounterlauncher/internal/")+" "+name, 0, 0))
		}
		if len(rows) == 0 {
			return
		}
		r := &rows[len(rows)-1]
		if m := fuzzed.FindStringSubmatch(line); m != nil {
			n, _ := strconv.ParseInt(m[1], 10, 64) // digits only
			*r = count(r.Tried, n, 0)
		}
		if strings.HasPrefix(line, "--- FAIL") {
			*r = count(r.Tried, r.Times, 1, "go test tells the input, and has written it to testdata/fuzz")
		}
		tell(0, 0, fmt.Sprintf("%s, %s executions", r.Tried, number(r.Times)))
	}, "fuzz", "FUZZTIME="+each)
	if err != nil && ctx.Err() == nil {
		for _, r := range rows {
			if r.Found != "0" {
				return rows, errors.New("the targets after the one that failed did not run")
			}
		}
	}
	return rows, err
}
