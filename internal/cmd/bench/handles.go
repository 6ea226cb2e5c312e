//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// keptHandles is how long the measured backend keeps a handle in memory, which is
	// twenty minutes in a release: long enough to mint all of them.
	keptHandles = 4 * time.Minute
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
	p, err := h.startBackend(ctx, b.built, "handles", shortMemory, "")
	if err != nil {
		return err
	}
	defer h.stop(p.Cmd)
	// What every call needs is there with the first ones.
	if _, err := h.mint(ctx, p, "warm", 2000, ""); err != nil {
		return err
	}
	if err := sleep(ctx, 2*b.idle); err != nil { // it has given back what they took
		return err
	}
	start, most, end := b.report.sample(), b.report.sample(), b.report.sample()
	if err := b.readMemory(ctx, p, start); err != nil {
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
	pss, err := pssOf(p.Process.Pid)
	if err != nil {
		return err
	}
	most.addKB(pss)
	// Go looks at least every two minutes what is no longer needed.
	if err := sleep(ctx, keptHandles+keptHandles/8+2*time.Minute+2*b.idle); err != nil {
		return err
	}
	if err := b.readMemory(ctx, p, end); err != nil {
		return err
	}
	b.report.add(figure{
		ID: "handles", Name: fmt.Sprintf("memory after %d handles have expired, PSS", b.handles), Unit: mb, Ours: end.stats(),
		Peer: "the same program before them", Theirs: start.stats(), Goal: ratioAtMost(1.2),
	})
	b.report.add(figure{ID: "handles_most", Name: "  with all of them", Unit: mb, Ours: most.stats()})
	rate := float64(b.handles) / took.Seconds()
	b.report.add(figure{ID: "handles_rate", Name: "  POST /launches, 64 connections", Unit: perSecond, Ours: &stats{1, rate, rate, rate}})
	return nil
}

func (b *bench) readMemory(ctx context.Context, p *backendProgram, into *sample) error {
	for range 5 {
		pss, err := pssOf(p.Process.Pid)
		if err != nil {
			return err
		}
		into.addKB(pss)
		if err := sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	return nil
}
