package orgserver

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"encounterlauncher/internal/delivery"
	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

const (
	nablaSecret   = "a-secret-shared-with-nabla-of-some-length"
	earlierSecret = "the-secret-before-that-one-with-its-length"
)

// recipient is the EHR's webhook.
type recipient struct {
	url    string
	mu     sync.Mutex
	status int
	bodies map[string][]byte
	calls  int
}

func newRecipient(t *testing.T) *recipient {
	t.Helper()
	r := &recipient{status: http.StatusNoContent, bodies: map[string][]byte{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls++
		if r.status < 300 {
			r.bodies[q.Header.Get(delivery.HeaderRequestUUID)] = body
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *recipient) answer(status int) { r.mu.Lock(); defer r.mu.Unlock(); r.status = status }
func (r *recipient) has(id string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bodies[id]
}

// callbackWorld takes callbacks and brings them to a webhook and a folder.
type callbackWorld struct {
	*world
	ehr *recipient
}

func newCallbackWorld(t *testing.T, changes ...func(*orgconfig.Config)) *callbackWorld {
	t.Helper()
	folder, ehr := t.TempDir(), newRecipient(t)
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	all := append([]func(*orgconfig.Config){func(c *orgconfig.Config) {
		c.Callbacks.SecretFiles = []string{write(t, folder, "nabla.secret", nablaSecret+"\n"), write(t, folder, "earlier.secret", earlierSecret+"\n")}
		c.Deliver.Webhook = orgconfig.Webhook{URL: ehr.url, SecretFile: write(t, folder, "webhook.secret", strings.Repeat("w", 40)+"\n")}
		c.Deliver.Folder = filepath.Join(folder, "notes")
		c.NATS = orgconfig.NATS{Folder: filepath.Join(folder, "queue"), SealKeyFiles: []string{write(t, folder, "seal.key", key+"\n")}}
	}}, changes...)
	return &callbackWorld{newWorld(t, all...), ehr}
}

func exportOf(encounter string) (id string, body []byte) {
	id = uuid.NewString()
	body, _ = json.Marshal(map[string]any{
		"request_uuid": id, "type": nabla.NoteExport, "data": map[string]any{
			"external_patient_id": "P-1", "external_encounter_id": encounter, "external_provider_id": "D-17",
			"note": map[string]any{"sections": []any{map[string]any{"title": "Plan", "content": "Rest, " + canary, "category": "ASSESSMENT_AND_PLAN"}}},
		},
	})
	return id, body
}

// signed is a callback as Nabla makes it.
func (w *callbackWorld) signed(body []byte, key string) request {
	at := w.clock.now().UTC().Format("2006-01-02T15:04:05.000Z")
	return request{path: pathCallbacks, body: body, header: http.Header{
		nabla.HeaderTimestamp: {at}, nabla.HeaderSignature: {nabla.Sign(secret.New(key), at, body)},
	}}
}

func (w *callbackWorld) take(t *testing.T, encounter string) (id string, body []byte) {
	t.Helper()
	id, body = exportOf(encounter)
	got := w.do(t, w.signed(body, nablaSecret))
	if got.status != http.StatusOK || strings.TrimSpace(string(got.body)) != `{"request_uuid":"`+id+`"}` {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	return id, body
}

// seen is what the admin socket tells of a delivery.
func (w *callbackWorld) seen(t *testing.T, encounter string) delivery.Item {
	t.Helper()
	var l delivery.Listing
	w.admin(t, http.MethodGet, "/deliveries?all=true", http.StatusOK, &l)
	for _, i := range l.Items {
		var s delivery.Shown
		w.admin(t, http.MethodGet, "/deliveries/"+i.ID, http.StatusOK, &s)
		if s.Encounter != nil && s.Encounter.EncounterID == encounter {
			return i
		}
	}
	return delivery.Item{}
}

func (w *callbackWorld) admin(t *testing.T, method, path string, status int, into any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	rec := httptest.NewRecorder()
	w.server.Admin().ServeHTTP(rec, r)
	if rec.Code != status {
		t.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
	}
	if strings.Contains(rec.Body.String(), canary) || strings.Contains(rec.Body.String(), "P-1") {
		t.Errorf("%s tells of the patient", path)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), into); err != nil {
		t.Fatal(err)
	}
}

func (w *callbackWorld) restart(t *testing.T) {
	t.Helper()
	if err := w.server.Close(); err != nil {
		t.Fatal(err)
	}
	server, err := New(t.Context(), w.config, Deps{Now: w.clock.now, Log: w.server.log})
	if err != nil {
		t.Fatal(err)
	}
	w.server = server
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 seconds: %s", what)
		}
	}
}

// quiet looks through log and queue for what must not be there.
func (w *callbackWorld) quiet(t *testing.T) {
	t.Helper()
	for _, word := range []string{canary, "P-1", "E-1", "D-17", "ASSESSMENT"} {
		if strings.Contains(w.log.String(), word) {
			t.Errorf("the log holds %s", word)
		}
	}
	look := func() error {
		return filepath.WalkDir(w.config.NATS.Folder, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if bytes.Contains(text, []byte(canary)) || bytes.Contains(text, []byte("ASSESSMENT")) || bytes.Contains(text, []byte("external_patient_id")) {
				t.Errorf("%s holds the note", filepath.Base(path))
			}
			return err
		})
	}
	// The queue writes beside, and a file that took another's place meanwhile may have
	// been passed over: so all of it is looked through again.
	until(t, "every file is looked through", func() bool {
		err := look()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return err == nil
	})
}

func TestACallbackReachesTheEHRAsItCameAndThenTheClinicianIsTold(t *testing.T) {
	w := newCallbackWorld(t)
	l := w.listen(t, w.url, w.token(t, nil), "")
	id, body := w.take(t, "E-1")
	l.tells("E-1")
	if !bytes.Equal(w.ehr.has(id), body) {
		t.Errorf("the webhook got %q", w.ehr.has(id))
	}
	file, err := os.ReadFile(filepath.Join(w.config.Deliver.Folder, id+"_note_export.json"))
	if err != nil || !bytes.Equal(file, body) {
		t.Errorf("the folder has %q, %v", file, err)
	}
	w.refused(t, w.signed(body, nablaSecret), http.StatusConflict, problem.RequestInvalid)
	l.cancel()
	w.restart(t)
	w.refused(t, w.signed(body, nablaSecret), http.StatusConflict, problem.RequestInvalid)
	w.quiet(t)
}

func TestAWebhookThatWasDownGetsTheNoteWhenItIsBack(t *testing.T) {
	w := newCallbackWorld(t)
	w.ehr.answer(http.StatusBadGateway)
	l := w.listen(t, w.url, w.token(t, nil), "")
	id, body := w.take(t, "E-1")
	until(t, "the folder has it, the webhook not", func() bool {
		i := w.seen(t, "E-1")
		return i.State == delivery.Queued && i.Code == "status_502" && i.Places["folder"].State == "taken"
	})
	w.ehr.answer(http.StatusOK)
	w.clock.advance(2 * time.Second)
	l.tells("E-1")
	if !bytes.Equal(w.ehr.has(id), body) {
		t.Errorf("the webhook got %q", w.ehr.has(id))
	}
}

func TestARefusedNoteWaitsForAPersonThroughARestart(t *testing.T) {
	w := newCallbackWorld(t)
	w.ehr.answer(http.StatusUnprocessableEntity)
	id, _ := w.take(t, "E-1")
	until(t, "it was put aside", func() bool { return w.seen(t, "E-1").State == delivery.Aside })
	w.restart(t)
	item := w.seen(t, "E-1")
	if item.Code != "status_422" || item.Advice == "" {
		t.Errorf("%+v", item)
	}
	w.ehr.answer(http.StatusOK)
	l := w.listen(t, w.url, w.token(t, nil), "")
	w.admin(t, http.MethodPost, "/deliveries/"+item.ID+"/replay", http.StatusOK, &item)
	l.tells("E-1")
	if w.ehr.has(id) == nil {
		t.Error("the webhook has nothing")
	}
	until(t, "it is delivered", func() bool {
		w.admin(t, http.MethodGet, "/deliveries/"+item.ID, http.StatusOK, &item)
		return item.State == delivery.Delivered
	})
	var no delivery.Refusal
	w.admin(t, http.MethodPost, "/deliveries/"+item.ID+"/replay", http.StatusConflict, &no)
	w.admin(t, http.MethodPost, "/deliveries/"+strings.Repeat("0", 24)+"/discard", http.StatusNotFound, &no)
	l.cancel()
	w.quiet(t)
}

func TestWhatIsNotNablasCallbackIsRefusedAndMarksNothingAsSeen(t *testing.T) {
	w := newCallbackWorld(t)
	_, body := exportOf("E-1")
	spoil := func(change func(*request)) request {
		q := w.signed(body, nablaSecret)
		change(&q)
		return q
	}
	stale := func(by time.Duration) request {
		at := w.clock.now().Add(by).UTC().Format(time.RFC3339)
		return request{path: pathCallbacks, body: body, header: http.Header{
			nabla.HeaderTimestamp: {at}, nabla.HeaderSignature: {nabla.Sign(secret.New(nablaSecret), at, body)},
		}}
	}
	unknown := bytes.Replace(body, []byte(nabla.NoteExport), []byte("NOTE_DELETE"), 1)
	large := append(append([]byte{}, body...), bytes.Repeat([]byte(" "), nabla.MaxCallbackBytes)...)
	for name, c := range map[string]struct {
		q      request
		status int
		code   problem.Code
	}{
		"no signature":          {spoil(func(q *request) { delete(q.header, nabla.HeaderSignature) }), http.StatusUnauthorized, problem.Unauthorized},
		"no timestamp":          {spoil(func(q *request) { delete(q.header, nabla.HeaderTimestamp) }), http.StatusUnauthorized, problem.Unauthorized},
		"another's secret":      {w.signed(body, strings.Repeat("x", 40)), http.StatusUnauthorized, problem.Unauthorized},
		"another body":          {spoil(func(q *request) { q.body = unknown }), http.StatusUnauthorized, problem.Unauthorized},
		"a minute old":          {stale(-61 * time.Second), http.StatusUnauthorized, problem.Unauthorized},
		"of tomorrow":           {stale(24 * time.Hour), http.StatusUnauthorized, problem.Unauthorized},
		"a type nobody knows":   {w.signed(unknown, nablaSecret), http.StatusBadRequest, problem.RequestInvalid},
		"not JSON":              {w.signed([]byte(`{"request_uuid":`), nablaSecret), http.StatusBadRequest, problem.RequestInvalid},
		"not UTF-8":             {w.signed([]byte("{\"request_uuid\":\"\xff\"}"), nablaSecret), http.StatusBadRequest, problem.RequestInvalid},
		"too large":             {w.signed(large, nablaSecret), http.StatusRequestEntityTooLarge, problem.RequestTooLarge},
		"another content type":  {spoil(func(q *request) { q.contentType = "text/plain" }), http.StatusUnsupportedMediaType, problem.RequestInvalid},
		"another method":        {spoil(func(q *request) { q.method = http.MethodPut }), http.StatusMethodNotAllowed, problem.RequestInvalid},
		"a clinician's own try": {request{path: pathCallbacks, body: body, bearer: w.token(t, nil)}, http.StatusUnauthorized, problem.Unauthorized},
	} {
		t.Run(name, func(t *testing.T) { w.refused(t, c.q, c.status, c.code) })
	}
	// The secret before is still good, and nothing above was taken for this callback.
	if got := w.do(t, w.signed(body, earlierSecret)); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
	until(t, "it is delivered", func() bool { w.ehr.mu.Lock(); defer w.ehr.mu.Unlock(); return len(w.ehr.bodies) == 1 })
	w.quiet(t)
}

func TestNablaMustShowItsAccessTokenWhereTheOrganisationAsksForOne(t *testing.T) {
	w := newCallbackWorld(t, func(c *orgconfig.Config) {
		c.Callbacks.Bearer = orgconfig.Bearer{Issuer: c.Issuer, Audience: "callbacks", ClientID: "nabla-client"}
	})
	_, body := exportOf("E-1")
	with := func(claims map[string]any) request {
		q := w.signed(body, nablaSecret)
		q.bearer = w.token(t, claims)
		return q
	}
	w.refused(t, w.signed(body, nablaSecret), http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, with(map[string]any{"client_id": "nabla-client"}), http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, with(map[string]any{"client_id": "another", "aud": "callbacks"}), http.StatusUnauthorized, problem.Unauthorized)
	w.refused(t, with(map[string]any{"client_id": "nabla-client", "aud": "callbacks", "exp": w.clock.now().Unix()}), http.StatusUnauthorized, problem.Unauthorized)
	if got := w.do(t, with(map[string]any{"client_id": "nabla-client", "aud": "callbacks", "sub": "nabla-client"})); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestACallbackThatCannotBeKeptIsAnswered503AndNotMarkedAsSeen(t *testing.T) {
	w := newCallbackWorld(t)
	id, body := exportOf("E-1")
	// The connection to the store is away, as when a cluster is.
	w.server.conn.NATS().Close()
	got := w.do(t, w.signed(body, nablaSecret))
	if got.status != http.StatusServiceUnavailable || got.problem(t).Code != problem.OrgBusy || got.header.Get("Retry-After") == "" {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	w.restart(t)
	if got := w.do(t, w.signed(body, nablaSecret)); got.status != http.StatusOK {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	until(t, "it is delivered", func() bool { return w.ehr.has(id) != nil })
	w.quiet(t)
}

func TestWithoutCallbacksThereIsNoRoute(t *testing.T) {
	w := newWorld(t)
	w.refused(t, request{path: pathCallbacks, body: "{}"}, http.StatusNotFound, problem.RequestInvalid)
	rec := httptest.NewRecorder()
	w.server.Admin().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/deliveries", nil))
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), "callbacks.secret_files") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestCallbacksHaveThePathOfTheConfiguration(t *testing.T) {
	w := newCallbackWorld(t, func(c *orgconfig.Config) { c.Callbacks.Path = "/from/nabla" })
	_, body := exportOf("E-1")
	q := w.signed(body, nablaSecret)
	w.refused(t, q, http.StatusNotFound, problem.RequestInvalid)
	q.path = "/from/nabla"
	if got := w.do(t, q); got.status != http.StatusOK {
		t.Errorf("got %d", got.status)
	}
}

func TestEveryFaultOfCallbacksAndTheirDeliveryIsNamed(t *testing.T) {
	w := newCallbackWorld(t)
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for key, spoil := range map[string]func(*orgconfig.Config){
		"callbacks.secret_files":                func(c *orgconfig.Config) { c.Callbacks = orgconfig.Callbacks{Path: "/x"} },
		"callbacks.secret_files: there is none": func(c *orgconfig.Config) { c.Callbacks = orgconfig.Callbacks{} },
		"callbacks.secret_files: a secret": func(c *orgconfig.Config) {
			c.Callbacks.SecretFiles = []string{write(t, folder, "short", "short\n")}
		},
		"callbacks.path":              func(c *orgconfig.Config) { c.Callbacks.Path = "nabla" },
		"callbacks.bearer.issuer":     func(c *orgconfig.Config) { c.Callbacks.Bearer.Audience = "x" },
		"callbacks.bearer.audience":   func(c *orgconfig.Config) { c.Callbacks.Bearer.Issuer = c.Issuer },
		"callbacks.bearer.client_id":  func(c *orgconfig.Config) { c.Callbacks.Bearer = orgconfig.Bearer{Issuer: c.Issuer, Audience: "x"} },
		"nats.folder":                 func(c *orgconfig.Config) { c.NATS.Folder, c.PublicURL = "", "https://backend.hospital.example" },
		"deliver: callbacks":          func(c *orgconfig.Config) { c.Deliver = orgconfig.Deliver{} },
		"deliver.webhook.url":         func(c *orgconfig.Config) { c.Deliver.Webhook.URL = "http://ehr.hospital.example" },
		"deliver.webhook.secret_file": func(c *orgconfig.Config) { c.Deliver.Webhook.SecretFile = "" },
		"deliver.webhook.ca_file":     func(c *orgconfig.Config) { c.Deliver.Webhook.CAFile = c.Deliver.Webhook.SecretFile },
		"deliver.folder":              func(c *orgconfig.Config) { c.Deliver.Folder = folder },
		"deliver.give_up_after":       func(c *orgconfig.Config) { c.Deliver.GiveUpAfter = time.Second },
		"deliver.remember":            func(c *orgconfig.Config) { c.Deliver.Remember = time.Minute },
		"deliver.fhir":                func(c *orgconfig.Config) { c.Deliver.FHIR = true },
		"admin_socket: the path":      func(c *orgconfig.Config) { c.AdminSocket = "/" + strings.Repeat("x", 200) },
	} {
		cfg := w.config
		cfg.Callbacks.SecretFiles = append([]string{}, cfg.Callbacks.SecretFiles...)
		spoil(&cfg)
		if err := Check(cfg); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
	if err := Check(w.config); err != nil {
		t.Error(err)
	}
}

func TestStrangersWhoSendLargeBodiesTakeABoundedAmountOfMemory(t *testing.T) {
	w := newCallbackWorld(t)
	address := strings.TrimPrefix(strings.TrimSuffix(w.url, "/launcher"), "http://")
	head := "POST /launcher" + pathCallbacks + " HTTP/1.1\r\nHost: " + address + "\r\nContent-Type: application/json\r\n" +
		nabla.HeaderTimestamp + ": 2026-11-03T09:00:00Z\r\n" + nabla.HeaderSignature + ": " + strings.Repeat("0", 64) + "\r\nContent-Length: 8000000\r\n\r\n"
	body := bytes.Repeat([]byte("x"), 7_999_999) // one is missing, so it is waited for
	var strangers []net.Conn
	for range unprovenBytes / len(body) {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write(append([]byte(head), body...)); err != nil {
			t.Fatal(err)
		}
		strangers = append(strangers, c)
	}
	left := func() int64 { return w.server.callbacks.unproven.Load() }
	until(t, "all is read", func() bool { return left() < int64(len(body)) })
	_, large := exportOf("E-2")
	large = append(large, bytes.Repeat([]byte(" "), nabla.MaxCallbackBytes-len(large))...)
	got := w.do(t, w.signed(large, nablaSecret))
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || got.problem(t).Code != problem.OrgBusy {
		t.Errorf("got %d %s", got.status, got.body)
	}
	for _, c := range strangers {
		_ = c.Close()
	}
	until(t, "all is given back", func() bool { return left() == unprovenBytes })
	if got := w.do(t, w.signed(large, nablaSecret)); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.body)
	}
}
