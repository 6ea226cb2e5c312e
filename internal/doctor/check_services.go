package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

// checkSignIn reads the discovery document of the issuer (OpenID Connect Discovery §4)
// and its keys, as a sign-in does before it opens its page. Nobody is signed in by it.
func checkSignIn(ctx context.Context, w *world, c check) []Finding {
	if w.issuer == nil || w.unconnected() {
		return []Finding{w.say(c, "no_policy")}
	}
	host := w.issuer.host()
	m := w.issuer.meet(ctx)
	if m.err != nil {
		return []Finding{w.say(c, "unreachable", "host", host).because(causeOf(m.err))}
	}
	var document struct {
		Issuer        string   `json:"issuer"`
		Authorization string   `json:"authorization_endpoint"`
		Token         string   `json:"token_endpoint"`
		Keys          string   `json:"jwks_uri"`
		Revocation    string   `json:"revocation_endpoint"`
		EndSession    string   `json:"end_session_endpoint"`
		Challenges    []string `json:"code_challenge_methods_supported"`
	}
	if m.status != http.StatusOK || json.Unmarshal(m.body, &document) != nil || document.Issuer == "" {
		return []Finding{w.say(c, "not_a_service", "host", host)}
	}
	if document.Issuer != w.Policy.OIDCIssuer {
		return []Finding{w.say(c, "other_issuer", "host", host)}
	}
	var found []Finding
	for _, e := range [...]struct {
		name, address string
		needed        bool
	}{
		{"authorization_endpoint", document.Authorization, true}, {"token_endpoint", document.Token, true}, {"jwks_uri", document.Keys, true},
		{"revocation_endpoint", document.Revocation, false}, {"end_session_endpoint", document.EndSession, false},
	} {
		if !(e.address == "" && !e.needed) && !w.safe(e.address) {
			found = append(found, w.say(c, "unsafe_endpoint", "host", host, "endpoint", e.name))
		}
	}
	switch {
	case len(document.Challenges) == 0:
		// RFC 8414 §2: left out, it is not supported. Some providers support it and do
		// not say so, and a sign-in then tries.
		found = append(found, w.say(c, "pkce_unsaid", "host", host))
	case !slices.Contains(document.Challenges, "S256"):
		found = append(found, w.say(c, "no_pkce", "host", host))
	}
	if w.safe(document.Keys) {
		var keys struct {
			Keys []json.RawMessage `json:"keys"`
		}
		k := w.exchange(ctx, http.MethodGet, document.Keys, "")
		if k.err != nil || k.status != http.StatusOK || json.Unmarshal(k.body, &keys) != nil || len(keys.Keys) == 0 {
			found = append(found, w.say(c, "keys_unusable", "host", host).because(causeOf(k.err)))
		}
	}
	if len(found) == 0 {
		return []Finding{w.say(c, "fine", "host", host)}
	}
	return found
}

// safe reports whether an address that the issuer names may be asked.
func (w *world) safe(address string) bool {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || len(address) > 2048:
		return false
	case u.Scheme == "http":
		return w.Layout.IsDemo() && u.Hostname() == "127.0.0.1" && u.Port() != ""
	}
	return u.Scheme == "https"
}

// checkBackend holds the backend against the contract as far as that can be done
// without a token: it refuses who has none, as the contract says, and before it looks
// at anything else.
func checkBackend(ctx context.Context, w *world, c check) []Finding {
	if w.backend == nil || w.unconnected() {
		return []Finding{w.say(c, "no_policy")}
	}
	host := w.backend.host()
	m := w.backend.meet(ctx)
	if m.err != nil {
		return []Finding{w.say(c, "unreachable", "host", host).because(causeOf(m.err))}
	}
	if f, ok := w.refusal(c, m, host); !ok {
		return []Finding{f}
	}
	// An empty request names no encounter, and nobody is asked about one: the token
	// comes first (openapi.yaml, POST /encounters).
	create := w.exchange(ctx, http.MethodPost, strings.TrimSuffix(w.Policy.BackendURL, "/")+orgapi.PathEncounters, "{}")
	if create.err != nil {
		return []Finding{w.say(c, "unreachable", "host", host).because(causeOf(create.err))}
	}
	if f, ok := w.refusal(c, create, host); !ok {
		return []Finding{f}
	}
	var found []Finding
	if !strings.Contains(strings.ToLower(m.header.Get("Cache-Control")), "no-store") {
		found = append(found, w.say(c, "storable", "host", host))
	}
	if m.header.Get(orgapi.HeaderRequestID) == "" {
		found = append(found, w.say(c, "no_request_id", "host", host))
	}
	version := m.header.Get(orgapi.HeaderContract)
	if version == "" {
		version = w.publishedVersion(ctx)
	}
	switch {
	case version == "":
		found = append(found, w.say(c, "version_unsaid", "host", host))
	case !sameContract(version):
		found = append(found, w.say(c, "other_contract", "host", host, "version", version))
	case len(found) == 0:
		found = append(found, w.say(c, "fine", "host", host, "version", version))
	}
	return found
}

// refusal reports whether an answer is how the contract refuses who has no token: 401,
// with a problem that says so (RFC 9457).
func (w *world) refusal(c check, m met, host string) (Finding, bool) {
	kind, _, _ := mime.ParseMediaType(m.header.Get("Content-Type"))
	var body orgapi.Problem
	named := kind == orgapi.ProblemContentType && json.Unmarshal(m.body, &body) == nil && problem.Known(string(body.Code))
	status := strconv.Itoa(m.status)
	switch {
	case m.status == http.StatusUnauthorized && named && body.Code == problem.Unauthorized:
		return Finding{}, true
	case m.status == http.StatusTooManyRequests || m.status == http.StatusServiceUnavailable && named:
		return w.say(c, "busy", "host", host), false
	case named, m.status/100 == 2 && kind == "application/json":
		return w.say(c, "lets_in", "host", host, "status", status), false
	}
	return w.say(c, "not_a_backend", "host", host, "status", status), false
}

// publishedVersion is the version in the contract that the backend publishes; empty
// where it publishes none. It is read by its form, without a reader of YAML.
func (w *world) publishedVersion(ctx context.Context) string {
	m := w.exchange(ctx, http.MethodGet, strings.TrimSuffix(w.Policy.BackendURL, "/")+orgapi.PathOpenAPI, "")
	if m.err != nil || m.status != http.StatusOK || !bytes.HasPrefix(m.body, []byte("openapi:")) {
		return ""
	}
	inInfo := false
	for line := range strings.Lines(string(m.body)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" && line[0] != ' ' {
			inInfo = line == "info:"
		}
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "version:"); ok && inInfo {
			return strings.Trim(strings.TrimSpace(version), `'"`)
		}
	}
	return ""
}

// sameContract reports whether a version has the first number of ours.
func sameContract(version string) bool {
	theirs, _, _ := strings.Cut(version, ".")
	ours, _, _ := strings.Cut(orgapi.ContractVersion, ".")
	return theirs == ours
}
