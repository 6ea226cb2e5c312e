//go:build linux

package main

import (
	"context"
	"errors"
	"strings"
)

// attackers are the tests that become other users of this computer, for which they
// need root, and say so else; then hostile pages in a real browser and squatters on
// the ports of a sign-in, which the end-to-end test plays. The short form leaves those
// to it, and presses a thousand links in the worst way only.
func attackers(ctx context.Context, o options, tell progress) ([]row, error) {
	args := []string{"-tags", "attackers", "-timeout", "10m", "./internal/attackers"}
	if o.short {
		args = append([]string{"-short"}, args...)
	}
	rows, err := byTests(args...)(ctx, o, tell)
	if err != nil || o.short {
		return rows, err
	}
	pages, err := hostilePages(ctx, tell)
	return append(rows, pages...), err
}

// hostilePages has one row for each step of that part of the end-to-end test. A step
// that was not tried has shown nothing.
func hostilePages(ctx context.Context, tell progress) ([]row, error) {
	var rows []row
	seen := map[string]bool{} // what failed is said once more at the end
	err := target(ctx, func(line string) {
		for mark, met := range map[string]bool{"  ✓ attackers: ": true, "  ✗ attackers: ": false, "  - attackers: ": false} {
			name, found := strings.CutPrefix(line, mark)
			if !found {
				continue
			}
			if i := strings.LastIndex(name, " ("); i > 0 {
				name = name[:i] // how long it took
			}
			if seen[name] {
				continue
			}
			seen[name] = true
			r := row{Tried: name, Times: 1, Found: "0", Allowed: "0", Met: met}
			if !met {
				r.Found = "1"
			}
			rows = append(rows, r)
			tell(int64(len(rows)), 0, name)
		}
	}, "test-attackers-pages")
	if err != nil && len(rows) > 0 && ctx.Err() == nil {
		return rows, nil // the steps say it
	}
	if err == nil && len(rows) == 0 {
		err = errors.New("the end-to-end test says nothing of a hostile page")
	}
	return rows, err
}
