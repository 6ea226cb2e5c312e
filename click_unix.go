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

// clickEnviron is the click as a started program finds it in its environment.
func clickEnviron(a control.Activation) []string {
	var env []string
	if a.Token != "" {
		env = append(env, "XDG_ACTIVATION_TOKEN="+a.Token)
	}
	if a.StartupID != "" {
		env = append(env, "DESKTOP_STARTUP_ID="+a.StartupID)
	}
	return env
}
