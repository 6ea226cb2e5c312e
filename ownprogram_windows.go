package main

import (
	"os"
	"path/filepath"
	"strings"

	// Before every other: see there.
	_ "encounterlauncher/internal/libraries"
)

// ownProgram is the file that the system starts for a link, at logon and as the
// agent: the .exe, also when this is the .com beside it, which only gives the
// commands a console.
func ownProgram() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(path, filepath.Ext(path)) + ".exe", nil
}

// onConsole reports whether this is the .com: its stderr is seen, and a message box
// would keep a script waiting.
func onConsole() bool { return !windowHere }
