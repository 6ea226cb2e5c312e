package nabla

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/problem"
)

// answering is a vendor that answers every call alike, and its token endpoint with
// another answer.
type answering struct {
	status, tokenStatus     int
	contentType, retryAfter string
	body, token             []byte
	calls, tokens           int
	bearers                 []string
}

func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := a.status, a.body
	if strings.HasSuffix(r.URL.Path, tokenPath) {
		a.tokens++
		status, body = a.tokenStatus, a.token
	} else {
		a.calls++
		a.bearers = append(a.bearers, r.Header.Get("Authorization"))
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: -1, Body: io.NopCloser(bytes.NewReader(body)),
		Header: http.Header{"Content-Type": {a.contentType}, "Retry-After": {a.retryAfter}},
	}, nil
}

// FuzzCalls gives every call of the protocol, and the token endpoint, an answer of any
// kind: an address comes only of a JSON answer 2xx that names one, over https; at most
// three attempts are made for each token; a token that could write a header line is
// never sent; and every failure is a problem of the vendor's in our own words.
func FuzzCalls(f *testing.F) {
	const good, token = `{"encounter_url":"https://app.nabla.example/open/canary"}`, `{"access_token":"t-1","expires_in":300}`
	for _, status := range []uint16{200, 201, 204, 302, 400, 401, 404, 408, 409, 422, 429, 500, 501, 503} {
		f.Add(status, uint16(200), "application/json", "1", []byte(good), []byte(token))
		f.Add(uint16(200), status, "application/json", "", []byte(good), []byte(token))
	}
	for _, body := range []string{`{"encounter_url":"http://127.0.0.1:1/"}`, `{"encounter_url":"https://u@canary/"}`, `{"encounter_url":"https:///canary"}`, `{"encounter_url":["canary"]}`, `{"encounter_url":"javascript:canary"}`, "<html>canary", `{"created_at":"2026-11-03T08:00:00Z"}`, `{"created_at":"canary"}`} {
		f.Add(uint16(200), uint16(200), "application/json; x=y", "Wed, 21 Oct 2115 07:28:00 GMT", []byte(body), []byte(token))
	}
	for _, token := range []string{`{"access_token":"a\r\nX-Evil: canary","expires_in":300}`, `{"access_token":"","expires_in":300}`, `{"access_token":"t","expires_in":-1}`, `{"access_token":"t","expires_in":9223372036854775807}`, `{"access_token":"é canary","expires_in":9}`} {
		f.Add(uint16(200), uint16(200), "application/json", "", []byte(good), []byte(token))
	}
	key := ecKey(f)
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, status, tokenStatus uint16, contentType, retryAfter string, body, token []byte) {
		v := &answering{status: 200, tokenStatus: 200, contentType: contentType, retryAfter: retryAfter, body: body, token: token}
		if status > 200 && status < 600 {
			v.status = int(status)
		}
		if tokenStatus > 200 && tokenStatus < 600 {
			v.tokenStatus = int(tokenStatus)
		}
		waited := time.Duration(0)
		c, err := New(Config{
			BaseURL: "https://nabla.example/v1", ClientID: testClient, Keys: []assertion.Key{{ID: "k1", Signer: key}}, Now: func() time.Time { return now }, HTTP: &http.Client{Transport: v},
			Sleep: func(_ context.Context, d time.Duration) error { waited += d; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(contentType, ";")
		isJSON := strings.EqualFold(strings.TrimSpace(kind), "application/json")
		check := func(what string, err error, may ...problem.Code) {
			t.Helper()
			if err != nil {
				var p *problem.Problem
				if !errors.As(err, &p) || !slices.Contains(append(may, problem.VendorUnavailable), p.Code) {
					t.Fatalf("%s: %v for %d, %d", what, err, v.status, v.tokenStatus)
				}
				if said := fmt.Sprint(p.LogValue()); strings.Contains(said, "canary") || strings.Contains(said, "Evil") || strings.Contains(said, "://") {
					t.Fatalf("%s says %s", what, said)
				}
			} else if v.status/100 != 2 || v.tokenStatus != 200 || !isJSON {
				t.Fatalf("%s worked with %d, %d, %q", what, v.status, v.tokenStatus, contentType)
			}
			if v.calls > 6 || v.tokens > 6 || waited > 2*maxRetryAfter*maxAttempts {
				t.Fatalf("%s: %d calls, %d tokens, %v", what, v.calls, v.tokens, waited)
			}
			if r := RetryAfter(err); r < 0 || r > time.Hour {
				t.Fatalf("%s asks to wait for %v", what, r)
			}
			for _, bearer := range v.bearers {
				var said struct {
					AccessToken string `json:"access_token"`
				}
				_ = json.Unmarshal(v.token, &said)
				if bearer != "Bearer "+said.AccessToken || strings.ContainsFunc(said.AccessToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
					t.Fatalf("%s sent %q", what, bearer)
				}
			}
			v.calls, v.tokens, waited, v.bearers = 0, 0, 0, nil
		}
		address, err := c.Create(t.Context(), CreatePayload{ProviderEmail: "canary@x"})
		check("create", err, problem.ContextIncomplete, problem.ProviderConflict)
		if err != nil && !address.Empty() {
			t.Fatal("a refused create gave an address")
		}
		if err == nil {
			var plain map[string]json.RawMessage
			u, parseErr := url.Parse(address.Reveal())
			if json.Unmarshal(body, &plain) != nil || parseErr != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
				t.Fatalf("%s gave %q", body, address.Reveal())
			}
		}
		address, err = c.Refresh(t.Context(), "D", "canary")
		check("refresh", err, problem.EncounterUnknown)
		if err != nil && !address.Empty() {
			t.Fatal("a refused refresh gave an address")
		}
		user, err := c.CreateUser(t.Context(), User{ProviderEmail: "canary@x", ExternalProviderID: "D"})
		check("user", err, problem.RequestInvalid, problem.ProviderConflict)
		if err != nil && user != (Provisioned{}) || user.Found && !user.CreatedAt.Before(now) {
			t.Fatalf("%+v, %v", user, err)
		}
	})
}
