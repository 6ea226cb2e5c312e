package fhir

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"errors"
	"testing"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/problem"
)

// What is accepted of a Patient is whole, printable and bounded, whatever a server
// sends; what is refused is one of two problems.
func FuzzPatient(f *testing.F) {
	for _, seed := range []string{
		`{"resourceType":"Patient","id":"p-1","name":[{"use":"official","family":"Lovelace","given":["Ada"]}],"birthDate":"1815-12-10","gender":"female"}`,
		`{"resourceType":"Patient","id":"p-1","name":[{"text":"Ada","period":{"start":"2020-01","end":"2030-01-01T00:00:00Z"}}],"birthDate":"1815-12","gender":"other"}`,
		`{"resourceType":"Patient","id":"p-1","name":[{"text":"A\u202eda"}],"birthDate":"1815-12-10","gender":"unknown"}`,
		`{"resourceType":"Patient","id":"p-1","name":[{"text":"Ada"}],"birthDate":"1815-12-10","gender":"male","extension":[{"url":"` + pronounsURL + `","extension":[{"url":"value","valueCodeableConcept":{"coding":[{"display":"they/them"}]}},{"url":"period","valuePeriod":{"start":"2020"}}]}]}`,
		`{"resourceType":"Bundle"}`, `null`, `[`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := readRecord(body)
		var p Patient
		if err == nil {
			p, err = r.details(now)
		}
		if err != nil {
			var refusal *problem.Problem
			if !errors.As(err, &refusal) || (refusal.Code != problem.ContextIncomplete && refusal.Code != problem.ContextUnavailable) {
				t.Fatalf("refused with %v", err)
			}
			if p != (Patient{}) {
				t.Fatal("something of a refused patient was given out")
			}
			return
		}
		texts := []string{p.Name, p.BirthDate, p.Gender}
		if p.Pronouns != nil {
			texts = append(texts, *p.Pronouns)
		}
		for _, text := range texts {
			if text == "" || !utf8.ValidString(text) || utf8.RuneCountInString(text) > maxTextRunes {
				t.Fatalf("%q was accepted", text)
			}
			for _, c := range text {
				if c < ' ' || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) {
					t.Fatalf("%q was accepted", text)
				}
			}
		}
		if d, err := time.Parse(time.DateOnly, p.BirthDate); err != nil || d.Format(time.DateOnly) != p.BirthDate {
			t.Fatalf("the date %q was accepted", p.BirthDate)
		}
	})
}

// peer answers the token endpoint, the discovery and every other call, each alike.
type peer struct {
	status                           int
	contentType, location, retryWhen string
	body, token, found               []byte
	calls, tokens                    int
	bearers, tokenHosts              []string
}

func (p *peer) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body, kind := p.status, p.body, p.contentType
	switch {
	case strings.HasSuffix(r.URL.Path, "/.well-known/smart-configuration"):
		status, body, kind = 200, p.found, "application/json"
	case strings.HasPrefix(r.URL.Path, "/fhir/"):
		p.calls++
		p.bearers = append(p.bearers, r.Header.Get("Authorization"))
	default:
		p.tokens++
		p.tokenHosts = append(p.tokenHosts, r.URL.Scheme+"://"+r.URL.Host)
		status, body, kind = 200, p.token, "application/json"
	}
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: -1, Body: io.NopCloser(bytes.NewReader(body)),
		Header: http.Header{"Content-Type": {kind}, "Location": {p.location}, "Retry-After": {p.retryWhen}},
	}, nil
}

// FuzzCalls gives the server's discovery, its token endpoint and its resources answers
// of any kind: a patient comes only of an answer 200 of FHIR's that is about the one who
// was asked for, a note counts as filed only where the server says so, our proof goes
// only to https, no token can write a header line, and no error quotes the server.
func FuzzCalls(f *testing.F) {
	const ada = `{"resourceType":"Patient","id":"p-1","identifier":[{"system":"urn:mrn","value":"p-1"}],"name":[{"text":"Ada Kanarienvogel"}],"birthDate":"1815-12-10","gender":"female"}`
	const token, found = `{"access_token":"t-1","token_type":"Bearer","expires_in":300}`, `{"token_endpoint":"https://ehr.example/token"}`
	for _, status := range []uint16{200, 201, 302, 400, 401, 404, 410, 412, 429, 500, 503} {
		f.Add(status, fhirJSON, "", "", []byte(ada), []byte(token), []byte(found))
	}
	for _, body := range []string{
		strings.Replace(ada, `"p-1"`, `"p-2"`, 1), `{"resourceType":"Bundle","type":"searchset","total":1,"entry":[{"resource":` + ada + `,"search":{"mode":"match"}}]}`, `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":` + ada + `},{"resource":` + ada + `}]}`,
		`{"resourceType":"Bundle","type":"searchset","entry":[null,{"resource":null}]}`, `{"resourceType":"OperationOutcome"}`, `{"resourceType":"DocumentReference"}`, "", "<html>Kanarienvogel", strings.Replace(ada, `"gender"`, `"link":[{"type":"replaced-by"}],"gender"`, 1),
	} {
		f.Add(uint16(200), "application/json; charset=utf-8", "x", "7", []byte(body), []byte(token), []byte(found))
		f.Add(uint16(201), fhirJSON, "", "Wed, 21 Oct 2115 07:28:00 GMT", []byte(body), []byte(token), []byte(found))
	}
	f.Add(uint16(404), fhirJSON, "", "", []byte(`{"resourceType":"DocumentReference"}`), []byte(token), []byte(found))
	for _, token := range []string{`{"access_token":"a\nX: y","token_type":"Bearer","expires_in":300}`, `{"access_token":"a","token_type":"mac","expires_in":300}`, `{"access_token":"a","token_type":"bearer","expires_in":-3}`} {
		f.Add(uint16(200), fhirJSON, "", "", []byte(ada), []byte(token), []byte(found))
	}
	for _, found := range []string{`{"token_endpoint":"http://127.0.0.1:1/token"}`, `{"token_endpoint":"https://u:p@evil.example/"}`, `{"token_endpoint":"//x"}`, `{}`} {
		f.Add(uint16(200), fhirJSON, "", "", []byte(ada), []byte(token), []byte(found))
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, status uint16, contentType, location, retryAfter string, body, token, found []byte) {
		for _, system := range []string{"", "urn:mrn"} {
			p := &peer{status: 200, contentType: contentType, location: location, retryWhen: retryAfter, body: body, token: token, found: found}
			if status > 200 && status < 600 {
				p.status = int(status)
			}
			c, err := New(Config{
				BaseURL: "https://ehr.example/fhir", ClientID: "c", Keys: []assertion.Key{{Signer: k}}, PatientSystem: system, Now: func() time.Time { return now }, HTTP: &http.Client{Transport: p},
				Sleep: func(context.Context, time.Duration) error { return nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
			isFHIR := strings.TrimSpace(kind) == fhirJSON || strings.TrimSpace(kind) == "application/json"
			got, err := c.Patient(t.Context(), "p-1")
			if err == nil {
				var said struct {
					ResourceType, ID string
					Entry            []struct{ Resource struct{ ID string } }
				}
				if p.status != 200 || !isFHIR || json.Unmarshal(body, &said) != nil || system == "" && (said.ResourceType != "Patient" || said.ID != "p-1") || system != "" && (said.ResourceType != "Bundle" || len(said.Entry) == 0) {
					t.Fatalf("%d, %q, %s gave %+v", p.status, contentType, body, got)
				}
			} else if code := problem.CodeOf(err); got != (Patient{}) || code != problem.ContextIncomplete && code != problem.ContextUnavailable {
				t.Fatalf("%+v, %v", got, err)
			}
			silentOf(t, err)
			if p.calls > 4 || p.tokens > 4 {
				t.Fatalf("%d calls, %d tokens", p.calls, p.tokens)
			}
			err = c.AddDocument(t.Context(), Document{RequestUUID: "r", Kind: KindNote, Title: "t", Text: "x", At: now, PatientID: "p-1", EncounterID: "E", ProviderID: "D"})
			silentOf(t, err)
			var refused *Error
			if err == nil && p.status != 200 && p.status != 201 || err != nil && (!errors.As(err, &refused) || refused.RetryAfter < 0 || refused.RetryAfter > time.Hour) {
				t.Fatalf("filed by %d, %s: %v", p.status, body, err)
			}
			if err == nil && len(body) > 0 && !isFHIR {
				t.Fatalf("filed by %q, %s", contentType, body)
			}
			for _, host := range p.tokenHosts {
				if !strings.HasPrefix(host, "https://") {
					t.Fatalf("our proof went to %s", host)
				}
			}
			for _, bearer := range p.bearers {
				if strings.ContainsFunc(strings.TrimPrefix(bearer, "Bearer "), func(r rune) bool { return r <= ' ' || r > '~' }) || bearer == "Bearer " {
					t.Fatalf("sent %q", bearer)
				}
			}
		}
	})
}

func silentOf(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := fmt.Sprintf("%v %v", err, problem.Of(err).LogValue())
	if strings.Contains(text, "Kanarienvogel") || strings.Contains(text, "://") {
		t.Fatalf("an error says %s", text)
	}
}
