package main

import (
	"errors"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgserver"
)

func serve() *cobra.Command {
	return withConfig(&cobra.Command{
		Use:   "serve [--config FILE]",
		Short: "Serve until told to end (SIGTERM or Ctrl-C)",
		Long: "Serve until told to end (SIGTERM or Ctrl-C). Then /readyz says no, calls are still taken\n" +
			"for drain_delay, and calls under way have up to 20 seconds. A second signal ends at once.",
		Example: "  org-backend serve --config /etc/org-backend/config.yaml",
	}, func(c *cobra.Command, cfg orgconfig.Config) error {
		defer headroom()()
		go giveBack(c.Context())
		level, _ := cfg.Level() // Values refuses a word that is none
		log := slog.New(slog.NewJSONHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
		server, err := orgserver.New(c.Context(), cfg, orgserver.Deps{Log: log, Version: released()})
		if err != nil {
			return err
		}
		closeAdmin, err := orgserver.OpenAdmin(cfg, server, log)
		if err != nil {
			return errors.Join(err, server.Close())
		}
		err = orgserver.Serve(c.Context(), cfg, server, log, func(a net.Addr) {
			// Whatever the level: scripts wait for this line.
			slog.New(slog.NewJSONHandler(c.ErrOrStderr(), nil)).Info("listening", "address", a.String(), "public_url", cfg.PublicURL, "version", released())
			notify("READY=1")
		})
		closeAdmin()
		if err = errors.Join(err, server.Close()); err == nil {
			log.Info("ended")
		}
		return err
	})
}
