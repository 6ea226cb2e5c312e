package scheme

import (
	"context"
	"errors"

	"encounterlauncher/internal/paths"
)

var errUnsupported = errors.New("the registration for links is not written by this program on macOS")

func register(paths.Layout, string) error { return errUnsupported }

// handlerOf: there is only one program.
func handlerOf(executable string) string { return executable }

func unregister(paths.Layout) error { return errUnsupported }

func look(paths.Layout) (State, error) { return State{}, errUnsupported }

func (s State) ask(context.Context) (Asked, error) { return Asked{}, errUnsupported }

func repair(paths.Layout, string) ([]string, error) { return nil, errUnsupported }

func removeStale(paths.Layout, string) ([]Registration, error) { return nil, errUnsupported }
