package tray

import (
	"fmt"
	"strings"
	"testing"
	"time"
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
	failure := &view.Problem{Code: problem.OrgUnreachable, Sentence: "Your organisation's server cannot be reached."}
	for name, c := range map[string]struct {
		snapshot view.Snapshot
		face     face
		tooltip  string
		want     []string
	}{
		"signed out": {
			view.Snapshot{SignIn: view.SignIn{State: view.SignedOut}}, signedOut, "Encounter Launcher: not signed in",
			[]string{"Not signed in", "No recent encounters", "Sign in → sign-in", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"waiting for a sign-in": {
			view.Snapshot{SignIn: view.SignIn{State: view.SigningInNow}}, working, "Encounter Launcher: Waiting for you to sign in",
			[]string{"Waiting for you to sign in", "No recent encounters", "Cancel sign-in → cancel", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a launch waits for a sign-in": {
			view.Snapshot{SignIn: view.SignIn{State: view.SigningInNow}, Launch: &view.Launch{ID: "l1", Stage: view.SigningIn}}, working, "Encounter Launcher: Waiting for you to sign in",
			[]string{"Waiting for you to sign in", "Waiting for you to sign in", "Cancel opening → cancel l1", "No recent encounters", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"idle, managed": {
			view.Snapshot{SignIn: signedInAs("ada@clinic.example"), OrganizationName: "Clinic & Sons", Recents: []view.Recent{
				{ID: "r2", Label: "A. B.", OpenedAt: noon.Add(-time.Hour)}, {ID: "r1", OpenedAt: noon.Add(-24 * time.Hour)},
			}}, idle, "Encounter Launcher",
			[]string{"Signed in as ada@clinic.example", "11:00 · A. B. → open-recent r2", "yesterday 12:00 · Encounter → open-recent r1", "Sign out → sign-out", "Open Encounter Launcher → open-window", "Managed by Clinic & Sons", "Quit → quit"},
		},
		"a running launch": {
			view.Snapshot{SignIn: signedInAs(""), Launch: &view.Launch{ID: "l2", Stage: view.Creating, Retryable: true}}, working, "Encounter Launcher: Preparing the encounter",
			[]string{"Signed in as s-1", "Preparing the encounter", "Cancel opening → cancel l2", "No recent encounters", "Sign out → sign-out", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a failed launch": {
			view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l3", Stage: view.Failed, Problem: failure, Retryable: true}}, attention, "Encounter Launcher needs your attention",
			[]string{"Signed in as a", "Needs attention: " + failure.Sentence, "Try again → retry l3", "No recent encounters", "Sign out → sign-out", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a failed launch that cannot be retried": {
			view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l3", Stage: view.Failed, Problem: failure}}, attention, "Encounter Launcher needs your attention",
			[]string{"Signed in as a", "Needs attention: " + failure.Sentence, "No recent encounters", "Sign out → sign-out", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a launch that went well": {
			view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l4", Stage: view.Opened}}, idle, "Encounter Launcher",
			[]string{"Signed in as a", "No recent encounters", "Sign out → sign-out", "Open Encounter Launcher → open-window", "Quit → quit"},
		},
		"a policy that refuses launches": {
			view.Snapshot{SignIn: signedInAs("a"), Policy: view.Policy{RefusesLaunches: true}}, attention, "Encounter Launcher needs your attention",
			[]string{"Signed in as a", "No recent encounters", "Sign out → sign-out", "Open Encounter Launcher → open-window", "Quit → quit"},
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
	if m.lines[signInLine].title != "" || m.lines[signOutLine].intent != signOut {
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

func TestAHostileTextIsShortInertAndOnOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                         "plain",
		"  a \n\t b  ":                  "a b",
		"a\x00b\x1b[31m":                "ab[31m",
		"\u202eevil\u2066\u200b":        "evil",
		"a\u2028b\u2029c":               "a b c",
		"<b>&amp;</b>":                  "<b>&amp;</b>",
		"\xff\xfe":                      "",
		strings.Repeat("é", 61):         strings.Repeat("é", 60) + "…",
		strings.Repeat("é", 60):         strings.Repeat("é", 60),
		strings.Repeat("x", 59) + " yz": strings.Repeat("x", 59) + "…",
	} {
		got := inert(in, longName)
		if got != want || !utf8.ValidString(got) {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	m := menu(view.Snapshot{SignIn: signedInAs("a\nb"), OrganizationName: "o\np", Recents: []view.Recent{{ID: "r", Label: strings.Repeat("\u202eL\n", 5000), OpenedAt: noon}}}, text.For("en"), noon)
	for _, l := range m.lines {
		if strings.ContainsAny(l.title, "\n\u202e") || utf8.RuneCountInString(l.title) > 100 {
			t.Errorf("%.80q", l.title)
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
