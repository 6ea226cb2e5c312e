package autostart

import (
	"errors"

	"encounterlauncher/internal/paths"
)

func set(paths.Layout, string, bool) error {
	return errors.New("the start at logon is not written by this program on macOS")
}

// remove has nothing to remove, because set writes nothing.
func remove(paths.Layout) error { return nil }
