//go:build linux

package endurance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"encounterlauncher/internal/chart"
	"encounterlauncher/internal/endurance/steady"
)

const (
	// idleBound is the goal of the agent's memory, in MB.
	idleBound = 10
	// perLaunch is what may be left of a launch, in bytes: less than the smallest
	// object that a launch could leave behind, which has 16.
	perLaunch = 10
	// noise is what memory at rest differs by between two looks, in MB: some pages of
	// the runtime's that are given back or not.
	noise = 0.5
	// ofLoad is what it differs by under load: how far the collector lets the heap grow
	// before it runs.
	ofLoad = 2
	// fewMore are the threads and descriptors that may come: a thread that waits in the
	// kernel while another is needed, a connection that is being opened as it is looked at.
	fewMore = 4
	// mostLog and mostFile are the launcher's own bounds of its files, in MB.
	mostLog, mostRecents = 2.1, 0.1
)

// judge holds what was read against what is allowed.
func (r *run) judge(ctx context.Context) error {
	l, n := r.log, r.log.Done["launches"]
	extra := int64(len(r.session.Notes.Take()))
	l.Judge(steady.Row{
		Tried: "launches open one tab each, links that open nothing none", Times: n + l.Done["links that open nothing"],
		Found: fmt.Sprintf("%d tabs too many", extra), Allowed: "0", Met: extra == 0 && n > 0,
	})
	allowed := perLaunch * float64(n) / (1 << 20)
	if at := l.Read["agent at rest: PSS"]; len(at) > 1 {
		var idle []float64 // one rest may fall together with a renewed token
		for _, p := range at[len(at)/2:] {
			idle = append(idle, p.Y)
		}
		l.Judge(steady.AtMost(fmt.Sprintf("agent: PSS idle, the median of the later rests of %d launches", n), "MB", steady.Median(idle), idleBound, int64(len(idle))))
		// The first rest is that of an agent that has opened one encounter: growth is
		// judged from the second on, where there are enough of them.
		if len(steady.Settled(at)) >= steady.Fewest {
			l.Judge(steady.Flat("agent: memory of its own at rest", "MB", l.Read["agent at rest: own"], noise+allowed, n))
			l.Judge(steady.Flat("agent: PSS at rest", "MB", at, noise+allowed, n))
		}
	}
	l.Judge(steady.Flat("agent: memory of its own under load", "MB", l.Read["agent: own"], ofLoad+allowed, n))
	for _, program := range []string{"agent", "backend", "simulator"} {
		l.Judge(steady.Flat(program+": threads", "", l.Read[program+": threads"], fewMore, n))
		l.Judge(steady.Flat(program+": descriptors", "", l.Read[program+": descriptors"], fewMore, n))
	}
	l.Judge(steady.Flat("backend: goroutines", "", l.Read["backend: goroutines"], fewMore, n))
	r.judgeServers()
	for name, bound := range map[string]float64{"log": mostLog, "recents": mostRecents} {
		at := l.Read["files: "+name]
		l.Judge(steady.AtMost("agent: files of the "+name, "MB", highest(at), bound, int64(len(at))))
	}
	return r.judgeAudit(ctx)
}

// page is what the simulator keeps of a launch for 70 minutes, which is longer than a
// run: a one-time page in a map and its token in a list. In bytes.
const page = 600

// judgeServers judges the memory of backend and simulator from the moment on at which
// as many handles expire as are made, where a run lasts that long. The backend's goes up
// and down with the collector, and the handles that live are a matter of the pace: a
// quarter of it is allowed.
func (r *run) judgeServers() {
	l := r.log
	var from float64
	for _, p := range l.Read["seconds"] {
		if time.Duration(p.Y*float64(time.Second)) < handleLife+time.Minute {
			from = p.X
		}
	}
	for _, program := range []string{"backend", "simulator"} {
		var later []chart.Point
		level := 0.0
		for _, p := range l.Read[program+": own"] {
			if p.X > from {
				later = append(later, p)
				level = max(level, p.Y)
			}
		}
		if len(steady.Settled(later)) < steady.Fewest {
			continue
		}
		launches, allowed := later[len(later)-1].X-later[0].X, level/4
		if program == "simulator" {
			allowed = noise + page*launches/(1<<20)
		}
		l.Judge(steady.Flat(program+": memory of its own, once as many handles expire as are made", "MB", later, allowed, int64(launches)))
	}
}

func highest(points []chart.Point) (most float64) {
	for _, p := range points {
		most = max(most, p.Y)
	}
	return most
}

// judgeAudit holds the launcher's audit against what was done: it is whole, has one
// line for each launch, and no file of it is larger than it may be.
func (r *run) judgeAudit(ctx context.Context) error {
	if err := r.over(ctx); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(r.session.Folder("state"), "encounter-launcher", "audit", "*.jsonl"))
	if err != nil {
		return err
	}
	var opened, largest int64
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		opened += int64(bytes.Count(text, []byte(`"outcome":"opened"`)))
		largest = max(largest, int64(len(text)))
	}
	// One is the launch that asked for the sign-in.
	want := r.log.Done["launches"] + 1
	r.log.Judge(steady.Row{
		Tried: "audit: one line for each launch", Times: want, Found: fmt.Sprintf("%d lines", opened), Allowed: fmt.Sprintf("= %d", want), Met: opened == want,
	})
	const mostOfAudit = 1.01 // MB: the bound, and the line that goes beyond it
	r.log.Judge(steady.AtMost("audit: the largest file", "MB", float64(largest)/(1<<20), mostOfAudit, int64(len(files))))
	verified, err := r.session.Launcher(ctx, "audit", "verify")
	if err != nil {
		return err
	}
	r.log.Judge(steady.Row{Tried: "audit: its chain holds", Times: int64(len(files)), Found: fmt.Sprintf("exit status %d", verified.Status), Allowed: "0", Met: verified.Status == 0})
	return nil
}
