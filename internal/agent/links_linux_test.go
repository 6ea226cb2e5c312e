package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"encounterlauncher/internal/control"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/view"
)

// linked is a hospital whose computer has nothing registered, and the hourly timer of
// the links in the test's hand.
func linked(t *testing.T) (h *hospital, hand *hours, self string) {
	t.Helper()
	h, hand = newHospital(t), new(hours)
	h.setPolicy(map[string]any{"HelpDeskURL": "https://help.hospital.example/"})
	h.hook = func(a *Agent) { a.linksTimer = hand.timer }
	t.Setenv("XDG_DATA_DIRS", filepath.Join(h.root, "machine"))
	t.Setenv("XDG_CONFIG_DIRS", filepath.Join(h.root, "xdg"))
	t.Setenv("XDG_CURRENT_DESKTOP", "")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return h, hand, self
}

func (h *hospital) register(executable string) {
	h.t.Helper()
	if err := scheme.Register(h.layout, executable); err != nil {
		h.t.Fatal(err)
	}
}

// entry puts a desktop file for the links, as a package or another program does, and
// the cache that names it.
func (h *hospital) entry(dir, id, exec string) {
	h.t.Helper()
	key := "x-scheme-handler/" + h.layout.Scheme()
	for name, text := range map[string]string{
		id:               "[Desktop Entry]\nType=Application\nName=Of the test\nExec=" + exec + "\nMimeType=" + key + ";\n",
		"mimeinfo.cache": "[MIME Cache]\n" + key + "=" + id + ";\n",
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *hospital) times(outcome string) (n int) {
	for _, l := range h.auditLines() {
		if l.Outcome == outcome {
			n++
		}
	}
	return n
}

func linkIs(want view.LinkState) func(view.Snapshot) bool {
	return func(s view.Snapshot) bool { return s.Link.State == want }
}

func TestThatTheLinksGoToAnotherProgramIsToldOnceAndThatTheyAreBackToo(t *testing.T) {
	h, hand, self := linked(t)
	h.register(self)
	w := h.logOn()
	hand.untilMoment(w, linksRest)
	if s := w.agent.Snapshot(); s.Link.State != view.LinkUnknown {
		t.Errorf("before anybody has looked: %+v", s.Link)
	}
	hand.pass(w, linksRest, "the first look", linkIs(view.LinkOurs))
	hand.untilMoment(w, linksAgain)

	h.register("/bin/true")
	s := hand.pass(w, linksAgain, "the other program", linkIs(view.LinkOther))
	if n := s.Notice; n == nil || n.Kind != view.NoticeLinkTaken || !slices.Equal(n.Actions, []string{view.ActionHelpDesk, view.ActionOpenWindow}) {
		t.Fatalf("told: %+v", n)
	}
	told := s.Notice.ID
	h.audited("link_taken", "")
	for range 3 {
		hand.pass(w, linksAgain, "another look", func(s view.Snapshot) bool { return s.Revision > told+3 })
	}
	if s := w.agent.Snapshot(); s.Notice == nil || s.Notice.ID != told || h.times("link_taken") != 1 {
		t.Errorf("told again: %+v, and %d lines", s.Notice, h.times("link_taken"))
	}

	h.register("/bin/false") // a change is told
	s = hand.pass(w, linksAgain, "another notice", func(s view.Snapshot) bool { return s.Notice.ID != told })
	if s.Link.State != view.LinkOther {
		t.Errorf("the links are %+v", s.Link)
	}

	h.register(self)
	s = hand.pass(w, linksAgain, "the links to be back", linkIs(view.LinkOurs))
	if s.Notice != nil {
		t.Errorf("still told: %+v", s.Notice)
	}
	h.audited("link_returned", "")
	h.until("both lines", func() bool { return h.times("link_taken") == 2 && h.times("link_returned") == 1 })
}

func TestALookAtTheSetUpLooksAtTheLinksAtOnce(t *testing.T) {
	h, hand, self := linked(t)
	h.register(self)
	w := h.logOn()
	hand.pass(w, linksRest, "the first look", linkIs(view.LinkOurs))
	hand.untilMoment(w, linksAgain)
	h.register("/bin/true")
	w.do(control.Intent{Name: control.Check})
	w.await("the other program", linkIs(view.LinkOther))
	h.register(self)
	w.await("the look's end", func(s view.Snapshot) bool { return s.Checkup != nil && !s.Checkup.Running })
	w.do(control.Intent{Name: control.Check})
	w.await("the links to be back", linkIs(view.LinkOurs))
}

func TestWhoHadTheLinksIsKnownAfterARestartUntilItIsUnregistered(t *testing.T) {
	h, hand, self := linked(t)
	h.register(self)
	w := h.logOn()
	hand.pass(w, linksRest, "the first look", linkIs(view.LinkOurs))
	w.logOff()
	h.register("/bin/true")
	w = h.logOn()
	hand.pass(w, linksRest, "the other program", linkIs(view.LinkOther))
	if err := scheme.Unregister(h.layout); err != nil {
		t.Fatal(err)
	}
	s := hand.pass(w, linksAgain, "nothing to be amiss", linkIs(view.LinkUnknown))
	if s.Notice != nil || h.times("link_returned") > 0 {
		t.Errorf("told: %+v", s.Notice)
	}
}

func TestAnAgentThatWasOnlyStartedFromSomewhereCriesNoThief(t *testing.T) {
	h, hand, _ := linked(t)
	w := h.logOn()
	looked := func(d time.Duration) view.Snapshot {
		before := w.agent.Snapshot().Revision
		return hand.pass(w, d, "a look", func(s view.Snapshot) bool { return s.Revision > before })
	}
	looked(linksRest)
	h.entry(filepath.Join(h.layout.DataHome(), "applications"), "other.desktop", "/bin/true %u")
	if s := looked(linksAgain); s.Link.State != view.LinkUnknown || s.Notice != nil || h.times("link_taken") > 0 {
		t.Errorf("the links are %+v, told %+v", s.Link, s.Notice)
	}
	// The links of the computer's installed copy come to this agent too.
	installed := filepath.Join(h.root, "bin", h.layout.Name)
	copyOf(t, "/bin/true", installed)
	h.entry(filepath.Join(h.root, "machine", "applications"), h.layout.Name+".desktop", installed+" %u")
	if err := os.RemoveAll(filepath.Join(h.layout.DataHome(), "applications")); err != nil {
		t.Fatal(err)
	}
	hand.pass(w, linksAgain, "the computer's own copy", linkIs(view.LinkOurs))
	// From then on another program is a thief.
	h.entry(filepath.Join(h.layout.DataHome(), "applications"), "other.desktop", "/bin/true %u")
	hand.pass(w, linksAgain, "the thief", linkIs(view.LinkOther))
	h.audited("link_taken", "")
}

func TestATheftIsToldOnceAlsoWhenTheAgentIsStartedAgain(t *testing.T) {
	h, hand, self := linked(t)
	h.register(self)
	w := h.logOn()
	hand.pass(w, linksRest, "the first look", linkIs(view.LinkOurs))
	hand.untilMoment(w, linksAgain)
	h.register("/bin/true")
	hand.pass(w, linksAgain, "the thief", linkIs(view.LinkOther))
	w.logOff()
	w = h.logOn()
	if s := hand.pass(w, linksRest, "the same thief", linkIs(view.LinkOther)); s.Notice != nil {
		t.Errorf("told again: %+v", s.Notice)
	}
	w.logOff()
	h.until("the line of the theft", func() bool { return h.times("link_taken") == 1 })
	h.register("/bin/false")
	w = h.logOn()
	s := hand.pass(w, linksRest, "the new thief", linkIs(view.LinkOther))
	if n := s.Notice; n == nil || n.Kind != view.NoticeLinkTaken {
		t.Errorf("of a new thief it is told %+v", n)
	}
	h.until("the line of the new theft", func() bool { return h.times("link_taken") == 2 })
	w.logOff()
	h.register(self) // the return is in the audit although nobody was there to see it
	w = h.logOn()
	hand.pass(w, linksRest, "the links to be back", linkIs(view.LinkOurs))
	h.audited("link_returned", "")
	w.logOff()
	h.register("/bin/false")
	w = h.logOn()
	hand.pass(w, linksRest, "the thief that is there once more", linkIs(view.LinkOther))
	h.until("the line of the third theft", func() bool { return h.times("link_taken") == 3 })
	w.logOff()
	if left, err := os.ReadFile(h.layout.LinkTold()); err != nil || len(left) != 64 {
		t.Errorf("kept: %q, %v", left, err)
	}
	if err := scheme.Unregister(h.layout); err != nil {
		t.Fatal(err)
	}
	if told := scheme.Told(h.layout); told != "" {
		t.Errorf("after unregistering %q is left", told)
	}
}

func TestALookThatFailsForgetsNeitherTheThiefNorTheReturn(t *testing.T) {
	h, hand, self := linked(t)
	var failing atomic.Bool
	var failed atomic.Int32
	h.hook = func(a *Agent) {
		a.linksTimer = hand.timer
		a.linksLook = func(l paths.Layout) (scheme.State, error) {
			if failing.Load() {
				failed.Add(1)
				return scheme.State{}, problem.New(problem.Internal, errors.New("of the test"))
			}
			return scheme.Look(l)
		}
	}
	h.register(self)
	w := h.logOn()
	hand.pass(w, linksRest, "the first look", linkIs(view.LinkOurs))
	hand.untilMoment(w, linksAgain)
	h.register("/bin/true")
	told := hand.pass(w, linksAgain, "the thief", linkIs(view.LinkOther)).Notice.ID
	stands := func(when string) {
		t.Helper()
		if s := w.agent.Snapshot(); s.Link.State != view.LinkOther || s.Notice == nil || s.Notice.ID != told {
			t.Errorf("%s: %+v, told %+v", when, s.Link, s.Notice)
		}
	}
	fail := func() {
		t.Helper()
		failed.Store(0)
		failing.Store(true)
		h.until("looks that fail", func() bool { w.agent.linksDirty.ring(); return failed.Load() > 1 })
		failing.Store(false)
	}
	fail()
	stands("after a look that failed")
	before := w.agent.Snapshot().Revision
	hand.pass(w, linksAgain, "another look", func(s view.Snapshot) bool { return s.Revision > before+3 })
	stands("after a look that did not")
	if n := h.times("link_taken"); n != 1 {
		t.Errorf("%d lines say that the links are taken", n)
	}
	fail()
	h.register(self)
	hand.pass(w, linksAgain, "the links to be back", linkIs(view.LinkOurs))
	h.audited("link_returned", "")
}

func TestLinksThatDoNotArriveAreNotTakenForOurs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(h *hospital, self, user, theirs, machine string)
		want   view.LinkState
	}{
		"our program with more than the link": {func(h *hospital, self, user, _, _ string) {
			h.entry(user, h.layout.Name+".desktop", self+" status %u")
		}, view.LinkNobody},
		"a program of the machine that is missing": {func(h *hospital, _, _, _, machine string) {
			if err := scheme.Unregister(h.layout); err != nil {
				h.t.Fatal(err)
			}
			h.entry(machine, h.layout.Name+".desktop", filepath.Join(h.root, "gone", h.layout.Name)+" %u")
		}, view.LinkNobody},
		"a program of our name in a folder that anybody can change": {func(h *hospital, _, user, theirs, _ string) {
			if err := errors.Join(os.MkdirAll(theirs, 0o755), os.Chmod(theirs, 0o777), os.RemoveAll(user)); err != nil {
				h.t.Fatal(err)
			}
			copyOf(h.t, "/bin/true", filepath.Join(h.root, "theirs", h.layout.Name))
			h.entry(theirs, h.layout.Name+".desktop", filepath.Join(h.root, "theirs", h.layout.Name)+" %u")
		}, view.LinkOther},
		"a program of our name in a folder before the one that has ours": {func(h *hospital, self, user, theirs, machine string) {
			h.entry(machine, h.layout.Name+".desktop", self+" %u")
			if err := os.RemoveAll(user); err != nil {
				h.t.Fatal(err)
			}
			copyOf(h.t, "/bin/true", filepath.Join(h.root, "theirs", h.layout.Name))
			h.entry(theirs, h.layout.Name+".desktop", filepath.Join(h.root, "theirs", h.layout.Name)+" %u")
		}, view.LinkOther},
	} {
		t.Run(name, func(t *testing.T) {
			h, hand, self := linked(t)
			theirs, machine := filepath.Join(h.root, "theirs", "applications"), filepath.Join(h.root, "machine", "applications")
			t.Setenv("XDG_DATA_DIRS", filepath.Dir(theirs)+":"+filepath.Dir(machine))
			h.register(self)
			w := h.logOn()
			hand.pass(w, linksRest, "the first look", linkIs(view.LinkOurs))
			hand.untilMoment(w, linksAgain)
			c.change(h, self, filepath.Join(h.layout.DataHome(), "applications"), theirs, machine)
			s := hand.pass(w, linksAgain, "the links to be lost", linkIs(c.want))
			if s.Notice == nil || s.Notice.Kind != view.NoticeLinkTaken {
				t.Errorf("told: %+v", s.Notice)
			}
			h.audited("link_taken", "")
			w.do(control.Intent{Name: control.Check})
			s = w.await("the look's end", func(s view.Snapshot) bool { return s.Checkup != nil && !s.Checkup.Running })
			for _, item := range s.Checkup.Checks {
				if item.Name == view.CheckLink && item.State != view.CheckProblem {
					t.Errorf("the look at the set-up says %+v", item)
				}
			}
		})
	}
}

func copyOf(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAtItsStartTheAgentRemovesWhatAnOlderCopyHasLeftForThisUser(t *testing.T) {
	h, hand, self := linked(t)
	old := filepath.Join(h.root, "old", h.layout.Name)
	copyOf(t, "/bin/true", old)
	h.register(old)
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	// A package's program bears our name: here it leads to the test's own.
	installed := filepath.Join(h.root, "usr", h.layout.Name)
	if err := os.MkdirAll(filepath.Dir(installed), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, installed); err != nil {
		t.Fatal(err)
	}
	h.entry(filepath.Join(h.root, "machine", "applications"), h.layout.Name+".desktop", fmt.Sprintf("%s %%u", installed))
	w := h.logOn()
	hand.pass(w, linksRest, "the first look", linkIs(view.LinkOurs))
	h.audited("link_cleaned", "")
	if _, err := os.Lstat(filepath.Join(h.layout.DataHome(), "applications", h.layout.Name+".desktop")); err == nil {
		t.Error("the older copy's desktop file is still there")
	}
	if owner, err := scheme.Owner(h.layout); err != nil || !scheme.SameProgram(owner.Program, self) {
		t.Errorf("owner: %+v, %v", owner, err)
	}
	if h.times("link_taken") > 0 {
		t.Error("an older copy of this program was taken for a thief")
	}
}
