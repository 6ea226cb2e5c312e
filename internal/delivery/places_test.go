package delivery

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/fhir"
	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgconfig"
)

func hook(t *testing.T, url, ca string) *webhook {
	t.Helper()
	w, err := newWebhook(orgconfig.Webhook{URL: url, CAFile: ca, SecretFile: file(t, t.TempDir(), "secret", webhookSecret)}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func failure(t *testing.T, err error) Failure {
	t.Helper()
	var f *Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v", err)
	}
	return *f
}

func TestAStatusSaysWhetherToTryAgain(t *testing.T) {
	for status, refused := range map[int]bool{
		300: false, 301: false, 307: false, 400: true, 401: false, 403: false, 404: false, 405: false, 408: false, 409: true, 410: false, 413: true,
		415: true, 422: true, 425: false, 429: false, 500: false, 502: false, 503: false, 504: false,
	} {
		f := failure(t, statusFailure(status, ""))
		if f.Refused != refused || f.Code == "" || Advice(f.Code) == "" {
			t.Errorf("%d: %+v", status, f)
		}
	}
	for _, status := range []int{200, 201, 202, 204} {
		if err := statusFailure(status, ""); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
	if f := failure(t, statusFailure(503, "120")); f.After != 2*time.Minute {
		t.Errorf("%+v", f)
	}
	for _, text := range []string{"-5", "soon", "99999999999"} {
		if f := failure(t, statusFailure(429, text)); f.After != 0 {
			t.Errorf("%q: %+v", text, f)
		}
	}
}

func TestANoteGoesNowhereElseThanToTheWebhook(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(other.Close)
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(server.Close)
	f := failure(t, hook(t, server.URL, "").Deliver(t.Context(), Note{Raw: []byte("{}")}))
	if f.Refused || f.Code != "status_307" || reached {
		t.Errorf("%+v, reached: %v", f, reached)
	}
}

func TestAWebhookThatCannotBeReachedSaysWhy(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	if f := failure(t, hook(t, server.URL, "").Deliver(t.Context(), Note{})); f.Code != CodeUntrusted {
		t.Errorf("%+v", f)
	}
	ca := file(t, t.TempDir(), "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	if err := hook(t, server.URL, ca).Deliver(t.Context(), Note{}); err != nil {
		t.Errorf("got %v", err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	_ = l.Close()
	if f := failure(t, hook(t, nobody, "").Deliver(t.Context(), Note{})); f.Code != CodeUnreachable || f.Refused {
		t.Errorf("%+v", f)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	f := failure(t, hook(t, server.URL, "").Deliver(ctx, Note{}))
	if f.Code != CodeTimeout || strings.Contains(f.Error(), "127.0.0.1") {
		t.Errorf("%+v", f)
	}
}

func TestAWebhookIsRefusedUnlessItsAddressAndSecretAreGood(t *testing.T) {
	good := file(t, t.TempDir(), "secret", webhookSecret)
	for _, c := range []orgconfig.Webhook{
		{URL: "http://ehr.example/x", SecretFile: good}, {URL: "https://user:word@ehr.example/x", SecretFile: good}, {URL: "https://ehr.example/x#y", SecretFile: good},
		{URL: "ehr.example", SecretFile: good}, {URL: "https://ehr.example/x"}, {SecretFile: good},
		{URL: "https://ehr.example/x", SecretFile: file(t, t.TempDir(), "short", "short")},
		{URL: "https://ehr.example/x", SecretFile: file(t, t.TempDir(), "two", webhookSecret+"\n"+webhookSecret)},
		{URL: "https://ehr.example/x", SecretFile: good, CAFile: good},
	} {
		if _, err := newWebhook(c, time.Now); err == nil || !strings.HasPrefix(err.Error(), "deliver.webhook.") || strings.Contains(err.Error(), "word") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := newWebhook(orgconfig.Webhook{URL: "https://ehr.example/notes?of=nabla", SecretFile: good}, time.Now); err != nil {
		t.Error(err)
	}
}

func TestTheFolderWritesAWholeFileOnceAndOverNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes")
	f, err := newFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	n := Note{Callback: nabla.Callback{RequestUUID: "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11", Type: nabla.PatientInstructionsExport}, Raw: []byte(`{"a":1}`)}
	for range 2 {
		if err := f.Deliver(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	n.Raw = []byte(`{"a":2}`)
	if got := failure(t, f.Deliver(t.Context(), n)); got.Code != CodeFileConflict || !got.Refused {
		t.Errorf("%+v", got)
	}
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 1 || entries[0].Name() != "6f1e8a52-0c1b-4b7e-9d55-2a4f0c9b7a11_patient_instructions_export.json" {
		t.Fatalf("%v, %v", entries, err)
	}
	if text, err := os.ReadFile(filepath.Join(path, entries[0].Name())); err != nil || string(text) != `{"a":1}` {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if got := failure(t, f.Deliver(t.Context(), n)); got.Refused {
		t.Errorf("a folder that is away refuses for good: %+v", got)
	}
	if _, err := newFolder(file(t, t.TempDir(), "a-file", "")); err == nil {
		t.Error("a file was taken for a folder")
	}
}

func TestAFileNameIsNeverAPath(t *testing.T) {
	for _, id := range []string{"../../etc/passwd", "a/b", "..", "", "a.b", "a:b", strings.Repeat("a", 65), "é"} {
		name := fileName(id, nabla.NoteExport)
		if !fs.ValidPath(name) || strings.ContainsAny(name, "/:\\") || name != string(keyOf(id))+"_note_export.json" {
			t.Errorf("%q: %q", id, name)
		}
	}
}

type filing struct {
	got fhir.Document
	err error
}

func (f *filing) AddDocument(_ context.Context, d fhir.Document) error { f.got = d; return f.err }

func TestADocumentIsTheNoteAsPeopleReadIt(t *testing.T) {
	at := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	note := nabla.Callback{
		RequestUUID: "r", Type: nabla.NoteExport, ExternalPatientID: "P", ExternalEncounterID: "E", ExternalProviderID: "D",
		Note: &nabla.Note{
			Sections:   []nabla.Section{{Title: "Plan", Content: " Rest.\n"}, {Content: "No title."}, {Title: "Empty"}},
			Diagnoses:  []nabla.Diagnosis{{System: "ICD-10", Code: "J00", Display: "Cold"}, {Display: "Other"}},
			Transcript: []nabla.Utterance{{Text: "never filed"}},
		},
	}
	f := &filing{}
	d := &document{f}
	if err := d.Deliver(t.Context(), Note{Callback: note, Received: at}); err != nil {
		t.Fatal(err)
	}
	want := fhir.Document{
		RequestUUID: "r", Kind: fhir.KindNote, PatientID: "P", EncounterID: "E", ProviderID: "D", Title: "Encounter note", At: at,
		Text: "Plan\nRest.\n\nNo title.\n\nEmpty\n\nDiagnoses\n- Cold (ICD-10 J00)\n- Other\n",
	}
	if f.got != want {
		t.Errorf("filed %+v", f.got)
	}
	note = nabla.Callback{RequestUUID: "r", Type: nabla.PatientInstructionsExport, Instructions: "Drink.\n"}
	if err := d.Deliver(t.Context(), Note{Callback: note}); err != nil || f.got.Kind != fhir.KindInstructions || f.got.Text != "Drink.\n" || f.got.Title != "Patient instructions" {
		t.Errorf("filed %+v, %v", f.got, err)
	}
	f.err = &fhir.Error{Permanent: true}
	if got := failure(t, d.Deliver(t.Context(), Note{Callback: note})); !got.Refused || got.Code != CodeDocumentRefused {
		t.Errorf("%+v", got)
	}
	f.err = &fhir.Error{RetryAfter: time.Minute}
	if got := failure(t, d.Deliver(t.Context(), Note{Callback: note})); got.Refused || got.After != time.Minute {
		t.Errorf("%+v", got)
	}
}

func TestAPlaceThatFailsAgainAndAgainIsLeftAloneAndThenTriedByOne(t *testing.T) {
	now := time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)
	g := &gate{first: time.Second}
	for range gateFailures {
		if wait, _ := g.enter(now); wait != 0 {
			t.Fatalf("waits %v", wait)
		}
		g.leave(now, "status_500", 0)
	}
	if wait, code := g.enter(now); wait != time.Second || code != "status_500" {
		t.Errorf("waits %v for %q", wait, code)
	}
	now = now.Add(time.Second)
	if wait, _ := g.enter(now); wait != 0 {
		t.Errorf("the one that tries waits %v", wait)
	}
	if wait, _ := g.enter(now); wait != probeWait*time.Second {
		t.Errorf("the others wait %v", wait)
	}
	for range 20 {
		g.leave(now, "status_500", 0)
	}
	if wait, _ := g.enter(now); wait != gateLongest {
		t.Errorf("in the end it waits %v", wait)
	}
	g.leave(now, "", 0)
	if wait, _ := g.enter(now); wait != 0 {
		t.Errorf("after an answer it waits %v", wait)
	}
	g.leave(now, "status_429", 3*time.Minute)
	if wait, _ := g.enter(now); wait != 3*time.Minute {
		t.Errorf("it waits %v, and not as it was asked to", wait)
	}
	g.leave(now, "status_429", 30*24*time.Hour)
	if wait, _ := g.enter(now); wait != longestPause {
		t.Errorf("it waits %v", wait)
	}
	g.open()
	if wait, _ := g.enter(now); wait != 0 {
		t.Errorf("opened by a person it waits %v", wait)
	}
}

func TestThePauseGrowsWithTheTimeThatItLasts(t *testing.T) {
	c := &clock{t: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)}
	q := &Queue{o: Options{Now: c.now, FirstPause: time.Second}}
	e := entry{meta: meta{Since: c.now()}}
	for _, s := range []struct{ age, want time.Duration }{{0, time.Second}, {time.Minute, 30 * time.Second}, {23 * time.Hour, longestPause}} {
		c.t = e.meta.Since.Add(s.age)
		for range 20 {
			if got := q.patience(e, c.now()); got < s.want-s.want/10 || got > s.want+s.want/10+1 {
				t.Errorf("after %v it is %v", s.age, got)
			}
		}
	}
}
