package orgserver

import (
	"context"
	"errors"
	"fmt"

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

func newContextSource(file string) (contextSource, error) {
	if file == "" {
		return noSource{}, nil
	}
	body, err := orgconfig.ReadBounded(file, 64<<20)
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
