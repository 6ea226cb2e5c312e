package policy

import (
	"strings"
	"testing"

	"golang.org/x/sys/windows/registry"
)

// ofTheTest is a key of its own below the user's: the tests write to the registry
// of whoever runs them.
const ofTheTest = `Software\EncounterLauncherOfTheTest`

// keyOfTheTest creates the key and takes it away at the end.
func keyOfTheTest(t *testing.T) registry.Key {
	t.Helper()
	k, _, err := registry.CreateKey(registry.CURRENT_USER, ofTheTest, registry.SET_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = k.Close()
		_ = registry.DeleteKey(registry.CURRENT_USER, ofTheTest)
	})
	return k
}

func TestTheRegistrySaysWhatAPolicyFileSays(t *testing.T) {
	if r := readRegistry(SourceMachine, currentUser, ofTheTest, false); r.unreadable != "" || len(r.entries) != 0 {
		t.Errorf("without a key: %+v", r)
	}
	k := keyOfTheTest(t)
	for _, err := range []error{
		k.SetStringValue("BackendURL", "https://encounters.hospital.example/api"),
		k.SetStringValue("oidcissuer", "https://issuer.example"), // names know no case
		k.SetStringValue("OIDCClientID", "launcher"),
		k.SetStringsValue("EncounterURLHosts", []string{"a.example", ".b.example"}),
		k.SetStringValue("LinkKeys", keySet(t)),
		k.SetDWordValue("SharedWorkstation", 1),
		k.SetDWordValue("SignOutOnLock", 1),
		k.SetDWordValue("IdleSignOutMinutes", 15),
		k.SetStringValue("", "the default value says nothing"),
		k.SetStringValue("Tomorrow", "a key of a newer version"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := resolve([]reading{readRegistry(SourceMachine, currentUser, ofTheTest, false)}, rules{})
	if s.LaunchProblem() != nil || s.BackendURL != "https://encounters.hospital.example/api" || s.OIDCIssuer != "https://issuer.example" ||
		len(s.EncounterURLHosts) != 2 || len(s.LinkKeys) == 0 || !s.SharedWorkstation || !s.SignOutOnLock || s.IdleSignOut.Minutes() != 15 {
		t.Errorf("%v, %+v", s.LaunchProblem(), s)
	}
	if v := valueOf(t, s, "SharedWorkstation"); v.Source != SourceMachine || v.Path != `HKCU\`+ofTheTest || !v.Locked {
		t.Errorf("%+v", v)
	}
	if len(s.Findings) != 1 || s.Findings[0].Key != "Tomorrow" || s.Findings[0].RefusesLaunches {
		t.Errorf("%+v", s.Findings)
	}
}

func TestAValueOfAnotherRegistryTypeIsRefusedWithTheTypeThatItMustHave(t *testing.T) {
	k := keyOfTheTest(t)
	for _, err := range []error{
		k.SetStringValue("SharedWorkstation", "1"),
		k.SetDWordValue("SignOutOnLock", 2),
		k.SetQWordValue("IdleSignOutMinutes", 15),
		k.SetStringValue("EncounterURLHosts", "a.example"),
		k.SetExpandStringValue("BackendURL", "https://%COMPUTERNAME%.example"),
		k.SetStringValue("LinkKeys", `{"keys":[],"keys":[]}`),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	said := map[string]string{}
	for _, e := range readRegistry(SourceMachine, currentUser, ofTheTest, false).entries {
		said[e.key] = e.wrong
	}
	for key, want := range map[string]string{
		"SharedWorkstation": "REG_DWORD", "SignOutOnLock": "0 or 1", "IdleSignOutMinutes": "REG_DWORD",
		"EncounterURLHosts": "REG_MULTI_SZ", "BackendURL": "REG_SZ", "LinkKeys": "without a repeated key",
	} {
		if !strings.Contains(said[key], want) {
			t.Errorf("%s: %q", key, said[key])
		}
	}
}

func TestWhatAnInstallerLeftEmptyIsUnset(t *testing.T) {
	k := keyOfTheTest(t)
	for _, err := range []error{k.SetStringValue("BackendURL", ""), k.SetStringsValue("EncounterURLHosts", nil), k.SetDWordValue("RecentsLimit", 5)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r := readRegistry(SourceDefaults, currentUser, ofTheTest, true); len(r.entries) != 1 || r.entries[0].key != "RecentsLimit" {
		t.Errorf("%+v", r.entries)
	}
	if r := readRegistry(SourceMachine, currentUser, ofTheTest, false); len(r.entries) != 3 {
		t.Errorf("an empty value of a policy was left out: %+v", r.entries)
	}
}
