package control

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

const testLink = "encounter-launcher://launch?handle=AAAAAAAAAAAAAAAAAAAAAA"

// agent is what the tests serve: it takes everything down and answers what it is
// told to.
type agent struct {
	mu        sync.Mutex
	links     []string
	clicks    []Activation
	intents   []Intent
	refusals  []string
	linkError error
	doError   error

	updates  chan view.Snapshot
	watching chan context.Context // receives the context of every watch
}

func newAgent() *agent {
	return &agent{updates: make(chan view.Snapshot), watching: make(chan context.Context, 8)}
}

func (a *agent) Link(_ context.Context, link intake.Candidate, activation Activation) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.links = append(a.links, link.Text().Reveal())
	a.clicks = append(a.clicks, activation)
	return "launch-1", a.linkError
}

func (a *agent) Refused(_ context.Context, code problem.Code, reference string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refusals = append(a.refusals, string(code)+" "+reference)
}

func (a *agent) Describe(p *problem.Problem) view.Problem {
	return view.Problem{Code: p.Code, Sentence: p.Error(), NextStep: p.Row().NextStep, Reference: p.Reference}
}

func (a *agent) Snapshot() view.Snapshot { return view.Snapshot{Revision: 7, Version: "1.2.3"} }

func (a *agent) Watch(ctx context.Context) <-chan view.Snapshot {
	a.watching <- ctx
	return a.updates
}

func (a *agent) Policy(context.Context) ([]byte, error) { return []byte(`{"keys":[]}`), nil }

func (a *agent) Do(_ context.Context, i Intent) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.intents = append(a.intents, i)
	return a.doError
}

func (a *agent) calls() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.links) + len(a.intents) + len(a.refusals)
}

// listen makes the test the agent of a user of its own.
func listen(t *testing.T) (paths.Layout, *Server) {
	t.Helper()
	l := paths.Under(t.TempDir(), "")
	s, err := Listen(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return l, s
}

// serve serves until the test ends.
func serve(t *testing.T, s *Server, h Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func connect(t *testing.T, l paths.Layout) *Client {
	t.Helper()
	c, err := Dial(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func candidate(t *testing.T, text string) intake.Candidate {
	t.Helper()
	c, err := intake.FromText(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestALinkIsHandedOverWithTheClickAndAcknowledged(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	c := connect(t, l)
	ack, err := c.Link(t.Context(), candidate(t, testLink), Activation{Token: "token-1", StartupID: "startup-1"})
	if err != nil || !ack.Accepted || ack.ID != "launch-1" {
		t.Fatalf("got %+v, %v", ack, err)
	}
	if len(a.links) != 1 || a.links[0] != testLink || a.clicks[0] != (Activation{"token-1", "startup-1"}) {
		t.Errorf("the agent got %v %v", a.links, a.clicks)
	}
}

func TestARefusedLinkIsAnAnswerWithTheAgentsReference(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	refused := problem.With(problem.LinkExpired, "It is four minutes old.", nil)
	a.linkError = refused
	serve(t, s, a)
	ack, err := connect(t, l).Link(t.Context(), candidate(t, testLink), Activation{})
	if err != nil || ack.Accepted {
		t.Fatalf("got %+v, %v", ack, err)
	}
	want := Ack{Code: problem.LinkExpired, Sentence: refused.Error(), NextStep: refused.Row().NextStep, Reference: refused.Reference}
	if ack != want {
		t.Errorf("got %+v, want %+v", ack, want)
	}
}

func TestAnActivationThatCannotBeUsedIsLeftOutAndRefusesNothing(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	c := connect(t, l)
	for _, bad := range []string{"a\x00b", "two words", "new\nline", strings.Repeat("x", maxActivation+1), "é"} {
		if ack, err := c.Link(t.Context(), candidate(t, testLink), Activation{Token: bad, StartupID: bad}); err != nil || !ack.Accepted {
			t.Fatalf("got %+v, %v", ack, err)
		}
		if got := a.clicks[len(a.clicks)-1]; got != (Activation{}) {
			t.Errorf("the agent got %q", got)
		}
	}
}

func TestEveryIntentArrivesAsItWasSent(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	c := connect(t, l)
	click := Activation{Token: "t", StartupID: "s"}
	intents := []Intent{
		{Name: SignIn, Activation: click}, {Name: SignOut}, {Name: SignOut, All: true},
		{Name: OpenRecent, ID: "r1", Activation: click}, {Name: OpenRecent, Last: true},
		{Name: Cancel}, {Name: Cancel, ID: "l1"}, {Name: Retry, ID: "l1", Activation: click}, {Name: Retry},
		{Name: OpenWindow, Activation: click}, {Name: Quit}, {Name: Quit, Finish: true},
		{Name: ShowSignIn, Activation: click}, {Name: FreshLink, ID: "l1", Activation: click}, {Name: FreshLink}, {Name: OpenHelpDesk, Activation: click},
		{Name: RemoveRecent, ID: "r1"}, {Name: ClearRecents}, {Name: UndoRemove}, {Name: Check},
		{Name: Choose, Key: "Language", Value: "fr"}, {Name: Choose, Key: "Language"},
	}
	for _, i := range intents {
		if err := c.Do(t.Context(), i); err != nil {
			t.Errorf("%+v: %v", i, err)
		}
	}
	if len(a.intents) != len(intents) {
		t.Fatalf("%d intents arrived", len(a.intents))
	}
	for n, i := range intents {
		if a.intents[n] != i {
			t.Errorf("got %+v, want %+v", a.intents[n], i)
		}
	}
}

// before is an agent from before the field, which refuses what it does not know.
type before struct{ *agent }

func (b before) Do(ctx context.Context, i Intent) error {
	if i.Finish {
		return problem.New(problem.RequestInvalid, errors.New("the body has an unknown field"))
	}
	return b.agent.Do(ctx, i)
}

func TestAnAgentThatKnowsNoFinishingIsToldToQuitAllTheSame(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, before{a})
	if err := connect(t, l).Do(t.Context(), Intent{Name: Quit, Finish: true}); err != nil {
		t.Fatal(err)
	}
	if len(a.intents) != 1 || a.intents[0] != (Intent{Name: Quit}) {
		t.Errorf("it was asked for %+v", a.intents)
	}
}

func TestTheClickOfATerminalDoesNotKeepAnIntentThatOpensNothingFromArriving(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	c := connect(t, l)
	for _, name := range []string{Cancel, SignOut, Check, Quit} {
		if err := c.Do(t.Context(), Intent{Name: name, Activation: Activation{Token: "t", StartupID: "s"}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Do(t.Context(), Intent{Name: Choose, Key: "Language", Value: "fr", Activation: Activation{Token: "t"}}); err != nil {
		t.Error(err)
	}
}

func TestAnIntentThatContradictsItselfIsRefusedBeforeTheAgentSeesIt(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	c := connect(t, l)
	for _, i := range []Intent{
		{Name: OpenRecent}, {Name: OpenRecent, ID: "r", Last: true}, {Name: OpenRecent, ID: "a b"},
		{Name: OpenRecent, ID: strings.Repeat("r", maxID+1)}, {Name: Quit, All: true}, {Name: SignIn, Finish: true}, {Name: SignIn, ID: "x"},
		{Name: RemoveRecent}, {Name: RemoveRecent, ID: "a b"}, {Name: ClearRecents, ID: "r"}, {Name: FreshLink, Last: true},
		{Name: Choose}, {Name: Choose, Value: "fr"}, {Name: Choose, Key: "a b"}, {Name: Choose, Key: "Language", Value: "f\nr"}, {Name: SignIn, Key: "Language"},
		{Name: Choose, Key: "Language", Value: strings.Repeat("v", maxID+1)}, {Name: "format-disk"}, {Name: "link"}, {Name: ""}, {Name: "../v1/quit"},
	} {
		if err := c.Do(t.Context(), i); problem.CodeOf(err) != problem.RequestInvalid {
			t.Errorf("%+v: %v", i, err)
		}
	}
	if a.calls() != 0 {
		t.Errorf("the agent was asked: %+v", a.intents)
	}
}

func TestTheAgentsProblemComesBackWithItsReferenceAndFact(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	sent := problem.With(problem.KeyringLocked, "It was locked a minute ago.", errors.New("cause for the log"))
	a.doError = sent
	serve(t, s, a)
	err := connect(t, l).Do(t.Context(), Intent{Name: SignIn})
	var got *problem.Problem
	if !errors.As(err, &got) || got.Code != sent.Code || got.Reference != sent.Reference || got.Error() != sent.Error() {
		t.Errorf("got %v", err)
	}
}

func TestAnUnexpectedErrorOfTheAgentTellsTheClientNothingOfItsCause(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	a.doError = errors.New("canary-cause")
	serve(t, s, a)
	err := connect(t, l).Do(t.Context(), Intent{Name: Quit})
	if problem.CodeOf(err) != problem.Internal || strings.Contains(err.Error(), "canary") || strings.Contains(problem.Of(err).LogValue().String(), "canary") {
		t.Errorf("got %v", err)
	}
}

func TestAHandlersOwnRefusalIsReportedByCodeAndReference(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	c := connect(t, l)
	p := problem.New(problem.LinkInvalid, nil)
	if err := c.Refused(t.Context(), p.Code, p.Reference); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][2]string{{"no_such_code", p.Reference}, {string(p.Code), "short"}, {string(p.Code), testLink[:8]}, {"", ""}} {
		if err := c.Refused(t.Context(), problem.Code(bad[0]), bad[1]); problem.CodeOf(err) != problem.RequestInvalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if len(a.refusals) != 1 || a.refusals[0] != string(p.Code)+" "+p.Reference {
		t.Errorf("the agent got %v", a.refusals)
	}
}

func TestSnapshotAndPolicyAreShown(t *testing.T) {
	l, s := listen(t)
	serve(t, s, newAgent())
	c := connect(t, l)
	snapshot, err := c.Snapshot(t.Context())
	if err != nil || snapshot.Revision != 7 || snapshot.Version != "1.2.3" {
		t.Errorf("got %+v, %v", snapshot, err)
	}
	policy, err := c.Policy(t.Context())
	if err != nil || string(policy) != `{"keys":[]}` {
		t.Errorf("got %s, %v", policy, err)
	}
}

func TestAWatchShowsEveryChangeUntilItsContextEnds(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan uint64)
	done := make(chan error, 1)
	go func() {
		done <- connect(t, l).Watch(ctx, func(v view.Snapshot) error { seen <- v.Revision; return nil })
	}()
	for n := uint64(1); n <= 5; n++ {
		a.updates <- view.Snapshot{Revision: n}
		if got := <-seen; got != n {
			t.Errorf("got %d, want %d", got, n)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Watch: %v", err)
	}
	<-(<-a.watching).Done()
}

func TestASlowWatcherSkipsToTheNewestAndNeverHoldsTheAgentUp(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	serve(t, s, a)
	const last = 5000
	// Each snapshot fills a socket's buffer soon, so that lines pile up unread.
	filler := strings.Repeat("x", 8<<10)
	reading := make(chan struct{})
	var got []uint64
	done := make(chan error, 1)
	enough := errors.New("enough")
	go func() {
		done <- connect(t, l).Watch(t.Context(), func(v view.Snapshot) error {
			<-reading
			got = append(got, v.Revision)
			if v.Revision == last {
				return enough
			}
			return nil
		})
	}()
	for n := uint64(1); n <= last; n++ {
		a.updates <- view.Snapshot{Revision: n, OrganizationName: filler} // would block for ever if the reader could hold it up
	}
	close(reading)
	if err := <-done; !errors.Is(err, enough) {
		t.Fatalf("Watch: %v", err)
	}
	if len(got) >= last {
		t.Errorf("nothing was skipped: %d lines", len(got))
	}
	for n := 1; n < len(got); n++ {
		if got[n] <= got[n-1] {
			t.Fatalf("%d came after %d", got[n], got[n-1])
		}
	}
}

func TestAWatchEndsWithAProblemWhenTheAgentEnds(t *testing.T) {
	l, s := listen(t)
	a := newAgent()
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context(), a) }()
	done := make(chan error, 1)
	go func() {
		done <- connect(t, l).Watch(t.Context(), func(view.Snapshot) error { return nil })
	}()
	<-a.watching
	s.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := <-done; problem.CodeOf(err) != problem.AgentUnreachable {
		t.Errorf("Watch: %v", err)
	}
	if _, err := Dial(t.Context(), l); !errors.Is(err, ErrNoAgent) {
		t.Errorf("Dial after the end: %v", err)
	}
}

func TestARunningRequestIsAnsweredWhileTheServerEnds(t *testing.T) {
	l, s := listen(t)
	a := &slowAgent{agent: newAgent(), asked: make(chan struct{}), answer: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, a) }()
	done := make(chan error, 1)
	go func() { done <- connect(t, l).Do(t.Context(), Intent{Name: Quit}) }()
	<-a.asked
	cancel()
	close(a.answer)
	if err := <-done; err != nil {
		t.Errorf("the quit was answered with %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

type slowAgent struct {
	*agent
	asked, answer chan struct{}
}

func (a *slowAgent) Do(context.Context, Intent) error {
	close(a.asked)
	<-a.answer
	return nil
}

func TestAnAgentThatTakesAWhileIsNotTakenForGone(t *testing.T) {
	l, s := listen(t)
	s.readLimit = 20 * time.Millisecond
	gone := make(chan bool, 1)
	serve(t, s, &patientAgent{agent: newAgent(), gone: gone})
	if err := connect(t, l).Do(t.Context(), Intent{Name: SignOut}); err != nil {
		t.Error(err)
	}
	if <-gone {
		t.Error("the request's read limit ended the agent's work")
	}
}

// patientAgent works for five read limits, or until its context ends.
type patientAgent struct {
	*agent
	gone chan bool
}

func (a *patientAgent) Do(ctx context.Context, _ Intent) error {
	select {
	case <-ctx.Done():
		a.gone <- true
	case <-time.After(100 * time.Millisecond):
		a.gone <- false
	}
	return nil
}

func TestExactlyOneOfManyBecomesTheAgent(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	const many = 16
	results := make(chan error, many)
	servers := make(chan *Server, many)
	start := make(chan struct{})
	for range many {
		go func() {
			<-start
			s, err := Listen(l)
			if err == nil {
				servers <- s
			}
			results <- err
		}()
	}
	close(start)
	owned := 0
	for range many {
		switch err := <-results; {
		case err == nil:
		case errors.Is(err, ErrOwned):
			owned++
		default:
			t.Error(err)
		}
	}
	if len(servers) != 1 || owned != many-1 {
		t.Fatalf("%d agents, %d told that there is one", len(servers), owned)
	}
	s := <-servers
	serve(t, s, newAgent())
	if _, err := connect(t, l).Snapshot(t.Context()); err != nil {
		t.Errorf("the losers took the winner's name away: %v", err)
	}
}

func TestTheRoleCanBeTakenAgainAfterItWasGivenUp(t *testing.T) {
	l, s := listen(t)
	s.Close()
	s.Close()
	again, err := Listen(l)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestServeMayBeCalledOnce(t *testing.T) {
	_, s := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx, newAgent()); err != nil {
		t.Error(err)
	}
	if err := s.Serve(t.Context(), newAgent()); err == nil {
		t.Error("a server that gave its role up served again")
	}
}

func TestAClientThatWaitedBeforeAskingIsAnsweredAllTheSame(t *testing.T) {
	l, s := listen(t)
	serve(t, s, newAgent())
	c := connect(t, l)
	c.dialed = c.dialed.Add(-2 * firstConnLimit)
	if _, err := c.Snapshot(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNoErrorOfTheChannelNamesALinkOrAPath(t *testing.T) {
	root := t.TempDir()
	l := paths.Under(root, "")
	_, err := Dial(t.Context(), l)
	if err == nil || strings.Contains(err.Error(), root) || strings.Contains(problem.Of(err).LogValue().String(), root) {
		t.Errorf("got %v", problem.Of(err).LogValue())
	}
	_, s := listen(t)
	s.Close()
	var reason *problem.Problem
	if _, err := Listen(paths.Under("/proc/self/status", "")); !errors.As(err, &reason) || strings.Contains(reason.LogValue().String(), "/proc") {
		t.Errorf("got %v", err)
	}
}

func TestTheSystemsAccountMayAskToQuitAndNothingElse(t *testing.T) {
	l, s := listen(t)
	s.clientOf = func(net.Conn) (peer, error) { return peer{pid: 4}, nil } // the list let it in, and it is not this user
	a := newAgent()
	serve(t, s, a)
	c := connect(t, l)
	refused := map[string]error{}
	ack, err := c.Link(t.Context(), candidate(t, testLink), Activation{})
	if err != nil || ack.Accepted || ack.Code != problem.RequestInvalid {
		t.Errorf("a link: %+v, %v", ack, err)
	}
	refused["a refusal"] = c.Refused(t.Context(), problem.LinkInvalid, problem.New(problem.LinkInvalid, nil).Reference)
	_, refused["the snapshot"] = c.Snapshot(t.Context())
	_, refused["the policy"] = c.Policy(t.Context())
	refused["the watch"] = c.Watch(t.Context(), func(view.Snapshot) error { return errors.New("it is shown") })
	for _, i := range []Intent{
		{Name: SignIn}, {Name: SignOut, All: true}, {Name: OpenRecent, Last: true}, {Name: Cancel}, {Name: Retry}, {Name: OpenWindow}, {Name: ShowSignIn},
		{Name: FreshLink}, {Name: RemoveRecent, ID: "r"}, {Name: ClearRecents}, {Name: UndoRemove}, {Name: Check}, {Name: OpenHelpDesk}, {Name: Choose, Key: "Language"},
	} {
		refused[i.Name] = c.Do(t.Context(), i)
	}
	for what, err := range refused {
		if problem.CodeOf(err) != problem.RequestInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	if a.calls() != 0 {
		t.Fatalf("the agent was asked: %v %v %v", a.links, a.intents, a.refusals)
	}
	if err := c.Do(t.Context(), Intent{Name: Quit}); err != nil {
		t.Fatalf("quit: %v", err)
	}
	if len(a.intents) != 1 || a.intents[0] != (Intent{Name: Quit}) {
		t.Errorf("the agent got %v", a.intents)
	}
}

func TestWhoIsNobodyIsNotRead(t *testing.T) {
	l, s := listen(t)
	s.clientOf = func(net.Conn) (peer, error) { return peer{}, errors.New("no answer") }
	a := newAgent()
	serve(t, s, a)
	if err := connect(t, l).Do(t.Context(), Intent{Name: Quit}); problem.CodeOf(err) != problem.AgentUnreachable {
		t.Errorf("got %v", err)
	}
	if a.calls() != 0 {
		t.Error("the agent was asked")
	}
}

func FuzzTheRequestDecoder(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `{"id":"r1"}`, `{"last":true}`, `{"all":true}`, `{"link":"x","activation_token":"t","startup_id":"s","new":[1]}`,
		`{"code":"link_invalid","reference":"ABCDEFGH"}`, `{"id":"a","id":"b"}`, `{"ID":"a"}`, `{"id":null}`, `[]`, `{"id":"a"} {}`, "{\"id\":\"\xff\"}",
	} {
		for _, route := range []string{"link", "refusal", OpenRecent, SignOut, Retry, "nonsense"} {
			f.Add(route, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, route string, body []byte) {
		if link, a, err := decodeLink(body); err == nil {
			if usable(a.Token) != a.Token || usable(a.StartupID) != a.StartupID {
				t.Fatalf("an activation passed: %q", a)
			}
			again, err := encode(linkBody{Link: link, ActivationToken: a.Token, StartupID: a.StartupID})
			if err != nil {
				t.Fatal(err)
			}
			link2, a2, err := decodeLink(again)
			if err != nil || link2 != link || a2 != a {
				t.Fatalf("%q became %q, %v", link, link2, err)
			}
		}
		if code, reference, err := decodeRefusal(body); err == nil {
			if !problem.Known(string(code)) || !printable(reference, 8) {
				t.Fatalf("a refusal passed: %q %q", code, reference)
			}
		}
		i, err := decodeIntent(route, body)
		if err != nil {
			return
		}
		if _, ok := allowed(route); !ok || i.Name != route || !printable(i.ID, maxID) {
			t.Fatalf("an intent passed: %+v", i)
		}
		again, err := encodeIntent(i)
		if err != nil {
			t.Fatal(err)
		}
		if i2, err := decodeIntent(route, again); err != nil || i2 != i {
			t.Fatalf("%+v became %+v, %v", i, i2, err)
		}
	})
}

func TestASnapshotSurvivesTheChannelUnchanged(t *testing.T) {
	text, err := encode(view.Snapshot{OrganizationName: "<Spital & Söhne>"})
	if err != nil {
		t.Fatal(err)
	}
	var back view.Snapshot
	if err := json.Unmarshal(text, &back); err != nil || back.OrganizationName != "<Spital & Söhne>" {
		t.Errorf("got %+v, %v", back, err)
	}
}
