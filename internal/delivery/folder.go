package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"encounterlauncher/internal/orgconfig"
)

const (
	partPrefix = ".part-"
	partAge    = time.Hour
)

// folder makes a file of each callback: its own body, under a name of its
// request_uuid and type.
type folder struct{ path string }

func (f *folder) Name() string { return "folder" }

// Deliver writes a file that is whole or not there, and on disk when it returns. A
// file of that name is never written over: with the same content it is the note
// itself, with another the note is refused.
func (f *folder) Deliver(_ context.Context, n Note) error {
	name := filepath.Join(f.path, fileName(n.RequestUUID, n.Type))
	switch there, err := orgconfig.ReadBounded(name, MaxCallbackBytes); {
	case err == nil && bytes.Equal(there, n.Raw):
		return nil
	case err == nil:
		return &Failure{Code: CodeFileConflict, Refused: true}
	case !errors.Is(err, fs.ErrNotExist):
		return folderFailure(err)
	}
	part, err := os.CreateTemp(f.path, partPrefix+"*") // it makes it 0600
	if err != nil {
		return folderFailure(err)
	}
	_, err = part.Write(n.Raw)
	if err == nil {
		err = part.Sync()
	}
	if closing := part.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(part.Name(), name)
	}
	if err != nil {
		_ = os.Remove(part.Name())
		return folderFailure(err)
	}
	if err := syncFolder(f.path); err != nil {
		return folderFailure(err)
	}
	return nil
}

// syncFolder makes a name last.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// fileName takes over a request_uuid that is one, and the hash of any other.
func fileName(requestUUID, kind string) string {
	word := requestUUID
	if len(word) > 64 || strings.Trim(strings.ToLower(word), "0123456789abcdefghijklmnopqrstuvwxyz-") != "" || word == "" {
		word = string(keyOf(requestUUID))
	}
	return word + "_" + strings.ToLower(kind) + ".json"
}

// folderFailure keeps of an error what the system says, and no name of a file.
func folderFailure(err error) error {
	f := &Failure{Code: CodeFolderFailed, Cause: err}
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &at):
		f.Cause = fmt.Errorf("%s: %w", at.Op, at.Err)
	case errors.As(err, &link):
		f.Cause = fmt.Errorf("%s: %w", link.Op, link.Err)
	}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		f.Code = CodeDiskFull
	case errors.Is(err, fs.ErrPermission):
		f.Code = CodeFolderDenied
	}
	return f
}
