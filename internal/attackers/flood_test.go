//go:build attackers && linux

package attackers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// standIn is the desktop's notification service, as the end-to-end test has it.
type standIn struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

type notice struct {
	ID            int
	Summary, Body string
	Closed        bool
}

func (w *workstation) desktop() *standIn {
	w.t.Helper()
	cmd := clinician.command(w.env, bin+"/desktop")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		w.t.Fatal(err1, err2)
	}
	running(w.t, cmd)
	s := &standIn{w.t, in, bufio.NewScanner(out)}
	s.out.Buffer(nil, 16<<20)
	if !s.out.Scan() || !strings.Contains(s.out.Text(), "ready") {
		w.t.Fatalf("the desktop did not start: %s", s.out.Text())
	}
	return s
}

// notices are all that were shown so far.
func (s *standIn) notices() (list []notice) {
	s.t.Helper()
	fmt.Fprintln(s.in, `{"do":"notices"}`)
	var answer struct{ Result *[]notice }
	answer.Result = &list
	if !s.out.Scan() {
		s.t.Fatal("the desktop has ended")
	}
	if err := json.Unmarshal(s.out.Bytes(), &answer); err != nil {
		s.t.Fatalf("%v: %s", err, s.out.Text())
	}
	return list
}

const (
	thousand = 1000
	// The launcher's own limits, per ten seconds (design, section 3): distinct links,
	// and known ones that are taken up again.
	distinct, again = 5, 5
)

// fire presses a thousand links, several at once, and counts how the handlers ended.
func (w *workstation) fire(link func(n int) string) (ended map[int]int, took time.Duration) {
	w.t.Helper()
	ended = map[int]int{}
	var mu sync.Mutex
	var crowd sync.WaitGroup
	next := make(chan int)
	begun := time.Now()
	for range 8 {
		crowd.Go(func() {
			for n := range next {
				cmd := clinician.command(w.env, w.launcher, link(n))
				_ = cmd.Run()
				mu.Lock()
				ended[cmd.ProcessState.ExitCode()]++
				mu.Unlock()
			}
		})
	}
	for n := range thousand {
		next <- n
	}
	close(next)
	crowd.Wait()
	return ended, time.Since(begun)
}

func TestAThousandLinksMeetTheLimitOneNoticeAndNoWindow(t *testing.T) {
	w := logOn(t)
	w.session()
	desktop := w.desktop()
	w.serve()
	agent := w.agent()
	w.signIn()

	handle := func(n int) string {
		return fmt.Sprintf("encounter-launcher-demo://launch?handle=Zk3vQ9x1T7mB2nR5wY8q%04d", n)
	}
	floods := []struct {
		what string
		link func(int) string
		// most is how many of them may become a launch in each ten seconds.
		most    int
		repeats bool
	}{
		{"a thousand different links", handle, distinct, false},
		{"one link a thousand times", func(int) string { return handle(5000) }, 1 + again, true},
		{"ten links a hundred times each", func(n int) string { return handle(6000 + n%10) }, distinct + again, true},
		{"a thousand links that are none", func(n int) string { return fmt.Sprintf("encounter-launcher-demo://launch?handle=short%d", n) }, 0, false},
	}
	if testing.Short() {
		floods = floods[1:2] // each waits until the limit has forgotten the one before
	}
	for _, c := range floods {
		t.Run(c.what, func(t *testing.T) {
			w.t, desktop.t = t, t
			// What the limit remembers of the links before has to be over.
			clear := time.NewTimer(11 * time.Second)
			<-clear.C
			opened, before := len(w.recorded("opened")), len(desktop.notices())
			ended, took := w.fire(c.link)
			windows := int(took/(10*time.Second)) + 1
			// A repeat that comes while its launch runs is joined to it, and taken so.
			if ended[0] > c.most*windows && !c.repeats || ended[0]+ended[2] != thousand {
				t.Errorf("the handlers ended %v in %v", ended, took)
			}
			shown := desktop.notices()[before:]
			open := 0
			for _, n := range shown {
				if !n.Closed {
					open++
				}
				if strings.Contains(n.Summary+n.Body, "://") || strings.Contains(n.Summary+n.Body, "Zk3v") {
					t.Errorf("a notice shows a link: %+v", n)
				}
			}
			// Each launch that fails is told of; of the flood itself there is one notice.
			if most := c.most*windows + 1; len(shown) > most || open > 1 {
				t.Errorf("%d notices, of which %d are still to be seen; at most %d and one", len(shown), open, most)
			}
			if now := len(w.recorded("opened")); now != opened {
				t.Errorf("%d addresses were handed to the browser", now-opened)
			}
			if windows := w.recorded("windows"); len(windows) > 0 {
				t.Errorf("%d windows were started", len(windows))
			}
			t.Logf("%d handlers in %v: %d taken, %d refused, %d notices, of which %d are still to be seen, 0 windows, 0 pages", thousand, took.Round(time.Millisecond), ended[0], ended[2], len(shown), open)
			// The person's own click works again when ten seconds have passed.
			last := time.Now()
			for try := 0; ; try++ {
				if code, said := w.run(w.press("2")); code == 0 {
					break
				} else if time.Since(last) > 11*time.Second {
					t.Fatalf("%v after the flood a press is refused: %s", time.Since(last), said)
				}
				time.Sleep(time.Second)
			}
			w.opened(opened + 1)
		})
	}
	w.t = t
	if s := w.status(); s.Agent != "running" || !s.SignedIn || agent.ProcessState != nil {
		t.Errorf("after it all the agent is %+v", s)
	}
	if code, said := w.run("audit", "verify"); code != 0 {
		t.Errorf("the audit: %s", said)
	}
}

func TestAThousandLinksWhileNobodyIsSignedInShowOneSignInPage(t *testing.T) {
	w := logOn(t)
	w.session()
	desktop := w.desktop()
	w.serve()
	w.agent()
	ended, took := w.fire(func(n int) string {
		return fmt.Sprintf("encounter-launcher-demo://launch?handle=Zk3vQ9x1T7mB2nR5wY8q%04d", n)
	})
	windows := int(took/(10*time.Second)) + 1
	if ended[0] > distinct*windows || ended[0]+ended[2] != thousand {
		t.Errorf("the handlers ended %v in %v", ended, took)
	}
	if pages := len(w.recorded("opened")); pages != 1 {
		t.Errorf("%d pages were opened", pages)
	}
	if shown := desktop.notices(); len(shown) != 1 {
		t.Errorf("notices: %+v", shown)
	}
	if windows := w.recorded("windows"); len(windows) > 0 {
		t.Errorf("%d windows were started", len(windows))
	}
	t.Logf("%d handlers in %v: %d taken, %d refused, one page, one notice, no window", thousand, took.Round(time.Millisecond), ended[0], ended[2])
}

// A browser that starts a thousand handlers while no agent runs must end with one.
func TestAThousandLinksWhileNoAgentRunsStartOne(t *testing.T) {
	w := logOn(t)
	w.session()
	w.desktop()
	w.serve()
	t.Cleanup(func() { w.run("quit") })
	ended, took := w.fire(func(n int) string {
		return fmt.Sprintf("encounter-launcher-demo://launch?handle=Zk3vQ9x1T7mB2nR5wY8q%04d", n)
	})
	windows := int(took/(10*time.Second)) + 1
	if ended[0] == 0 || ended[0] > distinct*windows || ended[0]+ended[2] != thousand {
		t.Errorf("the handlers ended %v in %v", ended, took)
	}
	if n := len(processesOf(t, w.launcher)); n != 1 {
		t.Errorf("%d processes of the launcher run", n)
	}
	if pages := len(w.recorded("opened")); pages != 1 {
		t.Errorf("%d pages were opened", pages)
	}
	t.Logf("%d handlers in %v: %d taken, %d refused, one agent, one page", thousand, took.Round(time.Millisecond), ended[0], ended[2])
}

// processesOf are the processes that run a file.
func processesOf(t *testing.T, program string) (pids []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == program {
			pids = append(pids, link)
		}
	}
	return pids
}
