//go:build identityprovider

package orgserver

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

const independentAudience = "urn:org-backend"

// issued asks the identity provider of build/idp/server.mjs for a token.
func issued(t *testing.T, path string, form url.Values) string {
	t.Helper()
	base := os.Getenv("IDENTITY_PROVIDER")
	if base == "" {
		t.Fatal("there is no identity provider: run make test-idp")
	}
	method, body := http.MethodGet, io.Reader(nil)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(form.Get("client_id"), form.Get("client_id")+"-secret")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error_description"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		t.Fatalf("the identity provider answers %d: %s %v", response.StatusCode, answer.Error, err)
	}
	return answer.AccessToken
}

func TestIndependentIssuersTokensAreToldApart(t *testing.T) {
	w := newWorld(t, byClient, func(c *orgconfig.Config) {
		c.Issuer, c.Audience = os.Getenv("IDENTITY_PROVIDER"), independentAudience
	})
	w.clock.advance(time.Since(w.clock.now())) // its clock is not ours to set
	server := func(client, scope string) string {
		return issued(t, "/token", url.Values{
			"grant_type": {"client_credentials"}, "client_id": {client}, "scope": {scope}, "resource": {independentAudience},
		})
	}
	person := issued(t, "/control/person?client="+ehrClient, nil)
	me := func(token string) request {
		return request{method: http.MethodGet, path: orgapi.PathMe, bearer: token}
	}
	handle := w.taken(t, launchBy(server(ehrClient, "other launches")))
	if p := w.refused(t, launchBy(server(ehrClient, "other")), http.StatusForbidden, problem.Unauthorized); p.Detail == "" {
		t.Error("an EHR without its scope is not told so")
	}
	w.refused(t, launchBy(server("another-server", "launches")), http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, launchBy(person), http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, me(server(ehrClient, "launches")), http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, me(server("another-server", "launches")), http.StatusUnauthorized, problem.Unauthorized)
	// A person's, but of the EHR's client; and one of another's, who is a clinician.
	w.refused(t, me(person), http.StatusUnauthorized, problem.Unauthorized)
	q := w.byHandle(t, handle, "key-1")
	q.bearer = issued(t, "/control/person?client=another-server", nil)
	w.opened(t, q)
}
