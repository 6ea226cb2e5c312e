//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// recorded is a figure that another command has left behind: it is not of this run, and
// the table says so.
type recorded struct {
	Name  string    `json:"name"`
	Value string    `json:"value"`
	Goal  string    `json:"goal,omitempty"`
	Met   *bool     `json:"met,omitempty"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
}

// mostPackage is the limit of a package in bytes, as its test holds it.
const mostPackage = 12 << 20

// recall reads what other commands have left in a folder: the packages, the fuzzing and
// the proof. What is not there, or cannot be read, is left out.
func recall(dir string) []recorded {
	return append(append(packages(dir), fuzzed(dir)...), proved(dir)...)
}

func packages(dir string) []recorded {
	var found []recorded
	for _, p := range []struct{ pattern, name, by string }{
		{"encounter-launcher_*_x64.msi", "MSI, x64", "make package-msi"},
		{"encounter-launcher_*_amd64.deb", "deb", "make package-deb"},
		{"encounter-launcher-*.x86_64.rpm", "rpm", "make package-rpm"},
	} {
		names, _ := filepath.Glob(filepath.Join(dir, p.pattern)) // the patterns are good
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil {
				continue
			}
			met := info.Size() <= mostPackage
			found = append(found, recorded{
				Name: "size of the package: " + p.name, Value: fmt.Sprintf("%.1f MB", float64(info.Size())/(1<<20)),
				Goal: "≤ 12 MB", Met: &met, By: p.by, At: info.ModTime(),
			})
		}
	}
	return found
}

func fuzzed(dir string) []recorded {
	var f struct {
		Targets []struct {
			Executions int64    `json:"executions"`
			Seconds    float64  `json:"seconds"`
			Violations []string `json:"violations"`
		} `json:"targets"`
	}
	at, ok := read(filepath.Join(dir, "fuzz.json"), &f)
	if !ok || len(f.Targets) == 0 {
		return nil
	}
	var executions int64
	var seconds float64
	violations := 0
	for _, t := range f.Targets {
		executions += t.Executions
		seconds += t.Seconds
		violations += len(t.Violations)
	}
	if seconds <= 0 {
		return nil
	}
	met := violations == 0
	return []recorded{{
		Name:  fmt.Sprintf("fuzzing: %d targets", len(f.Targets)),
		Value: fmt.Sprintf("%d executions, %.0f/s, %d violations", executions, float64(executions)/seconds, violations),
		Goal:  "0 violations", Met: &met, By: "make fuzz", At: at,
	}}
}

func proved(dir string) []recorded {
	var p struct {
		Short bool `json:"short"`
		Parts []struct {
			Part string `json:"part"`
			Rows []struct {
				Tried   string `json:"tried"`
				Times   int64  `json:"times"`
				Found   string `json:"found"`
				Allowed string `json:"allowed"`
				Met     bool   `json:"met"`
			} `json:"rows"`
		} `json:"parts"`
	}
	at, ok := read(filepath.Join(dir, "proof", "proof.json"), &p)
	if !ok {
		return nil
	}
	by := "make proof"
	if p.Short {
		by = "make proof, its short form"
	}
	var found []recorded
	for _, part := range p.Parts {
		if part.Part != "endurance" && part.Part != "faults" {
			continue // what is no figure
		}
		for _, row := range part.Rows {
			name := part.Part + ": " + row.Tried
			if row.Times > 0 {
				name += fmt.Sprintf(", %d times", row.Times)
			}
			found = append(found, recorded{Name: name, Value: row.Found, Goal: row.Allowed, Met: &row.Met, By: by, At: at})
		}
	}
	return found
}

func read(path string, into any) (at time.Time, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, false
	}
	text, err := os.ReadFile(path)
	return info.ModTime(), err == nil && json.Unmarshal(text, into) == nil
}
