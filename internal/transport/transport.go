// Package transport makes the one HTTP client with which the agent talks to the
// outside: through the proxy that the policy or the system names for each host,
// trusting the system's roots and the policy's extra ones, over TLS 1.2 or newer,
// showing the backend the client certificate that the policy names. It also says
// which proxy leads to a host, for those who want to know why one cannot be reached.
//
// Its errors are classified where they arise: every error of a round trip is a
// *problem.Problem of code tls_untrusted, proxy_auth_needed or org_unreachable, one
// that the keyring or a client certificate has met, or the context's own error. None
// of them holds a URL.
//
// It never switches the verification of certificates off, never follows a
// redirection to another host, never keeps a cookie, never takes a user name or
// password for a proxy from policy, never gives one to another host than the proxy
// for which it was stored, and never shows a client certificate to another host than
// the backend's.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// Limits of every connection. None bounds a whole answer: callers bound their
// calls with a context, and an event stream may stay open for hours.
const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	// idleTimeout keeps a connection warm between two clicks, so that the second
	// needs neither DNS nor a TLS handshake. A server that closes earlier costs a
	// new connection, not an error.
	idleTimeout = 5 * time.Minute
	// pingAfter and pingTimeout find an HTTP/2 connection that a firewall or a
	// change of network has cut silently, before a click has to wait for it.
	pingAfter   = 30 * time.Second
	pingTimeout = 5 * time.Second
	// maxHeaderBytes bounds the header of an answer.
	maxHeaderBytes = 64 << 10
	// maxCAFileBytes bounds ExtraCAFile.
	maxCAFileBytes = 1 << 20
	// maxRedirects bounds the redirections within one host.
	maxRedirects = 3
)

// NewClient returns the client for a policy. It reads ProxyMode (system, also
// when empty; direct; manual with ProxyURL; pac with ProxyPACURL),
// ExtraCAFile (PEM certificates that are trusted beside the system's roots), and
// ClientCertificateFile with ClientKeyFile, or ClientCertificateThumbprint (shown to
// BackendURL's host and port when that asks, and to nobody else). A value that cannot
// be used is a policy_invalid problem, and no client is made. The client's certificate
// is waited for by nobody but the server that asks for it: what is not there yet, or
// cannot be read, is policy_invalid with a fact for that exchange, and read anew for
// the next connection.
//
// Proxies that ask for a name and a password are answered from k, which is asked
// when the first one does, and not before; with a nil k there are none.
//
// The client has no overall timeout: callers bound every call with a context.
// Client.CloseIdleConnections closes what is not in use; Retire is for when the policy
// has changed and a new client takes over.
func NewClient(p policy.Snapshot, k Credentials) (*http.Client, error) {
	return NewClientTrusting(p, k, systemRoots)
}

// Roots are the system's certificates, for one client.
type Roots func() (*x509.CertPool, error)

// BeginRoots begins to read the system's certificates, which takes milliseconds, before
// there is a policy and a client that needs them. What it returns is for one client,
// which adds the policy's to them.
func BeginRoots() Roots {
	read := make(chan struct{})
	var roots *x509.CertPool
	var err error
	go func() {
		defer close(read)
		roots, err = systemRoots()
	}()
	return func() (*x509.CertPool, error) {
		<-read
		return roots, err
	}
}

// NewClientTrusting is NewClient with the system's certificates given.
func NewClientTrusting(p policy.Snapshot, k Credentials, system Roots) (*http.Client, error) {
	proxies, err := newChooser(p)
	if err != nil {
		return nil, err
	}
	extra, err := extraCertificates(p.ExtraCAFile)
	if err != nil {
		return nil, problem.With(problem.PolicyInvalid, "ExtraCAFile cannot be used.", err)
	}
	own, err := clientCertificate(p)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	t := &roundTripper{ready: make(chan struct{}), proxies: proxies, purse: newPurse(k)}
	t.base = &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		IdleConnTimeout:        idleTimeout,
		MaxIdleConns:           8,
		MaxResponseHeaderBytes: maxHeaderBytes,
		GetProxyConnectHeader:  t.purse.connectHeader,
		OnProxyConnectResponse: proxyAnswer,
	}
	if p.ProxyMode != "direct" {
		t.base.Proxy = proxies.forRequest
	}
	if backend, err := url.Parse(p.BackendURL); err == nil && backend.Scheme == "https" {
		if own != nil {
			t.backendHost = hostPort(backend)
			t.backend = forBackend(t.base, t.backendHost, own)
			own.begin() // a store can take seconds
		}
		// Windows' detection can take seconds, in which nobody has clicked yet.
		go func() { _, _ = proxies.choose(context.Background(), backend) }()
	}
	// The system's certificates take milliseconds to read, in which a starting agent
	// can already take a link and ask the keyring.
	go t.trust(system, extra)
	return &http.Client{CheckRedirect: sameHostOnly, Transport: t}, nil
}

func extraCertificates(file string) ([]*x509.Certificate, error) {
	if file == "" {
		return nil, nil
	}
	return readCertificates(file)
}

// trust reads the roots and lets the exchanges begin.
func (t *roundTripper) trust(system Roots, extra []*x509.Certificate) {
	defer close(t.ready)
	roots, err := system()
	if err != nil {
		// No root at all is not the same as the system's: nothing may be trusted then.
		t.untrusting = problem.With(problem.TLSUntrusted, "This computer's certificates cannot be read.", fmt.Errorf("reading the system's certificates: %w", pathless(err)))
		return
	}
	for _, c := range extra {
		roots.AddCert(c)
	}
	t.base.TLSClientConfig.RootCAs = roots
	if t.backend != nil {
		t.backend.TLSClientConfig.RootCAs = roots
	}
}

// readCertificates is strict where x509's own reader skips what it does not
// understand: a file that is only half used would fail later, far from its cause.
func readCertificates(file string) ([]*x509.Certificate, error) {
	text, err := readBounded(file, authoritiesAreOurs)
	if err != nil {
		return nil, fmt.Errorf("reading the file of certificates: %w", err)
	}
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("the file holds something else than certificates")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading certificate %d of the file: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("the file holds no certificate in PEM")
	}
	return all, nil
}

func pathless(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func sameHostOnly(r *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return problem.With(problem.OrgAnswerInvalid, "It redirected too often.", nil)
	}
	if first := via[0].URL; r.URL.Scheme != first.Scheme || r.URL.Host != first.Host {
		return problem.With(problem.OrgAnswerInvalid, "It redirected to another server.", nil)
	}
	return nil
}

// proxyRefusal is the status with which a proxy refused to connect.
type proxyRefusal int

func (p proxyRefusal) Error() string { return fmt.Sprintf("the proxy answered %d", int(p)) }

// roundTripper turns every failure into a problem.
type roundTripper struct {
	// ready is closed once base has its roots, or untrusting says why it has none.
	ready      chan struct{}
	untrusting *problem.Problem
	base       *http.Transport
	// backend shows the client's certificate, to backendHost; nil when there is none.
	backend     *http.Transport
	backendHost string
	proxies     *chooser
	purse       *purse
}

// RoundTrip does one exchange. Its errors are those of the package comment.
func (t *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-t.ready:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if t.untrusting != nil {
		return nil, t.untrusting
	}
	answer, err := t.exchange(r)
	var wants *proxyAuthError
	if errors.As(err, &wants) {
		// Once: a second refusal is of what was just given.
		if err = t.purse.fetch(r.Context(), wants); err == nil {
			if r, err = again(r); err == nil {
				answer, err = t.exchange(r)
			}
		}
		if errors.As(err, &wants) {
			t.purse.refused(wants)
		}
	}
	if err != nil {
		if done := r.Context().Err(); done != nil {
			return nil, done
		}
		return nil, t.told(r, classify(err))
	}
	return answer, nil
}

// exchange is one attempt. A proxy that asks who is there is a *proxyAuthError.
func (t *roundTripper) exchange(r *http.Request) (*http.Response, error) {
	var proxy *url.URL
	if r.URL.Scheme == "http" && t.base.Proxy != nil {
		// Without TLS there is no CONNECT: the proxy reads the request itself.
		var err error
		if proxy, err = t.base.Proxy(r); err != nil {
			return nil, err
		}
		if given := t.purse.headerFor(proxy); given != "" {
			r = r.Clone(r.Context())
			r.Header.Set(proxyAuthorization, given)
		}
	}
	way := t.base
	if t.backend != nil && r.URL.Scheme == "https" && hostPort(r.URL) == t.backendHost {
		way = t.backend
	}
	answer, err := way.RoundTrip(r)
	if err == nil && answer.StatusCode == http.StatusProxyAuthRequired {
		_ = answer.Body.Close()
		// Inside a tunnel it is the server that says so, and it gets nothing.
		return nil, wantsAuth(proxy, r.Header, answer.Header)
	}
	return answer, err
}

// again makes a request whose body has been read fit for a second attempt.
func again(r *http.Request) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, nil
	}
	if r.GetBody == nil {
		return r, problem.New(problem.OrgUnreachable, errors.New("the request cannot be sent twice"))
	}
	body, err := r.GetBody()
	if err != nil {
		return r, errors.New("the request's body cannot be read again")
	}
	r = r.Clone(r.Context())
	r.Body = body
	return r, nil
}

// told lets the look-up of proxies know that a host could not be reached, and the
// person that the way to it was a fallback.
func (t *roundTripper) told(r *http.Request, err error) error {
	p := problem.Of(err)
	if p.Code != problem.OrgUnreachable || t.proxies == nil {
		return err
	}
	fallback := t.proxies.failedFor(r.URL)
	var op *net.OpError
	t.proxies.unreachable(r.URL, errors.As(err, &op) && op.Op == "proxyconnect")
	if fallback && p.Fact == "" {
		return problem.With(problem.OrgUnreachable, "The proxy setting of this computer cannot be read.", errors.Unwrap(p))
	}
	return err
}

// CloseIdleConnections closes the connections that nobody uses now.
func (t *roundTripper) CloseIdleConnections() {
	t.base.CloseIdleConnections()
	if t.backend != nil {
		t.backend.CloseIdleConnections()
	}
}

// Connect opens a connection to a server ahead of the request that will need it, as far
// as TLS, and returns once that has begun. It is for a time at which none is open yet;
// where one is, nothing may come of it but a request without a body and without a token.
// What goes wrong is left to the request that will need it.
//
// A request begins that is given up as soon as it has to wait for a connection: net/http
// goes on to make that for the next one (Transport.getConn).
func Connect(ctx context.Context, c *http.Client, address string) {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		ConnectStart: func(string, string) { giveUp() },
		GotConn:      func(httptrace.GotConnInfo) { giveUp() },
	})
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return
	}
	if answer, err := c.Transport.RoundTrip(r); err == nil {
		_ = answer.Body.Close()
	}
}

// Retire is for a client of NewClient in whose place another has come: it closes the
// connections that are not in use and gives back what watches the network. Calls that
// are under way end as they would have; a later one hears of no change of the network
// any more. Another client only has its connections closed.
func Retire(c *http.Client) {
	c.CloseIdleConnections()
	if t, ours := c.Transport.(*roundTripper); ours {
		t.proxies.stop()
	}
}

// ForgetCredentials makes a client of NewClient forget the names and passwords that
// proxies have been given, for when the person leaves, and closes the connections for
// which one was given, unless they are in use. A proxy that asks again is given what is
// stored then. Another client is left as it is.
func ForgetCredentials(c *http.Client) {
	if t, ours := c.Transport.(*roundTripper); ours && t.purse.forget() {
		t.CloseIdleConnections()
	}
}

// classify names the failure of a round trip. A handshake that fails for any
// reason of TLS is tls_untrusted: what answered is not the server we may talk to.
func classify(err error) error {
	var (
		known        *problem.Problem
		certificate  *tls.CertificateVerificationError
		notTLS       tls.RecordHeaderError
		op           *net.OpError
		name         x509.HostnameError
		unknown      x509.UnknownAuthorityError
		invalid      x509.CertificateInvalidError
		wants        *proxyAuthError
		alert        = errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
		unacceptable = errors.As(err, &certificate) || errors.As(err, &notTLS) || alert
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &wants):
		return wants.problem()
	case errors.As(err, &name):
		return problem.With(problem.TLSUntrusted, "Its certificate is for another name.", issued(err))
	case errors.As(err, &unknown):
		return problem.With(problem.TLSUntrusted, "Its certificate comes from an authority that this computer does not know.", issued(err))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return problem.With(problem.TLSUntrusted, "Its certificate has expired, or this computer's clock is wrong.", issued(err))
	case alert && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate"):
		return problem.With(problem.TLSUntrusted, "It asks for a certificate of this computer, or does not take the one that it has.", err)
	case unacceptable:
		return problem.New(problem.TLSUntrusted, issued(err))
	}
	return problem.New(problem.OrgUnreachable, quoteless(err))
}

// Presented returns the certificates that a server showed and that were not
// trusted, its own first, out of an error of the client; nil where the error is
// another. Whoever shows them has to make their texts inert: anybody can have
// written them. Those of a server that is trusted stand in http.Response.TLS.
func Presented(err error) []*x509.Certificate {
	var certificate *tls.CertificateVerificationError
	if !errors.As(err, &certificate) {
		return nil
	}
	return slices.Clone(certificate.UnverifiedCertificates)
}

// mostIssuer bounds, in bytes, what the log shows of an issuer's name.
const mostIssuer = 200

// issued names for the log who has issued what was not trusted: an authority of
// which IT says "that is our proxy" at once.
func issued(err error) error {
	chain := Presented(err)
	if len(chain) == 0 {
		return err
	}
	name := chain[0].Issuer.String()
	if len(name) > mostIssuer {
		name = name[:mostIssuer]
	}
	return fmt.Errorf("%w; issued by %s", err, strconv.QuoteToASCII(name))
}

// quoteless keeps the causes that name what failed on the network, and replaces
// the others: net/http's errors about a malformed answer quote the answer.
func quoteless(err error) error {
	var network net.Error
	var proxy proxyRefusal
	var ue *url.Error
	switch {
	case errors.As(err, &ue):
		return quoteless(ue.Err)
	case errors.As(err, &proxy):
		return proxy
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return err
	}
	return errors.New("the exchange with the server broke")
}
