//go:build unix

package orgstore

import (
	"errors"
	"io/fs"
	"os"
)

// openToOthers reports whether others than the owner can get at a folder.
func openToOthers(folder fs.FileInfo) bool { return folder.Mode().Perm()&0o077 != 0 }

// syncFolder has the names in a folder on disk when it returns.
func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
