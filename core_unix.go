//go:build unix

package main

import "encounterlauncher/internal/ground"

// withoutCore keeps the system from writing this process's memory into a file when it
// crashes: links, tokens and one-time addresses are in it. What it starts inherits
// that: the window, and the browser, which has ways of its own to tell of a crash.
func withoutCore() { ground.WithoutCore() }
