package orgconfig

import (
	"crypto/x509"
	"errors"
)

const maxAuthorityBytes = 1 << 20

// ReadAuthorities returns the system's authorities and beside them those of a file
// (PEM) of at most 1 MB: what a key that ends in ca_file means. On a system without
// authorities it returns the file's alone.
func ReadAuthorities(file string) (*x509.CertPool, error) {
	text, err := ReadTrusted(file, maxAuthorityBytes)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("it holds no certificate (PEM)")
	}
	return pool, nil
}
