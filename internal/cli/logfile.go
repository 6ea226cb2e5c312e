//go:build !console

package cli

import (
	"errors"
	"io/fs"
	"os"
	"sync"

	"encounterlauncher/internal/paths"
)

const (
	// mostLog is the size in bytes at which the log is set aside, however long the agent
	// runs; one older log is kept.
	mostLog = 1 << 20
	// retryLog is after how many bytes more it is tried again, where it could not be.
	retryLog = mostLog / 8
)

// logFile is the agent's log on the disk. A line is in one file whole. Agents of other
// sessions may write to the same file and may set it aside. It is safe for concurrent
// use.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File // guarded by mu
	room int64    // guarded by mu: bytes until it is to be set aside
}

func openLogFile(path string) (*logFile, error) {
	l := &logFile{path: path}
	if err := l.reopen(); err != nil {
		return nil, err
	}
	if l.room <= 0 {
		l.turn()
	}
	return l, nil
}

// reopen opens the file anew; the one before stays where that fails.
func (l *logFile) reopen() error {
	file, err := paths.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.room = file, mostLog-info.Size()
	return nil
}

// turn sets the file aside and begins another, unless an agent of another session has
// done so. A log that cannot be set aside is written on.
func (l *logFile) turn() {
	l.room = retryLog
	own, err := l.file.Stat()
	if err != nil {
		return
	}
	if there, err := os.Stat(l.path); err == nil && os.SameFile(own, there) {
		if err := os.Rename(l.path, l.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	_ = l.reopen() // else the one before is written on
}

// Write writes a line.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room <= 0 {
		l.turn()
	}
	n, err := l.file.Write(line)
	l.room -= int64(n)
	return n, err
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
