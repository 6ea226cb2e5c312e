package agent

import (
	"context"
	"time"

	"encounterlauncher/internal/view"
)

const (
	// lookAgain is the longest rest of keepTime: a computer that slept, another
	// session of the person and a clock that was set are noticed by then.
	lookAgain = 10 * time.Minute
	// leastRest keeps keepTime from turning in circles where publishing does not help.
	leastRest = time.Second
)

// keepTime publishes anew at the moment at which something shown stops to be true:
// a recent encounter expires, what was removed cannot be brought back any more, a
// fresh link is not offered any more.
func (a *Agent) keepTime(ctx context.Context) {
	shown := a.board.watch(ctx)
	s, ok := <-shown
	acted := false
	for ok {
		rest := lookAgain
		if next := a.nextMoment(s); !next.IsZero() {
			rest = min(next.Sub(a.now()), lookAgain)
		}
		if acted {
			rest = max(rest, leastRest)
		}
		at, stop := a.timer(max(rest, 0))
		select {
		case s, ok = <-shown:
			acted = false
		case <-at:
			a.publishTime(s)
			acted = true
		}
		stop()
	}
}

// nextMoment is the earliest moment at which what is shown stops to be true; zero
// for none.
func (a *Agent) nextMoment(s view.Snapshot) (next time.Time) {
	earlier := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	age := a.recents.limits().Age
	for _, r := range s.Recents {
		earlier(r.OpenedAt.Add(age))
	}
	if s.Undo != nil {
		earlier(s.Undo.Until)
	}
	if s.Launch != nil && s.Launch.FreshUntil != nil {
		earlier(*s.Launch.FreshUntil)
	}
	return next
}

func (a *Agent) publishTime(s view.Snapshot) {
	now := a.now()
	if s.Undo != nil && !now.Before(s.Undo.Until) {
		a.showUndo()
	}
	if s.Launch != nil && s.Launch.FreshUntil != nil && !now.Before(*s.Launch.FreshUntil) {
		a.launchChanged(nil)
	}
	if s.SignIn.Person != nil {
		a.showRecents() // what has expired goes from the disk too
	}
}
