package orgconfig

import (
	"errors"
	"os"
	"strings"
	"unicode"
)

const maxSecretBytes = 16 << 10

// ReadSecret reads a file that holds a secret in one line, and returns that line
// without its end. It refuses a file that CheckSecret refuses, one of more than 16
// KB, an empty one, and one with a second line or a control character. Its errors
// name neither the file nor what stands in it.
func ReadSecret(file string) (string, error) {
	if err := CheckSecret(file); err != nil {
		return "", err
	}
	text, err := ReadBounded(file, maxSecretBytes)
	if err != nil {
		return "", withoutPath(err)
	}
	word := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case word == "":
		return "", errors.New("the file is empty")
	case strings.ContainsFunc(word, unicode.IsControl):
		return "", errors.New("the file does not hold exactly one line of text")
	}
	return word, nil
}

// CheckSecret reports whether a file may hold a secret: it is a file, and nobody but
// its owner can read or write it. It is for secrets that another room reads, such as
// private keys. A credential of systemd's passes; on Windows the access list decides,
// which this does not look at.
func CheckSecret(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a file")
	}
	if open(info) {
		return errors.New("the file can be read or written by others; chmod 0600 it")
	}
	return nil
}

func withoutPath(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}
