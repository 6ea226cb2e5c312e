//go:build linux

// Package endurance has the real programs do for hours' worth of work what they do for
// a moment elsewhere: 100,000 launches through the launcher's agent, the backend and
// the simulator as processes, and whole days by a clock that is turned. It reads what
// each holds (memory, threads, goroutines, descriptors, files), judges whether that is
// flat, and draws it.
//
// It never judges by one reading, never takes the person's own launcher, keyring or
// browser, and ends only what it has started. It is for Linux.
package endurance

import (
	"fmt"
	"math"
	"slices"

	"encounterlauncher/internal/chart"
)

// Row is one judgement: what was tried, how often, what came of it and what is allowed.
type Row struct {
	Tried          string
	Times          int64
	Found, Allowed string
	Met            bool
}

// fewest is how many readings a judgement needs: below it, noise decides.
const fewest = 8

// growth is by how much a quantity rises over the readings: the median of the slopes
// between every two of them (Theil 1950, Sen 1968), times the length. Up to 29 % of the
// readings may be as wrong as they like. It is not a number where readings are too few.
func growth(readings []chart.Point) float64 {
	if len(readings) < fewest {
		return math.NaN()
	}
	var slopes []float64
	for i, a := range readings {
		for _, b := range readings[i+1:] {
			if b.X != a.X {
				slopes = append(slopes, (b.Y-a.Y)/(b.X-a.X))
			}
		}
	}
	if len(slopes) == 0 {
		return math.NaN()
	}
	return median(slopes) * (readings[len(readings)-1].X - readings[0].X)
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// settled leaves out the first fifth, in which caches fill.
func settled(readings []chart.Point) []chart.Point {
	return readings[len(readings)/5:]
}

// Flat judges that a quantity does not rise by more than allowed over all readings, the
// first fifth left out. times is how often what might make it rise was done.
func Flat(what, unit string, readings []chart.Point, allowed float64, times int64) Row {
	rises := growth(settled(readings))
	return Row{
		Tried: what + ": growth", Times: times, Found: fmt.Sprintf("%+.3g %s", rises+0, unit), Allowed: fmt.Sprintf("≤ +%.3g %s", allowed, unit),
		Met: rises <= allowed, // false where it is not a number
	}
}

// atMost judges a value by a bound.
func atMost(what, unit string, value, bound float64, times int64) Row {
	return Row{Tried: what, Times: times, Found: fmt.Sprintf("%.2f %s", value, unit), Allowed: fmt.Sprintf("≤ %g %s", bound, unit), Met: value <= bound}
}
