// Command fuzz runs every fuzz target of the tree, prints a table and writes
// build/out/fuzz.json: flags, then internal/fuzzing. It ends with 1 when an input
// showed a claim to be wrong, and with 3 when what was asked for was not reached in
// its time.
//
// It never writes beside its report, but for failing inputs, which Go puts into
// testdata/fuzz of their package.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"

	"encounterlauncher/internal/fuzzing"
)

func main() {
	status, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		status = 2
	}
	os.Exit(status)
}

func run() (int, error) {
	o := fuzzing.Options{Root: ".", Progress: os.Stderr}
	flag.StringVar(&o.Time, "time", "10s", "for each target: a duration, or executions with an x")
	flag.Int64Var(&o.Least, "least", 0, "executions that every target has at the end")
	flag.Int64Var(&o.Total, "total", 0, "executions that all have together at the end")
	flag.DurationVar(&o.Within, "within", 0, "begin no further run after this")
	flag.IntVar(&o.Parallel, "parallel", runtime.NumCPU(), "workers at once")
	only := flag.String("only", "", "a regular expression of targets, as package.target")
	add := flag.Bool("add", false, "go on from the report that is there")
	report := flag.String("report", "build/out/fuzz.json", "where the report is written")
	flag.Parse()
	o.Parallel = min(o.Parallel, runtime.NumCPU())
	var err error
	if *only != "" {
		if o.Only, err = regexp.Compile(*only); err != nil {
			return 0, err
		}
	}
	if *add {
		if o.Earlier, err = fuzzing.Load(*report); err != nil {
			return 0, err
		}
	}
	o.After = func(r fuzzing.Report) error { return r.Save(*report) }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := fuzzing.Run(ctx, o)
	if len(r.Targets) > 0 {
		if err := r.Write(os.Stdout); err != nil {
			return 0, err
		}
		if err := r.Save(*report); err != nil {
			return 0, err
		}
	}
	switch {
	case err != nil:
		return 0, err
	case r.Violations > 0:
		return 1, nil
	case r.Short != "":
		return 3, nil
	}
	return 0, nil
}
