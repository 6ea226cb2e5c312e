//go:build unix

package transport

import (
	"crypto/tls"
	"errors"
	"os"
	"syscall"
)

// keyIsPrivate refuses a key that everybody can read, or that others than its owner
// can exchange.
func keyIsPrivate(info os.FileInfo) error {
	if info.Mode().Perm()&0o027 != 0 {
		return errors.New("others can read or write it: run chmod 640 or 600 on it")
	}
	return nil
}

// openPlain opens for reading and never waits, whatever the path is.
func openPlain(file string) (*os.File, error) {
	return os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
}

// certificateFilesUsable refuses nothing: certificates and keys are files here.
func certificateFilesUsable() error { return nil }

// certificateStoreUsable refuses.
func certificateStoreUsable() error { return errors.New("this system has no store of certificates") }

// storedCertificate is never asked.
func storedCertificate([]byte) (*tls.Certificate, error) { return nil, certificateStoreUsable() }
