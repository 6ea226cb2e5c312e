package fhir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/secret"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// assertionLife is below the five minutes that SMART allows.
	assertionLife = 2 * time.Minute
	// endBefore keeps a token from expiring on its way to the server.
	endBefore = 15 * time.Second
	// againAhead is how long a renewal ahead of time that failed is not tried again.
	againAhead   = 15 * time.Second
	maxTokenLife = 24 * time.Hour
)

// tokens holds the access token, fetches it once for all callers, and renews it
// before its time while callers still use the old one.
type tokens struct {
	client          *Client
	clientID, scope string
	signer          *assertion.Signer
	fixed           string
	flight          singleflight.Group

	mu sync.Mutex
	// endpoint is the one that was discovered.
	endpoint     string
	value        secret.Text
	renew, until time.Time
}

// get returns a living access token. Callers who come while the first one is fetched
// wait for it; a caller who gives up does not end the fetch for the others.
func (t *tokens) get(ctx context.Context) (secret.Text, error) {
	value, fresh := t.held()
	if fresh {
		return value, nil
	}
	result := t.flight.DoChan("token", func() (any, error) {
		if value, fresh := t.held(); fresh {
			return value, nil
		}
		return t.fetch(context.WithoutCancel(ctx))
	})
	if !value.Empty() {
		return value, nil
	}
	select {
	case <-ctx.Done():
		return secret.Text{}, broken(ctx, ctx.Err())
	case r := <-result:
		if r.Err != nil {
			return secret.Text{}, r.Err
		}
		return r.Val.(secret.Text), nil
	}
}

// held returns the token while it lives, and whether it need not be renewed yet.
func (t *tokens) held() (value secret.Text, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.client.now()
	if t.value.Empty() || !now.Before(t.until) {
		return secret.Text{}, false
	}
	return t.value, now.Before(t.renew)
}

// forget drops a token that was refused, unless another caller has replaced it.
func (t *tokens) forget(refused secret.Text) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value.Equal(refused) {
		t.value = secret.Text{}
	}
}

// fetch asks for a token, again where the failure may pass. Where it fails, the
// endpoint is discovered anew the next time: it may have moved.
func (t *tokens) fetch(ctx context.Context) (secret.Text, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var err error
	for attempt := 1; ; attempt++ {
		var value secret.Text
		var a answer
		var endpoint string
		if endpoint, a, err = t.where(ctx); err == nil {
			if value, a, err = t.ask(ctx, endpoint); err == nil {
				return value, nil
			}
		}
		if passing := a.status == 0 || mayPass(a.status); !passing || attempt == maxAttempts || ctx.Err() != nil || t.client.wait(ctx, attempt, a.retryAfter) != nil {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endpoint = ""
	t.renew = t.client.now().Add(againAhead)
	return secret.Text{}, err
}

// where returns the token endpoint. The answer is that of a discovery that failed.
func (t *tokens) where(ctx context.Context) (string, answer, error) {
	if t.fixed != "" {
		return t.fixed, answer{}, nil
	}
	t.mu.Lock()
	known := t.endpoint
	t.mu.Unlock()
	if known != "" {
		return known, answer{}, nil
	}
	a, err := t.fetchJSON(ctx, http.MethodGet, t.client.base+"/.well-known/smart-configuration", nil)
	if err != nil {
		return "", a, fmt.Errorf("discovering the token endpoint: %w", err)
	}
	var found struct {
		TokenEndpoint string `json:"token_endpoint"`
	}
	if json.Unmarshal(a.body, &found) != nil || !t.client.endpoint(found.TokenEndpoint) {
		return "", a, errors.New("discovering the token endpoint: the SMART configuration names none that can be used")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endpoint = found.TokenEndpoint
	return found.TokenEndpoint, a, nil
}

// ask makes one request for a token. Every one has an assertion of its own, because a
// jti works once.
func (t *tokens) ask(ctx context.Context, endpoint string) (secret.Text, answer, error) {
	asked := t.client.now()
	proof, err := t.signer.Assert(t.clientID, endpoint, asked, assertionLife)
	if err != nil {
		return secret.Text{}, answer{status: http.StatusBadRequest}, err
	}
	a, err := t.fetchJSON(ctx, http.MethodPost, endpoint, url.Values{
		"grant_type": {"client_credentials"}, "scope": {t.scope},
		"client_assertion_type": {assertionType}, "client_assertion": {proof},
	})
	if err != nil {
		return secret.Text{}, a, fmt.Errorf("asking for a token: %w", err)
	}
	var token struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if json.Unmarshal(a.body, &token) != nil || !headerSafe(token.AccessToken) || !strings.EqualFold(token.TokenType, "bearer") || token.ExpiresIn <= 0 {
		return secret.Text{}, a, errors.New("asking for a token: the answer cannot be used")
	}
	life := time.Duration(min(token.ExpiresIn, int64(maxTokenLife/time.Second))) * time.Second
	value := secret.New(token.AccessToken)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.value = value
	t.until = asked.Add(life - min(endBefore, life/4))
	t.renew = asked.Add(life / 2)
	return value, a, nil
}

// fetchJSON makes one attempt that needs no token and returns an answer of 200 in
// JSON, or else an error beside it.
func (t *tokens) fetchJSON(ctx context.Context, method, address string, form url.Values) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{status: http.StatusBadRequest}, errors.New("a request cannot be made")
	}
	r.Header.Set("Accept", "application/json")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	a, err := t.client.do(r)
	switch {
	case err != nil:
		return answer{}, err
	case a.status != http.StatusOK:
		return a, fmt.Errorf("the server answered %d", a.status)
	case a.contentType != "application/json":
		return a, errors.New("the answer is not JSON")
	}
	return a, nil
}

// headerSafe keeps an answer from writing header lines of its own (RFC 6750 §2.1).
func headerSafe(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return token != ""
}
