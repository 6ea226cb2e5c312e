//go:build unix

package transport

import (
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
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// authority makes certificates, for servers and for clients.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

// issue returns a certificate and its key in PEM.
func (a authority) issue(t *testing.T, name string, hosts ...string) (certificate, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: hosts, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, own.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// files writes a pair where policy can name it.
func files(t *testing.T, dir string, certificate, key []byte) (certificateFile, keyFile string) {
	t.Helper()
	certificateFile, keyFile = filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	for file, text := range map[string][]byte{certificateFile: certificate, keyFile: key} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificateFile, keyFile
}

// asking is a server that wants to know who its client is; named says whom it met
// last.
func asking(t *testing.T, a authority, auth tls.ClientAuthType, most uint16, h http.HandlerFunc) (s *httptest.Server, named *atomic.Value) {
	t.Helper()
	named = new(atomic.Value)
	named.Store("")
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		named.Store(who)
		h(w, r)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{ClientAuth: auth, ClientCAs: a.pool(), MaxVersion: most}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, named
}

func TestTheClientsCertificateIsShownToTheBackendAndARenewedOneFromTheNextConnectionOn(t *testing.T) {
	ca := newAuthority(t, "clients")
	for _, most := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s, named := asking(t, ca, tls.RequireAndVerifyClientCert, most, greeting)
		dir := t.TempDir()
		certificate, key := ca.issue(t, "workstation")
		certificateFile, keyFile := files(t, dir, certificate, key)
		c := client(t, policy.Snapshot{ProxyMode: "direct", BackendURL: s.URL + "/api", ExtraCAFile: caFile(t, s), ClientCertificateFile: certificateFile, ClientKeyFile: keyFile})
		if got, err := get(t, c, s.URL+"/api/me"); err != nil || got != "hello" || named.Load() != "workstation" {
			t.Fatalf("got %q, %v from %v", got, err, named.Load())
		}
		certificate, key = ca.issue(t, "renewed")
		files(t, dir, certificate, key)
		c.CloseIdleConnections()
		if _, err := get(t, c, s.URL); err != nil || named.Load() != "renewed" {
			t.Errorf("%v, %v", err, named.Load())
		}
		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		c.CloseIdleConnections()
		_, err := get(t, c, s.URL)
		wantCode(t, err, problem.PolicyInvalid)
		wantNoAddress(t, err)
	}
}

func TestTheClientsCertificateIsShownToNoOtherHost(t *testing.T) {
	ca := newAuthority(t, "clients")
	other, named := asking(t, ca, tls.RequestClientCert, 0, greeting)
	certificate, key := ca.issue(t, "workstation")
	certificateFile, keyFile := files(t, t.TempDir(), certificate, key)
	c := client(t, policy.Snapshot{ProxyMode: "direct", BackendURL: "https://backend.hospital.example", ExtraCAFile: caFile(t, other), ClientCertificateFile: certificateFile, ClientKeyFile: keyFile})
	if _, err := get(t, c, other.URL); err != nil || named.Load() != "nobody" {
		t.Errorf("%v, %v", err, named.Load())
	}
}

func TestTheClientsCertificateGoesThroughAProxyToTheBackendAndNotToTheProxy(t *testing.T) {
	ca := newAuthority(t, "clients")
	s, named := asking(t, ca, tls.RequireAndVerifyClientCert, 0, greeting)
	plain, _ := connectProxy(t, s.Listener.Addr().String(), "")
	certificate, key := ca.issue(t, "workstation")
	certificateFile, keyFile := files(t, t.TempDir(), certificate, key)
	proxy, proxyNamed := asking(t, ca, tls.RequestClientCert, 0, plain.Config.Handler.ServeHTTP)
	for _, address := range []string{plain.URL, proxy.URL} {
		named.Store("")
		c := client(t, policy.Snapshot{ProxyMode: "manual", ProxyURL: address, BackendURL: name, ExtraCAFile: caFile(t, s), ClientCertificateFile: certificateFile, ClientKeyFile: keyFile})
		if got, err := get(t, c, name); err != nil || got != "hello" || named.Load() != "workstation" {
			t.Errorf("got %q, %v from %v", got, err, named.Load())
		}
	}
	if proxyNamed.Load() != "nobody" {
		t.Errorf("the proxy met %v", proxyNamed.Load())
	}
}

func TestAServerThatWantsAnotherCertificateIsNamedAsSuch(t *testing.T) {
	ca, wrong := newAuthority(t, "clients"), newAuthority(t, "wrong")
	certificate, key := wrong.issue(t, "workstation")
	certificateFile, keyFile := files(t, t.TempDir(), certificate, key)
	s, _ := asking(t, ca, tls.RequireAndVerifyClientCert, tls.VersionTLS12, greeting)
	p := policy.Snapshot{ProxyMode: "direct", BackendURL: s.URL, ExtraCAFile: caFile(t, s), ClientCertificateFile: certificateFile, ClientKeyFile: keyFile}
	_, err := get(t, client(t, p), s.URL)
	wantCode(t, err, problem.TLSUntrusted)
	if fact := problem.Of(err).Fact; fact != "It asks for a certificate of this computer, or does not take the one that it has." {
		t.Errorf("fact %q", fact)
	}
	p.ClientCertificateFile, p.ClientKeyFile = "", ""
	_, err = get(t, client(t, p), s.URL)
	wantCode(t, err, problem.TLSUntrusted)
	// In TLS 1.3 the server judges after the client has begun to speak: its refusal
	// can be lost in the end of the connection.
	s, _ = asking(t, ca, tls.RequireAndVerifyClientCert, tls.VersionTLS13, greeting)
	p.BackendURL, p.ExtraCAFile = s.URL, caFile(t, s)
	if _, err = get(t, client(t, p), s.URL); !problem.IsCode(err, problem.TLSUntrusted) && !problem.IsCode(err, problem.OrgUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestAClientCertificateThatCannotBeReadIsToldWhenTheServerAsksForItAndReadAnewLater(t *testing.T) {
	ca := newAuthority(t, "clients")
	certificate, key := ca.issue(t, "workstation")
	_, otherKey := ca.issue(t, "other")
	s, named := asking(t, ca, tls.RequireAndVerifyClientCert, 0, greeting)
	extra := caFile(t, s)
	for what, spoil := range map[string]func(certificateFile, keyFile string) error{
		"ClientKeyFile: everybody reads the key": func(_, k string) error { return os.Chmod(k, 0o604) },
		"ClientKeyFile: a group writes the key":  func(_, k string) error { return os.Chmod(k, 0o660) },
		"ClientKeyFile: no key":                  func(_, k string) error { return os.Remove(k) },
		"ClientCertificateFile: no certificate":  func(c, _ string) error { return os.Remove(c) },
		"ClientCertificateFile: another's key":   func(_, k string) error { return os.WriteFile(k, otherKey, 0o600) },
		"ClientCertificateFile: no PEM":          func(_, k string) error { return os.WriteFile(k, []byte("canary"), 0o600) },
		"ClientCertificateFile: swapped":         func(c, k string) error { return os.Rename(c, k) },
		"ClientCertificateFile: too large":       func(c, _ string) error { return os.Truncate(c, maxCAFileBytes+1) },
		"ClientCertificateFile: a folder": func(c, _ string) error {
			if err := os.Remove(c); err != nil {
				return err
			}
			return os.Mkdir(c, 0o700)
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			certificateFile, keyFile := files(t, dir, certificate, key)
			if err := spoil(certificateFile, keyFile); err != nil {
				t.Fatal(err)
			}
			c := client(t, policy.Snapshot{ProxyMode: "direct", BackendURL: s.URL, ExtraCAFile: extra, ClientCertificateFile: certificateFile, ClientKeyFile: keyFile})
			for range 2 {
				_, err := get(t, c, s.URL)
				wantCode(t, err, problem.PolicyInvalid)
				wantNoAddress(t, err)
				if at, _, _ := strings.Cut(what, ":"); problem.Of(err).Fact != at+" cannot be used." {
					t.Errorf("fact %q", problem.Of(err).Fact)
				}
			}
			if err := errors.Join(os.RemoveAll(certificateFile), os.RemoveAll(keyFile)); err != nil {
				t.Fatal(err)
			}
			files(t, dir, certificate, key)
			if got, err := get(t, c, s.URL); err != nil || got != "hello" || named.Load() != "workstation" {
				t.Errorf("once it is right: %q, %v from %v", got, err, named.Load())
			}
		})
	}
	certificateFile, keyFile := files(t, t.TempDir(), certificate, key)
	if err := os.Chmod(keyFile, 0o640); err != nil {
		t.Fatal(err)
	}
	c := client(t, policy.Snapshot{ProxyMode: "direct", BackendURL: s.URL, ExtraCAFile: extra, ClientCertificateFile: certificateFile, ClientKeyFile: keyFile})
	if _, err := get(t, c, s.URL); err != nil {
		t.Errorf("a key that a group may read: %v", err)
	}
}

func TestValuesOfPolicyThatNameNoClientCertificateMakeNoClient(t *testing.T) {
	for fact, rules := range map[string]policy.Snapshot{
		"ClientCertificateThumbprint cannot be used.": {ClientCertificateThumbprint: "0123456789abcdefABCDEF0123456789abcdef01"},
		"ClientKeyFile cannot be used.":               {ClientCertificateFile: "/client.pem"},
	} {
		rules.ProxyMode, rules.BackendURL = "direct", name
		c, err := NewClient(rules, nil)
		wantCode(t, err, problem.PolicyInvalid)
		if c != nil || problem.Of(err).Fact != fact {
			t.Errorf("%v, fact %q", c, problem.Of(err).Fact)
		}
	}
}

func TestAuthoritiesThatOthersCouldHaveWrittenAreNotTrusted(t *testing.T) {
	for what, spoil := range map[string]func(file string) error{
		"group may write": func(file string) error { return os.Chmod(file, 0o664) },
		"all may write":   func(file string) error { return os.Chmod(file, 0o646) },
		"another user's": func(file string) error {
			if os.Geteuid() != 0 {
				return os.Chmod(file, 0o666) // only root can give a file away
			}
			return os.Chown(file, 12345, 12345)
		},
		"a pipe": func(file string) error { return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)) },
	} {
		t.Run(what, func(t *testing.T) {
			file := caFile(t, server(t, greeting))
			if err := os.Chmod(file, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := NewClient(policy.Snapshot{ProxyMode: "direct", ExtraCAFile: file}, nil); err != nil {
				t.Fatalf("before: %v", err)
			}
			if err := spoil(file); err != nil {
				t.Fatal(err)
			}
			_, err := NewClient(policy.Snapshot{ProxyMode: "direct", ExtraCAFile: file}, nil)
			wantCode(t, err, problem.PolicyInvalid)
			wantNoAddress(t, err)
		})
	}
}
