package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/view"
)

func TestOnlyTheProgramThatOwnsTheLinksStartsAtLogonAsThePersonWantsIt(t *testing.T) {
	h := newHospital(t)
	h.setPolicy(nil)
	h.hook = func(a *Agent) { a.settings.rest = 0 }
	w := h.logOn()
	file := filepath.Join(h.layout.ConfigHome(), "autostart", h.layout.Name+".desktop")
	exists := func() bool { _, err := os.Lstat(file); return err == nil }
	w.agent.applyAutostart(true)
	if exists() {
		t.Fatal("a program that was only started here has made itself at home")
	}
	if c := w.checked()[view.CheckLink]; c.Problem == nil || c.Problem.Code != problem.Internal {
		t.Errorf("nobody owns the links: %+v", c)
	}

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := scheme.Register(h.layout, self); err != nil {
		t.Fatal(err)
	}
	if c := w.checked()[view.CheckLink]; c.State != view.CheckOK {
		t.Errorf("this program owns the links: %+v", c.Problem)
	}
	w.do(control.Intent{Name: control.Choose, Key: "Notices", Value: "problems"}) // any change
	h.until("the entry", exists)
	if text, _ := os.ReadFile(file); !strings.Contains(string(text), self) {
		t.Errorf("it starts something else:\n%s", text)
	}
	w.do(control.Intent{Name: control.Choose, Key: "Autostart", Value: "false"})
	h.until("no entry", func() bool { return !exists() })

	// Another program takes the links over.
	if err := scheme.Register(h.layout, "/bin/true"); err != nil {
		t.Fatal(err)
	}
	w.agent.applyAutostart(true)
	if exists() {
		t.Error("it starts although another program owns the links")
	}
	if c := w.checked()[view.CheckLink]; c.Problem == nil {
		t.Error("the links of another program are taken for ours")
	}
}
