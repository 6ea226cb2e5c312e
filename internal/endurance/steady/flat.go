//go:build linux

// Package steady keeps what was read of a program along the way, and judges whether it
// is flat.
//
// It never judges by one reading, and reads nothing but the process that it is in.
package steady

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

// Fewest is how many readings a judgement needs: below it, noise decides.
const Fewest = 8

// growth is by how much a quantity rises over the readings: the median of the slopes
// between every two of them (Theil 1950, Sen 1968), times the length. Up to 29 % of the
// readings may be as wrong as they like. It is not a number where readings are too few.
func growth(readings []chart.Point) float64 {
	if len(readings) < Fewest {
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
	return Median(slopes) * (readings[len(readings)-1].X - readings[0].X)
}

// Median returns the value in the middle.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Settled leaves out the first fifth, in which caches fill.
func Settled(readings []chart.Point) []chart.Point {
	return readings[len(readings)/5:]
}

// Flat judges that a quantity does not rise by more than allowed over all readings, the
// first fifth left out. times is how often what might make it rise was done.
func Flat(what, unit string, readings []chart.Point, allowed float64, times int64) Row {
	rises := growth(Settled(readings))
	return Row{
		Tried: what + ": growth", Times: times, Found: fmt.Sprintf("%+.3g %s", rises+0, unit), Allowed: fmt.Sprintf("≤ +%.3g %s", allowed, unit),
		Met: rises <= allowed, // false where it is not a number
	}
}

// AtMost judges a value by a bound.
func AtMost(what, unit string, value, bound float64, times int64) Row {
	return Row{Tried: what, Times: times, Found: fmt.Sprintf("%.2f %s", value, unit), Allowed: fmt.Sprintf("≤ %g %s", bound, unit), Met: value <= bound}
}
