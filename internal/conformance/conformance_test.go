package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
)

// unlimited lets the suite call as fast as it can.
var unlimited = orgconfig.Limits{PersonPerMinute: 1_000_000, EHRPerMinute: 1_000_000}

// never is a clock in which nothing that is waited for comes.
func never(time.Duration) <-chan time.Time { return nil }

// atLast is one in which only the longest silence passes, at once.
func atLast(d time.Duration) <-chan time.Time {
	if d != silence {
		return nil
	}
	return passed(d)
}

// passed is one in which everything has passed.
func passed(time.Duration) <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

func TestTheReferenceBackendKeepsTheContract(t *testing.T) {
	w := newBackend(t, unlimited)
	w.become(soonAlive)
	results, err := Run(t.Context(), w.config, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Outcome != Passed {
			t.Errorf("%s: %s: %s", r.ID, r.Outcome, r.Saw)
		}
	}
	if len(results) != len(Cases()) || !Kept(results) {
		t.Errorf("%d of %d cases, kept %v", len(results), len(Cases()), Kept(results))
	}
}

func TestTheSuiteWaitsWhereTheBackendSaysSo(t *testing.T) {
	w := newBackend(t, orgconfig.Limits{}) // what a backend has that says nothing of limits
	var waited atomic.Int64
	w.config.Slow = false
	w.config.Sleep = func(_ context.Context, d time.Duration) error {
		waited.Add(1)
		w.clock.advance(d)
		return nil
	}
	results, err := Run(t.Context(), w.config, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Outcome == Failed {
			t.Errorf("%s: %s", r.ID, r.Saw)
		}
	}
	if waited.Load() == 0 {
		t.Error("the limits were never reached, so nothing was tried here")
	}
}

// soonAlive sends the comment of a quiet stream at once, so that nobody waits.
func soonAlive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, orgapi.PathEvents) {
			w = &editedStream{ResponseWriter: w, edit: func(p []byte) []byte { return append(p, ":\n\n"...) }}
		}
		next.ServeHTTP(w, r)
	})
}

// editedStream edits what is written of a stream of events.
type editedStream struct {
	http.ResponseWriter
	edit func([]byte) []byte
}

func (e *editedStream) Write(p []byte) (int, error) {
	if e.Header().Get("Content-Type") != orgapi.EventStreamContentType {
		return e.ResponseWriter.Write(p)
	}
	if _, err := e.ResponseWriter.Write(e.edit(bytes.Clone(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// There is no way round: a backend that takes the connection over would write past
// this.
func (e *editedStream) Flush() { _ = http.NewResponseController(e.ResponseWriter).Flush() }

// asking changes the request before the backend that keeps the contract sees it.
func asking(change func(r *http.Request, body []byte) []byte) mutant {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			body = change(r, body)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			next.ServeHTTP(w, r)
		})
	}
}

// answering changes the answer of the backend that keeps the contract.
func answering(change func(r *http.Request, sent []byte, a *httptest.ResponseRecorder)) mutant {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sent, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(sent))
			a := httptest.NewRecorder()
			next.ServeHTTP(a, r)
			change(r, sent, a)
			for name, values := range a.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(a.Code)
			_, _ = w.Write(a.Body.Bytes())
		})
	}
}

func bearerOf(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func at(r *http.Request, path string) bool { return strings.HasSuffix(r.URL.Path, path) }

func reply(a *httptest.ResponseRecorder, status int, text string) {
	a.Code = status
	a.Body.Reset()
	_, _ = a.Body.WriteString(text)
}

func swapBody(a *httptest.ResponseRecorder, from, to string) {
	text := strings.ReplaceAll(a.Body.String(), from, to)
	a.Body.Reset()
	_, _ = a.Body.WriteString(text)
}

// takes answers 200 to a POST whose body is of a kind.
func takes(kind func(path string, body []byte) bool) mutant {
	return answering(func(r *http.Request, sent []byte, a *httptest.ResponseRecorder) {
		if r.Method == http.MethodPost && kind(r.URL.Path, sent) {
			reply(a, http.StatusOK, "{}")
		}
	})
}

func matches(pattern string) func(string, []byte) bool {
	form := regexp.MustCompile(pattern)
	return func(_ string, body []byte) bool { return form.Match(body) }
}

func algOf(token string) string {
	text, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	var header struct {
		Alg string `json:"alg"`
	}
	_ = json.Unmarshal(text, &header)
	return header.Alg
}

// mutants are by case, for each a backend that breaks its rule and no other.
func (w *backend) mutants() map[string]mutant {
	good := w.config.Token.Reveal()
	believes := func(wrong func(r *http.Request, token string) bool) mutant {
		return asking(func(r *http.Request, body []byte) []byte {
			if wrong(r, bearerOf(r)) {
				r.Header.Set("Authorization", "Bearer "+good)
			}
			return body
		})
	}
	sameKey := asking(func(r *http.Request, body []byte) []byte {
		sum := sha256.Sum256(body)
		r.Header.Set(orgapi.HeaderIdempotencyKey, hex.EncodeToString(sum[:]))
		return body
	})
	resigned := func(change func([]byte) []byte) mutant {
		return asking(func(r *http.Request, body []byte) []byte {
			if at(r, orgapi.PathCallbacks) {
				body = change(body)
				stamp := time.Now().UTC().Format(time.RFC3339)
				r.Header.Set(timestampHeader, stamp)
				r.Header.Set(signatureHeader, mac([]byte(callbackSecret), stamp, body))
			}
			return body
		})
	}
	trusts := resigned(func(b []byte) []byte { return b })
	// remembers gives the first answer to a body again.
	remembers := func(path string) mutant {
		var mu sync.Mutex
		kept := map[string]*httptest.ResponseRecorder{}
		return answering(func(r *http.Request, sent []byte, a *httptest.ResponseRecorder) {
			if !at(r, path) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if first := kept[string(sent)]; first != nil {
				reply(a, first.Code, first.Body.String())
				a.Header().Set("Content-Type", "application/json")
				return
			}
			kept[string(sent)] = &httptest.ResponseRecorder{Code: a.Code, Body: bytes.NewBuffer(bytes.Clone(a.Body.Bytes()))}
		})
	}
	var lastURL string
	var lastLock sync.Mutex

	return map[string]mutant{
		"contract-is-served": answering(func(r *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			if at(r, orgapi.PathOpenAPI) {
				reply(a, http.StatusNotFound, "")
			}
		}),
		"unknown-path": answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusNotFound {
				reply(a, http.StatusOK, "{}")
			}
		}),
		"other-method": answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) { a.Header().Del("Allow") }),
		"request-id-is-made": answering(func(r *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			if r.Header.Get(orgapi.HeaderRequestID) == "" {
				a.Header().Del(orgapi.HeaderRequestID)
			}
		}),
		"request-id-is-judged": asking(func(r *http.Request, body []byte) []byte {
			if strings.ContainsAny(r.Header.Get(orgapi.HeaderRequestID), " <") {
				r.Header.Set(orgapi.HeaderRequestID, "mended")
			}
			return body
		}),
		"me": answering(func(r *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			if at(r, orgapi.PathMe) {
				swapBody(a, "D-ada", "D-eve")
			}
		}),
		"no-token":    believes(func(r *http.Request, token string) bool { return token == "" }),
		"wrong-token": believes(func(r *http.Request, token string) bool { return token == "e30.e30.e30" }),
		"token-signature": believes(func(r *http.Request, token string) bool {
			return strings.HasPrefix(token, good[:strings.LastIndex(good, ".")+1])
		}),
		"token-claims": believes(func(r *http.Request, token string) bool {
			return strings.HasSuffix(token, good[strings.LastIndex(good, "."):])
		}),
		"token-alg-none":  believes(func(r *http.Request, token string) bool { return strings.EqualFold(algOf(token), "none") }),
		"token-alg-hs256": believes(func(r *http.Request, token string) bool { return algOf(token) == "HS256" }),
		"token-expired":   believes(func(r *http.Request, token string) bool { return token == w.config.ExpiredToken.Reveal() }),
		"id-token":        believes(func(r *http.Request, token string) bool { return token == w.config.IDToken.Reveal() }),
		"ehr-is-no-clinician": believes(func(r *http.Request, token string) bool {
			return at(r, orgapi.PathMe) && token == ehrSecret
		}),
		"clinician-is-no-ehr": asking(func(r *http.Request, body []byte) []byte {
			if at(r, orgapi.PathLaunches) {
				r.Header.Set("Authorization", "Bearer "+ehrSecret)
			}
			return body
		}),

		"body-unknown-field": takes(matches(`^\{"x":"y",`)),
		"body-doubled-field": takes(func(_ string, body []byte) bool {
			return bytes.Count(body, []byte(`"handle"`)) == 2 || bytes.Count(body, []byte(`"external_provider_id"`)) == 2
		}),
		"body-other-case": takes(matches(`^\{"[A-Z_]+"`)),
		"body-missing-field": takes(func(path string, body []byte) bool {
			return string(body) == "{}"
		}),
		"body-wrong-type":    takes(matches(`^\{"[a-z_]+":17`)),
		"body-null":          takes(matches(`^\{"[a-z_]+":null`)),
		"body-behind":        takes(matches(`\}\{"x":1\}$`)),
		"body-bom":           takes(matches("^\xef\xbb\xbf")),
		"body-not-utf8":      takes(func(_ string, body []byte) bool { return !utf8.Valid(body) }),
		"body-surrogate":     takes(matches(`\\ud83d`)),
		"body-cut-off":       takes(func(_ string, body []byte) bool { return !bytes.HasSuffix(body, []byte("}")) }),
		"body-not-an-object": takes(matches(`^\[`)),
		"body-empty":         takes(func(_ string, body []byte) bool { return len(body) == 0 }),
		"body-too-large": asking(func(_ *http.Request, body []byte) []byte {
			return bytes.TrimSpace(body)
		}),
		"body-of-64-kib": asking(func(_ *http.Request, body []byte) []byte {
			if len(body) == orgapi.MaxRequestBytes {
				return append(body, ' ')
			}
			return body
		}),
		"content-type": asking(func(r *http.Request, body []byte) []byte {
			r.Header.Set("Content-Type", "application/json")
			return body
		}),
		"no-idempotency-key": asking(func(r *http.Request, body []byte) []byte {
			r.Header.Set(orgapi.HeaderIdempotencyKey, "made-"+random(8))
			return body
		}),
		"bad-idempotency-key": asking(func(r *http.Request, body []byte) []byte {
			r.Header.Set(orgapi.HeaderIdempotencyKey, "mended-"+random(8))
			return body
		}),
		"no-form": asking(func(_ *http.Request, body []byte) []byte {
			if string(body) == "{}" {
				return []byte(`{"handle":"` + random(16) + `"}`)
			}
			return body
		}),
		"two-forms": asking(func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(`,"request":"a.b.c"`), nil, 1)
		}),
		"handle-form": asking(func(r *http.Request, body []byte) []byte {
			if at(r, orgapi.PathEncounters) {
				return []byte(`{"handle":"` + random(16) + `"}`)
			}
			return body
		}),
		"handle-unknown": answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			swapBody(a, "handle_expired", "handle_spent")
		}),
		"request-not-signed": asking(func(r *http.Request, body []byte) []byte {
			if bytes.Contains(body, []byte(`"request":`)) {
				return []byte(`{"handle":"` + random(16) + `"}`)
			}
			return body
		}),
		"identifiers-of-another": asking(func(_ *http.Request, body []byte) []byte {
			return regexp.MustCompile(`CONF-OTHER-[0-9a-f]+`).ReplaceAll(body, []byte("D-ada"))
		}),
		"launch":                answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) { swapBody(a, "?handle=", "?h=") }),
		"launch-handles-differ": remembers(orgapi.PathLaunches),
		"launch-no-credential": asking(func(r *http.Request, body []byte) []byte {
			if bearerOf(r) == "" {
				r.Header.Set("Authorization", "Bearer "+ehrSecret)
			}
			return body
		}),
		"launch-long-id": asking(func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(strings.Repeat("é", 257)), []byte(strings.Repeat("é", 256)), 1)
		}),
		"launch-long-name": asking(func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(strings.Repeat("é", 257)), []byte(strings.Repeat("é", 256)), 1)
		}),
		"launch-long-text": asking(func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(strings.Repeat("é", 701)), []byte(strings.Repeat("é", 700)), 1)
		}),
		"launch-incomplete": asking(func(_ *http.Request, body []byte) []byte {
			return bytes.Replace(body, []byte(`"name":""`), []byte(`"name":"x"`), 1)
		}),
		"create": answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			swapBody(a, `"encounter_url":"http:`, `"encounter_url":"ftp:`)
		}),
		"create-again":     remembers(orgapi.PathEncounters),
		"create-other-key": sameKey,
		"create-at-once":   sameKey,
		"key-of-another-request": asking(func(r *http.Request, body []byte) []byte {
			if at(r, orgapi.PathEncounters) {
				r.Header.Set(orgapi.HeaderIdempotencyKey, "other-"+random(8))
			}
			return body
		}),
		"handle-of-another": asking(func(r *http.Request, body []byte) []byte {
			return regexp.MustCompile(`CONF-OTHER-[0-9a-f]+`).ReplaceAll(body, []byte("D-ada"))
		}),
		"another-spends-nothing": func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if at(r, orgapi.PathEncounters) && bearerOf(r) == w.config.OtherToken.Reveal() {
					spends := r.Clone(r.Context())
					spends.Header.Set("Authorization", "Bearer "+good)
					spends.Body = io.NopCloser(bytes.NewReader(body))
					next.ServeHTTP(httptest.NewRecorder(), spends)
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				next.ServeHTTP(rw, r)
			})
		},
		"reopen": answering(func(r *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			lastLock.Lock()
			defer lastLock.Unlock()
			var made orgapi.CreateAnswer
			_ = json.Unmarshal(a.Body.Bytes(), &made)
			if at(r, orgapi.PathEncounterURL) && made.EncounterURL != "" {
				swapBody(a, made.EncounterURL, lastURL)
			}
			lastURL = made.EncounterURL
		}),
		"reopen-of-another": asking(func(r *http.Request, body []byte) []byte {
			return regexp.MustCompile(`CONF-OTHER-[0-9a-f]+`).ReplaceAll(body, []byte("D-ada"))
		}),
		"reopen-unknown": answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			swapBody(a, "encounter_unknown", "vendor_unavailable")
		}),
		"events-no-token": answering(func(r *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			reply(a, http.StatusForbidden, a.Body.String())
		}),
		"events-begin": func(http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", orgapi.EventStreamContentType)
				_ = http.NewResponseController(rw).Flush()
				<-r.Context().Done()
			})
		},
		"events-keep-alive": func(next http.Handler) http.Handler { return next }, // nobody waits for its comment
		"callback": answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			swapBody(a, `"request_uuid":"`, `"request_uuid":"x`)
		}),
		"callback-instructions": answering(func(r *http.Request, sent []byte, a *httptest.ResponseRecorder) {
			if bytes.Contains(sent, []byte("PATIENT_INSTRUCTIONS_EXPORT")) {
				reply(a, http.StatusBadRequest, "{}")
			}
		}),
		"callback-rotation": asking(func(r *http.Request, body []byte) []byte {
			if first, _, several := strings.Cut(r.Header.Get(signatureHeader), ","); several {
				r.Header.Set(signatureHeader, first)
			}
			return body
		}),
		"callback-replay":       remembers(orgapi.PathCallbacks),
		"callback-signature":    trusts,
		"callback-unsigned":     trusts,
		"callback-changed":      trusts,
		"callback-timestamp":    trusts,
		"callback-stale":        trusts,
		"callback-unknown-type": resigned(func(b []byte) []byte { return bytes.Replace(b, []byte("NOTE_FORGET"), []byte("NOTE_EXPORT"), 1) }),
		"callback-unreadable":   resigned(func(b []byte) []byte { return append(b, '}') }),
		"events-exported": func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if at(r, orgapi.PathEvents) {
					rw = &editedStream{ResponseWriter: rw, edit: func(p []byte) []byte {
						return bytes.ReplaceAll(p, []byte(`"at":`), []byte(`"when":`))
					}}
				}
				next.ServeHTTP(rw, r)
			})
		},

		ruleNoStore: answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusGone {
				a.Header().Del("Cache-Control")
			}
		}),
		ruleRequestID: answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusGone {
				a.Header().Set(orgapi.HeaderRequestID, "another")
			}
		}),
		ruleProblem: answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusGone {
				swapBody(a, `"reference":"`, `"reference":"x`)
			}
		}),
		ruleDescribed: answering(func(r *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			swapBody(a, `"label":"`, `"label":"`+strings.Repeat("x", orgapi.MaxLabelBytes))
		}),
		rulePatient: answering(func(_ *http.Request, sent []byte, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusUnprocessableEntity {
				quoted, _ := json.Marshal(string(sent))
				swapBody(a, `"type":`, `"sent":`+string(quoted)+`,"type":`)
			}
		}),
		ruleSecret: answering(func(_ *http.Request, sent []byte, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusGone {
				quoted, _ := json.Marshal(string(sent))
				swapBody(a, `"type":`, `"sent":`+string(quoted)+`,"type":`)
			}
		}),
		ruleContract: answering(func(_ *http.Request, _ []byte, a *httptest.ResponseRecorder) {
			if a.Code == http.StatusGone {
				a.Header().Del(orgapi.HeaderContract)
			}
		}),
	}
}

// traffic is what gives the rules of every answer something to look at.
var traffic = []string{"no-token", "handle-unknown", "launch-incomplete", "create-other-key"}

func TestEveryCaseFailsForTheBackendThatBreaksItsRule(t *testing.T) {
	w := newBackend(t, unlimited)
	mutants := w.mutants()
	for _, c := range Cases() {
		t.Run(c.ID, func(t *testing.T) {
			m, there := mutants[c.ID]
			if !there {
				t.Fatal("no mutant breaks its rule, so it may be vacuous")
			}
			delete(mutants, c.ID)
			cfg := w.config
			cfg.Only = append([]string{c.ID}, traffic...)
			cfg.After = never
			switch c.ID {
			case "events-begin":
				cfg.After, cfg.Only = passed, []string{c.ID}
			case "events-keep-alive":
				cfg.After, cfg.Only = atLast, []string{c.ID}
			}
			w.become(m)
			defer w.become(nil)
			results, err := Run(t.Context(), cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(results, func(r Result) bool { return r.ID == c.ID })
			if results[i].Outcome != Failed || results[i].Saw == "" || strings.Contains(results[i].Saw, "not answered: the connection") {
				t.Errorf("%s %q", results[i].Outcome, results[i].Saw)
			}
			if c.Severity == Must && Kept(results) {
				t.Error("the contract is said to be kept")
			}
		})
	}
	for id := range mutants {
		t.Errorf("there is a mutant for %s, which is no case", id)
	}
}

func TestWhatIsMissingIsToldAndNeverPassed(t *testing.T) {
	w := newBackend(t, unlimited)
	results, err := Run(t.Context(), Config{BaseURL: w.config.BaseURL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, r := range results {
		if len(r.Needs) > 0 && (r.Outcome != NotTried || !strings.HasPrefix(r.Saw, "needs ")) {
			t.Errorf("%s: %s %q", r.ID, r.Outcome, r.Saw)
		}
		if r.Outcome == Passed {
			tried++
		}
		if r.Outcome == Failed {
			t.Errorf("%s: %s", r.ID, r.Saw)
		}
	}
	if tried < 10 {
		t.Errorf("only %d were tried", tried)
	}
}

func TestNothingThatIsPrintedHoldsAToken(t *testing.T) {
	w := newBackend(t, unlimited)
	// A backend that answers everything with whatever it was sent.
	w.become(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			for name, values := range r.Header {
				rw.Header()["Echo-"+name] = values
			}
			rw.Header().Set("Content-Type", orgapi.ProblemContentType)
			rw.WriteHeader(http.StatusTeapot)
			quoted, _ := json.Marshal(r.Header.Get("Authorization") + string(body))
			_, _ = rw.Write([]byte(`{"code":` + string(quoted) + `,"title":` + string(quoted) + `,"status":` + string(quoted) + `}`))
		})
	})
	results, err := Run(t.Context(), w.config, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := Table(&table, results); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{w.config.Token.Reveal(), ehrSecret, callbackSecret, "CONF-P-", "Konforma", "127.0.0.1"} {
		if strings.Contains(string(text), secret) || strings.Contains(table.String(), secret) {
			t.Errorf("%.12s… is printed", secret)
		}
	}
	if Kept(results) {
		t.Error("the contract is said to be kept")
	}
}

func TestTokensAreSentOnlyWhereNobodyListensIn(t *testing.T) {
	for address, good := range map[string]bool{
		"https://backend.hospital.example/launcher": true, "http://127.0.0.1:1": true, "http://[::1]:1/x": true, "http://localhost:1": true,
		"http://backend.hospital.example": false, "https://backend.hospital.example/": false, "": false, "backend": false,
		"https://a:b@backend.hospital.example": false, "https://backend.hospital.example?x": false, "ftp://127.0.0.1": false,
	} {
		_, err := newSession(Config{BaseURL: address})
		if (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := newSession(Config{BaseURL: "https://a.example", CallbackURL: "http://b.example/x"}); err == nil {
		t.Error("callbacks go anywhere")
	}
	if _, err := Run(context.Background(), Config{BaseURL: "https://a.example", Only: []string{"nothing"}}, nil); err == nil {
		t.Error("an unknown case")
	}
}

func TestTheCasesAreFitToBePublished(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.ID] || !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(c.ID) {
			t.Errorf("%q is no id, or there twice", c.ID)
		}
		seen[c.ID] = true
		if c.Sentence == "" || c.Clause == "" || !strings.HasSuffix(c.Mend, ".") || (c.Severity != Must && c.Severity != Should) {
			t.Errorf("%+v", c)
		}
		for _, n := range c.Needs {
			if sentences[n] == "" {
				t.Errorf("%s needs %s", c.ID, n)
			}
		}
	}
}
