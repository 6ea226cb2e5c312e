//go:build !console

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// line is one of the log, of 100 bytes.
func line(n byte) []byte { return append(bytes.Repeat([]byte{n}, 99), '\n') }

func sizes(t *testing.T, path string) (now, before int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if old, err := os.Stat(path + ".1"); err == nil {
		before = old.Size()
	}
	return info.Size(), before
}

func TestTheLogOfAnAgentThatNeverEndsStaysWithinItsBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	l, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 4 * mostLog / 4 / 100 {
				if _, err := l.Write(line('x')); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if _, err := l.Write(line('y')); err != nil {
		t.Fatal(err)
	}
	now, before := sizes(t, path)
	if now > mostLog+100 || before > mostLog+100 || before < mostLog-100 {
		t.Errorf("%d bytes, and %d before", now, before)
	}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if len(files) != 2 {
		t.Errorf("files: %q", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n") {
			if len(strings.TrimSuffix(got, "\n")) != 99 {
				t.Fatalf("a line is torn: %q", got)
			}
		}
	}
}

func TestALogThatIsTooLargeAtTheStartIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	if err := os.WriteFile(path, make([]byte, mostLog+1), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if now, before := sizes(t, path); now != 0 || before != mostLog+1 {
		t.Errorf("%d bytes, and %d before", now, before)
	}
}

func TestALogThatAnotherSessionSetAsideIsLeftToIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	ours, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	for range mostLog/100 + 1 {
		if _, err := ours.Write(line('o')); err != nil {
			t.Fatal(err)
		}
	}
	theirs, err := openLogFile(path) // which sets it aside
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if _, err := theirs.Write(line('t')); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Write(line('o')); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != string(line('t'))+string(line('o')) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, before := sizes(t, path); before < mostLog {
		t.Errorf("of the one before %d bytes are left", before)
	}
}

func TestALogThatCannotBeSetAsideIsWrittenOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	l, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.MkdirAll(filepath.Join(path+".1", "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 * mostLog / 100 {
		if _, err := l.Write(line('x')); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 2*mostLog/100*100 {
		t.Errorf("%v, %v", info, err)
	}
}
