//go:build unix

package agent

import (
	"context"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/view"
)

func TestAClickOpensTheEncounterAndShowsItsStages(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	l := w.opens(h.mint("ada", 1))
	w.counts(1, 1)
	last := int64(0)
	for _, stage := range []view.Stage{view.Received, view.SigningIn, view.Creating, view.Opening, view.Opened} {
		at, ok := l.MS[stage]
		if !ok || at < last {
			t.Errorf("stage %s at %d ms (reached: %v)", stage, at, ok)
		}
		last = at
	}
	if l.Label != "G. K." || l.Problem != nil || l.RecentID == "" {
		t.Errorf("got %+v", l)
	}
	if opened := h.sim.Opened(); len(opened) != 1 || opened[0].ExternalEncounterID != encounterID(1) || opened[0].ProviderEmail != "ada@hospital.example" {
		t.Errorf("the page says %+v", opened)
	}
	s := w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
	if s.Recents[0].Label != "G. K." || s.Recents[0].ID != l.RecentID {
		t.Errorf("recents %+v", s.Recents)
	}
	if line := h.auditOfLaunch(l.ID); line.Outcome != "opened" || line.Person != "ada@hospital.example" {
		t.Errorf("audit %+v", line)
	}
	if calls := h.asked(orgapi.PathEncounters); len(calls) != 1 || calls[0].id != l.ID {
		t.Errorf("the backend was asked %+v", calls)
	}
}

func TestADoublePressWithTwoHandlesOpensOneTab(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	first, second := w.accepted(h.mint("ada", 1)), w.accepted(h.mint("ada", 1))
	if first == second {
		t.Fatal("two links are two launches")
	}
	w.stage(second, view.Opened)
	w.counts(1, 1)
	if a, b := h.auditOfLaunch(first), h.auditOfLaunch(second); a.Outcome != "opened" || b.Outcome != "dropped" {
		t.Errorf("audit %+v, %+v", a, b)
	}
	// Three seconds later a third press is a new wish.
	w.clock.turn(flow.OneTab)
	w.opens(h.mint("ada", 1))
	w.counts(1, 2)
}

func TestTheSameLinkIsJoinedAndLaterReopensThroughAFreshAddress(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.browser.hold(true)
	w := h.logOn()
	link := h.mint("ada", 1)
	id := w.accepted(link)
	for range 10 {
		if again := w.accepted(link); again != id {
			t.Fatal("a repeat became a launch")
		}
	}
	w.stage(id, view.SigningIn)
	h.until("the page", func() bool { pages, _ := h.browser.seen(); return pages == 1 })
	h.browser.answer()
	w.stage(id, view.Opened)
	if w.accepted(link) != id {
		t.Error("a click within three seconds became a launch")
	}
	w.counts(1, 1)
	w.clock.turn(flow.OneTab)
	l := w.opens(link)
	if l.ID == id || !l.Reopen {
		t.Errorf("got %+v", l)
	}
	w.counts(1, 2)
	if calls := h.asked(orgapi.PathEncounterURL); len(calls) != 1 {
		t.Errorf("/encounters/url was asked %d times", len(calls))
	}
}

func TestALinkHasOneIdempotencyKeyThroughRetryFurtherClickAndCrash(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	h.inPlaceOfBackend(refuseWith(problem.ContextUnavailable))
	link := h.mint("ada", 1)
	first := w.fails(link, problem.ContextUnavailable).Launch.ID
	w.do(control.Intent{Name: control.Retry, ID: first})
	second := w.launchAfter(first, view.Failed)
	third := w.fails(link, problem.ContextUnavailable).Launch
	h.inPlaceOfBackend(nil)
	w.do(control.Intent{Name: control.Retry, ID: third.ID})
	w.launchAfter(third.ID, view.Opened)
	w.logOff() // the agent is gone, and with it all that it remembered

	w = h.logOn()
	other := h.mint("ada", 2)
	w.opens(link) // the handle is redeemed again, under the same key, for a new URL
	w.opens(other)
	w.counts(1, 3)
	keys := map[string]int{}
	ids := map[string]bool{}
	for _, c := range h.asked(orgapi.PathEncounters) {
		keys[c.key]++
		ids[c.id] = true
	}
	if len(keys) != 2 || ids[""] || !ids[first] || !ids[second.ID] || !ids[third.ID] {
		t.Errorf("keys %v, ids %v", keys, ids)
	}
	urls := h.browser.opened()
	if urls[0] == urls[1] {
		t.Error("a one-time URL was opened again")
	}
}

func TestTheSixthDistinctLinkInTenSecondsIsRefusedWithOneNotice(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.browser.hold(true)
	w := h.logOn()
	for n := range mostLinks {
		w.accepted(h.mint("ada", n))
	}
	const more = 20
	for range more {
		w.refused(h.mint("ada", 99), problem.TooManyLinks)
	}
	s := w.await("the notice", func(s view.Snapshot) bool { return s.Notice != nil })
	if s.Notice.Problem.Code != problem.TooManyLinks || slices.Contains(s.Notice.Actions, view.ActionRetry) {
		t.Errorf("notice %+v", s.Notice)
	}
	if s.Launch.Stage != view.SigningIn {
		t.Errorf("the flood took the launch's place: %+v", s.Launch)
	}
	w.logOff()
	lines, counted := 0, 0
	for _, l := range h.auditLines() {
		if l.Code == string(problem.TooManyLinks) {
			lines++
			counted += max(l.Count, 1)
		}
	}
	if counted != more || lines > 6 {
		t.Errorf("%d refusals stand in %d lines", counted, lines)
	}
}

func TestAHeldRequestOpensForWhoeverSignsInAndAllShareOnePage(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.browser.hold(true)
	w := h.logOn()
	first, second := w.accepted(h.mint("ada", 1)), w.accepted(h.mint("ben", 2))
	w.stage(first, view.SigningIn)
	w.do(control.Intent{Name: control.SignIn})
	w.do(control.Intent{Name: control.SignIn})
	h.until("the page", func() bool { pages, _ := h.browser.seen(); return pages == 1 })
	h.browser.answer()
	s := w.failed(second, problem.ProviderMismatch) // the backend decides
	if s.SignIn.Person == nil || s.SignIn.Person.Subject != "ada" {
		t.Errorf("signed in: %+v", s.SignIn)
	}
	w.counts(1, 1)
	if line := h.auditOfLaunch(first); line.Outcome != "opened" {
		t.Errorf("audit %+v", line)
	}
	if calls := h.asked(orgapi.PathEncounters); len(calls) != 2 {
		t.Errorf("the backend was asked %d times", len(calls))
	}
}

func TestARequestThatArrivedForOnePersonNeverOpensForAnother(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	h.issuer.set(func(is *issuer) { clear(is.refresh); is.person = "ben" }) // the issuer ends ada's sign-in
	h.inPlaceOfBackend(refuseWith(problem.Unauthorized))
	h.browser.hold(true)
	id := w.accepted(h.mint("ada", 1))
	w.failed(id, problem.SigninNeeded)
	h.inPlaceOfBackend(nil)
	w.do(control.Intent{Name: control.Retry})
	again := w.launchAfter(id, view.SigningIn)
	h.until("the page", func() bool { pages, _ := h.browser.seen(); return pages == 2 })
	asked := len(h.asked(orgapi.PathEncounters))
	h.browser.answer()
	w.failed(again.ID, problem.ProviderMismatch)
	if len(h.asked(orgapi.PathEncounters)) != asked {
		t.Error("the backend was asked for another person")
	}
	w.counts(2, 0)
}

func TestATokenThatTheBackendRefusesIsRefreshedOnce(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	var refusals atomic.Int32
	h.inPlaceOfBackend(func(rw http.ResponseWriter, r *http.Request) bool {
		return refusals.Add(1) == 1 && refuseWith(problem.Unauthorized)(rw, r)
	})
	w.opens(h.mint("ada", 1))
	w.counts(1, 1)
	calls := h.asked(orgapi.PathEncounters)
	if len(calls) != 2 || calls[0] != calls[1] {
		t.Errorf("got %+v", calls)
	}
	h.issuer.set(func(is *issuer) {
		if is.rotated != 1 || is.thefts != 0 {
			t.Errorf("%d refreshes, %d thefts", is.rotated, is.thefts)
		}
	})
}

func TestALaunchCanBeCancelledInEveryStageAndOnlyByWhoSawIt(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.browser.hold(true)
	w := h.logOn()

	// signing in, with another launch behind it
	first, second := w.accepted(h.mint("ada", 1)), w.accepted(h.mint("ada", 2))
	w.stage(first, view.SigningIn)
	h.until("the page", func() bool { pages, _ := h.browser.seen(); return pages == 1 })
	for _, id := range []string{"another", second} {
		if err := w.client.Do(t.Context(), control.Intent{Name: control.Cancel, ID: id}); !problem.IsCode(err, problem.RequestInvalid) {
			t.Errorf("cancelling what is not shown: %v", err)
		}
	}
	w.do(control.Intent{Name: control.Cancel, ID: first})
	w.stage(second, view.SigningIn) // it is next, behind the same page
	w.counts(1, 0)
	w.do(control.Intent{Name: control.Cancel})
	s := w.stage(second, view.Cancelled)
	if s.Launch.Problem.Code != problem.Cancelled || !s.Launch.Retryable {
		t.Errorf("got %+v", s.Launch)
	}
	w.await("the page to be gone", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedOut })
	if line := h.auditOfLaunch(first); line.Outcome != "cancelled" {
		t.Errorf("audit %+v", line)
	}

	// creating
	h.browser.hold(false)
	w.signedIn()
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.inPlaceOfBackend(func(_ http.ResponseWriter, r *http.Request) bool {
		once.Do(func() { close(reached) })
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the caller has gone
		select {
		case <-r.Context().Done():
		case <-release:
		}
		return true
	})
	third := w.accepted(h.mint("ada", 3))
	<-reached
	w.do(control.Intent{Name: control.Cancel, ID: third})
	w.stage(third, view.Cancelled)
	close(release)
	h.inPlaceOfBackend(nil)

	// and once it is over, there is nothing to cancel
	if err := w.client.Do(t.Context(), control.Intent{Name: control.Cancel}); !problem.IsCode(err, problem.RequestInvalid) {
		t.Errorf("cancelling nothing: %v", err)
	}
	if err := w.client.Do(t.Context(), control.Intent{Name: control.Retry, ID: first}); !problem.IsCode(err, problem.RequestInvalid) {
		t.Errorf("retrying what is not the last: %v", err)
	}
	w.do(control.Intent{Name: control.Retry, ID: third})
	w.launchAfter(third, view.Opened)
	w.counts(2, 1)
}

func TestAFailedLaunchIsRetriedFromTheNoticeOnceTheBackendIsBack(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	h.inPlaceOfBackend(func(rw http.ResponseWriter, _ *http.Request) bool {
		hijacked, _, err := rw.(http.Hijacker).Hijack()
		if err == nil {
			_ = hijacked.Close()
		}
		return true
	})
	id := w.accepted(h.mint("ada", 1))
	w.failed(id, problem.OrgUnreachable)
	s := w.await("the notice", func(s view.Snapshot) bool { return s.Notice != nil })
	if s.Notice.Actions[0] != view.ActionRetry || s.Notice.Problem.Reference != s.Launch.Problem.Reference {
		t.Errorf("notice %+v", s.Notice)
	}
	if line := h.auditOfLaunch(id); line.Outcome != "failed" || line.Reference != s.Launch.Problem.Reference || line.Code != "org_unreachable" {
		t.Errorf("audit %+v", line)
	}
	h.inPlaceOfBackend(nil)
	w.do(control.Intent{Name: control.Retry, ID: id})
	w.launchAfter(id, view.Opened)
	if n := w.await("the notice to go", func(s view.Snapshot) bool { return s.Notice == nil }); n.Launch.Problem != nil {
		t.Errorf("got %+v", n.Launch)
	}
	w.counts(1, 1)
}

func TestASpentAnExpiredAndAForgedHandleAreToldApartAndOpenNothing(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	spent := h.mint("ada", 1)
	w.opens(spent)
	w.logOff()
	h.keyring = tokenstore.Memory() // another workstation
	w = h.logOn()
	w.signedIn()
	w.fails(spent, problem.HandleSpent)
	expired := h.mint("ada", 2)
	h.server.turn(11 * time.Minute)
	w.fails(expired, problem.HandleExpired)
	s := w.fails(h.layout.Scheme()+"://launch?handle=AAAAAAAAAAAAAAAAAAAAAAAAAAAA", problem.HandleExpired)
	if s.Launch.Retryable {
		t.Error("what cannot succeed is offered again")
	}
	if err := w.client.Do(t.Context(), control.Intent{Name: control.Retry}); !problem.IsCode(err, problem.RequestInvalid) {
		t.Errorf("retrying: %v", err)
	}
	w.counts(2, 1)
}

func TestAnotherCliniciansLinkIsRefusedByTheBackendAndStaysGood(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.issuer.person = "ben"
	w := h.logOn()
	link := h.mint("ada", 1)
	w.fails(link, problem.ProviderMismatch)
	w.counts(1, 0)
	w.do(control.Intent{Name: control.SignOut})
	h.issuer.set(func(is *issuer) { is.person = "ada" })
	w.opens(link)
	w.counts(2, 1)
}

func TestARecentIsReopenedThroughTheBackendAndBelongsToItsPerson(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"RecentsLimit": 2})
	w := h.logOn()
	for n := range 3 {
		w.opens(h.mint("ada", n))
	}
	s := w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == 2 })
	last := s.Launch.ID
	w.do(control.Intent{Name: control.OpenRecent, ID: s.Recents[1].ID})
	l := w.launchAfter(last, view.Opened)
	if !l.Reopen || l.Label != "G. K." {
		t.Errorf("got %+v", l)
	}
	if opened := h.sim.Opened(); opened[len(opened)-1].ExternalEncounterID != encounterID(1) {
		t.Error("another encounter was opened")
	}
	w.counts(1, 4)
	if calls := h.asked(orgapi.PathEncounterURL); len(calls) != 1 || calls[0].key == "" || calls[0].id != l.ID {
		t.Errorf("got %+v", calls)
	}
	if err := w.client.Do(t.Context(), control.Intent{Name: control.OpenRecent, ID: "0123456789abcdef0123"}); !problem.IsCode(err, problem.EncounterUnknown) {
		t.Errorf("an unknown recent: %v", err)
	}
	mine := s.Recents[0].ID
	h.setPolicy(map[string]any{"RecentsLabel": "none"})
	s = w.await("the labels to go", func(s view.Snapshot) bool { return len(s.Recents) == 2 && s.Recents[0].Label == "" })
	if s.Launch.Label != "" {
		t.Errorf("the last launch still shows %q", s.Launch.Label)
	}

	w.do(control.Intent{Name: control.SignOut})
	w.await("nobody", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedOut && len(s.Recents) == 0 })
	if err := w.client.Do(t.Context(), control.Intent{Name: control.OpenRecent, Last: true}); !problem.IsCode(err, problem.SigninNeeded) {
		t.Errorf("signed out: %v", err)
	}
	h.issuer.set(func(is *issuer) { is.person = "ben" })
	w.signedIn()
	if err := w.client.Do(t.Context(), control.Intent{Name: control.OpenRecent, ID: mine}); !problem.IsCode(err, problem.EncounterUnknown) {
		t.Errorf("another person's recent: %v", err)
	}
	w.do(control.Intent{Name: control.SignOut})
	h.issuer.set(func(is *issuer) { is.person = "ada" })
	w.signedIn()
	w.await("ada's recents to be back", func(s view.Snapshot) bool { return len(s.Recents) == 2 })
}

func TestAPolicyThatIsInstalledWhileTheAgentRunsIsTakenUpAndTheRefusedLinkRetried(t *testing.T) {
	h := newHospital(t)
	w := h.logOn()
	link := h.mint("ada", 1)
	ack := w.refused(link, problem.PolicyMissing)
	s := w.await("the refusal", func(s view.Snapshot) bool { return s.Launch != nil && s.Notice != nil })
	if s.Launch.Stage != view.Failed || s.Launch.Problem.Reference != ack.Reference || s.Notice.Problem.Reference != ack.Reference || !s.Policy.RefusesLaunches || s.Policy.OK {
		t.Errorf("got %+v, %+v", s.Launch, s.Policy)
	}
	if line := h.auditOfLaunch(s.Launch.ID); line.Outcome != "refused" || line.Reference != ack.Reference {
		t.Errorf("audit %+v", line)
	}
	h.setPolicy(nil)
	w.await("the policy", func(s view.Snapshot) bool { return s.Policy.OK })
	w.do(control.Intent{Name: control.Retry, ID: s.Launch.ID})
	w.launchAfter(s.Launch.ID, view.Opened)
	w.counts(1, 1)
}

func TestARetryIsJudgedByThePolicyThatIsThenInForce(t *testing.T) {
	h := newHospital(t)
	w := h.logOn()
	ids := h.layout.Scheme() + "://launch?external_encounter_id=" + encounterID(1) + "&external_patient_id=P-" + canary + "&external_provider_id=D-ada"
	w.refused(ids, problem.PolicyMissing)
	h.setPolicy(nil)
	s := w.await("the policy", func(s view.Snapshot) bool { return s.Policy.OK })
	w.do(control.Intent{Name: control.Retry})
	l := w.launchAfter(s.Launch.ID, view.Failed)
	if l.Problem.Code != problem.LinkFormNotAllowed {
		t.Errorf("got %+v", l.Problem)
	}
	w.counts(0, 0)
	h.auditOfLaunch(l.ID)

	h.setPolicy(map[string]any{"AllowedLinkForms": []string{"identifiers"}})
	h.until("the form to be allowed", func() bool { return w.click(ids).Accepted })
	w.await("the encounter", func(s view.Snapshot) bool { return s.Launch.Stage == view.Opened })
	w.refused(h.mint("ada", 2), problem.LinkFormNotAllowed)
	w.counts(1, 1)
}

func TestAnotherBackendSignsOutAndABrokenPolicyDoesNot(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	h.writePolicy([]byte(`{"BackendURL": 7`))
	w.await("the broken policy", func(s view.Snapshot) bool { return s.Policy.RefusesLaunches })
	link := h.mint("ada", 1)
	w.refused(link, problem.PolicyInvalid)
	s := w.await("the refusal", func(s view.Snapshot) bool { return s.Launch != nil })
	if s.SignIn.Person == nil {
		t.Error("a broken policy signed somebody out")
	}
	h.setPolicy(nil)
	w.await("the mended policy", func(s view.Snapshot) bool { return s.Policy.OK })
	w.do(control.Intent{Name: control.Retry})
	w.launchAfter(s.Launch.ID, view.Opened)
	w.counts(1, 1)

	h.setPolicy(map[string]any{"BackendURL": h.orgURL + "/other"})
	w.await("nobody to be signed in", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedOut && len(s.Recents) == 0 })
	h.until("the issuer to be told", func() bool {
		revoked := 0
		h.issuer.set(func(is *issuer) { revoked = is.revoked })
		return revoked == 1
	})
	h.until("the sign-in to be deleted", func() bool {
		_, found, err := w.agent.store.Load(t.Context())
		return err == nil && !found
	})
}

func TestSignedRequestsAreCheckedOnTheWorkstationAndTakenOnce(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"LinkKeys": rawJSON(h.linkKeys())})
	w := h.logOn()
	link := h.signed("ada", 1, "jti-1", h.linkKey)
	id := w.opens(link).ID
	if w.accepted(link) != id {
		t.Error("the same link is not a replay")
	}
	w.refused(h.signed("ada", 2, "jti-1", h.linkKey), problem.LinkReplayed)
	w.refused(h.signed("ada", 3, "jti-3", newKey(t)), problem.LinkInvalid)
	late := h.signed("ada", 4, "jti-4", h.linkKey)
	w.clock.turn(6 * time.Minute)
	w.refused(late, problem.LinkExpired)
	w.counts(1, 1)
}

func TestWithoutAKeyringEverythingWorksInMemoryAndThePersonIsTold(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	k := &locked{Keyring: tokenstore.Memory()}
	k.set(tokenstore.ErrUnavailable)
	h.keyring = k
	w := h.logOn()
	l := w.opens(h.mint("ada", 1))
	s := w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
	if !s.SignIn.MemoryOnly || s.Keyring.Code != problem.KeyringUnavailable {
		t.Errorf("got %+v, %+v", s.SignIn, s.Keyring)
	}
	w.do(control.Intent{Name: control.OpenRecent, Last: true})
	w.launchAfter(l.ID, view.Opened)
	w.logOff()
	w = h.logOn()
	w.opens(h.mint("ada", 1))
	w.counts(2, 3)
}

func TestALockedKeyringOpensNoSignInPageAndAfterUnlockingTheRetryWorks(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	k := &locked{Keyring: tokenstore.Memory()}
	h.keyring = k
	w := h.logOn()
	w.signedIn()
	w.logOff()
	k.set(tokenstore.ErrLocked)
	w = h.logOn()
	id := w.accepted(h.mint("ada", 1))
	w.failed(id, problem.KeyringLocked)
	w.counts(1, 0)
	k.set(nil)
	w.do(control.Intent{Name: control.Retry, ID: id})
	w.launchAfter(id, view.Opened)
	w.counts(1, 1)
}

func TestAnIssuerThatIsDownAtTheStartIsNoSignOut(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	w.logOff()
	h.issuer.set(func(is *issuer) { is.down = true })
	w = h.logOn()
	s := w.fails(h.mint("ada", 1), problem.OrgUnreachable)
	if s.SignIn.State != view.SignedIn {
		t.Errorf("got %+v", s.SignIn)
	}
	h.issuer.set(func(is *issuer) { is.down = false })
	w.do(control.Intent{Name: control.Retry})
	w.launchAfter(s.Launch.ID, view.Opened)
	w.counts(1, 1)
}

func TestASignInThatFailsIsShownAndNoticedAndADeclinedOneIsCancelled(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.issuer.set(func(is *issuer) { is.down = true })
	w := h.logOn()
	w.do(control.Intent{Name: control.SignIn})
	s := w.await("the notice", func(s view.Snapshot) bool { return s.Notice != nil })
	if s.SignIn.Problem == nil || s.SignIn.Problem.Code != problem.SigninFailed || s.Notice.Problem.Reference != s.SignIn.Problem.Reference {
		t.Errorf("got %+v, %+v", s.SignIn.Problem, s.Notice)
	}
	h.issuer.set(func(is *issuer) { is.down, is.refused = false, "access_denied" })
	id := w.accepted(h.mint("ada", 1))
	w.failed(id, problem.SigninCancelled)
	if line := h.auditOfLaunch(id); line.Outcome != "cancelled" || line.Code != "signin_cancelled" {
		t.Errorf("audit %+v", line)
	}
	h.issuer.set(func(is *issuer) { is.refused = "" })
	w.do(control.Intent{Name: control.Retry, ID: id})
	s = w.await("the encounter", func(s view.Snapshot) bool { return s.Launch.ID != id && s.Launch.Stage == view.Opened })
	if s.SignIn.Problem != nil {
		t.Errorf("still told: %+v", s.SignIn.Problem)
	}
	w.logOff()
	signedIn := 0
	for _, l := range h.auditLines() {
		if l.Outcome == "signed_in" {
			signedIn++
		}
	}
	if signedIn != 1 {
		t.Errorf("%d sign-ins in the audit", signedIn)
	}
}

func TestEveryHeldRequestWaitsFiveMinutesFromItsOwnArrivalBehindOnePage(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.browser.hold(true)
	type wait struct {
		d  time.Duration
		at chan time.Time
	}
	waits := make(chan wait, 10)
	h.hook = func(a *Agent) {
		a.session.timer = func(d time.Duration) (<-chan time.Time, func() bool) {
			at := make(chan time.Time, 1)
			waits <- wait{d, at}
			return at, func() bool { return true }
		}
	}
	w := h.logOn()
	near := func(got, want time.Duration) bool { return got <= want && got > want-30*time.Second }
	first := w.accepted(h.mint("ada", 1))
	a := <-waits
	h.until("the page", func() bool { pages, _ := h.browser.seen(); return pages == 1 })
	w.clock.turn(2 * time.Minute)
	second := w.accepted(h.mint("ada", 2))
	w.clock.turn(3 * time.Minute)
	a.at <- time.Time{}
	b := <-waits
	if !near(a.d, 5*time.Minute) || !near(b.d, 2*time.Minute) {
		t.Errorf("they wait %v and %v", a.d, b.d)
	}
	w.stage(second, view.SigningIn)
	if line := h.auditOfLaunch(first); line.Outcome != "failed" || line.Code != "signin_failed" {
		t.Errorf("audit %+v", line)
	}
	b.at <- time.Time{}
	w.failed(second, problem.SigninFailed)
	w.await("the page to be gone", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedOut })
	w.counts(1, 0)
}

func TestSigningOutCancelsWhatRunsAndWaits(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	reached := make(chan struct{}, 10)
	h.inPlaceOfBackend(func(_ http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the caller has gone
		reached <- struct{}{}
		<-r.Context().Done()
		return true
	})
	first, second := w.accepted(h.mint("ada", 1)), w.accepted(h.mint("ada", 2))
	<-reached
	w.do(control.Intent{Name: control.SignOut})
	w.await("nobody", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedOut })
	for _, id := range []string{first, second} {
		if line := h.auditOfLaunch(id); line.Outcome != "cancelled" {
			t.Errorf("audit %+v", line)
		}
	}
	w.counts(1, 0)
}

func TestQuittingInTheMiddleOfALaunchEndsItAndIsAnswered(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.browser.hold(true)
	w := h.logOn()
	id := w.accepted(h.mint("ada", 1))
	w.stage(id, view.SigningIn)
	w.do(control.Intent{Name: control.Quit})
	<-w.ended
	if line := h.auditOfLaunch(id); line.Outcome != "cancelled" {
		t.Errorf("audit %+v", line)
	}
	if lines := h.auditLines(); lines[len(lines)-1].Outcome != "stopped" {
		t.Errorf("the last line is %+v", lines[len(lines)-1])
	}
}

func TestToldToFinishTheAgentEndsAsSoonAsWhatIsInFlightHas(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.browser.hold(true)
	w := h.logOn()
	first := w.accepted(h.mint("ada", 1))
	w.stage(first, view.SigningIn)
	w.do(control.Intent{Name: control.Quit, Finish: true})
	second := w.accepted(h.mint("ada", 2)) // it goes on to take links
	h.until("the page", func() bool { pages, _ := h.browser.seen(); return pages == 1 })
	h.browser.answer()
	<-w.ended
	for _, id := range []string{first, second} {
		if line := h.auditOfLaunch(id); line.Outcome != "opened" {
			t.Errorf("audit %+v", line)
		}
	}
}

func TestToldToFinishWithNothingInFlightTheAgentEndsAtOnce(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.hook = func(a *Agent) { a.finishTimer = new(hours).timer } // which never runs out
	w := h.logOn()
	w.do(control.Intent{Name: control.Quit, Finish: true})
	<-w.ended
}

func TestToldToFinishTheAgentWaitsForNobodyForLong(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.browser.hold(true)
	late, asked := make(chan time.Time, 1), make(chan time.Duration, 1)
	h.hook = func(a *Agent) {
		a.finishTimer = func(d time.Duration) (<-chan time.Time, func() bool) {
			asked <- d
			return late, func() bool { return true }
		}
	}
	w := h.logOn()
	id := w.accepted(h.mint("ada", 1))
	w.stage(id, view.SigningIn)
	w.do(control.Intent{Name: control.Quit, Finish: true})
	if d := <-asked; d != finishPatience {
		t.Errorf("it waits %v", d)
	}
	select {
	case <-w.ended:
		t.Error("it did not wait")
	default:
	}
	late <- time.Time{}
	<-w.ended
	if line := h.auditOfLaunch(id); line.Outcome != "cancelled" {
		t.Errorf("audit %+v", line)
	}
}

// slow is a keyring whose first write waits for the test.
type slow struct {
	tokenstore.Keyring
	first         sync.Once
	writing, gate chan struct{}
}

func (s *slow) Set(service, user, value string) error {
	s.first.Do(func() {
		close(s.writing)
		<-s.gate
	})
	return s.Keyring.Set(service, user, value)
}

func TestQuittingWaitsUntilARotatedTokenIsStored(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.opens(h.mint("ada", 1)) // every secret is made
	w.logOff()
	memory := h.keyring
	s := &slow{Keyring: memory, writing: make(chan struct{}), gate: make(chan struct{})}
	h.keyring = s
	w = h.logOn() // which refreshes ahead of time
	<-s.writing
	w.do(control.Intent{Name: control.Quit})
	select {
	case <-w.ended:
		t.Error("the agent ended before the token was stored")
	default:
	}
	close(s.gate)
	<-w.ended
	h.keyring = memory
	w = h.logOn()
	w.clock.turn(flow.OneTab)
	w.opens(h.mint("ada", 1))
	h.issuer.set(func(is *issuer) {
		if is.thefts != 0 {
			t.Error("a token was presented twice")
		}
	})
	w.counts(1, 2)
}

// counting is a keyring that counts its calls.
type counting struct {
	tokenstore.Keyring
	calls atomic.Int64
}

func (c *counting) Get(service, user string) (string, error) {
	c.calls.Add(1)
	return c.Keyring.Get(service, user)
}

func (c *counting) Set(service, user, value string) error {
	c.calls.Add(1)
	return c.Keyring.Set(service, user, value)
}

func TestAWarmClickAsksTheKeyringNothingAndWritesNothingBeforeTheBrowserOpens(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	k := &counting{Keyring: tokenstore.Memory()}
	h.keyring = k
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	w.await("the recents", func(s view.Snapshot) bool { return len(s.Recents) == 1 })
	h.until("the refresh ahead of time", func() bool { return w.agent.work.idle() })
	before, files := k.calls.Load(), h.filesNow()
	var atOpening int64
	var filesAtOpening map[string]string
	h.inPlaceOfBackend(func(http.ResponseWriter, *http.Request) bool {
		atOpening, filesAtOpening = k.calls.Load(), h.filesNow()
		return false
	})
	w.opens(h.mint("ada", 2))
	if atOpening != before {
		t.Errorf("the keyring was asked %d times on the way", atOpening-before)
	}
	for name, was := range files {
		if filesAtOpening[name] != was {
			t.Errorf("%s was written on the way", name)
		}
	}
}

func TestATokenIsNeverGivenForAnotherBackendThanItsOwn(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	tokens := tokensFor{w.agent.session, wish{arrived: w.clock.now(), held: true, binding: "that of another backend"}}
	for _, ask := range []func() error{
		func() error { _, err := tokens.Access(t.Context()); return err },
		func() error { _, err := tokens.Renew(t.Context(), flow.Session{}); return err },
		func() error { _, err := tokens.SignIn(t.Context()); return err },
	} {
		if err := ask(); err == nil {
			t.Error("a token was given away")
		}
	}
	w.counts(1, 0)
}

func TestAWindowThatCannotBeShownIsNotOfferedAsTheWayOut(t *testing.T) {
	w := newHospital(t).logOn()
	if err := w.client.Do(t.Context(), control.Intent{Name: control.OpenWindow}); !problem.IsCode(err, problem.WindowUnavailable) {
		t.Fatalf("got %v", err)
	}
	s := w.await("a notice", func(s view.Snapshot) bool { return s.Notice != nil })
	if slices.Contains(s.Notice.Actions, view.ActionOpenWindow) {
		t.Errorf("the notice offers %v", s.Notice.Actions)
	}
}

func TestTheWindowGoesWithTheAgent(t *testing.T) {
	h := newHospital(t)
	gone := make(chan struct{})
	h.hook = func(a *Agent) {
		a.opts.Window = func(life context.Context, _ control.Activation) (<-chan error, error) {
			ended := make(chan error, 1)
			context.AfterFunc(life, func() { close(gone); ended <- nil })
			return ended, nil
		}
	}
	w := h.logOn()
	w.do(control.Intent{Name: control.OpenWindow})
	w.do(control.Intent{Name: control.Quit})
	<-w.ended
	<-gone
}

func TestAMistypedCommandIsInTheAuditAndNotOnTheScreen(t *testing.T) {
	h := newHospital(t)
	w := h.logOn()
	if err := w.client.Refused(t.Context(), problem.RequestInvalid, "0A1B2C3D"); err != nil {
		t.Fatal(err)
	}
	if s := w.agent.Snapshot(); s.Notice != nil {
		t.Errorf("a notice was shown: %+v", s.Notice)
	}
	h.until("the audit line", func() bool {
		return slices.ContainsFunc(h.auditLines(), func(l auditLine) bool { return l.Reference == "0A1B2C3D" })
	})
}

func TestSigningOutMendsASecretThatCannotBeRead(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	if err := h.keyring.Set(h.layout.KeyringService(), "secret."+linkKeySecret, "not what was written"); err != nil {
		t.Fatal(err)
	}
	w := h.logOn()
	link := h.mint("ada", 1)
	w.fails(link, problem.KeyringCorrupt)
	w.do(control.Intent{Name: control.SignOut})
	w.opens(link)
}
