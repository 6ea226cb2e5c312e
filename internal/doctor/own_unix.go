//go:build unix

package doctor

import "os"

// createOwn creates a file of a new name that only this user can read.
func createOwn(folder, prefix, suffix string) (*os.File, error) {
	return os.CreateTemp(folder, prefix+"*"+suffix)
}
