//go:build unix

package main

import "golang.org/x/sys/unix"

// withoutCore keeps the system from writing this process's memory into a file when it
// crashes: links, tokens and one-time addresses are in it. What it starts inherits
// that: the window, and the browser, which has ways of its own to tell of a crash.
func withoutCore() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &limit) == nil && limit.Cur != 0 {
		limit.Cur = 0
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &limit) // lowering one's own is always allowed
	}
}
