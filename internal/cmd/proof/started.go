//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// endsWithin is how long a command may take to end once it was told to.
const endsWithin = 20 * time.Second

// output runs a command and gives each line that it prints to line. With ctx it
// is told to end, with everything that it started: they are a process group of their
// own, whose id is that of the process started here. An error that it ends with names
// its last lines.
func output(ctx context.Context, line func(string), name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = endsWithin
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	var last []string
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if last = append(last, lines.Text()); len(last) > 5 {
			last = last[1:]
		}
		line(lines.Text())
	}
	err = errors.Join(lines.Err(), cmd.Wait())
	if ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what of the group is still there
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, strings.Join(last, "\n"))
	}
	return nil
}

// target runs a target of the Makefile.
func target(ctx context.Context, line func(string), args ...string) error {
	return output(ctx, line, "make", append([]string{"--no-print-directory"}, args...)...)
}

// tested is what go test said of one test or subtest.
type tested struct {
	pkg, name string
	outcome   string // pass, fail, skip
	lines     []string
}

// goTest runs tests and gives each what go test said of it, subtests too. A test that
// began and said nothing more has failed. It returns an error where a package failed
// without a test that did: it was not compiled, for one.
func goTest(ctx context.Context, each func(tested), args ...string) error {
	type event struct{ Action, Package, Test, Output string }
	open := map[[2]string][]string{}
	failed, explained := map[string]bool{}, map[string]bool{}
	var said []string // by no test
	tell := func(t tested) {
		explained[t.pkg] = explained[t.pkg] || t.outcome == "fail"
		each(t)
	}
	err := output(ctx, func(line string) {
		var e event
		if json.Unmarshal([]byte(line), &e) != nil {
			said = append(said, line)
			return
		}
		if e.Test == "" {
			failed[e.Package] = failed[e.Package] || e.Action == "fail"
			if text := strings.TrimSpace(e.Output); text != "" {
				said = append(said, text)
			}
			return
		}
		key := [2]string{e.Package, e.Test}
		switch e.Action {
		case "run":
			open[key] = nil
		case "output":
			if text := strings.TrimSpace(e.Output); text != "" && !strings.HasPrefix(text, "===") && !strings.HasPrefix(text, "---") {
				open[key] = append(open[key], text)
			}
		case "pass", "fail", "skip":
			tell(tested{e.Package, e.Test, e.Action, open[key]})
			delete(open, key)
		}
	}, "go", append([]string{"test", "-json", "-count=1"}, args...)...)
	for key, lines := range open {
		tell(tested{key[0], key[1], "fail", lines})
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	unexplained := len(failed) == 0
	for pkg, is := range failed {
		unexplained = unexplained || is && !explained[pkg]
	}
	if unexplained {
		return errors.New(strings.Join(said, "\n"))
	}
	return nil // the tests say it
}

// byTests is a part whose rows are Go tests: one row for each, with its subtests
// counted. A test that skipped itself has shown nothing, so it is found.
func byTests(args ...string) func(context.Context, options, progress) ([]row, error) {
	return func(ctx context.Context, _ options, tell progress) ([]row, error) {
		var rows []row
		at := map[string]int{} // of a test in rows
		var done int64
		err := goTest(ctx, func(t tested) {
			done++
			top, _, sub := strings.Cut(t.name, "/")
			key := t.pkg + " " + top
			i, ok := at[key]
			if !ok {
				i = len(rows)
				at[key], rows = i, append(rows, row{Tried: sentence(top), Found: "0", Allowed: "0", Met: true})
			}
			r := &rows[i]
			if sub {
				r.Times++
			} else if r.Times == 0 {
				r.Times = 1
			}
			if t.outcome != "pass" {
				r.Met, r.Found = false, "1"
				if t.outcome == "skip" {
					r.Found = "not run"
				}
				r.Notes = append(r.Notes, t.lines...)
			}
			tell(done, 0, r.Tried)
		}, args...)
		return rows, err
	}
}

// sentence is the name of a test as the sentence that it is.
func sentence(name string) string {
	var b strings.Builder
	for i, r := range strings.TrimPrefix(strings.TrimPrefix(name, "Test"), "_") {
		if r >= 'A' && r <= 'Z' && i > 0 {
			b.WriteByte(' ')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
