package orgaudit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"encounterlauncher/internal/orgconfig"
)

const (
	defaultMegabytes = 100
	defaultKeepDays  = 2190 // six years
	// nameForm is the moment of a rotated file's newest line in its name.
	nameForm = "20060102T150405.000Z"
	// syncPause is what a power cut can cost: a line takes 2 microseconds, with a sync
	// of its own 170 (BenchmarkRecord), during which no other call could be answered.
	syncPause = time.Second
	// forgetPause is how often it is looked for files that were kept long enough.
	forgetPause = time.Hour
	lockEnd     = ".lock"
	zipped      = ".gz"
)

// file appends to one file. It moves it aside when it is full or a month is over,
// so that no line is kept for more than a month longer than it should be.
type file struct {
	path string
	max  int64
	keep time.Duration
	now  func() time.Time
	lock *flock.Flock

	f     *os.File
	size  int64
	month string // of the newest line, in UTC; empty for an empty file
	torn  bool   // what was written last does not end a line

	mu    sync.Mutex
	dirty *os.File // guarded by mu: what the syncer has to sync
	stop  chan struct{}
	ended chan struct{}
}

func openFile(cfg orgconfig.Audit, now func() time.Time) (*file, error) {
	if cfg.MaxMegabytes == 0 {
		cfg.MaxMegabytes = defaultMegabytes
	}
	if cfg.KeepDays == 0 {
		cfg.KeepDays = defaultKeepDays
	}
	w := &file{
		path: cfg.File, max: int64(cfg.MaxMegabytes) << 20, keep: time.Duration(cfg.KeepDays) * 24 * time.Hour, now: now,
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	folder := filepath.Dir(cfg.File)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, withoutPath(err)
	}
	if err := checkFolder(folder); err != nil {
		return nil, err
	}
	// Two processes would move each other's file away.
	w.lock = flock.New(cfg.File+lockEnd, flock.SetPermissions(0o600))
	if taken, err := w.lock.TryLock(); err != nil {
		return nil, fmt.Errorf("locking it: %w", withoutPath(err))
	} else if !taken {
		return nil, errors.New("another process writes it; each backend of a machine needs a file of its own")
	}
	if err := w.open(); err != nil {
		return nil, errors.Join(err, w.lock.Close())
	}
	w.forget()
	go w.syncing()
	return w, nil
}

// open opens the file of the path, or makes it.
func (w *file) open() error {
	f, err := openPrivate(w.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a file")
	}
	last := []byte{'\n'}
	if err == nil && info.Size() > 0 {
		_, err = f.ReadAt(last, info.Size()-1)
	}
	if err != nil {
		return errors.Join(withoutPath(err), f.Close())
	}
	w.f, w.size, w.torn, w.month = f, info.Size(), last[0] != '\n', ""
	if w.size > 0 {
		w.month = month(info.ModTime())
	}
	return nil
}

func month(t time.Time) string { return t.UTC().Format("2006-01") }

func (w *file) write(r Record, text []byte) error {
	if w.f != nil && w.size > 0 && (w.size+int64(len(text)) > w.max || (w.month != "" && w.month != month(r.Time))) {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	if w.f == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	if w.torn {
		// What a crash or a full disk cut off stays as a line of its own.
		text = append([]byte{'\n'}, text...)
	}
	n, err := w.f.Write(text)
	w.size += int64(n)
	if err != nil {
		w.torn = w.torn || n > 0
		return withoutPath(err)
	}
	w.torn, w.month = false, month(r.Time)
	w.mu.Lock()
	w.dirty = w.f
	w.mu.Unlock()
	return nil
}

// rotate moves the file aside, under the moment of its newest line.
func (w *file) rotate() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty = nil
	err := errors.Join(w.f.Sync(), w.f.Close())
	w.f = nil
	if err != nil {
		return fmt.Errorf("ending a full file: %w", withoutPath(err))
	}
	at := w.now()
	if info, err := os.Stat(w.path); err == nil && info.ModTime().Before(at) {
		at = info.ModTime()
	}
	// A rename would replace: a file of the same moment must stay.
	for ; ; at = at.Add(time.Millisecond) {
		to := rotated(w.path, at)
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			if err := os.Rename(w.path, to); err != nil {
				return fmt.Errorf("moving a full file aside: %w", withoutPath(err))
			}
			break
		} else if err != nil {
			return withoutPath(err)
		}
	}
	w.forget()
	return nil
}

// rotated is the name of a file whose newest line is of a moment.
func rotated(path string, at time.Time) string {
	end := filepath.Ext(path)
	return strings.TrimSuffix(path, end) + "-" + at.UTC().Format(nameForm) + end
}

// part is one file of an audit.
type part struct {
	path string
	// until is when its newest line was written, zero for the file that is written to.
	until time.Time
}

// parts returns the files of an audit, the oldest first; the last is the one that
// is written to, whether it exists or not. Those that an administrator has zipped
// (gzip) are there too.
func parts(path string) ([]part, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, withoutPath(err)
	}
	end := filepath.Ext(path)
	before := strings.TrimSuffix(filepath.Base(path), end) + "-"
	var found []part
	for _, e := range entries {
		rest, ours := strings.CutPrefix(strings.TrimSuffix(e.Name(), zipped), before)
		rest, ends := strings.CutSuffix(rest, end)
		at, err := time.Parse(nameForm, rest)
		if ours && ends && err == nil && e.Type().IsRegular() {
			found = append(found, part{filepath.Join(filepath.Dir(path), e.Name()), at})
		}
	}
	slices.SortFunc(found, func(a, b part) int { return a.until.Compare(b.until) })
	return append(found, part{path: path}), nil
}

// forget removes files of which every line was kept long enough. What cannot be
// removed is tried again with the next.
func (w *file) forget() {
	all, err := parts(w.path)
	if err != nil {
		return
	}
	for _, p := range all[:len(all)-1] {
		if w.now().Sub(p.until) > w.keep {
			_ = os.Remove(p.path)
		}
	}
}

// syncing brings to the disk what was written, at most once a second, while others
// write on.
func (w *file) syncing() {
	defer close(w.ended)
	ticker := time.NewTicker(syncPause)
	defer ticker.Stop()
	looked := w.now()
	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		if now := w.now(); now.Sub(looked) >= forgetPause {
			w.forget()
			looked = now
		}
		w.mu.Lock()
		f := w.dirty
		w.dirty = nil
		w.mu.Unlock()
		if f != nil {
			// Closed meanwhile means: synced by rotate. Any other fault shows with
			// the next write.
			_ = f.Sync()
		}
	}
}

func (w *file) close() error {
	close(w.stop)
	<-w.ended
	var err error
	if w.f != nil {
		err = errors.Join(w.f.Sync(), w.f.Close())
	}
	return errors.Join(err, w.lock.Close())
}

func withoutPath(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
