package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// deaf is a system's log that takes hashes only while it hears.
type deaf struct{ hears bool }

func (d *deaf) Put(audit.Anchor) error {
	if d.hears {
		return nil
	}
	return errors.New("nobody listens")
}

func (*deaf) Anchors() ([]audit.Anchor, error) { return nil, nil }

func TestASystemsLogThatTakesNoHashesIsAFindingAndTheLineIsWritten(t *testing.T) {
	layout := paths.Under(t.TempDir(), paths.Demo)
	told := 0
	a := newAuditOf(layout, time.Now, slog.New(slog.DiscardHandler), func() { told++ })
	defer a.close()
	d := new(deaf)
	a.sink = func() (audit.Sink, error) { return d, nil }
	a.destination("system")
	a.note(audit.Record{Outcome: audit.Started})
	if a.finding() != auditUnanchored || told != 1 {
		t.Errorf("finding %q, told %d times", a.finding(), told)
	}
	a.note(audit.Record{Outcome: audit.Stopped})
	if told != 1 {
		t.Errorf("told %d times of one thing", told)
	}
	d.hears = true
	a.note(audit.Record{Outcome: audit.Stopped})
	if a.finding() != "" || told != 2 {
		t.Errorf("finding %q, told %d times", a.finding(), told)
	}
	if report, err := audit.Verify(layout.AuditDir(), nil); err != nil || !report.OK || report.Total != 3 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestAMissingSystemsLogIsAFindingUntilPolicyWantsNone(t *testing.T) {
	a := newAuditOf(paths.Under(t.TempDir(), paths.Demo), time.Now, slog.New(slog.DiscardHandler), func() {})
	defer a.close()
	a.sink = func() (audit.Sink, error) { return nil, errors.New("there is no system journal") }
	a.destination("system")
	a.note(audit.Record{Outcome: audit.Started})
	if a.finding() != auditUnanchored {
		t.Errorf("finding %q", a.finding())
	}
	a.destination("file")
	if a.finding() != "" {
		t.Errorf("finding %q", a.finding())
	}
}

func TestTheStartIsInTheAuditBeforeWhatHappensMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := paths.Under(t.TempDir(), "")
		a := newAuditOf(l, time.Now, slog.New(slog.DiscardHandler), func() {})
		a.destination("file")
		write := a.begin()
		noted := make(chan struct{})
		go func() {
			a.note(audit.Record{Outcome: audit.Refused, Code: problem.LinkInvalid})
			close(noted)
		}()
		synctest.Wait()
		select {
		case <-noted:
			t.Error("it was noted before the start")
		default:
		}
		write()
		<-noted
		a.close()
		files, err := filepath.Glob(filepath.Join(l.AuditDir(), "*.jsonl"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		start, refusal := strings.Index(string(text), `"`+audit.Started+`"`), strings.Index(string(text), `"`+audit.Refused+`"`)
		if start < 0 || refusal < start {
			t.Errorf("the audit says %s", text)
		}
	})
}
