package delivery

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/secret"
)

// The headers of a call to the webhook. The signature is made as Nabla makes its
// own: the hexadecimal HMAC-SHA256 of timestamp and body, one after the other. The
// request_uuid is that of the body: who has seen it answers 200 and does nothing.
const (
	HeaderTimestamp   = "X-Encounter-Launcher-Timestamp"
	HeaderSignature   = "X-Encounter-Launcher-Signature"
	HeaderRequestUUID = "X-Encounter-Launcher-Request-Uuid"
)

const maxAnswerBytes = 64 << 10

// webhook posts a callback's own body to an endpoint of the EHR's.
type webhook struct {
	url    string
	key    secret.Text
	client *http.Client
	now    func() time.Time
}

func (w *webhook) Name() string { return "webhook" }

// Deliver reads the answer's status: 2xx took it. What says that this very note is
// wrong (400, 409, 413, 415, 422) is a refusal. Everything else may be repaired at
// the other end or in the configuration without anybody touching the note, a wrong
// secret (401) or path (404) too, and is tried again.
func (w *webhook) Deliver(ctx context.Context, n Note) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(n.Raw))
	if err != nil {
		return &Failure{Code: CodeFailed}
	}
	timestamp := w.now().UTC().Format(time.RFC3339)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "org-backend")
	r.Header.Set(HeaderTimestamp, timestamp)
	r.Header.Set(HeaderSignature, nabla.Sign(w.key, timestamp, n.Raw))
	r.Header.Set(HeaderRequestUUID, n.RequestUUID)
	response, err := w.client.Do(r)
	if err != nil {
		return &Failure{Code: unreachable(err)}
	}
	defer func() { _ = response.Body.Close() }()
	// A connection is used again only when its answer was read.
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswerBytes))
	return statusFailure(response.StatusCode, response.Header.Get("Retry-After"))
}

func statusFailure(status int, retryAfter string) error {
	if status >= 200 && status < 300 {
		return nil
	}
	f := &Failure{Code: "status_" + strconv.Itoa(status)}
	switch status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		f.Refused = true
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if seconds, err := strconv.Atoi(retryAfter); err == nil && seconds > 0 && seconds < 1<<20 {
			f.After = time.Duration(seconds) * time.Second
		}
	}
	return f
}

func unreachable(err error) string {
	var timeout net.Error
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid):
		return CodeUntrusted
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return CodeTimeout
	}
	return CodeUnreachable
}
