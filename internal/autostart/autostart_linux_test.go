package autostart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

const program = "/opt/encounter-launcher/encounter-launcher"

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// now is the text of this user's entry; empty for none.
func now(l paths.Layout) string {
	text, _ := os.ReadFile(ownFile(l))
	return string(text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(problem.Of(err).LogValue())
	}
}

func TestTheAgentStartsAtLogonAndNoMoreWithoutATrace(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	must(t, Set(l, program, false))
	must(t, Remove(l))
	if _, err := os.Lstat(l.ConfigHome()); err == nil {
		t.Error("there was nothing to do, and something was written")
	}
	must(t, Set(l, program, true))
	text := now(l)
	if !strings.Contains(text, "\nExec=\""+program+"\" agent\n") || !strings.Contains(text, "\n"+ourMark+"\n") || strings.Contains(text, "Hidden") {
		t.Errorf("the entry is\n%s", text)
	}
	before, _ := os.Stat(ownFile(l))
	must(t, Set(l, program, true))
	if after, _ := os.Stat(ownFile(l)); !os.SameFile(before, after) {
		t.Error("what is there already was written again")
	}
	must(t, Set(l, "/usr/bin/other", true)) // the program has moved
	if !strings.Contains(now(l), `"/usr/bin/other"`) {
		t.Errorf("the entry is\n%s", now(l))
	}
	must(t, Set(l, program, false))
	if _, err := os.Lstat(filepath.Dir(ownFile(l))); err == nil {
		t.Error("something is left")
	}
	must(t, Set(l, program, true))
	must(t, Remove(l))
	must(t, Remove(l))
	if _, err := os.Lstat(filepath.Dir(ownFile(l))); err == nil {
		t.Error("something is left")
	}
}

func TestWhereAPackageStartsItForAllTheUserHasNoEntryOrOneThatSwitchesItOff(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	must(t, Set(l, program, true)) // before the package came
	put(t, l.MachineAutostartFile(), "[Desktop Entry]\nType=Application\nExec=/usr/bin/encounter-launcher agent\n")
	must(t, Set(l, program, true))
	if now(l) != "" {
		t.Errorf("two entries say the same:\n%s", now(l))
	}
	must(t, Set(l, program, false))
	if text := now(l); !strings.Contains(text, "\nHidden=true\n") || strings.Contains(text, "Exec") {
		t.Errorf("the entry is\n%s", text)
	}
	must(t, Set(l, program, true))
	if now(l) != "" {
		t.Errorf("still off:\n%s", now(l))
	}
	must(t, Set(l, program, false))
	must(t, Remove(l))
	if now(l) != "" {
		t.Errorf("removing left\n%s", now(l))
	}
}

func TestAnEntryForAllThatAnAdministratorHasHiddenStartsNobody(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	put(t, l.MachineAutostartFile(), "[Desktop Entry]\nType=Application\nExec=/usr/bin/encounter-launcher agent\nHidden = true\n")
	must(t, Set(l, program, false))
	if now(l) != "" {
		t.Errorf("what does not start anyway was switched off:\n%s", now(l))
	}
	must(t, Set(l, program, true)) // policy or person want it
	if !strings.Contains(now(l), "\nExec=") {
		t.Errorf("the entry is\n%s", now(l))
	}
	must(t, Set(l, program, false))
	if now(l) != "" {
		t.Errorf("left\n%s", now(l))
	}
}

func TestAnEntryOfSomebodyElseUnderOurNameIsLeftAlone(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	theirs := "[Desktop Entry]\nType=Application\nExec=/home/me/my-own-start\nComment=" + ourMark + "\n"
	put(t, ownFile(l), theirs)
	for _, on := range []bool{true, false} {
		if err := Set(l, program, on); !problem.IsCode(err, problem.Internal) {
			t.Errorf("on %v: %v", on, err)
		}
	}
	must(t, Remove(l))
	if now(l) != theirs {
		t.Errorf("it is now\n%s", now(l))
	}
}

func TestEveryPathThatTheExecKeyCanNameIsQuotedAndTheOthersAreRefused(t *testing.T) {
	for path, want := range map[string]string{
		"/opt/My Apps/el":   `"/opt/My Apps/el" agent`,
		`/opt/a"b/el`:       `"/opt/a\\"b/el" agent`,
		`/opt/a\b/el`:       `"/opt/a\\\\b/el" agent`,
		"/opt/$HOME/`x`/el": "\"/opt/\\\\$HOME/\\\\`x\\\\`/el\" agent",
		"/opt/50%u/el":      `env "/opt/50%%u/el" agent`,
		"relative/el":       "", "/opt/a\nExec=evil": "", "/opt/a=b": "", "/opt/\xff": "", "": "",
	} {
		got, err := execLine(path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", path, got, err)
		}
	}
}
