package policyfiles

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"encounterlauncher/internal/policy"
)

// node is an element of a template as it stands there.
type node struct {
	name     string
	attr     map[string]string
	text     string
	children []*node
}

const namespace = "http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions"

// parseXML reads a document of one root, and says what is not well-formed or is of
// another namespace.
func parseXML(t *testing.T, data []byte) *node {
	t.Helper()
	dec := xml.NewDecoder(bytes.NewReader(data))
	top := &node{}
	stack := []*node{top}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		at := stack[len(stack)-1]
		switch tok := token.(type) {
		case xml.StartElement:
			if tok.Name.Space != namespace {
				t.Errorf("%s is of the namespace %q", tok.Name.Local, tok.Name.Space)
			}
			n := &node{name: tok.Name.Local, attr: map[string]string{}}
			for _, a := range tok.Attr {
				if a.Name.Space == "" && a.Name.Local != "xmlns" {
					n.attr[a.Name.Local] = a.Value
				}
			}
			at.children = append(at.children, n)
			stack = append(stack, n)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			at.text += string(tok)
		}
	}
	if len(top.children) != 1 {
		t.Fatalf("%d roots", len(top.children))
	}
	return top.children[0]
}

func (n *node) all(path ...string) []*node {
	found := []*node{n}
	for _, name := range path {
		var next []*node
		for _, f := range found {
			for _, c := range f.children {
				if c.name == name {
					next = append(next, c)
				}
			}
		}
		found = next
	}
	return found
}

func (n *node) one(t *testing.T, path ...string) *node {
	t.Helper()
	found := n.all(path...)
	if len(found) != 1 {
		t.Fatalf("%s has %d of %s", n.name, len(found), strings.Join(path, "/"))
	}
	return found[0]
}

func (n *node) walk(visit func(*node)) {
	visit(n)
	for _, c := range n.children {
		c.walk(visit)
	}
}

func (n *node) names() (names []string) {
	for _, c := range n.children {
		names = append(names, c.name)
	}
	return names
}

// template returns the committed template, parsed.
func template(t *testing.T) *node {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(tree, "build", "policy", "admx", "EncounterLauncher.admx"))
	if err != nil {
		t.Fatal(err)
	}
	return parseXML(t, data)
}

// shapes are the attributes that the schema of ADMX 1.0 gives each element that we
// use, those that it must have with a “!”; the children in their order.
var shapes = map[string]struct{ attrs, children string }{
	"policyDefinitions": {"revision! schemaVersion!", "policyNamespaces supersededAdm resources supportedOn categories policies"},
	"policyNamespaces":  {"", "target using"}, "target": {"prefix! namespace!", ""}, "resources": {"minRequiredRevision!", ""},
	"supportedOn": {"ref", "definitions"}, "definitions": {"", "definition"}, "definition": {"name! displayName!", ""},
	"categories": {"", "category"}, "category": {"name! displayName! explainText", "parentCategory"}, "parentCategory": {"ref!", ""},
	"policies": {"", "policy"},
	"policy":   {"name! class! displayName! explainText presentation key! valueName", "parentCategory supportedOn enabledValue disabledValue elements"},
	"elements": {"", "text decimal enum multiText"}, "text": {"id! valueName! required maxLength", ""}, "decimal": {"id valueName required minValue maxValue value", ""},
	"multiText": {"id! valueName! required maxLength maxStrings", ""}, "enum": {"id! valueName! required", "item"}, "item": {"displayName!", "value"}, "value": {"", "string"}, "string": {"", ""},
	"enabledValue": {"", "decimal"}, "disabledValue": {"", "decimal"},
}

func TestTheTemplateHasTheShapeOfTheSchema(t *testing.T) {
	template(t).walk(func(n *node) {
		shape, ok := shapes[n.name]
		if !ok {
			t.Errorf("%s is not an element that the schema has", n.name)
			return
		}
		allowed := strings.Fields(strings.ReplaceAll(shape.attrs, "!", ""))
		for name := range n.attr {
			if !slices.Contains(allowed, name) {
				t.Errorf("%s has the attribute %s", n.name, name)
			}
		}
		for _, name := range strings.Fields(shape.attrs) {
			if must, ok := strings.CutSuffix(name, "!"); ok && n.attr[must] == "" {
				t.Errorf("%s has no attribute %s", n.name, must)
			}
		}
		order := strings.Fields(shape.children)
		last := 0
		for _, name := range n.names() {
			i := slices.Index(order, name)
			if i < 0 || (i < last && n.name != "elements") {
				t.Errorf("%s: %s stands where the schema does not have it", n.name, name)
			}
			last = i
		}
	})
}

var nameOfThings = regexp.MustCompile(`^\p{L}[\p{L}\p{N}_]*$`)

// unique says which names of a kind stand twice or are no names.
func unique(t *testing.T, kind string, names []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, name := range names {
		// Windows compares them without regard to case.
		if seen[strings.ToLower(name)] || !nameOfThings.MatchString(name) {
			t.Errorf("%s %q stands twice, or is no name", kind, name)
		}
		seen[strings.ToLower(name)] = true
	}
}

func attrs(nodes []*node, name string) (values []string) {
	for _, n := range nodes {
		values = append(values, n.attr[name])
	}
	return values
}

func TestEverySettingOfTheTemplateIsItsKey(t *testing.T) {
	root := template(t)
	policies := root.all("policies", "policy")
	unique(t, "policy", attrs(policies, "name"))
	categories := attrs(root.all("categories", "category"), "name")
	unique(t, "category", categories)
	definitions := attrs(root.all("supportedOn", "definitions", "definition"), "name")
	unique(t, "definition", definitions)
	for _, c := range root.all("categories", "category", "parentCategory") {
		if !slices.Contains(categories, c.attr["ref"]) {
			t.Errorf("no category %s", c.attr["ref"])
		}
	}
	keys := forSystem(policy.Keys(), policy.Windows)
	if len(policies) != len(keys) {
		t.Errorf("%d settings for %d keys", len(policies), len(keys))
	}
	for _, p := range policies {
		k := keyNamed(keys, p.attr["name"])
		if k == nil {
			t.Errorf("%s is no key", p.attr["name"])
			continue
		}
		if class := map[policy.Scope]string{policy.Machine: "Machine", policy.MachineAndUser: "Both"}[k.Scope]; p.attr["class"] != class {
			t.Errorf("%s: class %s, want %s", k.Name, p.attr["class"], class)
		}
		if p.attr["key"] != policy.PoliciesKey {
			t.Errorf("%s is written below %s", k.Name, p.attr["key"])
		}
		if ref := p.one(t, "parentCategory").attr["ref"]; !slices.Contains(categories, ref) || ref != topicOf(k.Name) {
			t.Errorf("%s: category %s", k.Name, ref)
		}
		since := p.one(t, "supportedOn").attr["ref"]
		if !slices.Contains(definitions, since) || since != "SUPPORTED_"+strings.ReplaceAll(k.Since, ".", "_") {
			t.Errorf("%s: supported on %s", k.Name, since)
		}
		if k.Type == policy.YesNo {
			on, off := p.one(t, "enabledValue", "decimal"), p.one(t, "disabledValue", "decimal")
			if p.attr["valueName"] != k.Name || on.attr["value"] != "1" || off.attr["value"] != "0" || p.attr["presentation"] != "" {
				t.Errorf("%s: %v %v %v", k.Name, p.attr, on.attr, off.attr)
			}
			continue
		}
		elements := p.one(t, "elements").children
		if len(elements) != 1 || p.attr["valueName"] != "" {
			t.Fatalf("%s has %d elements, or a value of its own", k.Name, len(elements))
		}
		e := elements[0]
		kind := map[policy.Type]string{policy.Text: "text", policy.Choice: "enum", policy.List: "multiText", policy.Number: "decimal", policy.Object: "text"}[k.Type]
		if e.name != kind || e.attr["valueName"] != k.Name || e.attr["id"] != k.Name || e.attr["required"] != "true" {
			t.Errorf("%s: %s %v, want %s", k.Name, e.name, e.attr, kind)
		}
		switch k.Type {
		case policy.Number:
			if e.attr["minValue"] != strconv.Itoa(k.Min) || e.attr["maxValue"] != strconv.Itoa(k.Max) {
				t.Errorf("%s: from %s to %s", k.Name, e.attr["minValue"], e.attr["maxValue"])
			}
		case policy.Choice:
			var values []string
			for _, v := range e.all("item", "value", "string") {
				values = append(values, v.text)
			}
			if !slices.Equal(values, k.Allowed) {
				t.Errorf("%s: values %q", k.Name, values)
			}
		}
	}
}

var reference = regexp.MustCompile(`^\$\((string|presentation)\.([^)]+)\)$`)

func TestEveryReferenceResolvesInEveryLanguageAndNothingIsLeftOver(t *testing.T) {
	root := template(t)
	wanted := map[string][]string{}
	root.walk(func(n *node) {
		for name, value := range n.attr {
			m := reference.FindStringSubmatch(value)
			if m == nil {
				if strings.Contains(value, "$(") || name == "displayName" || name == "explainText" || name == "presentation" {
					t.Errorf("%s %s=%q is no reference", n.name, name, value)
				}
				continue
			}
			if !slices.Contains(wanted[m[1]], m[2]) {
				wanted[m[1]] = append(wanted[m[1]], m[2])
			}
		}
	})
	if len(wanted["string"]) < 2*len(forSystem(policy.Keys(), policy.Windows)) {
		t.Fatalf("only %d strings are referred to", len(wanted["string"]))
	}
	box := map[string]string{"text": "textBox", "decimal": "decimalTextBox", "enum": "dropdownList", "multiText": "multiTextBox"}
	for _, language := range Languages {
		data, err := os.ReadFile(filepath.Join(tree, "build", "policy", "admx", language, "EncounterLauncher.adml"))
		if err != nil {
			t.Fatal(err)
		}
		words := parseXML(t, data)
		if words.name != "policyDefinitionResources" || words.attr["revision"] != root.one(t, "resources").attr["minRequiredRevision"] || words.attr["schemaVersion"] != "1.0" {
			t.Errorf("%s: %s %v", language, words.name, words.attr)
		}
		if got := words.names(); !slices.Equal(got, []string{"displayName", "description", "resources"}) {
			t.Errorf("%s: %q", language, got)
		}
		strs := words.all("resources", "stringTable", "string")
		presentations := words.all("resources", "presentationTable", "presentation")
		unique(t, language+" string", attrs(strs, "id"))
		unique(t, language+" presentation", attrs(presentations, "id"))
		for kind, have := range map[string][]string{"string": attrs(strs, "id"), "presentation": attrs(presentations, "id")} {
			want := slices.Clone(wanted[kind])
			slices.Sort(want)
			slices.Sort(have)
			if !slices.Equal(have, want) {
				t.Errorf("%s: the %ss are\n%q, want\n%q", language, kind, have, want)
			}
		}
		for _, s := range strs {
			if strings.TrimSpace(s.text) == "" || strings.Contains(s.text, "{") {
				t.Errorf("%s: %s is empty or has a placeholder that was not filled: %q", language, s.attr["id"], s.text)
			}
		}
		for _, p := range root.all("policies", "policy") {
			for _, e := range p.all("elements") {
				for _, element := range e.children {
					var refers []string
					for _, presentation := range presentations {
						if presentation.attr["id"] != p.attr["name"] {
							continue
						}
						for _, c := range presentation.children {
							if c.attr["refId"] != "" {
								refers = append(refers, c.name+" "+c.attr["refId"])
							}
							if i := c.attr["defaultItem"]; i != "" {
								k := keyNamed(forSystem(policy.Keys(), policy.Windows), p.attr["name"])
								if n, err := strconv.Atoi(i); err != nil || k.JSONMember(strconv.Quote(k.Allowed[n])) != k.JSONMember(k.Default) {
									t.Errorf("%s: %s begins with item %s", language, k.Name, i)
								}
							}
						}
					}
					if want := []string{box[element.name] + " " + element.attr["id"]}; !slices.Equal(refers, want) {
						t.Errorf("%s: %s shows %q, want %q", language, p.attr["name"], refers, want)
					}
				}
			}
		}
	}
}

func TestTheExplanationSaysWhatAnAdministratorNeeds(t *testing.T) {
	w := english()
	keys := forSystem(policy.Keys(), policy.Windows)
	for key, wants := range map[string][]string{
		"IdleSignOutMinutes": {"From 0 to 1440.", "Default: 0.", "refuses every launch"},
		"RecentsLabel":       {"Default: The initials.", "and Nothing is in force"},
		"SharedWorkstation":  {"computer configuration only", "“Enabled” means yes", "Default: no."},
		"Notices":            {"People can choose it themselves", "Default: All."},
		"BackendURL":         {"Launches wait until it is set.", "the same as “Not configured”"},
		"AllowedLinkForms":   {"One item per line", "Possible values: handle, request, identifiers.", "Default: handle, request."},
		"Language":           {"counts as not set"},
	} {
		text := w.explain(*keyNamed(keys, key))
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in\n%s", key, want, text)
			}
		}
	}
}
