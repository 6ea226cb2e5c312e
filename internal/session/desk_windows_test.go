package session

import (
	"slices"
	"testing"
)

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
