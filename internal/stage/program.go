//go:build linux

package stage

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Program is one program that was started and runs until it is stopped.
type Program struct {
	name string
	cmd  *exec.Cmd
	said *tail
	done chan struct{}
}

// Start starts a program. Its error output is kept (the last 64 KiB) unless cmd
// says where it goes.
func Start(cmd *exec.Cmd) (*Program, error) {
	p := &Program{name: filepath.Base(cmd.Path), cmd: cmd, said: &tail{}, done: make(chan struct{})}
	if cmd.Stderr == nil {
		cmd.Stderr = p.said
	}
	// A program that has ended may have left its error output to a child of its own.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// StartAndHear starts a program and returns the first line that it prints.
func StartAndHear(cmd *exec.Cmd) (*Program, string, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	cmd.Stdout = in
	p, err := Start(cmd)
	_ = in.Close()
	if err != nil {
		return nil, "", errors.Join(err, out.Close())
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		p.Stop()
		return nil, "", errors.Join(fmt.Errorf("%s ended without a word: %s", p.name, p.Said()), out.Close())
	}
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		_ = out.Close()
	}()
	return p, strings.TrimSpace(line), nil
}

// PID is the program's.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Said is the end of the program's error output so far.
func (p *Program) Said() string { return p.said.String() }

// Ended reports whether the program has ended.
func (p *Program) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Stop asks the program to end (SIGTERM), kills it after three seconds, and returns
// when it has ended.
func (p *Program) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
		p.Kill()
	}
}

// Kill ends the program as a crash does, and returns when it has ended.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// tail keeps the end of a text.
type tail struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

const maxTail = 64 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - maxTail; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// adoptOrphans makes this process the parent of what its children leave behind: a
// process that detaches itself, as the agent does, can be waited for.
func adoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the parent of detached processes: %w", err)
	}
	return nil
}

// Alive reports whether a process is there, and buries it where it is this one's
// child by adoption and has ended. It is not for a Program, which buries itself.
func Alive(pid int) bool {
	_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// PSS returns the proportional set size of a process in KiB: its own pages, and of
// those it shares with others its share (proc(5), smaps_rollup).
func PSS(pid int) (int64, error) { return memoryOf(pid, "Pss:") }

// OwnPSS returns the part of it, in KiB, that no file holds: what the process has
// written itself.
func OwnPSS(pid int) (int64, error) { return memoryOf(pid, "Pss_Anon:") }

func memoryOf(pid int, row string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, row); ok {
			return strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		}
	}
	return 0, errors.New("the kernel does not tell the proportional set size")
}

// PSSOfTree adds up a process and everything below it, in KiB.
func PSSOfTree(pid int) (int64, error) {
	sum, err := PSS(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range Children(pid) {
		below, err := PSSOfTree(child)
		if err != nil {
			return 0, err
		}
		sum += below
	}
	return sum, nil
}

// Descriptors counts the open files of a process.
func Descriptors(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(entries), err
}

// Threads counts the threads of a process.
func Threads(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return len(entries), err
}

// statOf are the fields of proc(5) stat that follow the name: state, parent and on.
func statOf(pid int) [][]byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil // it has ended
	}
	// The name, in parentheses, may hold anything: what follows the last one counts.
	return bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
}

// Children returns the processes whose parent is pid, those that have ended and wait
// to be buried among them.
func Children(pid int) []int {
	folders, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	var found []int
	for _, folder := range folders {
		child, err := strconv.Atoi(filepath.Base(folder))
		if err != nil {
			continue
		}
		if fields := statOf(child); len(fields) > 1 && string(fields[1]) == strconv.Itoa(pid) {
			found = append(found, child)
		}
	}
	return found
}

// Family returns every process below one.
func Family(pid int) []int {
	var all []int
	for _, child := range Children(pid) {
		all = append(append(all, child), Family(child)...)
	}
	return all
}

// CPU returns the processor time that a process and everything below it have used
// so far (proc(5), stat: utime and stime), in steps of 10 ms.
func CPU(pid int) time.Duration {
	var sum time.Duration
	if fields := statOf(pid); len(fields) > 12 {
		for _, ticks := range fields[11:13] {
			n, _ := strconv.ParseInt(string(ticks), 10, 64)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	for _, child := range Children(pid) {
		sum += CPU(child)
	}
	return sum
}
