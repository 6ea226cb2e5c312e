package main

import (
	"golang.org/x/sys/windows"

	"encounterlauncher/internal/control"
)

// takeClick has nothing to take: on Windows the click is this process's right.
func takeClick() control.Activation { return control.Activation{} }

// passFocus lets the agent bring its browser to the front
// (AllowSetForegroundWindow).
func passFocus(agent int) {
	if agent > 0 {
		_, _, _ = windows.NewLazySystemDLL("user32.dll").NewProc("AllowSetForegroundWindow").Call(uintptr(agent))
	}
}

// clickEnviron is empty: the right to the front is not in the environment.
func clickEnviron(control.Activation) []string { return nil }
