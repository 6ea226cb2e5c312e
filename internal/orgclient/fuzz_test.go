package orgclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// membersOf reads a JSON text slowly: valid as a whole, an object, each name once.
func membersOf(body []byte) (map[string]json.RawMessage, bool) {
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

// said is a member that is a string, letter for letter: half a surrogate pair is none.
func said(all map[string]json.RawMessage, name string) (string, bool) {
	raw := all[name]
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	for _, e := range escapes.FindAllString(string(raw), -1) {
		if len(e) == 6 && half.MatchString(e) {
			return "", false
		}
	}
	return s, true
}

var (
	escapes = regexp.MustCompile(`\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)`)
	half    = regexp.MustCompile(`^\\u[dD][89a-fA-F]`)
)

func named(all map[string]json.RawMessage, name string) (string, bool) {
	s, ok := said(all, name)
	return s, ok && s != "" && len([]rune(s)) <= 256 && !strings.ContainsFunc(s, unicode.IsControl)
}

// FuzzAnswers: an answer is accepted exactly when a slow reading finds the contract's
// members in it, and then it says just that; what is refused gives nothing.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		good, reopen, me, "{}", "[]", `{"a":1,"a":2}`, `{"encounter_url":null}`, `{"code":"internal","reference":"ABCDEFGH"}`, "{\"a\"", "\xff", `{"encounter_url":"x","encounter_url":"y"}`,
		strings.Replace(good, "canary-enc", `\ud800`, 1), strings.Replace(good, "canary-enc", "\ufffd", 1), strings.Replace(me, "dr@", `\udc00`, 1), strings.Replace(good, `"canary label"`, "7", 1), good + "{}", strings.Replace(me, "subject", "Subject", 1),
		strings.Replace(good, "canary label", strings.Repeat("x", 257), 1), strings.Replace(reopen, "}", ",}", 1), strings.Replace(reopen, ":", "", 1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		all, isObject := membersOf(body)
		address, ok := said(all, "encounter_url")
		ok = ok && isObject && address != ""
		inner, isInner := membersOf(all["encounter"])
		encounter, ok1 := named(inner, "external_encounter_id")
		provider, ok2 := named(inner, "external_provider_id")
		label, okLabel := said(inner, "label")
		if len(label) > orgapi.MaxLabelBytes {
			label = ""
		}
		_, hasLabel := inner["label"]
		gotAddress, got, err := readCreateAnswer(body)
		if want := ok && isInner && ok1 && ok2 && (!hasLabel || okLabel); (err == nil) != want {
			t.Fatalf("%s: %v", body, err)
		}
		if err == nil && (gotAddress.Reveal() != address || got != orgapi.Encounter{ExternalEncounterID: encounter, ExternalProviderID: provider, Label: label}) {
			t.Fatalf("%s was read as %+v", body, got)
		}
		if err != nil && (!gotAddress.Empty() || got != orgapi.Encounter{}) {
			t.Fatal("a refused answer gave something")
		}
		if gotAddress, err := readReopenAnswer(body); (err == nil) != ok || err == nil && gotAddress.Reveal() != address || err != nil && !gotAddress.Empty() {
			t.Fatalf("%s: %v", body, err)
		}
		subject, ok1 := named(all, "subject")
		email, ok2 := said(all, "provider_email")
		provider, ok3 := named(all, "external_provider_id")
		who, err := readMe(body)
		if want := isObject && ok1 && ok2 && ok3 && len(email) <= 320 && !strings.ContainsFunc(email, unicode.IsControl); (err == nil) != want {
			t.Fatalf("%s: %v", body, err)
		}
		if err == nil && (who != orgapi.Me{Subject: subject, ProviderEmail: email, ExternalProviderID: provider}) || err != nil && (who != orgapi.Me{}) {
			t.Fatalf("%s was read as %+v", body, who)
		}
		code, reference := readProblem(body)
		wantCode, hasCode := said(all, "code")
		wantReference, hasReference := said(all, "reference")
		if !isObject || !hasCode {
			wantCode, wantReference = "", ""
		}
		if !hasReference {
			wantReference = ""
		}
		if string(code) != wantCode || reference != wantReference {
			t.Fatalf("%s was read as %q, %q", body, code, reference)
		}
	})
}

// scripted answers every attempt alike and counts them.
type scripted struct {
	status      int
	contentType string
	retryAfter  string
	body        []byte
	attempts    int
	requests    []http.Header
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	s.attempts++
	s.requests = append(s.requests, r.Header)
	return &http.Response{
		StatusCode: s.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: -1, Body: io.NopCloser(bytes.NewReader(s.body)),
		Header: http.Header{"Content-Type": {s.contentType}, "Retry-After": {s.retryAfter}, "Location": {"https://evil.example/"}},
	}, nil
}

// FuzzCalls gives every call an answer of any status, type, pause and body: what comes
// of it is exactly what a good answer says, or a problem that a backend may name, in
// at most three attempts under one idempotency key and within the time of one call;
// no redirect is followed, and no problem says anything of the answer.
func FuzzCalls(f *testing.F) {
	for _, body := range []string{good, reopen, me, "", "<html>canary", `{"code":"handle_spent","reference":"ABCDEFGH","detail":"canary"}`, `{"code":"keyring_locked"}`, strings.Replace(good, "app.nabla.example", "evil.example", 1), strings.Replace(good, "canary-enc", "E", 1)} {
		for _, status := range []int{200, 201, 204, 302, 401, 404, 407, 409, 413, 429, 500, 503, 599, 999} {
			f.Add(uint16(status), "application/json", "", []byte(body))
			f.Add(uint16(status), orgapi.ProblemContentType, "3", []byte(body))
		}
	}
	f.Add(uint16(429), "application/json; charset=utf-16", "Wed, 21 Oct 2115 07:28:00 GMT", []byte(good))
	f.Add(uint16(200), `application/json; charset="UTF-8"`, "99999999999", []byte(strings.Repeat(" ", orgapi.MaxAnswerBytes)+good))
	request, err := launch.Parse("encounter-launcher", "encounter-launcher://launch?handle="+handle)
	if err != nil {
		f.Fatal(err)
	}
	ids, err := launch.Parse("encounter-launcher", "encounter-launcher://launch?external_encounter_id=canary-enc&external_patient_id=P&external_provider_id=canary-prov")
	if err != nil {
		f.Fatal(err)
	}
	address := regexp.MustCompile(`^https://app\.nabla\.example(:443)?([/?#]|$)`)
	f.Fuzz(func(t *testing.T, status uint16, contentType, retryAfter string, body []byte) {
		s := &scripted{status: 100 + int(status)%900, contentType: contentType, retryAfter: retryAfter, body: body}
		k := &clock{now: start}
		c, err := New(Config{
			BackendURL: "https://backend.example/api", HTTP: &http.Client{Transport: s}, Now: k.Now, Sleep: k.Sleep,
			Hosts: launch.Addresses{Hosts: []string{"app.nabla.example"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		kind, parameters, err := mime.ParseMediaType(contentType)
		charset, named := parameters["charset"]
		typed := func(want string) bool {
			return err == nil && kind == want && (!named || strings.EqualFold(charset, "utf-8"))
		}
		isAnswer := (s.status == 200 || s.status == 201) && typed("application/json") && len(body) <= orgapi.MaxAnswerBytes
		told := []problem.Code{
			problem.Unauthorized, problem.OrgAnswerInvalid, problem.OrgUnreachable, problem.OrgRefused, problem.OrgBusy, problem.ProxyAuthNeeded, problem.RequestInvalid, problem.RequestTooLarge, problem.AddressNotAllowed,
		}
		if typed(orgapi.ProblemContentType) {
			if all, ok := membersOf(body); ok {
				if code, ok := said(all, "code"); ok && problem.Known(code) && backendsOwn(problem.Code(code)) {
					told = append(told, problem.Code(code))
				}
			}
		}
		ctx := WithRequestID(t.Context(), "call-1")
		check := func(what string, err error, usable bool) {
			t.Helper()
			if usable && !isAnswer {
				t.Fatalf("%s took status %d, %q: %s", what, s.status, contentType, body)
			}
			if err != nil {
				var p *problem.Problem
				if !errors.As(err, &p) || !slices.Contains(told, p.Code) {
					t.Fatalf("%s: status %d, %q, %s: %v", what, s.status, contentType, body, err)
				}
				// No word of the answer, whatever it is: all of ours are letters, the status and a few marks.
				said := fmt.Sprint(p.LogValue())
				if strings.Contains(said, "canary") || strings.Contains(said, "://") || len(said) > 600 {
					t.Fatalf("%s says %s", what, said)
				}
			}
			waited := time.Duration(0)
			for _, d := range k.waits() {
				if d < 0 {
					t.Fatalf("%s waits %v", what, d)
				}
				waited += d
			}
			again := s.status == 429 || s.status == 500 || s.status == 502 || s.status == 503 || s.status == 504
			if s.attempts < 1 || s.attempts > 3 || !again && s.attempts != 1 || waited > 15*time.Second {
				t.Fatalf("%s: %d attempts, %v waited for status %d", what, s.attempts, waited, s.status)
			}
			for _, h := range s.requests {
				if h.Get(orgapi.HeaderRequestID) != "call-1" || h.Get(orgapi.HeaderIdempotencyKey) != s.requests[0].Get(orgapi.HeaderIdempotencyKey) || h.Get(orgapi.HeaderIdempotencyKey) == "" || h.Get("Authorization") != "Bearer "+token {
					t.Fatalf("%s was sent as %v", what, h)
				}
			}
			s.attempts, s.requests = 0, nil
			k.slept = nil
		}
		for _, r := range []launch.Request{request, ids} {
			target, e, err := c.Create(ctx, secret.New(token), r, key)
			check("create", err, err == nil)
			if err != nil && (target != (launch.Target{}) || e != (orgapi.Encounter{})) {
				t.Fatal("a refused create gave something")
			}
			if err == nil {
				wantAddress, want, err := readCreateAnswer(body)
				if err != nil || target.Address().Reveal() != wantAddress.Reveal() || e != want || !address.MatchString(target.Address().Reveal()) {
					t.Fatalf("%s gave %+v", body, e)
				}
				if r.Form() == launch.FormIdentifiers && (e.ExternalEncounterID != "canary-enc" || e.ExternalProviderID != "canary-prov") {
					t.Fatalf("another encounter was opened: %+v", e)
				}
			}
		}
		target, err := c.Reopen(ctx, secret.New(token), orgapi.Encounter{ExternalEncounterID: "E", ExternalProviderID: "D"}, key)
		check("reopen", err, err == nil)
		if err == nil && !address.MatchString(target.Address().Reveal()) || err != nil && target != (launch.Target{}) {
			t.Fatalf("%s opens %q", body, target.Address().Reveal())
		}
		who, err := c.Me(ctx, secret.New(token))
		check("me", err, err == nil)
		if err != nil && who != (orgapi.Me{}) {
			t.Fatal("a refused call gave something")
		}
	})
}
