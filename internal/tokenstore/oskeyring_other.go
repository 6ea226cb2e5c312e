//go:build !linux

package tokenstore

import "fmt"

// reachable: Credential Manager and Keychain need no bus.
func reachable() error { return nil }

// shortcut: here a read is one call already.
func shortcut(string, string) (string, bool) { return "", false }

// classify: Credential Manager is open whenever the person is logged on, so
// whatever is not "not found" means that it cannot be used.
func classify(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
