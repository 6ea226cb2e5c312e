package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// set writes values below a key of this user, and removes what it made afterwards.
func set(t *testing.T, root registry.Key, path string, values map[string]string) {
	t.Helper()
	k, existed, err := registry.CreateKey(root, path, registry.SET_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if !existed {
		t.Cleanup(func() { _ = registry.DeleteKey(root, path) })
	}
	for name, value := range values {
		if err := k.SetStringValue(name, value); err != nil {
			t.Fatal(err)
		}
	}
}

// folder is a temporary one whose removal may fail: Wine cannot always.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestTheRegistryHoldsTheBrowsersPolicies(t *testing.T) {
	const base = `Software\Policies\`
	set(t, registry.CURRENT_USER, base+`Google\Chrome`, map[string]string{
		"AutoLaunchProtocolsFromOrigins": `[{"protocol":"encounter-launcher","allowed_origins":["https://ehr.hospital.example"]}]`,
	})
	set(t, registry.LOCAL_MACHINE, base+`Microsoft\Edge`, map[string]string{})
	set(t, registry.LOCAL_MACHINE, base+`Microsoft\Edge\URLBlocklist`, map[string]string{"1": "https://x.example", "2": "encounter-launcher:*"})
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, base+`Mozilla\Firefox`, registry.SET_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.DeleteKey(registry.LOCAL_MACHINE, base+`Mozilla\Firefox`) })
	if err := k.SetStringsValue("Handlers", []string{`{"schemes":{"encounter-launcher":`, `{"action":"useSystemDefault","ask":false}}}`}); err != nil {
		t.Fatal(err)
	}
	if err := k.SetDWordValue("AutoLaunchProtocolsFromOrigins", 1); err != nil {
		t.Fatal(err)
	}
	_ = k.Close()
	found := map[string]browserPolicy{}
	for _, p := range browserPolicies("encounter-launcher") {
		found[p.browser] = p
	}
	if allowed, good := found["Chrome"].launches("encounter-launcher"); !allowed || !good {
		t.Errorf("Chrome: %+v", found["Chrome"])
	}
	if p := found["Edge"]; !p.blocks("encounter-launcher") || len(p.blocked) != 2 {
		t.Errorf("Edge: %+v", p)
	}
	if p := found["Firefox"]; !p.unreadable {
		t.Errorf("Firefox: a value of a wrong type passes: %+v", p)
	} else if allowed, _ := p.launches("encounter-launcher"); !allowed {
		t.Errorf("Firefox: %+v", p)
	}
}

func TestTheRegistrySaysWhichWebView2IsInstalled(t *testing.T) {
	if got, err := webView(); err != nil || !got.Needed || got.Version != "" {
		t.Fatalf("before: %+v, %v", got, err)
	}
	for i, version := range []string{"0.0.0.0", "93.0.961.33", "130.0.2849.46"} {
		set(t, webViewKeys[i].root, webViewKeys[i].path, map[string]string{"pv": version})
	}
	if got, err := webView(); err != nil || got.Version != "130.0.2849.46" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTheRegistrySaysWhereOtherCopiesAreInstalled(t *testing.T) {
	dir := folder(t)
	program := filepath.Join(dir, "encounter-launcher.exe")
	if err := os.WriteFile(program, []byte("program"), 0o700); err != nil {
		t.Fatal(err)
	}
	set(t, registry.CURRENT_USER, uninstallPath+`\{11111111-2222-3333-4444-555555555555}`, map[string]string{"DisplayName": "Encounter Launcher", "InstallLocation": dir + `\`})
	set(t, registry.CURRENT_USER, uninstallPath+`\Other`, map[string]string{"DisplayName": "Another program", "InstallLocation": folder(t)})
	if got := copies("encounter-launcher"); !slices.Contains(got, program) || len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// plantedDesktop is what an archive says of a session that plantEverywhere has named.
const plantedDesktop = `"desktop": "windows"`

// onlyMine fails unless only this user and the system can read a file.
func onlyMine(t *testing.T, file string) {
	t.Helper()
	found, err := windows.GetNamedSecurityInfo(file, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := found.DACL()
	if err != nil || list == nil || list.AceCount == 0 {
		t.Fatalf("%s: %v", found, err)
	}
	for i := range uint32(list.AceCount) {
		var entry *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &entry); err != nil {
			t.Fatal(err)
		}
		who := (*windows.SID)(unsafe.Pointer(&entry.SidStart))
		if entry.Header.AceType == windows.ACCESS_ALLOWED_ACE_TYPE && !who.Equals(user.User.Sid) && !who.IsWellKnown(windows.WinLocalSystemSid) {
			t.Errorf("%s may read it: %s", who, found)
		}
	}
}

func TestAnArchiveBelongsToThisUserInAFolderThatIsOpenToAll(t *testing.T) {
	d := newSite(t).healthy()
	dir := folder(t)
	open, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;WD)")
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := open.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "support.zip")
	for _, force := range []bool{false, true} {
		if _, err := WriteBundle(file, force, d, nil); err != nil {
			t.Fatal(err)
		}
		onlyMine(t, file)
	}
}

func TestTheTraysHostIsTheTaskBarOfThisSession(t *testing.T) {
	if got := trayHost(t.Context()); got != TrayShown {
		t.Errorf("beside a desktop: %v", got)
	}
	if got := trayOf("EncounterLauncherNoSuchClass"); got != TrayNoSession {
		t.Errorf("without one: %v", got)
	}
}

func TestTheDiskAndTheSystemSayTheirNumbers(t *testing.T) {
	if n, err := free(folder(t)); err != nil || n == 0 {
		t.Errorf("%d, %v", n, err)
	}
	if release() == "" || release() == "0.0.0" {
		t.Errorf("release %q", release())
	}
	if linkProgram(`C:\x\encounter-launcher.COM`) != `C:\x\encounter-launcher.exe` || linkProgram(`C:\x\a.exe`) != `C:\x\a.exe` {
		t.Error("the program of the links is not the one without a console")
	}
}
