//go:build linux

package stage

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Authority is a certificate authority for loopback, which lives for a day. Its key is
// in memory only.
type Authority struct {
	// CAFile holds its certificate, for policy and SSL_CERT_FILE.
	CAFile string
	// CertFile and KeyFile are a certificate for 127.0.0.1 and localhost.
	CertFile, KeyFile string
	// Roots trust it.
	Roots *x509.CertPool
	cert  tls.Certificate
}

// NewAuthority makes an authority and writes its files into a folder.
func NewAuthority(dir string) (*Authority, error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stage authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "stage"}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, authority, serverKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		return nil, err
	}
	a := &Authority{
		CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "server.pem"), KeyFile: filepath.Join(dir, "server.key"),
		Roots: x509.NewCertPool(), cert: tls.Certificate{Certificate: [][]byte{serverDER}, PrivateKey: serverKey},
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authorityDER})
	a.Roots.AppendCertsFromPEM(text)
	return a, errors.Join(
		os.WriteFile(a.CAFile, text, 0o644),
		os.WriteFile(a.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: serverDER}), 0o644),
		os.WriteFile(a.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
	)
}

// Client is an HTTP client that trusts the authority. It keeps connections; who is
// done with it calls CloseIdleConnections.
func (a *Authority) Client() *http.Client {
	return &http.Client{Timeout: Patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Roots}, MaxIdleConnsPerHost: 16}}
}

// Serve serves a handler over TLS on a port of its own and returns its https address,
// without a slash at its end. The server is closed by the caller.
func (a *Authority) Serve(h http.Handler) (*http.Server, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	return a.ServeOn(l, h, nil), "https://" + l.Addr().String(), nil
}

// ServeOn serves a handler over TLS on a listener, which it owns from then on. of, when
// not nil, is the server's ConnContext.
func (a *Authority) ServeOn(l net.Listener, h http.Handler, of func(context.Context, net.Conn) context.Context) *http.Server {
	s := &http.Server{
		Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{a.cert}, MinVersion: tls.VersionTLS12},
		ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: Patience, ConnContext: of,
	}
	go func() { _ = s.ServeTLS(l, "", "") }()
	return s
}
