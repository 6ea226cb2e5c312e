package orgserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"encounterlauncher/internal/orgapi"
)

// The validator keeps compiled schemas, so one caller at a time.
var (
	contractLock sync.Mutex
	contract     = sync.OnceValues(func() (*openapi3.T, error) {
		return openapi3.NewLoader().LoadFromData(orgapi.OpenAPI)
	})
)

func TestTheContractIsAValidOpenAPIDocument(t *testing.T) {
	d, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	if d.Webhooks["nablaCallback"] == nil || d.Paths.Value(orgapi.PathEvents) == nil {
		t.Error("callbacks or events are not described")
	}
}

// heldAgainstContract compares an exchange with openapi.yaml: every status,
// header and body of ours is described there, and what we accept is what it
// allows.
func heldAgainstContract(t *testing.T, r *http.Request, body []byte, got reply) {
	t.Helper()
	contractLock.Lock()
	defer contractLock.Unlock()
	d, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	path := d.Paths.Value(strings.TrimPrefix(r.URL.Path, "/launcher"))
	if path == nil || path.GetOperation(r.Method) == nil {
		return // not a call of the contract
	}
	operation := path.GetOperation(r.Method)
	described := operation.Responses.Status(got.status)
	if described == nil {
		t.Errorf("the contract does not know %d on %s", got.status, r.URL.Path)
		return
	}
	noteProduced(operation.OperationID, got.status)
	for name, h := range described.Value.Headers {
		if h.Value.Required && got.header.Get(name) == "" {
			t.Errorf("%d on %s lacks the header %s", got.status, r.URL.Path, name)
		}
	}
	kind := got.header.Get("Content-Type")
	media := described.Value.Content[kind]
	if media == nil {
		t.Errorf("the contract does not know %s on %s", kind, r.URL.Path)
		return
	}
	if strings.HasSuffix(kind, "json") {
		if err := visit31(media.Schema.Value, got.body); err != nil {
			t.Errorf("%d on %s: %v", got.status, r.URL.Path, err)
		}
	}
	if got.status == http.StatusOK && operation.RequestBody != nil {
		if err := visit31(operation.RequestBody.Value.Content["application/json"].Schema.Value, body); err != nil {
			t.Errorf("%s accepted what the contract refuses: %v", r.URL.Path, err)
		}
	}
}

// eventHeldAgainstContract compares the data of one event of a stream.
func eventHeldAgainstContract(t *testing.T, data []byte) {
	t.Helper()
	contractLock.Lock()
	defer contractLock.Unlock()
	d, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	if err := visit31(d.Components.Schemas["ExportedEvent"].Value, data); err != nil {
		t.Errorf("an event is not as the contract says: %v", err)
	}
}

func visit31(s *openapi3.Schema, body []byte) error {
	var value any
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&value); err != nil {
		return err
	}
	return s.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors())
}

func TestTheContractWouldNoticeAWrongAnswer(t *testing.T) {
	d, err := contract()
	if err != nil {
		t.Fatal(err)
	}
	contractLock.Lock()
	defer contractLock.Unlock()
	for name, bodies := range map[string][]string{
		"CreateAnswer":  {`{}`, `{"encounter_url":"https://a.example","encounter":{"external_encounter_id":"E"}}`, `{"encounter_url":5,"encounter":{"external_encounter_id":"E","external_provider_id":"D","label":""}}`},
		"CreateRequest": {`{}`, `{"handle":"short"}`, `{"handle":"Zk3vQ9x1T7mB2nR5wY8uLg","request":"a.b.c"}`, `{"external_encounter_id":"E"}`, `{"handle":"Zk3vQ9x1T7mB2nR5wY8uLg","name":"x"}`},
		"LaunchRequest": {`{}`, strings.Replace(mustJSON(t, goodLaunch()), `"pronouns":null`, `"pronouns":5`, 1), strings.Replace(mustJSON(t, goodLaunch()), `"pronouns":null`, `"x":null`, 1)},
		"Problem":       {`{"type":"about:blank","title":"x","status":400,"code":"invented","reference":"00000000"}`, `{"type":"about:blank","title":"x","status":400,"code":"internal","reference":"x"}`},
	} {
		for _, body := range bodies {
			if visit31(d.Components.Schemas[name].Value, []byte(body)) == nil {
				t.Errorf("%s takes %s", name, body)
			}
		}
	}
	if err := visit31(d.Components.Schemas["LaunchRequest"].Value, []byte(mustJSON(t, goodLaunch()))); err != nil {
		t.Error(err)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
