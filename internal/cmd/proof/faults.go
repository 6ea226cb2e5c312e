//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"encounterlauncher/internal/faults"
)

// faulted is the part faults: 10,000 launches by a seeded schedule, runs that are spoilt
// on purpose, which have to be found, and servers of NATS and backends that are killed
// under load. The short form has the first only.
func faulted(ctx context.Context, o options, tell progress) ([]row, error) {
	asked := faults.Options{Seed: 6, Launches: 10_000}
	if o.short {
		asked.Launches, asked.Stations, asked.Cheap = 100, 4, true
	}
	r, err := faults.Run(ctx, asked, func(what string) { tell(0, 0, what) })
	if r.Launches == 0 {
		return nil, err
	}
	var notes []string
	for _, v := range r.Found {
		notes = append(notes, fmt.Sprintf("press %d: %s", v.Step, v.What))
	}
	rows := []row{count(fmt.Sprintf("launches among faults, schedule %d: one encounter, one tab and one end each, nothing kept, nothing lost", r.Seed), int64(r.Launches), int64(len(r.Found)), notes...)}
	for _, of := range [][]faults.Row{r.Faults, r.Events} {
		for _, f := range of {
			if f.Count > 0 {
				rows = append(rows, row{Tried: "fault: " + f.What, Times: int64(f.Count), Found: "–", Allowed: "–", Met: true})
			}
		}
	}
	if text, failed := json.MarshalIndent(r, "", "  "); failed == nil {
		err = errors.Join(err, os.WriteFile(filepath.Join(o.out, "faults.json"), append(text, '\n'), 0o644))
	}
	if err == nil && len(r.NotRun) > 0 && !o.short {
		err = errors.New(strings.Join(r.NotRun, "; "))
	}
	if err != nil || o.short {
		return rows, err
	}
	for _, m := range []faults.Mutant{faults.OpensTwice, faults.CreatesAnother} {
		spoilt, err := faults.Run(ctx, faults.Options{Seed: asked.Seed, Launches: 100, Stations: 4, Cheap: true, Mutant: m}, func(what string) { tell(0, 0, what) })
		if err != nil {
			return rows, err
		}
		rows = append(rows, row{
			Tried: fmt.Sprintf("a run in which %s is noticed", m), Times: int64(spoilt.Launches), Found: number(int64(len(spoilt.Found))), Allowed: "≥ 1", Met: len(spoilt.Found) > 0,
		})
	}
	lost, err := byTests("-tags", "cluster", "-timeout", "10m", "-p", "1", "-run", "InACluster|WhateverDies", "./internal/delivery", "./internal/orgserver")(ctx, o, tell)
	return append(rows, lost...), err
}
