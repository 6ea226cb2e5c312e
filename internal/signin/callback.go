package signin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"encounterlauncher/internal/problem"
)

const (
	// callbackPath and donePath are all there is on the port.
	callbackPath = "/callback"
	donePath     = "/done"

	maxHeaderBytes = 16 << 10
	maxCodeBytes   = 8 << 10
	// mostConnections is how many connections that brought no answer yet may be open. A
	// browser needs two or three, and sends at once what it has to say.
	mostConnections = 64
	// linger is how long the last page may be fetched after the sign-in has ended.
	linger = 5 * time.Second
)

// listen binds the first free one of the ports on 127.0.0.1 (RFC 8252 §7.3 and
// §8.3: the address, not the name localhost), or any free one.
func listen(ctx context.Context, ports []int) (net.Listener, error) {
	if len(ports) == 0 {
		ports = []int{0}
	}
	config := net.ListenConfig{Control: exclusive}
	for _, port := range ports {
		if port < 0 || port > 65535 {
			continue
		}
		if l, err := config.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("none of %d ports is free", len(ports))
}

// authorizationAnswer is the provider's answer in a request whose state matched:
// a code, or an error code.
type authorizationAnswer struct{ code, failure, issuer string }

// parseCallback reads a request on the port. Only one that is exactly
// GET /callback, for this very host and port, with the state of this sign-in and
// one code or one error, is an answer; for any other it returns the status with
// which to turn it away.
func parseCallback(r *http.Request, host, state string) (authorizationAnswer, int) {
	none := authorizationAnswer{}
	// A name other than the address is a page that had its name point here (DNS
	// rebinding).
	if r.Host != host {
		return none, http.StatusBadRequest
	}
	if r.Method != http.MethodGet || r.URL.Path != callbackPath || r.URL.RawPath != "" || r.URL.Host != "" {
		return none, http.StatusNotFound
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return none, http.StatusBadRequest
	}
	// RFC 6749 §3.1: a parameter stands once or not at all.
	for _, name := range []string{"state", "code", "error", "iss"} {
		if len(query[name]) > 1 {
			return none, http.StatusBadRequest
		}
	}
	a := authorizationAnswer{code: query.Get("code"), failure: query.Get("error"), issuer: query.Get("iss")}
	switch {
	case !same(query.Get("state"), state):
		return none, http.StatusBadRequest
	case (a.code == "") == (a.failure == ""):
		return none, http.StatusBadRequest
	case len(a.code) > maxCodeBytes || len(a.failure) > 128 || len(a.issuer) > 2048:
		return none, http.StatusBadRequest
	case !plainOrSpaced(a.code) || !plainOrSpaced(a.failure) || !plainOrSpaced(a.issuer):
		return none, http.StatusBadRequest
	}
	return a, http.StatusOK
}

// callbackServer is the port of one sign-in.
type callbackServer struct {
	host, state string
	answers     chan authorizationAnswer
	server      *http.Server
	log         *slog.Logger
	words       Words

	once     sync.Once
	finished chan struct{} // closed when the outcome is known
	outcome  *problem.Problem
	seen     chan struct{} // closed when the browser has the last page
	seenOnce sync.Once
	ended    chan struct{} // closed when nothing serves any more

	answered atomic.Bool
	stray    sync.Once

	mu   sync.Mutex
	open []net.Conn // guarded by mu; the connections that brought no answer yet, oldest first
}

// connKey is under which the context of a request has its connection.
type connKey struct{}

func serveCallback(l net.Listener, state string, words Words, logger *slog.Logger) *callbackServer {
	s := &callbackServer{
		host: l.Addr().String(), state: state, words: words, log: logger,
		answers: make(chan authorizationAnswer, 1), finished: make(chan struct{}), seen: make(chan struct{}), ended: make(chan struct{}),
	}
	s.server = &http.Server{
		Handler: s, DisableGeneralOptionsHandler: true, MaxHeaderBytes: maxHeaderBytes,
		// No ReadTimeout: it would run out while the callback waits for the exchange,
		// and the server would take that for a browser that has gone.
		ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 3 * callTime,
		ErrorLog:    log.New(io.Discard, "", 0), // it would quote requests
		ConnState:   s.connection,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	s.server.SetKeepAlivesEnabled(false)
	go func() {
		defer close(s.ended)
		_ = s.server.Serve(l)
	}()
	return s
}

// connection keeps the number of connections bounded: everybody on this computer may
// open them. The oldest has to go, since the browser's own is always a young one.
func (s *callbackServer) connection(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.open) == mostConnections {
			_ = s.open[0].Close()
			s.open = slices.Delete(s.open, 0, 1)
		}
		s.open = append(s.open, c)
	case http.StateClosed, http.StateHijacked:
		s.forget(c)
	}
}

// forget leaves a connection out of the count.
func (s *callbackServer) forget(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(other net.Conn) bool { return other == c })
}

// ServeHTTP answers everything that reaches the port.
func (s *callbackServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.URL.Path == donePath && r.Method == http.MethodGet && r.Host == s.host && s.over() {
		s.page(w)
		return
	}
	answer, status := parseCallback(r, s.host, s.state)
	if status != http.StatusOK {
		s.turnAway(w, status)
		return
	}
	if ofAnotherUser(r.RemoteAddr, s.host) {
		s.turnAway(w, http.StatusForbidden)
		return
	}
	// Who knows the state waits for the outcome, whoever comes meanwhile.
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		s.forget(c)
	}
	// Only the first counts; a reload of the page waits for the same outcome.
	if s.answered.CompareAndSwap(false, true) {
		s.answers <- answer
	}
	select {
	case <-s.finished:
	case <-r.Context().Done():
		return
	}
	// The redirect takes code and state out of the browser's history.
	http.Redirect(w, r, donePath, http.StatusSeeOther)
}

func (s *callbackServer) turnAway(w http.ResponseWriter, status int) {
	// One line for however many: others may send as fast as they like.
	s.stray.Do(func() { s.log.Debug("a request on the sign-in port was not the answer", "status", status) })
	http.Error(w, http.StatusText(status), status)
}

func (s *callbackServer) over() bool {
	select {
	case <-s.finished:
		return true
	default:
		return false
	}
}

// finish tells the browser how the sign-in ended, and lets the port go when the
// browser has been told, at the latest after linger. It does not wait for that.
func (s *callbackServer) finish(outcome *problem.Problem) {
	s.once.Do(func() {
		s.outcome = outcome
		close(s.finished)
	})
	go func() {
		timer := time.NewTimer(linger)
		defer timer.Stop()
		select {
		case <-s.seen:
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = s.server.Shutdown(ctx)
		case <-timer.C:
		case <-s.ended:
		}
		s.close()
	}()
}

// close lets the port go at once.
func (s *callbackServer) close() {
	_ = s.server.Close()
	<-s.ended
}

// The colours are those of the window, at 4.5:1 at least on what they stand on.
// The mark differs in shape and not only in colour.
const style = `:root{color-scheme:light dark;--page:#f3f5f8;--card:#fff;--ink:#1c2430;--soft:#4d5868;--line:#d5dbe3;--mark:#0b6b4f}` +
	`.problem{--mark:#a8480a}` +
	`@media(prefers-color-scheme:dark){:root{--page:#12161c;--card:#1b2129;--ink:#eef2f6;--soft:#b3bdca;--line:#39434f;--mark:#5fd3a6}.problem{--mark:#ffb27a}}` +
	`body{font:1.125rem/1.5 system-ui,sans-serif;margin:0;padding:1rem;box-sizing:border-box;min-height:100vh;display:grid;place-items:center;background:var(--page);color:var(--ink)}` +
	`main{box-sizing:border-box;width:100%;max-width:34rem;padding:2rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem;overflow-wrap:anywhere}` +
	`.product{margin:0 0 1.25rem;font-size:1rem;color:var(--soft)}svg{display:block;width:3rem;height:3rem;margin:0 0 .75rem;color:var(--mark);forced-color-adjust:auto}` +
	`h1{font-size:1.5rem;line-height:1.25;margin:0 0 .5rem}p{margin:.5rem 0}dl{margin:1.25rem 0 0;padding:.75rem 1rem;border:1px solid var(--line);border-radius:.5rem}` +
	`dt{font-size:1rem;color:var(--soft)}dd{margin:0;font:600 1.25rem/1.5 ui-monospace,monospace;letter-spacing:.05em}`

// The pictures say nothing that the words do not.
const (
	tick    = `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><circle cx="12" cy="12" r="10"/><path d="m7.5 12.5 3 3 6-7"/></svg>`
	warning = `<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><path d="M12 3 1.8 21h20.4z"/><path d="M12 10v5M12 18v.01"/></svg>`
)

// page shows how the sign-in ended. It holds nothing but words of the program and
// the problem's reference, runs no script and loads nothing.
func (s *callbackServer) page(w http.ResponseWriter) {
	words := s.words
	paragraph := func(text string) string {
		if text == "" {
			return ""
		}
		return "<p>" + html.EscapeString(text) + "</p>\n"
	}
	kind, picture, title, text := "done", tick, words.SignedIn, paragraph(words.SignedInNext)+paragraph(words.Close)
	if p := s.outcome; p != nil {
		kind, picture, title = "problem", warning, words.Sentence(p.Code)
		text = paragraph(words.Fact(p.Fact)) + paragraph(words.NextStep(p.Code)) + paragraph(words.Close) +
			"<dl><dt>" + html.EscapeString(words.Reference) + "</dt><dd>" + html.EscapeString(p.Reference) + "</dd></dl>\n"
	}
	sum := sha256.Sum256([]byte(style))
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, err := io.WriteString(w, `<!doctype html>
<html lang="`+html.EscapeString(words.Language)+`"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>`+html.EscapeString(title)+` – `+html.EscapeString(words.Product)+`</title><style>`+style+`</style></head>
<body><main class="`+kind+`"><p class="product">`+html.EscapeString(words.Product)+`</p>
`+picture+`<h1>`+html.EscapeString(title)+`</h1>
`+text+`</main></body></html>
`)
	if err == nil {
		s.seenOnce.Do(func() { close(s.seen) })
	}
}
