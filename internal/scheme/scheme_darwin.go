package scheme

import (
	"errors"

	"encounterlauncher/internal/paths"
)

var errUnsupported = errors.New("the registration for links is not written by this program on macOS")

func register(paths.Layout, string) error { return errUnsupported }

func unregister(paths.Layout) error { return errUnsupported }

func owner(paths.Layout) (Handler, error) { return Handler{}, errUnsupported }
