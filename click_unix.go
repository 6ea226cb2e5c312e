//go:build unix

package main

import (
	"os"

	"encounterlauncher/internal/control"
)

// takeClick takes the right of the person's click out of the environment (XDG
// Activation, Startup Notification), so that no process that outlives it
// inherits it.
func takeClick() control.Activation {
	a := control.Activation{Token: os.Getenv("XDG_ACTIVATION_TOKEN"), StartupID: os.Getenv("DESKTOP_STARTUP_ID")}
	_ = os.Unsetenv("XDG_ACTIVATION_TOKEN")
	_ = os.Unsetenv("DESKTOP_STARTUP_ID")
	return a
}

// passFocus does nothing here: the click travels in the hand-over.
func passFocus(int) {}
