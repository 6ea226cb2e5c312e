package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

const (
	// readLimit is how long a peer may take for its whole request.
	readLimit = 5 * time.Second
	// writeLimit is how long a peer may leave an answer, or a line of a watch,
	// unread before it counts as dead.
	writeLimit = 10 * time.Second
	// heartbeat is how often a watch says that it lives.
	heartbeat = 15 * time.Second
	// endLimit is how long running requests may take once the server ends.
	endLimit = 2 * time.Second
	// maxHeader bounds the header of a request in bytes.
	maxHeader = 4 << 10
)

// peer is who is at the other end, as the operating system says.
type peer struct {
	// own says that it is a process of this user. Where that is false, the name's
	// access list let in the system's own account, which may only ask to quit.
	own bool
	// pid is the process id, 0 when unknown.
	pid int
}

type peerKey struct{}

// Server is the agent's end of the channel. Having one means being the agent: the
// lock is held until Serve ends or Close returns.
type Server struct {
	listener net.Listener
	release  func()

	closing     chan struct{}
	closingOnce sync.Once
	releaseOnce sync.Once
	released    chan struct{}

	mu      sync.Mutex // guards serving
	serving bool

	heartbeat, writeLimit, readLimit time.Duration
	// clientOf asks the system who is at the other end of a connection.
	clientOf func(net.Conn) (peer, error)
}

// Listen becomes the agent of this user (on Windows: of this logon session): it
// takes the lock, removes the socket that a crashed agent left, and binds the
// name. It returns ErrOwned when another process is the agent, and a problem of
// code agent_unreachable for everything else. It waits for nobody.
func Listen(l paths.Layout) (*Server, error) {
	listener, release, err := bind(l)
	if errors.Is(err, ErrOwned) {
		return nil, ErrOwned
	}
	if err != nil {
		return nil, problem.New(problem.AgentUnreachable, err)
	}
	return &Server{
		listener: listener, release: release,
		closing: make(chan struct{}), released: make(chan struct{}),
		heartbeat: heartbeat, writeLimit: writeLimit, readLimit: readLimit, clientOf: clientOf,
	}, nil
}

// Serve answers until ctx ends or Close is called. It then takes no more
// requests, ends every watch, gives running requests 2 s, and gives the role up:
// when it has returned, this process may replace itself by a newer version of its
// own file. It may be called once. Ending as told is no error.
func (s *Server) Serve(ctx context.Context, h Handler) error {
	s.mu.Lock()
	if s.serving {
		s.mu.Unlock()
		return problem.New(problem.Internal, errors.New("the control channel is served already"))
	}
	s.serving = true
	s.mu.Unlock()
	defer s.giveUp()

	server := &http.Server{
		Handler:                      &routes{handler: h, server: s},
		ReadTimeout:                  s.readLimit,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if c, ok := c.(checkedConn); ok {
				return context.WithValue(ctx, peerKey{}, c.peer)
			}
			return ctx
		},
	}
	// One request for one connection: nothing of a client stays in the agent.
	server.SetKeepAlivesEnabled(false)

	ended := make(chan error, 1)
	go func() { ended <- server.Serve(checkedListener{s.listener, s.clientOf}) }()

	var failure error
	select {
	case <-ctx.Done():
	case <-s.closing:
	case failure = <-ended:
	}
	s.close()
	// The parent has often ended already, and the last answers still go out.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
	defer cancel()
	if server.Shutdown(last) != nil {
		_ = server.Close()
	}
	if failure != nil && !errors.Is(failure, http.ErrServerClosed) {
		return problem.New(problem.AgentUnreachable, fmt.Errorf("serving the control channel: %w", bare(failure)))
	}
	return nil
}

// Close ends Serve, waits for it, and gives the role up. It may be called more
// than once and from any goroutine but one that answers a request.
func (s *Server) Close() {
	s.close()
	s.mu.Lock()
	serving := s.serving
	s.serving = true
	s.mu.Unlock()
	if !serving {
		s.giveUp()
	}
	<-s.released
}

func (s *Server) close() { s.closingOnce.Do(func() { close(s.closing) }) }

func (s *Server) giveUp() {
	s.releaseOnce.Do(func() {
		_ = s.listener.Close()
		s.release()
		close(s.released)
	})
}

// checkedListener hands out only connections whose other end the operating system
// vouches for. Nothing is read from any other.
type checkedListener struct {
	net.Listener
	clientOf func(net.Conn) (peer, error)
}

// checkedConn is a connection with its peer.
type checkedConn struct {
	net.Conn
	peer peer
}

func (l checkedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := l.clientOf(c)
		if err != nil {
			_ = c.Close()
			continue
		}
		return checkedConn{c, p}, nil
	}
}

// routes answers requests.
type routes struct {
	handler Handler
	server  *Server
}

func (s *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refuse := s.refuse
	if r.RequestURI == linkRoute {
		refuse = s.refuseLink
	}
	if r.Host != host || len(r.Header["Origin"]) > 0 {
		refuse(w, http.StatusBadRequest, problem.New(problem.RequestInvalid, errors.New("the request was not made by this program")))
		return
	}
	if p, _ := r.Context().Value(peerKey{}).(peer); !p.own && r.RequestURI != intentRoutes+Quit {
		refuse(w, http.StatusForbidden, problem.With(problem.RequestInvalid, "Only quitting is open to the system's account.", nil))
		return
	}
	method, answer := s.route(r.RequestURI)
	if answer == nil {
		refuse(w, http.StatusNotFound, problem.New(problem.RequestInvalid, errors.New("there is no such route")))
		return
	}
	if r.Method != method {
		w.Header().Set("Allow", method)
		refuse(w, http.StatusBadRequest, problem.New(problem.RequestInvalid, errors.New("the route has another method")))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, problem.New(problem.RequestTooLarge, nil))
		return
	}
	if err != nil || (method == http.MethodGet && len(body) > 0) {
		refuse(w, http.StatusBadRequest, problem.New(problem.RequestInvalid, errors.New("the body could not be read")))
		return
	}
	// The limit was for the request. Left in place it would end, as if the peer had
	// gone, whatever takes longer than a request may.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	answer(w, r, body)
}

type answer func(w http.ResponseWriter, r *http.Request, body []byte)

// route compares the request's target as it was sent, so that no query, no
// absolute form and no other spelling of a path is a route.
func (s *routes) route(target string) (string, answer) {
	switch target {
	case linkRoute:
		return http.MethodPost, s.link
	case refusalRoute:
		return http.MethodPost, s.refused
	case snapshotRoute:
		return http.MethodGet, s.snapshot
	case watchRoute:
		return http.MethodGet, s.watch
	case policyRoute:
		return http.MethodGet, s.policy
	}
	if name, ok := strings.CutPrefix(target, intentRoutes); ok {
		if _, ok := allowed(name); ok {
			return http.MethodPost, s.intent
		}
	}
	return "", nil
}

func (s *routes) link(w http.ResponseWriter, r *http.Request, body []byte) {
	text, activation, err := decodeLink(body)
	if err != nil {
		s.refuseLink(w, http.StatusBadRequest, problem.New(problem.RequestInvalid, err))
		return
	}
	candidate, err := intake.FromText(text)
	if err != nil {
		s.refuseLink(w, http.StatusOK, problem.Of(err))
		return
	}
	id, err := s.handler.Link(r.Context(), candidate, activation)
	if err != nil {
		s.refuseLink(w, http.StatusOK, problem.Of(err))
		return
	}
	s.write(w, http.StatusOK, Ack{Accepted: true, ID: id})
}

func (s *routes) refused(w http.ResponseWriter, r *http.Request, body []byte) {
	code, reference, err := decodeRefusal(body)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, problem.New(problem.RequestInvalid, err))
		return
	}
	s.handler.Refused(r.Context(), code, reference)
	s.write(w, http.StatusOK, struct{}{})
}

func (s *routes) snapshot(w http.ResponseWriter, _ *http.Request, _ []byte) {
	s.write(w, http.StatusOK, s.handler.Snapshot())
}

func (s *routes) policy(w http.ResponseWriter, r *http.Request, _ []byte) {
	text, err := s.handler.Policy(r.Context())
	if err != nil {
		p := problem.Of(err)
		s.refuse(w, p.Row().Status, p)
		return
	}
	s.send(w, http.StatusOK, text)
}

func (s *routes) intent(w http.ResponseWriter, r *http.Request, body []byte) {
	i, err := decodeIntent(strings.TrimPrefix(r.RequestURI, intentRoutes), body)
	if err != nil {
		s.refuse(w, http.StatusBadRequest, problem.New(problem.RequestInvalid, err))
		return
	}
	if err := s.handler.Do(r.Context(), i); err != nil {
		p := problem.Of(err)
		s.refuse(w, p.Row().Status, p)
		return
	}
	s.write(w, http.StatusOK, struct{}{})
}

// watch sends the newest snapshot as one line of JSON whenever there is a newer
// one than the peer has read, and an empty line now and then.
func (s *routes) watch(w http.ResponseWriter, r *http.Request, _ []byte) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	newest := make(chan view.Snapshot, 1)
	over := make(chan struct{})
	go keepNewest(ctx, s.handler.Watch(ctx), newest, over)

	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	beat := time.NewTicker(s.server.heartbeat)
	defer beat.Stop()
	for {
		var line []byte
		select {
		case <-ctx.Done():
			return
		case <-s.server.closing:
			return
		case <-over:
			return
		case snapshot := <-newest:
			text, err := encode(snapshot)
			if err != nil {
				return
			}
			line = text
		case <-beat.C:
		}
		_ = control.SetWriteDeadline(time.Now().Add(s.server.writeLimit))
		if _, err := w.Write(append(line, '\n')); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
	}
}

// keepNewest moves snapshots on so that a waiting one is replaced by a newer: the
// agent never waits for a slow peer, and the peer never reads what is past.
func keepNewest(ctx context.Context, from <-chan view.Snapshot, newest chan view.Snapshot, over chan<- struct{}) {
	defer close(over)
	for {
		select {
		case <-ctx.Done():
			return
		case snapshot, ok := <-from:
			if !ok {
				return
			}
			select {
			case <-newest:
			default:
			}
			newest <- snapshot
		}
	}
}

func (s *routes) refuseLink(w http.ResponseWriter, status int, p *problem.Problem) {
	shown := s.handler.Describe(p)
	s.write(w, status, Ack{Code: p.Code, Sentence: shown.Sentence, NextStep: shown.NextStep, Reference: p.Reference})
}

func (s *routes) refuse(w http.ResponseWriter, status int, p *problem.Problem) {
	shown := s.handler.Describe(p)
	s.write(w, status, refusal{Code: p.Code, Reference: p.Reference, Sentence: shown.Sentence, NextStep: shown.NextStep, Fact: p.Fact})
}

func (s *routes) write(w http.ResponseWriter, status int, v any) {
	text, err := encode(v)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"code":"internal"}`)
	}
	s.send(w, status, text)
}

func (s *routes) send(w http.ResponseWriter, status int, text []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.server.writeLimit))
	w.Header().Set("Content-Type", "application/json")
	w.Header()["Date"] = nil // the peer has the same clock
	w.WriteHeader(status)
	_, _ = w.Write(text)
}
