package orgserver

import (
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"encounterlauncher/internal/endurance/steady"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

// What make proof asks for: the readings of the day, in a file, and a whole day.
var (
	dayLog   = flag.String("daylog", "", "a folder for what the day reads")
	dayHours = flag.Int("dayhours", 8, "how many hours the day has")
)

// quiet waits until the process has as many goroutines as a moment before, several
// times over: what ends with a call has ended.
func quiet(t *testing.T) {
	t.Helper()
	same, before := 0, 0
	for late := time.Now().Add(20 * time.Second); same < 10; time.Sleep(2 * time.Millisecond) {
		now := runtime.NumGoroutine()
		if now != before {
			same = 0
		}
		same, before = same+1, now
		if time.Now().After(late) {
			t.Fatal("the backend does not come to rest")
		}
	}
}

func TestADayOfTheBackendLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	l := steady.NewLog("the backend", "hours")
	begun := w.clock.now()
	const clinicians = 40
	token := func(n int) string {
		return w.token(t, map[string]any{
			"sub": fmt.Sprint("subject-", n), "email": fmt.Sprintf("clinician-%d@hospital.example", n), "external_provider_id": fmt.Sprint("D-", n),
		})
	}
	for n := range clinicians { // whom Nabla is to know
		launch := goodLaunch()
		launch.ProviderEmail, launch.ExternalProviderID, launch.ExternalEncounterID = fmt.Sprintf("clinician-%d@hospital.example", n), fmt.Sprint("D-", n), fmt.Sprint("E-", n)
		w.open(t, launch, token(n), fmt.Sprint("first-", n))
	}
	for round := range 12 * *dayHours { // of five minutes
		for n := round % 4; n < clinicians; n += 4 {
			bearer := token(n)
			w.opened(t, request{
				path: orgapi.PathEncounterURL, bearer: bearer, key: fmt.Sprintf("again-%d-%d", round, n),
				body: orgapi.ReopenRequest{ExternalProviderID: fmt.Sprint("D-", n), ExternalEncounterID: fmt.Sprint("E-", n)},
			})
			l.Done["launches"]++
		}
		n := round % clinicians
		stream := w.listen(t, w.url, token(n), "")
		w.exported(t, fmt.Sprint("D-", n), fmt.Sprint("E-", n))
		stream.tells(fmt.Sprint("E-", n))
		stream.cancel()
		for range stream.lines { // what else it had to tell
		}
		l.Done["streams of events"]++
		w.refused(t, request{path: orgapi.PathEncounterURL, bearer: "no token", key: "k", body: orgapi.ReopenRequest{ExternalProviderID: "D-1", ExternalEncounterID: "E-1"}}, http.StatusUnauthorized, problem.Unauthorized)
		w.refused(t, w.byHandle(t, fmt.Sprintf("%030d", round), fmt.Sprint("none-", round)), http.StatusGone, problem.HandleExpired)
		l.Done["refused"] += 2
		if round%6 == 0 {
			launch := goodLaunch()
			launch.ProviderEmail, launch.ExternalProviderID, launch.ExternalEncounterID = fmt.Sprintf("clinician-%d@hospital.example", n), fmt.Sprint("D-", n), fmt.Sprint("E-", n)
			w.open(t, launch, token(n), fmt.Sprint("key-", round))
			l.Done["launches"]++
		}
		w.clock.advance(5 * time.Minute)
		if round%3 == 2 {
			http.DefaultClient.CloseIdleConnections()
			quiet(t)
			w.log.mu.Lock()
			w.log.b.Reset()
			w.log.mu.Unlock()
			if err := l.Inside(w.clock.now().Sub(begun).Hours()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		quantity, unit string
		allowed        float64
	}{
		{steady.Goroutines, "", 4},
		{steady.Descriptors, "", 4},
		// Of each launch two things stay for longer than this test lasts: the token that was
		// verified, which goes when thousands have come after it, and the key, which goes by
		// the machine's clock. Together they take less than 2 kB; goroutines and
		// descriptors are what a day shows, the memory is shown by 100,000 launches.
		{steady.Heap, "MB", 2e-3 * float64(l.Done["launches"])},
	} {
		if row := steady.Flat(c.quantity, c.unit, l.Read[c.quantity], c.allowed, l.Done["launches"]); !l.Judge(row) {
			t.Errorf("%+v of %+v", row, l.Read[c.quantity])
		}
	}
	t.Logf("%+v, %v", l.Judged, l.Done)
	if *dayLog != "" {
		if err := l.Write(filepath.Join(*dayLog, "the-backend.json")); err != nil {
			t.Fatal(err)
		}
	}
}

// open registers a launch and opens it.
func (w *world) open(t *testing.T, launch orgapi.LaunchRequest, bearer, key string) {
	t.Helper()
	handle := w.mintOf(t, launch)
	w.opened(t, request{path: orgapi.PathEncounters, bearer: bearer, key: key, body: orgapi.CreateRequest{Handle: handle}})
}
