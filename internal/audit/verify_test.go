package audit

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
)

// sample is a small audit that holds every kind of line: two agents, a second
// file, a count, a torn line and removed files.
func sample(t testing.TB) *desk {
	d := newDesk(t)
	old := d.open("agent-0.jsonl", nil)
	record(t, old, Record{Outcome: Started})
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	d.pass(100 * 24 * time.Hour)
	l := d.open("agent-1.jsonl", nil)
	record(t, l, Record{Outcome: Started})
	for n := range 7 {
		record(t, l, refusal(n))
	}
	record(t, l, Record{Outcome: Opened, Person: "dr.a@clinic.example"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(d.dir, "agent-1.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"v":1,"seq":1`); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	d.pass(time.Hour)
	l = d.open("agent-1.jsonl", nil)
	record(t, l, Record{Outcome: Opened})
	l.chain.maxFile = 1
	record(t, l, Record{Outcome: Stopped})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	d.pass(time.Hour)
	l = d.open("agent-2.jsonl", nil)
	record(t, l, Record{Outcome: Started})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	report := d.mustBeIntact(13)
	if len(report.Files) != 3 || report.Files[0].Recovered != 1 {
		t.Fatalf("%+v", report)
	}
	return d
}

func (d *desk) text(name string) []byte {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	return text
}

func (d *desk) put(name string, text []byte) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), text, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// noticed reports whether a report of the changed sample differs from that of
// the intact one in a way that a reader is told.
func noticed(r Report) bool {
	for _, f := range r.Files {
		if f.EndsTorn {
			return true
		}
	}
	return !r.OK
}

func TestEveryChangedByteIsFound(t *testing.T) {
	d := sample(t)
	for _, name := range d.files() {
		whole := d.text(name)
		for i := range whole {
			for _, with := range []byte{whole[i] ^ 1, whole[i] ^ 0x20, '\n', 0} {
				if with == whole[i] {
					continue
				}
				changed := bytes.Clone(whole)
				changed[i] = with
				s := scan(changed)
				if s.fault == "" && s.torn == nil {
					t.Fatalf("%s: byte %d changed from %q to %q is not found", name, i, whole[i], with)
				}
				if s.torn != nil && i != len(whole)-1 && !(with == '\n' && s.fault != "") {
					t.Fatalf("%s: byte %d changed to %q is taken for a torn line", name, i, with)
				}
			}
		}
	}
}

func TestEveryMissingOrDoubledLineIsFound(t *testing.T) {
	d := sample(t)
	for _, name := range []string{"agent-1.jsonl", "agent-1.0002.jsonl"} {
		whole := d.text(name)
		lines := bytes.SplitAfter(whole, []byte("\n"))
		lines = lines[:len(lines)-1]
		for i := range lines {
			without := bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil)
			doubled := bytes.Join(slices.Insert(slices.Clone(lines), i, lines[i]), nil)
			for what, text := range map[string][]byte{"missing": without, "doubled": doubled} {
				d.put(name, text)
				if !noticed(d.verify(nil)) {
					t.Errorf("%s: line %d %s is not found", name, i+1, what)
				}
			}
		}
		d.put(name, whole)
	}
	d.mustBeIntact(13)
}

func TestTheFirstBreakIsNamedByFileAndLine(t *testing.T) {
	for name, c := range map[string]struct {
		change func(d *desk)
		want   string
	}{
		"a code is edited": {
			func(d *desk) {
				d.put("agent-1.jsonl", bytes.Replace(d.text("agent-1.jsonl"), []byte(`"opened"`), []byte(`"failed"`), 1))
			}, "agent-1.jsonl, line 9: the line was changed",
		},
		"a line is cut out": {
			func(d *desk) {
				lines := strings.SplitAfter(string(d.text("agent-1.jsonl")), "\n")
				d.put("agent-1.jsonl", []byte(strings.Join(slices.Delete(lines, 3, 4), "")))
			}, "agent-1.jsonl, line 4: it does not follow the line before",
		},
		"the first lines are cut off": {
			func(d *desk) {
				lines := strings.SplitAfter(string(d.text("agent-1.jsonl")), "\n")
				d.put("agent-1.jsonl", []byte(strings.Join(lines[2:], "")))
			}, "agent-1.jsonl, line 1: the lines before it are missing",
		},
		"the last line of a full file is cut off": {
			func(d *desk) {
				text := d.text("agent-1.jsonl")
				text = text[:len(text)-1]
				d.put("agent-1.jsonl", text[:bytes.LastIndexByte(text, '\n')+1])
			}, "agent-1.jsonl: lines at its end are missing, which agent-1.0002.jsonl continues",
		},
		"the torn line is taken out": {
			func(d *desk) {
				d.put("agent-1.jsonl", bytes.Replace(d.text("agent-1.jsonl"), []byte("{\"v\":1,\"seq\":1\n"), nil, 1))
			}, "agent-1.jsonl, line 10: the torn line before it is missing",
		},
		"a file in the middle is removed": {
			func(d *desk) {
				if err := os.Remove(filepath.Join(d.dir, "agent-1.0002.jsonl")); err != nil {
					d.t.Fatal(err)
				}
			}, "agent-1.0002.jsonl: the file is missing, and was not removed as too old",
		},
		"a file is emptied": {
			func(d *desk) { d.put("agent-1.0002.jsonl", nil) },
			"agent-1.0002.jsonl: lines at its end are missing, which agent-2.jsonl continues",
		},
		"a file is of another version": {
			func(d *desk) {
				text, _, err := line{Layout: 2, Sequence: 1, Time: formatTime(start)}.encode()
				if err != nil {
					d.t.Fatal(err)
				}
				d.put("agent-0.jsonl", text)
			}, "agent-0.jsonl, line 1: the line was changed",
		},
		"a file is far too large": {
			func(d *desk) { d.put("agent-0.jsonl", bytes.Repeat([]byte("x"), maxRead+1)) },
			"agent-0.jsonl: the file is larger than this program writes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := sample(t)
			c.change(d)
			report := d.verify(nil)
			if report.OK || report.Breaks[0].String() != c.want {
				t.Errorf("breaks %v", report.Breaks)
			}
		})
	}
}

func TestNothingAndForeignFilesAreAnIntactAudit(t *testing.T) {
	d := newDesk(t)
	if r := d.verify(nil); !r.OK || r.Total != 0 {
		t.Errorf("no folder: %+v", r)
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"notes.txt", "handler.lock", "handler.flood", "x.1.jsonl", "x.0001.jsonl", "x.002.jsonl"} {
		d.put(name, []byte("x"))
	}
	if r := d.verify(nil); !r.OK || len(r.Files) != 0 {
		t.Errorf("foreign files: %+v", r)
	}
	if _, err := Verify(filepath.Join(d.dir, "notes.txt"), nil); problem.CodeOf(err) != problem.Internal || strings.Contains(problem.Of(err).LogValue().String(), d.dir) {
		t.Errorf("no folder at all: %v", err)
	}
}

// shelf is a sink in memory.
type shelf struct {
	anchors []Anchor
	err     error
}

func (s *shelf) Put(a Anchor) error {
	if s.err == nil {
		s.anchors = append(s.anchors, a)
	}
	return s.err
}

func (s *shelf) Anchors() ([]Anchor, error) { return s.anchors, s.err }

func TestWhatIsRecomputedFromEndToEndIsFoundByTheSystemsLog(t *testing.T) {
	d, s := newDesk(t), &shelf{}
	l := d.open("agent-1.jsonl", s)
	for range 3 {
		record(t, l, Record{Outcome: Opened})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := d.verify(s); !r.OK || r.Anchored != 3 || r.Unanchored != 0 || !r.Compared {
		t.Fatalf("%+v", r)
	}
	// Somebody who knows the program writes the file anew, without a line.
	forged := newDesk(t)
	f := forged.open("agent-1.jsonl", nil)
	record(t, f, Record{Outcome: Opened})
	record(t, f, Record{Outcome: Failed})
	d.put("agent-1.jsonl", forged.text("agent-1.jsonl"))
	if r := d.verify(nil); !r.OK {
		t.Fatalf("the forgery is not one: %v", r.Breaks)
	}
	r := d.verify(s)
	if len(r.Breaks) != 2 || r.Breaks[0].Line != 2 || !strings.Contains(r.Breaks[1].Reason, "number 3") {
		t.Errorf("breaks %v", r.Breaks)
	}
	if err := os.Remove(filepath.Join(d.dir, "agent-1.jsonl")); err != nil {
		t.Fatal(err)
	}
	if r := d.verify(s); len(r.Breaks) != 1 || r.Breaks[0].File != "agent-1.jsonl" {
		t.Errorf("a removed file: %v", r.Breaks)
	}
}

func TestWhatTheSystemForgotAndWhatWasRemovedAsOldIsNoBreak(t *testing.T) {
	d, s := newDesk(t), &shelf{}
	for _, name := range []string{"agent-0.jsonl", "agent-1.jsonl"} {
		l := d.open(name, s)
		record(t, l, Record{Outcome: Started})
		record(t, l, Record{Outcome: Stopped})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		d.pass(100 * 24 * time.Hour)
	}
	if r := d.verify(s); !r.OK || r.Anchored != 3 {
		t.Errorf("removed as old: %+v", r)
	}
	s.anchors = s.anchors[3:]
	if r := d.verify(s); !r.OK || r.Anchored != 2 || r.Unanchored != 1 {
		t.Errorf("forgotten: %+v", r)
	}
}

func TestASystemThatTakesNoHashIsToldAndTheLineIsWritten(t *testing.T) {
	d, s := newDesk(t), &shelf{}
	l := d.open("agent-1.jsonl", s)
	s.err = os.ErrClosed
	for range 2 {
		if err := l.Record(context.Background(), Record{Outcome: Opened}); problem.CodeOf(err) != problem.Internal || !isSink(err) {
			t.Errorf("got %v", err)
		}
	}
	d.mustBeIntact(2)
	if _, err := Verify(d.dir, s); problem.CodeOf(err) != problem.Internal {
		t.Errorf("a sink that cannot be read: %v", err)
	}
}

func FuzzVerifyNeverPanicsAndFindsAnyChangedByte(f *testing.F) {
	d := sample(f)
	var wholes [][]byte
	for _, name := range d.files() {
		wholes = append(wholes, d.text(name))
		f.Add(d.text(name), uint(0), byte(0))
		for at := range uint(len(d.text(name))) {
			if at%97 == 0 {
				f.Add([]byte{}, uint(len(d.text(name)))-1-at, byte(at))
			}
		}
	}
	f.Add([]byte("\n\n{}\n"), uint(7), byte('\n'))
	f.Fuzz(func(t *testing.T, text []byte, at uint, with byte) {
		s := scan(text)
		for i, l := range s.lines {
			if i > 0 && (l.Previous != s.lines[i-1].hash || l.Sequence != s.lines[i-1].Sequence+1) {
				t.Fatal("a line that does not follow was believed")
			}
		}
		files := map[string]*scanned{"agent-1.jsonl": s}
		s.name = "agent-1.jsonl"
		_ = beginning(s, files, time.Time{})
		whole := wholes[at%uint(len(wholes))]
		changed := bytes.Clone(whole)
		i := int(at % uint(len(whole)))
		changed[i] = with
		if got := scan(changed); with != whole[i] && got.fault == "" && got.torn == nil {
			t.Fatalf("byte %d changed to %q is not found", i, with)
		}
	})
}

func TestTheReportForPeopleNamesTheBreakAndTheResult(t *testing.T) {
	d := sample(t)
	if got := strings.Join(d.verify(nil).Lines(), "\n"); got != "agent-1.jsonl: torn lines that were found and kept: 1\n13 lines in 3 files: whole" {
		t.Errorf("whole:\n%s", got)
	}
	d.put("agent-2.jsonl", d.text("agent-2.jsonl")[:40])
	if got := d.verify(nil).Lines(); !slices.Contains(got, "agent-2.jsonl: it ends in a torn line: a crash, or an agent that is writing now") {
		t.Errorf("torn: %q", got)
	}
	d.put("agent-2.jsonl", []byte("x\n"))
	if got := strings.Join(d.verify(&shelf{}).Lines(), "\n"); !strings.HasPrefix(got, "agent-2.jsonl, line 1: the line was changed\n") || !strings.HasSuffix(got, ": NOT whole: something is missing or was changed") {
		t.Errorf("changed:\n%s", got)
	}
}
