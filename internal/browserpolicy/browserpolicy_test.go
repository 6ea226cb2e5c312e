package browserpolicy

import (
	"encoding/json"
	"strings"
	"testing"

	"encounterlauncher/internal/problem"
)

func TestAnOriginIsTakenInItsOneFormAndNeverRepaired(t *testing.T) {
	for _, good := range []string{
		"https://ehr.hospital.example", "https://ehr", "https://ehr.hospital.example:8443", "https://10.0.0.7", "https://[2001:db8::1]:8443", "https://xn--hpital-pwa.example", "https://3com.example",
	} {
		if err := CheckOrigin(good, false); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	bad := []string{
		"", "https://", "ehr.hospital.example", "//ehr.hospital.example", "http://ehr.hospital.example", "HTTPS://ehr.hospital.example", "https://EHR.hospital.example", "https://ehr.hospital.example/",
		"https://ehr.hospital.example/app", "https://ehr.hospital.example?a=1", "https://ehr.hospital.example?", "https://ehr.hospital.example#x", "https://ehr.hospital.example#", "https://u@ehr.hospital.example", "https://u:p@ehr.hospital.example",
		"https://*.hospital.example", "*", "https://*", "https://[*.]hospital.example", "https://ehr.hospital.example:443", "https://ehr.hospital.example:0", "https://ehr.hospital.example:65536", "https://ehr.hospital.example:08443", "https://ehr.hospital.example:",
		"https://ehr..example", "https://ehr.example.", "https://-ehr.example", "https://ehr_1.example", "https://éhr.example", "https://127.1", "https://0x7f.1", "https://1", "https://010.0.0.1", "https://[::1%25lo]", "https://ehr.hospital.example\\x",
		" https://ehr.hospital.example", "https://ehr.hospital.example ", "https://ehr.hospital.example\n", "https://ehr.hospital.example\"", "https://ehr%2ehospital.example", "https://e\u202ehr.example", "https://ehr.example,https://b.example", "ftp://ehr.example", "javascript:alert(1)", "null", "file:///etc",
		"https://" + strings.Repeat("a", 64) + ".example", "https://" + strings.Repeat("a.", 200) + "example", "http://127.0.0.1:8080",
	}
	for _, origin := range bad {
		err := CheckOrigin(origin, false)
		if problem.CodeOf(err) != problem.RequestInvalid {
			t.Errorf("%q is taken: %v", origin, err)
		} else if len(origin) > 30 && strings.Contains(err.Error(), origin) && !strings.Contains(origin, "ehr.hospital.example:8443") {
			t.Errorf("%q is repeated", origin)
		}
	}
	for origin, want := range map[string]bool{"http://127.0.0.1:8080": true, "http://127.0.0.1": false, "http://127.0.0.2:80": false, "http://localhost:80": false, "http://127.0.0.1:8080/": false, "https://a.example": true} {
		if err := CheckOrigin(origin, true); (err == nil) != want {
			t.Errorf("in the demo: %q: %v", origin, err)
		}
	}
}

func TestAHostIsTakenAsThePolicyWritesIt(t *testing.T) {
	for host, want := range map[string]bool{
		"encounters.vendor.example": true, ".vendor.example": true, "vendor": false, ".example": false, "*.vendor.example": false, "https://vendor.example": false, "a.example:443": false, "A.example": false,
		"10.0.0.1": false, ".10.0.0.1": false, "..a.example": false, "a.example/x": false, "": false, ".": false, "127.0.0.1": false,
	} {
		if err := CheckHost(host, false); (err == nil) != want {
			t.Errorf("%q: %v", host, err)
		}
	}
	if CheckHost("127.0.0.1", true) != nil || CheckHost("127.0.0.2", true) == nil {
		t.Error("the demo's host")
	}
}

var example = What{Scheme: "encounter-launcher", Origins: []string{"https://ehr.hospital.example", "https://ehr2.hospital.example:8443"}, Hosts: []string{"encounters.vendor.example", ".other.example"}}

func TestEachBrowserGetsItsOwnFileWithWhatItUnderstands(t *testing.T) {
	files := Files(example, Browsers(), JSON)
	if len(files) != 4 {
		t.Fatal(len(files))
	}
	const launch = `[{"protocol":"encounter-launcher","allowed_origins":["https://ehr.hospital.example","https://ehr2.hospital.example:8443"]}]`
	chromium := `{"AutoLaunchProtocolsFromOrigins":` + launch + `,"AudioCaptureAllowedUrls":["https://encounters.vendor.example","https://[*.]other.example"]}`
	firefox := `{"policies":{"AutoLaunchProtocolsFromOrigins":` + launch + `,"Handlers":{"schemes":{"encounter-launcher":{"action":"useSystemDefault","ask":false}}},"Permissions":{"Microphone":{"Allow":["https://encounters.vendor.example"]}}}}`
	for i, want := range []struct{ place, text string }{
		{"/etc/opt/chrome/policies/managed/encounter-launcher.json", chromium}, {"/etc/opt/edge/policies/managed/encounter-launcher.json", chromium},
		{"/etc/chromium/policies/managed/encounter-launcher.json", chromium}, {"/etc/firefox/policies/policies.json", firefox},
	} {
		var v any
		if err := json.Unmarshal(files[i].Text, &v); err != nil {
			t.Fatal(err)
		}
		var wanted any
		_ = json.Unmarshal([]byte(want.text), &wanted)
		got, _ := json.Marshal(v)
		expected, _ := json.Marshal(wanted)
		if files[i].Place != want.place || string(got) != string(expected) {
			t.Errorf("%s\n got %s\nwant %s", files[i].Place, got, expected)
		}
	}
	notes := strings.Join(files[3].Notes, " ")
	if !strings.Contains(notes, "Firefox takes no endings") || !strings.Contains(notes, "one policies.json") {
		t.Errorf("Firefox: %q", notes)
	}
}

func TestARegistryFileIsASCIIWithTheLinesOfWindows(t *testing.T) {
	files := Files(example, Browsers(), Reg)
	if len(files) != 1 || files[0].Place != "" {
		t.Fatalf("%+v", files)
	}
	text := string(files[0].Text)
	for _, r := range text {
		if r > '~' || (r < ' ' && r != '\r' && r != '\n') {
			t.Errorf("%q", r)
		}
	}
	if strings.Count(text, "\n") != strings.Count(text, "\r\n") || !strings.HasPrefix(text, "Windows Registry Editor Version 5.00\r\n\r\n") {
		t.Error("the lines are not those of Windows")
	}
	for _, want := range []string{
		`[HKEY_LOCAL_MACHINE\Software\Policies\Google\Chrome]`, `[HKEY_LOCAL_MACHINE\Software\Policies\Microsoft\Edge]`, `[HKEY_LOCAL_MACHINE\Software\Policies\Chromium]`, `[HKEY_LOCAL_MACHINE\Software\Policies\Mozilla\Firefox]`,
		`"AutoLaunchProtocolsFromOrigins"="[{\"protocol\":\"encounter-launcher\",\"allowed_origins\":[\"https://ehr.hospital.example\",`, `"9002"="https://[*.]other.example"`, `"Handlers"="{\"schemes\":{\"encounter-launcher\":{`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestTheDemosHostIsAPageOverHTTP(t *testing.T) {
	w := What{Scheme: "encounter-launcher-demo", Origins: []string{"http://127.0.0.1:8100"}, Hosts: []string{"127.0.0.1"}, Demo: true}
	for _, f := range Files(w, Browsers(), JSON) {
		if f.Browser != Firefox && !strings.Contains(string(f.Text), `"http://127.0.0.1:*"`) {
			t.Errorf("%s", f.Text)
		}
		if f.Browser == Firefox && strings.Contains(string(f.Text), "Permissions") {
			t.Errorf("%s", f.Text)
		}
	}
	w.Demo = false
	if text := string(Files(w, []Browser{Chrome}, JSON)[0].Text); strings.Contains(text, `"http://127`) && strings.Contains(text, "*") {
		t.Error("a release allows the demo's host")
	}
}
