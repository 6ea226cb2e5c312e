package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgclient"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/recents"
	"encounterlauncher/internal/secret"
)

const (
	// eventsAfter is how long after a sign-in or a change of policy the stream of
	// events is opened: a click that came with it goes first.
	eventsAfter = time.Second
	// The pause between two streams doubles from the first to the longest while they
	// fail; each is 0.5 to 1.5 times that. A stream that lasted goodStream begins
	// anew.
	eventsFirstPause = 2 * time.Second
	eventsMostPause  = 4 * time.Minute
	goodStream       = time.Minute
	// withoutEvents is after how long a backend that has no events is asked again.
	withoutEvents = 4 * time.Hour
)

// eventsGoal is whose events are wanted, from where. The zero value wants none.
type eventsGoal struct {
	person flow.Person
	epoch  uint64 // another sign-in of the same person is another goal
	rooms  *rooms
}

// following is how the reading of one goal's events goes.
type following struct {
	goal     eventsGoal
	cursor   orgclient.Cursor
	failures int
	renewed  bool        // the token was renewed once because of a 401
	refused  secret.Text // a token that is not tried again
}

// eventsGoal is what is wanted now: events while somebody is signed in, policy is
// in force and recents are kept.
func (a *Agent) eventsGoal() eventsGoal {
	r, err := a.ready()
	if err != nil || r.policy.RecentsLimit <= 0 || r.policy.RecentsRetention <= 0 {
		return eventsGoal{}
	}
	person, epoch := a.session.whoAndEpoch()
	if person.Subject == "" {
		return eventsGoal{}
	}
	return eventsGoal{person, epoch, r}
}

func (s *session) whoAndEpoch() (flow.Person, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.person, s.epoch
}

// current is the session in memory where its token can be used now. It never
// refreshes: what runs by itself asks neither the keyring nor the issuer.
func (s *session) current(binding string) (flow.Session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.warm(secret.Text{}, binding)
}

// renewOnce is Renew for what runs by itself: with a locked keyring it does
// nothing, since only a click may make the system ask for its password, and without
// anything to renew the sign-in with neither, since that would end it.
func (s *session) renewOnce(ctx context.Context, refused flow.Session, binding string) error {
	s.mu.Lock()
	locked, only := s.keyring == problem.KeyringLocked, s.inMemory && s.memory.Empty()
	s.mu.Unlock()
	switch {
	case locked:
		return problem.New(problem.KeyringLocked, nil)
	case only:
		return problem.New(problem.Unauthorized, nil)
	}
	_, err := s.refresh(ctx, refused.Token, binding)
	return err
}

// eventsChanged has followEvents look again at what is wanted.
func (a *Agent) eventsChanged() {
	a.eventsDirty.ring()
}

// followEvents keeps one stream of the backend's events open while one is wanted,
// until ctx ends.
func (a *Agent) followEvents(ctx context.Context) {
	var f following
	pause := time.Duration(0)
	for ctx.Err() == nil {
		if goal := a.eventsGoal(); goal != f.goal {
			f, pause = following{goal: goal}, a.eventsPause(eventsAfter)
		}
		if f.goal == (eventsGoal{}) {
			a.eventsWait(ctx)
			continue
		}
		if pause > 0 && !a.eventsHold(ctx, f.goal, pause) {
			continue
		}
		pause = 0
		session, ok := a.session.current(f.goal.rooms.id.binding)
		if !ok || session.Person != f.goal.person || !f.refused.Empty() && session.Token.Equal(f.refused) || !a.launches.idle() {
			a.eventsWait(ctx) // for another token, or for the end of the launch
			continue
		}
		pause = a.readEvents(ctx, &f, session)
	}
}

func (a *Agent) eventsWait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-a.eventsDirty:
	}
}

// eventsHold pauses and reports whether the goal is still wanted then.
func (a *Agent) eventsHold(ctx context.Context, goal eventsGoal, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-a.eventsDirty:
			if a.eventsGoal() != goal {
				return false
			}
		}
	}
}

// readEvents reads one stream to its end and returns the pause before the next.
func (a *Agent) readEvents(ctx context.Context, f *following, session flow.Session) time.Duration {
	reading, end := context.WithCancel(ctx)
	defer end()
	began, opened := a.now(), false
	ended := make(chan error, 1)
	go func() {
		ended <- f.goal.rooms.org.Events(reading, session.Token, &f.cursor,
			func() { opened = true; a.backendMet(nil); a.wasUsed() },
			func(e orgapi.ExportedEvent) error { a.exported(reading, f.goal.person, e); return nil })
	}()
	var err error
	for over := false; !over; {
		select {
		case err = <-ended:
			over = true
		case <-a.eventsDirty:
			if a.eventsGoal() != f.goal {
				end()
				<-ended
				return 0
			}
		}
	}
	if ctx.Err() != nil {
		return 0
	}
	if n := f.cursor.Ignored; n > 0 {
		a.log.Warn("events that could not be read were passed over", "count", n)
		f.cursor.Ignored = 0
	}
	if opened {
		f.renewed = false
		if a.now().Sub(began) >= goodStream {
			f.failures = 0
		}
	}
	switch {
	case errors.Is(err, orgclient.ErrNoEvents):
		a.backendMet(nil)
		return a.eventsPause(withoutEvents)
	case problem.IsCode(err, problem.Unauthorized) && !f.renewed:
		a.backendMet(err)
		f.renewed = true
		if err = a.session.renewOnce(ctx, session, f.goal.rooms.id.binding); err == nil {
			return 0
		}
		f.refused = session.Token
	case problem.IsCode(err, problem.Unauthorized):
		a.backendMet(err)
		f.refused = session.Token
	case err != nil:
		a.backendMet(err)
	}
	f.failures++
	if err != nil && f.failures == 1 {
		a.log.Info("the backend's events cannot be read now", "problem", problem.Of(err))
	}
	next := min(eventsFirstPause<<min(f.failures-1, 10), eventsMostPause)
	return a.eventsPause(max(next/2+rand.N(next), f.cursor.Pause))
}

// exported notes that the note of an encounter was exported, where the encounter
// is among the person's recents.
func (a *Agent) exported(ctx context.Context, who flow.Person, e orgapi.ExportedEvent) {
	changed, err := a.recents.setStatus(ctx, who, e.ExternalEncounterID, e.ExternalProviderID, recents.Exported)
	if err != nil {
		a.log.Warn("noting an export among the recents", "problem", problem.Of(err))
	}
	if changed {
		a.recentsChanged()
	}
}
