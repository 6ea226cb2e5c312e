package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// agentScript answers as an agent would: each call of Watch publishes the next
// run of snapshots and then goes away.
type agentScript struct {
	mu      sync.Mutex
	runs    [][]view.Snapshot
	watched int
	did     []string
	doErr   error
	snap    view.Snapshot
	snapErr error
}

func (a *agentScript) Snapshot(context.Context) (view.Snapshot, error) { return a.snap, a.snapErr }

func (a *agentScript) Watch(_ context.Context, f func(view.Snapshot) error) error {
	a.mu.Lock()
	i := a.watched
	a.watched++
	a.mu.Unlock()
	if i < len(a.runs) {
		for _, s := range a.runs[i] {
			if err := f(s); err != nil {
				return err
			}
		}
	}
	return errors.New("the agent went away")
}

func (a *agentScript) Do(_ context.Context, i control.Intent) error {
	a.did = append(a.did, strings.Join(strings.Fields(strings.Join([]string{i.Name, i.ID, i.Key, i.Value}, " ")), " "))
	return a.doErr
}

// followed runs follow until it has paused so many times, and returns what the
// page was told, how often the window was raised, and the pauses.
func followed(t *testing.T, agent *agentScript, pauses int) (told []string, raised int, waits []time.Duration) {
	t.Helper()
	app := newApp(windowDeps{Agent: agent}, func(event string, data any) {
		switch d := data.(type) {
		case string:
			told = append(told, event+" "+d)
		case view.Snapshot:
			told = append(told, event+" "+d.Version)
		}
	}, func() { raised++ })
	app.pause = func(_ context.Context, d time.Duration) error {
		waits = append(waits, d)
		if len(waits) == pauses {
			return context.Canceled
		}
		return nil
	}
	app.follow(t.Context())
	return told, raised, waits
}

func TestThePageIsToldEverySnapshotInOrder(t *testing.T) {
	told, _, _ := followed(t, &agentScript{runs: [][]view.Snapshot{{{Version: "1"}, {Version: "2"}}, {{Version: "3"}}}}, 2)
	want := "agent reachable,snapshot 1,agent reachable,snapshot 2,agent reachable,snapshot 3"
	if got := strings.Join(told, ","); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestAnAgentThatReplacesItselfIsNotCalledGone(t *testing.T) {
	told, _, _ := followed(t, &agentScript{runs: [][]view.Snapshot{{{Version: "1"}}, nil, nil, {{Version: "2"}}}}, 4)
	for _, s := range told {
		if s == "agent agent_unreachable" {
			t.Fatalf("told that the agent is gone: %q", told)
		}
	}
}

func TestAnAgentThatStaysAwayIsCalledGoneOnceAndFoundAgain(t *testing.T) {
	runs := make([][]view.Snapshot, 12)
	runs[11] = []view.Snapshot{{Version: "back"}}
	told, _, waits := followed(t, &agentScript{runs: runs}, 12)
	want := "agent agent_unreachable,agent reachable,snapshot back"
	if got := strings.Join(told, ","); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	for i, d := range waits {
		if d < firstPause || d > longestPause {
			t.Errorf("pause %d took %v", i, d)
		}
	}
}

func TestTheWindowComesToTheFrontOnlyWhenAskedAnew(t *testing.T) {
	_, raised, _ := followed(t, &agentScript{runs: [][]view.Snapshot{
		{{RaiseWindow: 7}, {RaiseWindow: 7}, {RaiseWindow: 8}},
		{{RaiseWindow: 1}, {RaiseWindow: 2}},
	}}, 2)
	if raised != 2 {
		t.Errorf("raised %d times, want 2: once for 8, once for 2 of the next agent", raised)
	}
}

func TestEveryIntentReachesTheAgentUnderItsName(t *testing.T) {
	agent := &agentScript{}
	app := newApp(windowDeps{Agent: agent}, nil, nil)
	with := func(f func(string) error, id string) func() error { return func() error { return f(id) } }
	for _, f := range []func() error{
		app.SignIn, app.ShowSignIn, app.SignOut, with(app.Cancel, ""), with(app.Cancel, "l1"), with(app.Retry, "l1"), with(app.FreshLink, "l1"),
		with(app.OpenRecent, "r1"), with(app.RemoveRecent, "r1"), app.ClearRecents, app.UndoRemove,
		func() error { return app.Choose("Language", "fr") }, app.Check, app.OpenHelpDesk, app.Quit,
	} {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	want := "sign-in,show-sign-in,sign-out,cancel,cancel l1,retry l1,fresh-link l1,open-recent r1,remove-recent r1,clear-recents,undo-remove," +
		"choose Language fr,check,open-help-desk,quit"
	if got := strings.Join(agent.did, ","); got != want {
		t.Errorf("asked for %q, want %q", got, want)
	}
}

func TestAnIDThatCannotBeOneNeverReachesTheAgent(t *testing.T) {
	for _, id := range []string{"", " ", "a b", "a\nb", "a\x00", "é", "\u202e", strings.Repeat("a", maxID+1)} {
		agent := &agentScript{}
		app := newApp(windowDeps{Agent: agent}, nil, nil)
		calls := []func(string) error{app.OpenRecent, app.RemoveRecent}
		if id != "" { // no id names whatever runs, or is the last
			calls = append(calls, app.Cancel, app.Retry, app.FreshLink)
		}
		for _, call := range calls {
			if err := call(id); !problem.IsCode(err, problem.RequestInvalid) {
				t.Errorf("%q: %v", id, err)
			}
		}
		if len(agent.did) != 0 {
			t.Errorf("%q reached the agent", id)
		}
	}
}

func TestARefusalReachesThePageWithItsReferenceAndWithoutItsCause(t *testing.T) {
	cause := problem.New(problem.KeyringLocked, errors.New("secret cause"))
	err := newApp(windowDeps{Agent: &agentScript{doErr: cause}}, nil, nil).SignIn()
	text, _ := json.Marshal(forPage(err))
	if !strings.Contains(string(text), cause.Reference) || !strings.Contains(string(text), `"keyring_locked"`) {
		t.Errorf("the page is told %s", text)
	}
	if strings.Contains(string(text), "secret cause") {
		t.Errorf("the page is told the cause: %s", text)
	}
}

func TestAnyOtherFailureMeansThatTheAgentDoesNotAnswer(t *testing.T) {
	app := newApp(windowDeps{Agent: &agentScript{doErr: errors.New("dial"), snapErr: errors.New("dial")}}, nil, nil)
	if err := app.Retry(""); !problem.IsCode(err, problem.AgentUnreachable) {
		t.Errorf("retry: %v", err)
	}
	if _, err := app.Snapshot(); !problem.IsCode(err, problem.AgentUnreachable) {
		t.Errorf("snapshot: %v", err)
	}
}

func TestTheFirstAnswerIsTheNewestSnapshotSeen(t *testing.T) {
	agent := &agentScript{snap: view.Snapshot{Version: "asked"}}
	app := newApp(windowDeps{Agent: agent}, func(string, any) {}, nil)
	if s, err := app.Snapshot(); err != nil || s.Version != "asked" {
		t.Errorf("before any: %q, %v", s.Version, err)
	}
	app.saw(view.Snapshot{Version: "seen"})
	if s, err := app.Snapshot(); err != nil || s.Version != "seen" {
		t.Errorf("after one: %q, %v", s.Version, err)
	}
}
