package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/view"
)

const (
	classesOfTheTest = `Software\Classes\encounter-launcher-agent-of-the-test`
	runKey           = `Software\Microsoft\Windows\CurrentVersion\Run`
)

// command writes the command of a scheme's key as an installer does.
func command(t *testing.T, root registry.Key, text string) {
	t.Helper()
	for _, v := range [][3]string{{"", "URL Protocol", ""}, {`\shell\open\command`, "", text}} {
		k, _, err := registry.CreateKey(root, classesOfTheTest+v[0], registry.SET_VALUE)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.SetStringValue(v[1], v[2]); err != nil {
			t.Fatal(err)
		}
		_ = k.Close()
	}
}

func removeClass(root registry.Key) {
	for _, below := range []string{`\shell\open\command`, `\shell\open`, `\shell`, `\DefaultIcon`, ``} {
		_ = registry.DeleteKey(root, classesOfTheTest+below)
	}
}

// atStart is the agent of the test's own program and a scheme of the test's own.
func atStart(t *testing.T) (a *Agent, l paths.Layout, self string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "links") // t.TempDir cannot empty it under Wine
	if err != nil {
		t.Fatal(err)
	}
	clean := func() {
		removeClass(registry.CURRENT_USER)
		removeClass(registry.LOCAL_MACHINE)
		if k, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.SET_VALUE); err == nil {
			_ = k.DeleteValue("encounter-launcher-agent-of-the-test")
			_ = k.Close()
		}
	}
	clean()
	l = paths.Under(dir, "agent-of-the-test")
	t.Cleanup(func() {
		clean()
		_ = os.Remove(l.LinkMark())
		_ = os.Remove(l.LinkTold())
		_ = os.RemoveAll(dir)
	})
	if a, err = newAgent(Options{Layout: l, Version: "test", Keyring: tokenstore.Memory(), Headless: true}); err != nil {
		t.Fatal(err)
	}
	if self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	return a, l, self
}

func TestOnWindowsTheLinksAreWatchedInTheRegistry(t *testing.T) {
	a, l, self := atStart(t)
	other := filepath.Join(os.Getenv("SystemRoot"), "system32", "cmd.exe")
	lost := ""
	look := func(when string, want view.LinkState, told bool) {
		t.Helper()
		lost = a.lookAtLinks(self, lost)
		s := a.Snapshot()
		if s.Link.State != want || (s.Notice != nil && s.Notice.Kind == view.NoticeLinkTaken) != told {
			t.Errorf("%s: %+v, told %+v", when, s.Link, s.Notice)
		}
	}
	look("nobody, and never ours", view.LinkUnknown, false)
	command(t, registry.LOCAL_MACHINE, `"`+other+`" "%1"`)
	look("somebody else, and never ours", view.LinkUnknown, false)
	if err := scheme.Register(l, self); err != nil {
		t.Fatal(err)
	}
	look("ours", view.LinkOurs, false)
	command(t, registry.CURRENT_USER, `"`+other+`" "%1"`)
	look("another program", view.LinkOther, true)
	look("still", view.LinkOther, true)
	command(t, registry.CURRENT_USER, `"`+self+`" "%1"`)
	look("ours once more", view.LinkOurs, false)
	command(t, registry.CURRENT_USER, `"`+self+`" status "%1"`)
	look("ours with more than the link", view.LinkNobody, true)
	command(t, registry.CURRENT_USER, `"`+filepath.Join(filepath.Dir(self), "gone.exe")+`" "%1"`)
	look("a program that is missing", view.LinkNobody, true)
	if err := scheme.Unregister(l); err != nil {
		t.Fatal(err)
	}
	look("unregistered", view.LinkUnknown, false)
	if _, err := scheme.Repair(l, self); err != nil {
		t.Fatal(err)
	}
	look("repaired", view.LinkOurs, false)
	removeClass(registry.CURRENT_USER)
	removeClass(registry.LOCAL_MACHINE)
	look("nobody", view.LinkNobody, true)
}

func TestOnWindowsTheProgramThatOwnsTheLinksStartsAtLogon(t *testing.T) {
	a, l, self := atStart(t)
	entry := func() string {
		k, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE)
		if err != nil {
			return ""
		}
		defer k.Close()
		text, _, _ := k.GetStringValue(l.Name)
		return text
	}
	a.applyAutostart(true)
	if got := entry(); got != "" {
		t.Errorf("a program that was only started here has made itself at home: %q", got)
	}
	if err := scheme.Register(l, self); err != nil {
		t.Fatal(err)
	}
	a.applyAutostart(true)
	if got := entry(); !strings.EqualFold(got, `"`+self+`" agent`) {
		t.Errorf("at logon starts %q", got)
	}
	a.applyAutostart(false)
	if got := entry(); got != "" {
		t.Errorf("left: %q", got)
	}
	command(t, registry.CURRENT_USER, `"`+filepath.Join(os.Getenv("SystemRoot"), "system32", "cmd.exe")+`" "%1"`)
	a.applyAutostart(true)
	if got := entry(); got != "" {
		t.Errorf("it starts although another program owns the links: %q", got)
	}
}
