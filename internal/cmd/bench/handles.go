//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"encounterlauncher/internal/stage"
)

const (
	// keptHandles is how long the measured backend keeps a handle in memory, which is
	// twenty minutes in a release: long enough to mint all of them.
	keptHandles = 4 * time.Minute
	// headroomKB is what the backend counts as in use and never touches (memory.go of its
	// command): it is no memory.
	headroomKB = 64 << 10
	// mintedAtOnce are those that the bench knows at a time.
	mintedAtOnce = 50_000
)

// handlesExpire reads the backend's memory at rest, has an EHR register very many
// launches, and reads it again when all of them have gone.
func (b *bench) handlesExpire(ctx context.Context) error {
	if b.handles == 0 {
		return nil
	}
	h := b.hospital
	metrics, err := stage.FreePort()
	if err != nil {
		return err
	}
	p, err := h.startBackend(ctx, b.built, "handles", shortMemory, "metrics: {listen: "+metrics+"}\n")
	if err != nil {
		return err
	}
	defer h.stop(p)
	// What every call needs is there with the first ones.
	if _, err := h.mint(ctx, p, "warm", 2000, ""); err != nil {
		return err
	}
	if err := sleep(ctx, 2*b.idle); err != nil { // it has given back what they took
		return err
	}
	start, most, end := b.report.sample(), b.report.sample(), b.report.sample()
	heapStart, heapEnd := b.report.sample(), b.report.sample()
	if err := b.readMemory(ctx, p, metrics, start, heapStart); err != nil {
		return err
	}
	began := time.Now()
	for n := 0; n < b.handles; n += mintedAtOnce {
		if _, err := h.mint(ctx, p, fmt.Sprint("m", n), min(mintedAtOnce, b.handles-n), ""); err != nil {
			return err
		}
	}
	took := time.Since(began)
	say(fmt.Sprintf("  %d handles in %v", b.handles, took.Round(time.Second)))
	pss, err := stage.PSS(p.PID())
	if err != nil {
		return err
	}
	most.addKB(pss)
	// Go looks at least every two minutes what is no longer needed.
	if err := sleep(ctx, keptHandles+keptHandles/8+2*time.Minute+2*b.idle); err != nil {
		return err
	}
	if err := b.readMemory(ctx, p, metrics, end, heapEnd); err != nil {
		return err
	}
	b.report.add(figure{
		ID: "handles", Name: fmt.Sprintf("memory after %d handles have expired, PSS", b.handles), Unit: mb, Ours: end.stats(),
		Peer: "the same program before them", Theirs: start.stats(), Goal: ratioAtMost(1.2),
	})
	b.report.add(figure{
		ID: "handles_heap", Name: "  of it: what the program itself holds (Go's heap)", Unit: mb, Ours: heapEnd.stats(),
		Peer: "the same program before them", Theirs: heapStart.stats(), Goal: ratioAtMost(1.2),
	})
	b.report.add(figure{ID: "handles_most", Name: "  with all of them", Unit: mb, Ours: most.stats()})
	rate := float64(b.handles) / took.Seconds()
	b.report.add(figure{ID: "handles_rate", Name: "  POST /launches, 64 connections", Unit: perSecond, Ours: &stats{1, rate, rate, rate}})
	return nil
}

// readMemory reads what the kernel counts, and what the program holds by its own
// account: the rest is the runtime's.
func (b *bench) readMemory(ctx context.Context, p *stage.Backend, metrics string, into, heap *sample) error {
	for range 5 {
		pss, err := stage.PSS(p.PID())
		if err != nil {
			return err
		}
		into.addKB(pss)
		held, err := heapOf(ctx, metrics)
		if err != nil {
			return err
		}
		heap.addKB(held/1024 - headroomKB)
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// heapOf is go_memstats_heap_alloc_bytes of a program's metrics.
func heapOf(ctx context.Context, metrics string) (int64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_memstats_heap_alloc_bytes "); ok {
			n, err := strconv.ParseFloat(value, 64)
			return int64(n), err
		}
	}
	return 0, errors.Join(errors.New("the metrics do not say what the heap holds"), lines.Err())
}
