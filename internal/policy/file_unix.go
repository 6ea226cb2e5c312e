//go:build unix

package policy

import (
	"errors"
	"os"
	"syscall"
)

// openPlain opens for reading and never waits, whatever the path is.
func openPlain(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
}

// openWithoutLinks is openPlain for a path that must not be a symbolic link.
func openWithoutLinks(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY|syscall.O_NOFOLLOW, 0)
}

// isLink reports whether openWithoutLinks met a symbolic link.
func isLink(err error) bool { return errors.Is(err, syscall.ELOOP) }
