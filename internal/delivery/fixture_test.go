package delivery

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/orgstore"
	"encounterlauncher/internal/secret"
)

const (
	// canary stands in everything that must not show up anywhere else.
	canary        = "Kanarienvogel"
	webhookSecret = "a-webhook-secret-of-more-than-32-characters"
)

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// ehr is the EHR's end: a webhook that answers as it is told.
type ehr struct {
	url string

	mu     sync.Mutex
	status int
	hold   chan struct{} // when not nil, a call waits for it to be closed
	got    map[string]int
	bodies map[string][]byte
	heads  []http.Header
	came   chan string
}

func newEHR(t *testing.T) *ehr {
	t.Helper()
	e := &ehr{status: http.StatusOK, got: map[string]int{}, bodies: map[string][]byte{}, came: make(chan string, 10_000)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := r.Header.Get(HeaderRequestUUID)
		e.mu.Lock()
		hold := e.hold
		e.mu.Unlock()
		if hold != nil {
			e.came <- id
			<-hold
		}
		e.mu.Lock()
		status := e.status
		e.heads = append(e.heads, r.Header)
		if status == http.StatusOK {
			e.got[id]++
			e.bodies[id] = body
		}
		e.mu.Unlock()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "said by the EHR: "+canary)
		if hold == nil {
			e.came <- id
		}
	}))
	t.Cleanup(server.Close)
	e.url = server.URL + "/notes"
	return e
}

func (e *ehr) answer(status int) { e.mu.Lock(); defer e.mu.Unlock(); e.status = status }
func (e *ehr) times(id string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got[id]
}

// world is a queue on file before a webhook and a folder.
type world struct {
	t        *testing.T
	clock    *clock
	ehr      *ehr
	log      *lockedBuffer
	cfg      orgconfig.Config
	conn     *orgstore.Conn
	queue    *Queue
	options  Options
	mu       sync.Mutex
	told     map[string]int
	eventErr error
}

func newWorld(t *testing.T, changes ...func(*orgconfig.Config)) *world {
	t.Helper()
	w := newWorldOf(t, changes...)
	w.open()
	return w
}

func newWorldOf(t *testing.T, changes ...func(*orgconfig.Config)) *world {
	t.Helper()
	folder := t.TempDir()
	w := &world{
		t: t, clock: &clock{t: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)}, ehr: newEHR(t), log: &lockedBuffer{}, told: map[string]int{},
	}
	w.cfg = orgconfig.Config{
		NATS: orgconfig.NATS{Folder: filepath.Join(folder, "queue"), SealKeyFiles: []string{sealKey(t, folder, "seal.key")}},
		Deliver: orgconfig.Deliver{
			Webhook: orgconfig.Webhook{URL: w.ehr.url, SecretFile: file(t, folder, "webhook.secret", webhookSecret+"\n")},
			Folder:  filepath.Join(folder, "notes"),
		},
	}
	for _, change := range changes {
		change(&w.cfg)
	}
	w.options = Options{
		Now: w.clock.now, FirstPause: time.Millisecond, AckWait: time.Second,
		Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Exported: func(_ context.Context, encounterID, providerID string, at time.Time) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.eventErr != nil {
				return w.eventErr
			}
			w.told[encounterID+" "+providerID+" "+at.Format(time.RFC3339)]++
			return nil
		},
	}
	t.Cleanup(w.close)
	return w
}

func sealKey(t testing.TB, folder, name string) string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return file(t, folder, name, base64.StdEncoding.EncodeToString(key)+"\n")
}

func file(t testing.TB, folder, name, text string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.conn, err = orgstore.Connect(w.cfg.NATS); err != nil {
		w.t.Fatal(err)
	}
	places, err := Places(w.cfg, nil, w.clock.now)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.queue, err = Open(w.t.Context(), w.conn, places, w.options); err != nil {
		w.t.Fatal(err)
	}
}

// close ends as a process does that is told to.
func (w *world) close() {
	if w.queue != nil {
		w.queue.Close()
		w.queue = nil
	}
	if w.conn != nil {
		if err := w.conn.Close(); err != nil {
			w.t.Error(err)
		}
		w.conn = nil
	}
}

// note is a callback of its own encounter.
func note(encounter string) (id string, raw []byte) {
	id = uuid.NewString()
	raw, _ = json.Marshal(map[string]any{
		"request_uuid": id, "type": nabla.NoteExport, "data": map[string]any{
			"external_patient_id": "P-" + canary, "external_encounter_id": encounter, "external_provider_id": "D-17",
			"note":            map[string]any{"sections": []any{map[string]any{"title": "Plan", "content": "Rest. " + canary, "category": nil}}},
			"visit_diagnoses": []any{map[string]any{"system": "ICD-10", "code": "J00", "display": "Cold " + canary, "is_hcc": false, "is_mcc": false}},
		},
	})
	return id, raw
}

func (w *world) accept(encounter string) (id string, raw []byte) {
	w.t.Helper()
	id, raw = note(encounter)
	if err := w.queue.Accept(w.t.Context(), id, nabla.NoteExport, raw); err != nil {
		w.t.Fatal(err)
	}
	return id, raw
}

// until waits for something that happens by itself, while the clock goes on.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(end) {
			w.t.Fatalf("not within 20 seconds: %s\n%s", what, w.log.String())
		}
		time.Sleep(2 * time.Millisecond)
		w.clock.advance(2 * time.Millisecond)
	}
}

func (w *world) item(id string) Item {
	w.t.Helper()
	i, _, err := w.queue.Show(w.t.Context(), string(keyOf(id)))
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

func (w *world) becomes(id, state string) Item {
	w.t.Helper()
	var i Item
	w.until(state, func() bool { i = w.item(id); return i.State == state })
	return i
}

func (w *world) file(id string) string {
	return filepath.Join(w.cfg.Deliver.Folder, id+"_note_export.json")
}

func (w *world) tellings(encounter string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told[encounter+" D-17 2026-11-03T09:00:00Z"]
}

// keepsQuiet looks for the canary wherever it must not be.
func (w *world) keepsQuiet() {
	w.t.Helper()
	if strings.Contains(w.log.String(), canary) || strings.Contains(w.log.String(), "E-") || strings.Contains(w.log.String(), "D-17") {
		w.t.Errorf("the log tells of the patient:\n%s", w.log.String())
	}
	read := 0
	err := filepath.WalkDir(w.cfg.NATS.Folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		read += len(text)
		for _, word := range []string{canary, "NOTE_EXPORT", "J00"} {
			if bytes.Contains(text, []byte(word)) {
				w.t.Errorf("%s holds %s", filepath.Base(path), word)
			}
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
	if read == 0 {
		w.t.Error("there was nothing to look through")
	}
}

func signedBy(h http.Header, body []byte) bool {
	return h.Get(HeaderSignature) == nabla.Sign(secret.New(webhookSecret), h.Get(HeaderTimestamp), body)
}

func mustNote(id, encounter string) []byte {
	_, raw := note(encounter)
	var m map[string]any
	_ = json.Unmarshal(raw, &m)
	m["request_uuid"] = id
	raw, _ = json.Marshal(m)
	return raw
}

func incompressible(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}
