// Command nabla-sim serves the strict simulator of Nabla Connect on an address:
// flags to handler to listener, and nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/nablasim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nabla-sim:", err)
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

// basePath is where the vendor serves the protocol.
const basePath = "/v1/connect/server"

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "nabla-sim",
		Short:         "A strict simulator of Nabla Connect",
		Long:          "A strict simulator of Nabla Connect for development: it refuses whatever the protocol\ndoes not allow. No real patient's data belongs into it.",
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error { return none(args) },
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(serve(), version())
	return root
}

func none(args []string) error {
	if len(args) != 0 {
		return usageError{errors.New("there is an argument too many; see --help")}
	}
	return nil
}

func serve() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve --listen HOST:PORT --client UUID=KEYS",
		Short: "Serve until told to end (SIGTERM or Ctrl-C)",
		Example: "  nabla-sim serve --listen 127.0.0.1:4000 \\\n" +
			"    --client 6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11=http://127.0.0.1:8080/.well-known/jwks.json",
		Args: func(_ *cobra.Command, args []string) error { return none(args) },
	}
	listen := c.Flags().String("listen", "127.0.0.1:4000", "loopback address to listen on")
	public := c.Flags().String("public-url", "", "scheme and host under which callers and browsers reach it (default http:// and the address)")
	clients := c.Flags().StringArray("client", nil, "OAuth client, UUID=JWKS-URL or UUID=FILE (JWK set, or PEM with one RSA key); may be repeated")
	c.RunE = func(c *cobra.Command, _ []string) error {
		known, err := readClients(*clients)
		if err != nil {
			return err
		}
		host, _, err := net.SplitHostPort(*listen)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			return usageError{errors.New("--listen is not a loopback address with a port: the simulator is not for a network")}
		}
		listener, err := (&net.ListenConfig{}).Listen(c.Context(), "tcp", *listen)
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		base := *public
		if base == "" {
			base = "http://" + listener.Addr().String()
		}
		sim, err := nablasim.New(nablasim.Config{
			BaseURL: base + basePath, Clients: known, Log: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)),
		})
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		if _, err := fmt.Fprintln(c.OutOrStdout(), base+basePath); err != nil {
			return errors.Join(err, listener.Close())
		}
		return run(c.Context(), listener, sim)
	}
	return c
}

func readClients(list []string) (map[string]nablasim.Client, error) {
	known := map[string]nablasim.Client{}
	for _, text := range list {
		id, keys, ok := strings.Cut(text, "=")
		if !ok || id == "" || keys == "" {
			return nil, usageError{errors.New("--client is not UUID=KEYS")}
		}
		if strings.HasPrefix(keys, "https://") || strings.HasPrefix(keys, "http://") {
			known[id] = nablasim.Client{JWKSURL: keys}
			continue
		}
		body, err := os.ReadFile(keys)
		if err != nil {
			return nil, fmt.Errorf("reading the keys of a client: %w", err)
		}
		if strings.HasPrefix(strings.TrimSpace(string(body)), "{") {
			known[id] = nablasim.Client{JWKS: body}
		} else {
			known[id] = nablasim.Client{PublicKeyPEM: body}
		}
	}
	if len(known) == 0 {
		return nil, usageError{errors.New("--client UUID=KEYS is missing: without a client nobody can call")}
	}
	return known, nil
}

func run(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return fmt.Errorf("calls under way did not finish: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
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
			_, err := fmt.Fprintln(c.OutOrStdout(), "nabla-sim", v)
			return err
		},
	}
}
