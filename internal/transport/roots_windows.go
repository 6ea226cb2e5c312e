package transport

import "crypto/x509"

// systemRoots returns the pool that stands for the system's own verification.
func systemRoots() (*x509.CertPool, error) { return x509.SystemCertPool() }
