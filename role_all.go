//go:build !((linux && desktop) || bindings || dev)

package main

// onlyWindow is false: this build has every role.
const onlyWindow = false
