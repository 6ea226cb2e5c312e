package audit

import (
	"slices"
	"strings"
	"time"
)

const (
	floodWindow = 10 * time.Second
	// floodLines is how many refusals alike have a line of their own in a window.
	floodLines = 5
	// maxBursts bounds what is counted side by side; codes are few, so it is never
	// reached but by a fault.
	maxBursts = 64
)

// burst is a window of refusals alike.
type burst struct {
	Start   time.Time `json:"start"`
	Written int       `json:"written"`
	// Pending were counted and have no line yet, between First and Last.
	Pending int       `json:"pending"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	// Kind is what they have in common, as it stands in a line.
	Code   string `json:"code"`
	Person string `json:"person"`
}

func (b *burst) end() time.Time { return b.Start.Add(floodWindow) }

// floods counts refusals by what they have in common.
type floods map[string]*burst

func keyOf(l line) string { return l.Code + " " + l.Person }

// admit says whether a record gets a line now, and which counts are due before
// it: all of them before another outcome, so that the order of the file is the
// order of events; those whose window is over before a refusal.
func (f floods) admit(now time.Time, r Record) (write bool, due []burst) {
	if r.Outcome != Refused {
		return true, f.take(func(*burst) bool { return true })
	}
	l := lineOf(r)
	key := keyOf(l)
	// A clock that was set back ends a window too.
	over := func(b *burst) bool { return !now.Before(b.end()) || now.Before(b.Start) }
	before := f[key]
	flooding := before != nil && before.Pending > 0 && over(before)
	due = f.take(over)
	for k, b := range f {
		if over(b) {
			delete(f, k)
		}
	}
	if len(f) >= maxBursts && f[key] == nil {
		due = append(due, f.take(func(*burst) bool { return true })...)
		clear(f)
	}
	b := f[key]
	if b == nil {
		b = &burst{Start: now, Code: l.Code, Person: l.Person}
		if flooding {
			// It goes on: one line for each window, and not five more.
			b.Written = floodLines
		}
		f[key] = b
	}
	if b.Written < floodLines {
		b.Written++
		return true, due
	}
	if b.Pending == 0 {
		b.First = now
	}
	b.Pending++
	b.Last = now
	return false, due
}

// take returns the counts of some bursts, in a fixed order, and resets them.
func (f floods) take(which func(*burst) bool) []burst {
	var taken []burst
	for _, b := range f {
		if b.Pending > 0 && which(b) {
			taken = append(taken, *b)
			b.Pending = 0
		}
	}
	slices.SortFunc(taken, func(a, b burst) int {
		if c := a.First.Compare(b.First); c != 0 {
			return c
		}
		return strings.Compare(a.Code+" "+a.Person, b.Code+" "+b.Person)
	})
	return taken
}

// putBack counts on what could not be written.
func (f floods) putBack(b burst) {
	key := b.Code + " " + b.Person
	if held := f[key]; held != nil {
		held.Pending += b.Pending
		held.First = b.First
		if held.Last.Before(b.Last) {
			held.Last = b.Last
		}
		return
	}
	f[key] = &b
}

// nextEnd is when the first window with a count ends.
func (f floods) nextEnd() (end time.Time, pending bool) {
	for _, b := range f {
		if b.Pending > 0 && (!pending || b.end().Before(end)) {
			end, pending = b.end(), true
		}
	}
	return end, pending
}

func summaryOf(b burst) line {
	return line{
		Layout: layout, Outcome: Refused, Code: b.Code, Person: b.Person,
		Count: b.Pending, Since: formatTime(b.First), Until: formatTime(b.Last),
	}
}
