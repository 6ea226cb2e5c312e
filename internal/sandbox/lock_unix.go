//go:build unix

package sandbox

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the lock of a file for as long as the file is open. taken is
// true when another process has it.
func lockFile(f *os.File) (taken bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
