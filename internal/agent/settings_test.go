//go:build unix

package agent

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/view"
)

// refuses sends an intent that must be refused with a code.
func (w *workstation) refuses(i control.Intent, code problem.Code) {
	w.t.Helper()
	if err := w.client.Do(w.t.Context(), i); !problem.IsCode(err, code) {
		w.t.Errorf("%s: %v, want %s", i.Name, err, code)
	}
}

func setting(s view.Snapshot, key string) view.Setting {
	i := slices.IndexFunc(s.Settings, func(s view.Setting) bool { return s.Key == key })
	if i < 0 {
		return view.Setting{}
	}
	return s.Settings[i]
}

func TestAChoiceIsInForceWithoutARestartAndOutlivesTheAgent(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	s := w.await("the settings", func(s view.Snapshot) bool { return len(s.Settings) == 3 })
	want := []view.Setting{
		{Key: "Language", Kind: view.SettingChoice, Choices: []string{"en", "fr", "es", "de"}, Source: policy.SourceBuiltIn},
		{Key: "Autostart", Kind: view.SettingYesNo, Value: "true", Choices: []string{}, Source: policy.SourceBuiltIn},
		{Key: "Notices", Kind: view.SettingChoice, Value: "all", Choices: []string{"all", "problems", "none"}, Source: policy.SourceBuiltIn},
	}
	for i, got := range s.Settings {
		if got.Key != want[i].Key || got.Kind != want[i].Kind || got.Value != want[i].Value || got.Source != want[i].Source || got.Locked || got.Choices == nil || !slices.Equal(got.Choices, want[i].Choices) {
			t.Errorf("got %+v, want %+v", got, want[i])
		}
	}
	if s.Hidden == nil || len(s.Hidden) != 0 {
		t.Errorf("hidden %v", s.Hidden)
	}
	chosen := func(key, value string) func(view.Snapshot) bool {
		return func(s view.Snapshot) bool {
			return setting(s, key).Value == value && setting(s, key).Source == policy.SourcePerson
		}
	}
	w.do(control.Intent{Name: control.Choose, Key: "Language", Value: "fr"})
	w.await("the language", chosen("Language", "fr"))
	w.do(control.Intent{Name: control.Choose, Key: "Autostart", Value: "false"})
	w.await("no autostart", chosen("Autostart", "false"))
	w.logOff()
	w = h.logOn()
	w.await("the choices of before", func(s view.Snapshot) bool {
		return chosen("Language", "fr")(s) && chosen("Autostart", "false")(s)
	})
	w.do(control.Intent{Name: control.Choose, Key: "Language"})
	w.await("the system's language", func(s view.Snapshot) bool {
		return setting(s, "Language").Value == "" && setting(s, "Language").Source == policy.SourceBuiltIn
	})
	w.refuses(control.Intent{Name: control.Choose, Key: "BackendURL", Value: "https://evil.example/"}, problem.RequestInvalid)
	w.refuses(control.Intent{Name: control.Choose, Key: "Language", Value: "tlh"}, problem.RequestInvalid)
	h.setPolicy(map[string]any{"Notices": "none", "HiddenItems": []string{"quit", "recents"}})
	s = w.await("the lock", func(s view.Snapshot) bool { return setting(s, "Notices").Locked })
	if setting(s, "Notices").Source != policy.SourceMachine || !slices.Equal(s.Hidden, []string{view.HideQuit, view.HideRecents}) {
		t.Errorf("got %+v, hidden %v", setting(s, "Notices"), s.Hidden)
	}
	w.refuses(control.Intent{Name: control.Choose, Key: "Notices", Value: "all"}, problem.RequestInvalid)

	// What somebody else writes into the file counts too, and what is not to be read
	// stays as it is.
	file := h.layout.SettingsFile()
	if err := os.WriteFile(file, []byte(`{"Language":"es"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.await("the language of the file", chosen("Language", "es"))
	if err := os.WriteFile(file, []byte(`{"Language":`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.refuses(control.Intent{Name: control.Choose, Key: "Language", Value: "fr"}, problem.RequestInvalid)
	if text, _ := os.ReadFile(file); string(text) != `{"Language":` {
		t.Errorf("the file is now %s", text)
	}
}

func TestASettingsFolderThatComesAfterTheStartIsNoticed(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.await("the settings", func(s view.Snapshot) bool { return len(s.Settings) == 3 })
	file := h.layout.SettingsFile()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(`{"Language":"de"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.await("the language", func(s view.Snapshot) bool { return setting(s, "Language").Value == "de" })
}

func TestOnlyTheNoticesThatThePersonWantsAreGivenAndTheWindowTellsAll(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"Notices": "none"})
	h.inPlaceOfBackend(refuseWith(problem.OrgBusy))
	w := h.logOn()
	w.signedIn()
	id := w.fails(h.mint("ada", 1), problem.OrgBusy).Launch.ID
	h.setPolicy(map[string]any{"Notices": "problems"})
	w.await("the change", func(s view.Snapshot) bool { return setting(s, "Notices").Value == "problems" })
	h.mu.Lock()
	for _, text := range h.snapshots {
		if !bytes.Contains(text, []byte(`"notice":null`)) {
			t.Errorf("a notice although none is wanted: %s", text)
			break
		}
	}
	h.mu.Unlock()
	w.do(control.Intent{Name: control.Retry, ID: id})
	w.await("the notice", func(s view.Snapshot) bool { return s.Notice != nil && s.Notice.Launch != id })
	for kind, want := range map[string]bool{view.NoticeProblem: true, view.NoticeSignedOut: true, view.NoticeLinkTaken: true, view.NoticeSlow: false, view.NoticeSignInEnds: false} {
		if w.agent.mayNotice(kind) != want {
			t.Errorf("problems only, and %s: %v", kind, !want)
		}
	}
	h.setPolicy(map[string]any{"Notices": "none"})
	w.await("the notice to go", func(s view.Snapshot) bool { return s.Notice == nil })
}

func TestTheFirstRunIsOverWithTheFirstSignInAndForGood(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	first := func(s view.Snapshot) bool { return s.FirstRun }
	w := h.logOn()
	w.await("the first run", first)
	w.logOff()
	w = h.logOn()
	w.await("still the first run", first)
	w.signedIn()
	if s := w.await("no first run", func(s view.Snapshot) bool { return !s.FirstRun }); s.SignIn.Person == nil {
		t.Errorf("got %+v", s.SignIn)
	}
	w.do(control.Intent{Name: control.SignOut})
	w.logOff() // waits for the mark
	from := len(h.snapshots)
	w = h.logOn()
	w.agent.lookWhetherFirst()
	w.logOff()
	for _, text := range h.snapshots[from:] {
		if bytes.Contains(text, []byte(`"first_run":true`)) {
			t.Fatal("another first run")
		}
	}
}

func TestASharedWorkstationHasNoFirstRunAndKeepsNoMarkOfAPerson(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"SharedWorkstation": true})
	w := h.logOn()
	w.agent.lookWhetherFirst()
	w.signedIn()
	w.logOff()
	if _, err := os.Lstat(h.layout.SignedInMark()); err == nil {
		t.Error("it says that somebody has signed in")
	}
	for _, text := range h.snapshots {
		if bytes.Contains(text, []byte(`"first_run":true`)) {
			t.Fatal("a first run")
		}
	}
}

func TestTheWaitingSignInPageIsShownAgainAsItIs(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.browser.hold(true)
	w := h.logOn()
	show := control.Intent{Name: control.ShowSignIn}
	w.refuses(show, problem.RequestInvalid)
	w.do(control.Intent{Name: control.SignIn})
	s := w.await("the page", func(s view.Snapshot) bool { return s.SignIn.PageOpen })
	if s.SignIn.State != view.SigningInNow || s.SignIn.PageSince == nil {
		t.Errorf("got %+v", s.SignIn)
	}
	w.do(show)
	w.counts(2, 0)
	h.browser.mu.Lock()
	if h.browser.pages[0] != h.browser.pages[1] {
		t.Error("it is another page")
	}
	h.browser.mu.Unlock()
	h.browser.answer()
	s = w.await("somebody", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedIn })
	if s.SignIn.PageOpen || s.SignIn.PageSince != nil {
		t.Errorf("still shown: %+v", s.SignIn)
	}
	w.refuses(show, problem.RequestInvalid)
	w.do(control.Intent{Name: control.SignOut})
	w.do(control.Intent{Name: control.SignIn})
	w.await("another page", func(s view.Snapshot) bool { return s.SignIn.PageOpen })
	w.do(control.Intent{Name: control.Cancel})
	w.await("no page", func(s view.Snapshot) bool { return s.SignIn.State == view.SignedOut })
	w.refuses(show, problem.RequestInvalid)
}

func TestTheHelpDeskIsOpenedExactlyAsPolicySaysAlsoWhenLaunchesAreRefused(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	help := control.Intent{Name: control.OpenHelpDesk, Activation: control.Activation{Token: "t"}}
	w.refuses(help, problem.RequestInvalid)
	const page = "https://help.hospital.example:8443/desk?from=launcher"
	h.browser.mu.Lock()
	h.browser.helpDesk = page
	h.browser.mu.Unlock()
	h.setPolicy(map[string]any{"HelpDeskURL": page, "BackendURL": nil})
	w.await("the help desk", func(s view.Snapshot) bool { return s.HelpDeskURL == page && s.Policy.RefusesLaunches })
	w.do(help)
	h.browser.mu.Lock()
	defer h.browser.mu.Unlock()
	if h.browser.helped != 1 {
		t.Errorf("opened %d times", h.browser.helped)
	}
}

func TestAFreshLinkOpensTheLastEncounterAgainForTenMinutesAlsoWithoutRecents(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(map[string]any{"RecentsLimit": 0})
	w := h.logOn()
	w.refuses(control.Intent{Name: control.FreshLink}, problem.SigninNeeded)
	l := w.opens(h.mint("ada", 1))
	if list := w.agent.Snapshot().Recents; len(list) > 0 {
		t.Errorf("recents are kept: %+v", list)
	}
	if l.FreshUntil == nil || l.FreshUntil.Sub(l.StartedAt) < freshFor || l.FreshUntil.Sub(l.StartedAt) > freshFor+patience {
		t.Fatalf("fresh until %v", l.FreshUntil)
	}
	// A double press is one launch.
	release := make(chan struct{})
	h.inPlaceOfBackend(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/launcher"+orgapi.PathEncounterURL {
			<-release
		}
		return false
	})
	fresh := control.Intent{Name: control.FreshLink, ID: l.ID}
	w.do(fresh)
	w.do(fresh)
	close(release)
	next := w.launchAfter(l.ID, view.Opened)
	if !next.Reopen || next.Label != "G. K." || next.FreshUntil == nil {
		t.Errorf("got %+v", next)
	}
	w.counts(1, 2)
	if calls := h.asked(orgapi.PathEncounterURL); len(calls) != 1 || calls[0].id != next.ID {
		t.Errorf("the backend was asked %+v", calls)
	}
	if opened := h.sim.Opened(); opened[1].ExternalEncounterID != encounterID(1) {
		t.Errorf("another encounter was opened: %+v", opened)
	}
	w.refuses(control.Intent{Name: control.FreshLink, ID: "another"}, problem.EncounterUnknown)

	h.clock.turn(freshFor + time.Second)
	w.refuses(control.Intent{Name: control.FreshLink}, problem.EncounterUnknown)
	w.agent.launchChanged(nil)
	w.await("the offer to go", func(s view.Snapshot) bool { return s.Launch.FreshUntil == nil })
}

func TestAFreshLinkIsForWhoOpenedItOnly(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.opens(h.mint("ada", 1))
	w.do(control.Intent{Name: control.SignOut})
	w.await("no offer", func(s view.Snapshot) bool { return s.SignIn.Person == nil && s.Launch.FreshUntil == nil })
	w.refuses(control.Intent{Name: control.FreshLink}, problem.SigninNeeded)
	h.issuer.set(func(is *issuer) { is.person = "ben" })
	w.signedIn()
	w.refuses(control.Intent{Name: control.FreshLink}, problem.EncounterUnknown)
	if s := w.agent.Snapshot(); s.Launch.FreshUntil != nil {
		t.Error("it is offered to somebody else")
	}
	w.do(control.Intent{Name: control.SignOut})
	h.issuer.set(func(is *issuer) { is.person = "ada" })
	w.signedIn()
	w.await("the offer to be back", func(s view.Snapshot) bool { return s.Launch.FreshUntil != nil })
	w.counts(3, 1)
}

func TestWhereTheBrowserCouldNotBeStartedTheEncounterIsThereForAFreshLink(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	browsers := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir())
	s := w.fails(h.mint("ada", 1), problem.BrowserUnavailable)
	if s.Launch.FreshUntil == nil {
		t.Fatalf("got %+v", s.Launch)
	}
	t.Setenv("PATH", browsers)
	w.do(control.Intent{Name: control.FreshLink, ID: s.Launch.ID})
	w.launchAfter(s.Launch.ID, view.Opened)
	w.counts(1, 1)
	if calls := h.asked(orgapi.PathEncounters); len(calls) != 1 {
		t.Errorf("it was created %d times", len(calls))
	}
	// Where nothing was created there is nothing to open.
	h.inPlaceOfBackend(refuseWith(problem.OrgBusy))
	if s = w.fails(h.mint("ada", 2), problem.OrgBusy); s.Launch.FreshUntil != nil {
		t.Errorf("got %+v", s.Launch)
	}
	w.refuses(control.Intent{Name: control.FreshLink}, problem.EncounterUnknown)
}

// checked waits for the end of a look at the set-up.
func (w *workstation) checked() map[string]view.Check {
	w.t.Helper()
	before := w.agent.Snapshot().Revision
	w.do(control.Intent{Name: control.Check})
	s := w.await("the checks", func(s view.Snapshot) bool {
		return s.Revision > before && s.Checkup != nil && !s.Checkup.Running
	})
	found := map[string]view.Check{}
	for i, c := range s.Checkup.Checks {
		if c.Name != checkNames[i] || (c.State == view.CheckProblem) != (c.Problem != nil) || c.MS < 0 {
			w.t.Errorf("check %d is %+v", i, c)
		}
		found[c.Name] = c
	}
	return found
}

func TestAPolicyThatIsMissingIsFoundAndWhatItNamesIsNotAsked(t *testing.T) {
	h := newHospital(t)
	w := h.logOn()
	found := w.checked()
	if p := found[view.CheckPolicy].Problem; p == nil || p.Code != problem.PolicyMissing || p.NextStep == "" {
		t.Errorf("got %+v", p)
	}
	if found[view.CheckSignIn].State != view.CheckSkipped || found[view.CheckBackend].State != view.CheckSkipped || found[view.CheckKeyring].State != view.CheckOK {
		t.Errorf("got %+v", found)
	}
	h.setPolicy(nil)
	w.await("the policy", func(s view.Snapshot) bool { return s.Policy.OK })
	if found = w.checked(); found[view.CheckPolicy].State != view.CheckOK || found[view.CheckBackend].State != view.CheckOK {
		t.Errorf("mended: %+v", found)
	}
}

func TestASecondLookAtTheSetUpJoinsTheFirstAndTheStepsAreSeen(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	w := h.logOn()
	w.signedIn()
	release := make(chan struct{})
	h.inPlaceOfBackend(func(http.ResponseWriter, *http.Request) bool { <-release; return false })
	w.do(control.Intent{Name: control.Check})
	s := w.await("the last step", func(s view.Snapshot) bool {
		return s.Checkup != nil && s.Checkup.Checks[4].State == view.CheckRunning
	})
	if !s.Checkup.Running || s.Checkup.Checks[0].State != view.CheckOK || s.Checkup.Checks[3].State != view.CheckOK {
		t.Errorf("got %+v", s.Checkup)
	}
	w.do(control.Intent{Name: control.Check})
	close(release)
	w.await("the end", func(s view.Snapshot) bool { return !s.Checkup.Running && s.Checkup.Checks[4].State == view.CheckOK })
	if calls := h.asked(orgapi.PathMe); len(calls) != 1 {
		t.Errorf("the backend was asked %d times", len(calls))
	}
}

func TestTheChecksSayWhatIsWrongWithKeyringSignInAndBackend(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	k := &locked{Keyring: h.keyring}
	h.keyring = k
	w := h.logOn()
	w.signedIn()
	code := func(name string) problem.Code {
		t.Helper()
		c := w.checked()[name]
		if c.Problem == nil {
			return ""
		}
		return c.Problem.Code
	}
	h.inPlaceOfBackend(refuseWith(problem.IdentityUnmapped))
	if got := code(view.CheckBackend); got != problem.IdentityUnmapped {
		t.Errorf("a person whom the backend does not know: %q", got)
	}
	w.do(control.Intent{Name: control.SignOut})
	h.inPlaceOfBackend(func(w http.ResponseWriter, _ *http.Request) bool { _, _ = w.Write([]byte("<html>")); return true })
	if got := code(view.CheckBackend); got != problem.OrgAnswerInvalid {
		t.Errorf("something else at the address: %q", got)
	}
	h.inPlaceOfBackend(nil)
	h.issuer.set(func(is *issuer) { is.down = true })
	if got := code(view.CheckSignIn); got != problem.SigninFailed {
		t.Errorf("an issuer that is down: %q", got)
	}
	h.issuer.set(func(is *issuer) { is.down = false })
	k.set(tokenstore.ErrLocked)
	if got := code(view.CheckKeyring); got != problem.KeyringLocked {
		t.Errorf("a locked keyring: %q", got)
	}
}
