package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// certificateSource gives the client's certificate at the moment at which a server
// asks for one, so that a renewed one is in use from the next connection on.
type certificateSource func() (*tls.Certificate, error)

// clientCertificate reads the policy's ClientCertificate keys; nil when none is set.
// What they name is tried at once. The error is policy_invalid.
func clientCertificate(p policy.Snapshot) (certificateSource, error) {
	var source certificateSource
	switch {
	case p.ClientCertificateFile != "":
		source = func() (*tls.Certificate, error) { return readPair(p.ClientCertificateFile, p.ClientKeyFile) }
	case p.ClientCertificateThumbprint != "":
		source = func() (*tls.Certificate, error) {
			c, err := storedCertificate(p.ClientCertificateThumbprint)
			if err != nil {
				return nil, problem.With(problem.PolicyInvalid, "ClientCertificateThumbprint cannot be used.", err)
			}
			return c, nil
		}
	default:
		return nil, nil
	}
	if _, err := source(); err != nil {
		return nil, err
	}
	return source, nil
}

// readPair reads a certificate with its chain and its key. The problem names the key
// of policy that is at fault.
func readPair(certificate, key string) (*tls.Certificate, error) {
	chain, err := readBounded(certificate, nil)
	if err != nil {
		return nil, problem.With(problem.PolicyInvalid, "ClientCertificateFile cannot be used.", fmt.Errorf("reading the client's certificate: %w", err))
	}
	private, err := readBounded(key, keyIsPrivate)
	if err != nil {
		return nil, problem.With(problem.PolicyInvalid, "ClientKeyFile cannot be used.", fmt.Errorf("reading the client's key: %w", err))
	}
	pair, err := tls.X509KeyPair(chain, private)
	clear(private)
	if err != nil {
		return nil, problem.With(problem.PolicyInvalid, "ClientCertificateFile cannot be used.", errors.New("the client's certificate and key are not a pair in PEM"))
	}
	return &pair, nil
}

// readBounded reads a regular file of at most maxCAFileBytes; judge may refuse it.
func readBounded(file string, judge func(os.FileInfo) error) ([]byte, error) {
	f, err := openPlain(file)
	if err != nil {
		return nil, pathless(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	if judge != nil {
		if err := judge(info); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCAFileBytes+1))
	if err != nil {
		return nil, pathless(err)
	}
	if len(text) > maxCAFileBytes {
		return nil, errors.New("it is too large")
	}
	return text, nil
}

// hostPort is the host and the port that a URL leads to.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// forBackend is a copy of a transport that shows the certificate, for requests to
// the backend's host only. A proxy that is itself spoken to over TLS must not get
// it either, and http.Transport would give it to both, so this dials TLS itself:
// what is dialled is either the backend or such a proxy.
func forBackend(base *http.Transport, backend string, source certificateSource) *http.Transport {
	t := base.Clone()
	// A certificate is shown whatever authorities the server names: it may know more
	// than it names, and its refusal says more than our silence.
	t.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return source() }
	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		config := t.TLSClientConfig.Clone()
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		config.ServerName = host
		if strings.EqualFold(address, backend) {
			config.NextProtos = []string{"h2", "http/1.1"}
		} else {
			config.NextProtos, config.GetClientCertificate = []string{"http/1.1"}, nil
		}
		conn, err := t.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secured, nil
	}
	return t
}
