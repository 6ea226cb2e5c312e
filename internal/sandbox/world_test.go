package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"encounterlauncher/internal/orgapi"
)

// testWorld is the whole of the sandbox but for the launcher, on real listeners.
type testWorld struct {
	*testing.T
	*world
	mu    sync.Mutex
	lines []string
}

func (w *testWorld) printed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.lines, "\n")
}

const testScheme = "encounter-launcher-demo"

func startWorld(t *testing.T) *testWorld {
	t.Helper()
	w := &testWorld{T: t}
	var err error
	w.world, err = build(t.Context(), Options{}, places{t.TempDir()}, testScheme, func(line string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lines = append(w.lines, line)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

// token signs a clinician in as the launcher does and returns the access token.
func (w *testWorld) token(person string) string {
	w.Helper()
	i := &testIssuer{T: w.T, issuer: w.issuer, url: w.issuerURL, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return i.signIn(person).Access
}

func (w *testWorld) pressButton(button, doctor string, change func(*http.Request)) (int, string) {
	w.Helper()
	request, err := http.NewRequestWithContext(w.Context(), http.MethodPost, w.ehrURL+"/press/"+button, strings.NewReader(`{"clinician":"`+doctor+`"}`))
	if err != nil {
		w.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Origin", w.ehrURL)
	if change != nil {
		change(request)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.Fatal(err)
	}
	body := read(w.T, response)
	var answer pressAnswer
	_ = json.Unmarshal([]byte(body), &answer)
	return response.StatusCode, answer.Link
}

// launch calls the backend as the launcher does.
func (w *testWorld) launch(path, token string, body any) (status int, address, code string) {
	w.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		w.Fatal(err)
	}
	request, err := http.NewRequestWithContext(w.Context(), http.MethodPost, w.backendURL+path, bytes.NewReader(data))
	if err != nil {
		w.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set(orgapi.HeaderIdempotencyKey, randomText())
	request.Header.Set(orgapi.HeaderRequestID, randomText())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.Fatal(err)
	}
	var answer struct {
		URL  string `json:"encounter_url"`
		Code string `json:"code"`
	}
	_ = json.Unmarshal([]byte(read(w.T, response)), &answer)
	return response.StatusCode, answer.URL, answer.Code
}

func handleOf(t *testing.T, link string) string {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil || u.Scheme != testScheme || u.Host != "launch" || u.Query().Get("handle") == "" {
		t.Fatalf("not a link with a handle (error %v)", err)
	}
	return u.Query().Get("handle")
}

func TestAPressBecomesTheRightEncounterPageForTheRightClinician(t *testing.T) {
	w := startWorld(t)
	token := w.token("ada")
	for _, p := range patients() {
		status, link := w.pressButton(p.Button, "ada", nil)
		if status != http.StatusOK {
			t.Fatalf("press %s: %d", p.Button, status)
		}
		status, address, code := w.launch(orgapi.PathEncounters, token, orgapi.CreateRequest{Handle: handleOf(t, link)})
		if status != http.StatusOK {
			t.Fatalf("encounter: %d %s", status, code)
		}
		response, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		page := read(t, response)
		if !strings.Contains(page, "SBX-ENC-ADA-"+p.Button) || !strings.Contains(page, "ada.moreau@hospital.example") {
			t.Errorf("the page of patient %s: %s", p.Button, page)
		}
	}
}

func TestEveryPressMintsAFreshLinkAndShowingThePageMintsNone(t *testing.T) {
	w := startWorld(t)
	for range 3 {
		response, err := http.Get(w.ehrURL + "/")
		if err != nil {
			t.Fatal(err)
		}
		page := read(t, response)
		if response.StatusCode != http.StatusOK || strings.Contains(page, testScheme+":") || strings.Contains(page, "handle=") {
			t.Fatalf("the page: %d", response.StatusCode)
		}
	}
	if response, err := http.Get(w.ehrURL + "/press/1"); err != nil || response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET of a press: %v %v", response, err)
	}
	if rows := w.timeline.shown(); len(rows) != 0 {
		t.Errorf("showing the page made %d launches", len(rows))
	}
	seen := map[string]bool{}
	for range 3 {
		_, link := w.pressButton("1", "ada", nil)
		if seen[handleOf(t, link)] {
			t.Error("one handle twice")
		}
		seen[handleOf(t, link)] = true
	}
}

func TestTheStaleLinkIsARealHandleThatHasExpiredAndHarmsNoOther(t *testing.T) {
	w := startWorld(t)
	token := w.token("ada")
	_, good := w.pressButton("1", "ada", nil)
	_, stale := w.pressButton(buttonStale, "ada", nil)
	if status, _, code := w.launch(orgapi.PathEncounters, token, orgapi.CreateRequest{Handle: handleOf(t, stale)}); status != http.StatusGone || code != "handle_expired" {
		t.Errorf("stale: %d %s", status, code)
	}
	if status, _, code := w.launch(orgapi.PathEncounters, token, orgapi.CreateRequest{Handle: handleOf(t, good)}); status != http.StatusOK {
		t.Errorf("a link from before: %d %s", status, code)
	}
	_, after := w.pressButton("2", "ada", nil)
	if status, _, code := w.launch(orgapi.PathEncounters, token, orgapi.CreateRequest{Handle: handleOf(t, after)}); status != http.StatusOK {
		t.Errorf("a link from after: %d %s", status, code)
	}
}

func TestStaleAndGoodPressesAtOnceNeverMixTheirTimes(t *testing.T) {
	w := startWorld(t)
	token := w.token("ada")
	type pressed struct{ button, link string }
	links := make(chan pressed, 12)
	for n := range 12 {
		button := []string{"1", buttonStale}[n%2]
		go func() {
			_, link := w.pressButton(button, "ada", nil)
			links <- pressed{button, link}
		}()
	}
	for range 12 {
		p := <-links
		status, _, code := w.launch(orgapi.PathEncounters, token, orgapi.CreateRequest{Handle: handleOf(t, p.link)})
		if want := map[string]int{"1": http.StatusOK, buttonStale: http.StatusGone}[p.button]; status != want {
			t.Errorf("button %s: %d %s", p.button, status, code)
		}
	}
}

func TestAForgedLinkIsRefused(t *testing.T) {
	w := startWorld(t)
	_, link := w.pressButton(buttonForged, "ada", nil)
	if status, _, code := w.launch(orgapi.PathEncounters, w.token("ada"), orgapi.CreateRequest{Handle: handleOf(t, link)}); status != http.StatusGone || code != "handle_expired" {
		t.Errorf("%d %s", status, code)
	}
}

func TestAnotherCliniciansPressIsRefusedAndDoesNotSpendTheHandle(t *testing.T) {
	w := startWorld(t)
	_, link := w.pressButton("1", "ada", nil)
	request := orgapi.CreateRequest{Handle: handleOf(t, link)}
	if status, _, code := w.launch(orgapi.PathEncounters, w.token("ben"), request); status != http.StatusForbidden || code != "provider_mismatch" {
		t.Errorf("Dr. Okafor: %d %s", status, code)
	}
	if status, _, code := w.launch(orgapi.PathEncounters, w.token("ada"), request); status != http.StatusOK {
		t.Errorf("Dr. Moreau after that: %d %s", status, code)
	}
}

// noteExported presses “Export note” and returns the status.
func (w *testWorld) noteExported(button, doctor string, change func(*http.Request)) int {
	w.Helper()
	status, _ := w.pressButton("", doctor, func(r *http.Request) {
		r.URL.Path = "/exported/" + button
		if change != nil {
			change(r)
		}
	})
	return status
}

func TestANoteExportedReachesTheClinicianWhoOpenedTheEncounter(t *testing.T) {
	w := startWorld(t)
	token := w.token("ada")
	if status := w.noteExported("1", "ada", nil); status != http.StatusConflict {
		t.Errorf("before it was opened: %d", status)
	}
	_, link := w.pressButton("1", "ada", nil)
	_, address, _ := w.launch(orgapi.PathEncounters, token, orgapi.CreateRequest{Handle: handleOf(t, link)})
	if _, err := http.Get(address); err != nil {
		t.Fatal(err)
	}
	for name, status := range map[string]int{
		"another clinician's": w.noteExported("1", "ben", nil), "not opened": w.noteExported("2", "ada", nil),
	} {
		if status != http.StatusConflict {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status := w.noteExported("9", "ada", nil); status != http.StatusNotFound {
		t.Errorf("nobody's: %d", status)
	}
	if status := w.noteExported("1", "ada", func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }); status != http.StatusForbidden {
		t.Errorf("from elsewhere: %d", status)
	}
	if status := w.noteExported("1", "ada", nil); status != http.StatusNoContent {
		t.Fatalf("exported: %d", status)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.backendURL+orgapi.PathEvents, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for in := bufio.NewScanner(response.Body); in.Scan(); {
		if data, ok := strings.CutPrefix(in.Text(), "data: "); ok {
			if !strings.Contains(data, `"SBX-ENC-ADA-1"`) || !strings.Contains(data, `"SBX-PROV-ADA"`) {
				t.Errorf("told %s", data)
			}
			return
		}
	}
	t.Error("nothing was told")
}

func TestAPageElsewhereCannotPressAButton(t *testing.T) {
	w := startWorld(t)
	for name, change := range map[string]func(*http.Request){
		"another origin": func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"opaque origin":  func(r *http.Request) { r.Header.Set("Origin", "null") },
		"a form":         func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") },
		"another host":   func(r *http.Request) { r.Host = "evil.example" },
	} {
		if status, link := w.pressButton("1", "ada", change); status < 400 || link != "" {
			t.Errorf("%s: %d", name, status)
		}
	}
	for _, doctor := range []string{"", "mallory", `ada","x":"`} {
		if status, link := w.pressButton("1", doctor, nil); status != http.StatusBadRequest || link != "" {
			t.Errorf("doctor %q: %d", doctor, status)
		}
	}
	if status, _ := w.pressButton("4", "ada", nil); status != http.StatusNotFound {
		t.Errorf("a button that is not there: %d", status)
	}
	if rows := w.timeline.shown(); len(rows) != 0 {
		t.Errorf("%d launches", len(rows))
	}
}

func TestTheEHRPageHasRealButtonsItsOwnScriptOnlyAndSaysItIsASandbox(t *testing.T) {
	w := startWorld(t)
	response, err := http.Get(w.ehrURL + "/")
	if err != nil {
		t.Fatal(err)
	}
	page, csp := read(t, response), response.Header.Get("Content-Security-Policy")
	_, rest, _ := strings.Cut(csp, "script-src 'nonce-")
	nonce, _, _ := strings.Cut(rest, "'")
	if nonce == "" || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") || !strings.Contains(page, `<script nonce="`+nonce+`">`) {
		t.Errorf("CSP %q", csp)
	}
	for _, attribute := range []string{" onclick=", " style=", "href=\"http", "src=\"http"} {
		if strings.Contains(page, attribute) {
			t.Errorf("the page has %q", attribute)
		}
	}
	for _, p := range patients() {
		if !strings.Contains(page, `data-button="`+p.Button+`" aria-label="Open encounter of `) {
			t.Errorf("no button for patient %s", p.Button)
		}
	}
	if !strings.Contains(page, "Sandbox") || !strings.Contains(page, "invented patients") {
		t.Error("the page does not say what it is")
	}
}

func TestTheTimelineShowsEveryStepAndNothingOfTheLink(t *testing.T) {
	w := startWorld(t)
	token := w.token("ada")
	_, link := w.pressButton("1", "ada", nil)
	handle := handleOf(t, link)
	_, address, _ := w.launch(orgapi.PathEncounters, token, orgapi.CreateRequest{Handle: handle})
	if _, err := http.Get(address); err != nil {
		t.Fatal(err)
	}
	w.timeline.reported(&launchReport{ID: "L1", Stage: "opened", MS: map[string]int64{"received": 0, "creating": 1, "opening": 4, "opened": 5}})
	_, address2, _ := w.launch(orgapi.PathEncounterURL, token, orgapi.ReopenRequest{ExternalProviderID: "SBX-PROV-ADA", ExternalEncounterID: "SBX-ENC-ADA-1"})
	if _, err := http.Get(address2); err != nil {
		t.Fatal(err)
	}
	w.timeline.reported(&launchReport{ID: "L2", Stage: "opened", MS: map[string]int64{"opened": 3}})

	rows := w.timeline.shown()
	if len(rows) != 2 || rows[1].What != "patient 1" || rows[0].What != "recent encounter" {
		t.Fatalf("rows: %+v", rows)
	}
	for _, step := range []string{stepLink, stepAsked, stepCreated, stepURL, stepPage} {
		if _, ok := rows[1].Steps[step]; !ok {
			t.Errorf("no step %q", step)
		}
	}
	if rows[1].Agent["opening"] != 4 || rows[1].Result != "opened" || !rows[1].Over || !rows[0].Over {
		t.Errorf("%+v", rows)
	}
	data, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	all := w.printed() + string(data)
	if strings.Count(w.printed(), "\n") != 1 {
		t.Errorf("printed:\n%s", w.printed())
	}
	for _, secret := range []string{handle, address, address2, "://", "SBX-", token, "Samplewell", "moreau"} {
		if strings.Contains(all, secret) {
			t.Errorf("the timeline holds %q", secret)
		}
	}
}

func TestOnlyTheSandboxesOwnNamesAreServed(t *testing.T) {
	w := startWorld(t)
	for _, origin := range []string{w.ehrURL, w.issuerURL, w.backendURL, w.nablaURL} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, origin+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "rebound.example"
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusMisdirectedRequest || !strings.HasPrefix(origin, "http://127.0.0.1:") {
			t.Errorf("%s: %d", origin, response.StatusCode)
		}
	}
}

func TestTheWorldsSecretsAreForThisUserOnly(t *testing.T) {
	dir := t.TempDir()
	w, err := build(t.Context(), Options{}, places{dir}, testScheme, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 {
		t.Fatalf("files: %v %v", files, err)
	}
	for _, f := range files {
		info, err := os.Stat(filepath.Join(dir, f.Name()))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f.Name(), info.Mode(), err)
		}
	}
}
