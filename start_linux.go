package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// closeInherited marks every file that a browser left open in this process to be
// closed in the agent. What Go itself opened is marked already.
func closeInherited() {
	if unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	// Before Linux 5.11 there is no such call, so one by one.
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, f := range files {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
