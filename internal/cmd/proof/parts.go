//go:build linux

package main

import "context"

// part is one part of the proof.
type part struct {
	name string
	// shows says in one sentence what is shown.
	shows string
	// run tries it. Rows that it has by the time of an error are told with it: the
	// error says why the part did not run, or not to its end, in words for people.
	run func(context.Context, options, progress) ([]row, error)
}

// all are the parts, in the order in which they are run: what takes longest is last.
func all() []part {
	return []part{
		{"fuzz", "What comes from outside is taken apart without a panic, and keeps the properties that its fuzz targets name", fuzz},
		{"canary", "Marked patients, tokens, handles and one-time URLs go through every path, and are found nowhere but where the list allows it", marked},
		{"faults", "Whatever fails on the way, each launch has one encounter, one tab at most and a clear end, and nothing is kept or lost", faulted},
		{"attackers", "Another user of this computer, a page, a link or a program of the same user gets nothing that is not theirs", attackers},
		{"supply", "What the programs are made of is known, may be used, has no known flaw, and makes the same bytes twice", supply},
		{"endurance", "After 100,000 launches, and after whole days, the programs hold no more than after the first ones: memory, threads, goroutines, descriptors, files", lasting},
	}
}
