package sandbox

import (
	"strings"
	"testing"
	"time"
)

// testTimeline has a clock to move and keeps what it printed.
type testTimeline struct {
	*timeline
	at    time.Time
	lines []string
}

func newTestTimeline() *testTimeline {
	t := &testTimeline{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	t.timeline = newTimeline(func() time.Time { return t.at }, func(line string) { t.lines = append(t.lines, line) })
	return t
}

func TestALineHasTheMillisecondsOfEveryStage(t *testing.T) {
	tl := newTestTimeline()
	r := tl.pressed("patient 1", "E1")
	step := func(do func()) { tl.at = tl.at.Add(7 * time.Millisecond); do() }
	step(func() { tl.linked(r, "handle") })
	step(func() { tl.asked("handle") })
	step(func() { tl.created("E1") })
	step(func() { tl.answered(r, "address", "") })
	step(func() { tl.fetched("address") })
	if len(tl.lines) != 0 {
		t.Fatal("the line came before the launcher had spoken")
	}
	report := &launchReport{ID: "L", Stage: "opened", MS: map[string]int64{"creating": 101, "opening": 102, "opened": 103}}
	tl.reported(report)
	tl.reported(report)
	if len(tl.lines) != 1 {
		t.Fatalf("lines: %q", tl.lines)
	}
	want := "#1 patient 1 7 14 21 28 35 | - 101 102 103 opened"
	if got := strings.Join(strings.Fields(tl.lines[0]), " "); got != want {
		t.Errorf("line %q, want %q", got, want)
	}
}

func TestTheSecondPressOfADoublePressIsShownAsDropped(t *testing.T) {
	tl := newTestTimeline()
	r := tl.pressed("patient 3", "E3")
	tl.linked(r, "h")
	tl.asked("h")
	tl.answered(r, "address", "")
	tl.reported(&launchReport{ID: "L", Stage: "opened", MS: map[string]int64{"creating": 1, "opened": 2}})
	if len(tl.lines) != 1 || !strings.Contains(tl.lines[0], "dropped") {
		t.Errorf("lines: %q", tl.lines)
	}
}

func TestALinkThatNobodyOpensGetsItsLineWhenNothingMoreIsAwaited(t *testing.T) {
	tl := newTestTimeline()
	tl.linked(tl.pressed("patient 1", "E"), "h")
	tl.at = tl.at.Add(quietFor + time.Second)
	tl.settle(quietFor, unaskedFor)
	if len(tl.lines) != 0 || !tl.open() {
		t.Fatalf("a person may still be reading the browser's question: %q", tl.lines)
	}
	tl.at = tl.at.Add(unaskedFor)
	tl.settle(quietFor, unaskedFor)
	if len(tl.lines) != 1 || !strings.Contains(tl.lines[0], "no launch seen") || tl.open() {
		t.Errorf("lines: %q", tl.lines)
	}
	if late := tl.asked("h"); late.N != 2 || late.What != "patient 1" {
		t.Errorf("a link that comes late after all: %+v", late)
	}
}

func TestARefusalIsShownByItsCodeAndARetryIsAnotherLaunch(t *testing.T) {
	tl := newTestTimeline()
	r := tl.pressed("stale link", "E")
	tl.linked(r, "h")
	tl.answered(tl.asked("h"), "", "handle_expired")
	tl.reported(&launchReport{ID: "L1", Stage: "failed", Code: "handle_expired", MS: map[string]int64{"creating": 3}})
	if len(tl.lines) != 1 || !strings.HasSuffix(tl.lines[0], "handle_expired") {
		t.Fatalf("lines: %q", tl.lines)
	}
	if again := tl.asked("h"); again == r {
		t.Error("the retry is shown as the launch that is over")
	}
}

func TestTheTimelineRemembersABoundedNumberOfLaunches(t *testing.T) {
	tl := newTestTimeline()
	for range maxRows + 50 {
		tl.pressed("patient 1", "E")
	}
	if n := len(tl.table()) - 1; n != maxRows || len(tl.shown()) != shownRows || tl.shown()[0].N != maxRows+50 {
		t.Errorf("%d rows, %d shown", n, len(tl.shown()))
	}
}
