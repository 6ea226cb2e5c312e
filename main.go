// Encounter Launcher takes a clinician from a button in the EHR to the open
// encounter.
//
// This program is the link handler, the resident agent, the command line and,
// built with other tags, the window; main only chooses the role. A link comes
// before everything else: nothing is initialised for it but the way to the
// agent. The program never links a server, and on Linux the agent never links a
// webview.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// version is set with -ldflags "-X main.version=…".
var version = "0.0.0-dev"

func main() {
	withoutCore()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	layout := layout()
	if onlyWindow {
		return window(layout, args)
	}
	candidate, isLink, err := intake.FromArgs(layout.Scheme(), args, cli.IsVerb, cli.CarriesLink)
	switch {
	case err != nil:
		return refuse(layout, problem.Of(err))
	case isLink:
		return handOver(layout, candidate)
	}
	// The click is for what this process passes on, not for what an agent that
	// it starts will open tomorrow.
	click := takeClick()
	executable, err := ownProgram()
	if err != nil {
		executable = os.Args[0]
	}
	p := cli.Program{
		Layout: layout, Version: version, Stdout: os.Stdout, Stderr: os.Stderr, Click: click, Executable: executable,
		StartAgent:  func() error { _, err := startAgent(); return err },
		StartWindow: startWindow,
	}
	if windowHere {
		p.RunWindow = func(ctx context.Context) error { return runWindow(ctx, windowOf(layout)) }
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends what does not heed the first
	return cli.Run(ctx, p, args)
}

// window is the only role of the window's own program, which takes no arguments.
func window(layout paths.Layout, args []string) int {
	if len(args) > 0 {
		return refuse(layout, problem.New(problem.RequestInvalid, errors.New("the window takes no arguments")))
	}
	ctx, stop := whileInstalled(context.Background())
	defer stop()
	if err := runWindow(ctx, windowOf(layout)); err != nil {
		cli.PrintProblem(os.Stderr, problem.Of(err))
		return cli.Refused
	}
	return cli.Done
}
