//go:build (linux && desktop) || bindings || dev

package main

import (
	"encounterlauncher/internal/control"
)

// startedFirst starts the agent.
func startedFirst() (<-chan error, error) { return startAgent() }

// offeredFirst says that nobody was asked: the window's program takes no link.
func offeredFirst() (ack control.Ack, asked bool, err error) { return control.Ack{}, false, nil }
