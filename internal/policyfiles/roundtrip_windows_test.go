package policyfiles

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
)

// ofTheTest is a key of its own below the user's. In it lie the hives that this
// process takes for the computer's and the user's while a test runs.
const ofTheTest = `Software\EncounterLauncherTemplatesOfTheTest`

// ownHives puts empty hives in the place of HKLM and HKCU, for this process alone
// (RegOverridePredefKey), and returns how other processes call them.
func ownHives(t *testing.T) (machine, user string) {
	t.Helper()
	override := windows.NewLazySystemDLL("advapi32.dll").NewProc("RegOverridePredefKey")
	set := func(hive, to registry.Key) {
		if code, _, _ := override.Call(uintptr(hive), uintptr(to)); code != 0 {
			t.Fatalf("RegOverridePredefKey: %d", code)
		}
	}
	hives := []registry.Key{registry.LOCAL_MACHINE, registry.CURRENT_USER}
	names := []string{ofTheTest + `\Machine`, ofTheTest + `\User`}
	for _, name := range names {
		removeTree(t, registry.CURRENT_USER, name)
	}
	var own []registry.Key
	for _, name := range names {
		k, _, err := registry.CreateKey(registry.CURRENT_USER, name, registry.ALL_ACCESS)
		if err != nil {
			t.Fatal(err)
		}
		own = append(own, k)
	}
	for i, hive := range hives {
		set(hive, own[i])
	}
	t.Cleanup(func() {
		for i, hive := range hives {
			set(hive, 0)
			_ = own[i].Close()
			removeTree(t, registry.CURRENT_USER, names[i])
		}
		_ = registry.DeleteKey(registry.CURRENT_USER, ofTheTest)
	})
	return `HKCU\` + names[0], `HKCU\` + names[1]
}

// nobodysFolders are folders that do not exist: the person has chosen nothing.
func nobodysFolders() paths.Layout {
	return paths.Under(filepath.Join(os.TempDir(), "encounter-launcher-has-no-such-folder"), "")
}

func removeTree(t *testing.T, root registry.Key, path string) {
	t.Helper()
	k, err := registry.OpenKey(root, path, registry.ENUMERATE_SUB_KEYS)
	if err != nil {
		return
	}
	below, err := k.ReadSubKeyNames(-1)
	_ = k.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range below {
		removeTree(t, root, path+`\`+name)
	}
	if err := registry.DeleteKey(root, path); err != nil {
		t.Fatal(err)
	}
}

// apply writes what Group Policy would write for a setting that is enabled, with
// the given data in its box, by what the template says of it and nothing else.
func apply(t *testing.T, hive registry.Key, setting *node, data []string) {
	t.Helper()
	k, _, err := registry.CreateKey(hive, setting.attr["key"], registry.SET_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	dword := func(name, text string) error {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return err
		}
		return k.SetDWordValue(name, uint32(n))
	}
	if name := setting.attr["valueName"]; name != "" {
		state := "disabledValue"
		if data[0] == "1" {
			state = "enabledValue"
		}
		if err := dword(name, setting.one(t, state, "decimal").attr["value"]); err != nil {
			t.Fatal(err)
		}
	}
	for _, elements := range setting.all("elements") {
		for _, e := range elements.children {
			name := e.attr["valueName"]
			switch e.name {
			case "text":
				err = k.SetStringValue(name, data[0])
			case "multiText":
				err = k.SetStringsValue(name, data)
			case "decimal":
				err = dword(name, data[0])
			case "enum":
				i := slices.IndexFunc(e.all("item", "value", "string"), func(n *node) bool { return n.text == data[0] })
				if i < 0 {
					t.Fatalf("%s: the box offers no %q", name, data[0])
				}
				err = k.SetStringValue(name, e.all("item", "value", "string")[i].text)
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

func valueOf(t *testing.T, s policy.Snapshot, key string) policy.Value {
	t.Helper()
	for _, v := range s.Values {
		if v.Key == key {
			return v
		}
	}
	t.Fatalf("no value for %s", key)
	return policy.Value{}
}

// values are what the round trip tries of a key: its example, every choice, both
// answers, both bounds.
func values(k policy.Key) []string {
	all := []string{k.WindowsExample()}
	switch k.Type {
	case policy.Choice:
		for _, v := range k.Allowed {
			all = append(all, strconv.Quote(v))
		}
	case policy.YesNo:
		all = []string{"true", "false"}
	case policy.Number:
		all = append(all, strconv.Itoa(k.Min), strconv.Itoa(k.Max))
	}
	return all
}

func TestWhatTheTemplatesWriteIsReadAsItIsMeant(t *testing.T) {
	ownHives(t)
	l := nobodysFolders()
	keys := forSystem(policy.Keys(), policy.Windows)
	tried := 0
	for _, setting := range template(t).all("policies", "policy") {
		k := keyNamed(keys, setting.attr["name"])
		hives := map[string]registry.Key{policy.SourceMachine: registry.LOCAL_MACHINE}
		if setting.attr["class"] == "Both" {
			hives[policy.SourceUser] = registry.CURRENT_USER
		}
		for source, hive := range hives {
			for _, raw := range values(*k) {
				apply(t, hive, setting, k.RegistryData(raw))
				v := valueOf(t, policy.Load(l), k.Name)
				if v.Effective != raw || v.Source != source || len(v.Rejected) > 0 || !v.Locked {
					t.Errorf("%s %s from the %s: %+v", k.Name, raw, source, v)
				}
				tried++
			}
			removeTree(t, hive, setting.attr["key"])
		}
	}
	if tried < 2*len(keys) {
		t.Errorf("only %d values were tried", tried)
	}
}

func TestWhatTheTemplatesWriteTogetherIsAPolicyInWhichLaunchesGoOn(t *testing.T) {
	ownHives(t)
	keys := forSystem(policy.Keys(), policy.Windows)
	for _, setting := range template(t).all("policies", "policy") {
		k := keyNamed(keys, setting.attr["name"])
		apply(t, registry.LOCAL_MACHINE, setting, k.RegistryData(k.WindowsExample()))
	}
	s := policy.Load(nobodysFolders())
	if s.LaunchProblem() != nil || len(s.Findings) != 0 {
		t.Errorf("%v, %+v", s.LaunchProblem(), s.Findings)
	}
}

func TestTheLinesOfThePageForAdministratorsAreTakenByTheCommandPrompt(t *testing.T) {
	machine, _ := ownHives(t)
	page, err := os.ReadFile(filepath.Join(tree, "docs", "admin-policies.md"))
	if err != nil {
		t.Fatal(err)
	}
	script := "@echo off\r\n"
	lines := 0
	for _, line := range strings.Split(string(page), "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\r"), `reg add HKLM\`); ok {
			script += `reg add ` + machine + `\` + rest + "\r\nif errorlevel 1 exit /b 1\r\n"
			lines++
		}
	}
	keys := forSystem(policy.Keys(), policy.Windows)
	if lines != len(keys) {
		t.Fatalf("%d lines for %d keys", lines, len(keys))
	}
	file, err := os.CreateTemp("", "paste-*.bat")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file.Name()) })
	if _, err := file.WriteString(script); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	prompt := exec.Command("cmd", "/c", file.Name())
	// Without a console, whose host would outlive the test with its output in hand.
	prompt.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS}
	if out, err := prompt.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := policy.Load(nobodysFolders())
	for _, k := range keys {
		v := valueOf(t, s, k.Name)
		if v.Source != policy.SourceMachine || v.Effective != k.WindowsExample() {
			t.Errorf("%s is %s from %s: %+v", k.Name, v.Effective, v.Source, v.Rejected)
		}
	}
	if s.LaunchProblem() != nil {
		t.Error(s.LaunchProblem())
	}
}
