//go:build linux

package endurance

import (
	"math"
	"math/rand/v2"
	"testing"

	"encounterlauncher/internal/chart"
)

// held is memory in MB after so many launches: a constant, a leak of so many bytes a
// launch, what the collector has not taken yet, and now and then a peak.
func held(leak float64, seed uint64) []chart.Point {
	r := rand.New(rand.NewPCG(seed, 6))
	var readings []chart.Point
	for n := 0.0; n <= 100_000; n += 2_000 {
		mb := 3.2 + leak*n/(1<<20) + r.NormFloat64()*0.4 + math.Min(n/10_000, 1)*0.8
		if r.IntN(5) == 0 {
			mb += 20
		}
		readings = append(readings, chart.Point{X: n, Y: mb})
	}
	return readings
}

func TestALeakOfOneSmallObjectForEachLaunchIsFoundAndNoiseIsNot(t *testing.T) {
	for seed := range uint64(200) {
		if row := Flat("memory", "MB", held(0, seed), 1, 100_000); !row.Met {
			t.Errorf("seed %d: noise counts as a leak: %+v", seed, row)
		}
		// 32 bytes are the least that a struct of a few words takes.
		if row := Flat("memory", "MB", held(32, seed), 1, 100_000); row.Met {
			t.Errorf("seed %d: a leak is not found: %+v", seed, row)
		}
	}
}

func TestWhatFallsIsFlat(t *testing.T) {
	if row := Flat("memory", "MB", held(-32, 1), 1, 1); !row.Met {
		t.Errorf("%+v", row)
	}
}

func TestTooFewReadingsShowNothing(t *testing.T) {
	for _, readings := range [][]chart.Point{nil, held(0, 1)[:fewest], make([]chart.Point, 50)} {
		if row := Flat("memory", "MB", readings, 1, 1); row.Met {
			t.Errorf("%d readings: %+v", len(readings), row)
		}
	}
}
