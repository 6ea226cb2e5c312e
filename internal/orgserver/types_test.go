package orgserver

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/problem"
)

type schema struct {
	Type                 any               `yaml:"type"`
	Ref                  string            `yaml:"$ref"`
	Properties           map[string]schema `yaml:"properties"`
	Required             []string          `yaml:"required"`
	AdditionalProperties *bool             `yaml:"additionalProperties"`
	MinLength            int               `yaml:"minLength"`
	MaxLength            int               `yaml:"maxLength"`
	Enum                 []string          `yaml:"enum"`
}

type document struct {
	OpenAPI string `yaml:"openapi"`
	Info    struct {
		Version string `yaml:"version"`
	} `yaml:"info"`
	Paths      map[string]map[string]any `yaml:"paths"`
	Components struct {
		Schemas map[string]schema `yaml:"schemas"`
	} `yaml:"components"`
}

func readContract(t *testing.T) document {
	t.Helper()
	var d document
	if err := yaml.Unmarshal(orgapi.OpenAPI, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d document) resolve(s schema) schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return d.Components.Schemas[name]
	}
	return s
}

func TestTheContractAndTheGoTypesSayTheSame(t *testing.T) {
	d := readContract(t)
	if d.OpenAPI != "3.1.0" {
		t.Errorf("version %s", d.OpenAPI)
	}
	for _, c := range []struct {
		value   any
		request bool
	}{
		{orgapi.CreateRequest{}, true}, {orgapi.ReopenRequest{}, true}, {orgapi.LaunchRequest{}, true}, {orgapi.LegacyLaunchRequest{}, true},
		{orgapi.Demographics{}, true}, {orgapi.StructuredContext{}, true},
		{orgapi.CreateAnswer{}, false}, {orgapi.Encounter{}, false}, {orgapi.ReopenAnswer{}, false}, {orgapi.Me{}, false},
		{orgapi.LaunchAnswer{}, false}, {orgapi.ExportedEvent{}, false}, {orgapi.Problem{}, false},
	} {
		typ := reflect.TypeOf(c.value)
		s, ok := d.Components.Schemas[typ.Name()]
		if !ok {
			t.Errorf("%s has no schema", typ.Name())
			continue
		}
		if strict := s.AdditionalProperties != nil && !*s.AdditionalProperties; strict != c.request {
			t.Errorf("%s: a request is strict, an answer may grow", typ.Name())
		}
		var required []string
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			p, ok := s.Properties[name]
			if !ok {
				t.Errorf("%s.%s is not in the contract", typ.Name(), name)
				continue
			}
			if option == "" {
				required = append(required, name)
			}
			if got, want := d.resolve(p).Type, typeOf(f.Type); !reflect.DeepEqual(got, want) {
				t.Errorf("%s.%s: the contract says %v, Go says %v", typ.Name(), name, got, want)
			}
		}
		if len(s.Properties) != typ.NumField() {
			t.Errorf("%s: the contract has %d fields, Go has %d", typ.Name(), len(s.Properties), typ.NumField())
		}
		slices.Sort(required)
		slices.Sort(s.Required)
		if !slices.Equal(required, s.Required) {
			t.Errorf("%s: the contract requires %v, Go %v", typ.Name(), s.Required, required)
		}
	}
}

func typeOf(t reflect.Type) any {
	switch t.Kind() {
	case reflect.Pointer:
		return []any{typeOf(t.Elem()), "null"}
	case reflect.Int:
		return "integer"
	case reflect.Struct:
		return "object"
	}
	return "string"
}

func TestTheContractAndTheGoVersionSayTheSame(t *testing.T) {
	if d := readContract(t); d.Info.Version != orgapi.ContractVersion {
		t.Errorf("the contract is version %s, Go says %s", d.Info.Version, orgapi.ContractVersion)
	}
}

func TestTheContractAndTheGoLimitsSayTheSame(t *testing.T) {
	d := readContract(t)
	s := d.Components.Schemas
	for what, pair := range map[string][2]int{
		"identifier":           {s["Identifier"].MaxLength, orgapi.MaxIdentifierRunes},
		"unstructured_context": {s["LaunchRequest"].Properties["unstructured_context"].MaxLength, orgapi.MaxUnstructuredContextRunes},
		"the legacy text":      {s["LegacyLaunchRequest"].Properties["unstructured_context"].MaxLength, orgapi.MaxUnstructuredContextRunes},
		"label":                {s["Encounter"].Properties["label"].MaxLength, orgapi.MaxLabelBytes},
		"request":              {s["CreateRequest"].Properties["request"].MaxLength, maxRequestText},
		"shortest handle":      {s["CreateRequest"].Properties["handle"].MinLength, 22},
		"longest handle":       {s["CreateRequest"].Properties["handle"].MaxLength, 64},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: the contract says %d, Go says %d", what, pair[0], pair[1])
		}
	}
	var codes []string
	for _, r := range problem.Rows() {
		codes = append(codes, string(r.Code))
	}
	if !slices.Equal(codes, s["Code"].Enum) {
		t.Errorf("the contract's codes are not those of package problem: %v", s["Code"].Enum)
	}
	for _, path := range []string{orgapi.PathEncounters, orgapi.PathEncounterURL, orgapi.PathMe, orgapi.PathEvents, orgapi.PathLaunches, orgapi.PathOpenAPI,
		orgapi.PathCallbacks, PathHealth, PathJWKS, "/readyz"} {
		if _, ok := d.Paths[path]; !ok {
			t.Errorf("%s is not in the contract", path)
		}
		delete(d.Paths, path)
	}
	for path := range d.Paths {
		t.Errorf("%s is in the contract only", path)
	}
}
