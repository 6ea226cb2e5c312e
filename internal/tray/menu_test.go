package tray

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// noon is a Wednesday.
var noon = time.Date(2026, time.March, 4, 12, 0, 0, 0, time.UTC)

func signedInAs(email string) view.SignIn {
	return view.SignIn{State: view.SignedIn, Person: &view.Person{Subject: "s-1", Email: email}}
}

// visible returns the lines that can be seen, clickable ones with their intent.
func visible(m model) []string {
	var out []string
	for _, l := range m.lines {
		if l.title == "" {
			continue
		}
		s := l.title
		if l.intent != "" {
			s += " → " + strings.TrimSuffix(l.intent+" "+l.id, " ")
		}
		out = append(out, s)
	}
	return out
}

func TestTheMenuShowsWhatCanBeDoneAndNothingElse(t *testing.T) {
	words := text.For("en")
	later := noon.Add(time.Second)
	failure := &view.Problem{Code: problem.OrgUnreachable, Sentence: "Your organisation's server cannot be reached."}
	for name, c := range map[string]struct {
		snapshot view.Snapshot
		face     face
		tooltip  string
		want     []string
	}{
		"signed out": {
			view.Snapshot{SignIn: view.SignIn{State: view.SignedOut}}, signedOut, "Encounter Launcher: not signed in",
			[]string{"Not signed in", "Sign in → sign-in", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a sign-in that did not work": {
			view.Snapshot{SignIn: view.SignIn{State: view.SignedOut, Problem: failure}}, attention, "Encounter Launcher needs your attention",
			[]string{"Not signed in", "Sign in → sign-in", "Needs attention: " + failure.Sentence, "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"waiting for a sign-in": {
			view.Snapshot{SignIn: view.SignIn{State: view.SigningInNow}}, working, "Encounter Launcher: Waiting for you to sign in",
			[]string{"Waiting for you to sign in", "Cancel sign-in → cancel", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a sign-in page that may be lost": {
			view.Snapshot{SignIn: view.SignIn{State: view.SigningInNow, PageOpen: true}}, working, "Encounter Launcher: Waiting for you to sign in",
			[]string{"Waiting for you to sign in", "Open the sign-in page again → show-sign-in", "Cancel sign-in → cancel", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a launch waits for a sign-in": {
			view.Snapshot{SignIn: view.SignIn{State: view.SigningInNow}, Launch: &view.Launch{ID: "l1", Stage: view.SigningIn}}, working, "Encounter Launcher: Waiting for you to sign in",
			[]string{"Waiting for you to sign in", "Waiting for you to sign in", "Cancel opening → cancel l1", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"idle, managed": {
			view.Snapshot{SignIn: signedInAs("ada@clinic.example"), OrganizationName: "Clinic & Sons", Recents: []view.Recent{
				{ID: "r4", Label: "A. B.", OpenedAt: noon.Add(-time.Hour), Status: "exported"}, {ID: "r3", OpenedAt: noon.Add(-2 * time.Hour), Status: "exported"},
				{ID: "r2", Label: "C. D.", OpenedAt: noon.Add(-3 * time.Hour), Status: "opened"}, {ID: "r1", OpenedAt: noon.Add(-24 * time.Hour), Status: "from_the_future"},
			}}, idle, "Encounter Launcher",
			[]string{"Signed in as ada@clinic.example", "Sign out → sign-out", "Recent encounters",
				"11:00 · A. B. · note exported → open-recent r4", "10:00 · Encounter · note exported → open-recent r3", "09:00 · C. D. → open-recent r2", "yesterday 12:00 · Encounter → open-recent r1",
				"Open Encounter Launcher → open-window", "Managed by Clinic & Sons", "Quit → quit"},
		},
		"managed, with a help desk": {
			view.Snapshot{SignIn: signedInAs("a"), OrganizationName: "Clinic", HelpDeskURL: "https://help.clinic.example/"}, idle, "Encounter Launcher",
			[]string{"Signed in as a", "Sign out → sign-out", "No recent encounters", "Open Encounter Launcher → open-window", "Managed by Clinic → open-help-desk", "Help desk → open-help-desk", "Quit → quit"},
		},
		"a help desk of nobody": {
			view.Snapshot{SignIn: signedInAs("a"), HelpDeskURL: "https://help.clinic.example/"}, idle, "Encounter Launcher",
			[]string{"Signed in as a", "Sign out → sign-out", "No recent encounters", "Open Encounter Launcher → open-window", "Help desk → open-help-desk", "Quit → quit"},
		},
		"a running launch": {
			view.Snapshot{SignIn: signedInAs(""), Launch: &view.Launch{ID: "l2", Stage: view.Creating, Retryable: true, FreshUntil: &later}}, working, "Encounter Launcher: Preparing the encounter",
			[]string{"Signed in as s-1", "Sign out → sign-out", "Preparing the encounter", "Cancel opening → cancel l2", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a failed launch": {
			view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l3", Stage: view.Failed, Problem: failure, Retryable: true}}, attention, "Encounter Launcher needs your attention",
			[]string{"Signed in as a", "Sign out → sign-out", "Needs attention: " + failure.Sentence, "Try again → retry l3", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a failed launch that cannot be retried": {
			view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l3", Stage: view.Failed, Problem: failure}}, attention, "Encounter Launcher needs your attention",
			[]string{"Signed in as a", "Sign out → sign-out", "Needs attention: " + failure.Sentence, "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a launch that went well": {
			view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l4", Stage: view.Opened}}, idle, "Encounter Launcher",
			[]string{"Signed in as a", "Sign out → sign-out", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a launch that went well, a moment ago": {
			view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l4", Stage: view.Opened, FreshUntil: &later}}, idle, "Encounter Launcher",
			[]string{"Signed in as a", "Sign out → sign-out", "Didn't open? Get a fresh link → fresh-link l4", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a launch whose time for a fresh link is over": {
			view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l4", Stage: view.Opened, FreshUntil: &noon}}, idle, "Encounter Launcher",
			[]string{"Signed in as a", "Sign out → sign-out", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a policy that refuses launches": {
			view.Snapshot{SignIn: signedInAs("a"), Policy: view.Policy{RefusesLaunches: true}}, attention, "Encounter Launcher needs your attention",
			[]string{"Signed in as a", "Sign out → sign-out", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"links that another program receives": {
			view.Snapshot{SignIn: signedInAs("a"), Link: view.Link{State: view.LinkOther}}, attention, "Encounter Launcher needs your attention",
			[]string{"Signed in as a", "Sign out → sign-out", "Needs attention: Links from the EHR open with another program.", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"links that nobody receives": {
			view.Snapshot{SignIn: signedInAs("a"), Link: view.Link{State: view.LinkNobody}}, attention, "Encounter Launcher needs your attention",
			[]string{"Signed in as a", "Sign out → sign-out", "Needs attention: Links from the EHR open with no program.", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a policy that hides what can be hidden": {
			view.Snapshot{SignIn: signedInAs("a"), Recents: []view.Recent{{ID: "r1", OpenedAt: noon}}, Hidden: []string{
				view.HideSignIn, view.HideSignOut, view.HideRecents, view.HideSettings, view.HideDiagnostics, view.HideQuit, "from-the-future",
			}}, idle, "Encounter Launcher",
			[]string{"Signed in as a", "Open Encounter Launcher → open-window"},
		},
		"signed out, and a policy that hides what can be hidden": {
			view.Snapshot{SignIn: view.SignIn{State: view.SignedOut}, Hidden: []string{view.HideSignIn, view.HideSignOut, view.HideRecents, view.HideQuit}}, signedOut, "Encounter Launcher: not signed in",
			[]string{"Not signed in", "Open Encounter Launcher → open-window"},
		},
		"a sign-in that goes on although policy hides its beginning": {
			view.Snapshot{SignIn: view.SignIn{State: view.SigningInNow, PageOpen: true}, Hidden: []string{view.HideSignIn, view.HideSignOut}}, working, "Encounter Launcher: Waiting for you to sign in",
			[]string{"Waiting for you to sign in", "Open the sign-in page again → show-sign-in", "Cancel sign-in → cancel", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
	} {
		m := menu(c.snapshot, words, noon)
		if got := visible(m); strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got, c.want)
		}
		if m.face != c.face || m.tooltip != c.tooltip {
			t.Errorf("%s: face %d, tooltip %q", name, m.face, m.tooltip)
		}
	}
}

func TestOfManyRecentsTheNewestAreShown(t *testing.T) {
	s := view.Snapshot{SignIn: signedInAs("a")}
	for n := range 25 {
		s.Recents = append(s.Recents, view.Recent{ID: fmt.Sprint("r", n), OpenedAt: noon})
	}
	m := menu(s, text.For("en"), noon)
	for n := range slots {
		if got := m.lines[firstSlot+n].id; got != s.Recents[n].ID {
			t.Errorf("slot %d stands for %q", n, got)
		}
	}
	if m.lines[noRecentsLine].title != "" || m.lines[windowLine].intent != openWindow {
		t.Error("the recents ran over into other lines")
	}
}

func TestTimesAreWrittenAsInTheLocaleAndInTheZoneOfTheClock(t *testing.T) {
	s := view.Snapshot{Recents: []view.Recent{{ID: "r1", OpenedAt: noon.Add(-15 * time.Hour)}}}
	zone := time.FixedZone("", 2*60*60)
	for locale, want := range map[string]string{
		"en": "yesterday 23:00 · Encounter", "en-GB": "yesterday 23:00 · Encounter", "en-US": "yesterday 11:00\u00a0PM · Encounter",
	} {
		if got := menu(s, text.For("en").In(locale), noon.In(zone)).lines[firstSlot].title; got != want {
			t.Errorf("%s: got %q, want %q", locale, got, want)
		}
	}
}

// hostile are texts that try to be more than one short line of text.
var hostile = map[string]string{
	"HTML":           `<b>bold</b><img src="https://evil.example/x"><script>alert(1)</script>`,
	"entities":       `&lt;b&gt; &amp; &#x202e;`,
	"direction":      "\u202eevil\u2066\u200f\u061c",
	"10 KB":          strings.Repeat("0123456789", 1024),
	"emoji":          strings.Repeat("👩‍⚕️🏥", 40),
	"lines":          "one\ntwo\r\nthree\u2028four\vfive",
	"columns":        "left\tright",
	"access keys":    "_a & b && c __d",
	"zero bytes":     "a\x00b\x1b[31mc",
	"broken":         "a\xff\xfeb\ufffd",
	"only invisible": "\u200b\u2060\ufeff\u00ad",
	"marks":          "a" + strings.Repeat("\u0301", 500),
	"placeholders":   "{person} {time} {label} {organization} {sentence}",
}

// everywhere is a snapshot in which every text from outside is s.
func everywhere(s string) view.Snapshot {
	fresh := noon.Add(time.Minute)
	return view.Snapshot{
		SignIn: signedInAs(s), OrganizationName: s, HelpDeskURL: "https://help.example/?" + s,
		Recents: []view.Recent{{ID: "r1", Label: s, OpenedAt: noon, Status: "exported"}, {ID: "r2", Label: s, OpenedAt: noon, Status: s}},
		Launch:  &view.Launch{ID: "l1", Stage: view.Failed, Label: s, Retryable: true, FreshUntil: &fresh, Problem: &view.Problem{Sentence: s, NextStep: s, Reference: s}},
	}
}

func TestAHostileTextIsInertInEveryLineAndNeverInTheTooltip(t *testing.T) {
	words := text.For("en")
	for name, s := range hostile {
		m := menu(everywhere(s), words, noon)
		for n, l := range m.lines {
			if utf8.RuneCountInString(l.title) > 150 || !utf8.ValidString(l.title) {
				t.Errorf("%s: line %d has %d characters, %.80q", name, n, utf8.RuneCountInString(l.title), l.title)
			}
			for _, r := range l.title {
				if r != ' ' && (unicode.IsSpace(r) || unicode.In(r, unicode.C)) {
					t.Errorf("%s: line %d holds %U", name, n, r)
				}
			}
			if strings.Contains(l.title, "help.example") {
				t.Errorf("%s: line %d shows an address", name, n)
			}
		}
		if m.tooltip != "Encounter Launcher needs your attention" {
			t.Errorf("%s: tooltip %q", name, m.tooltip)
		}
	}
}

func TestEveryWordOfTheMenuIsInTheCatalogue(t *testing.T) {
	words := text.For("en")
	for _, stage := range []view.Stage{view.Received, view.SigningIn, view.Creating, view.Opening, view.Opened, view.Failed, view.Cancelled} {
		for _, state := range []view.SignInState{view.SignedOut, view.SigningInNow, view.SignedIn} {
			for _, recents := range [][]view.Recent{nil, {{ID: "r", OpenedAt: noon}, {ID: "q", Label: "l", OpenedAt: noon.AddDate(0, -3, 0)}}} {
				m := menu(view.Snapshot{
					SignIn: view.SignIn{State: state, Person: &view.Person{Email: "e"}}, OrganizationName: "o", Recents: recents,
					Launch: &view.Launch{ID: "l", Stage: stage, Retryable: true, Problem: &view.Problem{Sentence: "s"}},
				}, words, noon)
				for _, l := range append(m.lines[:], line{title: m.tooltip}) {
					for _, bad := range []string{"tray.", "stage.", "time.", "{"} {
						if strings.Contains(l.title, bad) {
							t.Errorf("%q", l.title)
						}
					}
				}
			}
		}
	}
}
