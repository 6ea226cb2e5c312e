package policyfiles

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"encounterlauncher/internal/policy"
)

const tree = "../.."

func generatedFiles(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := Files()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestWhatIsCommittedIsWhatTheTableMakes(t *testing.T) {
	files := generatedFiles(t)
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(tree, filepath.FromSlash(name)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the table makes: run go generate ./internal/policyfiles (%v)", name, err)
		}
	}
	err := filepath.WalkDir(filepath.Join(tree, "build", "policy", "admx"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if _, ok := files[filepath.ToSlash(name)]; !ok {
			t.Errorf("%s is left over", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryKeyIsPresentEverywhere(t *testing.T) {
	for name, text := range generatedFiles(t) {
		keys := policy.Keys()
		switch {
		case strings.Contains(name, "/admx/"), name == "docs/intune.md":
			keys = forSystem(keys, policy.Windows)
		case strings.HasSuffix(name, ".json"):
			keys = forSystem(keys, policy.Linux)
		}
		for _, k := range keys {
			if !regexp.MustCompile(`\b` + k.Name + `\b`).Match(text) {
				t.Errorf("%s does not have %s", name, k.Name)
			}
		}
	}
}

func TestEveryKeyHasOneTopic(t *testing.T) {
	var named []string
	for _, topic := range topics() {
		for _, key := range topic.keys {
			if slices.Contains(named, key) || keyNamed(policy.Keys(), key) == nil {
				t.Errorf("the topic %s has %s, which has another topic or does not exist", topic.id, key)
			}
			named = append(named, key)
		}
	}
	for _, k := range policy.Keys() {
		if topicOf(k.Name) == "" {
			t.Errorf("%s has no topic: add it to one in policyfiles.go", k.Name)
		}
	}
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

func TestNoKeyLacksALanguageAndNoWordIsLeftOver(t *testing.T) {
	en, err := wordsOf(Languages[0])
	if err != nil {
		t.Fatal(err)
	}
	// The sentences that the translations translate.
	var translated map[string]string
	data, err := os.ReadFile("testdata/translated.json")
	if err == nil {
		err = json.Unmarshal(data, &translated)
	}
	if err != nil {
		t.Fatal(err)
	}
	// What only Linux has is in no template.
	keys := forSystem(policy.Keys(), policy.Windows)
	for key := range translated {
		if keyNamed(keys, key) == nil {
			t.Errorf("translated.json has %s, which is no key", key)
		}
	}
	for _, language := range Languages {
		w, err := wordsOf(language)
		if err != nil {
			t.Fatalf("%s: %v", language, err)
		}
		good := func(where, text string) {
			if text == "" || strings.TrimSpace(text) != text || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("%s, %s: %q is not a text", language, where, text)
			}
		}
		for name, english := range en.Words {
			good(name, w.Words[name])
			want, got := placeholder.FindAllString(english, -1), placeholder.FindAllString(w.Words[name], -1)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: placeholders %q, want %q", language, name, got, want)
			}
		}
		for _, topic := range topics() {
			good(topic.id, w.Topics[topic.id])
			if en.Topics[topic.id] != topic.heading {
				t.Errorf("%s is called %q in the pages and %q in the templates", topic.id, topic.heading, en.Topics[topic.id])
			}
		}
		if len(w.Words) != len(en.Words) || len(w.Topics) != len(topics()) {
			t.Errorf("%s: words or topics are left over", language)
		}
		for _, k := range keys {
			words := w.Keys[k.Name]
			good(k.Name, words.Name)
			for _, v := range k.Allowed {
				if k.Type == policy.Choice {
					good(k.Name+" "+v, words.Choices[v])
				}
			}
			if want := len(k.Allowed); len(words.Choices) > want || (k.Type != policy.Choice && len(words.Choices) > 0) {
				t.Errorf("%s, %s: choices are left over", language, k.Name)
			}
			if language == Languages[0] {
				if words.Says != "" {
					t.Errorf("%s says in words what the table says", k.Name)
				}
				if translated[k.Name] != k.Sentence {
					t.Errorf("the sentence of %s is not the one that was translated: look at the three translations, then copy it into testdata/translated.json", k.Name)
				}
				continue
			}
			good(k.Name+" says", words.Says)
			if words.Says == k.Sentence || words.Name == en.Keys[k.Name].Name {
				t.Errorf("%s, %s: it is not translated", language, k.Name)
			}
		}
		for key := range w.Keys {
			if keyNamed(keys, key) == nil {
				t.Errorf("%s has words for %s, which is no key", language, key)
			}
		}
	}
	// Their punctuation is that of the window's words.
	fr, _ := wordsOf("fr-FR")
	for key, words := range fr.Keys {
		if text := words.Name + words.Says; regexp.MustCompile(`[^\x{a0}][;?]|[^\x{a0}:]: |« | »`).MatchString(text) {
			t.Errorf("fr-FR, %s: a no-break space is missing", key)
		}
	}
}

func TestTheSchemaTakesWhatPolicyTakesAndNoOtherNameTypeOrBound(t *testing.T) {
	text := generatedFiles(t)["build/policy/policy.schema.json"]
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertVocabs()
	if err := compiler.AddResource("policy.schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	judge := func(text string) error {
		t.Helper()
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	example, err := os.ReadFile(filepath.Join(tree, "build", "policy", "example-policy.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{"{}", string(example)} {
		if err := judge(good); err != nil {
			t.Errorf("%.80s: %v", good, err)
		}
	}
	wrong := map[policy.Type][]string{
		policy.Text: {"7", `""`, "null", `["a"]`, `"` + strings.Repeat("a", longestText+1) + `"`}, policy.Choice: {`"other"`, "1"},
		policy.List: {`"a"`, `[1]`, `["a","a"]`}, policy.Number: {`"1"`, "1.5", "-1", "true"}, policy.YesNo: {`"true"`, "1"}, policy.Object: {`"{}"`, "[]"},
	}
	for _, k := range forSystem(policy.Keys(), policy.Linux) {
		if err := judge(`{` + k.JSONMember(k.Example) + `}`); err != nil {
			t.Errorf("%s: the example is refused: %v", k.Name, err)
		}
		if k.Default != null {
			if err := judge(`{` + k.JSONMember(k.Default) + `}`); err != nil {
				t.Errorf("%s: the default is refused: %v", k.Name, err)
			}
		}
		bad := wrong[k.Type]
		if k.Type == policy.Number {
			bad = append(bad, itoa(k.Max+1), itoa(k.Min-1))
			if err := judge(`{` + k.JSONMember(itoa(k.Max)) + `}`); err != nil {
				t.Errorf("%s: the greatest value is refused: %v", k.Name, err)
			}
		}
		if k.Type == policy.List && k.Allowed != nil {
			bad = append(bad, `["other"]`)
		}
		for _, v := range bad {
			if judge(`{`+k.JSONMember(v)+`}`) == nil {
				t.Errorf("%s: %.40s is taken", k.Name, v)
			}
		}
	}
	for _, bad := range []string{`{"Colour":"red"}`, `{"backendurl":"https://a.example"}`, `[]`} {
		if judge(bad) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestThePagesHaveWhatIsPastedForEveryKey(t *testing.T) {
	files := generatedFiles(t)
	page, device := string(files["docs/admin-policies.md"]), string(files["docs/intune.md"])
	for _, k := range policy.Keys() {
		_, section, _ := strings.Cut(page, "\n### "+k.Name+"\n")
		section, _, _ = strings.Cut(section, "\n### ")
		wants := []string{k.Sentence, "| since | " + k.Since}
		if k.Only != policy.Linux {
			wants = append(wants, `HKLM\Software\Policies\EncounterLauncher\`+k.Name, "/v "+k.Name+" /t "+k.Type.Registry())
		}
		if k.Only != policy.Windows {
			wants = append(wants, "/"+k.Name+"`", `"`+k.Name+`": `+k.Example)
		}
		for _, want := range wants {
			if !strings.Contains(section, want) {
				t.Errorf("docs/admin-policies.md, %s: %q is missing", k.Name, want)
			}
		}
		if k.Only != policy.Linux && strings.Contains(section, `HKCU\`) != (k.Scope == policy.MachineAndUser) {
			t.Errorf("docs/admin-policies.md, %s: the user policy", k.Name)
		}
		if k.Only != policy.Linux && (!strings.Contains(device, "/"+k.Name+"` | `<") || !strings.Contains(device, "-Name "+k.Name+" -PropertyType ")) {
			t.Errorf("docs/intune.md: %s has no row or no line", k.Name)
		}
	}
	if !strings.Contains(page, "refuses launches until it is mended; meanwhile `true` is in force") {
		t.Error("what a wrong value does is not told")
	}
}
