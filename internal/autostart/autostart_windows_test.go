package autostart

import (
	"testing"

	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

const program = `C:\Program Files\Encounter Launcher\encounter-launcher.exe`

// ofTheTest has a name of its own: the tests write to the registry of whoever runs
// them.
func ofTheTest(t *testing.T) paths.Layout {
	t.Helper()
	l := paths.Of("of-the-test")
	t.Cleanup(func() {
		if k, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.SET_VALUE); err == nil {
			_ = k.DeleteValue(l.Name)
			_ = k.Close()
		}
	})
	return l
}

// now is the entry of our name; empty for none.
func now(t *testing.T, l paths.Layout) string {
	t.Helper()
	k, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE)
	if err != nil {
		return ""
	}
	defer k.Close()
	text, _, _ := k.GetStringValue(l.Name)
	return text
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(problem.Of(err).LogValue())
	}
}

func TestTheAgentStartsAtLogonAndNoMoreWithoutATrace(t *testing.T) {
	l := ofTheTest(t)
	must(t, Set(l, program, false))
	must(t, Remove(l))
	for _, where := range []string{program, `D:\moved\encounter-launcher.exe`} {
		must(t, Set(l, where, true))
		must(t, Set(l, where, true))
		if got := now(t, l); got != `"`+where+`" agent` {
			t.Errorf("the entry is %q", got)
		}
	}
	must(t, Set(l, program, false))
	if got := now(t, l); got != "" {
		t.Errorf("left: %q", got)
	}
	must(t, Set(l, program, true))
	must(t, Remove(l))
	must(t, Remove(l))
	if got := now(t, l); got != "" {
		t.Errorf("left: %q", got)
	}
	if err := Set(l, `C:\a" b\x.exe`, true); !problem.IsCode(err, problem.Internal) || now(t, l) != "" {
		t.Errorf("a path with a quote: %v, %q", err, now(t, l))
	}
}

func TestAnEntryOfSomebodyElseUnderOurNameIsLeftAlone(t *testing.T) {
	l := ofTheTest(t)
	k, _, err := registry.CreateKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE|registry.SET_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	const theirs = `C:\mine\start.cmd`
	if err := k.SetStringValue(l.Name, theirs); err != nil {
		t.Fatal(err)
	}
	for _, on := range []bool{true, false} {
		if err := Set(l, program, on); !problem.IsCode(err, problem.Internal) {
			t.Errorf("on %v: %v", on, err)
		}
	}
	must(t, Remove(l))
	if got := now(t, l); got != theirs {
		t.Errorf("it is now %q", got)
	}
	if err := k.SetDWordValue(l.Name, 1); err != nil {
		t.Fatal(err)
	}
	if err := Set(l, program, true); !problem.IsCode(err, problem.Internal) {
		t.Errorf("a number: %v", err)
	}
	must(t, Remove(l))
	if n, _, err := k.GetIntegerValue(l.Name); err != nil || n != 1 {
		t.Errorf("the number is now %d, %v", n, err)
	}
}
