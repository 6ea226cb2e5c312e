//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"encounterlauncher/internal/canary"
)

// marked is the part canary: one row for each place that was searched, and one for
// the ways that were gone.
func marked(ctx context.Context, o options, tell progress) ([]row, error) {
	asked := canary.Options{Short: o.short, Window: !o.short}
	if _, err := os.Stat(filepath.Join("frontend", "dist", "index.html")); asked.Window && err != nil {
		return nil, errors.New("the window's page is not built: make frontend")
	}
	r, err := canary.Run(ctx, asked, func(what string) { tell(0, 0, what) })
	if err != nil {
		return nil, err
	}
	found := map[canary.PlaceName][]string{}
	for _, f := range r.Finds {
		found[f.Place] = append(found[f.Place], f.String())
	}
	marks := int64(0)
	for _, n := range r.Marks {
		marks += int64(n)
	}
	rows := []row{
		{Tried: "marks that flowed through the programs", Times: marks, Found: fmt.Sprintf("%d kinds", len(r.Marks)), Allowed: "every kind", Met: marks > 0},
		count("ways through the programs that end as they should, and show what they have to", int64(len(r.Tried)), int64(len(r.Wrong)), r.Wrong...),
	}
	listed := map[canary.PlaceName][]string{}
	for _, f := range r.Met {
		if !slices.Contains(listed[f.Place], string(f.Kind)) {
			listed[f.Place] = append(listed[f.Place], string(f.Kind))
		}
	}
	for _, l := range r.Looks {
		place := count("searched: "+string(l.Place), int64(l.Items), int64(len(found[l.Place])), found[l.Place]...)
		if kinds := listed[l.Place]; len(kinds) > 0 {
			place.Allowed = "0 beyond the list"
			place.Notes = append(place.Notes, "what the list of docs/canary.md allows there, and was there: "+strings.Join(kinds, ", "))
		}
		rows = append(rows, place)
	}
	return rows, nil
}
