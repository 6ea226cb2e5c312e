//go:build unix

package orgaudit

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"encounterlauncher/internal/orgconfig"
)

// checkFolder refuses a folder in which others could put another file in place of
// ours.
func checkFolder(folder string) error {
	info, err := os.Stat(folder)
	if err != nil {
		return withoutPath(err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return errors.New("its folder can be written by others; chmod go-w it")
	}
	if orgconfig.OfAnother(info) {
		return errors.New("its folder belongs to another user; chown it")
	}
	return nil
}

// openPrivate opens a file that only we can read, for appending, and makes it when
// it is not there. It follows no link.
func openPrivate(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, withoutPath(err)
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = errors.New("it can be read by others; chmod 0600 it")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
