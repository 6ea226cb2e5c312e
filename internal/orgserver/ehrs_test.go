package orgserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

const ehrClient = "ehr-server"

// byClient lets one EHR in by client credentials.
func byClient(c *orgconfig.Config) {
	c.EHRs = []orgconfig.EHR{{Name: "ehr-1", ClientID: ehrClient}}
}

// ehrClaims are those of a good token of the EHR's server, as Keycloak writes them.
func (w *world) ehrClaims(changes map[string]any) map[string]any {
	c := w.claims(map[string]any{"email": nil, "external_provider_id": nil})
	c["sub"], c["azp"], c["client_id"], c["scope"] = "5e0f-service-account", ehrClient, ehrClient, "profile launches"
	for k, v := range changes {
		if v == nil {
			delete(c, k)
			continue
		}
		c[k] = v
	}
	return c
}

func (w *world) ehrToken(t *testing.T, changes map[string]any) string {
	t.Helper()
	return sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: w.issuer.key}, w.issuer.kid, "at+jwt", w.ehrClaims(changes))
}

func launchBy(bearer string) request {
	return request{path: orgapi.PathLaunches, bearer: bearer, body: goodLaunch()}
}

func (w *world) taken(t *testing.T, q request) string {
	t.Helper()
	got := w.do(t, q)
	var a orgapi.LaunchAnswer
	if err := json.Unmarshal(got.body, &a); got.status != http.StatusOK || err != nil {
		t.Fatalf("launches: %d %s", got.status, got.body)
	}
	return a.Handle
}

func TestAnEHRRegistersLaunchesByATokenOfTheIdentityProvider(t *testing.T) {
	w := newWorld(t, byClient)
	for name, changes := range map[string]map[string]any{
		"Keycloak: client_id, azp and scope":      nil,
		"RFC 9068: sub is the client":             {"sub": ehrClient, "azp": nil},
		"Auth0: azp, gty, sub of its clients":     {"sub": ehrClient + "@clients", "client_id": nil, "gty": "client-credentials"},
		"Okta: scp is a list":                     {"scope": nil, "scp": []string{"launches", "other"}},
		"Entra ID: roles, and an app's token":     {"scope": nil, "client_id": nil, "roles": []string{"launches"}, "idtyp": "app"},
		"an old Keycloak: auth_time is 0":         {"auth_time": 0},
		"Keycloak: the account of a client's own": {"preferred_username": "service-account-" + ehrClient},
	} {
		t.Run(name, func(t *testing.T) {
			handle := w.taken(t, launchBy(w.ehrToken(t, changes)))
			w.opened(t, w.byHandle(t, handle, "key-"+strings.ReplaceAll(name[:5], " ", "-")+handle))
		})
	}
}

func TestATokenThatIsNotAnEHRServersRegistersNothing(t *testing.T) {
	w := newWorld(t, byClient)
	for name, token := range map[string]string{
		"a clinician's":                           w.token(t, nil),
		"a clinician's with the scope":            w.token(t, map[string]any{"scope": "launches", "azp": launcherID}),
		"another client's":                        w.ehrToken(t, map[string]any{"client_id": "other", "azp": "other"}),
		"no client's":                             w.ehrToken(t, map[string]any{"client_id": nil, "azp": nil}),
		"two clients'":                            w.ehrToken(t, map[string]any{"client_id": "other"}),
		"a client's in capitals":                  w.ehrToken(t, map[string]any{"client_id": "EHR-server", "azp": nil}),
		"a person's, by an e-mail address":        w.ehrToken(t, map[string]any{"email": "ada@hospital.example"}),
		"a person's, by the time of a sign-in":    w.ehrToken(t, map[string]any{"auth_time": w.clock.now().Unix()}),
		"a person's, by how they signed in":       w.ehrToken(t, map[string]any{"amr": []string{"pwd"}}),
		"a person's, by Entra ID's kind of token": w.ehrToken(t, map[string]any{"idtyp": "user"}),
		"a person's, by Entra ID's delegation":    w.ehrToken(t, map[string]any{"scope": nil, "scp": "launches", "roles": []string{"launches"}}),
		"a person's, by Auth0's grant":            w.ehrToken(t, map[string]any{"gty": "password"}),
		"for another audience":                    w.ehrToken(t, map[string]any{"aud": "another-api"}),
		"of another issuer":                       w.ehrToken(t, map[string]any{"iss": "https://evil.example"}),
		"expired":                                 w.ehrToken(t, map[string]any{"exp": w.clock.now().Unix()}),
		"an ID token":                             w.ehrToken(t, map[string]any{"nonce": "n"}),
		"of another's key":                        sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: newKey(t)}, "issuer-1", "at+jwt", w.ehrClaims(nil)),
		"a secret that no EHR has":                ehrSecret,
	} {
		t.Run(name, func(t *testing.T) {
			p := w.refused(t, launchBy(token), http.StatusUnauthorized, problem.Unauthorized)
			if p.Detail != "" {
				t.Errorf("a refused token is told why: %s", p.Detail)
			}
		})
	}
	w.issuer.mu.Lock()
	w.issuer.down = true
	w.issuer.mu.Unlock()
	w.clock.advance(keysAge)
	if got := w.do(t, launchBy(w.ehrToken(t, nil))); got.status != http.StatusOK {
		t.Errorf("known keys do not go on serving: %d", got.status)
	}
}

func TestAnEHRsTokenNeedsItsScope(t *testing.T) {
	w := newWorld(t, byClient, func(c *orgconfig.Config) { c.EHRs[0].Scope = "org-backend/launch" })
	for name, changes := range map[string]map[string]any{
		"none":                  {"scope": nil},
		"another":               {"scope": "launches"},
		"one that begins alike": {"scope": "org-backend/launches"},
		"in capitals":           {"scope": "ORG-BACKEND/LAUNCH"},
		"scope as a list":       {"scope": []string{"org-backend/launch"}},
		"two words in a role":   {"scope": nil, "roles": []string{"x org-backend/launch"}},
		"roles as a text":       {"scope": nil, "roles": "org-backend/launch"},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.do(t, launchBy(w.ehrToken(t, changes)))
			if p := got.problem(t); got.status != http.StatusForbidden || p.Code != problem.Unauthorized {
				t.Errorf("%d %s", got.status, p.Code)
			}
			if c := got.header.Get("WWW-Authenticate"); c != `Bearer error="insufficient_scope", scope="org-backend/launch"` {
				t.Errorf("challenged by %q", c)
			}
		})
	}
	w.taken(t, launchBy(w.ehrToken(t, map[string]any{"scope": "openid org-backend/launch"})))
}

func TestAServersTokenIsNeverAClinicians(t *testing.T) {
	w := newWorld(t, byClient)
	// What a careless mapper of the issuer may put into every token.
	person := map[string]any{"email": "ada@hospital.example", "external_provider_id": "D-17"}
	with := func(more map[string]any) string {
		changes := map[string]any{}
		for _, m := range []map[string]any{person, more} {
			for k, v := range m {
				changes[k] = v
			}
		}
		return w.ehrToken(t, changes)
	}
	handle := w.taken(t, launchBy(w.ehrToken(t, nil)))
	for name, token := range map[string]string{
		"an EHR's":                            w.ehrToken(t, nil),
		"an EHR's that names a clinician":     with(nil),
		"an EHR's, by azp alone":              with(map[string]any{"client_id": nil}),
		"another client's for itself":         with(map[string]any{"client_id": "cron", "azp": "cron", "sub": "cron"}),
		"another client's for itself (Auth0)": with(map[string]any{"client_id": nil, "azp": "cron", "sub": "cron@clients"}),
		"an app's by Entra ID":                with(map[string]any{"client_id": nil, "azp": "cron", "idtyp": "app"}),
		"a client's by Auth0's grant":         with(map[string]any{"client_id": nil, "azp": "cron", "gty": "client-credentials"}),
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: token}, http.StatusUnauthorized, problem.Unauthorized)
			w.refused(t, request{path: orgapi.PathEncounters, bearer: token, key: "key-1", body: orgapi.CreateRequest{Handle: handle}}, http.StatusUnauthorized, problem.Unauthorized)
			w.refused(t, request{path: orgapi.PathEncounterURL, bearer: token, key: "key-1", body: orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: "E-1"}}, http.StatusUnauthorized, problem.Unauthorized)
			w.refused(t, request{method: http.MethodGet, path: orgapi.PathEvents, bearer: token}, http.StatusUnauthorized, problem.Unauthorized)
		})
	}
	// None of them has spent it; and a person's token has a client, too.
	q := w.byHandle(t, handle, "key-1")
	q.bearer = w.token(t, map[string]any{"azp": launcherID, "client_id": launcherID, "scope": "openid launches"})
	w.opened(t, q)
}

func TestAClinicianOfTheMappingFileIsNoServer(t *testing.T) {
	w := newWorld(t, byClient, func(c *orgconfig.Config) {
		c.MappingFile = c.ContextFile + ".people"
	}, func(c *orgconfig.Config) {
		writeAt(t, c.MappingFile, "- {subject: subject-1, provider_email: ada@hospital.example, external_provider_id: D-17}\n")
	})
	w.refused(t, launchBy(w.ehrToken(t, map[string]any{"sub": "subject-1"})), http.StatusUnauthorized, problem.Unauthorized)
	w.taken(t, launchBy(w.ehrToken(t, nil)))
}

func TestEHRsMayHaveAnIssuerAnAudienceAndAClaimOfTheirOwn(t *testing.T) {
	other := newIssuer(t)
	w := newWorld(t, byClient, func(c *orgconfig.Config) {
		c.EHRTokens = orgconfig.EHRTokens{Issuer: other.url, Audience: "launch-registry", ClientClaim: "appid"}
	})
	claims := func(changes map[string]any) map[string]any {
		c := w.ehrClaims(map[string]any{"iss": other.url, "aud": "launch-registry", "appid": ehrClient, "client_id": nil, "azp": "ignored"})
		for k, v := range changes {
			c[k] = v
		}
		return c
	}
	of := func(i *testIssuer, c map[string]any) string {
		return sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, i.kid, "at+jwt", c)
	}
	handle := w.taken(t, launchBy(of(other, claims(nil))))
	for name, token := range map[string]string{
		"the clinicians' issuer":         of(w.issuer, claims(nil)),
		"the clinicians' issuer by name": of(w.issuer, claims(map[string]any{"iss": w.issuer.url})),
		"the clinicians' audience":       of(other, claims(map[string]any{"aud": testAudience})),
		"another claim":                  of(other, claims(map[string]any{"appid": "x", "client_id": ehrClient})),
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, launchBy(token), http.StatusUnauthorized, problem.Unauthorized)
		})
	}
	if probed := Probe(t.Context(), w.config, Deps{Now: w.clock.now}); len(probed) != 3 || probed[1].Key != "ehr_tokens.issuer" || probed[1].Err != nil {
		t.Errorf("%+v", probed)
	}
	// That issuer's persons are nobody here, and its clients are not ours: a client
	// of the clinicians' issuer may be called the same.
	w.refused(t, request{method: http.MethodGet, path: orgapi.PathMe, bearer: of(other, w.claims(map[string]any{"iss": other.url}))}, http.StatusUnauthorized, problem.Unauthorized)
	q := w.byHandle(t, handle, "key-1")
	q.bearer = w.token(t, map[string]any{"azp": ehrClient})
	w.opened(t, q)
}

func TestAnIssuerOfEHRsThatIsDownIsNotABadToken(t *testing.T) {
	w := newWorld(t, func(c *orgconfig.Config) {
		c.EHRs = append(c.EHRs, orgconfig.EHR{Name: "ehr-2", ClientID: ehrClient})
	})
	w.issuer.down = true
	w.refused(t, launchBy(w.ehrToken(t, nil)), http.StatusServiceUnavailable, problem.OrgUnreachable)
	w.taken(t, launchBy(ehrSecret))
	if w.issuer.asked != 0 {
		t.Error("a secret made us ask the issuer for its keys")
	}
}

// authority signs client certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string
}

func newAuthority(t *testing.T, w *world) authority {
	t.Helper()
	a := authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: w.clock.now().Add(-time.Hour), NotAfter: w.clock.now().Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// client makes a client certificate for names, which change may change.
func (a authority) client(t *testing.T, w *world, change func(*x509.Certificate), names ...string) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ehr.hospital.example"}, DNSNames: names,
		NotBefore: w.clock.now().Add(-time.Hour), NotAfter: w.clock.now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestAnEHRRegistersLaunchesByItsClientCertificate(t *testing.T) {
	w := newWorld(t)
	trusted, stranger := newAuthority(t, w), newAuthority(t, w)
	w.config.ClientCAFile = write(t, w.folder, "clients.pem", trusted.pem)
	w.config.EHRs = append(w.config.EHRs,
		orgconfig.EHR{Name: "ehr-2", CertificateName: "EHR.hospital.example"}, orgconfig.EHR{Name: "ehr-3", CertificateName: "other.hospital.example"})
	pool, err := clientCertificates(w.config)
	if err != nil {
		t.Fatal(err)
	}
	if w.server.ehrs, err = newEHRs(w.config, w.server.tokens, w.server.identities, w.clock.now); err != nil {
		t.Fatal(err)
	}
	backend := httptest.NewUnstartedServer(w.server)
	backend.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, Time: w.clock.now}
	backend.StartTLS()
	t.Cleanup(backend.Close)
	// A client that shows its certificate whatever the server asks for.
	with := func(cert *tls.Certificate) *http.Client {
		transport := backend.Client().Transport.(*http.Transport).Clone()
		if cert != nil {
			transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	by := func(client *http.Client, bearer string) request {
		q := launchBy(bearer)
		q.client, q.base = client, backend.URL+"/launcher"
		return q
	}
	good := trusted.client(t, w, nil, "www.hospital.example", "ehr.hospital.example")
	client := with(good)
	w.opened(t, w.byHandle(t, w.taken(t, by(client, "")), "key-1"))
	w.taken(t, by(with(good), ehrSecret)) // Authorization decides: another EHR's, and good

	forwarded := by(with(nil), "")
	forwarded.header = http.Header{"X-Forwarded-Client-Cert": {"DNS=ehr.hospital.example"}, "X-Ssl-Client-Verify": {"SUCCESS"}, "X-Client-Cert": {"x"}}
	me := by(client, "")
	me.method, me.path, me.body = http.MethodGet, orgapi.PathMe, nil
	for name, q := range map[string]request{
		"no certificate":                      by(with(nil), ""),
		"headers of a proxy":                  forwarded,
		"another name":                        by(with(trusted.client(t, w, nil, "else.hospital.example")), ""),
		"a wildcard":                          by(with(trusted.client(t, w, nil, "*.hospital.example")), ""),
		"a common name alone":                 by(with(trusted.client(t, w, nil)), ""),
		"two EHRs' names":                     by(with(trusted.client(t, w, nil, "ehr.hospital.example", "other.hospital.example")), ""),
		"a bad secret beside it":              by(with(good), ehrSecret+"x"),
		"a clinician's token beside it":       by(with(good), w.token(t, nil)),
		"a certificate where a token belongs": me,
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, q, http.StatusUnauthorized, problem.Unauthorized)
		})
	}
	for name, cert := range map[string]*tls.Certificate{
		"another authority's":              stranger.client(t, w, nil, "ehr.hospital.example"),
		"a server's":                       trusted.client(t, w, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "ehr.hospital.example"),
		"one that is over":                 trusted.client(t, w, func(c *x509.Certificate) { c.NotAfter = w.clock.now().Add(-time.Second) }, "ehr.hospital.example"),
		"one that has not begun":           trusted.client(t, w, func(c *x509.Certificate) { c.NotBefore = w.clock.now().Add(time.Minute) }, "ehr.hospital.example"),
		"one without its private key":      {Certificate: good.Certificate, PrivateKey: newKey(t)},
		"one that nobody else vouches for": trustedByItself(t, w),
	} {
		t.Run(name, func(t *testing.T) {
			response, err := with(cert).Post(backend.URL+"/launcher"+orgapi.PathLaunches, "application/json", strings.NewReader(mustJSON(t, goodLaunch())))
			if err == nil {
				_ = response.Body.Close()
				t.Fatalf("the connection was made: %d", response.StatusCode)
			}
		})
	}
	// The connection is the one from the beginning.
	w.clock.advance(time.Hour + time.Second)
	w.refused(t, by(client, ""), http.StatusUnauthorized, problem.Unauthorized)
}

func TestAnAuthorityThatIsWithdrawnVouchesForNoConnectionThatIsStillOpen(t *testing.T) {
	w := newWorld(t)
	w.clock.mu.Lock()
	w.clock.t = time.Now() // by which the listener goes
	w.clock.mu.Unlock()
	folder := t.TempDir()
	pair(t, folder, "backend.hospital.example")
	trusted, next := newAuthority(t, w), newAuthority(t, w)
	cfg := w.config
	cfg.Listen, cfg.TLSCertFile, cfg.TLSKeyFile = "127.0.0.1:0", filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	cfg.ClientCAFile = write(t, folder, "clients.pem", trusted.pem)
	cfg.EHRs = append(cfg.EHRs, orgconfig.EHR{Name: "ehr-2", CertificateName: "ehr.hospital.example"})
	var err error
	if w.server.ehrs, err = newEHRs(cfg, w.server.tokens, w.server.identities, w.clock.now); err != nil {
		t.Fatal(err)
	}
	var files *certificates
	address, end := served(t, cfg, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		files, _ = r.Context().Value(authoritiesKey{}).(*certificates)
		w.server.ServeHTTP(rw, r)
	}), slog.New(slog.DiscardHandler))
	cert := trusted.client(t, w, nil, "ehr.hospital.example")
	transport := &http.Transport{MaxConnsPerHost: 1, TLSClientConfig: &tls.Config{
		RootCAs: x509.NewCertPool(), ServerName: "backend.hospital.example",
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	}}
	own, err := os.ReadFile(cfg.TLSCertFile)
	if err != nil {
		t.Fatal(err)
	}
	transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(own)
	dialled := 0
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	q := launchBy("")
	q.client, q.base = &http.Client{Transport: transport}, "https://"+address+"/launcher"
	w.taken(t, q)
	w.taken(t, q)
	write(t, folder, "clients.pem", next.pem+next.pem)
	files.mu.Lock()
	files.looked = time.Time{} // it is looked again
	files.mu.Unlock()
	w.refused(t, q, http.StatusUnauthorized, problem.Unauthorized)
	if dialled != 1 {
		t.Errorf("%d connections", dialled)
	}
	transport.CloseIdleConnections()
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestAnIssuerIsNotFollowedToWhereItsKeysCouldBeExchanged(t *testing.T) {
	for target, follows := range map[string]bool{"https://keys.hospital.example/x": true, "http://keys.hospital.example/x": false, "http://127.0.0.1:1/x": true, "ftp://x/": false} {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		if got := onlySafely(r, nil) == nil; got != follows {
			t.Errorf("%s: %v", target, got)
		}
	}
	if onlySafely(httptest.NewRequest(http.MethodGet, "https://keys.hospital.example/x", nil), make([]*http.Request, 6)) == nil {
		t.Error("it is followed for ever")
	}
}

func trustedByItself(t *testing.T, w *world) *tls.Certificate {
	t.Helper()
	self := newAuthority(t, w)
	return &tls.Certificate{Certificate: [][]byte{self.cert.Raw}, PrivateKey: self.key}
}

func TestAnEHRRegistersOnlyForProvidersOfItsOwn(t *testing.T) {
	w := newWorld(t, func(c *orgconfig.Config) { c.EHRs[0].ProviderPrefixes = []string{"N-", "D-1"} })
	w.mint(t)
	for _, provider := range []string{"D-2", "d-17", "XN-1", "D-"} {
		l := goodLaunch()
		l.ExternalProviderID = provider
		w.refused(t, request{path: orgapi.PathLaunches, bearer: ehrSecret, body: l}, http.StatusForbidden, problem.ProviderMismatch)
	}
}

func writeAt(t *testing.T, file, text string) {
	t.Helper()
	write(t, filepath.Dir(file), filepath.Base(file), text)
}

const southSecret = "another-ehr-secret-of-more-than-32-characters"

// twoTenants gives north the first EHR and south a second, and north the signed
// requests.
func twoTenants(t *testing.T) func(*orgconfig.Config) {
	return func(c *orgconfig.Config) {
		c.Claims.Tenant, c.IdentifiersAllowed = "tenant", false
		c.EHRs[0].Tenant, c.EHRs[0].LinkIssuer = "north", linkIssuer
		c.EHRs = append(c.EHRs, orgconfig.EHR{Name: "ehr-2", Tenant: "south", SecretFile: c.EHRs[0].SecretFile + ".south"})
		writeAt(t, c.EHRs[1].SecretFile, southSecret+"\n")
	}
}

func TestALinkIsOnlyForCliniciansOfItsTenant(t *testing.T) {
	w := newWorld(t, twoTenants(t))
	of := func(tenant string) func(request) request {
		return func(q request) request {
			q.bearer = w.token(t, map[string]any{"tenant": tenant})
			return q
		}
	}
	north, south := of("north"), of("south")
	theirs := goodLaunch()
	theirs.ExternalEncounterID = "E-2"
	ofNorth, ofSouth := w.taken(t, launchBy(ehrSecret)), w.taken(t, request{path: orgapi.PathLaunches, bearer: southSecret, body: theirs})
	signed := w.signedRequest(t, nil)
	for name, c := range map[string]struct {
		q             request
		owner, others func(request) request
	}{
		"a handle of north":         {w.byHandle(t, ofNorth, "key-1"), north, south},
		"a handle of south":         {w.byHandle(t, ofSouth, "key-2"), south, north},
		"a signed request of north": {w.byRequest(t, signed, "key-3"), north, south},
	} {
		t.Run(name, func(t *testing.T) {
			other := w.refused(t, c.others(c.q), http.StatusForbidden, problem.ProviderMismatch)
			// It cannot be told from another provider's, and says nothing else.
			wrong := c.q
			wrong.bearer = w.token(t, map[string]any{"tenant": "north", "sub": "subject-2", "email": "ben@hospital.example", "external_provider_id": "D-18"})
			provider := w.refused(t, wrong, http.StatusForbidden, problem.ProviderMismatch)
			if other.Reference = provider.Reference; other != provider {
				t.Errorf("%+v is not %+v", other, provider)
			}
			// Neither has spent it, nor the key.
			w.opened(t, c.owner(c.q))
			w.refused(t, c.others(c.q), http.StatusForbidden, problem.ProviderMismatch)
		})
	}
	me := request{method: http.MethodGet, path: orgapi.PathMe}
	for name, tenant := range map[string]any{"none": nil, "empty": "", "a list": []string{"north"}} {
		t.Run("a tenant that is "+name, func(t *testing.T) {
			q := me
			q.bearer = w.token(t, map[string]any{"tenant": tenant})
			w.refused(t, q, http.StatusForbidden, problem.IdentityUnmapped)
		})
	}
	ids := request{path: orgapi.PathEncounters, key: "key-9", body: orgapi.CreateRequest{ExternalEncounterID: "E-5", ExternalPatientID: "P-1", ExternalProviderID: "D-17"}}
	w.refused(t, north(ids), http.StatusForbidden, problem.LinkFormNotAllowed)
}

func TestAnEncounterIsReopenedAndItsExportToldOnlyInItsTenant(t *testing.T) {
	w := newWorld(t, twoTenants(t))
	north, south := w.token(t, map[string]any{"tenant": "north"}), w.token(t, map[string]any{"tenant": "south"})
	open := func(secret, token, key, encounter string) {
		t.Helper()
		l := goodLaunch()
		l.ExternalEncounterID = encounter
		handle := w.taken(t, request{path: orgapi.PathLaunches, bearer: secret, body: l})
		w.opened(t, request{path: orgapi.PathEncounters, bearer: token, key: key, body: orgapi.CreateRequest{Handle: handle}})
	}
	open(ehrSecret, north, "key-1", "E-1")
	open(southSecret, south, "key-2", "E-2")
	inNorth, inSouth := w.listen(t, w.url, north, ""), w.listen(t, w.url, south, "")
	w.exported(t, "D-17", "E-404", "E-1", "E-2", "E-1")
	inNorth.tells("E-1", "E-1")
	inSouth.tells("E-2")

	reopen := func(token, key, encounter string) request {
		return request{path: orgapi.PathEncounterURL, bearer: token, key: key, body: orgapi.ReopenRequest{ExternalProviderID: "D-17", ExternalEncounterID: encounter}}
	}
	w.refused(t, reopen(south, "key-3", "E-1"), http.StatusForbidden, problem.ProviderMismatch)
	w.refused(t, reopen(north, "key-3", "E-2"), http.StatusForbidden, problem.ProviderMismatch)
	w.refused(t, reopen(north, "key-3", "E-404"), http.StatusNotFound, problem.EncounterUnknown)
	// The other EHR registers an encounter of the same id: Nabla would show the one that
	// it knows.
	again := w.taken(t, request{path: orgapi.PathLaunches, bearer: southSecret, body: goodLaunch()})
	w.refused(t, request{path: orgapi.PathEncounters, bearer: south, key: "key-5", body: orgapi.CreateRequest{Handle: again}}, http.StatusForbidden, problem.ProviderMismatch)
	w.exported(t, "D-17", "E-1")
	inNorth.tells("E-1")
	for key, q := range map[string]request{"north": reopen(north, "key-3", "E-1"), "south": reopen(south, "key-4", "E-2")} {
		if got := w.do(t, q); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", key, got.status, got.body)
		}
	}
}

func TestTheMappingFileMayNameTenants(t *testing.T) {
	w := newWorld(t, twoTenants(t), func(c *orgconfig.Config) {
		c.Claims.Tenant, c.MappingFile, c.EHRs[1].Tenant = "", c.ContextFile+".people", ""
		writeAt(t, c.MappingFile, "- {subject: subject-1, provider_email: ada@hospital.example, external_provider_id: D-17, tenant: north}\n"+
			"- {subject: subject-2, provider_email: ada@hospital.example, external_provider_id: D-17}\n")
	})
	other := goodLaunch()
	other.ExternalEncounterID = "E-2"
	ofNorth, ofNobody := w.taken(t, launchBy(ehrSecret)), w.taken(t, request{path: orgapi.PathLaunches, bearer: southSecret, body: other})
	first, second := w.byHandle(t, ofNorth, "key-1"), w.byHandle(t, ofNobody, "key-2")
	second.bearer = w.token(t, map[string]any{"sub": "subject-2"})
	first.bearer, second.bearer = second.bearer, first.bearer
	w.refused(t, first, http.StatusForbidden, problem.ProviderMismatch)
	w.refused(t, second, http.StatusForbidden, problem.ProviderMismatch)
	first.bearer, second.bearer = second.bearer, first.bearer
	w.opened(t, first)
	w.opened(t, second)
}

func TestAConfigurationOfEHRsIsRefusedForEveryFault(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, w)
	authorities := write(t, w.folder, "clients.pem", a.pem)
	people := write(t, w.folder, "people.yaml", "- {subject: s, provider_email: a@b, external_provider_id: D-1, tenant: north}\n")
	more := func(change func(*orgconfig.EHR)) func(*orgconfig.Config) {
		return func(c *orgconfig.Config) {
			e := orgconfig.EHR{Name: "ehr-2", ClientID: ehrClient}
			change(&e)
			c.EHRs = append(c.EHRs, e)
		}
	}
	certificate := func(name string) func(*orgconfig.Config) {
		return more(func(e *orgconfig.EHR) { e.ClientID, e.CertificateName = "", name })
	}
	tls := func(c *orgconfig.Config) {
		c.TLSCertFile, c.TLSKeyFile, c.ClientCAFile = "cert.pem", "key.pem", authorities
	}
	for name, test := range map[string]struct {
		want    string
		changes []func(*orgconfig.Config)
	}{
		"a client and a secret":           {"]: it has not exactly one", []func(*orgconfig.Config){more(func(e *orgconfig.EHR) { e.SecretFile = "x" })}},
		"the launcher's client":           {"].client_id", []func(*orgconfig.Config){more(func(e *orgconfig.EHR) { e.ClientID = launcherID })}},
		"one client twice":                {"].client_id: an entry before it", []func(*orgconfig.Config){more(func(*orgconfig.EHR) {}), more(func(e *orgconfig.EHR) { e.Name = "ehr-3" })}},
		"a scope of two words":            {"].scope", []func(*orgconfig.Config){more(func(e *orgconfig.EHR) { e.Scope = "a b" })}},
		"a scope beside a secret":         {"].scope", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.EHRs[0].Scope = "launches" }}},
		"a certificate without authority": {"].certificate_name: client_ca_file", []func(*orgconfig.Config){certificate("ehr.example")}},
		"a certificate with a wildcard":   {"].certificate_name", []func(*orgconfig.Config){tls, certificate("*.example")}},
		"a certificate with an address":   {"].certificate_name", []func(*orgconfig.Config){tls, certificate("192.0.2.1")}},
		"a certificate behind a proxy":    {"client_ca_file: it needs tls_cert_file", []func(*orgconfig.Config){tls, certificate("ehr.example"), func(c *orgconfig.Config) { c.BehindProxy, c.TLSCertFile, c.TLSKeyFile = true, "", "" }}},
		"authorities that are none":       {"client_ca_file: it holds no certificate", []func(*orgconfig.Config){tls, func(c *orgconfig.Config) { c.ClientCAFile = people }}},
		"an empty prefix":                 {"].provider_prefixes", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.EHRs[0].ProviderPrefixes = []string{"D-", ""} }}},
		"a link_issuer without keys":      {"].link_issuer", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.EHRs[0].LinkIssuer, c.LinkKeysFile = linkIssuer, "" }}},
		"a link_issuer of no key":         {"].link_issuer", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.EHRs[0].LinkIssuer = "x.example" }}},
		"a link_issuer twice":             {"].link_issuer: an entry before it", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.EHRs[0].LinkIssuer = linkIssuer }, more(func(e *orgconfig.EHR) { e.LinkIssuer = linkIssuer })}},
		"an issuer without TLS":           {"ehr_tokens.issuer", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.EHRTokens.Issuer = "http://idp.example" }}},
		"the launcher's audience":         {"ehr_tokens.audience", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.EHRTokens.Audience = launcherID }}},
		"a tenant that nobody has":        {"].tenant: no clinician", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.EHRs[0].Tenant = "north" }}},
		"an EHR without a tenant":         {"].tenant: it is missing", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.Claims.Tenant = "tenant" }}},
		"tenants twice":                   {"claims.tenant", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.Claims.Tenant, c.MappingFile = "tenant", people }}},
		"a tenant that no entry has": {"].tenant: no clinician of mapping_file", []func(*orgconfig.Config){func(c *orgconfig.Config) {
			c.MappingFile, c.EHRs[0].Tenant, c.IdentifiersAllowed = people, "south", false
		}}},
		"identifiers with tenants":         {"identifiers_allowed", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.Claims.Tenant, c.EHRs[0].Tenant = "tenant", "north" }}},
		"identifiers with tenants in file": {"identifiers_allowed", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.MappingFile = people }}},
		"signed requests without a tenant": {"link_keys_file: an iss", []func(*orgconfig.Config){func(c *orgconfig.Config) {
			c.Claims.Tenant, c.EHRs[0].Tenant, c.IdentifiersAllowed = "tenant", "north", false
		}}},
		"a limit below nothing": {"limits.person_per_minute", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.Limits.PersonPerMinute = -1 }}},
		"a limit that is none":  {"limits.ehr_per_minute", []func(*orgconfig.Config){func(c *orgconfig.Config) { c.Limits.EHRPerMinute = 10_000_001 }}},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.config
			c.EHRs = append([]orgconfig.EHR(nil), c.EHRs...)
			for _, change := range test.changes {
				change(&c)
			}
			if err := Check(c); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	// And what is right is taken.
	c := w.config
	c.EHRs = append([]orgconfig.EHR(nil), c.EHRs...)
	tls(&c)
	certificate("ehr.example")(&c)
	more(func(e *orgconfig.EHR) { e.Name, e.Scope, e.LinkIssuer = "ehr-3", "launches", linkIssuer })(&c)
	if _, err := assemble(c, Deps{}); err != nil { // Check would read the listener's certificate, too
		t.Error(err)
	}
}
