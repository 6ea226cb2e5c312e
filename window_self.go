//go:build desktop || bindings || dev

package main

import "os/exec"

// windowHere says that this build holds the window.
const windowHere = true

// windowProcess is this program in its window role.
func windowProcess(executable string) *exec.Cmd { return exec.Command(executable, "window") }
