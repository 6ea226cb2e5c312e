package transport

import (
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// Credential is a name and a password for a proxy.
type Credential struct {
	User, Password secret.Text
	// Stamp tells one setting of a credential from the next, of the same one too.
	Stamp string
}

func (c Credential) equal(other Credential) bool {
	return c.User.Equal(other.User) && c.Password.Equal(other.Password) && c.Stamp == other.Stamp
}

// Credentials knows the credentials of proxies. ProxyCredential is asked for the
// name of a proxy's host, in lower case and without a port, when that proxy has
// refused a request, under the request's context. Its error is a problem, for
// example keyring_locked, and becomes the request's.
type Credentials interface {
	ProxyCredential(ctx context.Context, host string) (c Credential, found bool, err error)
}

const (
	proxyAuthorization = "Proxy-Authorization"
	proxyAuthenticate  = "Proxy-Authenticate"
)

// refusalKept is how long a credential that a proxy has refused is not sent again.
// Directories lock an account after a few wrong passwords, and a clinician's account
// must not be locked by a program that tries in the background.
const refusalKept = 30 * time.Minute

// proxyAuthError is a proxy's 407 (RFC 9110 section 15.5.8). Its text holds nothing
// of the proxy.
type proxyAuthError struct {
	// host is the proxy's, empty where it is not a proxy of ours that asks.
	host string
	// sent is what it was given and refused, as the header's value.
	sent string
	// basic says that it takes a name and a password (RFC 7617).
	basic bool
}

func (*proxyAuthError) Error() string { return "the proxy answered 407" }

func (e *proxyAuthError) problem() error {
	switch {
	case e.host != "" && !e.basic:
		return problem.With(problem.ProxyAuthNeeded, "The proxy wants a way of signing in that this program does not have.", e)
	case e.sent != "":
		return problem.With(problem.ProxyAuthNeeded, "The proxy has refused the stored name and password.", e)
	}
	return problem.New(problem.ProxyAuthNeeded, e)
}

// wantsAuth reads a 407. proxy is nil where no proxy of ours gave it.
func wantsAuth(proxy *url.URL, asked, answered http.Header) *proxyAuthError {
	e := &proxyAuthError{sent: asked.Get(proxyAuthorization)}
	if proxy == nil {
		return &proxyAuthError{}
	}
	e.host = proxyHost(proxy)
	for _, challenge := range answered.Values(proxyAuthenticate) {
		for part := range strings.SplitSeq(challenge, ",") {
			if scheme, _, _ := strings.Cut(strings.TrimSpace(part), " "); strings.EqualFold(scheme, "Basic") {
				e.basic = true
			}
		}
	}
	return e
}

func proxyHost(proxy *url.URL) string { return strings.ToLower(proxy.Hostname()) }

// proxyAnswer is http.Transport's hook after a CONNECT.
func proxyAnswer(_ context.Context, proxy *url.URL, asked *http.Request, answer *http.Response) error {
	switch answer.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusProxyAuthRequired:
		return wantsAuth(proxy, asked.Header, answer.Header)
	}
	return proxyRefusal(answer.StatusCode)
}

// purse holds the credentials of proxies that have asked for one, in memory, for as
// long as the client lives. It is safe for concurrent use.
type purse struct {
	source Credentials
	now    func() time.Time

	mu    sync.Mutex
	coins map[string]*coin // guarded by mu; by proxy host
}

// coin is what is known of one proxy's credential.
type coin struct {
	credential Credential
	// refusedUntil is set once the proxy has refused the credential, which is never sent
	// unasked then, and before that time not at all.
	refusedUntil time.Time
}

func newPurse(source Credentials) *purse {
	return &purse{source: source, now: time.Now, coins: map[string]*coin{}}
}

// connectHeader is http.Transport's hook before a CONNECT. A credential goes to the
// host for which it was stored and to no other.
func (p *purse) connectHeader(_ context.Context, proxy *url.URL, _ string) (http.Header, error) {
	if given := p.headerFor(proxy); given != "" {
		return http.Header{proxyAuthorization: {given}}, nil
	}
	return nil, nil
}

// headerFor is what to send to a proxy unasked: what it has asked for before.
func (p *purse) headerFor(proxy *url.URL) string {
	if proxy == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.coins[proxyHost(proxy)]
	if c == nil || !c.refusedUntil.IsZero() {
		return ""
	}
	return basic(c.credential)
}

func basic(c Credential) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User.Reveal()+":"+c.Password.Reveal()))
}

// fetch gets ready for a second attempt at a proxy that has refused the first. It
// fails with the refusal itself when there is nothing new to send.
func (p *purse) fetch(ctx context.Context, wants *proxyAuthError) error {
	if p.source == nil || wants.host == "" || !wants.basic {
		return wants
	}
	stored, found, err := p.source.ProxyCredential(ctx, wants.host)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !found {
		delete(p.coins, wants.host)
		return wants
	}
	if c := p.coins[wants.host]; c != nil && c.credential.equal(stored) {
		if p.now().Before(c.refusedUntil) {
			return &proxyAuthError{host: wants.host, basic: true, sent: basic(stored)}
		}
		if wants.sent == basic(stored) {
			return wants
		}
		c.refusedUntil = time.Time{}
		return nil
	}
	p.coins[wants.host] = &coin{credential: stored}
	return nil
}

// refused keeps what a proxy has refused from being sent again.
func (p *purse) refused(wants *proxyAuthError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.coins[wants.host]
	if c == nil || wants.sent != basic(c.credential) || p.now().Before(c.refusedUntil) {
		return
	}
	c.refusedUntil = p.now().Add(refusalKept)
}

// forget forgets every credential that a proxy has taken, and reports whether there was
// one. What was refused is not sent in any case, and stays so that it is not tried anew.
func (p *purse) forget() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.coins)
	maps.DeleteFunc(p.coins, func(_ string, c *coin) bool { return c.refusedUntil.IsZero() })
	return len(p.coins) < before
}
