//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress is told by a part how far it is: done of total, and what it does. A total
// of 0 is one that is not known. It may be called from several goroutines.
type progress func(done, total int64, what string)

// plainEvery is how often a line is written where there is no terminal.
const plainEvery = 15 * time.Second

// screen shows how far a part is: a bar on a terminal, else a line now and then.
type screen struct {
	to       io.Writer
	terminal bool

	mu    sync.Mutex
	part  string                   // guarded by mu
	bar   *progressbar.ProgressBar // guarded by mu: nil where there is no terminal or nothing runs
	total int64                    // guarded by mu: that of the bar
	told  time.Time                // guarded by mu: when the last line was written
}

func newScreen(to *os.File) *screen {
	return &screen{to: to, terminal: term.IsTerminal(int(to.Fd()))}
}

// say writes a line that stays.
func (s *screen) say(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(line)
}

func (s *screen) line(line string) {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
	_, _ = fmt.Fprintln(s.to, "proof:", line)
}

func (s *screen) begin(part string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part, s.told = part, time.Now()
	if s.terminal {
		s.newBar(-1)
		return
	}
	s.line(part)
}

// newBar shows a bar, or a spinner for a total that is not known.
func (s *screen) newBar(total int64) {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
	s.total = total
	how := []progressbar.Option{
		progressbar.OptionSetWriter(s.to), progressbar.OptionSetWidth(24), progressbar.OptionClearOnFinish(), progressbar.OptionSpinnerType(14),
		progressbar.OptionSetDescription(s.part), progressbar.OptionThrottle(100 * time.Millisecond),
	}
	if total > 0 {
		how = append(how, progressbar.OptionShowCount())
	}
	s.bar = progressbar.NewOptions64(total, how...)
}

// step is the progress of the part that runs.
func (s *screen) step(done, total int64, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.part == "" {
		return // something of a part that has ended
	}
	if total <= 0 {
		total = -1
	}
	if s.bar != nil {
		if total != s.total {
			s.newBar(total)
		}
		s.bar.Describe(s.part + ": " + what)
		_ = s.bar.Set64(done)
		return
	}
	if time.Since(s.told) < plainEvery {
		return
	}
	s.told = time.Now()
	if total > 0 {
		s.line(fmt.Sprintf("%s: %s, %s of %s (%d %%)", s.part, what, number(done), number(total), done*100/total))
	} else {
		s.line(fmt.Sprintf("%s: %s", s.part, what))
	}
}

func (s *screen) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Clear()
	}
	s.bar, s.part = nil, ""
}
