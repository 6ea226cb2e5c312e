package orgserver

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

// fewCalls are 12 a minute, three of them at once, for a person, and half as many
// again for an EHR.
func fewCalls(c *orgconfig.Config) {
	c.Limits = orgconfig.Limits{PersonPerMinute: 12, EHRPerMinute: 18}
}

func (w *world) overLimit(t *testing.T, q request, wait int) {
	t.Helper()
	got := w.do(t, q)
	if p := got.problem(t); got.status != http.StatusTooManyRequests || p.Code != problem.OrgBusy || got.header.Get("Retry-After") != strconv.Itoa(wait) {
		t.Fatalf("%d %s, Retry-After %q, want %d", got.status, p.Code, got.header.Get("Retry-After"), wait)
	}
}

func TestAPersonWhoCallsTooOftenIsToldWhenToComeBack(t *testing.T) {
	w := newWorld(t, fewCalls)
	handle := w.mint(t)
	me := request{method: http.MethodGet, path: orgapi.PathMe, bearer: w.token(t, nil)}
	for range 3 {
		if got := w.do(t, me); got.status != http.StatusOK {
			t.Fatal(got.status)
		}
	}
	// Every call of the person counts, and a refused one spends nothing.
	reopen := request{path: orgapi.PathEncounterURL, bearer: me.bearer, key: "key-2", body: orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: "E-1"}}
	for _, q := range []request{me, w.byHandle(t, handle, "key-1"), reopen, {method: http.MethodGet, path: orgapi.PathEvents, bearer: me.bearer}} {
		w.overLimit(t, q, 5)
	}
	// Another token of the same person is the same person; another is another.
	again := me
	again.bearer = w.token(t, map[string]any{"jti": "another", "email": "other@hospital.example"})
	w.overLimit(t, again, 5)
	other := me
	other.bearer = w.token(t, map[string]any{"sub": "subject-2"})
	if got := w.do(t, other); got.status != http.StatusOK {
		t.Errorf("another person: %d", got.status)
	}
	w.clock.advance(4 * time.Second)
	w.overLimit(t, me, 1)
	w.clock.advance(time.Second)
	w.opened(t, w.byHandle(t, handle, "key-1"))
	w.overLimit(t, me, 5)
	// A quarter of a minute later all are there again, and no more.
	w.clock.advance(time.Minute)
	for range 3 {
		if got := w.do(t, me); got.status != http.StatusOK {
			t.Fatal(got.status)
		}
	}
	w.overLimit(t, me, 5)
}

func TestAnEHRThatRegistersTooOftenIsToldWhenToComeBack(t *testing.T) {
	w := newWorld(t, fewCalls, func(c *orgconfig.Config) {
		c.EHRs = append(c.EHRs, orgconfig.EHR{Name: "ehr-2", SecretFile: c.EHRs[0].SecretFile + ".2"})
		writeAt(t, c.EHRs[1].SecretFile, southSecret+"\n")
	})
	for range 4 {
		w.mint(t)
	}
	w.overLimit(t, launchBy(ehrSecret), 4)
	w.taken(t, launchBy(southSecret))
	w.clock.advance(4 * time.Second)
	w.mint(t)
}

func TestAStrangerUsesUpNobodysShare(t *testing.T) {
	w := newWorld(t, fewCalls)
	forged := sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: newKey(t)}, "issuer-1", "at+jwt", w.claims(nil))
	for range 10 {
		w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: forged}, http.StatusUnauthorized, problem.Unauthorized)
		w.refused(t, launchBy(ehrSecret+"x"), http.StatusUnauthorized, problem.Unauthorized)
	}
	w.opened(t, w.byHandle(t, w.mint(t), "key-1"))
	if n := len(w.server.persons.buckets); n != 1 {
		t.Errorf("%d callers are remembered", n)
	}
}

func TestCallersWhoWentAreForgotten(t *testing.T) {
	c := &clock{t: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)}
	l, _ := newLimits(orgconfig.Limits{}, c.now)
	if l.burst != 30 || l.full != 15*time.Second {
		t.Errorf("by default %d at once, full after %v", l.burst, l.full)
	}
	for i := range 10_000 {
		if err := l.take("issuer", fmt.Sprint("subject-", i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 29 {
		if err := l.take("issuer", "subject-1"); err != nil {
			t.Fatal(err)
		}
	}
	c.advance(l.full - time.Nanosecond)
	_ = l.take("issuer", "subject-2")
	if len(l.buckets) != 10_000 {
		t.Errorf("%d left too early", 10_000-len(l.buckets))
	}
	c.advance(l.full)
	_ = l.take("issuer", "subject-3")
	if len(l.buckets) != 1 {
		t.Errorf("%d are still known", len(l.buckets))
	}
	// Time that goes backwards neither locks anybody out nor lets anybody in for ever.
	c.advance(-time.Hour)
	n := 0
	for l.take("issuer", "subject-4") == nil && n < 100 {
		n++
	}
	if n != 30 {
		t.Errorf("%d calls at once after the clock was set back", n)
	}
	if err := l.take("issuer", "subject-3"); err != nil {
		t.Errorf("after the clock was set back: %v", err)
	}
}

// The two words of a caller cannot run into each other.
func TestTwoCallersAreNeverOne(t *testing.T) {
	c := &clock{t: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)}
	l, _ := newLimits(orgconfig.Limits{PersonPerMinute: 1}, c.now)
	for _, who := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"", "abc"}, {"abc", ""}} {
		if err := l.take(who[0], who[1]); err != nil {
			t.Errorf("%v: %v", who, err)
		}
	}
}

func BenchmarkALimitedCall(b *testing.B) {
	l, _ := newLimits(orgconfig.Limits{PersonPerMinute: 1_000_000}, time.Now)
	for i := range 10_000 {
		_ = l.take("https://idp.hospital.example/realms/hospital", fmt.Sprint("subject-", i))
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			_ = l.take("https://idp.hospital.example/realms/hospital", "subject-17")
		}
	})
}
