// Package autostart says whether the agent starts when the person logs on to this
// computer: it reads and changes what the system keeps about that for this user.
//
// It never changes what holds for the whole computer, never touches an entry that
// it did not write, starts nothing itself, and undoes exactly what it did. Whether
// the agent should start is for its caller to know.
package autostart

import (
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// Set makes the agent of executable, an absolute path, start at logon, or not. It
// writes only what differs, and nothing where the system does already what is
// wanted: where a package has an entry for the whole computer, this user has none
// of its own, or one that switches that off.
//
// An entry under our name that this package did not write is left alone and is an
// error. Every error is an internal problem.
func Set(l paths.Layout, executable string, on bool) error {
	if err := set(l, executable, on); err != nil {
		return problem.New(problem.Internal, err)
	}
	return nil
}

// Remove removes what Set wrote for this user; without such an entry, or where it
// is somebody else's, it does nothing. Every error is an internal problem.
func Remove(l paths.Layout) error {
	if err := remove(l); err != nil {
		return problem.With(problem.Internal, "The start at logon could not be removed.", err)
	}
	return nil
}
