package sandbox

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	testBackend  = "http://127.0.0.1:9/backend"
	testRedirect = "http://127.0.0.1:43210/callback"
	testVerifier = "a-verifier-of-at-least-forty-three-characters-0123456789"
)

// testIssuer is a real issuer behind a real listener, with a clock to move.
type testIssuer struct {
	*testing.T
	*issuer
	url  string
	http *http.Client

	mu  sync.Mutex
	now time.Time
}

func (i *testIssuer) clock() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now
}

func (i *testIssuer) advance(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = i.now.Add(d)
}

func startIssuer(t *testing.T) *testIssuer {
	t.Helper()
	i := &testIssuer{T: t, now: time.Now()}
	server := httptest.NewUnstartedServer(nil)
	i.url = originOf(server.Listener)
	var err error
	if i.issuer, err = newIssuer(i.url, builtInClientID, testBackend, i.clock); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = i.issuer
	server.Start()
	t.Cleanup(server.Close)
	i.http = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return i
}

func challenge() string {
	sum := sha256.Sum256([]byte(testVerifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func authorize() url.Values {
	return url.Values{
		"client_id": {builtInClientID}, "redirect_uri": {testRedirect}, "response_type": {"code"},
		"scope": {"openid email profile offline_access"}, "state": {"st"}, "nonce": {"no"},
		"code_challenge": {challenge()}, "code_challenge_method": {"S256"}, "resource": {testBackend},
	}
}

func (i *testIssuer) get(address string) (*http.Response, string) {
	i.Helper()
	response, err := i.http.Get(address)
	if err != nil {
		i.Fatal(err)
	}
	return response, read(i.T, response)
}

func (i *testIssuer) post(path string, form url.Values) (*http.Response, string) {
	i.Helper()
	response, err := i.http.PostForm(i.url+path, form)
	if err != nil {
		i.Fatal(err)
	}
	return response, read(i.T, response)
}

func read(t *testing.T, response *http.Response) string {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// signInPage sends an authorisation request and returns the id of the form.
func (i *testIssuer) signInPage(request url.Values) string {
	i.Helper()
	response, body := i.get(i.url + "/authorize?" + request.Encode())
	if response.StatusCode != http.StatusFound {
		i.Fatalf("authorize: %d %s", response.StatusCode, body)
	}
	page, body := i.get(i.url + response.Header.Get("Location"))
	_, rest, _ := strings.Cut(body, `name="request" value="`)
	id, _, found := strings.Cut(rest, `"`)
	if page.StatusCode != http.StatusOK || !found {
		i.Fatalf("sign-in page: %d %s", page.StatusCode, body)
	}
	return id
}

// choose presses a button of the sign-in page and returns what the launcher's
// loopback port is sent.
func (i *testIssuer) choose(id, person string) url.Values {
	i.Helper()
	response, body := i.post("/sign-in", url.Values{"request": {id}, "clinician": {person}})
	location := response.Header.Get("Location")
	if response.StatusCode == http.StatusSeeOther {
		response, body = i.get(location)
		location = response.Header.Get("Location")
	}
	back, err := url.Parse(location)
	if err != nil || response.StatusCode != http.StatusFound || !strings.HasPrefix(location, testRedirect+"?") {
		i.Fatalf("the way back: %d %q %s", response.StatusCode, location, body)
	}
	return back.Query()
}

func (i *testIssuer) code(person string) string {
	i.Helper()
	back := i.choose(i.signInPage(authorize()), person)
	if back.Get("state") != "st" || back.Get("code") == "" {
		i.Fatalf("back: %v", back)
	}
	return back.Get("code")
}

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	Expires int    `json:"expires_in"`
	Error   string `json:"error"`
}

func (i *testIssuer) token(form url.Values) (int, tokens) {
	i.Helper()
	form.Set("client_id", builtInClientID)
	response, body := i.post("/oauth/token", form)
	var t tokens
	if err := json.Unmarshal([]byte(body), &t); err != nil {
		i.Fatalf("token answer: %s", body)
	}
	return response.StatusCode, t
}

func redeem(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {testRedirect}, "code_verifier": {testVerifier}}
}

func refreshWith(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

func (i *testIssuer) signIn(person string) tokens {
	i.Helper()
	status, t := i.token(redeem(i.code(person)))
	if status != http.StatusOK || t.Access == "" || t.Refresh == "" || t.ID == "" {
		i.Fatalf("token: %d %s", status, t.Error)
	}
	return t
}

// claims verifies a JWT with the published keys and returns its claims.
func (i *testIssuer) claims(token string) map[string]any {
	i.Helper()
	_, body := i.get(i.url + "/keys")
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(body), &keys); err != nil {
		i.Fatal(err)
	}
	jws, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		i.Fatal(err)
	}
	payload, err := jws.Verify(keys.Keys[0])
	if err != nil {
		i.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		i.Fatal(err)
	}
	return claims
}

func audience(claims map[string]any) []string {
	switch aud := claims["aud"].(type) {
	case string:
		return []string{aud}
	case []any:
		var out []string
		for _, a := range aud {
			out = append(out, a.(string))
		}
		return out
	}
	return nil
}

func TestEachClinicianSignsInAndBothTokensSayWho(t *testing.T) {
	i := startIssuer(t)
	for _, c := range clinicians() {
		got := i.signIn(c.Key)
		for name, token := range map[string]string{"access": got.Access, "ID": got.ID} {
			claims := i.claims(token)
			if claims["sub"] != c.subject() || claims["email"] != c.Email || claims[claimProviderID] != c.ProviderID || claims["iss"] != i.url {
				t.Errorf("%s token of %s: %v", name, c.Key, claims)
			}
		}
		if nonce := i.claims(got.ID)["nonce"]; nonce != "no" {
			t.Errorf("nonce %v", nonce)
		}
	}
}

func TestOnlyTheAccessTokenIsForTheBackend(t *testing.T) {
	i := startIssuer(t)
	first := i.signIn("ada")
	status, second := i.token(refreshWith(first.Refresh))
	if status != http.StatusOK {
		t.Fatal(second.Error)
	}
	for _, got := range []tokens{first, second} {
		if aud := audience(i.claims(got.Access)); !slices.Equal(aud, []string{testBackend}) {
			t.Errorf("the access token is for %v", aud)
		}
		if aud := audience(i.claims(got.ID)); !slices.Equal(aud, []string{builtInClientID}) {
			t.Errorf("the ID token is for %v", aud)
		}
	}
}

func TestAWrongVerifierGetsNothingAndSpendsTheCode(t *testing.T) {
	i := startIssuer(t)
	code := i.code("ada")
	wrong := redeem(code)
	wrong.Set("code_verifier", strings.Repeat("x", 50))
	if status, got := i.token(wrong); status != http.StatusBadRequest || got.Access != "" || got.Error != "invalid_grant" {
		t.Errorf("wrong verifier: %d %+v", status, got)
	}
	if status, got := i.token(redeem(code)); status != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("the code after that: %d %+v", status, got)
	}
}

func TestACodeUsedTwiceTakesBackWhatItGave(t *testing.T) {
	i := startIssuer(t)
	code := i.code("ada")
	_, first := i.token(redeem(code))
	if status, got := i.token(redeem(code)); status != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("second redemption: %d %+v", status, got)
	}
	if status, got := i.token(refreshWith(first.Refresh)); status != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("the first redemption's refresh token: %d %+v", status, got)
	}
}

func TestACodeExpires(t *testing.T) {
	i := startIssuer(t)
	code := i.code("ada")
	i.advance(codeLife + time.Second)
	if status, got := i.token(redeem(code)); status != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("%d %+v", status, got)
	}
}

func TestARefreshTokenRotatesAndItsReuseEndsTheSignIn(t *testing.T) {
	i := startIssuer(t)
	old := i.signIn("ada").Refresh
	bystander := i.signIn("ben").Refresh
	status, next := i.token(refreshWith(old))
	if status != http.StatusOK || next.Refresh == "" || next.Refresh == old {
		t.Fatalf("refresh: %d %+v", status, next)
	}
	if status, got := i.token(refreshWith(old)); status != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("reuse: %d %+v", status, got)
	}
	if status, got := i.token(refreshWith(next.Refresh)); status != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("after reuse the whole sign-in must be over: %d %+v", status, got)
	}
	if status, _ := i.token(refreshWith(bystander)); status != http.StatusOK {
		t.Errorf("another person's sign-in: %d", status)
	}
}

func TestOfManyRefreshesWithOneTokenExactlyOneSucceeds(t *testing.T) {
	i := startIssuer(t)
	token := i.signIn("ada").Refresh
	const racers = 8
	statuses := make(chan int, racers)
	for range racers {
		go func() {
			form := refreshWith(token)
			form.Set("client_id", builtInClientID)
			response, err := i.http.PostForm(i.url+"/oauth/token", form)
			if err != nil {
				statuses <- 0
				return
			}
			_ = response.Body.Close()
			statuses <- response.StatusCode
		}()
	}
	won := 0
	for range racers {
		if <-statuses == http.StatusOK {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d succeeded", won)
	}
	if n := i.liveSignIns(); n != 0 {
		t.Errorf("%d sign-ins live on after a reuse", n)
	}
}

func TestARevokedSignInCannotBeRefreshed(t *testing.T) {
	i := startIssuer(t)
	token := i.signIn("ada").Refresh
	if n := i.liveSignIns(); n != 1 {
		t.Fatalf("%d live", n)
	}
	response, _ := i.post("/revoke", url.Values{"token": {token}, "token_type_hint": {"refresh_token"}, "client_id": {builtInClientID}})
	if response.StatusCode != http.StatusOK || i.liveSignIns() != 0 {
		t.Errorf("revoke: %d, %d live", response.StatusCode, i.liveSignIns())
	}
	if status, got := i.token(refreshWith(token)); status != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("%d %+v", status, got)
	}
}

func TestEndingTheSessionEndsTheSignIn(t *testing.T) {
	i := startIssuer(t)
	got := i.signIn("ada")
	response, _ := i.get(i.url + "/end_session?id_token_hint=" + got.ID)
	if response.StatusCode != http.StatusFound || i.liveSignIns() != 0 {
		t.Errorf("end_session: %d, %d live", response.StatusCode, i.liveSignIns())
	}
	if page, body := i.get(response.Header.Get("Location")); page.StatusCode != http.StatusOK || !strings.Contains(body, "Signed out") {
		t.Errorf("after that: %d", page.StatusCode)
	}
}

func TestARefreshTokenExpires(t *testing.T) {
	i := startIssuer(t)
	token := i.signIn("ada").Refresh
	i.advance(refreshLife + time.Second)
	if status, got := i.token(refreshWith(token)); status != http.StatusBadRequest || got.Error != "invalid_grant" {
		t.Errorf("%d %+v", status, got)
	}
}

func TestTheRedirectIsLoopbackOnAnyPortAndNothingElse(t *testing.T) {
	i := startIssuer(t)
	for address, want := range map[string]bool{
		"http://127.0.0.1:1/callback":        true,
		"http://127.0.0.1:65535/callback":    true,
		"http://127.0.0.1:65535/other":       false,
		"https://evil.example/callback":      false,
		"http://127.0.0.1.evil.example/cb":   false,
		"encounter-launcher-demo://callback": false,
	} {
		request := authorize()
		request.Set("redirect_uri", address)
		response, _ := i.get(i.url + "/authorize?" + request.Encode())
		if got := response.StatusCode == http.StatusFound; got != want {
			t.Errorf("%s: %d", address, response.StatusCode)
		}
	}
}

func TestARequestWithoutS256OrForAnotherClientIsRefused(t *testing.T) {
	i := startIssuer(t)
	change := map[string]func(url.Values){
		"no challenge":    func(v url.Values) { v.Del("code_challenge"); v.Del("code_challenge_method") },
		"plain":           func(v url.Values) { v.Set("code_challenge_method", "plain") },
		"implicit":        func(v url.Values) { v.Set("response_type", "id_token token") },
		"no page allowed": func(v url.Values) { v.Set("prompt", "none") },
	}
	for name, f := range change {
		request := authorize()
		f(request)
		response, _ := i.get(i.url + "/authorize?" + request.Encode())
		location, _ := url.Parse(response.Header.Get("Location"))
		if response.StatusCode != http.StatusFound || !strings.HasPrefix(location.String(), testRedirect) ||
			!strings.Contains(location.RawQuery+location.Fragment, "error=") {
			t.Errorf("%s: %d %s", name, response.StatusCode, location)
		}
	}
	request := authorize()
	request.Set("client_id", "somebody-else")
	if response, _ := i.get(i.url + "/authorize?" + request.Encode()); response.StatusCode != http.StatusBadRequest {
		t.Errorf("another client: %d", response.StatusCode)
	}
}

func TestCancelOnTheSignInPageIsTheIssuersAccessDenied(t *testing.T) {
	i := startIssuer(t)
	id := i.signInPage(authorize())
	if back := i.choose(id, ""); back.Get("error") != "access_denied" || back.Get("state") != "st" || back.Get("code") != "" {
		t.Errorf("back: %v", back)
	}
	if response, _ := i.post("/sign-in", url.Values{"request": {id}, "clinician": {"ada"}}); response.StatusCode != http.StatusNotFound {
		t.Errorf("a cancelled sign-in goes on: %d", response.StatusCode)
	}
}

func TestASignInThatNobodyChoseGivesNoCode(t *testing.T) {
	i := startIssuer(t)
	id := i.signInPage(authorize())
	response, _ := i.get(i.url + "/authorize/callback?id=" + id)
	location, _ := url.Parse(response.Header.Get("Location"))
	if location == nil || location.Query().Get("code") != "" || location.Query().Get("error") == "" {
		t.Errorf("%d %v", response.StatusCode, location)
	}
	if response, _ := i.post("/sign-in", url.Values{"request": {id}, "clinician": {"mallory"}}); response.StatusCode != http.StatusBadRequest {
		t.Errorf("somebody unknown: %d", response.StatusCode)
	}
}

func TestASignInPageGrowsOld(t *testing.T) {
	i := startIssuer(t)
	id := i.signInPage(authorize())
	i.advance(signInLife + time.Second)
	if response, _ := i.get(i.url + "/sign-in?request=" + id); response.StatusCode != http.StatusNotFound {
		t.Errorf("page: %d", response.StatusCode)
	}
}

func TestTheSignInPageHasOneButtonPerClinicianAndSaysItIsASandbox(t *testing.T) {
	i := startIssuer(t)
	response, body := i.get(i.url + "/sign-in?request=" + i.signInPage(authorize()))
	for _, c := range clinicians() {
		if strings.Count(body, `name="clinician" value="`+c.Key+`"`) != 1 || !strings.Contains(body, "Sign in as "+c.Name) {
			t.Errorf("no button for %s", c.Name)
		}
	}
	if !strings.Contains(body, "Sandbox") || strings.Contains(body, "<script") || strings.Contains(body, `type="password"`) {
		t.Error("the page does not say what it is, or asks for more than it should")
	}
	csp := response.Header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "form-action 'self' http://127.0.0.1:*") {
		t.Errorf("CSP %q", csp)
	}
}

func TestDiscoveryNamesTheEndpointsThatExist(t *testing.T) {
	i := startIssuer(t)
	_, body := i.get(i.url + "/.well-known/openid-configuration")
	var d struct {
		Issuer     string   `json:"issuer"`
		Auth       string   `json:"authorization_endpoint"`
		Token      string   `json:"token_endpoint"`
		Revocation string   `json:"revocation_endpoint"`
		EndSession string   `json:"end_session_endpoint"`
		Keys       string   `json:"jwks_uri"`
		PKCE       []string `json:"code_challenge_methods_supported"`
	}
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	if d.Issuer != i.url || !slices.Equal(d.PKCE, []string{"S256"}) {
		t.Errorf("%+v", d)
	}
	for _, endpoint := range []string{d.Auth, d.Token, d.Revocation, d.EndSession, d.Keys} {
		if !strings.HasPrefix(endpoint, i.url+"/") {
			t.Errorf("endpoint %q", endpoint)
		}
	}
}
