package orgconfig

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestTheReferenceNamesEveryKeyOfTheConfiguration(t *testing.T) {
	types := Types()
	named := map[string]bool{}
	for _, k := range Keys() {
		if named[k.Path] {
			t.Errorf("%s is named twice", k.Path)
		}
		named[k.Path] = true
		if k.Type == "" {
			t.Errorf("%s is no key of the configuration", k.Path)
		}
		if !strings.HasSuffix(k.Sentence, ".") || k.Example == "" || k.Since == "" {
			t.Errorf("%s lacks its sentence or its example", k.Path)
		}
		// An example that is not of the key's type would be pasted all the same.
		text := example(k.Path, k.Example)
		var c Config
		if err := ReadYAML([]byte(text), &c); err != nil {
			t.Errorf("%s: the example cannot be read: %v", k.Path, err)
		}
	}
	for path := range types {
		if !named[path] {
			t.Errorf("%s is not in the reference", path)
		}
	}
}

// example is a configuration with one key.
func example(path, value string) string {
	var b strings.Builder
	names := strings.Split(path, ".")
	for depth, name := range names[:len(names)-1] {
		b.WriteString(strings.Repeat(" ", depth))
		b.WriteString(strings.TrimSuffix(name, "[]") + ":\n")
	}
	b.WriteString(strings.Repeat(" ", len(names)-1))
	if strings.Contains(path, "[]") {
		b.WriteString("- ")
	}
	b.WriteString(names[len(names)-1] + ": " + value + "\n")
	return b.String()
}

func TestTheWrittenReferenceAndExampleAreWhatTheTableMakes(t *testing.T) {
	for name, want := range map[string][]byte{
		"docs/org-backend-configuration.md": Reference(), "build/backend/config.yaml.example": Example(),
	} {
		got, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the table makes: run go generate ./internal/orgconfig (%v)", name, err)
		}
	}
}

func TestTheExampleCanBeUsedAsItIsAndWithEveryCommentedKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := Example()
	for name, body := range map[string][]byte{"as it is": text, "every key": regexp.MustCompile(`(?m)^( *(?:- )?)# ([a-z_]+:(?: .*)?)$`).ReplaceAll(text, []byte("$1$2"))} {
		if err := os.WriteFile(file, body, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "as it is" {
			if err := c.Values(); err != nil {
				t.Error(err)
			}
			if warned := c.Warnings(); len(warned) != 0 {
				t.Errorf("it is warned of %v", warned)
			}
		}
		if name == "every key" && (c.FHIR.PatientSystem == "" || c.Callbacks.Bearer.ClientID == "" || c.Deliver.Webhook.CAFile == "" || c.EHRs[0].LinkIssuer == "") {
			t.Errorf("%s: %+v", name, c)
		}
	}
}
