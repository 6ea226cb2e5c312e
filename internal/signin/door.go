package signin

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"encounterlauncher/internal/problem"
)

// maxAnswerBytes bounds every answer of the provider: key sets with certificate
// chains are its largest.
const maxAnswerBytes = 256 << 10

// kind says how a call to the provider failed.
type kind int

const (
	notReached kind = iota
	answeredStatus
	answeredRedirect
	answeredTooMuch
)

// callFailure is a call that gave no answer to read. Its text holds no URL and
// nothing that the provider wrote.
type callFailure struct {
	kind   kind
	status int
	cause  error
}

func (f *callFailure) Error() string {
	switch f.kind {
	case answeredStatus:
		return fmt.Sprintf("the sign-in service answered %d", f.status)
	case answeredRedirect:
		return "the sign-in service redirected a call"
	case answeredTooMuch:
		return "the sign-in service's answer is too large"
	}
	return fmt.Sprintf("the sign-in service was not reached: %v", f.cause)
}

func (f *callFailure) Unwrap() error { return f.cause }

// door is what the libraries' calls go through. It reads each answer whole, within
// its bound, and turns whatever is not one into a callFailure or the transport's
// problem: the libraries would quote URLs and bodies in their errors.
type door struct{ base http.RoundTripper }

func newDoor(c *http.Client) *http.Client {
	base := http.DefaultTransport
	if c != nil && c.Transport != nil {
		base = c.Transport
	}
	return &http.Client{Transport: door{base}, Timeout: callTime}
}

func (d door) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Cache-Control", "no-store")
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}
	answer, err := d.base.RoundTrip(r)
	if err != nil {
		return nil, notReachedBy(r.Context(), err)
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode >= 300 && answer.StatusCode <= 399:
		return nil, &callFailure{kind: answeredRedirect}
	// What a GET answers is only ever wanted whole; errors of a POST speak OAuth.
	case r.Method == http.MethodGet && answer.StatusCode != http.StatusOK:
		return nil, &callFailure{kind: answeredStatus, status: answer.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, notReachedBy(r.Context(), err)
	}
	if len(body) > maxAnswerBytes {
		return nil, &callFailure{kind: answeredTooMuch}
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

func notReachedBy(ctx context.Context, err error) error {
	if done := ctx.Err(); done != nil {
		return &callFailure{cause: done}
	}
	var known *problem.Problem
	if errors.As(err, &known) {
		return known
	}
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return problem.New(problem.TLSUntrusted, certificate)
	}
	// An error that is not the network's may quote the answer.
	var network *net.OpError
	if errors.As(err, &network) {
		return &callFailure{cause: network}
	}
	return &callFailure{cause: errors.New("the exchange broke")}
}

// unreachable reports whether the provider, rather than what it said, is the
// trouble: the same call may succeed later.
func unreachable(err error) bool {
	var known *problem.Problem
	if errors.As(err, &known) {
		return known.Code == problem.OrgUnreachable
	}
	var refused *oauthRefusal
	if errors.As(err, &refused) {
		return refused.status >= 500 || refused.status == http.StatusTooManyRequests || refused.code == "temporarily_unavailable"
	}
	var f *callFailure
	if !errors.As(err, &f) {
		return false
	}
	return f.kind == notReached || f.kind == answeredStatus && (f.status >= 500 || f.status == http.StatusTooManyRequests)
}

// safe keeps of an error what this package or the transport made, and replaces
// the rest: the libraries quote URLs, bodies and tokens.
func safe(err error) error {
	var known *problem.Problem
	var f *callFailure
	var refused *oauthRefusal
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &f):
		return f
	case errors.As(err, &refused):
		return refused
	}
	return errors.New("the answer is not of the protocol's form")
}
