package doctor

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/transport"
)

const (
	pathOfMe        = orgapi.PathMe
	pathOfDiscovery = "/.well-known/openid-configuration" // OpenID Connect Discovery §4
)

// exchangeTime bounds one exchange. Together with proxyTime, which runs beside it, it
// stays below checkTime.
const exchangeTime = 6 * time.Second

// mostDiscovery bounds a discovery document and a set of keys.
const mostDiscovery = 256 << 10

// place is a server that policy names. It is met once in a run, by whichever check
// asks first.
type place struct {
	url        *url.URL
	first      string // the address of the first exchange
	encounters bool   // encounters open there; this program itself never talks to it
	meet       func(ctx context.Context) met
	proxy      func(ctx context.Context) (transport.Proxy, error)
}

// met is how a server was met: an answer, or why there is none.
type met struct {
	status int
	header http.Header
	body   []byte
	tls    *tls.ConnectionState
	at     time.Time // by our clock, in the middle of the exchange
	err    error
}

// placeOf returns nil where policy names no usable address; the check of the policy
// says why.
func (w *world) placeOf(address, path string) *place {
	u, err := url.Parse(address)
	if err != nil || address == "" || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil
	}
	p := &place{url: u, first: strings.TrimSuffix(address, "/") + path}
	p.meet = once(exchangeTime, func(ctx context.Context) met {
		if p.encounters {
			// This program has no business there: only whether it answers is looked at.
			return w.exchange(ctx, http.MethodHead, p.first, "")
		}
		return w.exchange(ctx, http.MethodGet, p.first, "")
	})
	type answer struct {
		proxy transport.Proxy
		err   error
	}
	look := once(proxyTime, func(ctx context.Context) answer {
		proxy, err := within(ctx, func() (transport.Proxy, error) { return w.Proxy(ctx, u.Host) })
		return answer{proxy, err}
	})
	p.proxy = func(ctx context.Context) (transport.Proxy, error) { a := look(ctx); return a.proxy, a.err }
	return p
}

// host is the server as people know it: without the port that everybody uses.
func (p *place) host() string {
	if port := p.url.Port(); port != "" && port != "443" {
		return net.JoinHostPort(p.url.Hostname(), port)
	}
	return p.url.Hostname()
}

// secure reports whether it is talked to over TLS; only a demo's is not.
func (p *place) secure() bool { return p.url.Scheme == "https" }

// once calls f in the background with a time of its own and gives everybody who asks
// the same answer; who asks waits no longer than f may take.
func once[T any](most time.Duration, f func(context.Context) T) func(context.Context) T {
	var begin sync.Once
	done := make(chan struct{})
	var answer T
	return func(ctx context.Context) T {
		begin.Do(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
			go func() {
				defer close(done)
				defer cancel()
				answer = f(ctx)
			}()
		})
		<-done
		return answer
	}
}

// within calls f, which knows no context, and waits for it at most until ctx ends.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		defer func() {
			if recover() != nil {
				answered <- answer{err: errors.New("it broke off")}
			}
		}()
		value, err := f()
		answered <- answer{value, err}
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// exchange asks once, without a token, and follows no redirection.
func (w *world) exchange(ctx context.Context, method, address, body string) met {
	if w.unconnected() {
		return met{err: w.HTTPProblem}
	}
	var payload io.Reader
	if body != "" {
		payload = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, address, payload)
	if err != nil {
		return met{err: errors.New("the address cannot be asked")}
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Accept", "application/json, "+orgapi.ProblemContentType)
	r.Header.Set("Cache-Control", "no-store")
	r.Header.Set("User-Agent", w.Layout.Name+"/"+w.Version+" doctor")
	r.Header.Set(orgapi.HeaderRequestID, newID())
	r.Header.Set(orgapi.HeaderIdempotencyKey, newID())
	begun := w.Now()
	answer, err := w.HTTP.Transport.RoundTrip(r)
	ended := w.Now()
	m := met{err: err, at: begun.Add(ended.Sub(begun) / 2)}
	if err != nil {
		return m
	}
	defer answer.Body.Close()
	m.status, m.header, m.tls = answer.StatusCode, answer.Header, answer.TLS
	// What breaks off in the body is an answer that is not of its form.
	m.body, _ = io.ReadAll(io.LimitReader(answer.Body, mostDiscovery))
	return m
}

// unmet reports whether the server was not reached at all: neither an answer, nor one
// that could not be trusted.
func (m met) unmet() bool { return m.err != nil && !problem.IsCode(m.err, problem.TLSUntrusted) }

// newID is a request's id of its own: 16 random bytes in hexadecimal.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
	return hex.EncodeToString(b[:])
}
