//go:build linux

package endurance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"encounterlauncher/internal/stage"
)

// read reads what every program holds.
func (r *run) read(ctx context.Context, at float64) error {
	if err := r.over(ctx); err != nil {
		return err
	}
	for name, pid := range map[string]int{"agent": r.agent.PID, "backend": r.backend.PID(), "simulator": r.sim.PID()} {
		if err := r.process(name, pid, at); err != nil {
			return fmt.Errorf("the %s: %w", name, err)
		}
	}
	n, err := r.goroutines(ctx)
	if err != nil {
		return err
	}
	r.log.Add("backend: goroutines", at, n)
	state := filepath.Join(r.session.Folder("state"), "encounter-launcher")
	for name, pattern := range map[string]string{"audit": "audit/*", "log": "agent.log*", "recents": "recents/*"} {
		r.log.Add("files: "+name, at, sizeOf(filepath.Join(state, pattern)))
	}
	return nil
}

// process reads one program from outside.
func (r *run) process(name string, pid int, at float64) error {
	pss, err1 := stage.PSS(pid)
	own, err2 := stage.OwnPSS(pid)
	rss, err3 := resident(pid)
	threads, err4 := stage.Threads(pid)
	open, err5 := stage.Descriptors(pid)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	r.log.Add(name+": PSS", at, float64(pss)/1024)
	r.log.Add(name+": own", at, float64(own)/1024)
	r.log.Add(name+": RSS", at, float64(rss)/1024)
	r.log.Add(name+": threads", at, float64(threads))
	r.log.Add(name+": descriptors", at, float64(open))
	return nil
}

// resident is the resident set size of a process in KiB.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		}
	}
	return 0, errors.New("the kernel does not tell the resident set size")
}

// goroutines asks the backend's metrics.
func (r *run) goroutines(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.metrics, nil)
	if err != nil {
		return 0, err
	}
	answer, err := r.plain.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			return strconv.ParseFloat(rest, 64)
		}
	}
	return 0, errors.Join(lines.Err(), errors.New("the backend's metrics do not tell its goroutines"))
}

// sizeOf is that of files together, in MB.
func sizeOf(pattern string) float64 {
	files, _ := filepath.Glob(pattern) // the pattern is good
	var sum int64
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			sum += info.Size()
		}
	}
	return float64(sum) / (1 << 20)
}
