package orgaudit

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

var start = time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

// private is a folder as the service manager makes it.
func private(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "audit.jsonl")
}

func opened(t *testing.T, cfg orgconfig.Audit, c *clock) *Log {
	t.Helper()
	l, err := Open(cfg, c.now, func(sink string, err error) { t.Errorf("%s: %v", sink, err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func record(t *testing.T, l *Log, r Record) {
	t.Helper()
	if err := l.Record(r); err != nil {
		t.Fatal(err)
	}
}

func search(t *testing.T, path string, q Query) ([]Record, []Damage) {
	t.Helper()
	var found []Record
	var damage []Damage
	err := Search(t.Context(), path, q, func(r Record) error { found = append(found, r); return nil }, func(d Damage) { damage = append(damage, d) })
	if err != nil {
		t.Fatal(err)
	}
	return found, damage
}

func someone(n int) Record {
	return Record{
		Action: EncounterOpened, Outcome: Done, Subject: fmt.Sprintf("subject-%d", n), Email: fmt.Sprintf("ada%d@hospital.example", n),
		Provider: fmt.Sprintf("D-%d", n), Tenant: "north", Encounter: fmt.Sprintf("E-%d", n), Patient: fmt.Sprintf("P-%d", n), EHR: "ehr-1", RequestID: fmt.Sprintf("call-%d", n),
	}
}

func TestWhatWasRecordedIsFoundByPersonPatientEncounterProviderAndTime(t *testing.T) {
	c, path := &clock{t: start}, private(t)
	l := opened(t, orgconfig.Audit{File: path}, c)
	for n := range 5 {
		c.set(start.Add(time.Duration(n) * time.Hour))
		record(t, l, someone(n))
	}
	record(t, l, Record{Action: EncounterOpened, Outcome: Refused, Code: problem.ProviderMismatch, Subject: "subject-9", Provider: "D-9", AskedProvider: "D-3", Patient: "P-3"})
	for name, test := range map[string]struct {
		q    Query
		want []string
	}{
		"everything":       {Query{}, []string{"subject-0", "subject-1", "subject-2", "subject-3", "subject-4", "subject-9"}},
		"subject":          {Query{Person: "subject-2"}, []string{"subject-2"}},
		"e-mail":           {Query{Person: "ADA2@hospital.example"}, []string{"subject-2"}},
		"patient":          {Query{Patient: "P-3"}, []string{"subject-3", "subject-9"}},
		"part of an id":    {Query{Patient: "P-"}, nil},
		"encounter":        {Query{Encounter: "E-1"}, []string{"subject-1"}},
		"either provider":  {Query{Provider: "D-3"}, []string{"subject-3", "subject-9"}},
		"since":            {Query{Since: start.Add(4 * time.Hour)}, []string{"subject-4", "subject-9"}},
		"until":            {Query{Until: start.Add(time.Hour)}, []string{"subject-0"}},
		"all of them":      {Query{Person: "subject-3", Patient: "P-3", Since: start, Until: start.Add(24 * time.Hour)}, []string{"subject-3"}},
		"one does not fit": {Query{Person: "subject-3", Patient: "P-4"}, nil},
	} {
		found, damage := search(t, path, test.q)
		var got []string
		for _, r := range found {
			got = append(got, r.Subject)
		}
		if strings.Join(got, " ") != strings.Join(test.want, " ") || len(damage) != 0 {
			t.Errorf("%s: %v, %v", name, got, damage)
		}
	}
	found, _ := search(t, path, Query{Person: "subject-0"})
	want := someone(0)
	want.Time = start
	if found[0] != want {
		t.Errorf("%+v came back as %+v", want, found[0])
	}
}

func TestAFullFileAndAPastMonthAreMovedAsideAndStillSearched(t *testing.T) {
	c, path := &clock{t: start}, private(t)
	l := opened(t, orgconfig.Audit{File: path, MaxMegabytes: 1}, c)
	padding := strings.Repeat("x", 2000)
	for n := range 1200 {
		r := someone(n)
		r.Tenant = padding
		record(t, l, r)
	}
	c.set(start.AddDate(0, 1, 0))
	record(t, l, someone(5000))
	all, err := parts(path)
	if err != nil || len(all) != 4 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	for _, p := range all {
		info, err := os.Stat(p.path)
		if err != nil || info.Mode().Perm() != 0o600 || info.Size() > 1<<20 {
			t.Errorf("%s: %v, %v", p.path, info, err)
		}
	}
	zip(t, all[0].path)
	for _, n := range []int{0, 700, 1199, 5000} {
		if found, _ := search(t, path, Query{Patient: fmt.Sprintf("P-%d", n)}); len(found) != 1 {
			t.Errorf("patient %d: %d records", n, len(found))
		}
	}
	if found, _ := search(t, path, Query{}); len(found) != 1201 {
		t.Errorf("%d records in all", len(found))
	}
}

func zip(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text)
	if err := errors.Join(z.Close(), os.WriteFile(path+".gz", b.Bytes(), 0o600), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreRemovedWhenEveryLineWasKeptLongEnough(t *testing.T) {
	path := private(t)
	dir := filepath.Dir(path)
	for _, name := range []string{"audit-20260101T000000.000Z.jsonl", "audit-20260101T000001.000Z.jsonl.gz", "audit-20261101T000000.000Z.jsonl", "audit-old.jsonl", "other-20260101T000000.000Z.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opened(t, orgconfig.Audit{File: path, KeepDays: 30}, &clock{t: start})
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "audit-20261101T000000.000Z.jsonl audit-old.jsonl audit.jsonl audit.jsonl.lock other-20260101T000000.000Z.jsonl" {
		t.Errorf("left: %s", got)
	}
}

func TestATornLineIsReportedAndHidesNeitherWhatWasBeforeNorWhatComes(t *testing.T) {
	c, path := &clock{t: start}, private(t)
	l := opened(t, orgconfig.Audit{File: path}, c)
	record(t, l, someone(1))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"2026-11-03T09:00:0`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	found, damage := search(t, path, Query{})
	if len(found) != 1 || len(damage) != 1 || damage[0] != (Damage{"audit.jsonl", 2, true}) {
		t.Errorf("%v, %v", found, damage)
	}
	record(t, opened(t, orgconfig.Audit{File: path}, c), someone(2))
	found, damage = search(t, path, Query{Patient: "P-2"})
	if len(found) != 1 || len(damage) != 1 || damage[0] != (Damage{"audit.jsonl", 2, false}) {
		t.Errorf("%v, %v", found, damage)
	}
}

func TestAFileOrFolderThatOthersCouldReadOrReplaceIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"readable file":   func(path string) error { return os.WriteFile(path, nil, 0o644) },
		"writable folder": func(path string) error { return os.Chmod(filepath.Dir(path), 0o770) },
		"link":            func(path string) error { return os.Symlink(path+".elsewhere", path) },
		"folder":          func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		path := private(t)
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		if name == "readable file" {
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if l, err := Open(orgconfig.Audit{File: path}, nil, nil); err == nil {
			_ = l.Close()
			t.Errorf("a %s is taken", name)
		} else if strings.Contains(err.Error(), filepath.Dir(path)) {
			t.Errorf("%s: the error holds a path: %v", name, err)
		}
	}
}

func TestASecondProcessIsRefusedTheFile(t *testing.T) {
	path := private(t)
	l := opened(t, orgconfig.Audit{File: path}, &clock{t: start})
	if _, err := Open(orgconfig.Audit{File: path}, nil, nil); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("%v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	opened(t, orgconfig.Audit{File: path}, &clock{t: start})
}

// full is a sink that does not take a line.
type full struct{}

func (full) write(Record, []byte) error { return errors.New("the disk is full") }
func (full) close() error               { return nil }

// listed is a sink that keeps lines.
type listed struct{ lines *[]string }

func (l listed) write(_ Record, text []byte) error {
	*l.lines = append(*l.lines, string(text))
	return nil
}
func (listed) close() error { return nil }

func TestWhatNoSinkTookIsOrgBusyAndOneOfTwoIsEnough(t *testing.T) {
	var told, lines []string
	l := &Log{now: time.Now, failed: func(sink string, _ error) { told = append(told, sink) }, sinks: map[string]sink{"file": full{}}}
	if err := l.Record(someone(1)); problem.CodeOf(err) != problem.OrgBusy {
		t.Errorf("%v", err)
	}
	l.sinks["syslog"] = listed{&lines}
	if err := l.Record(someone(2)); err != nil || len(lines) != 1 {
		t.Errorf("%v, %v", err, lines)
	}
	if strings.Join(told, " ") != "file file" {
		t.Errorf("told of %v", told)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(someone(3)); problem.CodeOf(err) != problem.OrgBusy {
		t.Errorf("after Close: %v", err)
	}
}

func TestWithoutAnAuditEverythingIsTaken(t *testing.T) {
	l, err := Open(orgconfig.Audit{}, nil, nil)
	if err != nil || l != nil {
		t.Fatalf("%v, %v", l, err)
	}
	if err := errors.Join(l.Record(someone(1)), l.Close()); err != nil {
		t.Error(err)
	}
}

func TestLinesOfManyAtOnceAreWholeAndAllThere(t *testing.T) {
	path := private(t)
	l := opened(t, orgconfig.Audit{File: path}, &clock{t: start})
	var group sync.WaitGroup
	for n := range 50 {
		group.Go(func() {
			for m := range 20 {
				if err := l.Record(someone(n*20 + m)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if found, damage := search(t, path, Query{}); len(found) != 1000 || len(damage) != 0 {
		t.Errorf("%d records, %v", len(found), damage)
	}
}

func TestASearchOfNothingSaysSo(t *testing.T) {
	err := Search(t.Context(), private(t), Query{}, func(Record) error { return nil }, nil)
	if err == nil || !strings.Contains(err.Error(), "no audit file") {
		t.Errorf("%v", err)
	}
}

func FuzzEveryLineThatWasWrittenIsFound(f *testing.F) {
	f.Add("P-1", "subject", "ada@hospital.example", []byte(`{"time":`))
	f.Add("<P>&\u2028", "a\nb", "\u202e", []byte("\n\n{}\n{\"time\":\"2026-11-03T09:00:00Z\",\"action\":\"x\",\"outcome\":\"done\"}"))
	f.Add("P\x00", `"`, "", []byte(strings.Repeat("x", maxLine+10)))
	f.Fuzz(func(t *testing.T, patient, subject, email string, noise []byte) {
		if patient == "" || len(patient)+len(subject)+len(email) > 4096 || !valid(patient, subject, email) {
			return
		}
		path := private(t)
		c := &clock{t: start}
		r := Record{Action: EncounterOpened, Outcome: Done, Patient: patient, Subject: subject, Email: email}
		write := func() {
			l, err := Open(orgconfig.Audit{File: path}, c.now, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(l.Record(r), l.Close()); err != nil {
				t.Fatal(err)
			}
		}
		write()
		other, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = other.Write(noise)
		if err := errors.Join(err, other.Close()); err != nil {
			t.Fatal(err)
		}
		write()
		count := 0
		want := r
		want.Time = start
		err = Search(t.Context(), path, Query{Patient: patient}, func(got Record) error {
			if got == want {
				count++
			}
			return nil
		}, nil)
		if err != nil || count < 2 {
			t.Errorf("%d of 2 found, %v", count, err)
		}
	})
}

// valid reports whether texts come through JSON as they are: ids from outside have
// come through it already.
func valid(texts ...string) bool {
	for _, s := range texts {
		if strings.ToValidUTF8(s, "") != s {
			return false
		}
	}
	return true
}

func BenchmarkRecord(b *testing.B) {
	for _, every := range []bool{false, true} {
		b.Run(fmt.Sprintf("sync for every line: %v", every), func(b *testing.B) {
			dir := b.TempDir()
			if err := os.Chmod(dir, 0o700); err != nil {
				b.Fatal(err)
			}
			l, err := Open(orgconfig.Audit{File: filepath.Join(dir, "audit.jsonl")}, nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			r := someone(1)
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := l.Record(r); err != nil {
						b.Error(err)
					}
					if every {
						l.mu.Lock()
						_ = l.sinks["file"].(*file).f.Sync()
						l.mu.Unlock()
					}
				}
			})
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
