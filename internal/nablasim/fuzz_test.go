package nablasim

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

var (
	reasonForm = regexp.MustCompile(`^[A-Za-z0-9_. -]+$`)
	methodForm = regexp.MustCompile(`^[A-Z]{1,10}$`)
)

// slowly reads a JSON text by tokens: an object, each name once, nothing after it.
func slowly(body []byte) (map[string]json.RawMessage, bool) {
	if !json.Valid(body) || !utf8.Valid(body) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	all := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		var raw json.RawMessage
		if err != nil || d.Decode(&raw) != nil {
			return nil, false
		}
		if _, twice := all[name.(string)]; twice {
			return nil, false
		}
		all[name.(string)] = raw
	}
	return all, true
}

// flat makes paths of an object's members, objects within it too.
func flat(body []byte, prefix string, into map[string]json.RawMessage) bool {
	all, ok := slowly(body)
	for name, raw := range all {
		if strings.Contains(name, ".") {
			return false
		}
		into[prefix+name] = raw
		if raw[0] == '{' && !flat(raw, prefix+name+".", into) {
			return false
		}
	}
	return ok
}

// FuzzReadFields: a payload is taken exactly when a slow reading finds the fields of
// its table, and no other; and then each text is the one that stands there.
func FuzzReadFields(f *testing.F) {
	for _, body := range []string{
		goodCreate, `{"structured_context":{"patient_demographics":{"name":"a","name":"b"}}}`, strings.Replace(goodCreate, `"unstructured_context":null`, `"unstructured_context":"`+strings.Repeat("é", 701)+`"`, 1),
		strings.Replace(goodCreate, `"P-1"`, `" "`, 1), strings.Replace(goodCreate, `"P-1"`, "null", 1), strings.Replace(goodCreate, "ada@", "@", 1), strings.Replace(goodCreate, "{", `{"structured_context.patient_demographics":{},`, 1), goodCreate + "x", "{}", strings.Replace(goodCreate, `{"patient_demographics":`, `{},"structured_context.patient_demographics":`, 1), strings.Replace(strings.Replace(goodCreate, `{"patient_demographics":`, `{},"structured_context.patient_demographics":`, 1), "}}", "}", 1), "[]",
		`{"external_provider_id":"D","external_encounter_id":"E"}`, `{"grant_type":"client_credentials","client_assertion_type":"x","client_assertion":"y"}`, strings.Replace(goodCreate, `"pronouns":null`, `"pronouns":{}`, 1),
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, table := range [][]field{createFields, legacyFields, refreshFields, tokenFields} {
			got, err := readFields(body, table)
			all := map[string]json.RawMessage{}
			ok := flat(body, "", all)
			want := map[string]string{}
			left := len(all)
			for _, row := range table {
				raw, there := all[row.name]
				if there {
					left--
				}
				switch {
				case !there:
					ok = ok && row.optional
				case string(raw) == "null":
					ok = ok && row.nullable
				case row.object:
					ok = ok && raw[0] == '{'
				default:
					var s string
					ok = ok && raw[0] == '"' && json.Unmarshal(raw, &s) == nil && (row.nullable || strings.TrimSpace(s) != "") && (row.maxRunes == 0 || len([]rune(s)) <= row.maxRunes) && (!row.word || wordForm.MatchString(s))
					at := strings.Split(s, "@")
					ok = ok && (!row.email || len(at) == 2 && at[0] != "" && at[1] != "" && !strings.ContainsAny(s, " \t\r\n"))
					want[row.name] = s
				}
			}
			if (err == nil) != (ok && left == 0) {
				t.Fatalf("%s: %v", body, err)
			}
			if err != nil {
				if !reasonForm.MatchString(err.Error()) {
					t.Fatalf("refused with %q", err)
				}
				continue
			}
			if len(got) != len(want) {
				t.Fatalf("%s was read as %q", body, got)
			}
			for name, s := range want {
				if got[name] != s {
					t.Fatalf("%s was read as %q", body, got)
				}
			}
		}
	})
}

// FuzzSimulator sends requests of any kind to the whole simulator, with a token and an
// assertion or without: only what its pages allow is answered 200, a token is given
// for an assertion of the client's own, fresh and once, and neither answer nor log
// holds anything that a request said of a patient.
func FuzzSimulator(f *testing.F) {
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Use: "sig"}}})
	if err != nil {
		f.Fatal(err)
	}
	var log bytes.Buffer
	const base = "http://127.0.0.1:1/v1/connect/server"
	sim, err := New(Config{BaseURL: base, Now: func() time.Time { return now }, Clients: map[string]Client{testClient: {JWKS: set}}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		f.Fatal(err)
	}
	const token = "fuzzing-token"
	create := strings.Replace(goodCreate, "Grace", "Kanarienvogel", 1)
	for _, path := range []string{"/encounters", "/encounters/url", "/users", "/oauth/token", "/open/x", "/", "/encounters/"} {
		f.Add("POST", path, token, "application/json", "2026-02-13", []byte(create))
		f.Add("POST", path, token, "application/json", "2026-03-23", []byte(`{"provider_email":"a@a.example","external_provider_id":"Kanarienvogel","settings":{}}`))
		f.Add("GET", path, "", "", "", []byte(nil))
	}
	f.Add("POST", "/encounters/url", token, "application/json", "2026-02-13", []byte(`{"external_provider_id":"D-17","external_encounter_id":"E-1"}`))
	f.Add("POST", "/oauth/token", "", "application/json", "2026-02-13", []byte(`{"grant_type":"client_credentials","client_assertion_type":"`+assertionType+`","client_assertion":"`+base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))+`.e30."}`))
	f.Fuzz(func(t *testing.T, method, path, bearer, contentType, version string, body []byte) {
		if !methodForm.MatchString(method) || !strings.HasPrefix(path, "/") {
			return // no request of HTTP
		}
		sim.mu.Lock()
		sim.tokens = map[string]time.Time{token: now.Add(time.Minute)}
		sim.mu.Unlock()
		log.Reset()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		r.Method, r.URL.Path, r.RequestURI = method, "/v1/connect/server"+path, "/v1/connect/server"+path
		r.Header = http.Header{"Content-Type": {contentType}, "X-Nabla-Api-Version": {version}, "Authorization": {"Bearer " + bearer}}
		w := httptest.NewRecorder()
		sim.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Fatalf("%s %q %s: %d", method, path, body, w.Code)
		}
		if text := log.String(); strings.Contains(text, "Kanarienvogel") || w.Code >= 400 && strings.Contains(w.Body.String(), "Kanarienvogel") {
			t.Fatalf("%s %q: %s %s", method, path, text, w.Body)
		}
		if w.Code == http.StatusOK && strings.HasPrefix(path, "/encounters") {
			all := map[string]json.RawMessage{}
			if bearer != token || method != http.MethodPost || !flat(body, "", all) {
				t.Fatalf("%s %q by %q: %s", method, path, bearer, w.Body)
			}
			var answer struct {
				URL string `json:"encounter_url"`
			}
			if json.Unmarshal(w.Body.Bytes(), &answer) != nil || !strings.HasPrefix(answer.URL, "http://127.0.0.1:1/") || strings.Contains(answer.URL, "E-1") {
				t.Fatalf("answered %s", w.Body)
			}
		}
		if w.Code == http.StatusOK && path == "/oauth/token" {
			t.Fatalf("a token for %s", body) // nobody has signed an assertion here with RS256 or ES256
		}
	})
}
