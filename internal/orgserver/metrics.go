package orgserver

import (
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"encounterlauncher/internal/delivery"
	"encounterlauncher/internal/problem"
)

// The stages of a call that metrics and traces tell apart.
const (
	stageToken    = "token"    // verifying who calls, and fetching the issuer's keys where that is due
	stageStore    = "store"    // JetStream
	stageContext  = "context"  // finding a patient's details
	stageCreate   = "create"   // at Nabla
	stageRefresh  = "refresh"  // at Nabla
	stageAudit    = "audit"    // writing who asked for what
	stageDelivery = "delivery" // keeping a callback
)

// metrics are what Prometheus reads, in a registry of their own. No label is an id,
// and each has only values that are written in this program.
type metrics struct {
	registry    *prometheus.Registry
	calls       *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	stages      *prometheus.HistogramVec
	under       prometheus.Gauge
	auditFailed *prometheus.CounterVec
}

// buckets are seconds: a redeemed handle takes milliseconds, and Nabla some hundreds
// of them.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15}

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "org_backend_calls_total", Help: "Calls by route, class of the status (2xx) and problem code (empty for none).",
		}, []string{"route", "class", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "org_backend_call_seconds", Help: "How long calls took; streams of events are not among them.", Buckets: buckets,
		}, []string{"route", "class"}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "org_backend_stage_seconds", Help: "How long one stage of a call took, by outcome (ok, failed).", Buckets: buckets,
		}, []string{"stage", "outcome"}),
		under: prometheus.NewGauge(prometheus.GaugeOpts{Name: "org_backend_calls_under_way", Help: "Calls that are not answered yet, streams of events included."}),
		auditFailed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "org_backend_audit_failures_total", Help: "Lines that the audit's file or syslog server did not take.",
		}, []string{"sink"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "org_backend_build_info", Help: "Always 1; the labels say what runs."}, []string{"version", "go"})
	build.WithLabelValues(version, runtime.Version()).Set(1)
	for _, sink := range []string{"file", "syslog"} {
		m.auditFailed.WithLabelValues(sink) // so that an alert sees 0 before the first
	}
	m.registry.MustRegister(m.calls, m.seconds, m.stages, m.under, m.auditFailed, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauge adds a number that is asked for whenever Prometheus reads.
func (m *metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// counter adds one that is counted elsewhere.
func (m *metrics) counter(name, help, label, of string, value func() uint64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: name, Help: help, ConstLabels: prometheus.Labels{label: of},
	}, func() float64 { return float64(value()) }))
}

// observeDeliveries adds what the queue of callbacks counts.
func (m *metrics) observeDeliveries(q *delivery.Queue) {
	for of, value := range map[string]func(delivery.Counts) uint64{
		"accepted":  func(c delivery.Counts) uint64 { return c.Accepted },
		"replayed":  func(c delivery.Counts) uint64 { return c.Replayed },
		"delivered": func(c delivery.Counts) uint64 { return c.Delivered },
		"failed":    func(c delivery.Counts) uint64 { return c.Failed },
		"put_aside": func(c delivery.Counts) uint64 { return c.PutAside },
	} {
		m.counter("org_backend_deliveries_total", "Callbacks by what became of them since this process started; failed counts attempts.", "what", of, func() uint64 { return value(q.Counts()) })
	}
}

func (m *metrics) call(route string, status int, err error, took time.Duration, stream bool) {
	class := strconv.Itoa(status/100) + "xx"
	m.calls.WithLabelValues(route, class, string(problem.CodeOf(err))).Inc()
	if !stream {
		m.seconds.WithLabelValues(route, class).Observe(took.Seconds())
	}
}

func (m *metrics) stage(name string, err error, took time.Duration) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.stages.WithLabelValues(name, outcome).Observe(took.Seconds())
}

// Metrics serves what Prometheus reads, for a listener of its own: it asks for no
// credential.
func (s *Server) Metrics() http.Handler {
	return promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{})
}

// routeLabel is a route without the prefix that the configuration gives it.
func (s *Server) routeLabel(route string) string {
	if short := strings.TrimPrefix(route, s.base); short != "" {
		return short
	}
	return route
}
