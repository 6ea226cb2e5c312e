package orgserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"encounterlauncher/internal/assertion"
	"encounterlauncher/internal/fhir"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgconfig"
	"encounterlauncher/internal/problem"
)

// patientContext is what Nabla is told of a patient.
type patientContext struct {
	Demographics orgapi.Demographics
	Unstructured *string
}

// contextSource finds the context for links that carry only ids. Its errors are
// Problems.
type contextSource interface {
	find(ctx context.Context, patientID string) (patientContext, error)
}

// noSource is the source of an organisation that has none.
type noSource struct{}

func (noSource) find(context.Context, string) (patientContext, error) {
	return patientContext{}, problem.New(problem.ContextUnavailable, errors.New("no context source is configured"))
}

type filePatient struct {
	Name         string  `yaml:"name"`
	BirthDate    string  `yaml:"birth_date"`
	Gender       string  `yaml:"gender"`
	Pronouns     *string `yaml:"pronouns"`
	Unstructured *string `yaml:"unstructured_context"`
}

// fileSource holds the patients of a file, read once.
type fileSource map[string]filePatient

// newContextSource chooses the one source: the FHIR server, the file, or none.
func newContextSource(file string, server *fhir.Client) (contextSource, error) {
	if server != nil {
		return fhirSource{server}, nil
	}
	if file == "" {
		return noSource{}, nil
	}
	body, err := orgconfig.ReadTrusted(file, 64<<20)
	if err != nil {
		return nil, fmt.Errorf("context_file: %w", err)
	}
	source := fileSource{}
	if err := orgconfig.ReadYAML(body, &source); err != nil {
		return nil, errors.New("context_file: it is not an object of patients with name, birth_date, gender, pronouns and unstructured_context")
	}
	return source, nil
}

func (f fileSource) find(_ context.Context, patientID string) (patientContext, error) {
	p, ok := f[patientID]
	if !ok {
		return patientContext{}, problem.With(problem.ContextIncomplete, "The patient is not known to the source of the details.", nil)
	}
	found := patientContext{orgapi.Demographics{Name: p.Name, BirthDate: p.BirthDate, Gender: p.Gender, Pronouns: p.Pronouns}, p.Unstructured}
	return found, checkContext(found)
}

// fhirSource asks the EHR's FHIR server for every launch anew and keeps nothing.
type fhirSource struct{ server *fhir.Client }

func (f fhirSource) find(ctx context.Context, patientID string) (patientContext, error) {
	p, err := f.server.Patient(ctx, patientID)
	if err != nil {
		return patientContext{}, err
	}
	found := patientContext{Demographics: orgapi.Demographics{Name: p.Name, BirthDate: p.BirthDate, Gender: p.Gender, Pronouns: p.Pronouns}}
	return found, checkContext(found)
}

// newFHIR returns the client of the section fhir, and nil where there is none.
func newFHIR(cfg orgconfig.Config, deps Deps) (*fhir.Client, error) {
	section := cfg.FHIR
	if !orgconfig.ServerURL(section.BaseURL) || section.ClientID == "" || len(section.KeyFiles) == 0 {
		return nil, nil // there is none, or Values has said so
	}
	keys := make([]assertion.Key, 0, len(section.KeyFiles))
	for _, file := range section.KeyFiles {
		k, err := assertion.ReadKey(file, "")
		if err == nil {
			err = orgconfig.CheckSecret(file)
		}
		if err != nil {
			return nil, fmt.Errorf("fhir.key_files: %w", err)
		}
		keys = append(keys, k)
	}
	scopes := section.Scopes
	if len(scopes) == 0 {
		scopes = []string{fhir.ReadScope(section.PatientSystem)}
		if cfg.Deliver.FHIR {
			scopes = append(scopes, fhir.WriteScope)
		}
	}
	client, err := trusting(deps.HTTP, section.CAFile)
	if err != nil {
		return nil, fmt.Errorf("fhir.ca_file: %w", err)
	}
	c, err := fhir.New(fhir.Config{
		BaseURL: section.BaseURL, TokenURL: section.TokenURL, ClientID: section.ClientID, Keys: keys, Scopes: scopes,
		PatientSystem: section.PatientSystem, HTTP: client, Now: deps.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("fhir.%w", err)
	}
	return c, nil
}

// trusting returns a client that trusts the authorities of a file, where there is
// one, beside the system's. A client that a test gave wins.
func trusting(given *http.Client, caFile string) (*http.Client, error) {
	if given != nil {
		return given, nil
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	// The default of two would close and reopen connections under load.
	t.MaxIdleConnsPerHost = 16
	if caFile == "" {
		return &http.Client{Transport: t}, nil
	}
	pool, err := orgconfig.ReadAuthorities(caFile)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: t}, nil
}

// publishedKeys is a JWK set as one of our clients publishes it.
type publishedKeys struct {
	Keys []json.RawMessage `json:"keys"`
}

func (p publishedKeys) kid(n int) string {
	var named struct {
		KeyID string `json:"kid"`
	}
	_ = json.Unmarshal(p.Keys[n], &named) // what has no kid has an empty one
	return named.KeyID
}

// joinKeys makes one JWK set (RFC 7517 §5) of several. shared says that a kid stands
// in it twice, so that a reader could not tell its keys apart: only the first of them
// is in the set.
func joinKeys(sets ...[]byte) (set []byte, shared bool) {
	joined, seen := publishedKeys{Keys: []json.RawMessage{}}, map[string]bool{}
	for _, text := range sets {
		var one publishedKeys
		_ = json.Unmarshal(text, &one) // assertion wrote it
		for n, key := range one.Keys {
			if kid := one.kid(n); seen[kid] {
				shared = true
			} else {
				seen[kid] = true
				joined.Keys = append(joined.Keys, key)
			}
		}
	}
	set, _ = json.Marshal(joined) // what was JSON stays so
	return set, shared
}

// ourKeys is the JWK set of all our clients. Nabla's keys may change while we run.
func (p parts) ourKeys() []byte {
	set, _ := joinKeys(p.clientKeys()...)
	return set
}

func (p parts) clientKeys() [][]byte {
	var sets [][]byte
	if p.nabla != nil {
		sets = append(sets, p.nabla.JWKS())
	}
	if p.fhir != nil {
		sets = append(sets, p.fhir.JWKS())
	}
	return sets
}
