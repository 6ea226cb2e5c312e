//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"encounterlauncher/internal/stage"
)

const (
	// callbacks are those of one round, and noteBytes the size of each.
	callbacks, noteBytes = 4000, 4096
	callbackRate         = 2000
)

// sink is the EHR's end: a webhook that answers at once and knows what it was given.
type sink struct {
	server *http.Server
	url    string

	mu    sync.Mutex
	given map[string]int // guarded by mu: by request_uuid
}

func (h *hospital) startSink() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &sink{url: "http://" + l.Addr().String() + "/notes", given: map[string]int{}}
	s.server = &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a note cut short has the wrong signature, which is the backend's affair
		s.mu.Lock()
		s.given[r.Header.Get("X-Encounter-Launcher-Request-Uuid")]++
		s.mu.Unlock()
	})}
	go func() { _ = s.server.Serve(l) }()
	h.sink = s
	return nil
}

func (s *sink) known() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.given)
}

// intake measures how many callbacks a second are verified, kept on disk and answered
// 200, while what was kept is delivered to a webhook. Then every one of them must
// arrive there.
func (b *bench) intake(ctx context.Context) error {
	h := b.hospital
	if err := onDisk(h.dir); err != nil {
		return err
	}
	p, err := h.startBackend(ctx, b.built, "intake", "org-backend", "")
	if err != nil {
		return err
	}
	defer h.stop(p)
	rate, p99 := b.report.sample(), b.report.sample()
	sent := 0
	var used time.Duration
	for round := range max(1, b.rounds/4) + 1 {
		requests := make([][]byte, callbacks)
		for i := range requests {
			requests[i] = callback(p.Address, fmt.Sprintf("%08x-0000-4000-8000-%012x", round, i), time.Now())
		}
		before := stage.CPU(p.PID())
		replies, took, err := generator{p.Address, clinicians}.run(ctx, requests)
		if err != nil {
			return err
		}
		var times sample
		for _, r := range replies {
			if r.status != http.StatusOK {
				return fmt.Errorf("a callback was answered %d: %s", r.status, r.body)
			}
			times.values = append(times.values, r.took.Seconds()*1e3)
		}
		sent += len(replies)
		if round > 0 {
			used += stage.CPU(p.PID()) - before
			rate.values = append(rate.values, float64(len(replies))/took.Seconds())
			p99.values = append(p99.values, times.percentile(99).Median)
		}
	}
	began := time.Now()
	for h.sink.known() < sent {
		if time.Since(began) > 4*patience {
			return fmt.Errorf("%d callbacks were taken and %d have been delivered", sent, h.sink.known())
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	behind := &stats{N: 1, Median: time.Since(began).Seconds()}
	behind.Min, behind.Max = behind.Median, behind.Median
	cpu := used.Seconds() * 1e6 / float64(callbacks*len(rate.values))
	b.report.add(figure{ID: "intake", Name: "callbacks of 4 KB: verified, on disk, answered 200", Unit: perSecond, Ours: rate.stats(), Goal: valueAtLeast(callbackRate)})
	b.report.add(figure{ID: "intake_p99", Name: "  of it: 99 of 100 take at most", Unit: ms, Ours: p99.stats()})
	b.report.add(figure{ID: "intake_cpu", Name: "  processor time of one, deliveries included", Unit: us, Ours: &stats{sent, cpu, cpu, cpu}})
	b.report.add(figure{ID: "intake_behind", Name: fmt.Sprintf("  all %d delivered, after the last was taken", sent), Unit: "s", Ours: behind})
	return nil
}

// callback is a note of Nabla's, signed now.
func callback(host, id string, at time.Time) []byte {
	start := fmt.Sprintf(`{"request_uuid":%q,"type":"NOTE_EXPORT","data":{"external_patient_id":"P-1","external_encounter_id":"E-1",`+
		`"external_provider_id":%q,"note":{"sections":[{"title":"Assessment and plan","category":"ASSESSMENT_AND_PLAN","content":"`, id, provider(0))
	const end = `"}]}}}`
	const words = "Blood pressure is well controlled at home; continue ramipril, see again in six weeks. "
	text := strings.Repeat(words, noteBytes/len(words)+1)[:noteBytes-len(start)-len(end)]
	body := []byte(start + text + end)
	timestamp := at.UTC().Format(time.RFC3339)
	mac := hmac.New(sha256.New, []byte(stage.CallbackSecret))
	mac.Write([]byte(timestamp))
	mac.Write(body)
	return post(host, "/nabla/callbacks", [][2]string{
		{"X-Nabla-Connect-Timestamp", timestamp}, {"X-Nabla-Connect-Signature", hex.EncodeToString(mac.Sum(nil))},
	}, bytes.Clone(body))
}

// onDisk refuses a folder that is in memory, where nothing waits for a disk.
func onDisk(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	if fs.Type == unix.TMPFS_MAGIC {
		return errors.New("the temporary folder is in memory: set TMPDIR to one on a disk")
	}
	return nil
}
