package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

func textOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAChoiceIsKeptAndTakenBackAndEverythingElseStays(t *testing.T) {
	l := paths.Under(t.TempDir(), paths.Demo)
	file := l.SettingsFile()
	choose := func(key, value string) {
		t.Helper()
		if err := Choose(l, key, value); err != nil {
			t.Fatalf("%s %q: %v", key, value, problem.Of(err).LogValue())
		}
	}
	choose("Language", "fr") // the folder is made too
	if s := Load(l); s.Language != "fr" || valueOf(t, s, "Language").Source != SourcePerson {
		t.Errorf("in force: %q", s.Language)
	}
	write(t, file, "{\"Tomorrow\": {\"b\" : 1.50,\n \"a\":[ ]}, \"Language\":\"fr\", \"Notices\": \"all\"}", 0o600)
	choose("Autostart", "false")
	choose("Language", "es")
	choose("Notices", "")
	want := "{\n  \"Tomorrow\": {\"b\" : 1.50,\n \"a\":[ ]},\n  \"Language\": \"es\",\n  \"Autostart\": false\n}\n"
	if got := textOf(t, file); got != want {
		t.Errorf("the file is\n%s, want\n%s", got, want)
	}
	choose("Language", "")
	choose("Autostart", "")
	choose("Notices", "") // taken back already
	if s := Load(l); s.Language != "" || !s.Autostart {
		t.Errorf("taken back: %+v", s.Values)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".settings-*")); left != nil {
		t.Errorf("left over: %v", left)
	}
}

func TestAChoiceThatIsNotThePersonsOrThatTheKeyDoesNotTakeIsRefusedAndWritesNothing(t *testing.T) {
	l := paths.Under(t.TempDir(), paths.Demo)
	write(t, l.MachinePolicyFile(), with(t, "Notices", `"none"`), 0o600)
	for _, c := range []struct{ key, value, fact string }{
		{"Notices", "all", "policy has set this"},
		{"Notices", "", "policy has set this"},
		{"BackendURL", "https://evil.example/", "Only your organisation"},
		{"HiddenItems", "quit", "Only your organisation"},
		{"Colour", "red", "no such setting"},
		{"", "", "no such setting"},
		{"Language", "tlh", "must be one of"},
		{"Language", "\xff", "broken character"},
		{"Language", `fr","BackendURL":"https://evil.example/`, "must be one of"},
		{"Autostart", "yes", "must be true or false"},
		{"Autostart", `"true"`, "must be true or false"},
		{"Autostart", "true,\"x\":1", "must be true or false"},
	} {
		err := Choose(l, c.key, c.value)
		if !problem.IsCode(err, problem.RequestInvalid) || !strings.Contains(err.Error(), c.fact) || strings.Contains(err.Error(), "evil") {
			t.Errorf("%s %q: %v", c.key, c.value, err)
		}
	}
	if _, err := os.Lstat(filepath.Dir(l.SettingsFile())); err == nil {
		t.Error("something was written")
	}
}

func TestASettingsFileThatCannotBeReadIsNotOverwritten(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON": "{\"Language\": \"fr\",\n oops", "empty": "", "a key twice": `{"Language":"fr","Language":"de"}`, "a list": "[]", "too large": `{"x":"` + strings.Repeat("a", maxFile) + `"}`,
	} {
		l := paths.Under(t.TempDir(), paths.Demo)
		write(t, l.SettingsFile(), text, 0o600)
		err := Choose(l, "Language", "de")
		if !problem.IsCode(err, problem.RequestInvalid) || !strings.Contains(err.Error(), "Mend or remove it") || strings.Contains(err.Error(), l.SettingsFile()) {
			t.Errorf("%s: %v", name, err)
		}
		if textOf(t, l.SettingsFile()) != text {
			t.Errorf("%s: the file was changed", name)
		}
	}
	l := paths.Under(t.TempDir(), paths.Demo)
	if err := os.MkdirAll(l.SettingsFile(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Choose(l, "Language", "de"); !problem.IsCode(err, problem.RequestInvalid) {
		t.Errorf("a folder: %v", err)
	}
}
