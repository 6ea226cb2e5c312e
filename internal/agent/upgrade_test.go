package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestAnUpgradeWaitsForAWholeFileThatWorksAndAnIdleAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	write := func(content string, at int) {
		t.Helper()
		next := path + ".new"
		if err := os.WriteFile(next, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		when := time.Unix(1_700_000_000+int64(at), 0)
		if err := os.Chtimes(next, when, when); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	write("old", 0)
	idle := true
	var works error
	probes, stops := 0, 0
	w := upgradeWatch{
		stat:  func() (fs.FileInfo, error) { return os.Stat(path) },
		works: func() error { probes++; return works },
		idle:  func() bool { return idle },
		stop:  func() bool { stops++; return idle },
		log:   slog.New(slog.DiscardHandler),
	}
	expect := func(again bool, why string) {
		t.Helper()
		want := asItWas
		if again {
			want = replaced
		}
		if got := w.look(); got != want {
			t.Fatalf("%s: look() = %v, want %v", why, got, want)
		}
	}
	expect(false, "the first look only remembers")
	expect(false, "nothing has changed")
	write("half", 1)
	expect(false, "a new file is looked at twice")
	write("whole", 2)
	expect(false, "it was still changing")
	idle = false
	expect(false, "a launch is in flight")
	if probes != 0 {
		t.Error("the new file was tried while the agent was busy")
	}
	idle, works = true, fmt.Errorf("starting: %w", syscall.ETXTBSY)
	expect(false, "somebody still writes to the new file")
	works = errors.New("exec format error")
	expect(false, "the new file does not run")
	works = nil
	expect(false, "a file that did not run is not tried again")
	if probes != 2 {
		t.Errorf("%d trial runs, want 2", probes)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect(false, "a file that is missing for a moment is not removed")
	write("good", 3)
	expect(false, "seen once")
	if stops != 0 {
		t.Error("the agent stopped taking links before there was a file to go on with")
	}
	expect(true, "a whole file that works, and nothing in flight")
}

func TestAnAgentWhoseProgramWasRemovedEndsOnceNothingIsInFlight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	write := func() {
		t.Helper()
		if err := os.WriteFile(path, []byte("program"), 0o755); err != nil {
			t.Fatal(err)
		}
		when := time.Unix(1_700_000_000, 0)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	remove := func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	var broken error
	idle, stops := true, 0
	w := upgradeWatch{
		stat: func() (fs.FileInfo, error) {
			if broken != nil {
				return nil, broken
			}
			return os.Stat(path)
		},
		works: func() error { return errors.New("not asked for") },
		idle:  func() bool { return idle },
		stop:  func() bool { stops++; return idle },
		log:   slog.New(slog.DiscardHandler),
	}
	expect := func(want fate, looks int, why string) {
		t.Helper()
		for range looks {
			if got := w.look(); got != want {
				t.Fatalf("%s: look() = %v, want %v", why, got, want)
			}
		}
	}
	write()
	expect(asItWas, 2, "the file is there")
	remove()
	expect(asItWas, goneLooks-1, "it is gone for a moment")
	write()
	expect(asItWas, 1, "something is there again")
	remove()
	expect(asItWas, goneLooks-1, "the time begins anew")
	broken = fmt.Errorf("looking: %w", syscall.EIO)
	expect(asItWas, 2*goneLooks, "the disk does not answer")
	broken = nil
	expect(asItWas, goneLooks-1, "and begins anew after it")
	idle = false
	expect(asItWas, 5, "a launch is in flight")
	if stops != 0 {
		t.Error("the agent stopped taking links although something is in flight")
	}
	idle = true
	expect(removed, 1, "gone for long, and nothing in flight")
}

func TestAFileThatIsReplacedBeforeTheFirstLookIsNoticed(t *testing.T) {
	own, err := startedFrom()
	if err != nil || own.info == nil {
		t.Fatalf("%+v, %v", own, err)
	}
	own.path = filepath.Join(t.TempDir(), "replaced")
	if err := os.WriteFile(own.path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	busy := 0
	w := own.watch(t.Context(), slog.New(slog.DiscardHandler), func() bool { busy++; return false }, nil)
	for range 2 {
		if w.look() != asItWas {
			t.Fatal("a busy agent starts anew")
		}
	}
	if busy != 1 {
		t.Error("it was taken for the file that this program was started from")
	}
}

func TestAFileOfTheSameSizeAndTimeIsAnotherFileAllTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	when := time.Unix(1_700_000_000, 0) // installers may set one time on every version
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	own := lookAt(path)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	write("new")
	if now := lookAt(path); sameFile(own.info, now.info) {
		t.Error("the new file is taken for the old one")
	}
}
