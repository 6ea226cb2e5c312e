// Command org-backend runs the reference implementation of the organisation's
// backend: flags to handler to listener, and nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/orgconfig"
)

func main() {
	withoutCore()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second signal ends the process at once: only the first is waited for.
	context.AfterFunc(ctx, stop)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "org-backend:", err)
		os.Exit(exitStatus(err))
	}
}

// usageError is one of how the program was called, not of what it did.
type usageError struct{ error }

func exitStatus(err error) int {
	if errors.As(err, &usageError{}) {
		return 2
	}
	return 1
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "org-backend",
		Short:         "The organisation's backend of the Encounter Launcher",
		Long:          "The organisation's backend of the Encounter Launcher: it creates encounters at Nabla\nfor clinicians who are signed in, and hands EHR servers the links for their buttons.",
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error { return none(args) },
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		serve(),
		checkConfig(),
		configReference(),
		auditVerb(),
		conformanceCommand(),
		deliveries(),
		provisionVerb(),
		versionVerb(),
		manual(),
	)
	return root
}

func none(args []string) error {
	if len(args) != 0 {
		return usageError{errors.New("there is an argument too many; see --help")}
	}
	return nil
}

func withConfig(c *cobra.Command, run func(*cobra.Command, orgconfig.Config) error) *cobra.Command {
	file := configFlag(c)
	c.Args = func(_ *cobra.Command, args []string) error { return none(args) }
	c.RunE = func(c *cobra.Command, _ []string) error {
		name, err := configOf(*file)
		if err != nil {
			return err
		}
		cfg, err := orgconfig.Load(name)
		if err != nil {
			return err
		}
		return run(c, cfg)
	}
	return c
}

// usualConfig is where the package expects the configuration.
const usualConfig = "/etc/org-backend/config.yaml"

const configHelp = "YAML file with the configuration (without it " + usualConfig + ", where that is there)"

func configFlag(c *cobra.Command) *string {
	return c.Flags().String("config", "", configHelp)
}

// configOf is the file that was named, or the usual one.
func configOf(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	if _, err := os.Stat(usualConfig); err != nil {
		return "", usageError{errors.New("--config FILE is missing, and there is no " + usualConfig)}
	}
	return usualConfig, nil
}

// version is set by the build.
var version string

func versionVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  func(_ *cobra.Command, args []string) error { return none(args) },
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "org-backend", released())
			return err
		},
	}
}

// released is the version of this program: that of the build, or what Go knows.
func released() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
