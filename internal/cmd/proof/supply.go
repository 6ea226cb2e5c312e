//go:build linux

package main

import (
	"context"
	"strings"
)

// supply runs the targets of build/supply. Each is tried once: its database may not be
// reached, and then nothing is claimed.
func supply(ctx context.Context, o options, tell progress) ([]row, error) {
	steps := []struct{ target, tried string }{
		{"vulncheck", "Go's database of advisories, for every program"},
		{"npm-audit", "npm's database of advisories, for every package of the page"},
		{"licences", "the licences in every program against the list of those allowed"},
		{"sbom", "a bill of materials for every program, checked"},
		{"test-supply", "an advisory would be found; a program built twice is the same"},
		{"reproducible", "every program, page and package built twice is the same"},
	}
	if o.short {
		steps = steps[:2]
	}
	var rows []row
	for i, s := range steps {
		tell(int64(i), int64(len(steps)), s.target)
		var last []string
		err := target(ctx, func(line string) { last = append(last[max(len(last)-4, 0):], line) }, s.target, "STRICT=1")
		if ctx.Err() != nil {
			return rows, ctx.Err()
		}
		r := count(s.tried, 1, 0)
		if err != nil {
			r = count(s.tried, 1, 1, last...)
			if strings.Contains(err.Error(), "Error 75") { // how the tool says that nobody answers
				r = row{Tried: s.tried, Found: "not asked: it cannot be reached", Allowed: "0", Notes: last}
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}
