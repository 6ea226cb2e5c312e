package policy

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

func TestEveryExampleIsAGoodValueThatIsNotTheDefault(t *testing.T) {
	for _, k := range Keys() {
		// An absolute path is another one on each system.
		here := k.Example
		if filepath.Separator == '\\' {
			here = k.WindowsExample()
		}
		v, why := k.parse(json.RawMessage(here), linux)
		if why != "" || k.json(v) != here {
			t.Errorf("%s: the example %s: %q", k.Name, here, why)
		}
		if k.Example == k.Default && k.Type != List {
			t.Errorf("%s: the example is the default, which nobody needs to set", k.Name)
		}
		if k.WindowsExample() == "" || !json.Valid([]byte(k.WindowsExample())) {
			t.Errorf("%s: no example for Windows", k.Name)
		}
	}
}

func TestTheLineToPasteHoldsTheTypeAndTheValueAsTheRegistryWantsThem(t *testing.T) {
	for key, want := range map[string]string{
		"BackendURL":         `reg add HKLM\Software\Policies\EncounterLauncher /v BackendURL /t REG_SZ /d "https://encounters.hospital.example/api" /f`,
		"OIDCScopes":         `reg add HKLM\Software\Policies\EncounterLauncher /v OIDCScopes /t REG_MULTI_SZ /d "openid\0email\0offline_access" /f`,
		"IdleSignOutMinutes": `reg add HKLM\Software\Policies\EncounterLauncher /v IdleSignOutMinutes /t REG_DWORD /d 15 /f`,
		"SharedWorkstation":  `reg add HKLM\Software\Policies\EncounterLauncher /v SharedWorkstation /t REG_DWORD /d 1 /f`,
		"Autostart":          `reg add HKLM\Software\Policies\EncounterLauncher /v Autostart /t REG_DWORD /d 0 /f`,
	} {
		k := rowOf(t, key)
		if got := k.RegAdd(`HKLM\`+PoliciesKey, k.WindowsExample()); got != want {
			t.Errorf("%s\n got %s\nwant %s", key, got, want)
		}
	}
	k := rowOf(t, "LinkKeys")
	if got := k.RegAdd("HKLM", `{"keys":[]}`); !strings.Contains(got, `/t REG_SZ /d "{\"keys\":[]}" /f`) {
		t.Error(got)
	}
	if got := rowOf(t, "RecentsLimit").JSONMember("5"); got != `"RecentsLimit": 5` {
		t.Error(got)
	}
	for key, wrong := range map[string]string{"OIDCScopes": `"openid"`, "SharedWorkstation": `"yes"`, "BackendURL": "7"} {
		if data := rowOf(t, key).RegistryData(wrong); data != nil {
			t.Errorf("%s: %s became %q", key, wrong, data)
		}
	}
}

func TestAFileIsJudgedBeforeItsRollout(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	file := filepath.Join(t.TempDir(), "new.json")
	check := func(text string) Snapshot {
		t.Helper()
		write(t, file, text, 0o600) // whoever prepares it need not be root
		s, err := CheckFile(l, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Findings {
			if strings.Contains(f.Sentence, file) {
				t.Errorf("the path is repeated: %s", f.Sentence)
			}
		}
		return s
	}
	if s := check(goodPolicy); len(s.Findings) != 0 || s.LaunchProblem() != nil || s.Values[2].Source != SourceFile {
		t.Errorf("%+v", s.Findings)
	}
	if s := check(`{"Autostart":"yes"}`); codeOf(s) != problem.PolicyMissing || s.Findings[0].Key != "Autostart" || !strings.HasPrefix(s.Findings[0].Sentence, "Autostart in the file must be true or false") {
		t.Errorf("%+v", s.Findings)
	}
	if s := check(`{"Autostart":`); codeOf(s) != problem.PolicyInvalid || s.Findings[0].Sentence != "The file cannot be used: it is not valid JSON at line 1. No encounter opens until then." {
		t.Errorf("%+v", s.Findings)
	}
	// What is in force here is not looked at.
	write(t, l.SettingsFile(), `{"Language":"de"}`, 0o600)
	if s := check(goodPolicy); s.Language != "" {
		t.Error("another source was read")
	}
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir()} {
		if _, err := CheckFile(l, path); problem.CodeOf(err) != problem.RequestInvalid || strings.Contains(err.Error(), path) {
			t.Errorf("%v", err)
		}
	}
}

func TestTheExampleFileThatIsShippedIsGood(t *testing.T) {
	s, err := CheckFile(paths.Under(t.TempDir(), ""), "../../build/policy/example-policy.json")
	if err != nil || len(s.Findings) != 0 {
		t.Errorf("%v, %+v", err, s.Findings)
	}
}
