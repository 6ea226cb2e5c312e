package nabla

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sony/gobreaker/v2"

	"encounterlauncher/internal/secret"
)

// When the vendor is left alone, and for how long. Ten failures are more than
// three callers can meet: fewer tell nothing of the vendor that those callers do
// not learn themselves.
const (
	failuresInARow = 10
	// A vendor of whom one call in five still works does not fail in a row.
	failuresOfMany, many = 80, 50
	failureWindow        = 30 * time.Second
	leftAlone            = 5 * time.Second
)

// The transport talks to one host. More connections than this would help nobody:
// whoever finds none free waits, within the attempt's time.
const (
	maxConnections = 256
	dialTime       = 5 * time.Second
)

var (
	errLeftAlone = errors.New("Nabla Connect failed again and again and is left alone for some seconds")
	// errFailure counts an answer as a failure; it never leaves the line.
	errFailure = errors.New("the answer is a failure")
)

// callerGone is the end of an attempt that tells nothing of the vendor.
type callerGone struct{ error }

func (c callerGone) Unwrap() error { return c.error }

// line is the way to the vendor: one transport, one circuit breaker.
type line struct {
	transport http.RoundTripper
	breaker   *gobreaker.CircuitBreaker[vendorAnswer]
}

func newLine(cfg Config) *line {
	l := &line{}
	if cfg.HTTP != nil && cfg.HTTP.Transport != nil {
		l.transport = cfg.HTTP.Transport
	} else {
		l.transport = newTransport()
	}
	l.breaker = gobreaker.NewCircuitBreaker[vendorAnswer](gobreaker.Settings{
		MaxRequests: 1, Interval: failureWindow, BucketPeriod: failureWindow / 3, Timeout: leftAlone,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= failuresInARow || (c.Requests >= many && c.TotalFailures*100 >= c.Requests*failuresOfMany)
		},
		IsExcluded: func(err error) bool { return err != nil && errors.As(err, &callerGone{}) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			switch to {
			case gobreaker.StateOpen:
				cfg.Log.Warn("Nabla Connect fails again and again and is left alone", "for", leftAlone)
			case gobreaker.StateClosed:
				cfg.Log.Info("Nabla Connect answers again")
			case gobreaker.StateHalfOpen:
			}
		},
	})
	return l
}

// Paused reports whether the vendor failed again and again and is left alone.
func (c *Client) Paused() bool { return c.line.breaker.State() == gobreaker.StateOpen }

func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}).DialContext
	t.TLSHandshakeTimeout = dialTime
	// The default of two would close and reopen connections under load.
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = 0, maxConnections, maxConnections
	// Answers are a line long: packing them costs both sides more than it saves.
	t.DisableCompression = true
	// A dead HTTP/2 connection would else take every call with it until TCP gives up.
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second}
	return t
}

// endpoint is one call of the protocol. What it holds is shared by all requests
// and never changed.
type endpoint struct {
	url     *url.URL
	version []string
	// repeatable lets the transport repeat a call by itself when the vendor had
	// closed a connection that was idle.
	repeatable bool
}

func newEndpoint(base, path, version string) (endpoint, error) {
	u, err := url.Parse(base + path)
	if err != nil {
		return endpoint{}, errors.New("the base URL of Nabla Connect is not a URL")
	}
	return endpoint{url: u, version: []string{version}, repeatable: path != tokenPath}, nil
}

var contentJSON = []string{"application/json"}

type vendorAnswer struct {
	status      int
	contentType string
	body        []byte
	// retryAfter is the header as it came.
	retryAfter string
}

// post makes one attempt, which ends at end at the latest. Its errors name no
// address: those of http.Client would.
func (l *line) post(ctx context.Context, end time.Time, to endpoint, body []byte, bearer secret.Text) (vendorAnswer, error) {
	answer, err := l.breaker.Execute(func() (vendorAnswer, error) {
		answer, err := l.attempt(ctx, end, to, body, bearer)
		switch {
		case err != nil && ctx.Err() != nil:
			err = callerGone{err}
		case err == nil && isFailure(answer.status):
			err = errFailure
		}
		return answer, err
	})
	switch {
	case err == errFailure:
		return answer, nil
	case errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests):
		return vendorAnswer{}, &leaveAlone{errLeftAlone, leftAlone}
	}
	return answer, err
}

func (l *line) attempt(ctx context.Context, end time.Time, to endpoint, body []byte, bearer secret.Text) (vendorAnswer, error) {
	if limit := time.Now().Add(attemptTime); limit.Before(end) {
		end = limit
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	header := http.Header{"Content-Type": contentJSON, "Accept": contentJSON, "X-Nabla-Api-Version": to.version}
	if !bearer.Empty() {
		header["Authorization"] = []string{bearer.Reveal()}
	}
	if to.repeatable {
		// Without a value it is not sent; see http.Transport.
		header["Idempotency-Key"] = nil
	}
	request := (&http.Request{
		Method: http.MethodPost, URL: to.url, Host: to.url.Host, Header: header,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
		Proto:   "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	// Without http.Client, which would follow redirects and quote addresses.
	response, err := l.transport.RoundTrip(request)
	if err != nil {
		return vendorAnswer{}, fmt.Errorf("calling Nabla Connect: %w", withoutAddress(err))
	}
	defer func() { _ = response.Body.Close() }()
	read, err := readAnswer(response)
	if err != nil {
		return vendorAnswer{}, err
	}
	return vendorAnswer{
		status: response.StatusCode, contentType: response.Header.Get("Content-Type"), body: read,
		retryAfter: response.Header.Get("Retry-After"),
	}, nil
}

// withoutAddress drops what names a host: the transport's *net.OpError does, and
// so do errors of DNS and of certificates. What remains is the kind of failure.
func withoutAddress(err error) error {
	var (
		outer *url.Error
		dns   *net.DNSError
		op    *net.OpError
		timed interface{ Timeout() bool }
	)
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.As(err, &dns):
		return errors.New("its name cannot be resolved")
	case errors.As(err, &op):
		// Behind a proxy there is one inside the other.
		return fmt.Errorf("%s: %w", op.Op, withoutAddress(op.Err))
	case errors.As(err, &timed) && timed.Timeout():
		return errors.New("it did not answer in time")
	case errors.As(err, &outer):
		return outer.Err
	}
	return err
}

// readAnswer reads to the end, so that the connection can serve the next call.
func readAnswer(response *http.Response) ([]byte, error) {
	if n := response.ContentLength; n >= 0 && n <= maxAnswerBytes {
		read := make([]byte, n)
		if _, err := io.ReadFull(response.Body, read); err != nil {
			return nil, errors.New("the answer of Nabla Connect was cut off")
		}
		return read, nil
	}
	read, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, errors.New("the answer of Nabla Connect was cut off")
	}
	if len(read) > maxAnswerBytes {
		return nil, errors.New("the answer of Nabla Connect is too large")
	}
	return read, nil
}

func isFailure(status int) bool { return status >= 500 && status != http.StatusNotImplemented }

// retryAfter reads both forms of RFC 9110 §10.2.3; what is neither counts as
// nothing.
func (c *Client) retryAfter(a vendorAnswer) time.Duration {
	if a.retryAfter == "" {
		return 0
	}
	const most = time.Hour
	if seconds, err := strconv.ParseUint(a.retryAfter, 10, 32); err == nil {
		return min(most, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(a.retryAfter); err == nil {
		return min(most, max(0, at.Sub(c.now())))
	}
	return 0
}

// again waits before the next attempt: as long as the vendor asks when the caller
// would still be there, else with jitter, so that many callers do not return at
// once. Where there is no further attempt it returns why this one failed.
func (c *Client) again(ctx context.Context, end time.Time, attempt int, asked time.Duration, why error) error {
	if asked > 0 {
		why = &leaveAlone{why, asked}
	}
	if attempt == maxAttempts || ctx.Err() != nil || asked > maxRetryAfter || errors.Is(why, errLeftAlone) {
		return why
	}
	d := firstWait << (attempt - 1)
	d = max(d/2+rand.N(d), asked)
	if time.Now().Add(d).After(end) || c.sleep(ctx, d) != nil {
		return why
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
