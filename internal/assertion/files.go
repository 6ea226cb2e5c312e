package assertion

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Files is a Signer whose keys are in files that may change while it works: before
// every use it looks at them, and reads all of them again when one has changed. So
// keys rotate without a restart: a second file of the list is published until the
// peer knows it, and then becomes the first, which signs.
//
// A file that is gone or cannot be used leaves the keys of before in use, which is
// logged once for each change; see Reload. It is tried again, since to let only us
// read it changes neither its time nor its size. It is safe for concurrent use.
type Files struct {
	files      []string
	algorithms []string
	read       func(file string) ([]byte, error)
	log        *slog.Logger

	now func() time.Time

	mu     sync.Mutex
	seen   []fs.FileInfo
	signer *Signer
	failed bool      // the files as they were seen could not be used
	tried  time.Time // when they were read last
}

// FilesConfig says which files, and how they are read.
type FilesConfig struct {
	// Names are the files, PEM, in order: the first signs, all are published.
	Names []string
	// Algorithms are those that the peer takes; see New.
	Algorithms []string
	// Read reads a whole file and may refuse it, for example one that others may
	// read; nil means that any file of at most 64 KiB will do.
	Read func(file string) ([]byte, error)
	// Log may be nil: nothing is logged.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// againAfter is how long files that could not be used are left alone.
const againAfter = 2 * time.Second

// OpenFiles reads the files for the first time; now every one of them must be right.
func OpenFiles(cfg FilesConfig) (*Files, error) {
	f := &Files{files: slices.Clone(cfg.Names), algorithms: cfg.Algorithms, read: cfg.Read, log: cfg.Log, now: cfg.Now}
	if f.read == nil {
		f.read = readBounded
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if f.now == nil {
		f.now = time.Now
	}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// JWKS is that of the keys as they now are; see Signer.
func (f *Files) JWKS() []byte { return f.current().JWKS() }

// Assert is that of the first key as it now is; see Signer.
func (f *Files) Assert(clientID, audience string, now time.Time, life time.Duration) (string, error) {
	return f.current().Assert(clientID, audience, now, life)
}

// Reload reads the files whether they have changed or not. After an error the keys
// of before stay in use.
func (f *Files) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reload(f.look())
}

func (f *Files) current() *Signer {
	f.mu.Lock()
	defer f.mu.Unlock()
	since := f.now().Sub(f.tried)
	now := f.look()
	changed := !slices.EqualFunc(f.seen, now, same)
	if changed || (f.failed && (since < 0 || since >= againAfter)) {
		switch err := f.reload(now); {
		case err != nil && changed:
			f.log.Warn("the files of the keys have changed and cannot be used, so the keys of before stay in use", "error", err)
		case err == nil:
			f.log.Info("the keys were read again")
		}
	}
	return f.signer
}

// look says how every file is now; nil stands for one that cannot be looked at.
func (f *Files) look() []fs.FileInfo {
	infos := make([]fs.FileInfo, len(f.files))
	for i, name := range f.files {
		if info, err := os.Stat(name); err == nil {
			infos[i] = info
		}
	}
	return infos
}

func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// reload was given how the files looked before they are read, so that one that
// changes meanwhile is read again next time.
func (f *Files) reload(seen []fs.FileInfo) error {
	f.seen, f.tried, f.failed = seen, f.now(), true
	keys := make([]Key, 0, len(f.files))
	for i, name := range f.files {
		text, err := f.read(name)
		if err != nil {
			return f.nth(i, err)
		}
		signer, err := parseKey(text)
		if err != nil {
			return f.nth(i, err)
		}
		keys = append(keys, Key{Signer: signer})
	}
	signer, err := New(keys, f.algorithms)
	if err != nil {
		return err
	}
	f.signer, f.failed = signer, false
	return nil
}

// nth says which of several files an error is of.
func (f *Files) nth(i int, err error) error {
	if len(f.files) < 2 {
		return err
	}
	return fmt.Errorf("file %d of %d: %w", i+1, len(f.files), err)
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening a key: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	if len(text) > maxKeyBytes {
		return nil, errors.New("a key file is too large")
	}
	return text, nil
}
