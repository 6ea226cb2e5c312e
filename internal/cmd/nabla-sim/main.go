// Command nabla-sim serves the strict simulator of Nabla Connect on an address:
// flags to handler to listener, and nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
			"    --client 6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11=http://127.0.0.1:8080/.well-known/jwks.json \\\n" +
			"    --callback-url http://127.0.0.1:8080/nabla/callbacks --callback-secret-file callback.secret \\\n" +
			"    --control 127.0.0.1:4001",
		Args: func(_ *cobra.Command, args []string) error { return none(args) },
	}
	listen := c.Flags().String("listen", "127.0.0.1:4000", "loopback address to listen on")
	public := c.Flags().String("public-url", "", "scheme and host under which callers and browsers reach it (default http:// and the address)")
	pages := c.Flags().String("page-url", "", "scheme and host of the one-time URLs (default as --public-url): for launchers, which open https only")
	clients := c.Flags().StringArray("client", nil, "OAuth client, UUID=JWKS-URL or UUID=FILE (JWK set, or PEM with one RSA key); may be repeated")
	apiVersion := c.Flags().String("api-version", "", "the pinned version, which applies when a call names none (default "+nablasim.Version20260213+")")
	callbackURL := c.Flags().String("callback-url", "", "where exports go: https, or http to this computer")
	secrets := c.Flags().StringArray("callback-secret-file", nil, "file with a secret shared with the organisation, one line; each signs; may be repeated")
	bearer := c.Flags().String("callback-bearer-file", "", "file with an access token that callbacks show, read anew for each")
	control := c.Flags().String("control", "", "loopback address of the control port (clock, faults, exports); without it there is none")
	c.RunE = func(c *cobra.Command, _ []string) error {
		known, err := readClients(*clients)
		if err != nil {
			return err
		}
		if !loopback(*listen) {
			return usageError{errors.New("--listen is not a loopback address with a port: the simulator is not for a network")}
		}
		if *control != "" && !loopback(*control) {
			return usageError{errors.New("--control is not a loopback address with a port: who reaches it may do everything")}
		}
		callbacks, err := readCallbacks(*callbackURL, *secrets, *bearer)
		if err != nil {
			return err
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
			BaseURL: base + basePath, PageBase: *pages, Clients: known, Version: *apiVersion, Callbacks: callbacks, Log: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)),
		})
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		if _, err := fmt.Fprintln(c.OutOrStdout(), base+basePath); err != nil {
			return errors.Join(err, listener.Close())
		}
		if *control == "" {
			return run(c.Context(), listener, sim)
		}
		controls, err := (&net.ListenConfig{}).Listen(c.Context(), "tcp", *control)
		if err != nil {
			return errors.Join(fmt.Errorf("listening for control: %w", err), listener.Close())
		}
		if _, err := fmt.Fprintln(c.OutOrStdout(), "control: http://"+controls.Addr().String()); err != nil {
			return errors.Join(err, listener.Close(), controls.Close())
		}
		// When one of the two ends, so does the other.
		ctx, cancel := context.WithCancel(c.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			defer cancel()
			ended <- run(ctx, controls, sim.Control())
		}()
		err = run(ctx, listener, sim)
		cancel()
		return errors.Join(err, <-ended)
	}
	return c
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// maxSecretBytes bounds the files of secrets and tokens.
const maxSecretBytes = 16 << 10

func readCallbacks(url string, secretFiles []string, bearerFile string) (nablasim.Callbacks, error) {
	if url == "" {
		if len(secretFiles) != 0 || bearerFile != "" {
			return nablasim.Callbacks{}, usageError{errors.New("--callback-url is missing")}
		}
		return nablasim.Callbacks{}, nil
	}
	if len(secretFiles) == 0 {
		return nablasim.Callbacks{}, usageError{errors.New("--callback-secret-file is missing: callbacks are signed")}
	}
	callbacks := nablasim.Callbacks{URL: url}
	for _, file := range secretFiles {
		word, err := readWord(file)
		if err != nil {
			return nablasim.Callbacks{}, fmt.Errorf("reading --callback-secret-file: %w", err)
		}
		callbacks.Secrets = append(callbacks.Secrets, []byte(word))
	}
	if bearerFile != "" {
		callbacks.Bearer = func(context.Context) (string, error) { return readWord(bearerFile) }
	}
	return callbacks, nil
}

// readWord reads a file that holds one line without spaces.
func readWord(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return "", err
	}
	word := strings.TrimRight(string(text), "\r\n")
	if word == "" || len(text) > maxSecretBytes || strings.ContainsAny(word, " \t\r\n") {
		return "", errors.New("the file does not hold one line without spaces")
	}
	return word, nil
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
