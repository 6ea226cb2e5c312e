package scheme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// look follows the order of the specification: the lists of defaults, the
// session's desktop before the common one, this user before the machine; then
// the caches of what desktop files claim. Ids without a desktop file are passed
// over. Every desktop file of an id that was met is looked at, and those of our name.
func (d desktop) look() State {
	s := State{Scheme: d.name}
	var ids []string
	winner, chosen := "", -1
	meet := func(id string) {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for _, file := range d.lists() {
		named, readable := d.idsOf(file, defaultsGroup)
		if !readable {
			s.Registrations = append(s.Registrations, Registration{Place: Chosen, Where: file, Faults: []Fault{Unreadable}})
		}
		for _, id := range named {
			meet(id)
			r := Registration{Place: Chosen, Where: file, ID: id}
			if h, found := d.handler(id); found {
				r.Command, r.Program, r.Ours = h.Command, h.Program, h.Ours
				if winner == "" {
					winner, chosen = id, len(s.Registrations)
				}
			} else {
				r.Faults = []Fault{HandlerMissing}
			}
			s.Registrations = append(s.Registrations, r)
		}
	}
	if chosen >= 0 {
		s.Registrations[chosen].InEffect = true
	}
	for _, dir := range d.applicationDirs() {
		file := filepath.Join(dir, "mimeinfo.cache")
		claiming, readable := d.idsOf(file, cacheGroup)
		if !readable {
			s.Registrations = append(s.Registrations, Registration{Place: Chosen, Where: file, Faults: []Fault{Unreadable}})
		}
		for _, id := range claiming {
			meet(id)
			if _, found := d.handler(id); found && winner == "" {
				winner = id
			}
		}
	}
	meet(d.id())
	// The one in effect first, then in the order in which they were met.
	if i := slices.Index(ids, winner); i > 0 {
		ids = slices.Insert(slices.Delete(ids, i, i+1), 0, winner)
	}
	for _, id := range ids {
		for i, r := range d.handlers(id) {
			r.InEffect = i == 0 && id == winner
			s.Registrations = append(s.Registrations, r)
		}
	}
	return s
}

// lists are the files that may name defaults, the one that is asked first in front.
func (d desktop) lists() []string {
	var lists []string
	for _, dir := range d.listDirs() {
		for _, name := range strings.FieldsFunc(os.Getenv("XDG_CURRENT_DESKTOP"), func(r rune) bool { return r == ':' }) {
			lists = append(lists, filepath.Join(dir, strings.ToLower(filepath.Base(name))+"-mimeapps.list"))
		}
		lists = append(lists, filepath.Join(dir, "mimeapps.list"))
	}
	return lists
}

func (d desktop) idsOf(file, group string) (ids []string, readable bool) {
	text, err := os.ReadFile(file)
	for _, id := range idsIn(string(text), group, d.key()) {
		if id = strings.TrimSpace(id); id != "" {
			ids = append(ids, id)
		}
	}
	return ids, err == nil || errors.Is(err, fs.ErrNotExist)
}

// handler returns the desktop file of an id that hides the others.
func (d desktop) handler(id string) (Registration, bool) {
	found := d.handlers(id)
	if len(found) == 0 {
		return Registration{}, false
	}
	return found[0], true
}

// handlers looks an id up in the folders of desktop files. A hyphen in an id may
// stand for a folder (Desktop Entry Specification, "Desktop File ID").
func (d desktop) handlers(id string) (found []Registration) {
	if id != filepath.Base(id) {
		return nil
	}
	for i, dir := range d.applicationDirs() {
		for _, name := range []string{id, strings.Replace(id, "-", "/", 1)} {
			file := filepath.Join(dir, name)
			text, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			r := Registration{Place: ForUser, Where: file, ID: id}
			if i > 0 && d.ofMachine(file) {
				r.Place = ForMachine
			}
			d.read(&r, string(text))
			found = append(found, r)
			break
		}
	}
	return found
}

// ofMachine reports whether only an administrator can have written a file and can
// replace it: XDG_DATA_DIRS may name folders of this user, such as Flatpak's.
func (d desktop) ofMachine(file string) bool {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	for _, path := range []string{filepath.Dir(file), filepath.Dir(real), real} {
		if info, err := os.Stat(path); err != nil || !d.layout.TrustedMachineFile(info) {
			return false
		}
	}
	return true
}

// read fills in what a desktop file says.
func (d desktop) read(r *Registration, text string) {
	var rest string
	r.Command, _ = valueIn(text, desktopGroup, "Exec")
	r.Program, rest = programOf(r.Command)
	switch {
	case r.Command == "":
		r.Faults = append(r.Faults, NoCommand)
	case r.Program == "":
		r.Faults = append(r.Faults, ProgramUnquoted)
	default:
		if !filepath.IsAbs(r.Program) {
			r.Faults = append(r.Faults, ProgramSearched)
		}
		if path, err := exec.LookPath(r.Program); err == nil {
			r.Program = path
		} else {
			r.Faults = append(r.Faults, ProgramMissing)
		}
		r.Faults = append(r.Faults, faultsOf(rest)...)
	}
	named := filepath.Base(r.Program) == d.name
	if resolved, err := filepath.EvalSymlinks(r.Program); err == nil {
		r.Program = resolved
		named = named || filepath.Base(resolved) == d.name
	}
	r.Ours = r.ID == d.id() && (marked(text) || named)
}

func (s State) ask(ctx context.Context) (Asked, error) {
	tool, err := exec.LookPath("xdg-mime")
	if err != nil {
		return Asked{Agrees: true}, nil
	}
	out, err := exec.CommandContext(ctx, tool, "query", "default", "x-scheme-handler/"+s.Scheme).Output()
	if err != nil {
		return Asked{}, fmt.Errorf("asking xdg-mime: %w", err)
	}
	answer := strings.TrimSpace(string(out))
	return Asked{Tool: "xdg-mime", Answer: answer, Agrees: answer == s.Owner().ID}, nil
}
