package signin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

func wantCode(t *testing.T, err error, code problem.Code) *problem.Problem {
	t.Helper()
	if !problem.IsCode(err, code) {
		var out strings.Builder
		slog.New(slog.NewTextHandler(&out, nil)).Error("m", "problem", problem.Of(err))
		t.Fatalf("got %v (code %q), want code %q\n%s", err, problem.CodeOf(err), code, out.String())
	}
	var out strings.Builder
	p := problem.Of(err)
	slog.New(slog.NewJSONHandler(&out, nil)).Error("m", "problem", p)
	fmt.Fprintf(&out, "%v %+v %s", err, p, p.Error())
	if text := out.String(); strings.Contains(text, "canary") || strings.Contains(text, "://") {
		t.Errorf("a token, URL or person shows in %s", text)
	}
	return p
}

func wantFailed(t *testing.T, err error, fact string) {
	t.Helper()
	if p := wantCode(t, err, problem.SigninFailed); !strings.Contains(p.Fact, fact) {
		t.Errorf("fact %q, want one with %q", p.Fact, fact)
	}
}

func TestASignInGivesTheGrantAndTellsTheBrowser(t *testing.T) {
	i := newIssuer(t)
	var log bytes.Buffer
	config := configOf(i)
	config.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	g, b, err := signIn(t, i, New(config))
	if err != nil {
		t.Fatal(err)
	}
	if g.Issuer != i.URL || g.ClientID != clientID || g.Subject != plantSub || g.Email != plantMail {
		t.Errorf("%+v", g)
	}
	if !strings.HasPrefix(g.Access.Reveal(), "canary-access-") || !strings.HasPrefix(g.Refresh.Reveal(), "canary-refresh-") {
		t.Error("the tokens are missing")
	}
	if !g.Expiry.Equal(i.clock.Now().Add(10*time.Minute)) || !g.AuthTime.Equal(i.clock.Now()) {
		t.Errorf("expiry %v, auth time %v", g.Expiry, g.AuthTime)
	}
	last := b.last()
	if last.status != http.StatusOK || !strings.Contains(last.body, "You are signed in") {
		t.Errorf("the browser shows %d %s", last.status, last.body)
	}
	if u, _ := url.Parse(last.address); u.Path != "/done" || u.RawQuery != "" {
		t.Errorf("the address bar shows %s", last.address)
	}
	if text := fmt.Sprintf("%v %+v %#v", g, g, g) + log.String(); strings.Contains(text, "canary-") {
		t.Errorf("a token shows in %s", text)
	}
}

func TestTheLastPageIsSelfContainedAndKeptByNobody(t *testing.T) {
	i := newIssuer(t)
	_, b, err := signIn(t, i, New(configOf(i)))
	if err != nil {
		t.Fatal(err)
	}
	b.last()
	for _, v := range b.visits[1:] {
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
			if v.header.Get(name) != want {
				t.Errorf("%d has %s: %q", v.status, name, v.header.Get(name))
			}
		}
		for name := range v.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("other origins are let in by %s", name)
			}
		}
	}
	page := b.last()
	policy := page.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "style-src 'sha256-"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %q", policy, want)
		}
	}
	for _, never := range []string{"unsafe", "script"} {
		if strings.Contains(policy, never) {
			t.Errorf("the policy allows %q", never)
		}
	}
	for _, want := range []string{`<html lang="en">`, "<title>", `<main class="done">`, "<h1>"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for _, never := range []string{"<script", "src=", "href=", "url(", "@import", "http:", "https:", "canary"} {
		if strings.Contains(page.body, never) {
			t.Errorf("the page holds %s", never)
		}
	}
}

func TestTheBrowserIsToldWhenTheSignInFailed(t *testing.T) {
	i := newIssuer(t)
	i.claims = func(c map[string]any) { c["nonce"] = "other" }
	_, b, err := signIn(t, i, New(configOf(i)))
	p := wantCode(t, err, problem.SigninFailed)
	page := b.last()
	for _, want := range []string{p.Row().Sentence, p.Fact, p.Reference, "Try again"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q:\n%s", want, page.body)
		}
	}
}

func TestTheLastPageSpeaksThePersonsLanguageAndTakesNoMarkupFromIt(t *testing.T) {
	i := newIssuer(t)
	config := configOf(i)
	config.Words = Words{
		Language: "fr", Product: "P & Q", SignedIn: "Votre session est ouverte <b>", SignedInNext: "Suite.", Close: "Fermez.", Reference: "Référence",
		Sentence: func(problem.Code) string { return "Échec <i>." },
		Fact:     func(string) string { return "" },
		NextStep: func(problem.Code) string { return "Réessayez." },
	}
	_, b, err := signIn(t, i, New(config))
	if err != nil {
		t.Fatal(err)
	}
	i.claims = func(c map[string]any) { c["nonce"] = "other" }
	_, failed, err := signIn(t, i, New(config))
	p := wantCode(t, err, problem.SigninFailed)
	for page, wants := range map[string][]string{
		b.last().body:      {`<html lang="fr">`, "P &amp; Q", "Votre session est ouverte &lt;b&gt;", "Suite.", "Fermez."},
		failed.last().body: {`<html lang="fr">`, `<main class="problem">`, "Échec &lt;i&gt;.", "Réessayez.", "Fermez.", "Référence", p.Reference},
	} {
		for _, want := range wants {
			if !strings.Contains(page, want) {
				t.Errorf("the page lacks %q:\n%s", want, page)
			}
		}
		for _, never := range []string{"<b>", "<i>", "<p></p>", "signed in", "Try again", "tab"} {
			if strings.Contains(page, never) {
				t.Errorf("the page holds %q:\n%s", never, page)
			}
		}
	}
}

func TestThePageAddressComesWithTheHostsOfTheDiscoveryDocument(t *testing.T) {
	i := newIssuer(t)
	i.document = func(d map[string]any) {
		d["authorization_endpoint"] = "https://Login.Hospital.example:8443/authorize?tenant=1"
		d["end_session_endpoint"] = "https://login.hospital.example/out"
	}
	stop := errors.New("stop")
	var got Page
	_, err := New(configOf(i)).SignIn(t.Context(), func(_ context.Context, p Page) error { got = p; return stop })
	wantCode(t, err, problem.SigninFailed)
	if want := []string{"127.0.0.1", "login.hospital.example"}; !slices.Equal(got.Hosts, want) {
		t.Errorf("hosts %q, want %q", got.Hosts, want)
	}
	u, err := url.Parse(got.Address.Reveal())
	if err != nil || u.String() != got.Address.Reveal() || u.Query().Get("tenant") != "1" || u.Query().Get("state") == "" {
		t.Errorf("address %s", got.Address.Reveal())
	}
	if strings.Contains(fmt.Sprintf("%+v", got), "state=") {
		t.Error("the address prints")
	}
}

func TestPKCEIsVerifiedByTheProvider(t *testing.T) {
	i := newIssuer(t)
	i.redirect = func(url.Values) {
		for _, request := range i.codes {
			request.Set("code_challenge", strings.Repeat("A", 43))
		}
	}
	_, _, err := signIn(t, i, New(configOf(i)))
	wantFailed(t, err, "invalid_grant")
	first := i.lastExchanged().Get("code_verifier")
	i.redirect = nil
	if _, _, err = signIn(t, i, New(configOf(i))); err != nil {
		t.Fatal(err)
	}
	if second := i.lastExchanged().Get("code_verifier"); second == "" || second == first {
		t.Error("every sign-in should have a verifier of its own")
	}
}

func TestAProviderWithoutS256IsRefused(t *testing.T) {
	i := newIssuer(t)
	i.document = func(d map[string]any) { d["code_challenge_methods_supported"] = []string{"plain"} }
	_, _, err := signIn(t, i, New(configOf(i)))
	wantFailed(t, err, "does not support")
}

func TestPromptMaxAgeAndAudienceTravelOnlyWhenConfigured(t *testing.T) {
	for _, c := range []struct {
		what      string
		change    func(*Config)
		authorize url.Values
		exchange  url.Values
	}{
		{"nothing", func(*Config) {}, url.Values{}, url.Values{}},
		{"prompt", func(c *Config) { c.Prompt = "login" }, url.Values{"prompt": {"login"}}, url.Values{}},
		{"max_age", func(c *Config) { c.MaxAge = 90 * time.Minute }, url.Values{"max_age": {"5400"}}, url.Values{}},
		{"max_age 0", func(c *Config) { c.MaxAge = 0 }, url.Values{"max_age": {"0"}}, url.Values{}},
		{"resource", func(c *Config) { c.Audience = "https://backend.example/api" }, url.Values{"resource": {"https://backend.example/api"}}, url.Values{"resource": {"https://backend.example/api"}}},
		{"resource urn", func(c *Config) { c.Audience = "api://org-backend" }, url.Values{"resource": {"api://org-backend"}}, url.Values{"resource": {"api://org-backend"}}},
		{"audience", func(c *Config) { c.Audience = "org-backend" }, url.Values{"audience": {"org-backend"}}, url.Values{}},
		{"fragment", func(c *Config) { c.Audience = "https://backend.example/#a" }, url.Values{"audience": {"https://backend.example/#a"}}, url.Values{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			i := newIssuer(t)
			config := configOf(i)
			c.change(&config)
			client := New(config)
			g, _, err := signIn(t, i, client)
			if err != nil {
				t.Fatal(err)
			}
			optional := []string{"prompt", "max_age", "resource", "audience"}
			check := func(where string, got, want url.Values) {
				for _, name := range optional {
					if got.Has(name) != want.Has(name) || got.Get(name) != want.Get(name) {
						t.Errorf("%s has %s=%q, want %q", where, name, got.Get(name), want.Get(name))
					}
				}
			}
			check("authorization", i.lastAuthorized(), c.authorize)
			check("exchange", i.lastExchanged(), c.exchange)
			if _, err := client.Refresh(t.Context(), g.Refresh); err != nil {
				t.Fatal(err)
			}
			check("refresh", i.lastExchanged(), c.exchange)
		})
	}
}

func TestTheScopesArePolicysOrTheUsualOnes(t *testing.T) {
	i := newIssuer(t)
	config := configOf(i)
	if _, _, err := signIn(t, i, New(config)); err != nil {
		t.Fatal(err)
	}
	if got := i.lastAuthorized().Get("scope"); got != "openid email offline_access" {
		t.Errorf("scope %q", got)
	}
	config.Scopes = []string{"openid", "api.read"}
	if _, _, err := signIn(t, i, New(config)); err != nil {
		t.Fatal(err)
	}
	if got := i.lastAuthorized().Get("scope"); got != "openid api.read" {
		t.Errorf("scope %q", got)
	}
}

func TestMaxAgeIsHeldAgainstTheTimeOfAuthentication(t *testing.T) {
	for what, c := range map[string]struct {
		authTime func(now time.Time) any
		good     bool
	}{
		"just now":             {func(now time.Time) any { return now.Unix() }, true},
		"within":               {func(now time.Time) any { return now.Add(-9 * time.Minute).Unix() }, true},
		"within the skew":      {func(now time.Time) any { return now.Add(-10*time.Minute - 30*time.Second).Unix() }, true},
		"too long ago":         {func(now time.Time) any { return now.Add(-12 * time.Minute).Unix() }, false},
		"in the future":        {func(now time.Time) any { return now.Add(2 * time.Minute).Unix() }, false},
		"not said":             {func(time.Time) any { return nil }, false},
		"not a time":           {func(time.Time) any { return "yesterday" }, false},
		"a time as if by text": {func(now time.Time) any { return strconv.FormatInt(now.Unix(), 10) }, false},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t)
			i.claims = func(m map[string]any) { m["auth_time"] = c.authTime(i.clock.now) }
			config := configOf(i)
			config.MaxAge = 10 * time.Minute
			g, _, err := signIn(t, i, New(config))
			if c.good != (err == nil) {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				wantCode(t, err, problem.SigninFailed)
				if !g.Access.Empty() {
					t.Error("a refused sign-in gave a token")
				}
			}
		})
	}
}

func TestWithoutAuthTimeTheMomentOfTheSignInCounts(t *testing.T) {
	i := newIssuer(t)
	i.claims = func(m map[string]any) { m["auth_time"] = nil }
	g, _, err := signIn(t, i, New(configOf(i)))
	if err != nil || !g.AuthTime.Equal(i.clock.Now()) {
		t.Errorf("auth time %v, %v", g.AuthTime, err)
	}
}

func TestAnIDTokenThatIsNotForThisSignInIsRefused(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claim := func(name string, value any) func(*issuer) {
		return func(i *issuer) { i.claims = func(c map[string]any) { c[name] = value } }
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for what, change := range map[string]func(*issuer){
		"wrong nonce":            claim("nonce", "canary"),
		"no nonce":               claim("nonce", nil),
		"wrong issuer":           claim("iss", "https://canary.example"),
		"no issuer":              claim("iss", nil),
		"issuer with slash":      func(i *issuer) { i.claims = func(c map[string]any) { c["iss"] = i.URL + "/" } },
		"wrong audience":         claim("aud", "canary"),
		"no audience":            claim("aud", nil),
		"two audiences, no azp":  claim("aud", []string{clientID, "canary"}),
		"azp of another program": claim("azp", "canary"),
		"expired":                claim("exp", now.Add(-2*time.Minute).Unix()),
		"no expiry":              claim("exp", nil),
		"not before later":       claim("nbf", now.Add(time.Hour).Unix()),
		"issued later":           claim("iat", now.Add(time.Hour).Unix()),
		"no time of issue":       claim("iat", nil),
		"no subject":             claim("sub", nil),
		"endless subject":        claim("sub", strings.Repeat("s", 256)),
		"control in the subject": claim("sub", "canary\x1b[2J"),
		"bidi in the subject":    claim("sub", "canary\u202e"),
		"wrong at_hash":          claim("at_hash", base64.RawURLEncoding.EncodeToString(make([]byte, 16))),
		"no ID token":            func(i *issuer) { i.answer = func(a map[string]any) { a["id_token"] = nil } },
		"no token at all":        func(i *issuer) { i.sign = func([]byte) string { return "canary" } },
		"alg none": func(i *issuer) {
			i.sign = func(p []byte) string {
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(p) + "."
			}
		},
		"alg none though announced": func(i *issuer) {
			i.document = func(d map[string]any) { d["id_token_signing_alg_values_supported"] = []string{"none", "HS256"} }
			i.sign = func(p []byte) string {
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(p) + "."
			}
		},
		"HMAC with the client id": func(i *issuer) {
			i.document = func(d map[string]any) { d["id_token_signing_alg_values_supported"] = []string{"HS256", "RS256"} }
			i.sign = func(p []byte) string {
				return signedBy(i.t, jose.HS256, []byte(strings.Repeat(clientID, 8)), "k1", p)
			}
		},
		"foreign key":      func(i *issuer) { i.sign = func(p []byte) string { return signedBy(i.t, jose.RS256, other, "k1", p) } },
		"unknown key id":   func(i *issuer) { i.sign = func(p []byte) string { return signedBy(i.t, jose.RS256, other, "k9", p) } },
		"alg not promised": func(i *issuer) { i.sign = func(p []byte) string { return signedBy(i.t, jose.EdDSA, edKey, "k1", p) } },
		"changed payload": func(i *issuer) {
			i.sign = func(p []byte) string {
				parts := strings.Split(signedBy(i.t, jose.RS256, signingKey(), "k1", p), ".")
				parts[1] = base64.RawURLEncoding.EncodeToString(bytes.Replace(p, []byte(plantSub), []byte("sub-2"), 1))
				return strings.Join(parts, ".")
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t)
			change(i)
			g, _, err := signIn(t, i, New(configOf(i)))
			wantCode(t, err, problem.SigninFailed)
			if !g.Access.Empty() || !g.Refresh.Empty() || g.Subject != "" {
				t.Error("a refused sign-in gave something")
			}
		})
	}
}

func TestAnIDTokenMayHaveSeveralAudiencesAndClocksMayDiffer(t *testing.T) {
	for what, change := range map[string]func(map[string]any){
		"azp":        func(c map[string]any) { c["azp"] = clientID },
		"audiences":  func(c map[string]any) { c["aud"] = []string{"other", clientID}; c["azp"] = clientID },
		"no at_hash": func(c map[string]any) { c["at_hash"] = nil },
		"fast clock": func(c map[string]any) {
			c["exp"] = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(-30 * time.Second).Unix()
		},
	} {
		i := newIssuer(t)
		i.claims = change
		if _, _, err := signIn(t, i, New(configOf(i))); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOnlyAVerifiedMailAddressOfTheIDTokenIsShown(t *testing.T) {
	for what, change := range map[string]func(map[string]any){
		"none":             func(c map[string]any) { c["email"] = nil },
		"not verified":     func(c map[string]any) { c["email_verified"] = false },
		"not verified too": func(c map[string]any) { c["email_verified"] = "false" },
		"no address":       func(c map[string]any) { c["email"] = "canary" },
		"bidi":             func(c map[string]any) { c["email"] = "dr\u202e@hospital.example" },
		"too long":         func(c map[string]any) { c["email"] = strings.Repeat("x", 320) + "@hospital.example" },
	} {
		i := newIssuer(t)
		i.claims = change
		g, _, err := signIn(t, i, New(configOf(i)))
		if err != nil || g.Email != "" || g.Subject != plantSub {
			t.Errorf("%s: %q, %v", what, g.Email, err)
		}
		if i.hit("/userinfo") != 0 {
			t.Error("userinfo was asked")
		}
	}
	i := newIssuer(t)
	i.claims = func(c map[string]any) { c["email_verified"] = nil }
	if g, _, err := signIn(t, i, New(configOf(i))); err != nil || g.Email != plantMail {
		t.Errorf("a provider that does not say may be believed: %q, %v", g.Email, err)
	}
}

func TestTheIssuerOfTheAnswerIsChecked(t *testing.T) {
	for what, c := range map[string]struct {
		promised bool
		change   func(url.Values)
		good     bool
	}{
		"promised and right":   {true, nil, true},
		"promised and missing": {true, func(v url.Values) { v.Del("iss") }, false},
		"promised and wrong":   {true, func(v url.Values) { v.Set("iss", "https://canary.example") }, false},
		"wrong with an error": {true, func(v url.Values) {
			v.Set("iss", "https://canary.example")
			v.Del("code")
			v.Set("error", "access_denied")
		}, false},
		"not promised, missing": {false, func(v url.Values) { v.Del("iss") }, true},
		"not promised, right":   {false, nil, true},
		"not promised, wrong":   {false, func(v url.Values) { v.Set("iss", "https://canary.example") }, false},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t)
			i.document = func(d map[string]any) { d["authorization_response_iss_parameter_supported"] = c.promised }
			i.redirect = c.change
			_, _, err := signIn(t, i, New(configOf(i)))
			if c.good {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantFailed(t, err, "does not come from the sign-in service")
			if i.exchanges() != 0 {
				t.Error("the code was sent on")
			}
		})
	}
}

func TestAnErrorOfTheProviderEndsTheWait(t *testing.T) {
	for code, want := range map[string]struct {
		code problem.Code
		fact string
	}{
		"access_denied":             {problem.SigninCancelled, "declined"},
		"server_error":              {problem.SigninFailed, "server_error"},
		"login_required":            {problem.SigninFailed, "login_required"},
		"canary https://canary.com": {problem.SigninFailed, "reported an error"},
	} {
		i := newIssuer(t)
		i.redirect = func(v url.Values) {
			v.Del("code")
			v.Set("error", code)
			v.Set("error_description", "canary description")
		}
		_, b, err := signIn(t, i, New(configOf(i)))
		if p := wantCode(t, err, want.code); !strings.Contains(p.Fact, want.fact) {
			t.Errorf("%s: fact %q", code, p.Fact)
		}
		if page := b.last(); strings.Contains(page.body, "canary") || page.status != http.StatusOK {
			t.Errorf("the page shows the provider's words: %s", page.body)
		}
	}
}

func TestCancellingEndsTheWaitAndFreesThePort(t *testing.T) {
	i := newIssuer(t)
	ctx, cancel := context.WithCancel(t.Context())
	var redirect string
	ended := make(chan struct{})
	_, err := New(configOf(i)).SignIn(ctx, func(ctx context.Context, p Page) error {
		redirect = redirectOf(t, p)
		cancel()
		<-ctx.Done()
		close(ended)
		return nil
	})
	wantCode(t, err, problem.SigninCancelled)
	<-ended
	wantFree(t, redirect)
}

func TestCancellingWhileTheCodeIsExchangedIsACancel(t *testing.T) {
	i := newIssuer(t)
	ctx, cancel := context.WithCancel(t.Context())
	i.setTake("/token", func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
	b := newBrowser(i)
	_, err := New(configOf(i)).SignIn(ctx, b.show)
	wantCode(t, err, problem.SigninCancelled)
	if page := b.last(); !strings.Contains(page.body, "cancelled") {
		t.Errorf("the page says %s", page.body)
	}
}

func TestNobodyWhoSignsInIsATimeout(t *testing.T) {
	i := newIssuer(t)
	config := configOf(i)
	config.Timeout = 200 * time.Millisecond
	var redirect string
	_, err := New(config).SignIn(t.Context(), func(_ context.Context, p Page) error { redirect = redirectOf(t, p); return nil })
	wantFailed(t, err, "before the time was over")
	wantFree(t, redirect)
}

func TestAnAnswerAfterTheComputerSleptTooLongIsATimeout(t *testing.T) {
	i := newIssuer(t)
	b := newBrowser(i)
	_, err := New(configOf(i)).SignIn(t.Context(), func(ctx context.Context, p Page) error {
		i.clock.advance(6 * time.Minute)
		return b.show(ctx, p)
	})
	wantFailed(t, err, "before the time was over")
	if i.exchanges() != 0 {
		t.Error("the code was exchanged")
	}
}

func redirectOf(t *testing.T, p Page) string {
	t.Helper()
	u, err := url.Parse(p.Address.Reveal())
	if err != nil {
		t.Error(err)
		return ""
	}
	return u.Query().Get("redirect_uri")
}

func wantFree(t *testing.T, redirect string) {
	t.Helper()
	u, err := url.Parse(redirect)
	if err != nil || u.Host == "" {
		t.Fatalf("redirect %q", redirect)
	}
	l, err := net.Listen("tcp4", u.Host)
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	_ = l.Close()
}

func taken(t *testing.T) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

func TestThePortsAreTriedInTheirOrder(t *testing.T) {
	i := newIssuer(t)
	_, first := taken(t)
	free, second := taken(t)
	_ = free.Close()
	config := configOf(i)
	config.RedirectPorts = []int{-1, first, second}
	client := New(config)
	for range 2 {
		// The browser never fetches the last page, so that the port still waits to
		// show it when the second sign-in begins.
		if _, err := client.SignIn(t.Context(), func(_ context.Context, p Page) error {
			if got := redirectOf(t, p); got != fmt.Sprintf("http://127.0.0.1:%d/callback", second) {
				t.Errorf("redirect %s", got)
			}
			b := newBrowser(i)
			v, err := b.load(p.Address.Reveal())
			if err != nil {
				return err
			}
			go func() { _, _ = b.load(v.header.Get("Location")) }()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhenEveryPortIsTakenNoPageIsShown(t *testing.T) {
	i := newIssuer(t)
	_, first := taken(t)
	_, second := taken(t)
	config := configOf(i)
	config.RedirectPorts = []int{first, second}
	_, err := New(config).SignIn(t.Context(), func(context.Context, Page) error { t.Error("a page was shown"); return nil })
	wantFailed(t, err, "port")
}

func TestOnlyOneSignInWaitsAtATime(t *testing.T) {
	i := newIssuer(t)
	client := New(configOf(i))
	b := newBrowser(i)
	if _, err := client.SignIn(t.Context(), func(ctx context.Context, p Page) error {
		_, err := client.SignIn(ctx, func(context.Context, Page) error { t.Error("a second page was shown"); return nil })
		wantFailed(t, err, "Another sign-in")
		return b.show(ctx, p)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAPageThatCannotBeShownEndsTheSignIn(t *testing.T) {
	i := newIssuer(t)
	var redirect string
	_, err := New(configOf(i)).SignIn(t.Context(), func(_ context.Context, p Page) error {
		redirect = redirectOf(t, p)
		return fmt.Errorf("opening: %w", problem.New(problem.BrowserUnavailable, nil))
	})
	wantCode(t, err, problem.BrowserUnavailable)
	wantFree(t, redirect)
	_, err = New(configOf(i)).SignIn(t.Context(), func(_ context.Context, p Page) error {
		return errors.New("canary " + p.Address.Reveal())
	})
	wantFailed(t, err, "could not be opened")
}

// stray sends one request to the port by hand, so that nothing is corrected.
func stray(t *testing.T, host, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp4", host)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		return "closed"
	}
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func TestStrayRequestsOnThePortChangeNothing(t *testing.T) {
	i := newIssuer(t)
	b := newBrowser(i)
	g, err := New(configOf(i)).SignIn(t.Context(), func(ctx context.Context, p Page) error {
		u, err := url.Parse(redirectOf(t, p))
		if err != nil {
			return err
		}
		page, err := url.Parse(p.Address.Reveal())
		if err != nil {
			return err
		}
		state, host := page.Query().Get("state"), u.Host
		port := u.Port()
		get := func(target, host string, more ...string) string {
			return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(more, "") + "\r\n"
		}
		right := "/callback?code=c&iss=" + url.QueryEscape(i.URL) + "&state=" + state
		for what, request := range map[string]string{
			"root":                get("/", host),
			"favicon":             get("/favicon.ico", host),
			"done before its end": get("/done", host),
			"other path":          get("/callback/"+right[9:], host),
			"path in capitals":    get("/Callback"+right[9:], host),
			"path encoded":        get("/%63allback"+right[9:], host),
			"double slash":        get("/"+right, host),
			"through a proxy":     get("http://"+host+right, host),
			"POST":                "POST " + right + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 0\r\n\r\n",
			"HEAD":                "HEAD " + right + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
			"OPTIONS":             "OPTIONS " + right + " HTTP/1.1\r\nHost: " + host + "\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Private-Network: true\r\n\r\n",
			"OPTIONS *":           "OPTIONS * HTTP/1.1\r\nHost: " + host + "\r\n\r\n",
			"POST of a form":      "POST /callback HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 13\r\n\r\ncode=c&state=s",
			"other host":          get(right, "evil.example:"+port),
			"host without port":   get(right, "127.0.0.1"),
			"localhost":           get(right, "localhost:"+port),
			"no host":             "GET " + right + " HTTP/1.1\r\n\r\n",
			"old HTTP":            "GET " + right + " HTTP/1.0\r\n\r\n",
			"no query":            get("/callback", host),
			"no state":            get("/callback?code=c", host),
			"wrong state":         get("/callback?code=c&state=wrong", host),
			"half the state":      get("/callback?code=c&state="+state[:len(state)-1], host),
			"empty state":         get("/callback?code=c&state=", host),
			"two states":          get(right+"&state="+state, host),
			"two codes":           get(right+"&code=d", host),
			"code and error":      get(right+"&error=access_denied", host),
			"neither":             get("/callback?state="+state, host),
			"code empty":          get("/callback?code=&state="+state, host),
			"control in the code": get("/callback?code=a%0ab&state="+state, host),
			"code not ASCII":      get("/callback?code=%c3%a9&state="+state, host),
			"endless code":        get("/callback?code="+strings.Repeat("c", maxCodeBytes+1)+"&state="+state, host),
			"semicolon":           get("/callback?code=c;state="+state, host),
			"bad escape":          get("/callback?code=%zz&state="+state, host),
			"error without state": get("/callback?error=access_denied", host),
			"error, wrong state":  get("/callback?error=access_denied&state=x", host),
			"from another origin": get("/callback?code=c&state=x", host, "Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"),
			"huge header":         get(right, "evil.example", "X: "+strings.Repeat("x", 2*maxHeaderBytes)+"\r\n"),
			"no HTTP":             "\x16\x03\x01\x00\r\n\r\n",
		} {
			answer := stray(t, host, request)
			if !strings.HasPrefix(answer, "HTTP/1.1 4") && !strings.HasPrefix(answer, "HTTP/1.0 4") && answer != "closed" && answer != "" {
				t.Errorf("%s was answered with %.60q", what, answer)
			}
			if strings.Contains(answer, "Access-Control-") || strings.Contains(answer, state) {
				t.Errorf("%s was told too much: %q", what, answer)
			}
		}
		var crowd sync.WaitGroup
		for range 200 {
			crowd.Go(func() { stray(t, host, get("/callback?code=c&state=x", host)) })
		}
		crowd.Wait()
		return b.show(ctx, p)
	})
	if err != nil || g.Subject != plantSub {
		t.Fatalf("got %v", err)
	}
	if n := i.exchanges(); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
}

func TestASilentConnectionDoesNotHoldUpTheAnswer(t *testing.T) {
	i := newIssuer(t)
	b := newBrowser(i)
	_, err := New(configOf(i)).SignIn(t.Context(), func(ctx context.Context, p Page) error {
		u, err := url.Parse(redirectOf(t, p))
		if err != nil {
			return err
		}
		for range 20 {
			conn, err := net.Dial("tcp4", u.Host)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
		return b.show(ctx, p)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestConnectionsAreNotKept(t *testing.T) {
	i := newIssuer(t)
	_, b, err := signIn(t, i, New(configOf(i)))
	if err != nil {
		t.Fatal(err)
	}
	b.last()
	for _, v := range b.visits[1:] {
		if !v.closes {
			t.Errorf("the connection of the %d stays open", v.status)
		}
	}
}

func TestASecondCallbackIsNotExchangedAgain(t *testing.T) {
	i := newIssuer(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	i.setTake("/token", func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(entered) })
		<-leave
		i.serveToken(w, r)
	})
	b := newBrowser(i)
	second := make(chan visit, 1)
	_, err := New(configOf(i)).SignIn(t.Context(), func(ctx context.Context, p Page) error {
		page, err := url.Parse(p.Address.Reveal())
		if err != nil {
			return err
		}
		go func() {
			<-entered
			go func() {
				v, _ := b.load(redirectOf(t, p) + "?code=another&state=" + page.Query().Get("state"))
				second <- v
			}()
			close(leave)
		}()
		return b.show(ctx, p)
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := <-second; v.status != http.StatusSeeOther && v.status != 0 {
		t.Errorf("the second callback was answered with %d", v.status)
	}
	if n := i.exchanges(); n != 1 {
		t.Errorf("%d exchanges", n)
	}
}

func TestAProviderThatIsDownIsAskedAgain(t *testing.T) {
	i := newIssuer(t)
	const path = "/.well-known/openid-configuration"
	client := New(configOf(i))
	for what, h := range map[string]http.HandlerFunc{
		"unavailable": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"reset":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		i.setTake(path, h)
		_, err := client.SignIn(t.Context(), func(context.Context, Page) error { t.Error("a page was shown"); return nil })
		wantFailed(t, err, "cannot be reached")
		_, err = client.Refresh(t.Context(), secret.New("canary"))
		wantCode(t, err, problem.OrgUnreachable)
		if t.Failed() {
			t.Fatal(what)
		}
	}
	i.setTake(path, nil)
	asked := i.hit(path)
	for range 2 {
		if _, _, err := signIn(t, i, client); err != nil {
			t.Fatal(err)
		}
	}
	if n := i.hit(path) - asked; n != 1 {
		t.Errorf("asked %d times for two sign-ins, want once", n)
	}
	i.clock.advance(descriptionLife)
	if _, _, err := signIn(t, i, client); err != nil {
		t.Fatal(err)
	}
	if n := i.hit(path) - asked; n != 2 {
		t.Errorf("asked %d times, want again after an hour", n)
	}
}

func TestADiscoveryDocumentThatCannotBeTrustedIsRefused(t *testing.T) {
	set := func(name string, value any) func(*issuer) {
		return func(i *issuer) { i.document = func(d map[string]any) { d[name] = value } }
	}
	raw := func(status int, body string) func(*issuer) {
		return func(i *issuer) {
			i.take["/.well-known/openid-configuration"] = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
			}
		}
	}
	for what, c := range map[string]struct {
		change func(*issuer)
		fact   string
	}{
		"wrong issuer":         {set("issuer", "https://canary.example"), "another"},
		"no issuer":            {set("issuer", ""), "another"},
		"http authorization":   {set("authorization_endpoint", "http://canary.example/a"), "not safe"},
		"http loopback":        {set("authorization_endpoint", "http://127.0.0.1:80/a"), "not safe"},
		"http token":           {set("token_endpoint", "http://canary.example/t"), "not safe"},
		"http keys":            {set("jwks_uri", "http://canary.example/k"), "not safe"},
		"http revocation":      {set("revocation_endpoint", "http://canary.example/r"), "not safe"},
		"http end of session":  {set("end_session_endpoint", "http://canary.example/e"), "not safe"},
		"file":                 {set("authorization_endpoint", "file:///canary"), "not safe"},
		"script":               {set("authorization_endpoint", "javascript:canary"), "not safe"},
		"user in the address":  {set("authorization_endpoint", "https://user@canary.example/a"), "not safe"},
		"fragment":             {set("authorization_endpoint", "https://canary.example/a#b"), "not safe"},
		"quote":                {set("authorization_endpoint", `https://canary.example/a" --evil`), "not safe"},
		"no authorization":     {set("authorization_endpoint", ""), "not safe"},
		"no keys":              {set("jwks_uri", ""), "not safe"},
		"wrong type":           {set("token_endpoint", 7), "cannot be used"},
		"huge":                 {set("canary", strings.Repeat("x", maxAnswerBytes)), "cannot be used"},
		"padded":               {padded, "cannot be used"},
		"no JSON":              {raw(200, "canary"), "cannot be used"},
		"not found":            {raw(404, "canary"), "cannot be used"},
		"redirect":             {func(i *issuer) { i.take["/.well-known/openid-configuration"] = redirectAway }, "cannot be used"},
		"redirect of the keys": {func(i *issuer) { i.take["/keys"] = redirectAway }, "cannot be trusted"},
		"huge keys":            {func(i *issuer) { i.take["/keys"] = huge }, "cannot be trusted"},
		"keys not there":       {func(i *issuer) { i.take["/keys"] = unavailable }, "cannot be reached"},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t)
			c.change(i)
			_, _, err := signIn(t, i, New(configOf(i)))
			wantFailed(t, err, c.fact)
		})
	}
}

// padded serves a good document that is too large only by the spaces behind it.
func padded(i *issuer) {
	i.take["/.well-known/openid-configuration"] = func(w http.ResponseWriter, _ *http.Request) {
		i.serveDocument(w)
		_, _ = io.WriteString(w, strings.Repeat(" ", maxAnswerBytes))
	}
}

func redirectAway(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "https://canary.example/away", http.StatusFound)
}

func huge(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"x":"`+strings.Repeat("x", maxAnswerBytes)+`"}`)
}

func unavailable(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusServiceUnavailable)
}

func TestATokenAnswerThatCannotBeUsedIsRefused(t *testing.T) {
	for what, change := range map[string]func(*issuer){
		"other type of token": func(i *issuer) { i.answer = func(a map[string]any) { a["token_type"] = "DPoP" } },
		"no type of token":    func(i *issuer) { i.answer = func(a map[string]any) { a["token_type"] = nil } },
		"no token":            func(i *issuer) { i.answer = func(a map[string]any) { a["access_token"] = nil } },
		"token with a break":  func(i *issuer) { i.answer = func(a map[string]any) { a["access_token"] = "canary\r\nX: y" } },
		"huge":                func(i *issuer) { i.take["/token"] = huge },
		"redirect":            func(i *issuer) { i.take["/token"] = redirectAway },
		"HTML": func(i *issuer) {
			i.take["/token"] = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<p>canary") }
		},
		"forbidden": func(i *issuer) {
			i.take["/token"] = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusForbidden) }
		},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t)
			change(i)
			g, _, err := signIn(t, i, New(configOf(i)))
			wantCode(t, err, problem.SigninFailed)
			if !g.Access.Empty() {
				t.Error("a token was given")
			}
		})
	}
}

func TestTheLifeOfATokenIsTheProvidersOrAShortOne(t *testing.T) {
	for _, c := range []struct {
		said any
		want time.Duration
	}{{3600, time.Hour}, {nil, defaultLife}, {0, defaultLife}, {-5, defaultLife}, {"60", defaultLife}} {
		i := newIssuer(t)
		i.answer = func(a map[string]any) { a["expires_in"] = c.said }
		g, _, err := signIn(t, i, New(configOf(i)))
		if err != nil || !g.Expiry.Equal(i.clock.Now().Add(c.want)) {
			t.Errorf("%v: %v, %v", c.said, g.Expiry, err)
		}
	}
}

func TestAProviderThatIsNotTrustedIsNeverAsked(t *testing.T) {
	i := newIssuer(t)
	config := configOf(i)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	config.HTTP = &http.Client{Transport: transport}
	client := New(config)
	_, err := client.SignIn(t.Context(), func(context.Context, Page) error { t.Error("a page was shown"); return nil })
	wantCode(t, err, problem.TLSUntrusted)
	_, err = client.Refresh(t.Context(), secret.New("canary"))
	wantCode(t, err, problem.TLSUntrusted)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestProblemsOfTheTransportPassThrough(t *testing.T) {
	i := newIssuer(t)
	for code, want := range map[problem.Code][2]problem.Code{
		problem.TLSUntrusted:    {problem.TLSUntrusted, problem.TLSUntrusted},
		problem.ProxyAuthNeeded: {problem.ProxyAuthNeeded, problem.ProxyAuthNeeded},
		problem.OrgUnreachable:  {problem.SigninFailed, problem.OrgUnreachable},
	} {
		config := configOf(i)
		config.HTTP = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, problem.New(code, nil) })}
		client := New(config)
		_, err := client.SignIn(t.Context(), nil)
		wantCode(t, err, want[0])
		_, err = client.Refresh(t.Context(), secret.New("canary"))
		wantCode(t, err, want[1])
	}
}

func TestAConfigurationThatCannotBeUsedIsThePolicys(t *testing.T) {
	i := newIssuer(t)
	for what, change := range map[string]func(*Config){
		"no issuer":          func(c *Config) { c.Issuer = "" },
		"http issuer":        func(c *Config) { c.Issuer = "http://canary.example" },
		"issuer with query":  func(c *Config) { c.Issuer += "?canary" },
		"issuer with user":   func(c *Config) { c.Issuer = "https://user@canary.example" },
		"http issuer in LAN": func(c *Config) { c.Issuer, c.LoopbackHTTP = "http://192.168.0.1:80", true },
		"http localhost":     func(c *Config) { c.Issuer, c.LoopbackHTTP = "http://localhost:80", true },
		"http without port":  func(c *Config) { c.Issuer, c.LoopbackHTTP = "http://127.0.0.1", true },
		"no client id":       func(c *Config) { c.ClientID = "" },
		"scopes":             func(c *Config) { c.Scopes = []string{"email"} },
	} {
		t.Run(what, func(t *testing.T) {
			config := configOf(i)
			change(&config)
			client := New(config)
			_, err := client.SignIn(t.Context(), func(context.Context, Page) error { t.Error("a page was shown"); return nil })
			wantCode(t, err, problem.PolicyInvalid)
			_, err = client.Refresh(t.Context(), secret.New("canary"))
			wantCode(t, err, problem.PolicyInvalid)
		})
	}
}

func TestTheSandboxMaySignInOverHTTPOnThisComputer(t *testing.T) {
	i := unstarted(t)
	i.Start()
	config := configOf(i)
	_, err := New(config).SignIn(t.Context(), nil)
	wantCode(t, err, problem.PolicyInvalid)
	config.LoopbackHTTP = true
	if _, _, err := signIn(t, i, New(config)); err != nil {
		t.Fatal(err)
	}
}

func TestARefreshGivesTheNextToken(t *testing.T) {
	i := newIssuer(t)
	client := New(configOf(i))
	g, _, err := signIn(t, i, client)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		i.clock.advance(time.Minute)
		next, err := client.Refresh(t.Context(), g.Refresh)
		if err != nil {
			t.Fatal(err)
		}
		if next.Refresh.Equal(g.Refresh) || next.Access.Equal(g.Access) || next.Access.Empty() {
			t.Error("the tokens should be new")
		}
		if next.Issuer != i.URL || next.ClientID != clientID || next.Subject != plantSub || next.Email != plantMail || !next.Expiry.Equal(i.clock.Now().Add(10*time.Minute)) {
			t.Errorf("%+v", next)
		}
		g = next
	}
}

func TestARefreshWithoutRotationKeepsTheOldToken(t *testing.T) {
	i := newIssuer(t)
	client := New(configOf(i))
	g, _, err := signIn(t, i, client)
	if err != nil {
		t.Fatal(err)
	}
	i.answer = func(a map[string]any) { a["refresh_token"], a["id_token"] = nil, nil }
	next, err := client.Refresh(t.Context(), g.Refresh)
	if err != nil || !next.Refresh.Equal(g.Refresh) || next.Subject != "" || next.Email != "" || !next.AuthTime.IsZero() {
		t.Errorf("%+v, %v", next, err)
	}
}

func TestATokenUsedTwiceNeedsANewSignIn(t *testing.T) {
	i := newIssuer(t)
	client := New(configOf(i))
	g, _, err := signIn(t, i, client)
	if err != nil {
		t.Fatal(err)
	}
	next, err := client.Refresh(t.Context(), g.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	for _, spent := range []secret.Text{g.Refresh, next.Refresh, {}} {
		_, err = client.Refresh(t.Context(), spent)
		wantCode(t, err, problem.SigninNeeded)
	}
}

func TestARefreshSaysWhetherThePersonMustSignInAgain(t *testing.T) {
	oauth := func(status int, code string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":"`+code+`","error_description":"canary"}`)
		}
	}
	for what, c := range map[string]struct {
		h    http.HandlerFunc
		want problem.Code
	}{
		"invalid_grant":           {oauth(400, "invalid_grant"), problem.SigninNeeded},
		"interaction_required":    {oauth(400, "interaction_required"), problem.SigninNeeded},
		"invalid_client":          {oauth(401, "invalid_client"), problem.SigninFailed},
		"unknown error":           {oauth(400, "canary"), problem.SigninFailed},
		"500 that names a grant":  {oauth(500, "invalid_grant"), problem.OrgUnreachable},
		"temporarily_unavailable": {oauth(400, "temporarily_unavailable"), problem.OrgUnreachable},
		"503":                     {unavailable, problem.OrgUnreachable},
		"429":                     {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, problem.OrgUnreachable},
		"reset":                   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, problem.OrgUnreachable},
		"403 of a gateway":        {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", 403) }, problem.SigninFailed},
		"redirect":                {redirectAway, problem.SigninFailed},
		"huge":                    {huge, problem.SigninFailed},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t)
			i.setTake("/token", c.h)
			g, err := New(configOf(i)).Refresh(t.Context(), secret.New("canary-refresh"))
			wantCode(t, err, c.want)
			if !g.Access.Empty() || !g.Refresh.Empty() {
				t.Error("a failed refresh gave something")
			}
		})
	}
}

func TestAnIDTokenOfARefreshIsVerifiedToo(t *testing.T) {
	i := newIssuer(t)
	client := New(configOf(i))
	g, _, err := signIn(t, i, client)
	if err != nil {
		t.Fatal(err)
	}
	i.claims = func(c map[string]any) { c["aud"] = "canary" }
	_, err = client.Refresh(t.Context(), g.Refresh)
	wantCode(t, err, problem.SigninFailed)
}

func TestARefreshThatCannotBeVerifiedLosesNoToken(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(*issuer)
		want  problem.Code
	}{
		"keys that are not there":   {func(i *issuer) { i.setTake("/keys", unavailable) }, problem.OrgUnreachable},
		"a clock that is wrong":     {func(i *issuer) { i.claims = func(c map[string]any) { c["exp"] = 1 } }, problem.SigninFailed},
		"an ID token of somebody's": {func(i *issuer) { i.claims = func(c map[string]any) { c["aud"] = "canary" } }, problem.SigninFailed},
	} {
		t.Run(what, func(t *testing.T) {
			i := newIssuer(t)
			g, _, err := signIn(t, i, New(configOf(i)))
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(i)
			client := New(configOf(i)) // which has not seen the keys yet
			kept, err := client.Refresh(t.Context(), g.Refresh)
			wantCode(t, err, c.want)
			if kept.Refresh.Empty() || kept.Refresh.Equal(g.Refresh) || !kept.Access.Empty() || kept.Subject != "" {
				t.Fatal("only the next refresh token should be there")
			}
			i.claims = nil
			i.setTake("/keys", nil)
			if _, err := client.Refresh(t.Context(), kept.Refresh); err != nil {
				t.Errorf("with what was kept: %v", err)
			}
		})
	}
}

func TestCancellingARefreshIsACancel(t *testing.T) {
	i := newIssuer(t)
	ctx, cancel := context.WithCancel(t.Context())
	i.setTake("/token", func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
	_, err := New(configOf(i)).Refresh(ctx, secret.New("canary"))
	wantCode(t, err, problem.Cancelled)
}

func TestSigningOutRevokesWhereTheProviderCan(t *testing.T) {
	i := newIssuer(t)
	client := New(configOf(i))
	if err := client.Revoke(t.Context(), secret.New("canary-refresh")); err != nil {
		t.Fatal(err)
	}
	want := url.Values{"token": {"canary-refresh"}, "token_type_hint": {"refresh_token"}, "client_id": {clientID}}
	if got := i.revocations(); len(got) != 1 || got[0].Encode() != want.Encode() {
		t.Errorf("revoked %v", got)
	}
	if err := client.Revoke(t.Context(), secret.Text{}); err != nil || i.hit("/revoke") != 1 {
		t.Errorf("without a token nothing is asked: %v", err)
	}
	i.setTake("/revoke", unavailable)
	wantCode(t, client.Revoke(t.Context(), secret.New("canary")), problem.OrgUnreachable)
	i.setTake("/revoke", redirectAway)
	wantCode(t, client.Revoke(t.Context(), secret.New("canary")), problem.SigninFailed)

	without := newIssuer(t)
	without.document = func(d map[string]any) { delete(d, "revocation_endpoint") }
	if err := New(configOf(without)).Revoke(t.Context(), secret.New("canary")); err != nil || without.hit("/revoke") != 0 {
		t.Errorf("a provider that cannot revoke: %v", err)
	}
}

func TestTheEndOfTheProvidersSessionIsAPageWithTheIDTokenAndNothingElse(t *testing.T) {
	i := newIssuer(t)
	i.document = func(d map[string]any) { d["end_session_endpoint"] = "https://login.hospital.example/out?tenant=1" }
	client := New(configOf(i))
	hint := secret.New("canary-id-token")
	page, found, err := client.EndSession(t.Context(), hint)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	if want := "https://login.hospital.example/out?client_id=launcher&id_token_hint=canary-id-token&tenant=1"; page.Address.Reveal() != want {
		t.Errorf("address %s", page.Address.Reveal())
	}
	if !slices.Contains(page.Hosts, "login.hospital.example") {
		t.Errorf("hosts %q", page.Hosts)
	}
	if strings.Contains(fmt.Sprintf("%+v", page), "canary") {
		t.Error("the address prints")
	}
	for _, without := range []secret.Text{{}, secret.New(strings.Repeat("x", mostHint+1))} {
		if page, _, err := client.EndSession(t.Context(), without); err != nil || page.Address.Reveal() != "https://login.hospital.example/out?client_id=launcher&tenant=1" {
			t.Errorf("without a hint that fits: %v", err)
		}
	}
	if _, found, err := New(configOf(newIssuer(t))).EndSession(t.Context(), hint); found || err != nil {
		t.Errorf("a provider without such a page: %v, %v", found, err)
	}
	down := newIssuer(t)
	down.setTake("/.well-known/openid-configuration", unavailable)
	_, _, err = New(configOf(down)).EndSession(t.Context(), hint)
	wantCode(t, err, problem.OrgUnreachable)
}

func TestASignInGivesTheIDTokenItself(t *testing.T) {
	i := newIssuer(t)
	client := New(configOf(i))
	g, _, err := signIn(t, i, client)
	if err != nil || strings.Count(g.ID.Reveal(), ".") != 2 || strings.Contains(fmt.Sprintf("%+v", g), g.ID.Reveal()) {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestManyRefreshesAtOnceAskForTheDescriptionOnce(t *testing.T) {
	i := newIssuer(t)
	client := New(configOf(i))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := client.Refresh(t.Context(), secret.New("canary")); !problem.IsCode(err, problem.SigninNeeded) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := i.hit("/.well-known/openid-configuration"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// FuzzCallback: a request on the loopback port is the answer exactly when it is a GET of
// /callback under the port's own address, each parameter there once, with our state and
// either a code or an error, in visible characters; every other gives nothing.
func FuzzCallback(f *testing.F) {
	const host, state = "127.0.0.1:4711", "STATESTATESTATESTATESTATE"
	for _, seed := range [][3]string{
		{"GET", host, "/callback?code=c&state=" + state}, {"GET", host, "/callback?error=access_denied&state=" + state + "&iss=https%3A%2F%2Fidp.example"},
		{"GET", host, "/callback?code=c&state=" + state + "&state=x"}, {"POST", host, "/callback?code=c&state=" + state},
		{"GET", "localhost:4711", "/callback?code=c&state=" + state}, {"GET", host, "/%63allback?code=c&state=" + state}, {"GET", host, "//callback?code=%zz"},
		{"GET", host, "http://" + host + "/callback?code=c&state=" + state}, {"GET", host, "/callback?code=%00&state=" + state}, {"GET", host, "*"},
		{"GET", host, "/callback?code=c&state=" + state + "x"}, {"GET", host, "/callback?code=c&error=x&state=" + state}, {"GET", host, "/callback?code=c&iss=%0a&state=" + state},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, method, requestHost, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // the server answers such a request itself
		}
		r := &http.Request{Method: method, Host: requestHost, URL: u}
		a, status := parseCallback(r, host, state)
		query, decodes := url.ParseQuery(strings.TrimPrefix(target, "/callback?"))
		want := method == "GET" && requestHost == host && strings.HasPrefix(target, "/callback?") && decodes == nil && slices.Equal(query["state"], []string{state})
		for name, most := range map[string]int{"code": maxCodeBytes, "error": 128, "iss": 2048} {
			text := query.Get(name)
			want = want && len(query[name]) <= 1 && len(text) <= most && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
		}
		want = want && (query.Get("code") == "") != (query.Get("error") == "")
		if want != (status == http.StatusOK) || want && (a != authorizationAnswer{query.Get("code"), query.Get("error"), query.Get("iss")}) {
			t.Errorf("%q %q %q: %d, %+v", method, requestHost, target, status, a)
		}
		switch status {
		case http.StatusOK:
			if method != "GET" || requestHost != host || !strings.HasPrefix(target, "/callback?") || !slices.Equal(u.Query()["state"], []string{state}) {
				t.Errorf("accepted %q %q %q", method, requestHost, target)
			}
			if (a.code == "") == (a.failure == "") || len(a.code) > maxCodeBytes {
				t.Errorf("accepted %+v", a)
			}
			for _, r := range a.code + a.failure + a.issuer {
				if r < ' ' || r > '~' {
					t.Errorf("accepted %q", r)
				}
			}
		case http.StatusBadRequest, http.StatusNotFound:
			if a != (authorizationAnswer{}) {
				t.Errorf("a stray request gave %+v", a)
			}
		default:
			t.Errorf("status %d", status)
		}
	})
}

func TestReachAsksTheProviderAnewAndKeepsWhatItKnowsWhenThatFails(t *testing.T) {
	i := newIssuer(t)
	const path = "/.well-known/openid-configuration"
	client := New(configOf(i))
	for range 2 {
		if err := client.Reach(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := i.hit(path); n != 2 {
		t.Errorf("asked %d times, want each time", n)
	}
	i.setTake(path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	wantFailed(t, client.Reach(t.Context()), "cannot be reached")
	i.setTake(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>canary") })
	wantFailed(t, client.Reach(t.Context()), "cannot be used")
	if _, _, err := signIn(t, i, client); err != nil {
		t.Errorf("what was known is lost: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantCode(t, client.Reach(ctx), problem.Cancelled)
}

func TestWhatARefreshNeedsOfTheProviderIsFetchedAheadAndOnce(t *testing.T) {
	i := newIssuer(t)
	_, err := New(configOf(i)).Refresh(t.Context(), secret.New("unknown"))
	if err == nil {
		t.Fatal("a token that was never given is good")
	}
	first := New(configOf(i))
	g, _, err := signIn(t, i, first)
	if err != nil {
		t.Fatal(err)
	}
	documents, keys := i.hit("/.well-known/openid-configuration"), i.hit("/keys")
	asked := make(chan struct{}, 4)
	i.setTake("/keys", func(w http.ResponseWriter, r *http.Request) {
		i.setTake("/keys", nil)
		i.ServeHTTP(w, r)
		asked <- struct{}{}
	})
	next := New(configOf(i)) // another start of the program
	next.Prepare(t.Context())
	<-asked // without a refresh
	next.Prepare(t.Context())
	got, err := next.Refresh(t.Context(), g.Refresh)
	if err != nil || got.Subject != g.Subject {
		t.Fatalf("%+v, %v", got.Subject, err)
	}
	// The one that asked counts twice: it was handed on to the real one.
	if d, k := i.hit("/.well-known/openid-configuration")-documents, i.hit("/keys")-keys; d != 1 || k != 2 {
		t.Errorf("the document was fetched %d times, the keys %d", d, k-1)
	}
}
