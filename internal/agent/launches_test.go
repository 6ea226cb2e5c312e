package agent

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// clock is a clock that a test turns.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) turn(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// queue is a queue under test: every launch waits in steps until the test says
// how it ends.
type queue struct {
	*launches
	t     *testing.T
	clock *clock
	steps chan step
}

type step struct {
	tracked *tracked
	ctx     context.Context
	end     func(flow.Outcome, error)
}

func newQueue(t *testing.T) *queue {
	c := newClock()
	ids := 0
	q := &queue{t: t, clock: c, steps: make(chan step)}
	q.launches = newLaunches(c.now, func() string { ids++; return fmt.Sprint("launch-", ids) }, func(*tracked) {})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		q.run(ctx, func(ctx context.Context, t *tracked, _ func(view.Stage)) (flow.Outcome, error) {
			type result struct {
				flow.Outcome
				error
			}
			ended := make(chan result, 1)
			q.steps <- step{t, ctx, func(o flow.Outcome, err error) { ended <- result{o, err} }}
			r := <-ended
			return r.Outcome, r.error
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return q
}

func request(t *testing.T, n int) launch.Request {
	t.Helper()
	r, err := launch.Parse("encounter-launcher", fmt.Sprintf("encounter-launcher://launch?handle=Zk3vQ9x1T7mB2nR5wY8%03d", n))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (q *queue) press(n int) *tracked {
	q.t.Helper()
	t, err := q.link(request(q.t, n), launch.Once{}, flow.Person{}, nil, nil)
	if err != nil {
		q.t.Fatal(err)
	}
	return t
}

func outcome(encounter string) flow.Outcome {
	return flow.Outcome{Encounter: flow.Encounter{ExternalEncounterID: encounter, ExternalProviderID: "D-1"}}
}

// finish lets the running launch end and waits until the queue knows.
func (q *queue) finish(o flow.Outcome, err error) *tracked {
	s := <-q.steps
	s.end(o, err)
	q.settle(s.tracked)
	return s.tracked
}

func (q *queue) settle(t *tracked) {
	for {
		var over bool
		q.look(func(*tracked) { over = t.stage.Over() })
		if over {
			return
		}
	}
}

func TestTheSameLinkIsJoinedWhileItIsInFlight(t *testing.T) {
	q := newQueue(t)
	first := q.press(1)
	s := <-q.steps
	for range 20 {
		if again := q.press(1); again != first {
			t.Fatal("a second launch was made of one link")
		}
	}
	s.end(outcome("E-1"), nil)
	q.settle(first)
	if !q.idle() {
		t.Error("a repeat was queued")
	}
}

func TestTheSameLinkSoonAfterSuccessDoesNothingAndLaterReopensThroughAFreshAddress(t *testing.T) {
	q := newQueue(t)
	first := q.press(1)
	q.finish(outcome("E-1"), nil)
	q.clock.turn(flow.OneTab - time.Millisecond)
	if again := q.press(1); again != first || !q.idle() {
		t.Error("a click within three seconds of success started something")
	}
	q.clock.turn(time.Millisecond)
	later := q.press(1)
	if later == first || later.launch.Reopen == nil || later.launch.Reopen.ExternalEncounterID != "E-1" || later.launch.Request != nil {
		t.Errorf("three seconds later the encounter should be reopened, got %+v", later.launch)
	}
	q.finish(outcome("E-1"), nil)
}

func TestAFailedLinkClickedAgainIsTriedAgainUnderANewID(t *testing.T) {
	q := newQueue(t)
	first := q.press(1)
	q.finish(flow.Outcome{}, problem.New(problem.OrgUnreachable, nil))
	again := q.press(1)
	if again.id == first.id || again.launch.Request == nil || !again.launch.Request.Equal(*first.launch.Request) {
		t.Errorf("got %+v", again.launch)
	}
	q.finish(outcome("E-1"), nil)
}

func TestLaunchesRunOneAfterAnotherInTheOrderOfTheirArrival(t *testing.T) {
	q := newQueue(t)
	var pressed []*tracked
	for n := range mostLinks {
		pressed = append(pressed, q.press(n))
	}
	for i, want := range pressed {
		s := <-q.steps
		if s.tracked != want {
			t.Errorf("launch %d ran out of turn", i)
		}
		select {
		case <-q.steps:
			t.Fatal("two launches ran at once")
		default:
		}
		s.end(outcome(fmt.Sprint("E-", i)), nil)
		q.settle(s.tracked)
	}
}

func TestAFloodOfDistinctLinksIsRefusedAndRepeatsAndRetriesDoNotCount(t *testing.T) {
	q := newQueue(t)
	fail := problem.New(problem.OrgUnreachable, nil)
	for n := range mostLinks {
		q.press(n)
		q.finish(flow.Outcome{}, fail)
		q.press(n) // a further click on a known link
		q.finish(flow.Outcome{}, fail)
		if _, ok := q.again("", flow.Person{}, nil); !ok {
			t.Fatal("a failed launch should be retryable")
		}
		q.finish(flow.Outcome{}, fail)
	}
	_, err := q.link(request(t, 99), launch.Once{}, flow.Person{}, nil, nil)
	if !problem.IsCode(err, problem.TooManyLinks) {
		t.Fatalf("the sixth distinct link in ten seconds: %v", err)
	}
	if !q.idle() {
		t.Error("a refused link was queued")
	}
	q.clock.turn(linkWindow)
	q.press(99)
	q.finish(outcome("E-99"), nil)
}

func TestOneLinkWithoutEndIsTakenUpAgainNoMoreOftenThanTheLimit(t *testing.T) {
	q := newQueue(t)
	fail := problem.New(problem.HandleExpired, nil)
	begun, refused := 0, 0
	for range 1000 {
		if _, err := q.link(request(t, 1), launch.Once{}, flow.Person{}, nil, nil); problem.IsCode(err, problem.TooManyLinks) {
			refused++
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		begun++
		q.finish(flow.Outcome{}, fail)
	}
	if begun != 1+mostAgain || refused != 1000-begun {
		t.Errorf("%d launches, %d refusals", begun, refused)
	}
	for range 1000 {
		if _, err := q.refused(request(t, 1), flow.Person{}, nil, fail); !problem.IsCode(err, problem.TooManyLinks) {
			t.Fatalf("the same link, which policy refuses now: %v", err)
		}
	}
	q.press(2) // another link is no part of it
	q.finish(outcome("E-2"), nil)
	q.clock.turn(linkWindow)
	q.press(1)
	q.finish(outcome("E-1"), nil)
}

func TestASignedRequestUnderAnotherLinkIsAReplay(t *testing.T) {
	q := newQueue(t)
	once := launch.Once{Issuer: "ehr", ID: "jti-1", Until: q.clock.now().Add(5 * time.Minute)}
	if _, err := q.link(request(t, 1), once, flow.Person{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	q.finish(outcome("E-1"), nil)
	if _, err := q.link(request(t, 1), once, flow.Person{}, nil, nil); err != nil {
		t.Errorf("the same link again is no replay: %v", err)
	}
	if _, err := q.link(request(t, 2), once, flow.Person{}, nil, nil); !problem.IsCode(err, problem.LinkReplayed) {
		t.Errorf("got %v", err)
	}
	other := once
	other.Issuer = "another ehr"
	if _, err := q.link(request(t, 3), other, flow.Person{}, nil, nil); err != nil {
		t.Errorf("another issuer has its own ids: %v", err)
	}
	q.finish(outcome("E-3"), nil)
	q.clock.turn(6 * time.Minute)
	if _, err := q.link(request(t, 4), once, flow.Person{}, nil, nil); err != nil {
		t.Errorf("after its end the id is forgotten, and the rules refuse it as expired: %v", err)
	}
	q.finish(outcome("E-4"), nil)
}

func TestARetryKeepsTheLinkAndThePersonItArrivedFor(t *testing.T) {
	q := newQueue(t)
	ada := flow.Person{Issuer: "i", Subject: "ada"}
	first, err := q.link(request(t, 1), launch.Once{}, ada, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.finish(flow.Outcome{}, problem.New(problem.OrgBusy, nil))
	again, ok := q.again("", flow.Person{Issuer: "i", Subject: "ben"}, nil)
	if !ok || again.id == first.id || !again.launch.Request.Equal(*first.launch.Request) || again.launch.Arrived != ada {
		t.Errorf("got %+v", again)
	}
	q.finish(outcome("E-1"), nil)
	if _, ok := q.again("", ada, nil); ok {
		t.Error("a launch that went well was retried")
	}
}

func TestWhatCannotSucceedIsNotRetried(t *testing.T) {
	q := newQueue(t)
	q.press(1)
	q.finish(flow.Outcome{}, problem.New(problem.HandleSpent, nil))
	if _, ok := q.again("", flow.Person{}, nil); ok {
		t.Error("a spent handle was tried again")
	}
}

func TestCancelEndsTheRunningLaunchAndOnlyThat(t *testing.T) {
	q := newQueue(t)
	if _, ok := q.cancel(""); ok {
		t.Error("nothing runs")
	}
	q.press(1)
	second := q.press(2)
	s := <-q.steps
	if _, ok := q.cancel(""); !ok {
		t.Error("a launch runs")
	}
	<-s.ctx.Done()
	s.end(flow.Outcome{}, problem.New(problem.Cancelled, nil))
	q.settle(s.tracked)
	if s.tracked.stage != view.Cancelled {
		t.Errorf("stage %s", s.tracked.stage)
	}
	next := <-q.steps
	if next.tracked != second || next.ctx.Err() != nil {
		t.Error("the launch behind it was cancelled as well")
	}
	next.end(outcome("E-2"), nil)
	q.settle(second)
}

func TestADoubleClickOnARecentReopensOnce(t *testing.T) {
	q := newQueue(t)
	e := flow.Encounter{ExternalEncounterID: "E-1"}
	first := q.reopen(e, flow.Person{}, nil)
	s := <-q.steps
	if q.reopen(e, flow.Person{}, nil) != first {
		t.Error("a second reopening was queued")
	}
	s.end(outcome("E-1"), nil)
	q.settle(first)
	if q.reopen(e, flow.Person{}, nil) == first {
		t.Error("a later click is a new wish")
	}
	q.finish(outcome("E-1"), nil)
}

func TestARefusedLinkIsSeenAsAFailedLaunchWithItsCode(t *testing.T) {
	q := newQueue(t)
	refused, _ := q.refused(request(t, 1), flow.Person{}, nil, problem.New(problem.PolicyMissing, nil))
	q.look(func(last *tracked) {
		if last != refused || last.stage != view.Failed || last.problem.Code != problem.PolicyMissing {
			t.Errorf("got %+v", last)
		}
	})
	if !q.idle() {
		t.Error("a refused link was queued")
	}
	if _, ok := q.again("", flow.Person{}, nil); !ok {
		t.Error("once IT has set up the policy, the person should not need to go back to the EHR")
	}
	q.finish(outcome("E-1"), nil)
}

func TestTheMemoryOfLinksIsBounded(t *testing.T) {
	q := newQueue(t)
	for n := range 40 {
		q.press(n)
		q.finish(outcome(fmt.Sprint("E-", n)), nil)
		q.clock.turn(2 * time.Minute)
	}
	if known := len(q.byLink); known > 17 {
		t.Errorf("%d links are remembered; half an hour holds 16", known)
	}
}

func TestAnEndingAgentTakesNoLinkAndEndsOnlyWhenIdleIfAskedSo(t *testing.T) {
	q := newQueue(t)
	first := q.press(1)
	s := <-q.steps
	if q.stopIfIdle() {
		t.Fatal("it stopped with a launch in flight")
	}
	waiting := q.press(2) // it still takes links
	s.end(outcome("E-1"), nil)
	q.settle(first)
	q.finish(outcome("E-2"), nil)
	q.settle(waiting)
	if !q.stopIfIdle() {
		t.Fatal("it did not stop with nothing in flight")
	}
	if _, err := q.link(request(t, 3), launch.Once{}, flow.Person{}, nil, nil); !problem.IsCode(err, problem.AgentUnreachable) {
		t.Errorf("an agent that ends took a link: %v", err)
	}
	if !q.idle() {
		t.Error("something was queued that will never run")
	}
}
