package scheme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"encounterlauncher/internal/paths"
)

func register(l paths.Layout, executable string) error { return desktopOf(l).register(executable) }

// handlerOf: there is only one program.
func handlerOf(executable string) string { return executable }

func unregister(l paths.Layout) error { return desktopOf(l).unregister() }

func look(l paths.Layout) (State, error) { return desktopOf(l).look(), nil }

func repair(l paths.Layout, executable string) ([]string, error) {
	return desktopOf(l).repair(executable)
}

func removeStale(l paths.Layout, executable string) ([]Registration, error) {
	return desktopOf(l).removeStale(executable)
}

// desktop is what the free desktops keep about handlers, for one user and one
// scheme.
type desktop struct {
	name                 string // of the scheme and of our files
	dataHome, configHome string
	layout               paths.Layout // says what the machine's may be believed
}

func desktopOf(l paths.Layout) desktop {
	return desktop{name: l.Scheme(), dataHome: l.DataHome(), configHome: l.ConfigHome(), layout: l}
}

func (d desktop) id() string           { return d.name + ".desktop" }
func (d desktop) key() string          { return "x-scheme-handler/" + d.name }
func (d desktop) applications() string { return filepath.Join(d.dataHome, "applications") }
func (d desktop) entryFile() string    { return filepath.Join(d.applications(), d.id()) }
func (d desktop) defaultsFile() string { return filepath.Join(d.configHome, "mimeapps.list") }

// aliasFile is a symbolic link to a program whose own path not every desktop can
// start.
func (d desktop) aliasFile() string { return filepath.Join(d.dataHome, d.name, d.name) }

// display is the name in menus.
func (d desktop) display() string {
	words := strings.Split(d.name, "-")
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, " ")
}

func (d desktop) register(executable string) error {
	if err := checkProgram(executable); err != nil {
		return err
	}
	info, err := os.Stat(executable)
	if err != nil {
		return fmt.Errorf("looking at the program: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return errors.New("the program is not an executable file")
	}
	if mine, exists, err := d.entry(); err != nil {
		return err
	} else if exists && !mine {
		return errors.New("the desktop file of our name was not written by this program")
	}
	program, err := d.alias(executable)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.applications(), 0o755); err != nil {
		return fmt.Errorf("creating the folder of desktop files: %w", err)
	}
	if err := replaceFile(d.entryFile(), entryText(d.display(), d.key(), execLine(program)), 0o644); err != nil {
		return fmt.Errorf("writing the desktop file: %w", err)
	}
	if err := d.prefer(); err != nil {
		return err
	}
	return d.updateCache()
}

// prefer puts our id in front in this user's lists of defaults.
func (d desktop) prefer() error {
	return d.editLists(func(file, text string) string {
		// A list of one desktop comes before the common one, but only where it
		// says something about our scheme.
		if file != d.defaultsFile() && len(idsIn(text, defaultsGroup, d.key())) == 0 {
			return text
		}
		return withDefault(text, d.key(), d.id())
	})
}

func (d desktop) unregister() error {
	mine, exists, err := d.entry()
	if err != nil {
		return err
	}
	if exists && !mine {
		return nil
	}
	if err := d.editLists(func(_, text string) string { return withoutID(text, d.key(), d.id()) }); err != nil {
		return err
	}
	if !exists {
		return d.dropAlias()
	}
	return d.dropEntry()
}

// dropEntry removes this user's desktop file of our name and what belongs to it, and
// leaves the lists of defaults alone: the machine's file has the same id.
func (d desktop) dropEntry() error {
	if err := d.dropAlias(); err != nil {
		return err
	}
	if err := os.Remove(d.entryFile()); err != nil {
		return fmt.Errorf("removing the desktop file: %w", err)
	}
	if err := d.updateCache(); err != nil {
		return err
	}
	return d.dropEmptyCache()
}

// entry reports whether there is a desktop file of our name for this user, and
// whether this package wrote it.
func (d desktop) entry() (mine, exists bool, err error) {
	text, err := os.ReadFile(d.entryFile())
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("reading the desktop file: %w", err)
	}
	return marked(string(text)), true, nil
}

// alias returns the path to write into Exec: the program's own, or a symbolic
// link of ours where the program's needs quoting and the link's does not.
func (d desktop) alias(executable string) (string, error) {
	if err := d.dropAlias(); err != nil {
		return "", err
	}
	if isPlain(executable) || !isPlain(d.aliasFile()) {
		return executable, nil
	}
	if err := os.MkdirAll(filepath.Dir(d.aliasFile()), 0o700); err != nil {
		return "", fmt.Errorf("creating the folder of the program's link: %w", err)
	}
	if err := os.Symlink(executable, d.aliasFile()); err != nil {
		return "", fmt.Errorf("linking to the program: %w", err)
	}
	return d.aliasFile(), nil
}

func (d desktop) dropAlias() error {
	info, err := os.Lstat(d.aliasFile())
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return nil
	}
	if err := os.Remove(d.aliasFile()); err != nil {
		return fmt.Errorf("removing the link to the program: %w", err)
	}
	// The folder may hold files of others; then it stays.
	_ = os.Remove(filepath.Dir(d.aliasFile()))
	return nil
}

// editLists passes every list of this user that may name a default through edit.
// A list that edit leaves empty is removed; one that it does not change is not
// written.
func (d desktop) editLists(edit func(file, text string) string) error {
	special, err := filepath.Glob(filepath.Join(escapeGlob(d.configHome), "*-mimeapps.list"))
	if err != nil {
		return fmt.Errorf("looking for lists of defaults: %w", err)
	}
	for _, file := range append(special, d.defaultsFile(), filepath.Join(d.applications(), "mimeapps.list")) {
		if err := editFile(file, func(text string) string { return edit(file, text) }); err != nil {
			return fmt.Errorf("changing a list of defaults: %w", err)
		}
	}
	return nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func editFile(file string, edit func(string) string) error {
	// Some people keep the list elsewhere and link to it; the link stays one.
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	mode := fs.FileMode(0o644)
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info, err := os.Stat(file); err == nil {
		mode = info.Mode().Perm()
	}
	after := edit(string(before))
	switch {
	case after == string(before):
		return nil
	case after == "":
		return os.Remove(file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return replaceFile(file, after, mode)
}

// replaceFile writes beside and renames, so that no desktop ever reads half a
// file.
func replaceFile(file, text string, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), ".encounter-launcher-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// updateCache has the desktop's own tool read the folder again. Where there is
// no such tool there is no cache either, and the list of defaults suffices.
func (d desktop) updateCache() error {
	tool, err := exec.LookPath("update-desktop-database")
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := exec.CommandContext(ctx, tool, "--quiet", d.applications()).Run(); err != nil {
		return fmt.Errorf("running update-desktop-database: %w", err)
	}
	return nil
}

// dropEmptyCache removes the cache, and then the folder, when nothing is left in
// them.
func (d desktop) dropEmptyCache() error {
	cache := filepath.Join(d.applications(), "mimeinfo.cache")
	text, err := os.ReadFile(cache)
	if err == nil && strings.TrimSpace(string(text)) == cacheGroup {
		if err := os.Remove(cache); err != nil {
			return fmt.Errorf("removing the empty cache: %w", err)
		}
	}
	_ = os.Remove(d.applications())
	return nil
}

func (d desktop) listDirs() []string {
	dirs := append([]string{d.configHome}, listOf("XDG_CONFIG_DIRS", "/etc/xdg")...)
	return append(dirs, d.applicationDirs()...)
}

func (d desktop) applicationDirs() []string {
	dirs := []string{d.applications()}
	for _, dir := range listOf("XDG_DATA_DIRS", "/usr/local/share:/usr/share") {
		dirs = append(dirs, filepath.Join(dir, "applications"))
	}
	return dirs
}

// listOf reads a variable of the XDG Base Directory Specification.
func listOf(variable, otherwise string) []string {
	value := os.Getenv(variable)
	if value == "" {
		value = otherwise
	}
	return filepath.SplitList(value)
}
