package policy

import (
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// hivesOfTheTest is a key of its own below the user's, in which the hives lie.
const hivesOfTheTest = `Software\EncounterLauncherHivesOfTheTest`

// ownHives puts empty hives in the place of HKLM and HKCU, for this process alone
// (RegOverridePredefKey), so that whole sources can be tried without touching those
// of whoever runs the test.
func ownHives(t *testing.T) {
	t.Helper()
	override := windows.NewLazySystemDLL("advapi32.dll").NewProc("RegOverridePredefKey")
	hives := []registry.Key{registry.LOCAL_MACHINE, registry.CURRENT_USER}
	names := []string{hivesOfTheTest + `\Machine`, hivesOfTheTest + `\User`}
	var own []registry.Key
	for _, name := range names {
		removeTree(t, registry.CURRENT_USER, name)
		k, _, err := registry.CreateKey(registry.CURRENT_USER, name, registry.ALL_ACCESS)
		if err != nil {
			t.Fatal(err)
		}
		own = append(own, k)
	}
	set := func(i int, to registry.Key) {
		if code, _, _ := override.Call(uintptr(hives[i]), uintptr(to)); code != 0 {
			t.Errorf("RegOverridePredefKey: %d", code)
		}
	}
	for i := range hives {
		set(i, own[i])
	}
	t.Cleanup(func() {
		for i := range hives {
			set(i, 0)
			_ = own[i].Close()
			removeTree(t, registry.CURRENT_USER, names[i])
		}
		_ = registry.DeleteKey(registry.CURRENT_USER, hivesOfTheTest)
	})
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

// set writes values into a key, which it creates: a string, a list or a number.
func set(t *testing.T, root registry.Key, path string, values map[string]any) {
	t.Helper()
	k, _, err := registry.CreateKey(root, path, registry.SET_VALUE|registry.WOW64_64KEY)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for name, v := range values {
		switch v := v.(type) {
		case string:
			err = k.SetStringValue(name, v)
		case []string:
			err = k.SetStringsValue(name, v)
		case int:
			err = k.SetDWordValue(name, uint32(v))
		default:
			err = k.DeleteValue(name)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// inRegistry is the least policy.
var inRegistry = map[string]any{
	"BackendURL": "https://encounters.hospital.example/api", "OIDCIssuer": "https://login.hospital.example", "OIDCClientID": "launcher",
	"EncounterURLHosts": []string{".vendor.example"},
}
