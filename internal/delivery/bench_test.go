package delivery

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore"
)

// BenchmarkAccept takes callbacks of 8 KB from 64 callers onto a disk, while what
// was taken is delivered to a webhook that answers at once.
func BenchmarkAccept(b *testing.B) {
	folder := b.TempDir()
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer sink.Close()
	conn, err := orgstore.Connect(orgconfig.NATS{Folder: folder + "/queue", SealKeyFiles: []string{sealKey(b, folder, "key")}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	hook, err := newWebhook(orgconfig.Webhook{URL: sink.URL, SecretFile: file(b, folder, "secret", webhookSecret)}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	q, err := Open(context.Background(), conn, []Place{hook}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	padding := bytes.Repeat([]byte(" "), 8<<10-600)
	var failed atomic.Int64
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			id, raw := note("E-1")
			raw = append(raw, padding...)
			if q.Accept(context.Background(), id, nabla.NoteExport, raw) != nil {
				failed.Add(1)
			}
		}
	})
	b.StopTimer()
	took := b.Elapsed()
	b.ReportMetric(float64(b.N)/took.Seconds(), "taken/s")
	b.ReportMetric(float64(q.Counts().Delivered)/took.Seconds(), "delivered/s")
	if failed.Load() > 0 {
		b.Errorf("%d failed", failed.Load())
	}
}
