package orgstore

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
)

func benchmarkHandles(b *testing.B) *Handles {
	b.Helper()
	conn, err := Connect(orgconfig.NATS{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	h, err := OpenHandles(context.Background(), conn, 10*time.Minute, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	return h
}

func someLaunch() Launch {
	return Launch{EHR: "ehr-1", Request: orgapi.LaunchRequest{
		ProviderEmail: "ada@hospital.example", ExternalProviderID: "D-17", ExternalPatientID: "P-1", ExternalEncounterID: "E-1",
		StructuredContext: orgapi.StructuredContext{PatientDemographics: orgapi.Demographics{Name: "Grace Hopper", BirthDate: "1980-01-31", Gender: "female"}},
	}}
}

// callers is how many call at once: 64, as in the measurement against nginx.
func callers(b *testing.B) { b.SetParallelism(32) }

func BenchmarkMint(b *testing.B) {
	h := benchmarkHandles(b)
	var n atomic.Int64
	callers(b)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := h.Mint(b.Context(), strconv.FormatInt(n.Add(1), 10), someLaunch()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkRedeem is what POST /encounters asks of the store: look, then redeem.
func BenchmarkRedeem(b *testing.B) {
	h := benchmarkHandles(b)
	for i := range b.N {
		if err := h.Mint(b.Context(), strconv.Itoa(i+1), someLaunch()); err != nil {
			b.Fatal(err)
		}
	}
	var n atomic.Int64
	callers(b)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			handle := strconv.FormatInt(n.Add(1), 10)
			t, err := h.Look(b.Context(), handle)
			if err == nil {
				err = h.Redeem(b.Context(), t, Spender{"subject-1", handle})
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}
