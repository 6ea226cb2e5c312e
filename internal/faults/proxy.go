//go:build linux

package faults

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Kind is what a Proxy does to one call.
type Kind string

// The kinds. Those of the first group keep the call from being carried out; those of
// the second let it be carried out and spoil what comes back.
const (
	Refused Kind = "cut"    // the connection is reset before anything was carried out
	Busy    Kind = "429"    // too many requests, with Retry-After: 1
	Broken  Kind = "500"    // internal server error, without a body
	Away    Kind = "503"    // service unavailable, with a page
	HTML    Kind = "html"   // 200 with a page, as a proxy in between sends
	Big     Kind = "2 MB"   // 200 with 2 MB of JSON
	Delayed Kind = "delay"  // carried out later
	Stalled Kind = "stall"  // carried out far too late for who asks
	Twice   Kind = "double" // carried out twice; the second answer is passed on

	Lost      Kind = "lost answer"     // the connection is reset after the call was carried out
	CutAnswer Kind = "cut answer"      // half of the answer, then the connection is reset
	Truncated Kind = "truncated"       // half of the answer, and the connection ends as if that were all
	WrongType Kind = "wrong type"      // the answer says that it is text/html
	Late      Kind = "delayed answer"  // carried out at once, answered later
	Silent    Kind = "stalled answer"  // carried out at once, answered far too late for who asks
	Renamed   Kind = "mutant: renamed" // carried out twice, once with another encounter; for the check of the check
)

// carriedOut reports whether the call was carried out and its answer did not come as
// it was given.
func (k Kind) carriedOut() bool {
	switch k {
	case Lost, CutAnswer, Truncated, WrongType, Silent, Stalled, Twice:
		return true
	default:
		return false
	}
}

// Exchange is one call that went through a Proxy.
type Exchange struct {
	Method, Path string
	Header       http.Header
	Body         []byte
	// Fault is what was done to it, empty for nothing.
	Fault Kind
	// Carried is how often it was carried out. Status and Answer are those of the last
	// time, as they were given and not as they were passed on.
	Carried int
	Status  int
	Reply   http.Header
	Answer  []byte
	Began   time.Time
	// Connected is when the connection was accepted.
	Connected time.Time
	// Delivered says that the answer was passed on whole.
	Delivered bool
}

const (
	// mostBody bounds what a proxy keeps of a request or an answer.
	mostBody = 4 << 20
	bigBytes = 2 << 20
)

// Proxy stands between two programs and does to a call what it is told. It understands
// HTTP, not what is said in it, and keeps nothing.
type Proxy struct {
	// Target is where calls go.
	Target *url.URL
	// Choose says what happens to a call. The body may be looked at.
	Choose func(e *Exchange) (kind Kind, delay time.Duration)
	// Seen is told of a call before its answer is passed on, and Done after it.
	Seen, Done func(e *Exchange)
	// Client carries calls out.
	Client *http.Client
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		stream := &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(p.Target); r.Out.Host = r.In.Host },
			Transport: p.Client.Transport, FlushInterval: -1, ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		}
		stream.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, mostBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	e := &Exchange{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(), Body: body, Began: time.Now()}
	e.Connected, _ = r.Context().Value(connected{}).(time.Time)
	if p.Done != nil {
		defer p.Done(e)
	}
	kind, delay := p.Choose(e)
	e.Fault = kind
	switch kind {
	case Refused:
		reset(w)
	case Busy:
		w.Header().Set("Retry-After", "1")
		p.instead(w, e, http.StatusTooManyRequests, "application/json", `{"error":"busy"}`)
		return
	case Broken:
		p.instead(w, e, http.StatusInternalServerError, "text/plain", "")
		return
	case Away:
		p.instead(w, e, http.StatusServiceUnavailable, "text/html", "<!DOCTYPE html><title>503</title>")
		return
	case HTML:
		p.instead(w, e, http.StatusOK, "text/html; charset=utf-8", "<!DOCTYPE html><title>Please sign in to the network</title><p>A proxy in between has answered.")
		return
	case Big:
		p.instead(w, e, http.StatusOK, "application/json", `{"padding":"`+strings.Repeat("x", bigBytes)+`"}`)
		return
	case Delayed, Stalled:
		sleep(r.Context(), delay)
	}
	// What was begun is carried out to its end, also when who asked has left: that is
	// what a lost answer is.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 30*time.Second)
	defer cancel()
	if kind == Renamed {
		other := bytes.ReplaceAll(body, []byte(`"external_encounter_id":"`), []byte(`"external_encounter_id":"X-`))
		_ = p.carry(ctx, r, &Exchange{Body: other, Header: e.Header})
	}
	if kind == Twice {
		_ = p.carry(ctx, r, e)
	}
	if err := p.carry(ctx, r, e); err != nil {
		reset(w)
	}
	if p.Seen != nil {
		p.Seen(e)
	}
	switch kind {
	case Lost:
		reset(w)
	case Late, Silent:
		sleep(r.Context(), delay)
	}
	for name, values := range e.Reply {
		w.Header()[name] = values
	}
	if kind == WrongType {
		w.Header().Set("Content-Type", "text/html")
	}
	half := e.Answer[:len(e.Answer)/2]
	switch kind {
	case CutAnswer:
		w.Header().Set("Content-Length", strconv.Itoa(len(e.Answer)))
		w.WriteHeader(e.Status)
		_, _ = w.Write(half)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case Truncated:
		w.Header().Set("Content-Length", strconv.Itoa(len(half)))
		w.WriteHeader(e.Status)
		_, _ = w.Write(half)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(e.Answer)))
	w.WriteHeader(e.Status)
	_, err = w.Write(e.Answer)
	e.Delivered = err == nil && r.Context().Err() == nil && (kind == "" || kind == Delayed || kind == Late)
}

// connected is the key of the moment at which a connection was accepted.
type connected struct{}

// noteConnected is ConnContext of a server with a Proxy.
func noteConnected(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connected{}, time.Now())
}

// instead answers without carrying out.
func (p *Proxy) instead(w http.ResponseWriter, e *Exchange, status int, kind, text string) {
	if p.Seen != nil {
		p.Seen(e)
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// hopByHop are the headers of one connection (RFC 9110 section 7.6.1).
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length"}

func (p *Proxy) carry(ctx context.Context, r *http.Request, e *Exchange) error {
	to := *r.URL
	to.Scheme, to.Host = p.Target.Scheme, p.Target.Host
	out, err := http.NewRequestWithContext(ctx, r.Method, to.String(), bytes.NewReader(e.Body))
	if err != nil {
		return err
	}
	out.Header, out.Host = e.Header.Clone(), r.Host
	for _, name := range hopByHop {
		out.Header.Del(name)
	}
	// An answer is passed on as it is, compressed or not.
	if out.Header.Get("Accept-Encoding") == "" {
		out.Header.Set("Accept-Encoding", "identity")
	}
	response, err := p.Client.Do(out)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, mostBody))
	if err != nil {
		return err
	}
	e.Carried++
	e.Status, e.Answer, e.Reply = response.StatusCode, answer, response.Header
	for _, name := range hopByHop {
		e.Reply.Del(name)
	}
	return nil
}

// reset ends the connection as a crashed server or a firewall does (RST), or, where
// the connection cannot be had, without an answer.
func reset(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		} else if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
			if tcp, ok := wrapped.NetConn().(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
				_ = tcp.Close()
			}
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
