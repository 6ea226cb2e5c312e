//go:build linux

package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"encounterlauncher/internal/sandbox"
)

const (
	// ClientID is the launcher's at the issuer.
	ClientID = "encounter-launcher"
	// Audience is that of access tokens.
	Audience = "https://org-backend.stage.example"
)

// Issuer is the sandbox's OIDC issuer, over TLS: refresh tokens rotate, and one that is
// used twice ends its sign-in.
type Issuer struct {
	*sandbox.Issuer
	// URL is the issuer as the launcher and the backend know it.
	URL string
	// Own is its own address, for a proxy in front.
	Own string

	authority *Authority
	server    *http.Server
}

// IssuerOptions say how an issuer is reached.
type IssuerOptions struct {
	// URL is the address by which it is known; empty means its own. A proxy in front
	// has one of its own.
	URL string
	// Around, when set, serves in front of it: a proxy in the same process.
	Around func(http.Handler) http.Handler
	// Now is its clock; nil means the machine's.
	Now func() time.Time
}

// StartIssuer starts an issuer in this process.
func StartIssuer(a *Authority, o IssuerOptions) (*Issuer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	own := "https://" + l.Addr().String()
	if o.URL == "" {
		o.URL = own
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	is, err := sandbox.NewIssuer(o.URL, ClientID, Audience, o.Now)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	var h http.Handler = is
	if o.Around != nil {
		h = o.Around(h)
	}
	return &Issuer{Issuer: is, URL: o.URL, Own: own, authority: a, server: a.ServeOn(l, h, nil)}, nil
}

// Close ends the issuer.
func (i *Issuer) Close() { _ = i.server.Close() }

// IsSignIn reports whether an address that the opener was given is a sign-in page of
// this issuer.
func (i *Issuer) IsSignIn(address string) bool {
	return strings.HasPrefix(address, i.URL+"/authorize?")
}

// SignIn does what a browser and a person do with a sign-in page: person is the key of
// one of the sandbox's people ("ada", "ben"), or empty for the one who cancels. It
// returns when the launcher has answered on its port.
func (i *Issuer) SignIn(ctx context.Context, address, person string) error {
	browser := i.authority.Client()
	defer browser.CloseIdleConnections()
	browser.Jar, _ = cookiejar.New(nil) // without options nothing can fail
	get := func(r *http.Request, err error) (int, string, error) {
		if err != nil {
			return 0, "", errors.New("the address cannot be used")
		}
		page, err := browser.Do(r)
		if err != nil {
			return 0, "", fmt.Errorf("a page of the sign-in: %w", errors.Unwrap(err)) // without its address
		}
		defer page.Body.Close()
		text, err := io.ReadAll(io.LimitReader(page.Body, 256<<10))
		return page.StatusCode, string(text), err
	}
	status, text, err := get(http.NewRequestWithContext(ctx, http.MethodGet, address, nil))
	if err != nil {
		return err
	}
	_, rest, found := strings.Cut(text, `name="request" value="`)
	id, _, closed := strings.Cut(rest, `"`)
	if status != http.StatusOK || !found || !closed {
		return fmt.Errorf("the sign-in page answered %d and no form", status)
	}
	form := url.Values{"request": {id}, "clinician": {person}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, i.URL+"/sign-in", strings.NewReader(form.Encode()))
	if err == nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	status, _, err = get(r, err)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the way back to the launcher ended with status %d", status)
	}
	return err
}
