package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

const (
	// answerLimit is how long the agent may take to take a link over.
	answerLimit = 3 * time.Second
	// intentLimit is how long it may take to take up an intent: a sign-out tells
	// the issuer first.
	intentLimit = 20 * time.Second
	// silenceLimit is how long a watch may be silent before its agent counts as
	// dead: three heartbeats.
	silenceLimit = 3 * heartbeat
	// maxAnswer bounds an answer, and one line of a watch, in bytes.
	maxAnswer = 1 << 20
	// firstConnLimit is how long the connection of Dial is good for: a server
	// drops one that asks nothing for readLimit.
	firstConnLimit = time.Second
)

// Client is another process's end of the channel. Its methods may be called from
// several goroutines at once; every call has a connection of its own, and on each
// of them the agent is checked before anything is sent.
type Client struct {
	layout paths.Layout
	pid    int

	first  chan net.Conn // holds the connection of Dial until somebody uses it
	dialed time.Time
}

// Dial connects to the agent of this user (on Windows: of this logon session) and
// makes sure that the process at the other end is this user's own. It sends
// nothing and waits for nothing: without an agent it fails at once.
//
// Every error is a problem of code agent_unreachable. ErrNoAgent is in its chain
// exactly when nobody listens, so that starting an agent makes sense; it is not
// when somebody else's process holds the name.
func Dial(ctx context.Context, l paths.Layout) (*Client, error) {
	conn, pid, err := dial(ctx, l)
	if err != nil {
		return nil, problem.New(problem.AgentUnreachable, err)
	}
	c := &Client{layout: l, pid: pid, first: make(chan net.Conn, 1), dialed: time.Now()}
	c.first <- conn
	return c, nil
}

// Close drops the connection of Dial if no call used it. Calls stay possible.
func (c *Client) Close() {
	select {
	case conn := <-c.first:
		_ = conn.Close()
	default:
	}
}

// AgentPID returns the process id of the agent at the time of Dial, 0 when the
// system does not tell. The handler passes its right to the foreground on to it.
func (c *Client) AgentPID() int { return c.pid }

// Link hands one link over and waits up to 3 s for the acknowledgement. A link
// that the agent refuses is an Ack that is not Accepted and no error; an error
// means that nobody knows whether the agent has it, a problem of code
// agent_unreachable.
func (c *Client) Link(ctx context.Context, link intake.Candidate, a Activation) (Ack, error) {
	body, err := encode(linkBody{Link: link.Text().Reveal(), ActivationToken: usable(a.Token), StartupID: usable(a.StartupID)})
	if err != nil {
		return Ack{}, problem.New(problem.Internal, err)
	}
	_, text, err := c.ask(ctx, answerLimit, http.MethodPost, linkRoute, body)
	if err != nil {
		return Ack{}, err
	}
	return readAck(text)
}

// ReadAck reads the whole HTTP answer of the link's route, as a handler has taken it
// from the agent that it had asked without a Client. Errors are as of Link.
func ReadAck(answer []byte) (Ack, error) {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
	if err != nil {
		return Ack{}, unreachable(err)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Ack{}, unreachable(err)
	}
	return readAck(text)
}

func readAck(text []byte) (Ack, error) {
	var ack Ack
	if err := json.Unmarshal(text, &ack); err != nil || (!ack.Accepted && !problem.Known(string(ack.Code)) && ack.Sentence == "") {
		return Ack{}, problem.New(problem.AgentUnreachable, errors.New("the acknowledgement could not be read"))
	}
	return ack, nil
}

// Refused reports a link that this process refused by itself, so that the agent
// tells the person and writes the audit. It names code and reference, never the
// link.
func (c *Client) Refused(ctx context.Context, code problem.Code, reference string) error {
	body, err := encode(refusalBody{Code: code, Reference: reference})
	if err != nil {
		return problem.New(problem.Internal, err)
	}
	_, err = c.answer(ctx, answerLimit, http.MethodPost, refusalRoute, body)
	return err
}

// Snapshot returns the agent's newest snapshot.
func (c *Client) Snapshot(ctx context.Context) (view.Snapshot, error) {
	text, err := c.answer(ctx, answerLimit, http.MethodGet, snapshotRoute, nil)
	if err != nil {
		return view.Snapshot{}, err
	}
	var s view.Snapshot
	if err := json.Unmarshal(text, &s); err != nil {
		return view.Snapshot{}, problem.New(problem.AgentUnreachable, errors.New("the snapshot could not be read"))
	}
	return s, nil
}

// Policy returns the agent's effective policy as JSON.
func (c *Client) Policy(ctx context.Context) (json.RawMessage, error) {
	return c.answer(ctx, answerLimit, http.MethodGet, policyRoute, nil)
}

// Do asks the agent for an intent and returns when it was taken up. When the agent
// refuses, the error is the agent's own *problem.Problem, with its reference.
func (c *Client) Do(ctx context.Context, i Intent) error {
	fields, ok := allowed(i.Name)
	if !ok {
		return problem.New(problem.RequestInvalid, errors.New("there is no such intent"))
	}
	if !slices.Contains(fields, tokenField) {
		i.Activation = Activation{} // the click opens nothing here
	}
	i.Activation = Activation{Token: usable(i.Activation.Token), StartupID: usable(i.Activation.StartupID)}
	err := c.do(ctx, i)
	if i.Name == Quit && i.Finish && problem.IsCode(err, problem.RequestInvalid) {
		i.Finish = false // an older agent refuses the field
		err = c.do(ctx, i)
	}
	return err
}

func (c *Client) do(ctx context.Context, i Intent) error {
	body, err := encodeIntent(i)
	if err != nil {
		return problem.New(problem.Internal, err)
	}
	_, err = c.answer(ctx, intentLimit, http.MethodPost, intentRoutes+i.Name, body)
	return err
}

// Watch calls show with the newest snapshot, at once and after every change, and
// may skip some when show is slow. It returns nil when ctx ends, show's error when
// show fails, and a problem of code agent_unreachable when the agent ends or falls
// silent; Dial again then.
func (c *Client) Watch(ctx context.Context, show func(view.Snapshot) error) error {
	conn, err := c.connection(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(answerLimit))
	response, err := send(conn, http.MethodGet, watchRoute, nil)
	if err != nil {
		return ended(ctx, err)
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		return restore(text)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxAnswer)
	for {
		_ = conn.SetDeadline(time.Now().Add(silenceLimit))
		if !lines.Scan() {
			err := lines.Err()
			if err == nil {
				err = io.EOF
			}
			return ended(ctx, err)
		}
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var s view.Snapshot
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return problem.New(problem.AgentUnreachable, errors.New("a snapshot could not be read"))
		}
		if err := show(s); err != nil {
			return err
		}
	}
}

// ended is the outcome of a watch that can read no more.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return problem.New(problem.AgentUnreachable, fmt.Errorf("watching the agent: %w", bare(err)))
}

// answer asks and turns a refusal back into the agent's problem.
func (c *Client) answer(ctx context.Context, limit time.Duration, method, route string, body []byte) ([]byte, error) {
	status, text, err := c.ask(ctx, limit, method, route, body)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, restore(text)
	}
	return text, nil
}

func restore(text []byte) error {
	var r refusal
	if err := json.Unmarshal(text, &r); err != nil || r.Code == "" {
		return problem.New(problem.AgentUnreachable, errors.New("the refusal could not be read"))
	}
	return problem.Restore(string(r.Code), r.Reference, r.Fact)
}

// ask makes one request on one connection, without a transport and its pool.
func (c *Client) ask(ctx context.Context, limit time.Duration, method, route string, body []byte) (int, []byte, error) {
	conn, err := c.connection(ctx)
	if err != nil {
		return 0, nil, err
	}
	return exchange(ctx, conn, limit, method, route, body)
}

// exchange makes one request on a connection and closes it.
func exchange(ctx context.Context, conn net.Conn, limit time.Duration, method, route string, body []byte) (int, []byte, error) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(limit))
	response, err := send(conn, method, route, body)
	if err != nil {
		return 0, nil, unreachable(err)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, unreachable(err)
	}
	return response.StatusCode, text, nil
}

func unreachable(err error) error {
	return problem.New(problem.AgentUnreachable, fmt.Errorf("asking the agent: %w", bare(err)))
}

// connection returns the connection of Dial, or a new one that is checked like it.
func (c *Client) connection(ctx context.Context) (net.Conn, error) {
	select {
	case conn := <-c.first:
		if time.Since(c.dialed) < firstConnLimit {
			return conn, nil
		}
		_ = conn.Close()
	default:
	}
	conn, _, err := dial(ctx, c.layout)
	if err != nil {
		return nil, problem.New(problem.AgentUnreachable, err)
	}
	return conn, nil
}

// send writes one request and reads the head of its answer. The body is not to be
// closed, which would read it to its end: closing the connection ends it.
func send(conn net.Conn, method, route string, body []byte) (*http.Response, error) {
	request := &http.Request{
		Method: method,
		URL:    &url.URL{Scheme: "http", Host: host, Path: route},
		Host:   host,
		Header: http.Header{"User-Agent": {""}},
		Close:  true,
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
		request.Body = io.NopCloser(bytes.NewReader(body))
		request.ContentLength = int64(len(body))
	}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), request)
}
