package orgconfig

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// mark stands for a secret that somebody wrote into the file by mistake.
const mark = "canary-7f3a"

var fault = regexp.MustCompile(`^line \d+: `)

// FuzzConfiguration: what is read of a file is what a lax reading of the same YAML
// says, under known keys only, with every name of a file in the folder of the
// configuration; what is refused has a line where there is one, and no error, fault or
// warning quotes a value.
func FuzzConfiguration(f *testing.F) {
	reference := "listen: 127.0.0.1:8080\npublic_url: https://a.example/api\nissuer: https://idp.example\naudience: a\nlauncher_client_id: l\nnabla: {client_id: c, key_files: [k.pem]}\nehrs:\n  - {name: e, secret_file: s}\n"
	for _, text := range []string{
		reference, "", "---\n---\n", "listen: [1]\n", "unknown: " + mark + "\n", mark + ": x\n", "listen: !!int " + mark + "\n", "handle_life: " + mark + "\n", "handle_life: 10m\n", "identifiers_allowed: " + mark + "\n",
		"listen: *" + mark + "\n", "a: &" + mark + " [*" + mark + "]\n", "listen: \"" + mark + "\nissuer: x", "listen: a\nlisten: b\n", "ehrs: [{name: " + mark + ", " + mark + ": 1}]\n", "\t" + mark + "\n", "listen: |\n " + mark + "\n", "%YAML 9.9\n--- " + mark + "\n",
		"? [" + mark + "]\n: 1\n", "<<: {listen: x}\n", "<<: " + mark + "\n", "limits: {person_per_minute: 1e400}\n", "traces: {ratio: .nan}\n", "nabla: " + mark + "\n", "listen: !!binary " + mark + "\n", "listen: !" + mark + " x\n", "listen: !!float " + mark + "\n", "handle_life: !!timestamp " + mark + "\n", "audit: {file: ../../x}\n", "\x00", "a: \xff" + mark,
		"&a [&b [*a, *b]]", "ehrs: !!map [" + mark + "]\n", "listen: !!null " + mark + "\n", "listen: !!bool " + mark + "\n", "{" + mark + ": ,\n", "[" + mark, "listen: '" + mark, "listen: x # " + mark, "nabla: {key_files: " + mark + "}\n",
	} {
		f.Add([]byte(text))
	}
	folder := f.TempDir()
	file := filepath.Join(folder, "config.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		var direct Config
		err := ReadYAML(text, &direct)
		said := ""
		var form *FormError
		switch {
		case err == nil:
		case errors.As(err, &form):
			for _, one := range form.Faults {
				if !fault.MatchString(one) {
					t.Errorf("a fault without its line: %q", one)
				}
			}
			said = err.Error()
		default:
			said = err.Error()
		}
		if strings.Contains(said, mark) || strings.Contains(said, "canary") {
			t.Fatalf("%q is refused with %q", text, said)
		}
		if strings.Contains(said, "!!") || strings.Contains(said, "orgconfig.") {
			t.Errorf("%q is refused in words of a library: %q", text, said)
		}
		if err == nil {
			var document yaml.Node
			if yaml.Unmarshal(text, &document) != nil {
				t.Fatalf("%q was read, and is no YAML", text)
			}
			for _, top := range document.Content {
				if name := unknownIn(top, reflect.TypeFor[Config]()); name != "" {
					t.Fatalf("%q was read with the key %q", text, name)
				}
			}
			var lax Config
			if yaml.Unmarshal(text, &lax) != nil || !reflect.DeepEqual(lax, direct) && !hasNaN(lax) {
				t.Fatalf("%q was read as %+v", text, direct)
			}
			// What was read says the same when it is written and read again.
			again, err := yaml.Marshal(direct)
			if err != nil {
				t.Fatal(err)
			}
			var back Config
			if err := ReadYAML(again, &back); err != nil || !reflect.DeepEqual(back, normal(direct)) && !hasNaN(direct) {
				t.Fatalf("%q became %q: %v", text, again, err)
			}
		}
		for _, one := range direct.Warnings() {
			if strings.Contains(one, mark) {
				t.Fatalf("a warning quotes: %q", one)
			}
		}
		if faults := direct.Values(); faults != nil {
			for line := range strings.Lines(faults.Error()) {
				key, what, ok := strings.Cut(line, ": ")
				if !ok || what == "" || strings.Contains(key, " ") {
					t.Errorf("a fault without its key: %q", line)
				}
			}
		}
		if os.WriteFile(file, text, 0o600) != nil {
			t.Fatal("no file")
		}
		loaded, loadErr := Load(file)
		if (loadErr == nil) != (err == nil) {
			t.Fatalf("%q: %v when loaded, else %v", text, loadErr, err)
		}
		if loadErr == nil {
			for name, path := range filesIn(reflect.ValueOf(loaded)) {
				if path != "" && !filepath.IsAbs(path) {
					t.Fatalf("%s is %q", name, path)
				}
			}
		}
		for key, line := range Lines(file) {
			if line < 1 || line > 1+strings.Count(strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(string(text)), "\n") {
				t.Fatalf("%q stands in line %d of %q", key, line, text)
			}
		}
	})
}

// normal gives nil for what YAML writes as an empty list.
func normal(c Config) Config {
	text, err := yaml.Marshal(c)
	var back Config
	if err != nil || yaml.Unmarshal(text, &back) != nil {
		return c
	}
	return back
}

func hasNaN(c Config) bool { return c.Traces.Ratio != c.Traces.Ratio }

// filesIn are all fields that name a file.
func filesIn(v reflect.Value) map[string]string {
	all := map[string]string{}
	for i := range v.NumField() {
		field, name := v.Field(i), v.Type().Field(i).Name
		_, isFile := v.Type().Field(i).Tag.Lookup("file")
		switch {
		case field.Kind() == reflect.Struct:
			for inner, path := range filesIn(field) {
				all[name+"."+inner] = path
			}
		case isFile && field.Kind() == reflect.String:
			all[name] = field.String()
		case isFile && field.Kind() == reflect.Slice:
			for n := range field.Len() {
				all[name+string(rune('0'+n%10))] = field.Index(n).String()
			}
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
			for n := range field.Len() {
				for inner, path := range filesIn(field.Index(n)) {
					all[name+"."+inner] = path
				}
			}
		}
	}
	return all
}

// unknownIn returns a key that no field of a type has, at any depth. Merged maps and
// aliases are the library's.
func unknownIn(n *yaml.Node, t reflect.Type) string {
	switch {
	case n.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for _, item := range n.Content {
			if name := unknownIn(item, t.Elem()); name != "" {
				return name
			}
		}
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
	keys:
		for i := 0; i+1 < len(n.Content); i += 2 {
			for f := range t.NumField() {
				if t.Field(f).Tag.Get("yaml") == n.Content[i].Value {
					if name := unknownIn(n.Content[i+1], t.Field(f).Type); name != "" {
						return name
					}
					continue keys
				}
			}
			if n.Content[i].Tag != "!!merge" {
				return n.Content[i].Value
			}
		}
	}
	return ""
}
