//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// with makes parts of rows, and says whether each ran.
func with(rows []row, err error) part {
	return part{"one", "That it is so", func(context.Context, options, progress) ([]row, error) { return rows, err }}
}

// proved runs the command in a folder of its own and returns its status and report.
func proved(t *testing.T, ctx context.Context, parts []part, args ...string) (int, report, string) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("go.mod", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	status := command(ctx, append(args, "-out", "out"), parts)
	var r report
	text, err := os.ReadFile(filepath.Join("out", "proof.json"))
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	page, missing := os.ReadFile(filepath.Join("out", "proof.md"))
	if err := errors.Join(err, missing); err != nil && status != exitUsage {
		t.Fatal(err)
	}
	return status, r, string(page)
}

func TestItEndsWithNothingFoundOnlyWhereEveryPartRanAndFoundNothing(t *testing.T) {
	good := count("links", 1000, 0)
	for name, c := range map[string]struct {
		parts  []part
		status int
		says   string
	}{
		"nothing found":         {[]part{with([]row{good}, nil)}, exitShown, "shown, 1 of 1"},
		"something found":       {[]part{with([]row{good, count("files", 3, 1)}, nil)}, exitFound, "FOUND in 1 of 2"},
		"a part cannot run":     {[]part{with([]row{good}, nil), with(nil, errors.New("needs root"))}, exitFound, "not run: needs root"},
		"nothing was tried":     {[]part{with(nil, nil)}, exitFound, "not run: nothing was tried"},
		"a row tried nothing":   {[]part{with([]row{count("links", 0, 0)}, nil)}, exitFound, "FOUND in 1 of 1"},
		"found, then cut short": {[]part{with([]row{count("links", 2, 1)}, errors.New("the disk is full"))}, exitFound, "FOUND in 1 of 1, and not run to its end: the disk is full"},
	} {
		t.Run(name, func(t *testing.T) {
			status, r, page := proved(t, t.Context(), c.parts)
			if status != c.status || r.Shown != (c.status == exitShown) || !strings.Contains(page, c.says) {
				t.Errorf("status %d, shown %v, page:\n%s", status, r.Shown, page)
			}
		})
	}
}

func TestAnInterruptedProofShowsNothingOfThePartsThatDidNotRun(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	first := part{"first", "", func(context.Context, options, progress) ([]row, error) {
		interrupt()
		return []row{count("links", 5, 0)}, nil
	}}
	second := part{"second", "", func(context.Context, options, progress) ([]row, error) {
		t.Error("a part was begun after the interruption")
		return nil, nil
	}}
	status, r, _ := proved(t, ctx, []part{first, second})
	if status != exitFound || len(r.Parts) != 2 || r.Parts[0].NotRun != "interrupted" || r.Parts[1].NotRun != "interrupted" {
		t.Errorf("status %d, %+v", status, r.Parts)
	}
}

func TestWhatItIsAskedForIsWhatItRuns(t *testing.T) {
	var asked []string
	named := func(name string) part {
		return part{name, "", func(_ context.Context, o options, _ progress) ([]row, error) {
			asked = append(asked, name)
			if !o.short {
				t.Error("the short form was asked for")
			}
			return []row{count(name, 1, 0)}, nil
		}}
	}
	parts := []part{named("a"), named("b"), named("c")}
	if status, _, _ := proved(t, t.Context(), parts, "-short", "-only", "c, a"); status != exitShown || strings.Join(asked, " ") != "a c" {
		t.Errorf("status %d, ran %q", status, asked)
	}
	for _, args := range [][]string{{"-only", "d"}, {"more"}, {"-unknown"}} {
		if status, _, _ := proved(t, t.Context(), parts, args...); status != exitUsage {
			t.Errorf("%q: status %d", args, status)
		}
	}
}

func TestAnInterruptionEndsACommandWithEverythingThatItStarted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var child int
	err := output(ctx, func(line string) {
		child, _ = strconv.Atoi(line)
		interrupt()
	}, "sh", "-c", "sleep 600 & echo $!; wait")
	if !errors.Is(err, context.Canceled) || child == 0 {
		t.Fatalf("child %d, %v", child, err)
	}
	for late := time.Now().Add(10 * time.Second); running(child); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("what the command started is still there")
		}
	}
}

// running reports whether a process is there that has not ended: one that nobody has
// waited for counts as ended.
func running(pid int) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(text), ") Z ") && syscall.Kill(pid, 0) == nil
}

func TestWhatATestSaysIsTakenAsItIs(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal(err)
	}
	module := func(t *testing.T, files map[string]string) {
		t.Chdir(t.TempDir())
		files["go.mod"] = "module tried\n\ngo 1.26\n"
		for name, text := range files {
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	const head = "package tried\nimport \"testing\"\n"
	run := func() ([]row, error) {
		return byTests("./...")(t.Context(), options{}, func(int64, int64, string) {})
	}
	t.Run("passed, with its subtests counted", func(t *testing.T) {
		module(t, map[string]string{"a_test.go": head + `func TestAllIsWell(t *testing.T) { for range 3 { t.Run("x", func(*testing.T) {}) } }`})
		rows, err := run()
		if err != nil || len(rows) != 1 || rows[0].Times != 3 || !rows[0].Met || rows[0].Tried != "All is well" {
			t.Errorf("%+v, %v", rows, err)
		}
	})
	t.Run("failed", func(t *testing.T) {
		module(t, map[string]string{"a_test.go": head + `func TestBad(t *testing.T) { t.Error("so it is") }`})
		rows, err := run()
		if err != nil || len(rows) != 1 || rows[0].Met || len(rows[0].Notes) != 1 || !strings.Contains(rows[0].Notes[0], "so it is") {
			t.Errorf("%+v, %v", rows, err)
		}
	})
	t.Run("skipped is not shown", func(t *testing.T) {
		module(t, map[string]string{"a_test.go": head + `func TestRoot(t *testing.T) { t.Skip("needs root") }`})
		if rows, err := run(); err != nil || len(rows) != 1 || rows[0].Met || rows[0].Found != "not run" {
			t.Errorf("%+v, %v", rows, err)
		}
	})
	t.Run("ended in the middle", func(t *testing.T) {
		module(t, map[string]string{"a_test.go": head + "import \"os\"\n" + `func TestGone(t *testing.T) { os.Exit(1) }`})
		if rows, err := run(); err != nil || len(rows) != 1 || rows[0].Met {
			t.Errorf("%+v, %v", rows, err)
		}
	})
	t.Run("not compiled, beside one that failed", func(t *testing.T) {
		module(t, map[string]string{"a_test.go": head + `func TestBad(t *testing.T) { t.Error("so it is") }`, "b/b_test.go": "package b\nfunc"})
		if rows, err := run(); err == nil || len(rows) != 1 {
			t.Errorf("%+v, %v", rows, err)
		}
	})
	t.Run("nothing there", func(t *testing.T) {
		module(t, map[string]string{"a.go": "package tried"})
		if rows, err := run(); err != nil || len(rows) != 0 {
			t.Errorf("%+v, %v", rows, err)
		}
	})
}
