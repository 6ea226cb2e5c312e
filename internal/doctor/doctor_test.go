package doctor

import (
	"context"
	"encounterlauncher/internal/paths"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/transport"
	"encounterlauncher/internal/view"
)

func wordsOf(language string) text.Catalogue { return text.For(language) }

func TestEveryFindingHasItsWordsAndEveryWordItsFinding(t *testing.T) {
	want := map[string]bool{}
	one := func(check string, codes []Code) {
		for _, code := range codes {
			key := "doctor." + check + "." + code.Name
			want[key+".sentence"] = true
			if code.State != OK {
				want[key+".next"] = true
			}
			f := Finding{Code: code.Name, State: code.State, Facts: map[string]string{}}
			for _, fact := range code.Facts {
				f.Facts[fact] = "X"
			}
			for _, language := range []string{"en", "fr", "es", "de"} {
				said := Describe(Result{Name: check, Findings: []Finding{f}}, text.For(language)).Findings[0]
				if text := said.Sentence + said.NextStep; strings.Contains(text, "{") || strings.Contains(text, "doctor.") {
					t.Errorf("%s: %s is said as %q", language, key, text)
				}
			}
		}
	}
	for _, c := range Checks() {
		want["doctor."+c.Name+".title"] = true
		one(c.Name, c.Codes)
	}
	one("any", AnyCheck())
	for _, key := range text.Keys("doctor.") {
		if !want[key] {
			t.Errorf("no finding says %s", key)
		}
		delete(want, key)
	}
	for key := range want {
		t.Errorf("the catalogue lacks %s", key)
	}
}

func TestWhereAllIsWellEveryCheckIsFine(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	var ended []string
	var lock sync.Mutex
	results := Run(t.Context(), d, nil, func(r Result) { lock.Lock(); ended = append(ended, r.Name); lock.Unlock() })
	for _, r := range results {
		if r.State != OK {
			t.Errorf("%s is %s: %v", r.Name, r.State, r.Findings)
		}
	}
	if ResultOf(results) != Fine || len(results) != len(Names()) {
		t.Errorf("%d results, %s", len(results), ResultOf(results))
	}
	slices.Sort(ended)
	if want := slices.Sorted(slices.Values(Names())); !slices.Equal(ended, want) {
		t.Errorf("told of %v", ended)
	}
	fact(t, results[slices.Index(Names(), "backend")], "fine", "version", "1.2.0")
	fact(t, results[slices.Index(Names(), "tls")], "fine", "issuer", "Public Root CA")
}

// hanging is a network, a keyring and a system in which everything waits for ever.
type hanging struct{}

func (hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

type deafKeyring struct{ release chan struct{} }

func (k deafKeyring) Probe(context.Context) error { <-k.release; return nil }
func (k deafKeyring) Check(context.Context) error { return nil }

func TestWithNothingReachableItEndsWithinTenSeconds(t *testing.T) {
	d := newSite(t).healthy()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		d.HTTP = &http.Client{Transport: hanging{}}
		d.Now = time.Now
		// What takes no context does not come back at all.
		d.Proxy = func(context.Context, string) (transport.Proxy, error) { <-release; return transport.Proxy{}, nil }
		d.Resolve = func(context.Context, string) ([]string, error) { <-release; return nil, nil }
		d.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		d.Keyring = deafKeyring{release}
		d.Agent = func(ctx context.Context) (view.Snapshot, error) { <-ctx.Done(); return view.Snapshot{}, ctx.Err() }
		d.Scheme = func() (scheme.State, error) { <-release; return scheme.State{}, nil }
		d.Tray = func(ctx context.Context) TrayState { <-ctx.Done(); return TrayNobody }
		d.Free = func(string) (uint64, error) { <-release; return 0, nil }
		d.BrowserPolicies = func() []browserPolicy { <-release; return nil }
		begun := time.Now()
		results := Run(t.Context(), d, nil, nil)
		took := time.Since(begun)
		close(release)
		synctest.Wait()
		if took >= 10*time.Second {
			t.Errorf("it took %s", took)
		}
		if ResultOf(results) != IsBroken || len(results) != len(Names()) {
			t.Errorf("%d results, %s", len(results), ResultOf(results))
		}
		for _, r := range results {
			switch r.Name {
			case "keyring", "scheme", "files", "browser":
				if r.Findings[0].Code != "timeout" {
					t.Errorf("%s: %v", r.Name, r.Findings)
				}
			case "backend", "sign_in":
				if r.Findings[0].Code != "unreachable" {
					t.Errorf("%s: %v", r.Name, r.Findings)
				}
			}
		}
	})
}

func TestACheckThatBreaksOffCostsItsOwnResultOnly(t *testing.T) {
	d := newSite(t).healthy()
	d.Free = func(string) (uint64, error) { panic("Marie Curie") }
	r := finds(t, d, "files", "failed")
	if strings.Contains(r.Findings[0].detail, "Marie") {
		t.Error("the panic's text was kept")
	}
	finds(t, d, "agent", "fine")
}

func TestThePolicysFindingsAreToldByTheirKeys(t *testing.T) {
	d := newSite(t).healthy()
	d.Policy.Findings = []policy.Finding{
		{Key: "BackendURL", Code: problem.PolicyMissing, RefusesLaunches: true, Sentence: "BackendURL is not set."},
		{Key: "LinkKeys", Code: problem.PolicyInvalid, RefusesLaunches: true, Sentence: "LinkKeys is wrong."},
		{Key: "RecentsLimit", Sentence: "RecentsLimit is wrong."},
		{Source: policy.SourceMachine, RefusesLaunches: true}, {Source: policy.SourcePerson},
	}
	r := finds(t, d, "policy", "missing", "refused", "rejected", "unreadable", "unread")
	fact(t, r, "missing", "key", "BackendURL")
	fact(t, r, "refused", "key", "LinkKeys")
	fact(t, r, "unreadable", "source", "machine policy")
}

func TestAPolicyThatThisComputerCannotUseIsRefusedAndTheNetworkIsNotAsked(t *testing.T) {
	d := newSite(t).healthy()
	p := d.Policy
	p.ExtraCAFile = filepath.Join(t.TempDir(), "none.pem")
	d.reconnect(p)
	fact(t, finds(t, d, "policy", "refused"), "refused", "key", "ExtraCAFile")
	for _, name := range []string{"dns", "proxy", "tls", "clock", "sign_in", "backend"} {
		finds(t, d, name, "no_policy")
	}
}

func TestTheDiskAndTheFolderAreLookedAt(t *testing.T) {
	d := newSite(t).healthy()
	for free, code := range map[uint64]string{1 << 20: "disk_full", 100 << 20: "disk_low", 3 << 30: "fine"} {
		d.Free = func(string) (uint64, error) { return free, nil }
		finds(t, d, "files", code)
	}
	left, err := os.ReadDir(d.Layout.StateDir())
	if err != nil || len(left) != 0 {
		t.Errorf("%v is left in the folder, %v", left, err)
	}
}

func TestAnAgentOfAnotherVersionIsAWarningAndOneThatIsNotThereIsFine(t *testing.T) {
	d := newSite(t).healthy()
	answer := func(s view.Snapshot, err error) {
		d.Agent = func(context.Context) (view.Snapshot, error) { return s, err }
	}
	answer(view.Snapshot{Version: "1.2.2"}, nil)
	r := finds(t, d, "agent", "other_version")
	fact(t, r, "other_version", "running", "1.2.2")
	fact(t, r, "other_version", "installed", "1.2.3")
	answer(view.Snapshot{}, problem.New(problem.AgentUnreachable, control.ErrNoAgent))
	finds(t, d, "agent", "not_running")
	answer(view.Snapshot{}, problem.New(problem.AgentUnreachable, errors.New("it does not answer")))
	finds(t, d, "agent", "no_answer")
}

type answeringKeyring struct{ probe, check error }

func (k answeringKeyring) Probe(context.Context) error { return k.probe }
func (k answeringKeyring) Check(context.Context) error { return k.check }

func TestTheKeyringsOutcomesAreToldApart(t *testing.T) {
	d := newSite(t).healthy()
	for code, k := range map[string]answeringKeyring{
		"fine": {}, "locked": {probe: problem.New(problem.KeyringLocked, tokenstore.ErrLocked)}, "unavailable": {probe: problem.New(problem.KeyringUnavailable, nil)},
		"corrupt": {check: problem.New(problem.KeyringCorrupt, nil)}, "failed": {probe: problem.New(problem.Internal, nil)},
	} {
		d.Keyring = k
		finds(t, d, "keyring", code)
	}
}

func TestWhoReceivesTheLinksIsSaidExactly(t *testing.T) {
	d := newSite(t).healthy()
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	ours := scheme.Registration{Place: scheme.ForMachine, Where: `HKLM\x`, Command: "c", Program: d.Executable, Ours: true, InEffect: true}
	look := func(all ...scheme.Registration) {
		d.Scheme = func() (scheme.State, error) { return scheme.State{Registrations: all}, nil }
	}
	look()
	finds(t, d, "scheme", "none")
	look(ours)
	finds(t, d, "scheme", "fine")
	hidden := ours
	hidden.InEffect = false
	shadow := scheme.Registration{Place: scheme.ForUser, Where: `HKCU\x`, Command: "c", Program: other, Ours: true, InEffect: true}
	look(shadow, hidden)
	r := finds(t, d, "scheme", "another_copy", "hidden")
	fact(t, r, "hidden", "where", `HKCU\x`)
	foreign := shadow
	foreign.Ours, foreign.Command = false, other+` --token=Zk3vQ9x1T7mB2nR5wY8uLgA0 https://evil.example/ "%1"`
	look(foreign)
	r = finds(t, d, "scheme", "other_program")
	faulty := ours
	faulty.Faults, faulty.Command = []scheme.Fault{scheme.LinkQuoting}, foreign.Command
	look(faulty)
	r = finds(t, d, "scheme", "wrong_command")
	if command := r.Findings[0].Facts["command"]; strings.Contains(command, "evil") || strings.Contains(command, "Zk3v") || !strings.HasSuffix(command, `"%1"`) {
		t.Errorf("the command is shown as %q", command)
	}
	look(ours)
	d.Ask = func(context.Context, scheme.State) (scheme.Asked, error) {
		return scheme.Asked{Tool: "xdg-mime", Answer: "other.desktop"}, nil
	}
	finds(t, d, "scheme", "fine", "tool_disagrees")
}

func TestWhatTheWatchTakesForOursTheDoctorDoesNotCallBroken(t *testing.T) {
	d := newSite(t).healthy()
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(filepath.Dir(other), "missing")
	states := map[State]int{}
	for _, place := range []scheme.Place{scheme.ForUser, scheme.ForMachine} {
		for _, program := range []string{d.Executable, other, missing} {
			for _, ours := range []bool{true, false} {
				for _, faults := range [][]scheme.Fault{nil, {scheme.MoreArguments}} {
					if program == missing {
						faults = append([]scheme.Fault{scheme.ProgramMissing}, faults...)
					}
					s := scheme.State{Registrations: []scheme.Registration{{Place: place, Where: "w", Command: "c", Program: program, Ours: ours, Faults: faults, InEffect: true}}}
					d.Scheme = func() (scheme.State, error) { return s, nil }
					state := Run(t.Context(), d, []string{"scheme"}, nil)[0].State
					states[state]++
					if reaches := s.Reaches(d.Executable); state == OK && !reaches || state == Broken && reaches {
						t.Errorf("the doctor says %s, the watch %v of %+v", state, reaches, s.Registrations)
					}
				}
			}
		}
	}
	if states[OK] == 0 || states[Broken] == 0 {
		t.Errorf("the doctor says only %v", states)
	}
}

func TestASharedWorkstationNeedsNoKeyring(t *testing.T) {
	d := newSite(t).healthy()
	d.Policy.SharedWorkstation = true
	d.Keyring = answeringKeyring{probe: problem.New(problem.KeyringUnavailable, nil)}
	if r := finds(t, d, "keyring", "not_needed"); r.State != OK {
		t.Errorf("got %v", r)
	}
	d.Keyring = answeringKeyring{check: problem.New(problem.KeyringCorrupt, nil)}
	finds(t, d, "keyring", "corrupt")
}

func TestWhoLacksAKeyringIsToldWhatToDoOnEachSystem(t *testing.T) {
	d := newSite(t).healthy()
	d.Keyring = answeringKeyring{probe: problem.New(problem.KeyringUnavailable, nil)}
	r := finds(t, d, "keyring", "unavailable")
	for _, language := range []string{"en", "fr", "es", "de"} {
		next := Describe(r, wordsOf(language)).Findings[0].NextStep
		for _, word := range []string{"Linux", "Secret Service", "Windows"} {
			if !strings.Contains(next, word) {
				t.Errorf("%s: %q does not say %s", language, next, word)
			}
		}
	}
}

func TestTheWindowNeedsAWebViewThatIsNewEnough(t *testing.T) {
	d := newSite(t).healthy()
	for version, code := range map[string]string{"": "webview_missing", "93.0.999.99": "webview_old", "94.0.992.31": "webview", "130.0.1.2": "webview"} {
		d.WebView = func() (WebView, error) { return WebView{Needed: true, Version: version}, nil }
		finds(t, d, "window", code)
	}
	root, err := os.ReadFile("../../window_webview_windows.go")
	if err != nil || !strings.Contains(string(root), `"`+oldestWebView+`"`) {
		t.Errorf("the window wants another WebView2 than %s: %v", oldestWebView, err)
	}
}

func TestTheTrayNeedsSomebodyWhoShowsIt(t *testing.T) {
	d := newSite(t).healthy()
	for state, code := range map[TrayState]string{TrayShown: "fine", TrayNobody: "no_tray", TrayNoSession: "no_session"} {
		d.Tray = func(context.Context) TrayState { return state }
		finds(t, d, "tray", code)
	}
}

func TestABrowsersPolicyAllowsAsksBlocksOrIsNotOfItsForm(t *testing.T) {
	d := newSite(t).healthy()
	const name = "encounter-launcher"
	good := []byte(`[{"protocol":"` + name + `","allowed_origins":["https://ehr.hospital.example"]}]`)
	for what, c := range map[string]struct {
		p    browserPolicy
		want []string
	}{
		"allowed":            {browserPolicy{autoLaunch: good}, []string{"allowed"}},
		"nothing":            {browserPolicy{}, []string{"asks"}},
		"another scheme":     {browserPolicy{autoLaunch: []byte(`[{"protocol":"zoommtg","allowed_origins":["*"]}]`)}, []string{"asks"}},
		"upper case":         {browserPolicy{autoLaunch: []byte(`[{"protocol":"Encounter-Launcher","allowed_origins":["*"]}]`)}, []string{"malformed"}},
		"an origin's path":   {browserPolicy{autoLaunch: []byte(`[{"protocol":"` + name + `","allowed_origins":["https://ehr.example/app"]}]`)}, []string{"malformed"}},
		"no list":            {browserPolicy{autoLaunch: []byte(`"x"`)}, []string{"malformed"}},
		"blocked":            {browserPolicy{autoLaunch: good, blocked: []string{name + ":*"}}, []string{"blocked"}},
		"all blocked":        {browserPolicy{blocked: []string{"*"}}, []string{"blocked"}},
		"blocked, but not":   {browserPolicy{blocked: []string{"*"}, allowed: []string{name + "://*"}}, []string{"asks"}},
		"Firefox":            {browserPolicy{handlers: []byte(`{"schemes":{"` + name + `":{"action":"useSystemDefault","ask":false}}}`)}, []string{"allowed"}},
		"Firefox asks":       {browserPolicy{handlers: []byte(`{"schemes":{"` + name + `":{"action":"useSystemDefault","ask":true}}}`)}, []string{"asks"}},
		"unreadable":         {browserPolicy{unreadable: true}, []string{"unreadable"}},
		"half of unreadable": {browserPolicy{unreadable: true, autoLaunch: good}, []string{"allowed", "unreadable"}},
	} {
		c.p.browser = "Chrome"
		d.BrowserPolicies = func() []browserPolicy { return []browserPolicy{c.p} }
		t.Run(what, func(t *testing.T) { finds(t, d, "browser", c.want...) })
	}
	d.BrowserPolicies = func() []browserPolicy { return nil }
	finds(t, d, "browser", "none")
}

func TestTheDemosPagesLieOnAPortThatNoPolicyNamesSoTheyAreNotMet(t *testing.T) {
	for flavour, want := range map[string]int{"": 1, paths.Demo: 0} {
		d := Deps{Layout: paths.Under(t.TempDir(), flavour)}
		d.Policy.EncounterURLHosts = []string{"127.0.0.1"}
		if got := len(newWorld(d).encounters); got != want {
			t.Errorf("flavour %q: %d hosts would be met, want %d", flavour, got, want)
		}
	}
}
