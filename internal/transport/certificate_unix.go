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

// authoritiesAreOurs refuses a file that others than this user and root could have
// written: whoever writes it can pass for every server.
func authoritiesAreOurs(info os.FileInfo) error {
	if info.Mode().Perm()&0o022 != 0 {
		return errors.New("others can write it: run chmod 644 on it")
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != 0 && int(stat.Uid) != os.Getuid() {
		return errors.New("it belongs to another user: run chown root on it")
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
