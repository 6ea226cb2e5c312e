package canary

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"
)

// fleeting keeps hold of files that are there for a moment only, such as what is
// renamed or removed a moment later: each file that is made gets a second name in a
// folder of ours, so that its content stays whatever becomes of the first.
type fleeting struct {
	watcher *fsnotify.Watcher
	keep    string
	done    chan struct{}
	// placeOf says which place a file is of while it is there.
	placeOf func(path string) PlaceName
	places  map[string]PlaceName // by the second name; of follow alone until done
	// made counts files that were seen being made, held those of them that got a
	// second name in time.
	made, held atomic.Int64
}

// watchFleeting watches folders and all below them. keep is a folder of the same file
// system that is not among them; placeOf says which place a file is of.
func watchFleeting(keep string, placeOf func(path string) PlaceName, dirs ...string) (*fleeting, error) {
	w, err := fsnotify.NewBufferedWatcher(1024)
	if err != nil {
		return nil, fmt.Errorf("watching for files: %w", err)
	}
	f := &fleeting{watcher: w, keep: keep, placeOf: placeOf, places: map[string]PlaceName{}, done: make(chan struct{})}
	for _, dir := range dirs {
		f.below(dir, false)
	}
	go f.follow()
	return f, nil
}

// below watches a folder and those in it. Files that are there already are held where
// the folder itself is new.
func (f *fleeting) below(dir string, hold bool) {
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
		case entry.IsDir():
			_ = f.watcher.Add(path) // one that is gone again holds nothing any more
		case hold && entry.Type().IsRegular():
			f.hold(path)
		}
		return nil
	})
}

func (f *fleeting) hold(path string) {
	name := fmt.Sprintf("%06d-%s", f.made.Add(1), filepath.Base(path))
	if os.Link(path, filepath.Join(f.keep, name)) == nil {
		f.places[name] = f.placeOf(path)
		f.held.Add(1)
	}
}

func (f *fleeting) follow() {
	defer close(f.done)
	for event := range f.watcher.Events {
		if !event.Has(fsnotify.Create) {
			continue
		}
		info, err := os.Lstat(event.Name)
		switch {
		case err != nil:
			f.made.Add(1)
		case info.IsDir():
			f.below(event.Name, true)
		case info.Mode().IsRegular():
			f.hold(event.Name)
		}
	}
}

// close ends the watch and gives what was held as evidence, and takes it away.
func (f *fleeting) close(e *evidence) {
	_ = f.watcher.Close()
	<-f.done
	e.files(f.keep, func(name string) PlaceName { return f.places[name] })
	entries, _ := os.ReadDir(f.keep)
	for _, entry := range entries {
		if strings.Contains(entry.Name(), "-") {
			_ = os.Remove(filepath.Join(f.keep, entry.Name()))
		}
	}
}
