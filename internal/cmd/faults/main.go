//go:build linux

// Command faults clicks links at the real programs while things go wrong, by a seeded
// schedule, prints what was tried and found, and ends with 1 when anything was found.
// With -only it runs single presses of a schedule again. It is run anywhere in the
// module and touches nothing of the person who runs it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"encounterlauncher/internal/faults"
)

func main() {
	var o faults.Options
	flag.Uint64Var(&o.Seed, "seed", 1, "the schedule")
	flag.IntVar(&o.Launches, "n", 10_000, "links to click at least")
	flag.IntVar(&o.Stations, "stations", 12, "workstations at the same time")
	flag.BoolVar(&o.Cheap, "cheap", false, "without the events that take seconds")
	only := flag.String("only", "", "presses to run, by their steps, separated by commas")
	out := flag.String("out", "", "where the report goes as JSON; nowhere when empty")
	flag.Parse()
	for _, text := range strings.FieldsFunc(*only, func(r rune) bool { return r == ',' }) {
		step, err := strconv.Atoi(text)
		if err != nil || step < 0 {
			fmt.Fprintln(os.Stderr, "faults: -only takes steps, separated by commas")
			os.Exit(2)
		}
		o.Only = append(o.Only, step)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	r, err := faults.Run(ctx, o, func(what string) { fmt.Fprintln(os.Stderr, "faults:", what) })
	stop()
	fmt.Print(r)
	if *out != "" {
		text, _ := json.MarshalIndent(r, "", "  ") // numbers and texts can always be written
		if failed := os.WriteFile(*out, text, 0o644); failed != nil {
			fmt.Fprintln(os.Stderr, "faults:", failed)
			os.Exit(1)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
	}
	if err != nil || len(r.Found) > 0 {
		os.Exit(1)
	}
}
