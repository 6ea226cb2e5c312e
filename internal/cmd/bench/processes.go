//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// pssOf returns the proportional set size of a process in KiB: its own pages, and
// of those it shares with others its share (proc(5), smaps_rollup).
func pssOf(pid int) (int64, error) { return memoryOf(pid, "Pss:") }

// ownOf returns the part of it, in KiB, that no file holds: what the process has
// written itself.
func ownOf(pid int) (int64, error) { return memoryOf(pid, "Pss_Anon:") }

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

// pssOfTree adds up a process and everything below it.
func pssOfTree(pid int) (int64, error) {
	sum, err := pssOf(pid)
	if err != nil {
		return 0, err
	}
	for _, child := range children(pid) {
		below, err := pssOfTree(child)
		if err != nil {
			return 0, err
		}
		sum += below
	}
	return sum, nil
}

// children returns the processes whose parent is pid.
func children(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	var found []int
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it ended meanwhile
		}
		// The name, in parentheses, may hold anything: what follows the last one is
		// state and parent.
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err == nil && len(fields) > 1 && string(fields[1]) == strconv.Itoa(pid) {
			found = append(found, child)
		}
	}
	return found
}

// cpuOf returns the processor time that a process and everything below it have
// used so far (proc(5), stat: utime and stime), in steps of 10 ms.
func cpuOf(pid int) time.Duration {
	var sum time.Duration
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // one that has ended has used nothing more
	if fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]); len(fields) > 12 {
		for _, ticks := range fields[11:13] {
			n, _ := strconv.ParseInt(string(ticks), 10, 64)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	for _, child := range children(pid) {
		sum += cpuOf(child)
	}
	return sum
}
