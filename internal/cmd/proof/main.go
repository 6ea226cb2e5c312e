//go:build linux

// Command proof shows in figures what the README claims: it runs the parts of the
// proof one after another, prints one table of what was tried, how often, what was
// found and what is allowed, and writes build/out/proof/proof.json and proof.md beside
// the pictures of the parts. It ends with 1 when anything was found or a part could
// not be run, which it says with the reason.
//
// It is run in the module's root. It never counts what did not run as shown, never
// touches the person's own launcher, keyring or browser, and ends only processes that
// it started.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends it at once
	os.Exit(command(ctx, os.Args[1:], all()))
}

// The ways the command ends.
const (
	exitShown = 0 // every part ran, and nothing was found
	exitFound = 1 // something was found, or a part did not run
	exitUsage = 2
)

// command is main without the process: it returns the exit status.
func command(ctx context.Context, args []string, parts []part) int {
	flags := flag.NewFlagSet("proof", flag.ContinueOnError)
	only := flags.String("only", "", "run only these parts, separated by commas: "+strings.Join(names(parts), ", "))
	short := flags.Bool("short", false, "run the short form of every part, which takes seconds and shows less")
	list := flags.Bool("list", false, "say what the parts are and what each shows, and end")
	out := flags.String("out", filepath.Join("build", "out", "proof"), "the folder for proof.json, proof.md and the pictures")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitShown
	case err != nil:
		return exitUsage
	}
	chosen, err := choose(parts, *only)
	if err == nil && flags.NArg() > 0 {
		err = errors.New("there are no arguments")
	}
	if _, missing := os.Stat("go.mod"); err == nil && missing != nil {
		err = errors.New("run it in the module's root: make proof")
	}
	if err == nil {
		err = os.MkdirAll(*out, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
		return exitUsage
	}
	if *list {
		for _, p := range chosen {
			fmt.Printf("%-14s %s\n", p.name, p.shows)
		}
		return exitShown
	}
	r := run(ctx, chosen, options{short: *short, out: *out}, newScreen(os.Stderr))
	if err := r.write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "proof:", err)
		return exitFound
	}
	r.print(os.Stdout)
	fmt.Printf("written to %s\n", *out)
	if !r.Shown {
		return exitFound
	}
	return exitShown
}

// options are what every part is told.
type options struct {
	// short asks for the form that takes seconds.
	short bool
	// out is the folder for pictures, which exists.
	out string
}

// run goes through the parts. One that fails, or that ctx ends, does not keep the
// others from being told.
func run(ctx context.Context, parts []part, o options, s *screen) *report {
	r := newReport(o.short)
	for _, p := range parts {
		got := result{Part: p.name, Shows: p.shows}
		begun := time.Now()
		if ctx.Err() != nil {
			got.NotRun = "interrupted"
		} else {
			s.begin(p.name)
			rows, err := p.run(ctx, o, s.step)
			s.end()
			got.Rows = rows
			switch {
			case ctx.Err() != nil:
				got.NotRun = "interrupted"
			case err != nil:
				got.NotRun = err.Error()
			case len(rows) == 0:
				got.NotRun = "nothing was tried"
			}
		}
		got.Seconds = time.Since(begun).Round(100 * time.Millisecond).Seconds()
		r.add(got)
		s.say(p.name + ": " + got.verdict())
	}
	r.Ended = time.Now().UTC().Truncate(time.Second)
	return r
}

// choose returns the parts that are named, in the order of the list; all for none.
func choose(parts []part, only string) ([]part, error) {
	if only == "" {
		return parts, nil
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(only, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	var chosen []part
	for _, p := range parts {
		if wanted[p.name] {
			chosen = append(chosen, p)
			delete(wanted, p.name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("there is no part %q; there are %s", name, strings.Join(names(parts), ", "))
	}
	return chosen, nil
}

func names(parts []part) (all []string) {
	for _, p := range parts {
		all = append(all, p.name)
	}
	return all
}
