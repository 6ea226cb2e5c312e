package canary

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// evidence is what was read somewhere, until all marks are known and it is searched.
type evidence struct {
	mu    sync.Mutex
	items []item                     // guarded by mu
	seen  map[[sha256.Size]byte]bool // guarded by mu
}

type item struct {
	place PlaceName
	where string
	data  []byte
}

func newEvidence() *evidence { return &evidence{seen: map[[sha256.Size]byte]bool{}} }

// add keeps what was read. The same bytes of the same place are kept once.
func (e *evidence) add(place PlaceName, where string, data []byte) {
	sum := sha256.Sum256(append([]byte(place+"\x00"), data...))
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.seen[sum] {
		e.seen[sum] = true
		e.items = append(e.items, item{place, where, data})
	}
}

// search looks through everything that was kept.
func (e *evidence) search(s *Searcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range e.items {
		s.Search(i.place, i.where, i.data)
	}
}

// files reads everything below a folder: the contents of files, the targets of links,
// and all names. place says which place a file is of, by its name below the folder;
// an empty place leaves it out. Files that vanish meanwhile are the watch's.
func (e *evidence) files(dir string, place func(name string) PlaceName) {
	names := map[PlaceName]*strings.Builder{}
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		name, relErr := filepath.Rel(dir, path)
		if err != nil || relErr != nil {
			return nil
		}
		of := place(name)
		if of == "" {
			return nil
		}
		if names[of] == nil {
			names[of] = &strings.Builder{}
		}
		names[of].WriteString(name + "\n")
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
			if target, err := os.Readlink(path); err == nil {
				e.add(of, "target of "+name, []byte(target))
			}
		case entry.Type().IsRegular():
			if data, err := os.ReadFile(path); err == nil {
				e.add(of, name, data)
			}
		}
		return nil
	})
	for of, text := range names {
		e.add(of, "names", []byte(text.String()))
	}
}
