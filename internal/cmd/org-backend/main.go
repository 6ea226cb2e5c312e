// Command org-backend runs the reference implementation of the organisation's
// backend: flags to handler to listener, and nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
	root.AddCommand(serve(), checkConfig(), deliveries(), version())
	return root
}

func none(args []string) error {
	if len(args) != 0 {
		return usageError{errors.New("there is an argument too many; see --help")}
	}
	return nil
}

func withConfig(c *cobra.Command, run func(*cobra.Command, orgconfig.Config) error) *cobra.Command {
	file := c.Flags().String("config", "", "YAML file with the configuration (required)")
	c.Args = func(_ *cobra.Command, args []string) error { return none(args) }
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *file == "" {
			return usageError{errors.New("--config FILE is missing")}
		}
		cfg, err := orgconfig.Load(*file)
		if err != nil {
			return err
		}
		return run(c, cfg)
	}
	return c
}

func serve() *cobra.Command {
	return withConfig(&cobra.Command{
		Use:     "serve --config FILE",
		Short:   "Serve until told to end (SIGTERM or Ctrl-C)",
		Example: "  org-backend serve --config /etc/org-backend/config.yaml",
	}, func(c *cobra.Command, cfg orgconfig.Config) error {
		log := slog.New(slog.NewJSONHandler(c.ErrOrStderr(), nil))
		server, err := orgserver.New(c.Context(), cfg, orgserver.Deps{Log: log})
		if err != nil {
			return err
		}
		closeAdmin, err := orgserver.OpenAdmin(cfg, server, log)
		if err != nil {
			return errors.Join(err, server.Close())
		}
		err = orgserver.Serve(c.Context(), cfg, server, log, func(a net.Addr) {
			log.Info("listening", "address", a.String())
		})
		closeAdmin()
		return errors.Join(err, server.Close())
	})
}

func checkConfig() *cobra.Command {
	return withConfig(&cobra.Command{
		Use:   "check-config --config FILE",
		Short: "Say whether a configuration and the files that it names can be used",
	}, func(c *cobra.Command, cfg orgconfig.Config) error {
		if err := orgserver.Check(cfg); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "the configuration can be used")
		return err
	})
}

func version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  func(_ *cobra.Command, args []string) error { return none(args) },
		RunE: func(c *cobra.Command, _ []string) error {
			v := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				v = info.Main.Version
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), "org-backend", v)
			return err
		},
	}
}
