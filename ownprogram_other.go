//go:build !windows

package main

import "os"

// ownProgram is the file that the system starts for a link, at logon and as the
// agent: this one.
func ownProgram() (string, error) { return os.Executable() }

// onConsole is false: a handler's stderr is seen by nobody.
func onConsole() bool { return false }
