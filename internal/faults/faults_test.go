//go:build linux

package faults_test

import (
	"strings"
	"testing"

	"encounterlauncher/internal/faults"
)

// run runs with a seed and shows what was found, with what runs it again.
func run(t *testing.T, o faults.Options) faults.Report {
	t.Helper()
	r, err := faults.Run(t.Context(), o, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", o.Seed, err, r)
	}
	t.Log(r)
	return r
}

// TestFaultedLaunchesKeepEveryPromise is the short form of the run of make faults.
func TestFaultedLaunchesKeepEveryPromise(t *testing.T) {
	r := run(t, faults.Options{Seed: 6, Launches: 250, Stations: 8, Cheap: true})
	for _, v := range r.Found {
		t.Errorf("seed %d, step %d: %s", r.Seed, v.Step, v.What)
	}
	if r.Launches < 250 || r.Tabs < 100 || len(r.Faults) < 20 {
		t.Errorf("it was not tried: %s", r)
	}
}

// TestTheCheckOfFaultedLaunchesCanFail spoils what it looks at.
func TestTheCheckOfFaultedLaunchesCanFail(t *testing.T) {
	for mutant, want := range map[faults.Mutant]string{
		faults.OpensTwice:     "opened twice",
		faults.CreatesAnother: "an encounter that no EHR has named",
	} {
		r := run(t, faults.Options{Seed: 6, Launches: 6, Stations: 2, Cheap: true, Mutant: mutant})
		found := false
		for _, v := range r.Found {
			found = found || strings.Contains(v.What, want)
		}
		if !found {
			t.Errorf("%s: nobody has noticed: %v", mutant, r.Found)
		}
	}
}
