package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
)

var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// desk is a folder and a clock.
type desk struct {
	t   testing.TB
	dir string
	mu  sync.Mutex
	at  time.Time // guarded by mu
}

func newDesk(t testing.TB) *desk {
	return &desk{t: t, dir: filepath.Join(t.TempDir(), "audit"), at: start}
}

func (d *desk) now() time.Time { d.mu.Lock(); defer d.mu.Unlock(); return d.at }

func (d *desk) pass(t time.Duration) { d.mu.Lock(); defer d.mu.Unlock(); d.at = d.at.Add(t) }

func (d *desk) open(name string, sink Sink) *Log {
	d.t.Helper()
	l, err := Open(d.dir, name, sink, d.now)
	if err != nil {
		d.t.Fatal(problem.Of(err).LogValue())
	}
	d.t.Cleanup(func() { _ = l.Close() })
	return l
}

func record(t testing.TB, l *Log, r Record) {
	t.Helper()
	if err := l.Record(context.Background(), r); err != nil {
		t.Fatal(problem.Of(err).LogValue())
	}
}

func (d *desk) read(name string) []line {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	var lines []line
	for _, one := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		l, _, ok := decode([]byte(one))
		if !ok {
			d.t.Fatalf("not a line: %s", one)
		}
		lines = append(lines, l)
	}
	return lines
}

func (d *desk) verify(sink Sink) Report {
	d.t.Helper()
	report, err := Verify(d.dir, sink)
	if err != nil {
		d.t.Fatal(problem.Of(err).LogValue())
	}
	return report
}

func (d *desk) mustBeIntact(lines int) Report {
	d.t.Helper()
	report := d.verify(nil)
	if !report.OK || report.Total != lines {
		d.t.Fatalf("%d lines of %d, breaks %v", report.Total, lines, report.Breaks)
	}
	return report
}

func (d *desk) files() []string {
	d.t.Helper()
	names, err := auditFiles(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	return names
}

func refusal(n int) Record {
	return Record{Outcome: Refused, Code: problem.LinkInvalid, Reference: fmt.Sprintf("ABCD%04d", n)}
}

func TestALineSaysWhatHappenedAndNothingElse(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	record(t, l, Record{Outcome: Started})
	d.pass(1500 * time.Millisecond)
	p := problem.New(problem.OrgBusy, nil)
	record(t, l, Record{Outcome: Failed, Code: p.Code, Reference: p.Reference, Person: "dr.müller@clinic.example", RequestID: "7f9c24e8-3b12-4fef-91e0-5f6d2f0a1c3b"})
	text, err := os.ReadFile(filepath.Join(d.dir, "agent-1.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	second := strings.Split(string(text), "\n")[1]
	var fields map[string]any
	if err := json.Unmarshal([]byte(second), &fields); err != nil {
		t.Fatal(err)
	}
	first := d.read("agent-1.jsonl")[0]
	if first.Previous != "" || first.Time != "2026-03-01T08:00:00.000Z" {
		t.Errorf("first line %+v", first)
	}
	want := map[string]any{
		"v": 1.0, "seq": 2.0, "time": "2026-03-01T08:00:01.500Z", "outcome": "failed", "code": "org_busy", "reference": p.Reference,
		"person": "dr.müller@clinic.example", "request_id": "7f9c24e8-3b12-4fef-91e0-5f6d2f0a1c3b", "prev": fields["prev"], "hash": fields["hash"],
	}
	if fmt.Sprint(fields) != fmt.Sprint(want) || len(fields["prev"].(string)) != 64 {
		t.Errorf("got %v", fields)
	}
	info, err := os.Stat(filepath.Join(d.dir, "agent-1.jsonl"))
	if err != nil || !closedToOthers(info) {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	d.mustBeIntact(2)
}

func TestAValueThatIsNotOfItsFormIsWithheldAndNamed(t *testing.T) {
	bad := map[string][]Record{
		"person": {
			{Person: "https://one-time.example/CANARY"}, {Person: "eyJhbGciOiJSUzI1NiJ9.CANARY.x"}, {Person: "CANARY\n{}"},
			{Person: "CANARY\u202e"}, {Person: "CANARY\xff"}, {Person: "CANARY" + strings.Repeat("x", 250)}, {Person: "CANARY\t"},
		},
		"request_id": {{RequestID: "CANARY-CANARY-CANARY-CANARY"}, {RequestID: "abc"}, {RequestID: strings.Repeat("a", 37)}, {RequestID: "0123456/CANARY"}},
		"reference":  {{Reference: "canary12"}, {Reference: "CANARY"}, {Reference: "CANARY-1"}},
		"code":       {{Code: "canary"}, {Code: "link_invalid CANARY"}},
		"outcome":    {{Outcome: "CANARY"}, {Outcome: strings.Repeat("a", 33)}, {}},
	}
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	n := 0
	for field, records := range bad {
		for _, r := range records {
			if r.Outcome == "" && field != "outcome" {
				r.Outcome = Failed
			}
			record(t, l, r)
			n++
			lines := d.read("agent-1.jsonl")
			if got := lines[len(lines)-1]; len(got.Withheld) != 1 || got.Withheld[0] != field {
				t.Errorf("%s %+v: %+v", field, r, got)
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(d.dir, "agent-1.jsonl"))
	if err != nil || strings.Contains(strings.ToLower(string(text)), "canary") {
		t.Errorf("it was written: %v\n%s", err, text)
	}
	d.mustBeIntact(n)
}

func TestTheLongestLineFits(t *testing.T) {
	d := newDesk(t)
	l := d.open(strings.Repeat("a", 80)+".jsonl", nil)
	record(t, l, Record{Outcome: strings.Repeat("a", 32), Code: problem.LinkFormNotAllowed, Reference: "ABCDEFGH", Person: strings.Repeat("<", 254), RequestID: strings.Repeat("a", 36)})
	record(t, d.open(strings.Repeat("b", 80)+".jsonl", nil), Record{Outcome: Opened, Person: strings.Repeat("<", 254)})
	d.mustBeIntact(2)
}

func TestANameThatLeadsElsewhereIsRefused(t *testing.T) {
	d := newDesk(t)
	for _, name := range []string{"", ".jsonl", "../agent.jsonl", "a/b.jsonl", "handler", `a\b.jsonl`, "agent.0002.jsonl", "a.b.jsonl", "handler.jsonl", strings.Repeat("a", 81) + ".jsonl"} {
		if _, err := Open(d.dir, name, nil, d.now); problem.CodeOf(err) != problem.Internal {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := os.Stat(d.dir); err == nil {
		t.Error("a refused name made the folder")
	}
}

func TestAFloodOfRefusalsIsOneLineWithTheirNumber(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	for n := range 1000 {
		record(t, l, refusal(n))
		d.pass(time.Millisecond)
	}
	if lines := d.read("agent-1.jsonl"); len(lines) != 5 {
		t.Fatalf("%d lines in the flood", len(lines))
	}
	record(t, l, Record{Outcome: Opened})
	lines := d.read("agent-1.jsonl")
	if len(lines) != 7 || lines[6].Outcome != Opened {
		t.Fatalf("%d lines", len(lines))
	}
	if s := lines[5]; s.Outcome != Refused || s.Code != "link_invalid" || s.Count != 995 || s.Since != formatTime(start.Add(5*time.Millisecond)) || s.Until != formatTime(start.Add(999*time.Millisecond)) {
		t.Errorf("the number: %+v", s)
	}
	d.mustBeIntact(7)
}

func counted(lines []line) int {
	n := 0
	for _, l := range lines {
		if l.Outcome == Refused {
			n += max(l.Count, 1)
		}
	}
	return n
}

func TestNoRefusalIsLostHoweverTheyCome(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	sent := 0
	// Alternating codes, a flood that goes on for minutes, pauses, and a clock
	// that is set back.
	for minute := range 5 {
		for n := range 600 {
			r := refusal(n)
			if n%2 == 1 {
				r.Code = problem.TooManyLinks
			}
			record(t, l, r)
			sent++
			d.pass(100 * time.Millisecond)
		}
		if minute == 2 {
			d.pass(-time.Hour)
		}
		d.pass(time.Duration(minute) * 7 * time.Second)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lines := d.read("agent-1.jsonl")
	if counted(lines) != sent {
		t.Errorf("%d of %d are accounted for", counted(lines), sent)
	}
	if len(lines) > 150 {
		t.Errorf("%d lines for %d refusals", len(lines), sent)
	}
	d.mustBeIntact(len(lines))
}

func TestOtherOutcomesOthersCodesAndOtherPeopleAreNotCountedTogether(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	for n := range 6 {
		r := refusal(n)
		r.Person = fmt.Sprintf("dr.%d@clinic.example", n)
		record(t, l, r)
		record(t, l, Record{Outcome: Failed, Code: problem.OrgBusy})
	}
	for range 20 {
		record(t, l, Record{Outcome: Opened})
	}
	if n := len(d.read("agent-1.jsonl")); n != 32 {
		t.Errorf("%d lines", n)
	}
}

func TestACountIsWrittenWhenItsWindowEndsAndAtFlush(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	for n := range 8 {
		record(t, l, refusal(n))
	}
	d.pass(floodWindow)
	record(t, l, refusal(8))
	lines := d.read("agent-1.jsonl")
	// The flood went on into the next window, so the ninth is counted too.
	if len(lines) != 6 || lines[5].Count != 3 {
		t.Fatalf("lines %+v", lines)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	if lines = d.read("agent-1.jsonl"); len(lines) != 7 || lines[6].Count != 1 || counted(lines) != 9 {
		t.Fatalf("lines %+v", lines)
	}
	d.pass(2 * floodWindow)
	record(t, l, refusal(9))
	if lines = d.read("agent-1.jsonl"); len(lines) != 8 || lines[7].Count != 0 || lines[7].Reference != "ABCD0009" {
		t.Fatalf("after a pause a refusal has its own line again: %+v", lines)
	}
}

func TestAfterCloseNothingIsWrittenAndClosingTwiceIsFine(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	record(t, l, Record{Outcome: Started})
	if err := errors.Join(l.Close(), l.Close(), l.Flush()); err != nil {
		t.Error(err)
	}
	if err := l.Record(context.Background(), Record{Outcome: Opened}); problem.CodeOf(err) != problem.Internal {
		t.Errorf("got %v", err)
	}
	d.mustBeIntact(1)
}

func TestAFileIsContinuedInTheNextAtItsBound(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	l.chain.maxFile = 1000
	for range 20 {
		record(t, l, Record{Outcome: Opened, Person: "dr.a@clinic.example"})
		d.pass(time.Second)
	}
	names := d.files()
	if len(names) < 4 || names[0] != "agent-1.0002.jsonl" {
		t.Fatalf("files %v", names)
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(d.dir, name))
		if err != nil || info.Size() > 1500 || !closedToOthers(info) {
			t.Errorf("%s: %d bytes, %v, %v", name, info.Size(), info.Mode(), err)
		}
	}
	d.mustBeIntact(20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	record(t, d.open("agent-1.jsonl", nil), Record{Outcome: Started})
	d.mustBeIntact(21)
	for i, l := range d.read(names[len(names)-1]) {
		if i > 0 && l.After != "" {
			t.Error("only the first line of a file is tied to another file")
		}
	}
}

func TestAgentsSideBySideAndOneAfterTheOtherAreOneIntactAudit(t *testing.T) {
	d := newDesk(t)
	a := d.open("agent-a.jsonl", nil)
	record(t, a, Record{Outcome: Started})
	d.pass(time.Second)
	b := d.open("agent-b.jsonl", nil)
	record(t, b, Record{Outcome: Started})
	d.pass(time.Second)
	record(t, a, Record{Outcome: Opened})
	record(t, b, Record{Outcome: Opened})
	d.pass(time.Second)
	record(t, d.open("agent-c.jsonl", nil), Record{Outcome: Started})
	report := d.mustBeIntact(5)
	if len(report.Files) != 3 || report.Files[0].Name != "agent-a.jsonl" || report.Files[0].Lines != 2 {
		t.Errorf("files %+v", report.Files)
	}
	if got := d.read("agent-c.jsonl")[0].After; got != "agent-b.jsonl" {
		t.Errorf("c is tied to %q", got)
	}
}

func TestManyGoroutinesWriteOneChain(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 25 {
				if err := l.Record(context.Background(), Record{Outcome: Opened}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	d.mustBeIntact(100)
}

func TestOldFilesAreRemovedAndNotMissed(t *testing.T) {
	d := newDesk(t)
	for n := range 6 {
		l := d.open(fmt.Sprintf("agent-%d.jsonl", n), nil)
		record(t, l, Record{Outcome: Started})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		d.pass(30 * 24 * time.Hour)
	}
	if names := d.files(); !slices.Equal(names, []string{"agent-2.jsonl", "agent-3.jsonl", "agent-4.jsonl", "agent-5.jsonl"}) {
		t.Fatalf("files %v", names)
	}
	if lines := d.read("agent-5.jsonl"); len(lines) != 2 || lines[1].Outcome != removed || lines[1].Count != 1 {
		t.Errorf("it does not say so: %+v", lines)
	}
	report := d.mustBeIntact(6)
	if report.Files[0].Name != "agent-2.jsonl" {
		t.Errorf("files %+v", report.Files)
	}
	// One that was not old enough is missed.
	if err := os.Remove(filepath.Join(d.dir, "agent-3.jsonl")); err != nil {
		t.Fatal(err)
	}
	if breaks := d.verify(nil).Breaks; len(breaks) != 1 || breaks[0].File != "agent-3.jsonl" {
		t.Errorf("breaks %v", breaks)
	}
}

func TestTheNumberOfFilesIsBounded(t *testing.T) {
	d := newDesk(t)
	for n := range 25 {
		c := newChain(d.dir, fmt.Sprintf("agent-%04d", n), nil)
		c.maxFiles = 20
		if err := c.openForTest(d.now()); err != nil {
			t.Fatal(err)
		}
		d.pass(time.Second)
	}
	if n := len(d.files()); n != 20 {
		t.Errorf("%d files", n)
	}
	if report := d.verify(nil); !report.OK {
		t.Errorf("breaks %v", report.Breaks)
	}
}

// openForTest opens, writes one line and closes.
func (c *chain) openForTest(now time.Time) error {
	if err := c.open(now); err != nil {
		return err
	}
	return errors.Join(c.append(now, lineOf(Record{Outcome: Started})), c.close())
}

func TestATornLineIsKeptAndTheNextSaysSo(t *testing.T) {
	for cut := 1; cut < 200; cut += 7 {
		d := newDesk(t)
		l := d.open("agent-1.jsonl", nil)
		for range 3 {
			record(t, l, Record{Outcome: Opened})
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(d.dir, "agent-1.jsonl")
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		torn := whole[:len(whole)-cut]
		if err := os.WriteFile(path, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		report := d.mustBeIntact(2)
		kept := 4 // two whole lines, the one that says so, the new one
		if cut == 1 {
			kept = 5 // nothing but a newline was lost
		}
		if !report.Files[0].EndsTorn {
			t.Fatalf("cut %d: %+v", cut, report.Files)
		}
		again := d.open("agent-1.jsonl", nil)
		record(t, again, Record{Outcome: Opened})
		report = d.mustBeIntact(kept)
		if f := report.Files[0]; f.EndsTorn || f.Recovered != 1 {
			t.Fatalf("cut %d: %+v", cut, f)
		}
		after, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(after), string(torn)) {
			t.Fatalf("cut %d: the torn line was not kept, %v", cut, err)
		}
		// A change inside what was torn is seen from now on.
		after[len(torn)-1] ^= 1
		if err := os.WriteFile(path, after, 0o600); err != nil {
			t.Fatal(err)
		}
		if breaks := d.verify(nil).Breaks; len(breaks) != 1 || breaks[0].Line != 3 {
			t.Fatalf("cut %d: breaks %v", cut, breaks)
		}
	}
}

func TestACrashWhileRecoveringIsRecoveredToo(t *testing.T) {
	d := newDesk(t)
	record(t, d.open("agent-1.jsonl", nil), Record{Outcome: Opened})
	path := filepath.Join(d.dir, "agent-1.jsonl")
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString("{\"v\":1,\"se\n{\"v\":1,\"seq\":2"); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	record(t, d.open("agent-1.jsonl", nil), Record{Outcome: Opened})
	if f := d.mustBeIntact(3).Files[0]; f.Recovered != 1 || f.EndsTorn {
		t.Errorf("%+v", f)
	}
}

func TestAFileOfNothingButATornLineIsRecovered(t *testing.T) {
	d := newDesk(t)
	record(t, d.open("agent-0.jsonl", nil), Record{Outcome: Opened})
	if err := os.WriteFile(filepath.Join(d.dir, "agent-1.jsonl"), []byte(`{"v":1,`), 0o600); err != nil {
		t.Fatal(err)
	}
	record(t, d.open("agent-1.jsonl", nil), Record{Outcome: Opened})
	if f := d.mustBeIntact(3).Files[1]; f.Name != "agent-1.jsonl" || f.Recovered != 1 {
		t.Errorf("%+v", f)
	}
}

func TestAChangedFileIsNotWrittenToAgain(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	record(t, l, Record{Outcome: Opened})
	record(t, l, Record{Outcome: Opened})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.dir, "agent-1.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `"seq":2`, `"seq":3`, 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	record(t, d.open("agent-1.jsonl", nil), Record{Outcome: Opened})
	report := d.verify(nil)
	if len(report.Breaks) != 1 || report.Breaks[0] != (Break{"agent-1.jsonl", 2, "the line was changed"}) || report.Total != 2 {
		t.Errorf("%+v", report)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != changed {
		t.Errorf("it was written to: %v", err)
	}
}

func TestAnAgentWhoseFileIsRemovedGoesOnInAnotherAndItIsSeen(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	record(t, l, Record{Outcome: Started})
	d.pass(time.Second)
	// Moved, because Windows keeps the name of a removed file that is open.
	if err := os.Rename(filepath.Join(d.dir, "agent-1.jsonl"), d.dir+"-away"); err != nil {
		t.Fatal(err)
	}
	record(t, l, Record{Outcome: Opened})
	report := d.verify(nil)
	if report.Total != 1 || len(report.Breaks) != 1 || report.Breaks[0].File != "agent-1.jsonl" {
		t.Errorf("%+v", report)
	}
}

func TestAWriteThatFailedIsRecoveredByTheNext(t *testing.T) {
	d := newDesk(t)
	l := d.open("agent-1.jsonl", nil)
	record(t, l, Record{Outcome: Started})
	// The file stands for a disk that refuses.
	readOnly, err := os.Open(filepath.Join(d.dir, "agent-1.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.chain.file.Close(); err != nil {
		t.Fatal(err)
	}
	l.chain.file = readOnly
	if err := l.Record(context.Background(), Record{Outcome: Opened}); problem.CodeOf(err) != problem.Internal || strings.Contains(problem.Of(err).LogValue().String(), d.dir) {
		t.Errorf("got %v", problem.Of(err).LogValue())
	}
	record(t, l, Record{Outcome: Opened})
	d.mustBeIntact(2)
}

func BenchmarkRecord(b *testing.B) {
	d := newDesk(b)
	l := d.open("agent-1.jsonl", nil)
	for b.Loop() {
		if err := l.Record(context.Background(), Record{Outcome: Opened, Person: "dr.a@clinic.example"}); err != nil {
			b.Fatal(err)
		}
	}
}
