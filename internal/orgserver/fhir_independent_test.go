//go:build fhirserver

package orgserver

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/nabla"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

// putThere tells the FHIR server of build/fhir/server.mjs what a client may not.
func putThere(t *testing.T, path, body string) {
	t.Helper()
	base := os.Getenv("FHIR_SERVER")
	if base == "" {
		t.Fatal("there is no FHIR server: run make test-fhir")
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+"/control/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode/100 != 2 {
		t.Fatalf("%s: %d", path, response.StatusCode)
	}
}

func TestIndependentServerGivesThePatientsDetailsForIdentifiers(t *testing.T) {
	putThere(t, "Patient/P-grace", `{"resourceType":"Patient","id":"P-grace","name":[{"use":"official","given":["Grace"],"family":"`+canary+`"}],
		"birthDate":"1906-12-09","gender":"female","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/individual-pronouns",
		"extension":[{"url":"value","valueCodeableConcept":{"text":"she/her"}}]}]}`)
	putThere(t, "Patient/P-partial", `{"resourceType":"Patient","id":"P-partial","name":[{"text":"`+canary+`"}],"birthDate":"1906","gender":"female"}`)

	w := newWorld(t, func(c *orgconfig.Config) { withFHIR(t, c, os.Getenv("FHIR_SERVER")+"/fhir/R4") })
	// The FHIR server has a clock of its own.
	w.clock.advance(time.Since(w.clock.now()))
	putThere(t, "clients/org-backend", `{"jwks_url":"`+w.url+PathJWKS+`"}`)
	var mu sync.Mutex
	var sent []nabla.CreatePayload
	w.watch = func(r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/encounters") {
			return
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var p nabla.CreatePayload
		if err := json.Unmarshal(body, &p); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, p)
	}
	ask := func(patient, key string) request {
		return request{path: orgapi.PathEncounters, bearer: w.token(t, nil), key: key, body: orgapi.CreateRequest{
			ExternalEncounterID: "E-" + key, ExternalPatientID: patient, ExternalProviderID: "D-17",
		}}
	}
	a := w.opened(t, ask("P-grace", "k-1"))
	if a.Encounter.Label != "Grace "+canary || visit(t, a.EncounterURL) != http.StatusOK {
		t.Errorf("%+v", a)
	}
	w.refused(t, ask("P-nobody", "k-2"), http.StatusUnprocessableEntity, problem.ContextIncomplete)
	w.refused(t, ask("P-partial", "k-3"), http.StatusUnprocessableEntity, problem.ContextIncomplete)
	mu.Lock()
	defer mu.Unlock()
	if len(sent) != 1 {
		t.Fatalf("%d encounters were created", len(sent))
	}
	d := sent[0].StructuredContext.PatientDemographics
	if d.Name != "Grace "+canary || d.BirthDate != "1906-12-09" || d.Gender != "female" || d.Pronouns == nil || *d.Pronouns != "she/her" {
		t.Errorf("%+v", d)
	}
	if strings.Contains(w.log.String(), canary) || strings.Contains(w.log.String(), "P-grace") {
		t.Error("the log tells of the patient")
	}
}

func TestIndependentServerFilesTheNoteOfACallback(t *testing.T) {
	base := os.Getenv("FHIR_SERVER")
	putThere(t, "Patient/P-1", `{"resourceType":"Patient","id":"P-1","name":[{"text":"Grace"}],"birthDate":"1906-12-09","gender":"female"}`)
	w := newCallbackWorld(t, func(c *orgconfig.Config) {
		withFHIR(t, c, base+"/fhir/R4")
		c.FHIR.ClientID = "org-backend-filing"
		c.Deliver = orgconfig.Deliver{FHIR: true}
	})
	w.clock.advance(time.Since(w.clock.now()))
	putThere(t, "clients/org-backend-filing", `{"jwks_url":"`+w.url+PathJWKS+`"}`)
	l := w.listen(t, w.url, w.token(t, nil), "")
	id, _ := w.take(t, "E-1")
	l.tells("E-1")
	l.cancel()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/control/DocumentReference", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var bundle struct {
		Entry []struct {
			Resource struct {
				Identifier []struct{ Value string }
				Subject    struct{ Reference string }
				Content    []struct{ Attachment struct{ Data []byte } }
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&bundle); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, e := range bundle.Entry {
		d := e.Resource
		if len(d.Identifier) == 0 || d.Identifier[0].Value != "urn:uuid:"+id {
			continue
		}
		found++
		if d.Subject.Reference != "Patient/P-1" || len(d.Content) != 1 || string(d.Content[0].Attachment.Data) != "Plan\nRest, "+canary+"\n" {
			t.Errorf("filed %+v", d)
		}
	}
	if found != 1 {
		t.Errorf("%d documents were filed", found)
	}
	w.quiet(t)
}
