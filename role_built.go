//go:build !dev

package main

import "encounterlauncher/internal/paths"

// layout is that of the flavour with which this program was linked.
func layout() paths.Layout { return paths.Current() }
