package orgserver

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

const (
	// flushTime is how long the end of the process waits for the last spans.
	flushTime = 5 * time.Second
	// complainPause is how often it is logged that spans are lost.
	complainPause = time.Minute
	tracesPath    = "/v1/traces"
)

// traces makes spans for calls and their stages. A nil traces makes none. A span says
// which route and stage it is, its status and problem code; never an id of anybody,
// an address or a text from outside.
type traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

func openTraces(ctx context.Context, cfg orgconfig.Traces, version string, log *slog.Logger) (*traces, error) {
	if cfg.Endpoint == "" {
		return nil, nil
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, errors.New("traces.endpoint: it is not a URL")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = tracesPath
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTimeout(flushTime))
	if err != nil {
		return nil, errors.New("traces.endpoint: no traces can be sent there")
	}
	return newTraces(sdktrace.NewBatchSpanProcessor(&quietly{SpanExporter: exporter, log: log}), cfg.Ratio, version), nil
}

func newTraces(processor sdktrace.SpanProcessor, ratio float64, version string) *traces {
	if ratio == 0 {
		ratio = 1
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(processor),
		// Whoever calls may say that a trace of theirs goes on here, or that it does not.
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "org-backend"), attribute.String("service.version", version))),
	)
	return &traces{provider: provider, tracer: provider.Tracer("encounterlauncher/internal/orgserver")}
}

// close sends what is not sent yet.
func (t *traces) close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	return t.provider.Shutdown(ctx)
}

// call starts the span of a call, below the one that its traceparent names (W3C
// Trace Context). end is told how the call went.
func (t *traces) call(r *http.Request) (ctx context.Context, end func(route string, status int, err error)) {
	if t == nil {
		return r.Context(), func(string, int, error) {}
	}
	ctx = propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	// A tracestate is a text of the caller's own, which every span below would carry on.
	ctx = trace.ContextWithRemoteSpanContext(ctx, trace.SpanContextFromContext(ctx).WithTraceState(trace.TraceState{}))
	ctx, span := t.tracer.Start(ctx, "call", trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func(route string, status int, err error) {
		span.SetName(method(r.Method) + " " + route)
		span.SetAttributes(attribute.String("http.request.method", method(r.Method)), attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
		judge(span, err, status >= http.StatusInternalServerError)
		span.End()
	}
}

// stage starts the span of one stage of a call.
func (t *traces) stage(ctx context.Context, name string) (context.Context, func(error)) {
	if t == nil {
		return ctx, func(error) {}
	}
	ctx, span := t.tracer.Start(ctx, name)
	return ctx, func(err error) {
		judge(span, err, err != nil)
		span.End()
	}
}

func judge(span trace.Span, err error, failed bool) {
	if err != nil {
		span.SetAttributes(attribute.String("problem.code", string(problem.CodeOf(err))))
	}
	if failed {
		span.SetStatus(codes.Error, "")
	}
}

// stage measures one stage of a call: done is told how it ended.
func (s *Server) stage(ctx context.Context, name string) (_ context.Context, done func(error)) {
	started := time.Now()
	ctx, end := s.traces.stage(ctx, name)
	return ctx, func(err error) {
		s.metrics.stage(name, err, time.Since(started))
		end(err)
	}
}

// quietly keeps the library from telling of lost spans on standard error, where the
// log is: it is logged here, now and then, without the address.
type quietly struct {
	sdktrace.SpanExporter
	log *slog.Logger

	mu   sync.Mutex
	told time.Time // guarded by mu
	lost int       // guarded by mu
}

// ExportSpans implements sdktrace.SpanExporter.
func (q *quietly) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if q.SpanExporter.ExportSpans(ctx, spans) == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost += len(spans)
	if now := time.Now(); now.Sub(q.told) >= complainPause {
		q.log.Warn("traces are not taken", "spans", q.lost)
		q.told, q.lost = now, 0
	}
	return nil
}
