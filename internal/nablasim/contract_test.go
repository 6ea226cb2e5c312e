package nablasim

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// The validator keeps compiled schemas, so one caller at a time.
var (
	contractLock sync.Mutex
	protocolDoc  = sync.OnceValues(func() (*openapi3.T, error) { return openapi3.NewLoader().LoadFromData(OpenAPI) })
	controlDoc   = sync.OnceValues(func() (*openapi3.T, error) { return openapi3.NewLoader().LoadFromData(ControlOpenAPI) })
)

func TestBothDocumentsAreValidOpenAPI(t *testing.T) {
	for name, load := range map[string]func() (*openapi3.T, error){"protocol": protocolDoc, "control": controlDoc} {
		d, err := load()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := d.Validate(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func visit31(s *openapi3.Schema, body []byte) error {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return s.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors())
}

// held compares an exchange with a document: every status, header and body is
// described there, and what is accepted is what it allows.
func held(t *testing.T, load func() (*openapi3.T, error), method, path string, sent []byte, got reply) {
	t.Helper()
	contractLock.Lock()
	defer contractLock.Unlock()
	d, err := load()
	if err != nil {
		t.Fatal(err)
	}
	item := d.Paths.Find(path)
	if item == nil {
		for _, word := range strings.Split(path, "/") { // a fault's id
			if item == nil && word != "" && strings.Trim(word, "0123456789") == "" {
				item = d.Paths.Value(strings.Replace(path, "/"+word, "/{id}", 1))
			}
		}
	}
	if item == nil {
		if got.status != http.StatusNotFound && got.status != http.StatusForbidden {
			t.Errorf("%d on %s, which is not described", got.status, path)
		}
		return
	}
	operation := item.GetOperation(method)
	if operation == nil {
		if got.status != http.StatusMethodNotAllowed {
			t.Errorf("%d for %s on %s", got.status, method, path)
		}
		return
	}
	described := operation.Responses.Status(got.status)
	if described == nil {
		t.Errorf("%d on %s is not described", got.status, path)
		return
	}
	for name, h := range described.Value.Headers {
		if h.Value.Required && got.header.Get(name) == "" {
			t.Errorf("%d on %s lacks the header %s", got.status, path, name)
		}
	}
	media := described.Value.Content[got.header.Get("Content-Type")]
	if media == nil {
		t.Errorf("%d on %s is %s, which is not described", got.status, path, got.header.Get("Content-Type"))
		return
	}
	if strings.HasSuffix(got.header.Get("Content-Type"), "json") {
		if err := visit31(media.Schema.Value, []byte(got.text)); err != nil {
			t.Errorf("%d on %s: %v", got.status, path, err)
		}
	}
	if got.status == http.StatusOK && operation.RequestBody != nil {
		if err := visit31(operation.RequestBody.Value.Content["application/json"].Schema.Value, sent); err != nil {
			t.Errorf("%s accepted what its document refuses: %v", path, err)
		}
	}
}

// heldCallback compares a callback with the document's webhook.
func heldCallback(t *testing.T, body []byte, head http.Header) {
	t.Helper()
	contractLock.Lock()
	defer contractLock.Unlock()
	d, err := protocolDoc()
	if err != nil {
		t.Fatal(err)
	}
	operation := d.Webhooks["callback"].Post
	if err := visit31(operation.RequestBody.Value.Content["application/json"].Schema.Value, body); err != nil {
		t.Errorf("a callback is not as its document says: %v", err)
	}
	for _, p := range operation.Parameters {
		value := head.Get(p.Value.Name)
		if value == "" {
			if p.Value.Required {
				t.Errorf("a callback lacks %s", p.Value.Name)
			}
			continue
		}
		text, _ := json.Marshal(value)
		if err := visit31(p.Value.Schema.Value, text); err != nil {
			t.Errorf("%s of a callback: %v", p.Value.Name, err)
		}
	}
}

func TestTheDocumentsWouldNoticeAWrongAnswer(t *testing.T) {
	d, err := protocolDoc()
	if err != nil {
		t.Fatal(err)
	}
	contractLock.Lock()
	defer contractLock.Unlock()
	for name, bodies := range map[string][]string{
		"EncounterURL":  {`{}`, `{"encounter_url":5}`},
		"User":          {`{}`, `{"provider_email":"a@b","external_provider_id":"D","created_at":5}`, `{"provider_email":"a@b","external_provider_id":"D","created_at":"2026-11-03T09:00:00Z","settings":{}}`},
		"CreateRequest": {`{}`, strings.Replace(goodCreate, `"pronouns":null`, `"pronouns":5`, 1), strings.Replace(goodCreate, `"E-1"`, `"E-1","x":1`, 1)},
		"UserRequest":   {`{"provider_email":"a@b","external_provider_id":"D","settings":{"specialty":{}}}`},
		"NoteExport":    {`{}`, `{"request_uuid":"x","type":"NOTE_EXPORT","data":{"external_patient_id":"P","external_encounter_id":"E","external_provider_id":"D","note":{"sections":[{"content":"","title":"","category":"GOSSIP"}]}}}`},
		"TokenAnswer":   {`{"access_token":"x","expires_in":"5"}`},
		"Refusal":       {`{"error":"x"}`},
	} {
		for _, body := range bodies {
			if visit31(d.Components.Schemas[name].Value, []byte(body)) == nil {
				t.Errorf("%s takes %s", name, body)
			}
		}
	}
	if err := visit31(d.Components.Schemas["CreateRequest"].Value, []byte(goodCreate)); err != nil {
		t.Error(err)
	}
}
