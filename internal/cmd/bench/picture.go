//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"

	"encounterlauncher/internal/chart"
)

// picture draws every figure that has a goal, as how much of its goal it takes: at 1 the
// goal is just met.
func (r *report) picture() ([]byte, error) {
	p := chart.Bars{
		Title: "Figures against their goals",
		Description: "Each bar is a figure of one run of make bench, divided by its goal (where more is better, the goal divided by the figure): " +
			"a bar up to 1 meets it. At the end stands what was measured and what the goal is.",
		Axis: chart.Axis{Name: "share of the goal", Zero: true},
	}
	for _, f := range r.Figures {
		if f.Goal == nil {
			continue
		}
		reached := f.Ours.Median
		measured := f.Ours.text(f.Unit)
		if f.Goal.Of == "ratio" {
			reached, measured = f.Ratio, times(f.Ratio)
		}
		share := reached / f.Goal.AtMost
		if f.Goal.AtLeast > 0 {
			share = f.Goal.AtLeast / reached
		}
		p.Bars = append(p.Bars, chart.Bar{
			Name: strings.TrimSpace(f.Name), Value: share, Bound: 1, Over: !*f.Met,
			Text: fmt.Sprintf("%s, goal %s", measured, f.Goal.text(f.Unit)),
		})
	}
	if len(p.Bars) == 0 {
		return nil, nil
	}
	return p.SVG()
}

// draw writes the picture beside the figures.
func (r *report) draw(path string) error {
	svg, err := r.picture()
	if err != nil || svg == nil {
		return err
	}
	return os.WriteFile(path, svg, 0o644)
}
