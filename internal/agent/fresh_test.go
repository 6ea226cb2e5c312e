package agent

import (
	"errors"
	"testing"
	"time"

	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
)

var (
	ada = flow.Person{Issuer: "i", Subject: "ada"}
	ben = flow.Person{Issuer: "i", Subject: "ben"}
)

func byAda(encounter string) flow.Outcome {
	o := outcome(encounter)
	o.Person = ada
	return o
}

func TestAFreshLinkJoinsWhatIsUnderWayForItAndAQuickSecondPress(t *testing.T) {
	q := newQueue(t)
	first := q.press(1)
	if _, ok := q.fresh("", ada, nil); ok {
		t.Error("a launch that is under way has no fresh link")
	}
	q.finish(byAda("E-1"), nil)
	one, ok := q.fresh(first.id, ada, nil)
	if !ok || one.launch.Reopen == nil || one.launch.Reopen.ExternalEncounterID != "E-1" || !one.launch.Arrived.Same(ada) {
		t.Fatalf("got %+v, %v", one, ok)
	}
	for _, id := range []string{first.id, one.id, ""} {
		if two, ok := q.fresh(id, ada, nil); !ok || two != one {
			t.Errorf("pressed twice with %q: %+v, %v", id, two, ok)
		}
	}
	if _, ok := q.fresh(first.id, ben, nil); ok {
		t.Error("somebody else joined")
	}
	q.finish(byAda("E-1"), nil)
	q.clock.turn(flow.OneTab - time.Millisecond)
	if two, ok := q.fresh(first.id, ada, nil); !ok || two != one {
		t.Error("the second press of a double press opened once more")
	}
	q.clock.turn(time.Millisecond)
	three, ok := q.fresh(first.id, ada, nil)
	if !ok || three == one || three.freshOf != one.id {
		t.Errorf("a press a while later: %+v, %v", three, ok)
	}
	q.finish(byAda("E-1"), nil)
	if _, ok := q.fresh(first.id, ada, nil); ok {
		t.Error("a launch before the last one was meant")
	}
}

func TestAFreshLinkIsOfferedForTenMinutesForWhatTheBackendKnows(t *testing.T) {
	none := time.Time{}
	for what, c := range map[string]struct {
		outcome flow.Outcome
		err     error
		who     flow.Person
		after   time.Duration
		offered bool
	}{
		"opened":                                {byAda("E-1"), nil, ada, 0, true},
		"opened, by somebody else":              {byAda("E-1"), nil, ben, 0, false},
		"opened, and nobody is signed in":       {byAda("E-1"), nil, flow.Person{}, 0, false},
		"at the last moment":                    {byAda("E-1"), nil, ada, freshFor - 1, true},
		"too late":                              {byAda("E-1"), nil, ada, freshFor, false},
		"the clock was turned back":             {byAda("E-1"), nil, ada, -time.Hour, true},
		"created, and the browser did not open": {byAda("E-1"), problem.New(problem.BrowserUnavailable, errors.New("none")), ada, 0, true},
		"created, then cancelled":               {byAda("E-1"), problem.New(problem.Cancelled, nil), ada, 0, false},
		"not created":                           {flow.Outcome{Person: ada}, problem.New(problem.OrgBusy, nil), ada, 0, false},
	} {
		q := newQueue(t)
		pressed := q.press(1)
		q.finish(c.outcome, c.err)
		q.clock.turn(c.after)
		var until time.Time
		q.look(func(last *tracked) { until = last.freshUntil(c.who, q.clock.now()) })
		_, ok := q.fresh(pressed.id, c.who, nil)
		if (until != none) != c.offered || ok != c.offered {
			t.Errorf("%s: offered until %v, taken %v", what, until, ok)
		}
		if ok {
			q.finish(byAda("E-1"), nil)
		}
	}
}

func TestAFreshLinkJoinsTheSameEncounterThatWaitsAndALinkThatIsNewerIsTheLast(t *testing.T) {
	q := newQueue(t)
	q.press(1)
	q.finish(byAda("E-1"), nil)
	q.clock.turn(time.Minute)
	second, err := q.link(request(t, 2), launch.Once{}, ada, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := q.fresh("launch-1", ada, nil); ok {
		t.Error("a launch that is not the last any more was taken")
	}
	q.finish(byAda("E-2"), nil)
	fresh, ok := q.fresh("", ada, nil)
	if !ok || fresh.freshOf != second.id || fresh.launch.Reopen.ExternalEncounterID != "E-2" {
		t.Errorf("got %+v, %v", fresh, ok)
	}
	if again := q.reopen(flow.Encounter{ExternalEncounterID: "E-2"}, ada, nil); again != fresh {
		t.Error("the recent of the same encounter was opened beside it")
	}
	q.finish(byAda("E-2"), nil)
}
