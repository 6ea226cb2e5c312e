//go:build (linux && desktop) || bindings || dev

package main

// onlyWindow says that this build is the window's own program, or runs under
// Wails' tools, which run main to look at the bound methods.
const onlyWindow = true
