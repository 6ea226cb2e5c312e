//go:build bindings || ((desktop || dev) && !linux && !windows)

package main

// windowPossible reports whether a window can be shown. Writing the bindings
// shows none, and elsewhere the toolkit itself is asked by trying.
func windowPossible() error { return nil }
