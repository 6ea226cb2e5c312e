package agent

import (
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// freshFor is how long after its end a launch offers a fresh link: "Didn't open?".
const freshFor = 10 * time.Minute

// freshUntil is until when the encounter of a launch can be opened through a fresh
// address by the person given: the backend knows the encounter, and it is theirs.
// Where the browser could not be started the encounter is there all the same. The
// zero time says never. The caller holds the lock of launches.
func (t *tracked) freshUntil(who flow.Person, now time.Time) time.Time {
	if t.stage != view.Opened && t.stage != view.Failed || t.outcome.Encounter.ExternalEncounterID == "" || !t.outcome.Person.Same(who) {
		return time.Time{}
	}
	if until := t.endedAt.Add(freshFor); now.Before(until) {
		return until
	}
	return time.Time{}
}

// fresh opens the encounter of the last launch again, or joins what is under way
// for it already. id is that of the launch that the person saw, empty for whichever
// is the last; a press that comes after the one before has opened something sees
// the launch that this one came from.
func (q *launches) fresh(id string, who flow.Person, click any) (*tracked, bool) {
	q.mu.Lock()
	last, now := q.last, q.now()
	if last == nil || id != "" && id != last.id && id != last.freshOf {
		q.mu.Unlock()
		return nil, false
	}
	if last.freshOf != "" && last.launch.Arrived.Same(who) {
		moment := now.Sub(last.endedAt) < flow.OneTab && !now.Before(last.endedAt)
		if !last.stage.Over() || id == last.freshOf && last.stage == view.Opened && moment {
			q.mu.Unlock()
			return last, true // joined
		}
	}
	if last.freshUntil(who, now).IsZero() {
		q.mu.Unlock()
		return nil, false
	}
	encounter := last.outcome.Encounter
	for _, t := range q.queue {
		if t.launch.Reopen != nil && t.launch.Reopen.ExternalEncounterID == encounter.ExternalEncounterID {
			q.mu.Unlock()
			return t, true // joined to what was asked for from the recents
		}
	}
	t := q.track(flow.Launch{Reopen: &encounter, Arrived: who, Click: click}, linkDigest{}, now)
	t.freshOf = last.id
	q.mu.Unlock()
	q.arrived(t)
	return t, true
}

// freshLink opens the encounter of the last launch through a fresh address.
func (a *Agent) freshLink(i control.Intent) error {
	who := a.session.who()
	if who.Subject == "" {
		return problem.New(problem.SigninNeeded, nil)
	}
	if _, ok := a.launches.fresh(i.ID, who, i.Activation); !ok {
		return problem.New(problem.EncounterUnknown, errNothingToDo)
	}
	return nil
}
