package tray

import "time"

// settle is how long a line that opens an encounter must have stood still before a click on it counts. A
// person needs some hundred milliseconds to see a change and to stop a finger
// that is on its way, and the desktop draws a change later than we make it. Within
// this time the slot may not show, for the person, what it stands for, and a
// click could open the encounter of another patient.
const settle = 2 * time.Second

// place is what makes a line that opens an encounter what it is for a person who aims at it: the
// encounter or the launch, and the row in which it is seen. A line that appears
// above moves it, also above the line that opens the submenu.
type place struct {
	id  string
	row int
}

// board remembers what the menu shows and since when. It belongs to one goroutine.
// The zero board shows nothing.
type board struct {
	drawn  bool
	shown  model
	places [lines]place     // of the lines that settle
	since  [lines]time.Time // when each came to its place
}

// change is what has to be drawn again.
type change struct {
	model model
	face  bool
	tip   bool
	line  [lines]bool
	was   [lines]bool // whether the line was to be seen before
	// moved says that a line has come or gone, or stands for another encounter: a menu
	// that was opened before tells no longer what a click does.
	moved bool
}

// update shows a model from now on and returns what that changes.
func (b *board) update(m model, now time.Time) change {
	c := change{model: m, face: !b.drawn || m.face != b.shown.face, tip: !b.drawn || m.tooltip != b.shown.tooltip}
	row := 0
	for n := range m.lines {
		c.line[n] = m.lines[n].title != b.shown.lines[n].title || (m.lines[n].intent == "") != (b.shown.lines[n].intent == "")
		c.was[n] = b.shown.lines[n].title != ""
		if m.lines[n].title != "" {
			row++
		}
		c.moved = c.moved || b.drawn && c.was[n] != (m.lines[n].title != "")
		if settles(n) {
			p := place{m.lines[n].id, row}
			if m.lines[n].title == "" {
				p = place{} // whoever sees it next sees it anew
			}
			if p != b.places[n] {
				b.places[n], b.since[n] = p, now
				c.moved = c.moved || b.drawn
			}
		}
	}
	b.shown, b.drawn = m, true
	return c
}

// again returns the change that draws every visible line once more.
func (b *board) again() change {
	c := change{model: b.shown}
	for n := range b.shown.lines {
		c.line[n] = b.shown.lines[n].title != ""
		c.was[n] = c.line[n]
	}
	return c
}

// click returns the intent of a line that was clicked at now. It is not ok for a
// line that is hidden or only read, and for one that opens an encounter and has not
// settled: the click may have been meant for what stood there before.
func (b *board) click(n int, now time.Time) (intent, id string, ok bool) {
	if n < 0 || n >= lines {
		return "", "", false
	}
	l := b.shown.lines[n]
	if l.title == "" || l.intent == "" {
		return "", "", false
	}
	// A clock that was set back proves nothing either.
	if settles(n) && now.Sub(b.since[n]) < settle {
		return "", "", false
	}
	return l.intent, l.id, true
}
