package nabla

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/secret"
)

const (
	tokenPath     = "/oauth/token"
	grantType     = "client_credentials"
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	assertionLife = 2 * time.Minute
	// renewBefore keeps a token from expiring on its way to the vendor.
	renewBefore = 30 * time.Second
)

// authenticator holds the access token and fetches it once for all callers.
type authenticator struct {
	client   *Client
	clientID string
	signer   *assertion.Signer
	flight   singleflight.Group

	mu    sync.Mutex
	value secret.Text
	until time.Time
}

// token returns a living access token. Callers who come while one is fetched
// wait for that one; a caller who gives up does not end the fetch for the others.
func (a *authenticator) token(ctx context.Context) (secret.Text, error) {
	if value, ok := a.cached(); ok {
		return value, nil
	}
	result := a.flight.DoChan("token", func() (any, error) {
		if value, ok := a.cached(); ok {
			return value, nil
		}
		return a.fetch(context.WithoutCancel(ctx))
	})
	select {
	case <-ctx.Done():
		return secret.Text{}, ctx.Err()
	case r := <-result:
		if r.Err != nil {
			return secret.Text{}, r.Err
		}
		return r.Val.(secret.Text), nil
	}
}

func (a *authenticator) cached() (secret.Text, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.value, !a.value.Empty() && a.client.now().Before(a.until)
}

// forget drops a token that was refused, unless another caller has replaced it.
func (a *authenticator) forget(refused secret.Text) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.value.Equal(refused) {
		a.value = secret.Text{}
	}
}

type tokenRequest struct {
	GrantType           string `json:"grant_type"`
	ClientAssertionType string `json:"client_assertion_type"`
	ClientAssertion     string `json:"client_assertion"`
}

// fetch asks for a token, again where the failure may pass; every attempt has an
// assertion of its own, because a jti works once.
func (a *authenticator) fetch(ctx context.Context) (secret.Text, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	for attempt := 1; ; attempt++ {
		proof, err := a.signer.Assert(a.clientID, a.client.base+tokenPath, a.client.now(), assertionLife)
		if err != nil {
			return secret.Text{}, err
		}
		body, err := json.Marshal(tokenRequest{grantType, assertionType, proof})
		if err != nil {
			return secret.Text{}, errors.New("the token request cannot be written")
		}
		asked := a.client.now()
		answer, err := a.client.post(ctx, tokenPath, body, secret.Text{})
		if err == nil && answer.status == http.StatusOK {
			return a.keep(answer, asked)
		}
		if err == nil {
			err = fmt.Errorf("the token endpoint answered %d", answer.status)
			if !mayPass(answer.status) {
				return secret.Text{}, err
			}
		}
		if attempt == maxAttempts || ctx.Err() != nil || a.client.wait(ctx, attempt, answer.retryAfter) != nil {
			return secret.Text{}, err
		}
	}
}

func (a *authenticator) keep(answer vendorAnswer, asked time.Time) (secret.Text, error) {
	if err := answer.isJSON(); err != nil {
		return secret.Text{}, err
	}
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if json.Unmarshal(answer.body, &token) != nil || token.AccessToken == "" || token.ExpiresIn <= 0 || !headerSafe(token.AccessToken) {
		return secret.Text{}, errors.New("the token endpoint's answer cannot be used")
	}
	life := time.Duration(min(token.ExpiresIn, 24*3600)) * time.Second
	value := secret.New(token.AccessToken)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.value = value
	// A token that lives for less than a minute is renewed at half its life.
	a.until = asked.Add(life - min(renewBefore, life/2))
	return value, nil
}

// headerSafe keeps an answer from writing header lines of its own (RFC 6750 §2.1).
func headerSafe(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return true
}
