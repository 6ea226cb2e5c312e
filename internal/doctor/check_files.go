package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
)

// A disk with less than this is worth a word, or is as good as full: a log, an audit
// file and the recents take a few MB together.
const (
	lowDisk  = 200 << 20
	fullDisk = 10 << 20
)

func checkFiles(_ context.Context, w *world, c check) []Finding {
	folder, err := w.Layout.EnsureStateDir()
	if err != nil {
		code := "not_writable"
		if info, statErr := os.Lstat(w.Layout.StateDir()); statErr == nil && info.IsDir() {
			code = "open_to_others"
		}
		return []Finding{w.say(c, code, "folder", w.Layout.StateDir()).because(err)}
	}
	if err := tryWriting(folder); err != nil {
		return []Finding{w.say(c, "not_writable", "folder", folder).because(pathless(err))}
	}
	free, err := w.Free(folder)
	if err != nil {
		return []Finding{w.say(c, "failed").because(pathless(err))}
	}
	size := sizeOf(free)
	switch {
	case free < fullDisk:
		return []Finding{w.say(c, "disk_full", "free", size)}
	case free < lowDisk:
		return []Finding{w.say(c, "disk_low", "free", size)}
	}
	return []Finding{w.say(c, "fine", "free", size)}
}

func tryWriting(folder string) error {
	f, err := os.CreateTemp(folder, "doctor-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString("tried")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// sizeOf writes bytes in the unit in which people think of them.
func sizeOf(n uint64) string {
	if n >= 1<<30 {
		return strconv.FormatUint(n>>30, 10) + " GB"
	}
	return strconv.FormatUint(n>>20, 10) + " MB"
}

func pathless(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// checkCopies compares folders and not files: a program and its companions lie in one.
func checkCopies(_ context.Context, w *world, c check) []Finding {
	own := filepath.Dir(resolved(w.Executable))
	seen := map[string]bool{own: true}
	var found []Finding
	for _, program := range w.Copies() {
		program = resolved(program)
		folder := filepath.Dir(program)
		if seen[folder] || sameFile(program, w.Executable) || sameFile(folder, own) {
			continue
		}
		seen[folder] = true
		found = append(found, w.say(c, "other_copy", "program", program))
	}
	if len(found) == 0 {
		return []Finding{w.say(c, "fine")}
	}
	return found
}

func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return filepath.Clean(path)
}

func sameFile(a, b string) bool {
	of, err := os.Stat(a)
	if err != nil {
		return false
	}
	with, err := os.Stat(b)
	return err == nil && os.SameFile(of, with)
}
