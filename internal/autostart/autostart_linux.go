package autostart

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"encounterlauncher/internal/paths"
)

// ourMark in a desktop file says that this package wrote it. Keys that begin with
// X- are free for extensions (Desktop Entry Specification, "Extending the format").
const ourMark = "X-EncounterLauncher-Autostart=true"

// ownFile is this user's entry (Desktop Application Autostart Specification). One of
// the same name hides the computer's.
func ownFile(l paths.Layout) string {
	return filepath.Join(l.ConfigHome(), "autostart", l.Name+".desktop")
}

func set(l paths.Layout, executable string, on bool) error {
	text, mine, err := own(l)
	if err != nil {
		return err
	}
	if text != "" && !mine {
		return errors.New("the autostart file of our name was not written by this program")
	}
	forAll, err := startsForAll(l)
	if err != nil {
		return err
	}
	wanted := "" // what the computer's entry, or none, says
	switch {
	case on && !forAll:
		if wanted, err = entry(executable); err != nil {
			return err
		}
	case !on && forAll:
		wanted = strings.Join([]string{"[Desktop Entry]", "Type=Application", "Name=Encounter Launcher", "Hidden=true", ourMark, ""}, "\n")
	}
	switch {
	case wanted == text:
		return nil
	case wanted == "":
		return drop(l)
	}
	return write(ownFile(l), wanted)
}

func remove(l paths.Layout) error {
	_, mine, err := own(l)
	if err != nil || !mine {
		return err
	}
	return drop(l)
}

// startsForAll reports whether the computer's entry starts the agent. One with
// Hidden=true, which an administrator writes into the package's file, counts as none
// (Desktop Application Autostart Specification, "Hidden Key").
func startsForAll(l paths.Layout) (bool, error) {
	text, err := os.ReadFile(l.MachineAutostartFile())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the computer's autostart file: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(key) == "Hidden" && strings.TrimSpace(value) == "true" {
			return false, nil
		}
	}
	return true, nil
}

func own(l paths.Layout) (text string, mine bool, err error) {
	read, err := os.ReadFile(ownFile(l))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("reading the autostart file: %w", err)
	}
	return string(read), strings.Contains("\n"+string(read), "\n"+ourMark+"\n"), nil
}

func drop(l paths.Layout) error {
	if err := os.Remove(ownFile(l)); err != nil {
		return fmt.Errorf("removing the autostart file: %w", err)
	}
	// The folder may hold files of others; then it stays.
	_ = os.Remove(filepath.Dir(ownFile(l)))
	return nil
}

func entry(executable string) (string, error) {
	line, err := execLine(executable)
	if err != nil {
		return "", err
	}
	return strings.Join([]string{
		"[Desktop Entry]",
		"Type=Application",
		"Version=1.0",
		"Name=Encounter Launcher",
		"Comment=Opens encounters from the EHR",
		"Exec=" + line,
		"Terminal=false",
		"NoDisplay=true",
		ourMark,
		"",
	}, "\n"), nil
}

// execLine is the value of the Exec key that starts the agent of a program. The
// argument is quoted; in it quotes, backticks, dollars and backslashes are escaped
// and percent signs doubled, and then every backslash is escaped once more, because
// the value is a string of the file format as well (Desktop Entry Specification,
// "The Exec key"). A path that the key cannot name is an error.
func execLine(path string) (string, error) {
	if !filepath.IsAbs(path) || !utf8.ValidString(path) || strings.Contains(path, "=") || strings.ContainsFunc(path, unicode.IsControl) {
		return "", errors.New("the program's path is not absolute, not UTF-8, or holds an equals sign or a control character")
	}
	quoted := strings.NewReplacer(`"`, `\"`, "`", "\\`", `$`, `\$`, `\`, `\\`, `%`, `%%`).Replace(path)
	line := `"` + strings.ReplaceAll(quoted, `\`, `\\`) + `" agent`
	if strings.Contains(path, "%") {
		// GLib looks for the program before it turns %% back into %, and finds none.
		line = "env " + line
	}
	return line, nil
}

// write writes beside and renames, so that no session ever reads half a file.
func write(file, text string) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("creating the autostart folder: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".encounter-launcher-*")
	if err != nil {
		return fmt.Errorf("writing the autostart file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("writing the autostart file: %w", err)
	}
	return nil
}
