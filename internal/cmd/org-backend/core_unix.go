//go:build unix

package main

import "golang.org/x/sys/unix"

// withoutCore keeps the system from writing this process's memory into a file when it
// crashes, also where no unit of systemd says so: keys, tokens and patients are in it.
func withoutCore() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &limit) == nil && limit.Cur != 0 {
		limit.Cur = 0
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &limit) // lowering one's own is always allowed
	}
}
