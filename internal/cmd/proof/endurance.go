//go:build linux

package main

import (
	"context"

	"encounterlauncher/internal/endurance"
)

// lasting is the part endurance.
func lasting(ctx context.Context, o options, tell progress) ([]row, error) {
	judged, err := endurance.Run(ctx, o.short, o.out, tell)
	var rows []row
	for _, r := range judged {
		rows = append(rows, row{Tried: r.Tried, Times: r.Times, Found: r.Found, Allowed: r.Allowed, Met: r.Met})
	}
	return rows, err
}
