package autostart

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/paths"
)

// runKey holds what starts when this user logs on (Run and RunOnce Registry Keys).
const runKey = `Software\Microsoft\Windows\CurrentVersion\Run`

// ending is how a value that this package wrote ends; the path before it is quoted.
const ending = `" agent`

func set(l paths.Layout, executable string, on bool) error {
	if strings.Contains(executable, `"`) {
		return errors.New("the program's path holds a quote")
	}
	key, _, err := registry.CreateKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE|registry.SET_VALUE)
	if err != nil {
		return fmt.Errorf("opening what starts at logon: %w", err)
	}
	defer key.Close()
	now, found, err := value(key, l)
	wanted := `"` + executable + ending
	switch {
	case err != nil:
		return err
	case found && !ours(now):
		return errors.New("the entry of our name was not written by this program")
	case on && now != wanted:
		err = key.SetStringValue(l.Name, wanted)
	case !on && found:
		err = key.DeleteValue(l.Name)
	}
	if err != nil {
		return fmt.Errorf("changing what starts at logon: %w", err)
	}
	return nil
}

func remove(l paths.Layout) error {
	key, err := registry.OpenKey(registry.CURRENT_USER, runKey, registry.QUERY_VALUE|registry.SET_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening what starts at logon: %w", err)
	}
	defer key.Close()
	now, found, err := value(key, l)
	if err != nil || !found || !ours(now) {
		return err
	}
	if err := key.DeleteValue(l.Name); err != nil {
		return fmt.Errorf("changing what starts at logon: %w", err)
	}
	return nil
}

func value(key registry.Key, l paths.Layout) (now string, found bool, err error) {
	now, _, err = key.GetStringValue(l.Name)
	switch {
	case errors.Is(err, registry.ErrNotExist):
		return "", false, nil
	case errors.Is(err, registry.ErrUnexpectedType):
		return "", true, nil // somebody else's
	case err != nil:
		return "", false, fmt.Errorf("reading what starts at logon: %w", err)
	}
	return now, true, nil
}

func ours(now string) bool { return strings.HasPrefix(now, `"`) && strings.HasSuffix(now, ending) }
