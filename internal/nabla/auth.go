package nabla

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"encounterlauncher/internal/secret"
)

const (
	tokenPath     = "/oauth/token"
	grantType     = "client_credentials"
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	assertionLife = 2 * time.Minute
	// expiryMargin keeps a token from expiring on its way to the vendor.
	expiryMargin = 10 * time.Second
	// renewalPause is how long a renewal that failed is not tried again, while the
	// token of before still lives.
	renewalPause = 5 * time.Second
)

// prover proves which client we are: *assertion.Signer and *assertion.Files.
type prover interface {
	Assert(clientID, audience string, now time.Time, life time.Duration) (string, error)
	JWKS() []byte
}

// authenticator holds the access token and fetches it once for all callers.
type authenticator struct {
	client   *Client
	clientID string
	keys     prover
	endpoint endpoint
	flight   singleflight.Group
	current  atomic.Pointer[accessToken]
	renewing atomic.Bool
	// pausedUntil is in nanoseconds since 1970.
	pausedUntil atomic.Int64
}

// accessToken is never changed.
type accessToken struct {
	// bearer is the value of the header Authorization.
	bearer secret.Text
	// From renew on it is replaced behind the callers' backs; from end on it is not
	// used.
	renew, end time.Time
}

// token returns a living access token. Nobody waits while there is one: from three
// quarters of its life on the next one is fetched in the background. Callers who
// come when there is none wait for one fetch; a caller who gives up does not end
// it for the others.
func (a *authenticator) token(ctx context.Context) (*accessToken, error) {
	now := a.client.now()
	if t := a.current.Load(); t != nil && now.Before(t.end) {
		if !now.Before(t.renew) {
			a.renewBehind(now)
		}
		return t, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-a.fetchOnce():
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*accessToken), nil
	}
}

func (a *authenticator) renewBehind(now time.Time) {
	if now.UnixNano() < a.pausedUntil.Load() || !a.renewing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer a.renewing.Store(false)
		if r := <-a.fetchOnce(); r.Err != nil {
			a.pausedUntil.Store(now.Add(renewalPause).UnixNano())
			a.client.log.Warn("the access token of Nabla Connect could not be renewed ahead of its end", "error", r.Err)
		}
	}()
}

func (a *authenticator) fetchOnce() <-chan singleflight.Result {
	return a.flight.DoChan("token", func() (any, error) {
		if t := a.current.Load(); t != nil && a.client.now().Before(t.renew) {
			return t, nil
		}
		return a.fetch()
	})
}

// forget drops a token that was refused, unless another caller has replaced it.
func (a *authenticator) forget(refused *accessToken) { a.current.CompareAndSwap(refused, nil) }

type tokenRequest struct {
	GrantType           string `json:"grant_type"`
	ClientAssertionType string `json:"client_assertion_type"`
	ClientAssertion     string `json:"client_assertion"`
}

// fetch asks for a token, again where the failure may pass; every attempt has an
// assertion of its own, because a jti works once. It has no caller who could give
// up, only an end.
func (a *authenticator) fetch() (*accessToken, error) {
	ctx, end := context.Background(), time.Now().Add(callTime)
	for attempt := 1; ; attempt++ {
		proof, err := a.keys.Assert(a.clientID, a.client.base+tokenPath, a.client.now(), assertionLife)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(tokenRequest{grantType, assertionType, proof})
		if err != nil {
			return nil, errors.New("the token request cannot be written")
		}
		asked := a.client.now()
		answer, err := a.client.line.post(ctx, end, a.endpoint, body, secret.Text{})
		if err == nil {
			if answer.status == http.StatusOK {
				return a.keep(answer, asked)
			}
			err = fmt.Errorf("the token endpoint answered %d", answer.status)
			if !mayPass(answer.status) {
				return nil, err
			}
		}
		if err = a.client.again(ctx, end, attempt, a.client.retryAfter(answer), err); err != nil {
			return nil, err
		}
	}
}

func (a *authenticator) keep(answer vendorAnswer, asked time.Time) (*accessToken, error) {
	if err := answer.isJSON(); err != nil {
		return nil, err
	}
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if json.Unmarshal(answer.body, &token) != nil || token.AccessToken == "" || token.ExpiresIn <= 0 || !headerSafe(token.AccessToken) {
		return nil, errors.New("the token endpoint's answer cannot be used")
	}
	life := time.Duration(min(token.ExpiresIn, 24*3600)) * time.Second
	t := &accessToken{
		bearer: secret.New("Bearer " + token.AccessToken),
		renew:  asked.Add(life * 3 / 4),
		// A token that lives for seconds only is used for three quarters of them.
		end: asked.Add(life - min(expiryMargin, life/4)),
	}
	a.current.Store(t)
	return t, nil
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
