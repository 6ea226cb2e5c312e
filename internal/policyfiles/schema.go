package policyfiles

import (
	"bytes"
	"encoding/json"

	"encounterlauncher/internal/policy"
)

// schemaKey is a key in the JSON Schema, its members in the order of the file.
type schemaKey struct {
	Description string          `json:"description"`
	Type        string          `json:"type"`
	Items       *schemaItems    `json:"items,omitempty"`
	Enum        []string        `json:"enum,omitempty"`
	MinLength   int             `json:"minLength,omitempty"`
	MaxLength   int             `json:"maxLength,omitempty"`
	MaxItems    int             `json:"maxItems,omitempty"`
	UniqueItems bool            `json:"uniqueItems,omitempty"`
	Minimum     *int            `json:"minimum,omitempty"`
	Maximum     *int            `json:"maximum,omitempty"`
	Default     json.RawMessage `json:"default,omitempty"`
	Examples    []any           `json:"examples"`
}

type schemaItems struct {
	Type      string   `json:"type"`
	Enum      []string `json:"enum,omitempty"`
	MinLength int      `json:"minLength,omitempty"`
	MaxLength int      `json:"maxLength,omitempty"`
}

// schema is the JSON Schema (draft 2020-12) of policy.json and defaults.json. It
// knows names, types, choices and bounds; what an address must look like is only
// known to the program (“policy check”).
func schema(keys []policy.Key) []byte {
	var b bytes.Buffer
	b.WriteString("{\n")
	member := func(name string, value any) {
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		enc.SetIndent("  ", "  ")
		_ = enc.Encode(value) // texts, numbers and JSON that a test has proved good
		b.WriteString("  " + `"` + name + `": ` + string(bytes.TrimRight(text.Bytes(), "\n")))
	}
	member("$schema", "https://json-schema.org/draft/2020-12/schema")
	b.WriteString(",\n")
	member("$comment", "Generated from internal/policy/keys.go by “go generate ./internal/policyfiles”.")
	b.WriteString(",\n")
	member("title", "Policy of Encounter Launcher")
	b.WriteString(",\n")
	member("description", "/etc/encounter-launcher/policy.json and /usr/share/encounter-launcher/defaults.json. “encounter-launcher policy check FILE” also checks addresses, hosts and keys.")
	b.WriteString(",\n")
	member("type", "object")
	b.WriteString(",\n")
	member("additionalProperties", false)
	b.WriteString(",\n  \"properties\": {\n")
	for i, k := range keys {
		if i > 0 {
			b.WriteString(",\n")
		}
		s := schemaKey{Description: k.Sentence, Examples: []any{json.RawMessage(k.Example)}}
		if k.Default != null {
			s.Default = json.RawMessage(k.Default)
		}
		switch k.Type {
		case policy.Text:
			s.Type, s.MinLength, s.MaxLength = "string", 1, longestText
		case policy.Choice:
			s.Type, s.Enum = "string", k.Allowed
		case policy.List:
			s.Type, s.MaxItems, s.UniqueItems = "array", mostItems, true
			s.Items = &schemaItems{Type: "string", Enum: k.Allowed}
			if k.Allowed == nil {
				s.Items.MinLength, s.Items.MaxLength = 1, longestText
			}
		case policy.Number:
			s.Type, s.Minimum, s.Maximum = "integer", &k.Min, &k.Max
		case policy.YesNo:
			s.Type = "boolean"
		case policy.Object:
			s.Type = "object"
		}
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		enc.SetIndent("    ", "  ")
		_ = enc.Encode(s)
		b.WriteString(`    "` + k.Name + `": ` + string(bytes.TrimRight(text.Bytes(), "\n")))
	}
	b.WriteString("\n  }\n}\n")
	return b.Bytes()
}
