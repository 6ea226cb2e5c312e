package orgserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// How an EHR server proves who it is. A call that carries Authorization is judged by
// that alone, and else by its client certificate: one that fails never falls back on
// the other.
//
// Persons and servers get their tokens from one identity provider, often for one
// audience, so each has to be kept from passing as the other:
//
//   - a server's token names, as its client, one of ehrs, and grants its scope: by
//     scope (RFC 8693 §4.2, words in one text), by scp as a list (Okta) or by roles
//     as a list (Entra ID's application permissions). scp as a text is what Entra ID
//     writes for a person, and grants nothing here;
//   - it bears no sign of a person: see aboutPerson. sub is not compared with the
//     client's id, as RFC 9068 §2.2 suggests: Keycloak and Entra ID put an account of
//     their own there;
//   - a person's token was not issued to one of these clients, and not to a client
//     for itself: see isServer. The same client can therefore not serve for both.

const (
	minSecret        = 32
	defaultEHRScope  = "launches"
	auth0Client      = "client-credentials"
	auth0ClientsName = "@clients"
)

// ehrServer is one EHR server that may register launches.
type ehrServer struct {
	name, tenant, scope string
	prefixes            []string
}

// speaksFor reports whether it may register launches of a provider.
func (e *ehrServer) speaksFor(providerID string) bool {
	return len(e.prefixes) == 0 || slices.ContainsFunc(e.prefixes, func(p string) bool { return strings.HasPrefix(providerID, p) })
}

// ehrServers knows them by what they show.
type ehrServers struct {
	secrets []hashedSecret
	// strangers are other clients of the clinicians' issuer that are no person: Nabla's.
	strangers map[string]bool
	// clients, certificates and issuers are by client id, by DNS name, and by the iss
	// of their signed requests.
	clients, certificates, issuers map[string]*ehrServer
	// tokens are those of ehr_tokens, for audience; shared when their issuer is the
	// clinicians' too.
	tokens      *accessTokens
	shared      bool
	audience    string
	clientClaim string
	persons     *identities
	now         func() time.Time
}

// hashedSecret is a bearer secret, by its hash.
type hashedSecret struct {
	sum [sha256.Size]byte
	of  *ehrServer
}

func newEHRs(cfg orgconfig.Config, clinicians *accessTokens, persons *identities, now func() time.Time) (*ehrServers, error) {
	e := &ehrServers{
		clients: map[string]*ehrServer{}, certificates: map[string]*ehrServer{}, issuers: map[string]*ehrServer{},
		strangers: map[string]bool{},
		tokens:    clinicians, shared: true, audience: cfg.EHRTokens.Audience, clientClaim: cfg.EHRTokens.ClientClaim, persons: persons, now: now,
	}
	if e.audience == "" {
		e.audience = cfg.Audience
	}
	if issuer := cfg.EHRTokens.Issuer; issuer != "" && issuer != cfg.Issuer {
		e.tokens, e.shared = &accessTokens{issuer: issuer, audience: e.audience, http: clinicians.http, now: now}, false
	}
	if b := cfg.Callbacks.Bearer; b.Issuer == cfg.Issuer {
		e.strangers[b.ClientID] = true
	}
	var faults []error
	for i, c := range cfg.EHRs {
		server := &ehrServer{name: c.Name, tenant: c.Tenant, scope: c.Scope, prefixes: c.ProviderPrefixes}
		if server.scope == "" {
			server.scope = defaultEHRScope
		}
		if c.LinkIssuer != "" {
			e.issuers[c.LinkIssuer] = server
		}
		switch {
		case c.ClientID != "":
			e.clients[c.ClientID] = server
		case c.CertificateName != "":
			e.certificates[strings.ToLower(c.CertificateName)] = server
		case c.SecretFile != "":
			if err := e.addSecret(c.SecretFile, server); err != nil {
				faults = append(faults, fmt.Errorf("ehrs[%d].secret_file: %w", i, err))
			}
		}
	}
	return e, errors.Join(faults...)
}

// tenantFaults refuses what only the files of a configuration show.
func tenantFaults(cfg orgconfig.Config, persons *identities, requests requestKeys) error {
	var faults []error
	if cfg.IdentifiersAllowed && cfg.Claims.Tenant == "" && persons != nil && persons.tenants() {
		faults = append(faults, errors.New("identifiers_allowed: identifiers do not say which tenant they are of; with tenants in mapping_file, use handles or signed requests"))
	}
	signs := map[string]bool{}
	for name := range requests {
		signs[name[0]] = true
	}
	for i, c := range cfg.EHRs {
		if c.Tenant != "" && persons != nil && persons.mapped != nil && !persons.has(c.Tenant) {
			faults = append(faults, fmt.Errorf("ehrs[%d].tenant: no clinician of mapping_file has one, so nobody could use its links", i))
		}
		if c.LinkIssuer != "" && cfg.LinkKeysFile != "" && !signs[c.LinkIssuer] {
			faults = append(faults, fmt.Errorf("ehrs[%d].link_issuer: link_keys_file has no key of it", i))
		}
		delete(signs, c.LinkIssuer)
	}
	if cfg.Claims.Tenant != "" && len(signs) > 0 {
		faults = append(faults, errors.New("link_keys_file: an iss is link_issuer of no entry of ehrs, so it has no tenant, and with claims.tenant nobody could use its requests"))
	}
	return errors.Join(faults...)
}

func (e *ehrServers) addSecret(file string, of *ehrServer) error {
	word, err := orgconfig.ReadSecret(file)
	if err != nil {
		return err
	}
	if len(word) < minSecret || strings.ContainsAny(word, " \t\r\n") {
		return fmt.Errorf("the file does not hold one line of at least %d characters without spaces (openssl rand -base64 33)", minSecret)
	}
	s := hashedSecret{sha256.Sum256([]byte(word)), of}
	if slices.ContainsFunc(e.secrets, func(o hashedSecret) bool { return o.sum == s.sum }) {
		return errors.New("an entry before it has the same secret")
	}
	e.secrets = append(e.secrets, s)
	return nil
}

// clientCertificates reads the authorities of the client certificates of EHR
// servers; nil means that none are taken. The listener asks for certificates of
// theirs and verifies what it is given (tls.VerifyClientCertIfGiven): launchers have
// none. Only a certificate that was verified so counts; a header that a proxy writes
// never does.
func clientCertificates(cfg orgconfig.Config) (*x509.CertPool, error) {
	if cfg.ClientCAFile == "" {
		return nil, nil
	}
	text, err := orgconfig.ReadTrusted(cfg.ClientCAFile, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("client_ca_file: %w", withoutFile(err))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("client_ca_file: it holds no certificate (PEM)")
	}
	return pool, nil
}

// of returns the EHR server that calls. Its errors are unauthorized, with 403 where
// only the scope is missing, and org_unreachable.
func (e *ehrServers) of(r *http.Request) (*ehrServer, error) {
	if len(r.Header.Values("Authorization")) == 0 {
		return e.byCertificate(r.Context(), r.TLS)
	}
	token, err := bearer(r)
	if err != nil {
		return nil, err
	}
	if server := e.bySecret(token); server != nil {
		return server, nil
	}
	if len(e.clients) == 0 {
		return nil, problem.New(problem.Unauthorized, errors.New("the bearer secret is no EHR's"))
	}
	return e.byToken(r.Context(), token)
}

func (e *ehrServers) bySecret(word secret.Text) *ehrServer {
	sum := sha256.Sum256([]byte(word.Reveal()))
	var found *ehrServer
	for _, s := range e.secrets {
		if subtle.ConstantTimeCompare(sum[:], s.sum[:]) == 1 {
			found = s.of
		}
	}
	return found
}

// byCertificate looks for the DNS name of an EHR in a client certificate that the
// listener has verified.
func (e *ehrServers) byCertificate(ctx context.Context, state *tls.ConnectionState) (*ehrServer, error) {
	fault := func(what string) (*ehrServer, error) { return nil, problem.New(problem.Unauthorized, errors.New(what)) }
	if state == nil || len(state.VerifiedChains) == 0 {
		return fault("the call carries neither a bearer token nor a verified client certificate")
	}
	leaf := state.VerifiedChains[0][0]
	// A connection may outlive the certificate that it began with, and who vouched for it.
	now := e.now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fault("the client certificate is not valid now")
	}
	if !vouchedFor(ctx, state, now) {
		return fault("the client certificate's authority was withdrawn")
	}
	var found *ehrServer
	for _, name := range leaf.DNSNames {
		server := e.certificates[strings.ToLower(name)]
		if server != nil && found != nil && server != found {
			return fault("the client certificate names two EHRs")
		}
		if server != nil {
			found = server
		}
	}
	if found == nil {
		return fault("the client certificate is no EHR's")
	}
	return found, nil
}

// byToken verifies an access token that a server got by client credentials
// (RFC 6749 §4.4).
func (e *ehrServers) byToken(ctx context.Context, token secret.Text) (*ehrServer, error) {
	claims, err := e.tokens.verifyFor(ctx, token, e.audience)
	if err != nil {
		return nil, err
	}
	server := e.clients[e.clientOf(claims)]
	if server == nil {
		return nil, problem.New(problem.Unauthorized, errors.New("the token's client is no EHR"))
	}
	if e.aboutPerson(claims) {
		return nil, problem.New(problem.Unauthorized, errors.New("the token is a person's, not a server's"))
	}
	if !granted(claims, server.scope) {
		return nil, &statusError{
			status: http.StatusForbidden, scope: server.scope,
			Problem: problem.With(problem.Unauthorized, "The token does not grant the scope that this EHR needs.", nil),
		}
	}
	return server, nil
}

// clientOf returns the client that a token was issued to, or nothing where that is
// not clear.
func (e *ehrServers) clientOf(claims map[string]json.RawMessage) string {
	if e.clientClaim != "" {
		return text(claims[e.clientClaim])
	}
	id, party := text(claims["client_id"]), text(claims["azp"])
	switch {
	case id == "":
		return party
	case party != "" && party != id:
		return ""
	}
	return id
}

func granted(claims map[string]json.RawMessage, scope string) bool {
	words := strings.Fields(text(claims["scope"]))
	for _, name := range []string{"scp", "roles"} {
		var list []string
		if json.Unmarshal(claims[name], &list) == nil {
			words = append(words, list...)
		}
	}
	return slices.Contains(words, scope)
}

// aboutPerson reports whether a token says, in any of the ways of the usual issuers,
// that a person stands behind it.
func (e *ehrServers) aboutPerson(claims map[string]json.RawMessage) bool {
	// A clinician is a person, whatever else the token says.
	if _, err := e.persons.of(claims); e.shared && err == nil {
		return true
	}
	for _, name := range []string{"email", "amr"} {
		if _, ok := claims[name]; ok {
			return true
		}
	}
	// Old Keycloaks write 0 for a client.
	if at, ok := claims["auth_time"]; ok && string(at) != "0" {
		return true
	}
	// Entra ID: permissions that a person has delegated are a text.
	if text(claims["scp"]) != "" {
		return true
	}
	kind, grant := claims["idtyp"], claims["gty"]
	return (kind != nil && text(kind) != "app") || (grant != nil && text(grant) != auth0Client)
}

// isServer reports whether a token of the clinicians' issuer is an EHR server's, or
// any client's for itself: it is then no person's, whatever its claims say of one.
func (e *ehrServers) isServer(claims map[string]json.RawMessage) bool {
	subject := text(claims["sub"])
	for _, name := range []string{"client_id", "azp", e.clientClaim} {
		client := text(claims[name])
		if client == "" {
			continue
		}
		if subject == client || subject == client+auth0ClientsName || (e.shared && e.clients[client] != nil) || e.strangers[client] {
			return true
		}
	}
	return text(claims["idtyp"]) == "app" || text(claims["gty"]) == auth0Client
}

// tenantOf returns the tenant of whoever signs requests under an iss.
func (e *ehrServers) tenantOf(issuer string) string {
	if server := e.issuers[issuer]; server != nil {
		return server.tenant
	}
	return ""
}
