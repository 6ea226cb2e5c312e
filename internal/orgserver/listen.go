package orgserver

import (
	"context"
	"crypto/tls"
	"encounterlauncher/internal/orgconfig"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const maxHeader = 32 << 10

// patience is how long the listener waits. A test has less of it.
type patience struct{ header, read, write, idle, drain time.Duration }

// ordinary: a launch's body is small, and who sends it more slowly than this is
// not a launcher.
func ordinary() patience {
	return patience{header: 5 * time.Second, read: 10 * time.Second, write: 30 * time.Second, idle: 2 * time.Minute, drain: 20 * time.Second}
}

type endingKey struct{}

// withoutStreams is the context of every call: it outlives ctx, so that calls
// under way can finish, and tells streams when ctx has ended.
func withoutStreams(ctx context.Context) context.Context {
	return context.WithValue(context.WithoutCancel(ctx), endingKey{}, ctx.Done())
}

// ending is closed when the server that serves a call takes no new ones; nil, and
// so never, for a call that Serve does not serve.
func ending(ctx context.Context) <-chan struct{} {
	end, _ := ctx.Value(endingKey{}).(<-chan struct{})
	return end
}

// Serve listens as cfg says and serves handler until ctx ends; then it takes no
// new call and lets those under way finish for up to 20 seconds. ready, when not
// nil, is told the address once the listener is open.
func Serve(ctx context.Context, cfg orgconfig.Config, handler http.Handler, log *slog.Logger, ready func(net.Addr)) error {
	return serve(ctx, cfg, handler, log, ready, ordinary())
}

func serve(ctx context.Context, cfg orgconfig.Config, handler http.Handler, log *slog.Logger, ready func(net.Addr), times patience) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	if ready != nil {
		ready(listener.Addr())
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: times.header, ReadTimeout: times.read, WriteTimeout: times.write,
		IdleTimeout: times.idle, MaxHeaderBytes: maxHeader,
		// A stream of events would else hold the end up until the patience is over.
		BaseContext: func(net.Listener) context.Context { return withoutStreams(ctx) },
		TLSConfig:   &tls.Config{MinVersion: tls.VersionTLS12},
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() {
		if cfg.TLSCertFile != "" {
			ended <- server.ServeTLS(listener, cfg.TLSCertFile, cfg.TLSKeyFile)
			return
		}
		ended <- server.Serve(listener)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), times.drain)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return fmt.Errorf("calls under way did not finish: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
