package browserpolicy

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/windows/registry"
)

const ofTheTest = `Software\EncounterLauncherBrowsersOfTheTest`

func TestTheRegistryFileIsImportedAsItIsMeant(t *testing.T) {
	// The computer's own policies are left alone: the same file for another key.
	text := strings.ReplaceAll(string(Files(example, Browsers(), Reg)[0].Text), `HKEY_LOCAL_MACHINE\Software\Policies`, `HKEY_CURRENT_USER\`+ofTheTest)
	file, err := os.CreateTemp("", "browsers-*.reg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Remove(file.Name())
		for _, key := range []string{`\Google\Chrome\AudioCaptureAllowedUrls`, `\Google\Chrome`, `\Google`, `\Microsoft\Edge\AudioCaptureAllowedUrls`, `\Microsoft\Edge`, `\Microsoft`, `\Chromium\AudioCaptureAllowedUrls`, `\Chromium`, `\Mozilla\Firefox\Permissions\Microphone\Allow`, `\Mozilla\Firefox\Permissions\Microphone`, `\Mozilla\Firefox\Permissions`, `\Mozilla\Firefox`, `\Mozilla`, ""} {
			if err := registry.DeleteKey(registry.CURRENT_USER, ofTheTest+key); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	})
	if _, err := file.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("regedit", "/s", file.Name()).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	read := func(key, name string) (string, uint32) {
		t.Helper()
		k, err := registry.OpenKey(registry.CURRENT_USER, ofTheTest+`\`+key, registry.QUERY_VALUE)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		defer k.Close()
		text, kind, err := k.GetStringValue(name)
		if err != nil {
			t.Fatalf("%s %s: %v", key, name, err)
		}
		return text, kind
	}
	launch := string(encode(example.launches(), false))
	for _, c := range []struct {
		key, name, text string
		kind            uint32
	}{
		{`Google\Chrome`, "AutoLaunchProtocolsFromOrigins", launch, registry.SZ},
		{`Google\Chrome\AudioCaptureAllowedUrls`, "9002", "https://[*.]other.example", registry.SZ},
		{`Microsoft\Edge`, "AutoLaunchProtocolsFromOrigins", launch, registry.SZ},
		{`Microsoft\Edge\AudioCaptureAllowedUrls`, "9001", "https://encounters.vendor.example", registry.SZ},
		{`Chromium`, "AutoLaunchProtocolsFromOrigins", launch, registry.SZ},
		{`Mozilla\Firefox`, "AutoLaunchProtocolsFromOrigins", launch, registry.SZ},
		{`Mozilla\Firefox`, "Handlers", string(encode(example.handlers(), false)), registry.SZ},
		{`Mozilla\Firefox\Permissions\Microphone\Allow`, "9001", "https://encounters.vendor.example", registry.SZ},
	} {
		if text, kind := read(c.key, c.name); text != c.text || kind != c.kind {
			t.Errorf("%s %s: %q of type %d, want %q of type %d", c.key, c.name, text, kind, c.text, c.kind)
		}
	}
}
