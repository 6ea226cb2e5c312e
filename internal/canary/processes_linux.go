package canary

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// role is which places hold arguments and environment of a program.
type role struct{ argv, env PlaceName }

// processes reads arguments and environment of every process that carries a mark in its
// environment, again and again: who starts one passes the environment on.
type processes struct {
	evidence *evidence
	// carries is what the environment of ours has, such as "XDG_RUNTIME_DIR=/tmp/x/run".
	carries []byte
	// roleOf says by the arguments what a process is; the zero role leaves it out.
	roleOf func(argv []string) role
	stop   chan struct{}
	done   sync.WaitGroup
}

// readAgain is the pause between two looks at all processes: an opener that ends
// sooner reports for itself.
const readAgain = 25 * time.Millisecond

func watchProcesses(e *evidence, carries string, roleOf func(argv []string) role) *processes {
	p := &processes{evidence: e, carries: []byte(carries + "\x00"), roleOf: roleOf, stop: make(chan struct{})}
	p.done.Go(func() {
		others := map[string]bool{}
		for tick := time.NewTicker(readAgain); ; {
			p.look(others)
			select {
			case <-p.stop:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	})
	return p
}

// look reads every process once. others are those known to be somebody else's, by
// number and start.
func (p *processes) look(others map[string]bool) {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		folder := filepath.Join("/proc", entry.Name())
		info, err := os.Stat(folder)
		if err != nil {
			continue
		}
		id := entry.Name() + info.ModTime().String()
		if others[id] {
			continue
		}
		env, err1 := os.ReadFile(filepath.Join(folder, "environ"))
		argv, err2 := os.ReadFile(filepath.Join(folder, "cmdline"))
		if err1 != nil || err2 != nil || len(argv) == 0 {
			continue // it ended, or has not begun
		}
		if !bytes.Contains(env, p.carries) {
			// A process that was forked a moment ago still has its parent's.
			others[id] = time.Since(info.ModTime()) > time.Second
			continue
		}
		p.add(argv, env)
	}
}

func (p *processes) add(argv, env []byte) {
	words := strings.Split(strings.TrimSuffix(string(argv), "\x00"), "\x00")
	if r := p.roleOf(words); r != (role{}) {
		where := filepath.Base(words[0])
		p.evidence.add(r.argv, where, argv)
		p.evidence.add(r.env, where, env)
	}
}

func (p *processes) close() {
	close(p.stop)
	p.done.Wait()
}
