package scheme

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// Place is the kind of place at which a registration stands.
type Place string

// The places, in the order in which a system asks them.
const (
	// Chosen: a choice among handlers, which names one of them and is none itself:
	// the person's in the settings of Windows (UserChoice), or a list of defaults of
	// the free desktops (mimeapps.list), this user's or the machine's.
	Chosen Place = "choice"
	// ForUser: a handler that is registered for this user alone: a key of
	// HKCU\Software\Classes, or a desktop file in this user's folder or in any other
	// that somebody besides root can change.
	ForUser Place = "user"
	// ForMachine: a handler that is registered for everybody: a key of
	// HKLM\Software\Classes, or a desktop file that root alone can change.
	ForMachine Place = "machine"
)

// Fault is a thing that is wrong with a registration.
type Fault string

// The faults.
const (
	// Unreadable: it is there and cannot be read.
	Unreadable Fault = "unreadable"
	// HandlerMissing: the handler that a choice names does not exist, and the system
	// passes the choice over.
	HandlerMissing Fault = "handler_missing"
	// NotSealed: the choice bears no hash by which Windows knows that the person made
	// it, and Windows passes it over.
	NotSealed Fault = "not_sealed"
	// NotAScheme: the key does not say that it is one of a link scheme ("URL Protocol").
	NotAScheme Fault = "not_a_scheme"
	// NoCommand: there is no command, or an empty one.
	NoCommand Fault = "no_command"
	// NotACommand: the system would start something else than the command, or not
	// only that: a COM object, a conversation by DDE, another verb.
	NotACommand Fault = "not_a_command"
	// ProgramUnquoted: the program's path is not in quotes although it has to be, so
	// that another program may be started.
	ProgramUnquoted Fault = "program_unquoted"
	// ProgramSearched: the program has no absolute path, or one that depends on the
	// person's environment.
	ProgramSearched Fault = "program_searched"
	// ProgramMissing: there is no such file, or it cannot be started.
	ProgramMissing Fault = "program_missing"
	// LinkMissing: the command does not pass the link on.
	LinkMissing Fault = "link_missing"
	// LinkQuoting: the place of the link is quoted otherwise than it has to be, so
	// that a link may become several arguments.
	LinkQuoting Fault = "link_quoting"
	// MoreArguments: the command passes more than the link.
	MoreArguments Fault = "more_arguments"
)

// Registration is one entry of the system about our scheme.
type Registration struct {
	// Place is the kind of place, Where the place itself: the path of a file, or of a
	// registry key beginning with HKCU or HKLM.
	Place Place
	Where string
	// ID is the desktop file's id, on Windows the name of the class (ProgID); of a
	// Chosen one that of the handler that it names.
	ID string
	// Command is the exact text of the command, Program the absolute path of what it
	// starts, symbolic links resolved where they can be; empty when it cannot be
	// told. Of a Chosen one they are those of the handler that it names.
	Command, Program string
	// Ours says that this package, an installer of ours or a package of ours wrote
	// it: it bears our mark, or our name and the name of our program. It does not say
	// that the program is the one that is running.
	Ours bool
	// Faults are what is wrong with it, each at most once; empty when its form is as
	// it has to be.
	Faults []Fault
	// InEffect says that the system goes by this entry now. A choice and the handler
	// that it names can both be in effect.
	InEffect bool
}

// Has reports whether a fault was found.
func (r Registration) Has(f Fault) bool { return slices.Contains(r.Faults, f) }

// State is everything that is registered for our scheme.
type State struct {
	// Scheme is the link scheme.
	Scheme string
	// Registrations are all that were found, the one that is asked first in front.
	Registrations []Registration
}

// Look reads every registration for the scheme of l and finds out which of them the
// system goes by. It changes nothing, starts nothing, and asks no tool, so that it
// takes milliseconds. What cannot be read is a registration with the fault
// Unreadable; every error is an internal problem and says that nothing could be
// found out.
func Look(l paths.Layout) (State, error) {
	s, err := look(l)
	if err != nil {
		return State{}, problem.With(problem.Internal, "Who receives links from the EHR could not be found out.", err)
	}
	return s, nil
}

// Owner is the handler that is in effect; the zero Handler when there is none.
func (s State) Owner() Handler {
	for _, r := range s.Registrations {
		if r.InEffect {
			return Handler{ID: r.ID, Program: r.Program}
		}
	}
	return Handler{}
}

// Effective returns the registration whose command the system starts, which is never
// a Chosen one, unless a choice names a handler that is known to the system alone.
func (s State) Effective() (r Registration, found bool) {
	for _, r := range s.Registrations {
		if r.InEffect && r.Place != Chosen {
			return r, true
		}
	}
	for _, r := range s.Registrations {
		if r.InEffect {
			return r, true
		}
	}
	return Registration{}, false
}

// Machine returns the registration of ours that holds for everybody, in effect or not.
func (s State) Machine() (r Registration, found bool) {
	i := slices.IndexFunc(s.Registrations, func(r Registration) bool { return r.Place == ForMachine && r.Ours })
	if i < 0 {
		return Registration{}, false
	}
	return s.Registrations[i], true
}

// Programs returns the programs of every handler of ours, each once: more than one
// says that two copies are registered.
func (s State) Programs() []string {
	var programs []string
	for _, r := range s.Registrations {
		if r.Ours && r.Place != Chosen && r.Program != "" && !slices.ContainsFunc(programs, func(p string) bool { return SameProgram(p, r.Program) }) {
			programs = append(programs, r.Program)
		}
	}
	return programs
}

// leadsTo reports whether it starts executable, in the form that it needs.
func (r Registration) leadsTo(executable string) bool {
	return len(r.Faults) == 0 && SameProgram(r.Program, executable)
}

// settled reports whether executable receives the links, by a registration of the form
// that it needs.
func (s State) settled(executable string) bool {
	r, found := s.Effective()
	return found && r.leadsTo(executable)
}

// forAll reports whether the machine's registration of ours names executable in the
// form that it needs.
func (s State) forAll(executable string) bool {
	r, found := s.Machine()
	return found && r.leadsTo(executable)
}

// Registered reports whether a handler, in effect or not, starts executable.
func (s State) Registered(executable string) bool {
	return slices.ContainsFunc(s.Registrations, func(r Registration) bool {
		return r.Place != Chosen && SameProgram(r.Program, executable)
	})
}

// Reaches reports whether the links reach the agent of executable: the registration in
// effect is of the form that it needs, and starts executable itself, or is the machine's
// of ours while executable is registered nowhere. Only an administrator writes that one,
// and the program that it names hands its links to this user's agent.
func (s State) Reaches(executable string) bool {
	r, found := s.Effective()
	if !found || len(r.Faults) > 0 {
		return false
	}
	return SameProgram(r.Program, executable) || r.Ours && r.Place == ForMachine && !s.Registered(executable)
}

// SameProgram reports whether two paths name one file, whatever links lead to it.
// Paths of files that are not there are the same when they are spelt alike; an empty
// path is the same as none.
func SameProgram(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	of, err := os.Stat(a)
	if err != nil {
		return false
	}
	with, err := os.Stat(b)
	return err == nil && os.SameFile(of, with)
}

// ProgramFor returns the program of the links that belongs to executable, an absolute
// path: executable itself, but for encounter-launcher.com on Windows, whose links
// belong to the .exe beside it.
func ProgramFor(executable string) string { return handlerOf(executable) }

// Asked is what the system's own tool says of our scheme.
type Asked struct {
	// Tool is its name, such as "xdg-mime"; empty where the system has none.
	Tool string
	// Answer is what it names: a desktop file's id, or a command; empty for nothing.
	Answer string
	// Agrees says that the State comes to the same. It is true where there is no tool.
	Agrees bool
}

// Ask asks the system's own tool who receives the links, and compares with s. It
// starts that tool and waits for it, at most until ctx ends. Every error is an
// internal problem.
func (s State) Ask(ctx context.Context) (Asked, error) {
	a, err := s.ask(ctx)
	if err != nil {
		return Asked{}, problem.With(problem.Internal, "Who receives links from the EHR could not be found out.", err)
	}
	return a, nil
}

// Repair makes executable, an absolute path, the handler of the scheme of l again
// where that is safe, and returns what it did as English sentences for a command line:
// none when there was nothing to do. Registrations of ours for this user that lead
// elsewhere, or are not of the form that they need, go; then, unless the machine's
// registration makes executable the handler by itself, it is registered for this user.
//
// It never changes what holds for the machine, nor what another program has written,
// nor a choice in the settings of Windows. When executable does not receive the links
// afterwards, the error says which of them is in the way; the sentences say what was
// done all the same. Every error is an internal problem.
func Repair(l paths.Layout, executable string) (did []string, err error) {
	did, err = repair(l, executable)
	if err != nil {
		return did, told("The program could not be registered for links from the EHR.", err)
	}
	return did, nil
}

// RemoveStale removes the registrations of ours for this user that hide the machine's:
// those that lead to another program or are not of the form that they need, where the
// machine's registration of ours names executable and is of that form. It returns what it removed. Everything
// else stays: a registration for this user where the machine has none of ours, and
// what other programs have written. Every error is an internal problem.
func RemoveStale(l paths.Layout, executable string) ([]Registration, error) {
	removed, err := removeStale(l, executable)
	if err != nil {
		return removed, told("The registration for links from the EHR could not be removed.", err)
	}
	return removed, nil
}
