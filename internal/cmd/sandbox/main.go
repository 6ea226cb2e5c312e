// Command encounter-launcher-sandbox runs a hospital on loopback around the
// demo-flavoured launcher: for people who want to see it, and for those who
// build an EHR.
//
// It never serves anything but 127.0.0.1 and never touches a release.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/sandbox"
)

// The exit statuses: 0 all went as it should, 1 it did not, 2 bad arguments or
// a computer on which a sandbox may not run.
const (
	exitFailed  = 1
	exitRefused = 2
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends it at once; the next start then cleans up.
	context.AfterFunc(ctx, stop)
	root := command()
	err := root.ExecuteContext(ctx)
	var ended *sandbox.Ended
	var refused *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended):
		return ended.Status
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "encounter-launcher-sandbox: ended before the play was over")
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "encounter-launcher-sandbox: "+err.Error())
	if errors.As(err, &refused) || errors.Is(err, sandbox.ErrUsage) || errors.Is(err, sandbox.ErrMachinePolicy) || errors.Is(err, sandbox.ErrTaken) {
		return exitRefused
	}
	return exitFailed
}

// usageError is an error of the command line itself.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func command() *cobra.Command {
	o := sandbox.Options{Out: os.Stdout, Args: os.Args[1:]}
	root := &cobra.Command{
		Use:   "encounter-launcher-sandbox",
		Short: "A hospital on this computer's loopback, to try the Encounter Launcher",
		Long: `Runs a sample EHR page, a sign-in with two invented clinicians, the
organisation's backend and a simulator of Nabla Connect on 127.0.0.1, starts
the demo launcher among them, and opens the page in the default browser.
Ctrl-C ends it and removes what it set up.

Without a display, or with --play, it goes through all of it by itself and ends
with 0 only if everything went as it should.`,
		Args:          func(cmd *cobra.Command, args []string) error { return usage(cobra.NoArgs(cmd, args)) },
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return sandbox.Run(cmd.Context(), o)
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	f := root.Flags()
	f.BoolVar(&o.Play, "play", false, "go through everything without a person, display or browser")
	f.BoolVar(&o.NoBrowser, "no-browser", false, "do not open the page in a browser")
	f.BoolVar(&o.NoLauncher, "no-launcher", false, "serve and write the demo policy, but neither start nor register the launcher")
	f.StringVar(&o.Launcher, "launcher", "", "the demo launcher (default: encounter-launcher-demo beside this program)")
	f.StringVar(&o.Issuer, "issuer", "", "use this OIDC issuer instead of the built-in one (with --client-id)")
	f.StringVar(&o.ClientID, "client-id", "", "the launcher's client id at the issuer")
	f.IntVar(&o.EHRPort, "ehr-port", 0, "port of the sample EHR on 127.0.0.1 (default: any)")
	f.IntVar(&o.IssuerPort, "issuer-port", 0, "port of the OIDC issuer (default: any)")
	f.IntVar(&o.BackendPort, "backend-port", 0, "port of the organisation's backend (default: any)")
	f.IntVar(&o.NablaPort, "nabla-port", 0, "port of the simulator of Nabla Connect (default: any)")
	f.IntVar(&o.ControlPort, "control-port", 0, "port of the simulator's control: clock, faults, exports (default: any)")
	f.StringVar(&o.AddressesFile, "addresses", "", "write the addresses to this file as JSON once all is up")
	f.StringVar(&o.Isolated, "isolated", "", "the play's own folder (set by the play itself)")
	_ = f.MarkHidden("isolated")

	var at string
	follow := &cobra.Command{
		Use:    "follow ADDRESS",
		Short:  "hand an address to the sandbox that plays (the play's own xdg-open runs this)",
		Hidden: true,
		Args:   func(cmd *cobra.Command, args []string) error { return usage(cobra.ExactArgs(1)(cmd, args)) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return sandbox.Follow(cmd.Context(), at, args[0])
		},
	}
	follow.Flags().StringVar(&at, "at", "", "where the sandbox waits")
	root.AddCommand(follow)
	root.CompletionOptions.HiddenDefaultCmd = true
	return root
}

func usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}
