package tray

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"encounterlauncher/internal/text"
	"encounterlauncher/internal/view"
)

// recents makes a snapshot of a signed-in person with these recent encounters.
func recents(ids ...string) view.Snapshot {
	s := view.Snapshot{SignIn: signedInAs("a")}
	for _, id := range ids {
		s.Recents = append(s.Recents, view.Recent{ID: id, Label: id, OpenedAt: noon})
	}
	return s
}

func TestASlotOpensWhatItShows(t *testing.T) {
	var b board
	b.update(menu(recents("r1", "r2"), text.For("en"), noon), noon)
	for n, want := range []string{"r1", "r2"} {
		if intent, id, ok := b.click(firstSlot+n, noon.Add(settle)); !ok || intent != openRecent || id != want {
			t.Errorf("slot %d: %q %q %v", n, intent, id, ok)
		}
	}
}

func TestASlotWhoseEncounterChangedLessThanTwoSecondsBeforeTheClickOpensNothing(t *testing.T) {
	words := text.For("en")
	for name, next := range map[string]view.Snapshot{
		"reordered":        recents("r2", "r1", "r3"),
		"a new one on top": recents("r4", "r1", "r2", "r3"),
		"one removed":      recents("r2", "r3"),
		"another person's": recents("q1", "q2", "q3"),
		"a line appeared above": func() view.Snapshot {
			s := recents("r1", "r2", "r3")
			s.Launch = &view.Launch{ID: "l", Stage: view.Creating}
			return s
		}(),
	} {
		var b board
		b.update(menu(recents("r1", "r2", "r3"), words, noon), noon)
		changed := noon.Add(time.Minute)
		b.update(menu(next, words, changed), changed)
		for _, after := range []time.Duration{-time.Minute, 0, time.Millisecond, settle - 1} {
			if _, id, ok := b.click(firstSlot, changed.Add(after)); ok {
				t.Errorf("%s: %v after the change the click opened %s", name, after, id)
			}
		}
		if _, id, ok := b.click(firstSlot, changed.Add(settle)); !ok || id != next.Recents[0].ID {
			t.Errorf("%s: once it has settled the click opens %q, %v", name, id, ok)
		}
	}
}

func TestALineThatOpensALaunchAgainSettlesToo(t *testing.T) {
	words := text.For("en")
	fresh := noon.Add(time.Hour)
	of := func(id string) view.Snapshot {
		return view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: id, Stage: view.Failed, Problem: &view.Problem{Sentence: "s"}, Retryable: true, FreshUntil: &fresh}}
	}
	for line, want := range map[int]string{retryLine: retry, freshLine: freshLink} {
		var b board
		b.update(menu(of("l1"), words, noon), noon)
		changed := noon.Add(time.Minute)
		if intent, id, ok := b.click(line, changed); !ok || intent != want || id != "l1" {
			t.Errorf("got %q %q %v", intent, id, ok)
		}
		b.update(menu(of("l2"), words, changed), changed)
		if intent, id, ok := b.click(line, changed.Add(settle-1)); ok {
			t.Errorf("the click was meant for another encounter and asked for %s %s", intent, id)
		}
		if intent, id, ok := b.click(line, changed.Add(settle)); !ok || intent != want || id != "l2" {
			t.Errorf("got %q %q %v", intent, id, ok)
		}
	}
}

func TestQuitAndSignOutThatHaveJustMovedUnderThePointerDoNothing(t *testing.T) {
	words := text.For("en")
	running := view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l1", Stage: view.Creating}}
	over := view.Snapshot{SignIn: signedInAs("a"), Launch: &view.Launch{ID: "l1", Stage: view.Opened}}
	var b board
	b.update(menu(running, words, noon), noon)
	ended := noon.Add(time.Minute)
	b.update(menu(over, words, ended), ended) // the lines of the launch go, and those below come up
	if intent, _, ok := b.click(quitLine, ended.Add(settle-1)); ok {
		t.Errorf("the click was meant for another line and asked for %s", intent)
	}
	if intent, _, ok := b.click(quitLine, ended.Add(settle)); !ok || intent != quit {
		t.Errorf("got %q %v", intent, ok)
	}
	out := ended.Add(time.Minute)
	b.update(menu(view.Snapshot{}, words, out), out)
	in := out.Add(time.Minute)
	b.update(menu(over, words, in), in)
	if intent, _, ok := b.click(signOutLine, in.Add(settle-1)); ok {
		t.Errorf("the click was meant for signing in and asked for %s", intent)
	}
}

func TestAMenuThatIsOpenIsShutExactlyWhenALineComesGoesOrStandsForAnotherEncounter(t *testing.T) {
	words := text.For("en")
	s := recents("r1", "r2")
	s.SignIn = signedInAs("a")
	var b board
	if b.update(menu(s, words, noon), noon).moved {
		t.Error("the first picture of all shut a menu")
	}
	if b.update(menu(s, words, noon), noon).moved {
		t.Error("nothing changed, and the menu was shut")
	}
	s.Recents[1].Status = exported
	if c := b.update(menu(s, words, noon), noon); c.moved || !c.line[firstSlot+1] {
		t.Errorf("another text: %+v", c)
	}
	swapped := s
	swapped.Recents = []view.Recent{s.Recents[1], s.Recents[0]}
	out := view.Snapshot{SignIn: view.SignIn{State: view.SignedOut}}
	for name, next := range map[string]view.Snapshot{"another order": swapped, "signed out": out} {
		c := b
		if !c.update(menu(next, words, noon), noon).moved {
			t.Errorf("%s: the menu stays open and shows what was", name)
		}
	}
}

func TestASlotThatKeptItsEncounterAndItsPlaceStaysClickable(t *testing.T) {
	words := text.For("en")
	var b board
	b.update(menu(recents("r1", "r2", "r3"), words, noon), noon)
	changed := noon.Add(time.Minute)
	again := recents("r1", "r3", "r2")
	again.Recents[0].Status = "exported"
	again.Revision = 99
	b.update(menu(again, words, changed), changed)
	if _, id, ok := b.click(firstSlot, changed); !ok || id != "r1" {
		t.Errorf("got %q, %v", id, ok)
	}
}

func TestAClickOnWhatIsHiddenOrOnlyReadDoesNothing(t *testing.T) {
	var b board
	later := noon.Add(time.Hour)
	for _, n := range []int{-1, 0, firstSlot, lines, lines + 7} {
		if _, _, ok := b.click(n, later); ok {
			t.Errorf("line %d of a menu that was never drawn", n)
		}
	}
	s := recents("r1")
	s.OrganizationName = "o"
	b.update(menu(s, text.For("en"), noon), noon)
	for _, n := range []int{personLine, launchLine, cancelLine, retryLine, noRecentsLine, firstSlot + 1, signInLine, showPageLine, cancelSignLine, freshLine, recentsLine, managedLine, helpDeskLine} {
		if intent, _, ok := b.click(n, later); ok {
			t.Errorf("line %d asked for %s", n, intent)
		}
	}
}

func TestNothingIsDrawnAgainThatDidNotChange(t *testing.T) {
	words := text.For("en")
	var b board
	if c := b.update(menu(recents("r1"), words, noon), noon); !c.face || !c.tip || !c.line[quitLine] || c.was[quitLine] || c.line[signInLine] {
		t.Errorf("the first drawing: %+v", c)
	}
	if c := b.update(menu(recents("r1"), words, noon), noon); c.face || c.tip || c.line != [lines]bool{} {
		t.Errorf("the same again: %+v", c)
	}
	c := b.update(menu(recents("r1", "r2"), words, noon), noon)
	want := [lines]bool{firstSlot + 1: true}
	if c.face || c.tip || c.line != want {
		t.Errorf("one more: %+v", c)
	}
}

// TestNoClickEverOpensWhatWasNotUnderThePointer plays a person who looks, takes
// less than two seconds to press, and presses while the list changes at random.
func TestNoClickEverOpensWhatWasNotUnderThePointer(t *testing.T) {
	words := text.For("en")
	random := rand.New(rand.NewPCG(1, 2))
	ids := make([]string, 14)
	for n := range ids {
		ids[n] = "r" + strconv.Itoa(n)
	}
	var b board
	now, opened := noon, 0
	seen := map[int]string{} // by row, as the person sees the menu
	look := func() {
		clear(seen)
		row := 0
		for _, l := range b.shown.lines {
			if l.title != "" {
				seen[row] = l.id
				row++
			}
		}
	}
	at := func(row int) int { // the line that the desktop has at a row now
		for n, l := range b.shown.lines {
			if l.title != "" {
				if row == 0 {
					return n
				}
				row--
			}
		}
		return -1
	}
	for range 20000 {
		look()
		looked := now
		for range random.IntN(3) {
			now = now.Add(time.Duration(random.IntN(900)) * time.Millisecond)
			random.Shuffle(len(ids), func(i, j int) {
				if random.IntN(4) == 0 {
					ids[i], ids[j] = ids[j], ids[i]
				}
			})
			s := recents(ids[:random.IntN(len(ids))]...)
			if random.IntN(2) == 0 {
				s.Launch = &view.Launch{ID: "l", Stage: view.Creating}
			}
			b.update(menu(s, words, now), now)
		}
		now = now.Add(time.Duration(random.IntN(199)) * time.Millisecond)
		if now.Sub(looked) >= settle {
			continue
		}
		row := random.IntN(lines)
		intent, id, ok := b.click(at(row), now)
		if ok && intent == openRecent {
			opened++
			if seen[row] != id {
				t.Fatalf("row %d showed %q and opened %q", row, seen[row], id)
			}
		}
		if random.IntN(3) == 0 {
			now = now.Add(settle)
		}
	}
	if opened < 100 {
		t.Errorf("only %d clicks opened anything: the test proves nothing", opened)
	}
}
