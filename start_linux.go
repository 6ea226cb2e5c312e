package main

import "golang.org/x/sys/unix"

// closeInherited marks every file that a browser left open in this process to be
// closed in the agent. Older kernels than 5.11 lack the flag; what Go itself
// opened is marked already.
func closeInherited() { _ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) }
