// Package doctor examines this workstation: a closed list of checks, each of which
// says what it found by a code, and, for support, one archive of what was found.
//
// It never repairs anything but in Fix, never starts the agent or opens a page, and
// never sends a token. A finding holds no URL, token, link or patient: its facts are
// names of hosts, programs, files and keys, and numbers, which people may read.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// State says how a finding, a check or the whole is.
type State string

// The states, from good to bad.
const (
	OK      State = "ok"
	Skipped State = "skipped"
	Warning State = "warning"
	Broken  State = "broken"
)

// states are all of them, from good to bad.
var states = [...]State{OK, Skipped, Warning, Broken}

func worst(a, b State) State {
	return states[max(slices.Index(states[:], a), slices.Index(states[:], b))]
}

// Finding is one thing that a check found.
type Finding struct {
	// Code is one of the check's, or one of anyCheck's: see Checks.
	Code string
	// State is the code's.
	State State
	// Facts fill the placeholders of its words.
	Facts map[string]string
	// detail is for the agent's log and the support bundle; it obeys the rule of package
	// problem for causes. Empty for none.
	detail string
}

// Result is what one check found.
type Result struct {
	// Name is the check's.
	Name string
	// State is the worst of its findings'.
	State State
	// Findings are at least one.
	Findings []Finding
	// Took is how long it took.
	Took time.Duration
}

// wholeTime bounds a run, with nothing reachable; checkTime one check, so that what
// is stuck in the system's hands costs its own result and not the others'.
const (
	wholeTime = 9 * time.Second
	checkTime = 8 * time.Second
)

// mostDetail bounds a finding's detail.
const mostDetail = 600

// Run makes the checks, all at once, and returns what they found in the order of the
// list. only names those to make; empty means all. ended is called with each result as
// it comes, one at a time, and may be nil. It returns within ten seconds, whatever is
// reachable: a check that has not ended by then has the finding "timeout".
func Run(ctx context.Context, d Deps, only []string, ended func(Result)) []Result {
	ctx, cancel := context.WithTimeout(ctx, wholeTime)
	defer cancel()
	w := newWorld(d)
	var named []check
	for _, c := range checks {
		if len(only) == 0 || slices.Contains(only, c.name) {
			named = append(named, c)
		}
	}
	results := make([]Result, len(named))
	var told sync.Mutex
	var all sync.WaitGroup
	for i, c := range named {
		all.Go(func() {
			r := w.one(ctx, c)
			for j, f := range r.Findings {
				r.Findings[j].detail = w.bounded(f.detail, mostDetail)
			}
			told.Lock()
			defer told.Unlock()
			results[i] = r
			if ended != nil {
				ended(r)
			}
		})
	}
	all.Wait()
	return results
}

// one makes a check under its deadline.
func (w *world) one(ctx context.Context, c check) Result {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	found := make(chan []Finding, 1)
	go func() {
		defer func() {
			if recover() != nil {
				// What panicked may hold anything: its text is not kept.
				found <- []Finding{w.say(c, "failed").because(errors.New("the check broke off"))}
			}
		}()
		found <- c.look(ctx, w, c)
	}()
	r := Result{Name: c.name, State: OK}
	select {
	case r.Findings = <-found:
	case <-ctx.Done():
		select {
		case r.Findings = <-found: // it ended at the last moment
		default:
			r.Findings = []Finding{w.say(c, "timeout").because(fmt.Errorf("the check did not end within %s", checkTime))}
		}
	}
	if len(r.Findings) == 0 {
		r.Findings = []Finding{w.say(c, "failed").because(errors.New("the check found nothing, not even that all is well"))}
	}
	for _, f := range r.Findings {
		r.State = worst(r.State, f.State)
	}
	r.Took = time.Since(begun)
	return r
}

// say makes a finding of a check's code. facts are pairs of a name and a value.
func (w *world) say(c check, code string, facts ...string) Finding {
	f := Finding{Code: code, State: c.state(code)}
	if len(facts) > 0 {
		f.Facts = make(map[string]string, len(facts)/2)
	}
	for i := 0; i+1 < len(facts); i += 2 {
		f.Facts[facts[i]] = w.shown(facts[i+1])
	}
	return f
}

func (f Finding) because(err error) Finding {
	if err != nil {
		f.detail = slog.AnyValue(err).String()
	}
	return f
}

func (f Finding) String() string { return fmt.Sprintf("%s %s %v", f.State, f.Code, f.Facts) }
