// Package scheme knows who owns the link scheme on this computer: which program
// the operating system starts when somebody opens a link, for this user.
//
// It writes only this user's registration, never the machine's, keeps the
// handlers of others where they are, and undoes exactly what it did. It never
// starts the handler.
package scheme

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// Handler is the program that receives the links of our scheme.
type Handler struct {
	// ID is the name under which the system knows the handler: on Linux the
	// desktop file's id, such as "encounter-launcher.desktop", on Windows the name of
	// the class. Empty when nobody handles the scheme.
	ID string
	// Program is the absolute path of the program that is started, symbolic
	// links resolved where they can be. Empty when it cannot be told.
	Program string
}

// Register makes executable, an absolute path, the handler of the scheme of l for
// this user, and the default where there are several. Whoever was the default
// before stays behind us in line and is the default again after Unregister.
// Registering again is harmless.
//
// The registration passes the link as exactly one argument, whatever characters
// the path holds. On the free desktops a path with control characters or an equals
// sign cannot be registered (Desktop Entry Specification, "The Exec key"), on Windows
// one with a quote or a percent sign, which stands for a part of the link there; nor
// can a file that is missing or not executable. On Windows the program of the links
// is always the .exe: of encounter-launcher.com the one that stands beside it.
//
// A file or key under our name that this package did not write is left alone and is
// an error. So is another program that was chosen in the settings of Windows: no
// program may change that. Every error is an internal problem.
func Register(l paths.Layout, executable string) error {
	if err := register(l, executable); err != nil {
		return told("The program could not be registered for links from the EHR.", err)
	}
	return nil
}

// Unregister removes what Register did and leaves no trace of it; without a
// registration of ours it does nothing. A handler that somebody else installed,
// also under our name, stays. Every error is an internal problem.
func Unregister(l paths.Layout) error {
	err := unregister(l)
	for _, file := range []string{l.LinkMark(), l.LinkTold()} {
		if gone := os.Remove(file); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	if err != nil {
		return told("The registration for links from the EHR could not be removed.", err)
	}
	return nil
}

// Owner returns who receives the links of the scheme of l now, as the system's
// own rules have it; the zero Handler when nobody does. It changes nothing.
// Every error is an internal problem.
func Owner(l paths.Layout) (Handler, error) {
	s, err := Look(l)
	if err != nil {
		return Handler{}, err
	}
	return s.Owner(), nil
}

// Remember keeps that executable received the links, so that it is known after a
// restart too. It writes one small file of the state folder, and only when that says
// something else. Unregister forgets it. Every error is an internal problem.
func Remember(l paths.Layout, executable string) error {
	if Remembered(l, executable) {
		return nil
	}
	_, err := l.EnsureStateDir()
	if err == nil {
		err = os.WriteFile(l.LinkMark(), []byte(executable), 0o600)
	}
	if err != nil {
		return problem.New(problem.Internal, fmt.Errorf("keeping the handler of the links: %w", err))
	}
	return nil
}

// Remembered reports whether executable is the program that received the links when
// Remember was called last.
func Remembered(l paths.Layout, executable string) bool {
	text, err := os.ReadFile(l.LinkMark())
	return err == nil && string(text) == executable
}

// RememberTold keeps for a restart of which handler the person was told that the links
// go to it. handler is a short text of the caller's that tells handlers apart, such as a
// digest; an empty one forgets, as Unregister does. Every error is an internal problem.
func RememberTold(l paths.Layout, handler string) error {
	var err error
	if handler == "" {
		if err = os.Remove(l.LinkTold()); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else if _, err = l.EnsureStateDir(); err == nil {
		err = os.WriteFile(l.LinkTold(), []byte(handler), 0o600)
	}
	if err != nil {
		return problem.New(problem.Internal, fmt.Errorf("keeping what was told of the links: %w", err))
	}
	return nil
}

// Told returns what RememberTold has kept; empty when there is nothing that can be read.
func Told(l paths.Layout) string {
	text, err := os.ReadFile(l.LinkTold())
	if err != nil {
		return ""
	}
	return string(text)
}

// told gives an error that says nothing to people yet a fact.
func told(fact string, err error) error {
	if p := (*problem.Problem)(nil); errors.As(err, &p) {
		return p
	}
	return problem.With(problem.Internal, fact, err)
}
