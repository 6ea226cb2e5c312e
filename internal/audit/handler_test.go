package audit

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/problem"
)

func isSink(err error) bool { return errors.Is(err, ErrSink) }

func (d *desk) once(r Record) {
	d.t.Helper()
	if err := RecordOnce(d.dir, nil, r, d.now); err != nil {
		d.t.Fatal(problem.Of(err).LogValue())
	}
}

func TestHandlersShareOneFileAndAgentsTieToIt(t *testing.T) {
	d := newDesk(t)
	d.once(refusal(1))
	d.pass(time.Second)
	d.once(Record{Outcome: Failed, Code: problem.AgentUnreachable})
	d.pass(time.Second)
	record(t, d.open("agent-1.jsonl", nil), Record{Outcome: Started})
	d.pass(time.Second)
	d.once(refusal(2))
	d.mustBeIntact(4)
	if lines := d.read("handler.jsonl"); len(lines) != 3 || lines[2].Sequence != 3 {
		t.Errorf("lines %+v", lines)
	}
	info, err := os.Stat(filepath.Join(d.dir, "handler.jsonl"))
	if err != nil || !closedToOthers(info) {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestAThousandBadLinksLeaveSixLinesAndNoneIsLost(t *testing.T) {
	d := newDesk(t)
	for n := range 1000 {
		d.once(refusal(n))
		d.pass(time.Millisecond)
	}
	if n := len(d.read("handler.jsonl")); n != 5 {
		t.Fatalf("%d lines in the flood", n)
	}
	d.pass(floodWindow)
	// The next agent writes the number.
	record(t, d.open("agent-1.jsonl", nil), Record{Outcome: Started})
	lines := d.read("handler.jsonl")
	if len(lines) != 6 || lines[5].Count != 995 || counted(lines) != 1000 {
		t.Errorf("lines %+v", lines)
	}
	d.mustBeIntact(7)
	record(t, d.open("agent-2.jsonl", nil), Record{Outcome: Started})
	d.mustBeIntact(8)
}

func TestTheNextHandlerWritesTheNumberToo(t *testing.T) {
	d := newDesk(t)
	for n := range 7 {
		d.once(refusal(n))
	}
	d.once(Record{Outcome: Failed, Code: problem.AgentUnreachable})
	lines := d.read("handler.jsonl")
	if len(lines) != 7 || lines[5].Count != 2 || lines[6].Outcome != Failed {
		t.Errorf("lines %+v", lines)
	}
}

func TestHandlersAtTheSameTimeWriteOneChain(t *testing.T) {
	d := newDesk(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				if err := RecordOnce(d.dir, nil, Record{Outcome: Failed, Code: problem.AgentUnreachable}, d.now); err != nil {
					t.Error(problem.Of(err).LogValue())
				}
			}
		})
	}
	all.Wait()
	d.mustBeIntact(40)
}

func TestAHandlerDoesNotWaitForEverForAnother(t *testing.T) {
	d := newDesk(t)
	d.once(refusal(1))
	held, err := os.OpenFile(filepath.Join(d.dir, handlerLock), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if locked, err := tryLock(held); err != nil || !locked {
		t.Fatalf("%v, %v", locked, err)
	}
	if err := RecordOnce(d.dir, nil, refusal(2), d.now); problem.CodeOf(err) != problem.Internal {
		t.Errorf("got %v", err)
	}
	d.mustBeIntact(1)
}

func TestACountThatCannotBeReadStartsAnewAndBringsNothingIn(t *testing.T) {
	for _, text := range []string{"", "{", "null", `[{"pending":-4}]`, `[{"pending":9,"written":5,"code":"CANARY","person":"x"}]`, `[{"pending":9,"person":"https://CANARY"}]`} {
		d := newDesk(t)
		d.once(refusal(0))
		d.put(handlerFloods, []byte(text))
		d.once(refusal(1))
		if strings.Contains(string(d.text("handler.jsonl")), "CANARY") {
			t.Errorf("%q was written", text)
		}
		d.mustBeIntact(2)
	}
}

func TestATornHandlerFileIsRecoveredByTheNextHandler(t *testing.T) {
	d := newDesk(t)
	d.once(refusal(1))
	text := d.text("handler.jsonl")
	d.put("handler.jsonl", slices.Concat(text, text[:50]))
	d.once(refusal(2))
	if f := d.mustBeIntact(3).Files[0]; f.Recovered != 1 {
		t.Errorf("%+v", f)
	}
}

func TestAHandlerFileThatWasRemovedAsOldBeginsAnew(t *testing.T) {
	d, s := newDesk(t), &shelf{}
	for range 3 {
		if err := RecordOnce(d.dir, s, Record{Outcome: Failed}, d.now); err != nil {
			t.Fatal(err)
		}
	}
	d.pass(50 * 24 * time.Hour)
	record(t, d.open("agent-1.jsonl", s), Record{Outcome: Started})
	d.pass(50 * 24 * time.Hour)
	record(t, d.open("agent-2.jsonl", s), Record{Outcome: Started})
	if names := d.files(); !slices.Equal(names, []string{"agent-1.jsonl", "agent-2.jsonl"}) {
		t.Fatalf("files %v", names)
	}
	d.pass(time.Second)
	if err := RecordOnce(d.dir, s, Record{Outcome: Failed}, d.now); err != nil {
		t.Fatal(err)
	}
	if r := d.verify(s); !r.OK {
		t.Errorf("breaks %v", r.Breaks)
	}
}
