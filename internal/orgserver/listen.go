package orgserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"encounterlauncher/internal/orgconfig"
)

const maxHeader = 32 << 10

// patience is how long the listener waits. A test has less of it.
type patience struct {
	header, read, write, idle, drain time.Duration
	after                            func(time.Duration) <-chan time.Time // time.After
}

// ordinary: a launch's body is small, and who sends it more slowly than this is
// not a launcher.
func ordinary() patience {
	return patience{header: 5 * time.Second, read: 10 * time.Second, write: 30 * time.Second, idle: 2 * time.Minute, drain: 20 * time.Second, after: time.After}
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

// operated is what a handler may be able to do for those who operate it: Server is.
type operated interface {
	// Drain makes it say that it is not ready.
	Drain()
	// Metrics is what Prometheus reads.
	Metrics() http.Handler
}

// breakable is a handler that may come to need a new start: Server is.
type breakable interface{ Broken() <-chan struct{} }

var errBroken = errors.New("the queue of deliveries needs a new start, since a disk that was full has room again")

// Serve listens as cfg says and serves handler until ctx ends, or handler says that it
// is broken, which is an error: who started the process starts it anew. Then handler says that
// it is not ready and still takes calls for cfg.Delay; after that no new call is
// taken, and those under way have up to 20 seconds to finish. ready, when not nil,
// is told the address once the listener is open. Metrics are served as long, at an
// address of their own.
func Serve(ctx context.Context, cfg orgconfig.Config, handler http.Handler, log *slog.Logger, ready func(net.Addr)) error {
	return serve(ctx, cfg, handler, log, ready, ordinary())
}

func serve(ctx context.Context, cfg orgconfig.Config, handler http.Handler, log *slog.Logger, ready func(net.Addr), times patience) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: times.header, ReadTimeout: times.read, WriteTimeout: times.write,
		IdleTimeout: times.idle, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if cfg.TLSCertFile != "" {
		files, err := openCertificates(cfg, log, time.Now)
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: files.current, NextProtos: []string{"h2", "http/1.1"}}
	}
	work, operates := handler.(operated)
	if operates && cfg.Metrics.Listen != "" {
		stop, err := serveMetrics(ctx, cfg.Metrics.Listen, work.Metrics(), log, times)
		if err != nil {
			return err
		}
		defer stop()
	}
	// A stream of events would else hold the end up until the patience is over.
	open, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	server.BaseContext = func(net.Listener) context.Context { return withoutStreams(open) }
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	if ready != nil {
		ready(listener.Addr())
	}
	ended := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			ended <- server.ServeTLS(listener, "", "")
			return
		}
		ended <- server.Serve(listener)
	}()
	var broken <-chan struct{}
	if b, may := handler.(breakable); may {
		broken = b.Broken()
	}
	var why error
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	case <-broken:
		why = errBroken
	}
	if operates {
		work.Drain()
	}
	delay := cfg.Delay()
	log.Info("told to end: calls under way are finished", "drain_seconds", delay.Seconds())
	if delay > 0 {
		select {
		case err := <-ended:
			return fmt.Errorf("serving: %w", err)
		case <-times.after(delay):
		}
	}
	endStreams()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), times.drain)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return errors.Join(why, fmt.Errorf("calls under way did not finish: %w", err))
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return why
}

// serveMetrics serves GET /metrics until stop.
func serveMetrics(ctx context.Context, address string, metrics http.Handler, log *slog.Logger, times patience) (stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for metrics: %w", err)
	}
	routes := http.NewServeMux()
	routes.Handle("GET /metrics", metrics)
	server := &http.Server{
		Handler: routes, ReadHeaderTimeout: times.header, ReadTimeout: times.read, WriteTimeout: times.write, IdleTimeout: times.idle, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "cause", err)
		}
	}()
	log.Info("metrics", "address", listener.Addr().String())
	return func() {
		_ = server.Close() // whoever reads metrics asks again
		<-ended
	}, nil
}
