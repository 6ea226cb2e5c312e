//go:build linux

package steady

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
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
	for _, readings := range [][]chart.Point{nil, held(0, 1)[:Fewest], make([]chart.Point, 50)} {
		if row := Flat("memory", "MB", readings, 1, 1); row.Met {
			t.Errorf("%d readings: %+v", len(readings), row)
		}
	}
}

func TestWhatThisProcessLeaksIsFound(t *testing.T) {
	var kept [][]byte
	release := make(chan struct{})
	defer close(release)
	for name, c := range map[string]struct {
		leak     func()
		quantity string
	}{
		"nothing":       {func() {}, ""},
		"a goroutine":   {func() { go func() { <-release }() }, Goroutines},
		"a descriptor":  {func() { f, _ := os.Open("/dev/null"); t.Cleanup(func() { _ = f.Close() }) }, Descriptors},
		"some memory":   {func() { kept = append(kept, make([]byte, 64<<10)) }, Heap},
		"memory for it": {func() { kept = [][]byte{make([]byte, 64<<10)} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLog(name, "times")
			for n := range 20 {
				c.leak()
				if err := l.Inside(float64(n)); err != nil {
					t.Fatal(err)
				}
			}
			for quantity, allowed := range map[string]float64{Goroutines: 4, Descriptors: 4, Heap: 0.2} {
				if met := l.Judge(Flat(quantity, "", l.Read[quantity], allowed, 20)); met == (quantity == c.quantity) {
					t.Errorf("%+v of %v", l.Judged[len(l.Judged)-1], l.Read[quantity])
				}
			}
		})
	}
	runtime.KeepAlive(kept)
}

func TestALogIsReadAsItWasWritten(t *testing.T) {
	l := NewLog("one", "launches")
	l.Add("memory", 1, 2)
	l.Judge(Row{Tried: "it", Times: 3, Found: "a", Allowed: "b", Met: true})
	l.Done["launches"] = 4
	file := filepath.Join(t.TempDir(), "log.json")
	if err := l.Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLog(file)
	if err != nil || !reflect.DeepEqual(got, l) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := NewLog("none", "").Write(file); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLog(file); err == nil {
		t.Error("a log without a reading is taken for one")
	}
}
