package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// strictly reads a body slowly: valid JSON, UTF-8, one object, each name once.
func strictly(body []byte) (map[string]json.RawMessage, bool) {
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

// FuzzRequests sends requests of any method, address, host, peer and body to the routes
// of the agent. The agent is asked exactly when the peer is this user, or the system
// with quit, the request is of our own making and the body is of its route's form; it
// is then asked for just what the body says. Every other is refused with a problem.
func FuzzRequests(f *testing.F) {
	for _, body := range []string{
		``, `{}`, `{"id":"r1"}`, `{"last":true}`, `{"all":true}`, `{"link":"x","activation_token":"t","startup_id":"s","new":[1]}`, `{"code":"link_invalid","reference":"ABCDEFGH"}`,
		`{"id":"a","id":"b"}`, `{"ID":"a"}`, `{"id":null}`, `[]`, `{"id":"a"} {}`, "{\"id\":\"\xff\"}", `{"key":"Language","value":"de"}`, `{"finish":true}`, `{"link":""}`, `{"link":7}`, `{"activation_token":" "}`,
	} {
		for _, route := range []string{"link", "refusal", "snapshot", "policy", OpenRecent, SignOut, Retry, Quit, Choose, RemoveRecent, "nonsense"} {
			f.Add("POST", "/v1/"+route, host, "", true, []byte(body))
		}
	}
	f.Add("GET", "/v1/snapshot", host, "", true, []byte{})
	f.Add("GET", "/v1/policy", "127.0.0.1", "", true, []byte{})
	f.Add("POST", "/v1/quit", host, "", false, []byte{})
	f.Add("POST", "/v1/sign-in", host, "", false, []byte{})
	f.Add("POST", "/v1/sign-in", host, "https://evil.example", true, []byte{})
	f.Add("POST", "/v1/quit?x", host, "", false, []byte{})
	f.Add("POST", "//v1/quit", host, "", true, bytes.Repeat([]byte(" "), MaxBody+1))
	intents := []string{SignIn, ShowSignIn, OpenHelpDesk, OpenWindow, SignOut, OpenRecent, Cancel, RemoveRecent, Choose, Retry, FreshLink, Quit, ClearRecents, UndoRemove, Check}
	f.Fuzz(func(t *testing.T, method, target, named, origin string, own bool, body []byte) {
		if target == watchRoute {
			return // it has no end
		}
		a := newAgent()
		r := (&http.Request{Method: method, RequestURI: target, Host: named, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}).
			WithContext(context.WithValue(t.Context(), peerKey{}, peer{own: own}))
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		w := httptest.NewRecorder()
		(&routes{handler: a, server: &Server{writeLimit: time.Second}}).ServeHTTP(w, r)
		all, isObject := strictly(body)
		name, isIntent := strings.CutPrefix(target, "/v1/")
		isIntent = isIntent && slices.Contains(intents, name)
		ours := named == "encounter-launcher" && origin == "" && (own || target == "/v1/quit") && len(body) <= 64<<10
		switch calls := a.calls(); {
		case calls > 1, calls > 0 && (!ours || method != "POST"):
			t.Fatalf("the agent was asked %d times by %s %q of %q, %v: %s", calls, method, target, named, own, body)
		case len(a.links) > 0:
			var link string
			if target != "/v1/link" || !isObject || json.Unmarshal(all["link"], &link) != nil || a.links[0] != link || len(link) > 2048 {
				t.Fatalf("%q became %q", body, a.links)
			}
		case len(a.refusals) > 0:
			if target != "/v1/refusal" || !isObject || len(all) != 2 {
				t.Fatalf("%q became %q", body, a.refusals)
			}
		case len(a.intents) > 0:
			i := a.intents[0]
			if !isIntent || i.Name != name || !isObject && len(body) > 0 {
				t.Fatalf("%q became %+v", body, i)
			}
			for field, got := range map[string]any{"id": i.ID, "last": i.Last, "all": i.All, "finish": i.Finish, "key": i.Key, "value": i.Value} {
				want := reflect.New(reflect.TypeOf(got))
				if raw, there := all[field]; there && json.Unmarshal(raw, want.Interface()) != nil || want.Elem().Interface() != got {
					t.Fatalf("%q became %+v", body, i)
				}
			}
			for field := range all {
				if names, _ := allowed(name); !slices.Contains(names, field) {
					t.Fatalf("%q was taken for %s", body, name)
				}
			}
		}
		var answer map[string]json.RawMessage
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("answered %s", w.Body)
		}
		if w.Code != http.StatusOK {
			var code string
			if json.Unmarshal(answer["code"], &code) != nil || !problem.Known(code) || a.calls() > 0 {
				t.Fatalf("refused with %s", w.Body)
			}
			return
		}
		if !ours {
			t.Fatalf("%s %q of %q, %v is answered: %s", method, target, named, own, w.Body)
		}
	})
}

// FuzzAnswers gives a client whatever another process might write instead of the
// agent's answer. Every call ends: with what the answer says, read as encoding/json
// reads it, or with a problem; a watch shows only whole snapshots, in their order.
func FuzzAnswers(f *testing.F) {
	whole, err := encode(view.Snapshot{Revision: 7, OrganizationName: "<Spital>", Hidden: []string{}})
	if err != nil {
		f.Fatal(err)
	}
	answer := func(status, body string) []byte {
		return []byte("HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body)
	}
	for _, body := range []string{
		string(whole), string(whole) + "\n\n" + string(whole) + "\n", `{"accepted":true,"id":"x"}`, `{"accepted":false}`, `{"accepted":false,"code":"link_invalid","reference":"ABCDEFGH"}`, `{"code":"nonsense","fact":"x"}`, `{"code":""}`, "null", "[]", "", `{"revision":-1}`, `{"revision":"7"}`, "\xff", strings.Repeat("[", 20000),
	} {
		f.Add(answer("200 OK", body))
		f.Add(answer("400 Bad Request", body))
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}"))
	f.Add([]byte("SSH-2.0-x\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		client := func() *Client {
			ours, theirs := net.Pipe()
			go func() {
				defer func() { _ = theirs.Close() }()
				if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
					_, _ = theirs.Write(raw)
				}
			}()
			c := &Client{first: make(chan net.Conn, 1), dialed: time.Now()}
			c.first <- ours
			return c
		}
		// What net/http itself makes of it.
		status, body := 0, []byte(nil)
		response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: http.MethodGet})
		if err == nil {
			status = response.StatusCode
			if body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
				status = 0
			}
		}
		good := func(err error, into any) bool {
			t.Helper()
			want := status == http.StatusOK && json.Unmarshal(body, into) == nil
			if (err == nil) != want {
				t.Fatalf("%d, %q: %v", status, body, err)
			}
			var p *problem.Problem
			if err != nil && (!errors.As(err, &p) || !problem.Known(string(p.Code)) || len(p.Reference) != 8) {
				t.Fatalf("%d, %q: %v", status, body, err)
			}
			return err == nil
		}
		var want view.Snapshot
		got, err := client().Snapshot(t.Context())
		if good(err, &want) && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q was read as %+v", body, got)
		}
		if err != nil && !reflect.DeepEqual(got, view.Snapshot{}) {
			t.Fatal("a snapshot that could not be read shows something")
		}
		text, err := client().Policy(t.Context())
		if (err == nil) != (status == http.StatusOK) || err == nil && !bytes.Equal(text, body) {
			t.Fatalf("%d, %q: the policy is %q, %v", status, body, text, err)
		}
		ack, err := client().Link(t.Context(), candidate(t, "encounter-launcher://launch?handle=x"), Activation{})
		var said Ack
		if err == nil && (status == 0 || json.Unmarshal(body, &said) != nil || ack != said || !ack.Accepted && !problem.Known(string(ack.Code)) && ack.Sentence == "") || err != nil && (ack != Ack{} || !problem.IsCode(err, problem.AgentUnreachable)) {
			t.Fatalf("%d, %q: %+v, %v", status, body, ack, err)
		}
		if err := client().Do(t.Context(), Intent{Name: Check}); (err == nil) != (status == http.StatusOK) {
			t.Fatalf("%d, %q: %v", status, body, err)
		}
		var shown []view.Snapshot
		err = client().Watch(t.Context(), func(s view.Snapshot) error { shown = append(shown, s); return nil })
		if err == nil {
			t.Fatalf("%q: a watch ended without anybody having ended it", raw)
		}
		if len(shown) > 0 && status != http.StatusOK && response == nil {
			t.Fatalf("%q shows %+v", raw, shown)
		}
		n := 0
		for line := range bytes.SplitSeq(body, []byte("\n")) {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			var want view.Snapshot
			if status != http.StatusOK || json.Unmarshal(line, &want) != nil {
				break
			}
			if n >= len(shown) || !reflect.DeepEqual(shown[n], want) {
				t.Fatalf("%q shows %+v", body, shown)
			}
			n++
		}
		if status == http.StatusOK && n != len(shown) {
			t.Fatalf("%q shows %d snapshots, not %d", body, len(shown), n)
		}
	})
}
