//go:build unix

package policy

import "encounterlauncher/internal/paths"

// hasPAC: nothing in the standard library or on the system evaluates a proxy
// script here.
const hasPAC = false

// hasStore: certificates and their keys are files here.
const hasStore = false

// read reads every source of this system, strongest first.
func read(l paths.Layout) []reading { return readFiles(l) }
