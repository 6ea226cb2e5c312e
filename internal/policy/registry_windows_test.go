package policy

import (
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// ofTheTest is a key of its own below the user's: the tests write to the registry
// of whoever runs them.
const ofTheTest = `Software\EncounterLauncherOfTheTest`

// keyOfTheTest creates the key and takes it away at the end.
func keyOfTheTest(t *testing.T) registry.Key {
	t.Helper()
	removeTree(t, registry.CURRENT_USER, ofTheTest)
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
	removeTree(t, registry.CURRENT_USER, ofTheTest)
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
	type raw struct {
		kind uint32
		data []byte
	}
	utf16 := func(text string) (b []byte) {
		for _, c := range windows.StringToUTF16(text) {
			b = append(b, byte(c), byte(c>>8))
		}
		return b
	}
	four := []byte{15, 0, 0, 0}
	for _, c := range []struct {
		name, key string
		value     raw
		want      string
	}{
		{"SZ for a DWORD", "IdleSignOutMinutes", raw{registry.SZ, utf16("15")}, "must be a REG_DWORD"},
		{"SZ for yes or no", "SharedWorkstation", raw{registry.SZ, utf16("1")}, "must be a REG_DWORD"},
		{"SZ for a list", "EncounterURLHosts", raw{registry.SZ, utf16("a.example")}, "must be a REG_MULTI_SZ"},
		{"DWORD for a text", "BackendURL", raw{registry.DWORD, four}, "must be a REG_SZ"},
		{"DWORD for a list", "OIDCScopes", raw{registry.DWORD, four}, "must be a REG_MULTI_SZ"},
		{"DWORD for an object", "LinkKeys", raw{registry.DWORD, four}, "must be a REG_SZ"},
		{"MULTI_SZ for a text", "OIDCIssuer", raw{registry.MULTI_SZ, append(utf16("https://a.example"), 0, 0)}, "must be a REG_SZ"},
		{"MULTI_SZ for a choice", "RecentsLabel", raw{registry.MULTI_SZ, append(utf16("none"), 0, 0)}, "must be a REG_SZ"},
		{"MULTI_SZ for a number", "RecentsLimit", raw{registry.MULTI_SZ, append(utf16("5"), 0, 0)}, "must be a REG_DWORD"},
		{"MULTI_SZ with an empty item", "AllowedLinkForms", raw{registry.MULTI_SZ, append(append(utf16("handle"), utf16("")...), append(utf16("request"), 0, 0)...)}, "without empty lines"},
		{"MULTI_SZ that begins with an empty item", "HiddenItems", raw{registry.MULTI_SZ, append(utf16(""), append(utf16("quit"), 0, 0)...)}, "without empty lines"},
		{"EXPAND_SZ for a text", "HelpDeskURL", raw{registry.EXPAND_SZ, utf16("https://%COMPUTERNAME%.example")}, "must be a REG_SZ"},
		{"QWORD for a number", "MaxSignInAgeMinutes", raw{registry.QWORD, append(four, 0, 0, 0, 0)}, "must be a REG_DWORD"},
		{"BINARY for a number", "RecentsRetentionHours", raw{registry.BINARY, four}, "must be a REG_DWORD"},
		{"BINARY for yes or no", "Autostart", raw{registry.BINARY, []byte{1}}, "must be a REG_DWORD"},
		{"BINARY for a text", "OIDCAudience", raw{registry.BINARY, utf16("api")}, "must be a REG_SZ"},
		{"NONE for a text", "OIDCClientID", raw{registry.NONE, nil}, "must be a REG_SZ"},
		{"two for yes or no", "SignOutOnLock", raw{registry.DWORD, []byte{2, 0, 0, 0}}, "must be a REG_DWORD of 0 or 1"},
		{"a key written twice in an object", "LinkKeys", raw{registry.SZ, utf16(`{"keys":[],"keys":[]}`)}, "without a repeated key"},
		{"no JSON in an object", "LinkKeys", raw{registry.SZ, utf16(`{keys}`)}, "holds valid JSON"},
		{"an empty text", "OIDCPrompt", raw{registry.SZ, utf16("")}, "must not be empty"},
		{"a number below the bound", "IdleSignOutMinutes", raw{registry.DWORD, []byte{255, 255, 255, 255}}, "must be a whole number from 0 to 1440"},
		{"a number above the bound", "RecentsLimit", raw{registry.DWORD, []byte{201, 0, 0, 0}}, "must be a whole number from 0 to 200"},
		{"a word that is no choice", "LogLevel", raw{registry.SZ, utf16("loud")}, "must be one of debug, info, warn, error"},
		{"a list that repeats an item", "OIDCScopes", raw{registry.MULTI_SZ, append(append(utf16("openid"), utf16("openid")...), 0, 0)}, "must not name an item twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ownHives(t)
			set(t, registry.LOCAL_MACHINE, PoliciesKey, nil)
			writeRaw(t, PoliciesKey, c.key, c.value.kind, c.value.data)
			// A weaker source never takes the place of a value that cannot be used.
			set(t, registry.LOCAL_MACHINE, DefaultsKey, inRegistry)
			s := Load(noFolders())
			v := valueOf(t, s, c.key)
			if v.Source != SourceSafest || len(v.Rejected) != 1 || !strings.Contains(v.Rejected[0].Sentence, c.want) {
				t.Errorf("%+v, want %q", v, c.want)
			}
			if refuses := s.LaunchProblem() != nil; refuses != (rowOf(t, c.key).OnError == RefuseLaunches) {
				t.Errorf("refuses launches: %v", refuses)
			}
		})
	}
}

// writeRaw writes a value of any type and any bytes, as no call of Go's does.
func writeRaw(t *testing.T, path, name string, kind uint32, data []byte) {
	t.Helper()
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.SET_VALUE|registry.WOW64_64KEY)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	code, _, _ := windows.NewLazySystemDLL("advapi32.dll").NewProc("RegSetValueExW").Call(uintptr(k), uintptr(unsafe.Pointer(text)), 0, uintptr(kind), uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(len(data)))
	if code != 0 {
		t.Fatalf("RegSetValueEx: %d", code)
	}
}

func TestNamesThatNobodyKnowsAreShownAndRefuseNothing(t *testing.T) {
	ownHives(t)
	set(t, registry.LOCAL_MACHINE, PoliciesKey, inRegistry)
	set(t, registry.LOCAL_MACHINE, PoliciesKey, map[string]any{"Tomorrow": "x", "<b>\u202e": "x", "": "the default value says nothing"})
	set(t, registry.LOCAL_MACHINE, PoliciesKey+`\RecentsLimit`, map[string]any{"": 1}) // a key below is none of ours
	s := Load(noFolders())
	if s.LaunchProblem() != nil || len(s.Findings) != 2 {
		t.Errorf("%v, %+v", s.LaunchProblem(), s.Findings)
	}
	for _, f := range s.Findings {
		if strings.ContainsAny(f.Sentence, "<\u202e") {
			t.Errorf("%q", f.Sentence)
		}
	}
}

func TestTheComputersPolicyIsStrongerThanTheUsersAndBothThanTheInstallers(t *testing.T) {
	ownHives(t)
	set(t, registry.LOCAL_MACHINE, DefaultsKey, inRegistry)
	set(t, registry.LOCAL_MACHINE, DefaultsKey, map[string]any{"LogLevel": "error", "RecentsLimit": 1, "RecentsLabel": "", "HiddenItems": []string{}})
	set(t, registry.CURRENT_USER, PoliciesKey, map[string]any{"LogLevel": "warn", "RecentsLimit": 2, "SharedWorkstation": 1, "ExtraCAFile": `C:\extra.pem`})
	set(t, registry.LOCAL_MACHINE, PoliciesKey, map[string]any{"LogLevel": "debug"})
	// What lies in the view of 32-bit programs is no source.
	set(t, registry.LOCAL_MACHINE, `Software\WOW6432Node\EncounterLauncher`, map[string]any{"RecentsLabel": "name"})
	s := Load(noFolders())
	for key, want := range map[string]string{"LogLevel": SourceMachine, "RecentsLimit": SourceUser, "BackendURL": SourceDefaults, "RecentsLabel": SourceBuiltIn, "HiddenItems": SourceBuiltIn, "SharedWorkstation": SourceBuiltIn} {
		if v := valueOf(t, s, key); v.Source != want {
			t.Errorf("%s is from %s, want %s", key, v.Source, want)
		}
	}
	if s.SharedWorkstation || s.ExtraCAFile != "" || len(s.Findings) != 2 || s.LaunchProblem() != nil {
		t.Errorf("a user policy described the computer: %+v", s.Findings)
	}
}

func TestWhatAnInstallerLeftEmptyIsUnset(t *testing.T) {
	k := keyOfTheTest(t)
	for _, err := range []error{k.SetStringValue("BackendURL", ""), k.SetStringValue("EncounterURLHosts", ""), k.SetStringsValue("HiddenItems", nil), k.SetDWordValue("RecentsLimit", 5)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r := readRegistry(SourceDefaults, currentUser, ofTheTest, true); len(r.entries) != 1 || r.entries[0].key != "RecentsLimit" {
		t.Errorf("%+v", r.entries)
	}
	if r := readRegistry(SourceMachine, currentUser, ofTheTest, false); len(r.entries) != 4 {
		t.Errorf("an empty value of a policy was left out: %+v", r.entries)
	}
}

func TestTheInstallersHostsAreOneTextOrAList(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any
		want  []string // nil: refused
	}{
		{"one", "a.example", []string{"a.example"}},
		{"several", ".vendor.example;notes.hospital.example;c.example", []string{".vendor.example", "notes.hospital.example", "c.example"}},
		{"a list", []string{".vendor.example", "b.example"}, []string{".vendor.example", "b.example"}},
		{"an empty host at the end", "a.example;", nil},
		{"an empty host between", "a.example;;b.example", nil},
		{"nothing but a semicolon", ";", nil},
		{"a space", "a.example; b.example", nil},
		{"a comma", "a.example,b.example", nil},
		{"twice", "a.example;a.example", nil},
		{"everything", "*", nil},
		{"a host that is none", "a.example;https://b.example/", nil},
		{"a list whose line holds several", []string{"a.example;b.example"}, nil},
		{"a number", 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			ownHives(t)
			set(t, registry.LOCAL_MACHINE, DefaultsKey, map[string]any{"EncounterURLHosts": c.value})
			s := Load(noFolders())
			v := valueOf(t, s, "EncounterURLHosts")
			if c.want == nil {
				if v.Source != SourceSafest || len(v.Rejected) != 1 || len(s.EncounterURLHosts) != 0 {
					t.Errorf("it was taken: %+v", v)
				}
				return
			}
			if v.Source != SourceDefaults || !slices.Equal(s.EncounterURLHosts, c.want) {
				t.Errorf("%v from %s, want %v; %+v", s.EncounterURLHosts, v.Source, c.want, v.Rejected)
			}
		})
	}
}

func TestTheInstallersTextIsSplitForNoOtherListAndInNoPolicy(t *testing.T) {
	ownHives(t)
	set(t, registry.LOCAL_MACHINE, DefaultsKey, map[string]any{"OIDCScopes": "openid;profile"})
	set(t, registry.LOCAL_MACHINE, PoliciesKey, map[string]any{"EncounterURLHosts": "a.example;b.example"})
	s := Load(noFolders())
	for _, key := range []string{"OIDCScopes", "EncounterURLHosts"} {
		if v := valueOf(t, s, key); len(v.Rejected) != 1 || !strings.Contains(v.Rejected[0].Sentence, "must be a REG_MULTI_SZ") {
			t.Errorf("%s: %+v", key, v)
		}
	}
}
