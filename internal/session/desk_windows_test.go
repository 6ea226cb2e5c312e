package session

import (
	"context"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
)

// run runs a Watcher until the test, or the function that it returns, ends it.
func run(t *testing.T) (events <-chan Event, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reported, ended := make(chan Event, 16), make(chan struct{})
	go func() {
		defer close(ended)
		New(nil).Run(ctx, func(e Event) { reported <- e })
	}()
	end = func() { cancel(); <-ended }
	t.Cleanup(end)
	return reported, end
}

// send posts a message to the hidden window, as Windows does.
func send(t *testing.T, message uint32, word uintptr) {
	t.Helper()
	user := windows.NewLazySystemDLL("user32.dll")
	name, err := windows.UTF16PtrFromString(windowClass)
	if err != nil {
		t.Fatal(err)
	}
	window, _, err := user.NewProc("FindWindowW").Call(uintptr(unsafe.Pointer(name)), 0)
	if window == 0 {
		t.Fatalf("there is no hidden window: %v", err)
	}
	if ok, _, err := user.NewProc("PostMessageW").Call(window, uintptr(message), word, 0); ok == 0 {
		t.Fatal(err)
	}
}

func TestWhatWindowsTellsTheHiddenWindowIsReported(t *testing.T) {
	for range 2 { // the second Watcher finds nothing left of the first
		events, end := run(t)
		if e := <-events; e != (Event{Kind: Watched, Watched: Sources{Lock: true, Idle: true}}) {
			t.Fatalf("first %+v", e)
		}
		for _, step := range []struct {
			message uint32
			word    uintptr
			want    Kind
		}{
			{wmSessionChange, sessionLock, Locked}, {wmSessionChange, sessionUnlock, Unlocked},
			{wmSessionChange, consoleDisconnect, SwitchedAway}, {wmSessionChange, consoleConnect, SwitchedBack},
			{wmPowerBroadcast, powerSuspend, Locked}, {wmPowerBroadcast, powerResumeSuspend, Unlocked},
			{wmSessionChange, remoteDisconnect, Disconnected}, {wmSessionChange, remoteConnect, SwitchedBack},
		} {
			send(t, step.message, step.word)
			if e := <-events; e.Kind != step.want {
				t.Errorf("%d is reported as %q, want %q", step.word, e.Kind, step.want)
			}
		}
		end()
	}
}

func TestASessionThatCannotBeWatchedIsToldAndTriedAgain(t *testing.T) {
	first, end := run(t)
	if e := <-first; !e.Watched.Lock {
		t.Fatalf("first %+v", e)
	}
	second, _ := run(t) // a process has one class of a name
	if e := <-second; e != (Event{Kind: Watched, Watched: Sources{Idle: true}}) {
		t.Errorf("in vain: %+v", e)
	}
	end()
	if e := <-second; e != (Event{Kind: Watched, Watched: Sources{Lock: true, Idle: true}}) {
		t.Errorf("again: %+v", e)
	}
}

func TestASessionThatIsLockedOrLeftAtTheStartIsToldAsSuch(t *testing.T) {
	const active, disconnected, isLocked, isOpen, unknown = 0, 4, 0, 1, -1
	locked, left := change{what: lock, source: "session", on: true}, change{what: away, on: true}
	for said, want := range map[[2]int32][]change{
		{active, isOpen}: nil, {active, unknown}: nil, {active, isLocked}: {locked},
		{disconnected, isLocked}: {locked, left}, {disconnected, isOpen}: {left},
	} {
		if got := standing(said[0], said[1]); !slices.Equal(got, want) {
			t.Errorf("%v means %+v, want %+v", said, got, want)
		}
	}
}

func TestMessagesOfASessionMeanWhatWindowsSays(t *testing.T) {
	for word, want := range map[uintptr]change{
		sessionLock: {what: lock, source: "session", on: true}, sessionUnlock: {what: lock, source: "session"},
		consoleDisconnect: {what: away, on: true}, consoleConnect: {what: away}, remoteConnect: {what: away},
		remoteDisconnect: {what: gone}, sessionLogoff: {what: gone},
	} {
		if got := meaning(wmSessionChange, word); !slices.Equal(got, []change{want}) {
			t.Errorf("%d means %+v, want %+v", word, got, want)
		}
	}
	if got := meaning(wmPowerBroadcast, powerSuspend); !slices.Equal(got, []change{{what: lock, source: "sleep", on: true}}) {
		t.Errorf("going to sleep means %+v", got)
	}
	if got := meaning(wmSessionChange, 99); got != nil {
		t.Errorf("an unknown word means %+v", got)
	}
}
