package transport

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// Limits of reading the client's certificate while a server waits for it. A store may
// need seconds where a key lies in a TPM or on a smart card.
const (
	// certificateTimeout is how long the first one is waited for; it leaves time for the
	// rest of handshakeTimeout.
	certificateTimeout = 3 * time.Second
	// renewalTimeout is the same where one is known that can be shown instead.
	renewalTimeout = 250 * time.Millisecond
)

// ownCertificate is the certificate that policy names. It is read at the moment at
// which a server asks for it, so that a renewed one, and one that came after the agent
// had started, is in use from the next connection on; and once ahead of that. It is safe
// for concurrent use.
type ownCertificate struct {
	// read reads it, for as long as that takes. Its error is a policy_invalid problem
	// with a fact.
	read func() (*tls.Certificate, error)
	// late is that problem for one that takes too long.
	late error

	mu sync.Mutex
	// known is what the last reading has found; nil when it failed. Guarded by mu.
	known *tls.Certificate
	// reading is the one under way, so that a stuck one is not begun again beside
	// itself; guarded by mu.
	reading *certificateReading
}

// certificateReading is one reading. done is closed after the rest is set.
type certificateReading struct {
	done        chan struct{}
	certificate *tls.Certificate
	err         error
}

// clientCertificate reads the policy's ClientCertificate keys; nil when none is set.
// It looks at their form only: what they name may come later. The error is
// policy_invalid.
func clientCertificate(p policy.Snapshot) (*ownCertificate, error) {
	refused := func(key string, cause error) error {
		return problem.With(problem.PolicyInvalid, key+" cannot be used.", cause)
	}
	tooLate := errors.New("reading the client's certificate takes too long")
	switch {
	case p.ClientCertificateFile != "":
		if err := certificateFilesUsable(); err != nil {
			return nil, refused("ClientCertificateFile", err)
		}
		if p.ClientKeyFile == "" {
			return nil, refused("ClientKeyFile", errors.New("the client's certificate has no key"))
		}
		return &ownCertificate{
			read: func() (*tls.Certificate, error) { return readPair(p.ClientCertificateFile, p.ClientKeyFile) },
			late: refused("ClientCertificateFile", tooLate),
		}, nil
	case p.ClientCertificateThumbprint != "":
		hash, err := hex.DecodeString(p.ClientCertificateThumbprint)
		if err != nil || len(hash) != sha1.Size {
			return nil, refused("ClientCertificateThumbprint", errors.New("this is not a thumbprint"))
		}
		if err := certificateStoreUsable(); err != nil {
			return nil, refused("ClientCertificateThumbprint", err)
		}
		return &ownCertificate{
			read: func() (*tls.Certificate, error) {
				c, err := storedCertificate(hash)
				if err != nil {
					return nil, refused("ClientCertificateThumbprint", err)
				}
				return c, nil
			},
			late: refused("ClientCertificateThumbprint", tooLate),
		}, nil
	}
	return nil, nil
}

// begin begins a reading, or joins the one that is under way. known is what the last
// has found.
func (o *ownCertificate) begin() (r *certificateReading, known *tls.Certificate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reading == nil {
		r := &certificateReading{done: make(chan struct{})}
		o.reading = r
		go func() {
			r.certificate, r.err = o.read()
			o.mu.Lock()
			defer o.mu.Unlock()
			defer close(r.done)
			o.known, o.reading = r.certificate, nil
		}()
	}
	return o.reading, o.known
}

// get gives the certificate to a handshake. One that is late is the last that was read,
// where there is one. Errors are those of read, late, and ctx's own.
func (o *ownCertificate) get(ctx context.Context) (*tls.Certificate, error) {
	r, known := o.begin()
	patience := certificateTimeout
	if known != nil {
		patience = renewalTimeout
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-r.done:
		return r.certificate, r.err
	case <-late.C:
		if known != nil {
			return known, nil
		}
		return nil, o.late
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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
func forBackend(base *http.Transport, backend string, own *ownCertificate) *http.Transport {
	t := base.Clone()
	// A certificate is shown whatever authorities the server names: it may know more
	// than it names, and its refusal says more than our silence.
	t.TLSClientConfig.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return own.get(asked.Context())
	}
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
