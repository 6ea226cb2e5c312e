package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// withheld are the variables that a play does not pass on: with them a display,
// a session bus or a browser of the person's could be reached.
var withheld = []string{"DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "XAUTHORITY", "XDG_ACTIVATION_TOKEN", "DESKTOP_STARTUP_ID"}

// isolate starts this program anew with every folder of a user inside one
// temporary folder, and removes that afterwards. Folders are known once per
// process, so an environment that is changed within would come too late.
func isolate(ctx context.Context, o Options) error {
	dir, err := os.MkdirTemp("", "encounter-play-")
	if err != nil {
		return fmt.Errorf("making a folder for the play: %w", err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, append(slices.Clone(o.Args), "--play", "--isolated", dir)...)
	env, err := isolatedEnv(os.Environ(), dir)
	if err != nil {
		return err
	}
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = o.Out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	ownGroup(cmd)
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &exit):
		return &Ended{exit.ExitCode()}
	case err != nil:
		return errors.New("the play could not be started")
	}
	return nil
}

func isolatedEnv(env []string, dir string) ([]string, error) {
	own := map[string]string{
		"HOME":            dir,
		"XDG_STATE_HOME":  filepath.Join(dir, "state"),
		"XDG_CONFIG_HOME": filepath.Join(dir, "config"),
		"XDG_DATA_HOME":   filepath.Join(dir, "data"),
		"XDG_CACHE_HOME":  filepath.Join(dir, "cache"),
		"XDG_RUNTIME_DIR": filepath.Join(dir, "run"),
		// Set and leading nowhere: unset, a library might start a bus.
		"DBUS_SESSION_BUS_ADDRESS": "unix:path=" + filepath.Join(dir, "no-bus"),
		"LOCALAPPDATA":             filepath.Join(dir, "local"),
		"APPDATA":                  filepath.Join(dir, "roaming"),
	}
	for _, name := range []string{"XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"} {
		if err := os.Mkdir(own[name], 0o700); err != nil {
			return nil, fmt.Errorf("making a folder for the play: %w", err)
		}
	}
	out := slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		_, ours := own[name]
		return ours || slices.Contains(withheld, name)
	})
	for name, value := range own {
		out = append(out, name+"="+value)
	}
	return out, nil
}

func lastLines(text string, n int) []string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}

// Ended says that a play ended with a status and has said why itself.
type Ended struct{ Status int }

func (e *Ended) Error() string { return fmt.Sprintf("the play ended with status %d", e.Status) }
