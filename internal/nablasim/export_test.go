package nablasim

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// organisation is a callback endpoint that keeps what it got.
type organisation struct {
	mu     sync.Mutex
	bodies [][]byte
	heads  []http.Header
	answer func(w http.ResponseWriter, id string)
}

func (o *organisation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	o.mu.Lock()
	o.bodies, o.heads = append(o.bodies, body), append(o.heads, r.Header.Clone())
	answer := o.answer
	o.mu.Unlock()
	var e envelope
	_ = json.Unmarshal(body, &e)
	if answer != nil {
		answer(w, e.RequestUUID)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"request_uuid": e.RequestUUID})
}

func (o *organisation) last(t *testing.T) ([]byte, http.Header) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.bodies) == 0 {
		t.Fatal("no callback arrived")
	}
	body, head := o.bodies[len(o.bodies)-1], o.heads[len(o.heads)-1]
	heldCallback(t, body, head)
	return body, head
}

// withOrganisation is a fixture whose simulator exports, and one encounter, E-1.
func withOrganisation(t *testing.T, change func(*Callbacks)) (*fixture, *organisation) {
	t.Helper()
	f, o := newFixture(t), &organisation{}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	c := Callbacks{URL: server.URL + "/nabla/callbacks", Secrets: [][]byte{[]byte("new secret"), []byte("old secret")}}
	if change != nil {
		change(&c)
	}
	var err error
	if f.sim.exports, err = newExporter(c); err != nil {
		t.Fatal(err)
	}
	f.page(f.call(f.token(), "/encounters", goodCreate))
	return f, o
}

func TestAnExportIsSignedByTheLetterWithEverySecret(t *testing.T) {
	f, o := withOrganisation(t, nil)
	got, err := f.sim.Export(t.Context(), Export{ExternalEncounterID: "E-1"})
	if err != nil || got.Status != http.StatusOK || len(got.Faults) != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	body, head := o.last(t)
	timestamp := head.Get("X-Nabla-Connect-Timestamp")
	if at, err := time.Parse(time.RFC3339, timestamp); err != nil || !at.Equal(f.now()) {
		t.Errorf("timestamp %q", timestamp)
	}
	signatures := strings.Split(head.Get("X-Nabla-Connect-Signature"), ",")
	for i, secret := range []string{"new secret", "old secret"} {
		mac := hmac.New(sha256.New, []byte(secret))
		_, _ = io.WriteString(mac, timestamp+string(body))
		if want := hex.EncodeToString(mac.Sum(nil)); len(signatures) != 2 || signatures[i] != want {
			t.Errorf("signatures %v", signatures)
		}
	}
	var e struct {
		RequestUUID, Type string
		Data              struct {
			Patient   string `json:"external_patient_id"`
			Encounter string `json:"external_encounter_id"`
			Provider  string `json:"external_provider_id"`
			Note      struct {
				Sections []map[string]any `json:"sections"`
			} `json:"note"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatal(err)
	}
	if e.Type != NoteExport || e.Data.Patient != "P-1" || e.Data.Encounter != "E-1" || e.Data.Provider != "D-17" || len(e.Data.Note.Sections) != 4 {
		t.Errorf("%s", body)
	}
	for _, section := range e.Data.Note.Sections {
		if len(section) != 3 {
			t.Errorf("section %v", section)
		}
	}
	if category, there := e.Data.Note.Sections[3]["category"]; !there || category != nil {
		t.Error("no section has the category null")
	}
	if strings.Contains(string(body), "visit_diagnoses") || strings.Contains(string(body), "transcript") || strings.Contains(string(body), "Grace") {
		t.Errorf("%s", body)
	}
	if head.Get("Authorization") != "" {
		t.Error("a bearer token that nobody gave")
	}
}

func TestBothTypesTravelWithEverythingThatWasGiven(t *testing.T) {
	f, o := withOrganisation(t, func(c *Callbacks) { c.Bearer = func(context.Context) (string, error) { return "a-token", nil } })
	plan := "ASSESSMENT_AND_PLAN"
	if got, err := f.sim.Export(t.Context(), Export{
		ExternalEncounterID: "E-1", ExternalProviderID: "D-17", RequestUUID: "c0ffee00-0000-4000-8000-000000000001",
		Sections:   []Section{{"text", "Plan", &plan}},
		Diagnoses:  []Diagnosis{{"ICD-10", "I10", "Hypertension", true, false}},
		Transcript: []Utterance{{"Hello", "DOCTOR", "en-US", 0, 900}},
	}); err != nil || len(got.Faults) != 0 || got.RequestUUID != "c0ffee00-0000-4000-8000-000000000001" {
		t.Fatalf("%+v, %v", got, err)
	}
	body, head := o.last(t)
	want := `{"request_uuid":"c0ffee00-0000-4000-8000-000000000001","type":"NOTE_EXPORT","data":{"external_patient_id":"P-1","external_encounter_id":"E-1","external_provider_id":"D-17",` +
		`"note":{"sections":[{"content":"text","title":"Plan","category":"ASSESSMENT_AND_PLAN"}]},"visit_diagnoses":[{"system":"ICD-10","code":"I10","display":"Hypertension","is_hcc":true,"is_mcc":false}],` +
		`"transcript":[{"text":"Hello","speaker_type":"DOCTOR","locale":"en-US","start_offset_ms":0,"end_offset_ms":900}]}}`
	if string(body) != want {
		t.Errorf("%s", body)
	}
	if head.Get("Authorization") != "Bearer a-token" {
		t.Error("no bearer token")
	}
	if got, err := f.sim.Export(t.Context(), Export{Type: PatientInstructionsExport, ExternalEncounterID: "E-1", Instructions: "Rest."}); err != nil || len(got.Faults) != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	body, _ = o.last(t)
	if !strings.Contains(string(body), `"patient_instructions":{"instructions":"Rest."}`) || strings.Contains(string(body), `"note"`) {
		t.Errorf("%s", body)
	}
}

func TestWhatIsNoExportIsNotSent(t *testing.T) {
	f, o := withOrganisation(t, nil)
	odd := "GOSSIP"
	for name, c := range map[string]struct {
		export Export
		want   error
	}{
		"an unknown encounter":     {Export{ExternalEncounterID: "E-2"}, ErrNoEncounter},
		"another clinician":        {Export{ExternalEncounterID: "E-1", ExternalProviderID: "D-18"}, ErrNoEncounter},
		"an unknown type":          {Export{ExternalEncounterID: "E-1", Type: "X"}, ErrInvalidExport},
		"an unknown category":      {Export{ExternalEncounterID: "E-1", Sections: []Section{{"c", "t", &odd}}}, ErrInvalidExport},
		"a note with instructions": {Export{ExternalEncounterID: "E-1", Instructions: "x"}, ErrInvalidExport},
		"instructions with a note": {Export{ExternalEncounterID: "E-1", Type: PatientInstructionsExport, Sections: sampleNote()}, ErrInvalidExport},
	} {
		if _, err := f.sim.Export(t.Context(), c.export); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(o.bodies) != 0 {
		t.Error("something was sent")
	}
	f.sim.exports = nil
	if _, err := f.sim.Export(t.Context(), Export{ExternalEncounterID: "E-1"}); !errors.Is(err, ErrNoCallbacks) {
		t.Errorf("%v", err)
	}
}

func TestAnAnswerIsHeldAgainstTheResponseProtocol(t *testing.T) {
	f, o := withOrganisation(t, nil)
	say := func(status int, kind, body string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, id string) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.ReplaceAll(body, "ID", id))
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, string)
		want   string
	}{
		"good":             {say(200, "application/json; charset=utf-8", `{"request_uuid":"ID"}`), ""},
		"accepted":         {say(202, "application/json", `{"request_uuid":"ID"}`), "202"},
		"refused":          {say(401, "application/json", `{}`), "401"},
		"a redirect":       {func(w http.ResponseWriter, _ string) { w.Header().Set("Location", "/"); w.WriteHeader(302) }, "302"},
		"another id":       {say(200, "application/json", `{"request_uuid":"x"}`), "another request_uuid"},
		"no id":            {say(200, "application/json", `{}`), "no request_uuid"},
		"text":             {say(200, "text/plain", `{"request_uuid":"ID"}`), "application/json"},
		"not JSON":         {say(200, "application/json", `OK`), "JSON"},
		"large":            {say(200, "application/json", `{"request_uuid":"ID","x":"`+strings.Repeat("x", maxCallbackAnswer)+`"}`), "64 KiB"},
		"broken connexion": {func(http.ResponseWriter, string) { panic(http.ErrAbortHandler) }, "broke"},
	} {
		o.mu.Lock()
		o.answer = c.answer
		o.mu.Unlock()
		got, err := f.sim.Export(t.Context(), Export{ExternalEncounterID: "E-1"})
		if err != nil || (len(got.Faults) == 0) != (c.want == "") || !strings.Contains(strings.Join(got.Faults, "; "), c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestCallbacksGoToHTTPSOrToThisComputer(t *testing.T) {
	for address, good := range map[string]bool{
		"": true, "https://hospital.example/nabla": true, "http://127.0.0.1:1/x": true, "http://[::1]:1/x": true, "http://localhost/x": true,
		"http://hospital.example/nabla": false, "ftp://127.0.0.1/": false, "https://a:b@hospital.example/": false, "nabla": false,
	} {
		if _, err := newExporter(Callbacks{URL: address, Secrets: [][]byte{[]byte("s")}}); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, secrets := range [][][]byte{nil, {nil}, {[]byte("s"), nil}} {
		if _, err := newExporter(Callbacks{URL: "https://hospital.example", Secrets: secrets}); err == nil {
			t.Errorf("%q", secrets)
		}
	}
}
