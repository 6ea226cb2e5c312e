//go:build linux

package endurance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"encounterlauncher/internal/chart"
	"encounterlauncher/internal/endurance/steady"
)

// The full form and the short one.
const (
	fullLaunches, fullRests = 100_000, 12
	shortLaunches           = 600
)

// Run is the whole of endurance: launches, days, and an agent made to leak, which has to
// be found. Pictures go into the folder out. It runs in the module's root. Rows beside an
// error are what was judged until then.
func Run(ctx context.Context, short bool, out string, tell func(done, total int64, what string)) ([]steady.Row, error) {
	o := Options{Launches: fullLaunches, Rests: fullRests, Tell: tell}
	if short {
		o = Options{Launches: shortLaunches, Tell: tell}
	}
	l, err := Launches(ctx, o)
	rows := l.Judged
	if err := errors.Join(err, l.Write(filepath.Join(out, "endurance-launches.json"))); err != nil {
		return rows, err
	}
	if err := draw(filepath.Join(out, "endurance-launches.svg"), pictureOfLaunches(l)); err != nil {
		return rows, err
	}
	days, err := runDays(ctx, short, tell)
	for _, day := range days {
		for _, row := range day.Judged {
			row.Tried = "a day of " + day.What + ": " + row.Tried
			rows = append(rows, row)
		}
		name := "endurance-" + strings.NewReplacer(" ", "-", "'", "").Replace(day.What)
		err = errors.Join(err, day.Write(filepath.Join(out, name+".json")), draw(filepath.Join(out, name+".svg"), pictureOfDay(day)))
	}
	if err != nil || short {
		return rows, err
	}
	row, err := leaking(ctx, tell)
	return append(rows, row), err
}

// leaking runs an agent that remembers every link for ever, and returns whether that
// is found.
func leaking(ctx context.Context, tell func(done, total int64, what string)) (steady.Row, error) {
	const launches = 8000
	row := steady.Row{Tried: "an agent that was made to leak is found", Times: launches, Allowed: "found", Found: "not found"}
	l, err := Launches(ctx, Options{Launches: launches, Leaking: true, Tell: func(done, total int64, what string) {
		if tell != nil {
			tell(done, total, what+" of an agent made to leak")
		}
	}})
	for _, judged := range l.Judged {
		if !judged.Met && strings.HasPrefix(judged.Tried, "agent: memory") {
			row.Found, row.Met = "found, "+judged.Found, true
		}
	}
	return row, err
}

// runDays runs the days of the rooms of agent and backend, which have the clock in
// their hand.
func runDays(ctx context.Context, short bool, tell func(done, total int64, what string)) ([]*steady.Log, error) {
	if tell != nil {
		tell(0, 0, "days")
	}
	dir, err := os.MkdirTemp("", "days-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	hours := "24"
	if short {
		hours = "8"
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-run", "^TestADayO", "./internal/agent", "./internal/orgserver", "-daylog", dir, "-dayhours", hours)
	// What go starts ends with it: they are a process group of their own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	said, failed := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var days []*steady.Log
	told := false // a row says why the test failed
	for _, file := range files {
		day, err := steady.ReadLog(file)
		if err != nil {
			return days, err
		}
		for _, row := range day.Judged {
			told = told || !row.Met
		}
		days = append(days, day)
	}
	switch {
	case failed != nil && !told:
		return days, fmt.Errorf("the days: %w\n%s", failed, said)
	case len(days) != 3:
		return days, fmt.Errorf("of 3 days %d have told what they read", len(days))
	}
	return days, nil
}

func pictureOfLaunches(l *steady.Log) chart.Lines {
	series := func(name, quantity string) chart.Series { return chart.Series{Name: name, Points: l.Read[quantity]} }
	memory := chart.Panel{
		Y: chart.Axis{Name: "agent's memory", Unit: "MB", Zero: true}, Bounds: []chart.Bound{{Name: "allowed at rest", At: idleBound}},
		Series: []chart.Series{series("PSS", "agent: PSS"), series("of it its own", "agent: own")},
	}
	if len(l.Read["agent at rest: PSS"]) > 0 {
		memory.Series = append(memory.Series, series("PSS at rest", "agent at rest: PSS"), series("own at rest", "agent at rest: own"))
	}
	return chart.Lines{
		Title: fmt.Sprintf("What the programs hold over %d launches", l.Done["launches"]), Description: described(l),
		X: chart.Axis{Name: "launches", Zero: true},
		Panels: []chart.Panel{
			memory,
			{Y: chart.Axis{Name: "agent", Zero: true}, Series: []chart.Series{series("descriptors", "agent: descriptors"), series("threads", "agent: threads")}},
			{Y: chart.Axis{Name: "servers' memory", Unit: "MB", Zero: true}, Series: []chart.Series{series("backend", "backend: own"), series("simulator", "simulator: own")}},
			{Y: chart.Axis{Name: "backend", Zero: true}, Series: []chart.Series{series("goroutines", "backend: goroutines"), series("descriptors", "backend: descriptors"), series("threads", "backend: threads")}},
			{Y: chart.Axis{Name: "agent's files", Unit: "MB", Zero: true}, Series: []chart.Series{series("audit", "files: audit"), series("log", "files: log"), series("recents", "files: recents")}},
		},
	}
}

func pictureOfDay(l *steady.Log) chart.Lines {
	series := func(name, quantity string) chart.Series { return chart.Series{Name: name, Points: l.Read[quantity]} }
	return chart.Lines{
		Title: "What is held in a day of " + l.What, Description: described(l),
		X: chart.Axis{Name: "hours", Zero: true},
		Panels: []chart.Panel{
			{Y: chart.Axis{Name: "live heap", Unit: "MB", Zero: true}, Series: []chart.Series{series("with the test around it", steady.Heap)}},
			{Y: chart.Axis{Name: "number", Zero: true}, Series: []chart.Series{series(steady.Goroutines, steady.Goroutines), series(steady.Descriptors, steady.Descriptors)}},
		},
	}
}

// described says in words what a picture of a log shows.
func described(l *steady.Log) string {
	var b strings.Builder
	b.WriteString("Done:")
	for _, what := range slices.Sorted(maps.Keys(l.Done)) {
		fmt.Fprintf(&b, " %s %d;", what, l.Done[what])
	}
	for _, row := range l.Judged {
		verdict := "kept"
		if !row.Met {
			verdict = "not kept"
		}
		fmt.Fprintf(&b, " %s: %s, allowed %s, %s.", row.Tried, row.Found, row.Allowed, verdict)
	}
	return b.String()
}

func draw(file string, picture chart.Lines) error {
	text, err := picture.SVG()
	if err != nil {
		return fmt.Errorf("drawing %s: %w", filepath.Base(file), err)
	}
	return os.WriteFile(file, text, 0o644)
}
