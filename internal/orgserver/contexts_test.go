package orgserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

func pemKey(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// withFHIR makes a FHIR server the source of the patients' details.
func withFHIR(t *testing.T, c *orgconfig.Config, base string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.ContextFile = ""
	c.FHIR = orgconfig.FHIR{BaseURL: base, ClientID: "org-backend", KeyFiles: []string{write(t, t.TempDir(), "fhir.pem", pemKey(t, key))}}
}

// fhirServer answers every reading of a patient in one way.
func fhirServer(t *testing.T, start func(http.Handler) *httptest.Server, status int, patient string) *httptest.Server {
	t.Helper()
	var server *httptest.Server
	server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := `{"token_endpoint":"` + server.URL + `/token","access_token":"t","token_type":"bearer","expires_in":300}`
		w.Header().Set("Content-Type", "application/json")
		if strings.HasPrefix(r.URL.Path, "/Patient/") {
			w.WriteHeader(status)
			answer = patient
		}
		_, _ = io.WriteString(w, answer)
	}))
	// That a client does not trust it is what a test is for.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	return server
}

func (w *world) byIdentifiers(t *testing.T, patient, key string) request {
	t.Helper()
	return request{path: orgapi.PathEncounters, bearer: w.token(t, nil), key: key, body: orgapi.CreateRequest{
		ExternalEncounterID: "E-1", ExternalPatientID: patient, ExternalProviderID: "D-17",
	}}
}

func TestTheDetailsForIdentifiersComeFromTheFHIRServer(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		patient string
		want    int
		code    problem.Code
	}{
		"a whole record":  {200, `{"resourceType":"Patient","id":"P-1","name":[{"text":"Grace ` + canary + `"}],"birthDate":"1906-12-09","gender":"female"}`, 200, ""},
		"a partial one":   {200, `{"resourceType":"Patient","id":"P-1","name":[{"text":"Grace ` + canary + `"}],"gender":"female"}`, 422, problem.ContextIncomplete},
		"none":            {404, `{"resourceType":"OperationOutcome","issue":[{"diagnostics":"` + canary + `"}]}`, 422, problem.ContextIncomplete},
		"a hostile one":   {200, `{"resourceType":"Patient","id":"P-1","name":[{"text":"Grace\u202e ` + canary + `"}],"birthDate":"1906-12-09","gender":"female"}`, 422, problem.ContextIncomplete},
		"of somebody":     {200, `{"resourceType":"Patient","id":"P-3","name":[{"text":"Grace ` + canary + `"}],"birthDate":"1906-12-09","gender":"female"}`, 503, problem.ContextUnavailable},
		"a server's fear": {403, canary, 503, problem.ContextUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			base := fhirServer(t, httptest.NewServer, c.status, c.patient).URL
			w := newWorld(t, func(cfg *orgconfig.Config) { withFHIR(t, cfg, base) })
			q := w.byIdentifiers(t, "P-1", "key-1")
			if c.code == "" {
				if a := w.opened(t, q); a.Encounter.Label != "Grace "+canary {
					t.Errorf("%+v", a)
				}
			} else {
				w.refused(t, q, c.want, c.code)
			}
			if strings.Contains(w.log.String(), canary) || strings.Contains(w.log.String(), "P-1") {
				t.Error("the log tells of the patient")
			}
		})
	}
}

func TestOnlyTheAuthoritiesOfTheSystemAndOfTheFileAreTrusted(t *testing.T) {
	server := fhirServer(t, httptest.NewTLSServer, 200, `{"resourceType":"Patient","id":"P-1","name":[{"text":"Grace"}],"birthDate":"1906-12-09","gender":"female"}`)
	file := write(t, t.TempDir(), "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	trusted := newWorld(t, func(c *orgconfig.Config) { withFHIR(t, c, server.URL); c.FHIR.CAFile = file })
	trusted.opened(t, trusted.byIdentifiers(t, "P-1", "key-1"))
	foreign := newWorld(t, func(c *orgconfig.Config) { withFHIR(t, c, server.URL) })
	foreign.refused(t, foreign.byIdentifiers(t, "P-1", "key-1"), http.StatusServiceUnavailable, problem.ContextUnavailable)
	if !strings.Contains(foreign.log.String(), "certificate is not trusted") {
		t.Error("the log does not say why")
	}
}

func TestWithoutASourceTheDetailsAreUnavailable(t *testing.T) {
	w := newWorld(t, func(c *orgconfig.Config) { c.ContextFile = "" })
	w.refused(t, w.byIdentifiers(t, "P-1", "key-1"), http.StatusServiceUnavailable, problem.ContextUnavailable)
}

func TestTheKeysOfAllClientsArePublishedTogether(t *testing.T) {
	w := newWorld(t, func(c *orgconfig.Config) { withFHIR(t, c, "https://ehr.example/fhir") })
	got := w.do(t, request{method: http.MethodGet, path: PathJWKS})
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(got.body, &set); err != nil || got.status != http.StatusOK {
		t.Fatalf("%d, %v", got.status, err)
	}
	var algorithms []string
	for _, key := range set.Keys {
		algorithms = append(algorithms, key["alg"])
		if key["kid"] == "" || key["d"] != "" {
			t.Error("a key has no name, or its private part")
		}
	}
	if !slices.Equal(algorithms, []string{"ES256", "ES384"}) {
		t.Errorf("the keys are for %v", algorithms)
	}
}

func TestAFaultOfTheFHIRSectionIsNamedByItsKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, t.TempDir(), "rsa.pem", pemKey(t, key))
	base := newWorld(t).config
	for what, c := range map[string]struct {
		change func(*orgconfig.Config)
		want   string
	}{
		"without a base":           {func(c *orgconfig.Config) { c.FHIR.BaseURL = "" }, "fhir.base_url: it is missing"},
		"without TLS":              {func(c *orgconfig.Config) { c.FHIR.BaseURL = "http://ehr.example/fhir" }, "fhir.base_url: it is not a plain https URL"},
		"a token URL without TLS":  {func(c *orgconfig.Config) { c.FHIR.TokenURL = "http://ehr.example/token" }, "fhir.token_url: it is not a plain https URL"},
		"without a client":         {func(c *orgconfig.Config) { c.FHIR.ClientID = "" }, "fhir.client_id: it is missing"},
		"without keys":             {func(c *orgconfig.Config) { c.FHIR.KeyFiles = nil }, "fhir.key_files: there is none"},
		"a key that is not there":  {func(c *orgconfig.Config) { c.FHIR.KeyFiles = []string{file + "x"} }, "fhir.key_files: opening a key"},
		"a key for Nabla":          {func(c *orgconfig.Config) { c.FHIR.KeyFiles = c.Nabla.KeyFiles }, "fhir.key_files: a key fits none of the algorithms"},
		"one key for both":         {func(c *orgconfig.Config) { c.FHIR.KeyFiles, c.Nabla.KeyFiles = []string{file}, []string{file} }, "fhir.key_files: a key is one of nabla.key_files too"},
		"a scope that is two":      {func(c *orgconfig.Config) { c.FHIR.Scopes = []string{"a b"} }, "fhir.scopes: an entry is not one scope"},
		"a system that is two":     {func(c *orgconfig.Config) { c.FHIR.PatientSystem = "a|b" }, "fhir.patient_system: it holds"},
		"authorities that are not": {func(c *orgconfig.Config) { c.FHIR.CAFile = file }, "fhir.ca_file: it holds no certificate"},
		"two sources":              {func(c *orgconfig.Config) { c.ContextFile = base.ContextFile }, "context_file: it and fhir exclude each other"},
	} {
		t.Run(what, func(t *testing.T) {
			cfg := base
			withFHIR(t, &cfg, "https://ehr.example/fhir")
			if err := Check(cfg); err != nil {
				t.Fatal(err)
			}
			c.change(&cfg)
			err := Check(cfg)
			if err == nil || !strings.Contains("\n"+err.Error(), "\n"+c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if err != nil && strings.Count(err.Error(), "\n") != 0 {
				t.Errorf("one fault is told more than once: %v", err)
			}
		})
	}
}
