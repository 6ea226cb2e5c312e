package doctor

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"crypto/x509"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/transport"
)

const day = 24 * time.Hour

func TestTheCertificateOfEachServerIsNamedByItsAuthority(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	own := func(host string, a *authority) {
		s.set(func() { s.certs[host] = a.certify(host, -200*day, 90*day) })
		d.reconnect(d.Policy) // no session of before is taken up again
	}
	own(backendHost, s.private)
	r := finds(t, d, "tls", "extra_ca", "fine", "fine")
	fact(t, r, "extra_ca", "issuer", "Hospital Inspection CA")
	own(encounterHost, s.private)
	r = finds(t, d, "tls", "extra_ca", "fine", "intercepted")
	fact(t, r, "intercepted", "host", encounterHost)
	own(issuerHost, s.private)
	r = finds(t, d, "tls", "intercepted", "intercepted", "intercepted")
	fact(t, r, "intercepted", "issuer", "Hospital Inspection CA")
	if !strings.Contains(said(d, []Result{r}, "en"), "a device between may read the connection") {
		t.Error("people are not told what it may mean")
	}
}

func TestAHospitalWithItsOwnAuthorityIsHealthyAndOneThatIsReadIsNot(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	for _, host := range []string{backendHost, issuerHost} {
		s.set(func() { s.certs[host] = s.private.certify(host, -200*day, 90*day) })
	}
	met := d.Policy
	suffix := d.Policy
	suffix.EncounterURLHosts = []string{".vendor.example"} // names no host that could be met
	healthy := func(what string, codes ...string) {
		if r := finds(t, d, "tls", codes...); r.State != OK {
			t.Errorf("%s: %s", what, r.State)
		}
	}
	d.reconnect(suffix)
	healthy("in ExtraCAFile", "extra_ca", "extra_ca")
	d.Policy.ExtraCAFile = "" // the client has it, as if the system had it
	healthy("in the system's store", "own_authority", "own_authority")
	d.reconnect(met)
	healthy("beside a vendor's public one", "extra_ca", "extra_ca", "fine")
	// A device between signs the vendor's, too.
	s.set(func() { s.certs[encounterHost] = s.private.certify(encounterHost, -200*day, 90*day) })
	d.reconnect(met)
	if r := finds(t, d, "tls", "intercepted", "intercepted", "intercepted"); r.State != Warning {
		t.Errorf("intercepted: %s", r.State)
	}
}

func TestAnAuthorityOfTheSystemsThatIsNotPublicIsTheOrganisations(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	s.set(func() { s.certs[backendHost] = s.private.certify(backendHost, -200*day, 90*day) })
	d.Policy.ExtraCAFile = "" // the client has it, as if the system had it
	fact(t, finds(t, d, "tls", "own_authority", "fine", "fine"), "own_authority", "issuer", "Hospital Inspection CA")
}

func TestACertificateThatIsRefusedIsNamedToo(t *testing.T) {
	s := newSite(t)
	stranger := newAuthority(t, "Nobody's CA of ada@evil.example")
	for code, change := range map[string]func(){
		"untrusted":  func() { s.certs[backendHost] = stranger.certify(backendHost, -day, 90*day) },
		"wrong_name": func() { s.certs[backendHost] = s.public.certify("other.example", -day, 90*day) },
		"expired":    func() { s.certs[backendHost] = s.public.certify(backendHost, -90*day, -day) },
		"ends_soon":  func() { s.certs[backendHost] = s.public.certify(backendHost, -90*day, 5*day+time.Hour) },
		"not_tls":    func() { s.certs[backendHost] = nil },
	} {
		d := s.healthy()
		s.set(change)
		r := finds(t, d, "tls", code, "fine", "fine")
		switch code {
		case "untrusted":
			fact(t, r, code, "issuer", "Nobody's CA of [redacted]")
		case "ends_soon":
			fact(t, r, code, "days", "5")
		case "wrong_name", "expired":
			fact(t, r, code, "issuer", "Public Root CA")
		}
	}
}

func TestAServerThatIsNotReachedIsBrokenWhereItIsNeededAndAWarningWhereEncountersOpen(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	s.set(func() { delete(s.servers, backendHost); delete(s.servers, encounterHost) })
	finds(t, d, "tls", "unreached", "fine", "encounter_host")
	finds(t, d, "clock", "unknown")
	finds(t, d, "backend", "unreachable")
	finds(t, d, "sign_in", "fine")
}

func TestThePublicAuthoritiesAreThoseThatBrowsersBringAlong(t *testing.T) {
	if publicRoot(newAuthority(t, "Public Root CA").cert) {
		t.Error("an authority made here is public")
	}
	for root := range bundle.Roots() {
		c, err := x509.ParseCertificate(root.Certificate)
		if err != nil || !publicRoot(c) {
			t.Errorf("one of the list is not public: %v", err)
		}
		break
	}
}

func TestTheClockIsComparedWithTheBackends(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	for off, code := range map[time.Duration]string{0: "fine", 20 * time.Second: "fine", -45 * time.Second: "off", 4 * time.Minute: "off", 6 * time.Minute: "wrong", -day: "wrong"} {
		s.set(func() { s.date = off })
		r := finds(t, d, "clock", code)
		if off == 6*time.Minute && r.Findings[0].Facts["minutes"] != "6" && r.Findings[0].Facts["minutes"] != "5" {
			t.Errorf("got %v", r.Findings)
		}
	}
}

func TestTheWayToEachServerIsSaid(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	name := strings.TrimPrefix(s.proxy.URL, "http://")
	r := finds(t, d, "proxy", "by_proxy", "by_proxy", "by_proxy")
	fact(t, r, "by_proxy", "proxy", name)
	finds(t, d, "dns", "by_proxy", "by_proxy", "by_proxy")
	s.set(func() { s.wantAuth = true })
	d.reconnect(d.Policy) // no tunnel of before is used again
	finds(t, d, "proxy", "sign_in_needed", "sign_in_needed", "sign_in_needed")
	s.set(func() { s.wantAuth = false })

	d.Proxy = func(context.Context, string) (transport.Proxy, error) {
		return transport.Proxy{Address: "http://192.0.2.1:3128", Failed: []transport.ProxyFailure{{Source: transport.FromDetection, Late: true, Cause: errors.New("late")}}}, nil
	}
	d.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
	r = finds(t, d, "proxy", "fallback", "fallback", "fallback", "no_answer", "no_answer", "no_answer")
	fact(t, r, "no_answer", "proxy", "192.0.2.1:3128")
	d.Proxy = func(context.Context, string) (transport.Proxy, error) { return transport.Proxy{}, errors.New("no") }
	finds(t, d, "proxy", "lookup_failed", "lookup_failed", "lookup_failed")
	d.Proxy = func(context.Context, string) (transport.Proxy, error) { return transport.Proxy{}, nil }
	finds(t, d, "proxy", "direct", "direct", "direct")
}

func TestNamesThatThisComputerLooksUpItself(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	d.Proxy = func(context.Context, string) (transport.Proxy, error) { return transport.Proxy{}, nil }
	d.Resolve = func(_ context.Context, host string) ([]string, error) {
		switch host {
		case backendHost:
			return []string{"192.0.2.7"}, nil
		case issuerHost:
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		}
		return nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	}
	finds(t, d, "dns", "fine", "not_found", "encounter_host")
	d.Resolve = func(context.Context, string) ([]string, error) {
		return nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true}
	}
	finds(t, d, "dns", "no_answer", "no_answer", "encounter_host")
}

func TestWhatTheIssuerSaysOfItselfIsChecked(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   []string
	}{
		"another issuer":   {func(m map[string]any) { m["issuer"] = "https://evil.example" }, []string{"other_issuer"}},
		"a slash more":     {func(m map[string]any) { m["issuer"] = m["issuer"].(string) + "/" }, []string{"other_issuer"}},
		"http":             {func(m map[string]any) { m["token_endpoint"] = "http://login.example/token" }, []string{"unsafe_endpoint"}},
		"a missing one":    {func(m map[string]any) { delete(m, "authorization_endpoint") }, []string{"unsafe_endpoint"}},
		"no keys":          {func(m map[string]any) { m["jwks_uri"] = "https://" + issuerHost + "/nothing" }, []string{"keys_unusable"}},
		"plain PKCE":       {func(m map[string]any) { m["code_challenge_methods_supported"] = []string{"plain"} }, []string{"no_pkce"}},
		"PKCE not said":    {func(m map[string]any) { delete(m, "code_challenge_methods_supported") }, []string{"pkce_unsaid"}},
		"an unsafe ending": {func(m map[string]any) { m["end_session_endpoint"] = "javascript:alert(1)" }, []string{"unsafe_endpoint"}},
		"nothing":          {func(m map[string]any) { clear(m) }, []string{"not_a_service"}},
	} {
		s.set(func() { s.handlers[issuerHost] = s.issuer(c.change) })
		t.Run(name, func(t *testing.T) { finds(t, d, "sign_in", c.want...) })
	}
	s.set(func() {
		s.handlers[issuerHost] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>portal") })
	})
	finds(t, d, "sign_in", "not_a_service")
	s.set(func() { delete(s.servers, issuerHost) })
	d.reconnect(d.Policy)
	finds(t, d, "sign_in", "unreachable")
}

// altered is the real backend behind something that changes its answers.
func altered(h http.Handler, change func(*httptest.ResponseRecorder, *http.Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		change(rec, r)
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

func TestTheBackendIsHeldAgainstTheContractWithoutAToken(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	real := s.handlers[backendHost]
	answered := func(status int, kind, body string) func(*httptest.ResponseRecorder, *http.Request) {
		return func(rec *httptest.ResponseRecorder, _ *http.Request) {
			rec.Code = status
			rec.Header().Set("Content-Type", kind)
			rec.Body.Reset()
			rec.Body.WriteString(body)
		}
	}
	for name, c := range map[string]struct {
		change func(*httptest.ResponseRecorder, *http.Request)
		want   []string
	}{
		"as it is":      {func(*httptest.ResponseRecorder, *http.Request) {}, []string{"fine"}},
		"a portal":      {answered(200, "text/html", "<html>"), []string{"not_a_backend"}},
		"another path":  {answered(404, "text/plain", "no"), []string{"not_a_backend"}},
		"a redirection": {answered(302, "text/html", ""), []string{"not_a_backend"}},
		"a plain 401":   {answered(401, "application/json", `{"error":"unauthorized"}`), []string{"not_a_backend"}},
		"everybody in":  {answered(200, "application/json", `{"subject":"x"}`), []string{"lets_in"}},
		"busy":          {answered(429, "application/json", ``), []string{"busy"}},
		"everybody may create": {func(rec *httptest.ResponseRecorder, r *http.Request) {
			if r.Method == http.MethodPost {
				answered(200, "application/json", `{"encounter_url":"https://app.vendor.example/one-time/abc"}`)(rec, r)
			}
		}, []string{"lets_in"}},
		"the body first": {func(rec *httptest.ResponseRecorder, r *http.Request) {
			if r.Method == http.MethodPost {
				answered(400, orgapi.ProblemContentType, `{"code":"request_invalid"}`)(rec, r)
			}
		}, []string{"lets_in"}},
		"answers may be stored": {func(rec *httptest.ResponseRecorder, _ *http.Request) { rec.Header().Del("Cache-Control") }, []string{"storable"}},
		"calls have no name":    {func(rec *httptest.ResponseRecorder, _ *http.Request) { rec.Header().Del(orgapi.HeaderRequestID) }, []string{"no_request_id"}},
		"version 2": {func(rec *httptest.ResponseRecorder, _ *http.Request) {
			rec.Header().Set(orgapi.HeaderContract, "2.0.0")
		}, []string{"other_contract"}},
		"only the document says its version": {func(rec *httptest.ResponseRecorder, _ *http.Request) { rec.Header().Del(orgapi.HeaderContract) }, []string{"fine"}},
		"no version": {func(rec *httptest.ResponseRecorder, r *http.Request) {
			rec.Header().Del(orgapi.HeaderContract)
			if strings.HasSuffix(r.URL.Path, orgapi.PathOpenAPI) {
				rec.Code = 404
			}
		}, []string{"version_unsaid"}},
	} {
		s.set(func() { s.handlers[backendHost] = altered(real, c.change) })
		t.Run(name, func(t *testing.T) {
			r := finds(t, d, "backend", c.want...)
			if strings.Contains(said(d, []Result{r}, "en"), "one-time") {
				t.Error("an address of the answer is told")
			}
		})
	}
}

func TestNoCallOfTheDoctorCarriesATokenOrNamesAnEncounter(t *testing.T) {
	s := newSite(t)
	d := s.healthy()
	var calls []string
	for _, host := range []string{backendHost, issuerHost, encounterHost} {
		s.set(func() {
			h := s.handlers[host]
			s.handlers[host] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				s.set(func() { calls = append(calls, r.Method+" "+host+r.URL.String()+" "+string(body)) })
				if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
					t.Errorf("%s carries a credential", r.URL)
				}
				h.ServeHTTP(w, r)
			})
		})
	}
	Run(t.Context(), d, nil, nil)
	s.set(func() {
		slices.Sort(calls)
		want := []string{
			"GET backend.hospital.example/launcher/me ", "GET login.hospital.example/realms/staff/.well-known/openid-configuration ",
			"GET login.hospital.example/realms/staff/keys ", "HEAD app.vendor.example/ ", "POST backend.hospital.example/launcher/encounters {}",
		}
		if !slices.Equal(calls, want) {
			t.Errorf("it made the calls %q", calls)
		}
	})
}
