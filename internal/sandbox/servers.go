package sandbox

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"encounterlauncher/internal/orgapi"
)

// onlyFrom serves requests that name this server as it is known, so that a page
// elsewhere cannot reach it under a name of its own (DNS rebinding).
func onlyFrom(host string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != host {
			http.Error(w, "This sandbox answers at its own address only.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// watchBackend shows the timeline what passes through the organisation's
// backend. It changes neither request nor answer.
func watchBackend(t *timeline, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		create := strings.HasSuffix(r.URL.Path, orgapi.PathEncounters)
		reopen := strings.HasSuffix(r.URL.Path, orgapi.PathEncounterURL)
		if r.Method != http.MethodPost || !create && !reopen {
			next.ServeHTTP(w, r)
			return
		}
		body := peek(r)
		var row *row
		if create {
			var request orgapi.CreateRequest
			_ = json.Unmarshal(body, &request)
			row = t.asked(request.Handle)
		} else {
			var request orgapi.ReopenRequest
			_ = json.Unmarshal(body, &request)
			row = t.reopened(request.ExternalEncounterID)
		}
		seen := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		var answer struct {
			URL  string `json:"encounter_url"`
			Code string `json:"code"`
		}
		_ = json.Unmarshal(seen.body.Bytes(), &answer)
		if seen.status != http.StatusOK && answer.Code == "" {
			answer.Code = "http " + http.StatusText(seen.status)
		}
		t.answered(row, answer.URL, answer.Code)
	})
}

// watchNabla shows the timeline what reaches the simulator: base is where its
// pages are.
func watchNabla(t *timeline, base string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := r.Method == http.MethodPost
		var body []byte
		if call {
			body = peek(r)
		}
		seen := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		switch {
		case seen.status != http.StatusOK:
		case call:
			var payload struct {
				Encounter string `json:"external_encounter_id"`
			}
			if json.Unmarshal(body, &payload) == nil && payload.Encounter != "" {
				t.created(payload.Encounter)
			}
		case r.Method == http.MethodGet:
			t.fetched(base + r.URL.RequestURI())
		}
	})
}

// peek reads a body up to the contract's limit and puts it back.
func peek(r *http.Request) []byte {
	read, err := io.ReadAll(io.LimitReader(r.Body, orgapi.MaxRequestBytes+1))
	rest := io.Reader(r.Body)
	if err != nil {
		rest = failing{err}
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(read), rest), r.Body}
	return read
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// recorder keeps the status and the first bytes of an answer that it passes on.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if room := orgapi.MaxAnswerBytes - r.body.Len(); room > 0 {
		r.body.Write(b[:min(room, len(b))])
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
