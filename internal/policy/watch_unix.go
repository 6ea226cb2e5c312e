//go:build unix

package policy

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"encounterlauncher/internal/paths"
)

// poll is how often the sources are read although nothing was heard: a net for
// what the kernel does not tell, such as a folder far above that was renamed, or
// a file on a network drive.
const poll = time.Minute

// changes says that a source may have changed: at once by inotify or kqueue, and
// with every poll. It watches the folder of each file, or the nearest one above
// that exists, and moves along as folders come and go.
func changes(ctx context.Context, l paths.Layout, log *slog.Logger, after func(time.Duration) <-chan time.Time) <-chan struct{} {
	hint := make(chan struct{}, 1)
	files := []string{l.MachinePolicyFile(), l.SettingsFile(), l.InstallerDefaultsFile()}
	var events <-chan fsnotify.Event
	var faults <-chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		events, faults = watcher.Events, watcher.Errors
		err = arm(watcher, files)
	}
	if err != nil {
		log.Warn("a change of policy may be found only after a minute, because its folders cannot be watched", "cause", err)
	}
	go func() {
		if watcher != nil {
			defer watcher.Close()
		}
		tick := after(poll)
		for {
			select {
			case <-ctx.Done():
				return
			case event := <-events:
				if !concerns(event.Name, files) {
					continue
				}
			case err := <-faults:
				log.Warn("watching policy missed something, so it is read again", "cause", err)
			case <-tick:
				tick = after(poll)
			}
			if watcher != nil {
				_ = arm(watcher, files) // was reported at the start, and the poll goes on
			}
			select {
			case hint <- struct{}{}:
			default:
			}
		}
	}()
	return hint
}

// arm watches the nearest existing folder of every file, and no other.
func arm(watcher *fsnotify.Watcher, files []string) error {
	var wanted []string
	var fault error
	for _, file := range files {
		dir := ""
		// A folder that appears between looking and watching would not be heard, so
		// look again; a bound, because somebody may be playing with folders.
		for range 8 {
			next := nearest(filepath.Dir(file))
			if next == dir {
				break
			}
			dir = next
			// Adding again is free, and needed where the folder was exchanged.
			if err := watcher.Add(dir); err != nil {
				fault = err
			}
		}
		wanted = append(wanted, dir)
	}
	for _, dir := range watcher.WatchList() {
		if !slices.Contains(wanted, dir) {
			_ = watcher.Remove(dir) // fails when the kernel dropped it already
		}
	}
	return fault
}

// nearest returns dir, or the nearest folder above it that exists.
func nearest(dir string) string {
	for {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return dir
		}
		dir = parent
	}
}

// concerns reports whether something that happened to name can matter to one of
// the files: it is the file, or a folder above it. No name stands for a watch
// that the kernel dropped, which matters to all.
func concerns(name string, files []string) bool {
	for _, file := range files {
		if file == name || strings.HasPrefix(file, strings.TrimSuffix(name, "/")+"/") {
			return true
		}
	}
	return false
}
