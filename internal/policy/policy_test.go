package policy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// linux are the rules of a release on Linux.
var linux = rules{}

const goodPolicy = `{
	"BackendURL": "https://encounters.hospital.example/api",
	"OIDCIssuer": "https://login.hospital.example",
	"OIDCClientID": "launcher",
	"EncounterURLHosts": [".vendor.example"]
}`

// says is a source that can be read and holds the given JSON object.
func says(t *testing.T, source, object string) reading {
	t.Helper()
	entries, why := parseFile([]byte(object))
	if why != "" {
		t.Fatalf("%s: %s", object, why)
	}
	return reading{source: source, path: "/" + source, entries: entries}
}

// with returns the good policy with one key set to the given JSON.
func with(t *testing.T, key, raw string) string {
	t.Helper()
	object := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(goodPolicy), &object); err != nil {
		t.Fatal(err)
	}
	object[key] = json.RawMessage(raw)
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return string(data)
}

func valueOf(t *testing.T, s Snapshot, key string) Value {
	t.Helper()
	for _, v := range s.Values {
		if v.Key == key {
			return v
		}
	}
	t.Fatalf("no value for %s", key)
	return Value{}
}

func codeOf(s Snapshot) problem.Code { return problem.CodeOf(s.LaunchProblem()) }

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestMachinePolicyThenUserPolicyThenThePersonsChoiceWhereTheKeyAllowsOneThenInstallerDefaultsThenTheBuiltInDefault(t *testing.T) {
	t.Run("Machine policy, then user policy, then the person's choice where the key allows one, then installer defaults, then the built-in default", func(t *testing.T) {
		// Each source is taken away in turn, strongest first: the next one decides.
		for _, key := range []struct {
			name                             string
			machine, user, person, installer string
			builtIn                          string
			get                              func(Snapshot) any
		}{
			{"Language", `"fr"`, `"es"`, `"de"`, `"en"`, nothing, func(s Snapshot) any { return s.Language }},
			{"LogLevel", `"error"`, `"warn"`, `"debug"`, `"debug"`, `"info"`, func(s Snapshot) any { return s.LogLevel }},
			{"RecentsLimit", "1", "2", "3", "4", "10", func(s Snapshot) any { return s.RecentsLimit }},
			{"BackendURL", `"https://m.example/"`, `"https://u.example/"`, `"https://p.example/"`, `"https://i.example/"`, nothing, func(s Snapshot) any { return s.BackendURL }},
		} {
			all := []reading{
				says(t, SourceMachine, fmt.Sprintf(`{%q:%s}`, key.name, key.machine)),
				says(t, SourceUser, fmt.Sprintf(`{%q:%s}`, key.name, key.user)),
				says(t, SourcePerson, fmt.Sprintf(`{%q:%s}`, key.name, key.person)),
				says(t, SourceDefaults, fmt.Sprintf(`{%q:%s}`, key.name, key.installer)),
			}
			texts := []string{key.machine, key.user, key.person, key.installer, key.builtIn}
			sources := []string{SourceMachine, SourceUser, SourcePerson, SourceDefaults, SourceBuiltIn}
			for absent := 0; absent <= len(all); absent++ {
				want := absent
				if sources[want] == SourcePerson && key.name != "Language" {
					want++ // only some keys allow a choice
				}
				s := resolve(all[absent:], linux)
				v := valueOf(t, s, key.name)
				if v.Effective != texts[want] || v.Source != sources[want] {
					t.Errorf("%s without the %d strongest: %s from %s, want %s from %s", key.name, absent, v.Effective, v.Source, texts[want], sources[want])
				}
				shown, _ := json.Marshal(key.get(s))
				if texts[want] == nothing {
					shown = []byte(strings.Replace(string(shown), `""`, nothing, 1))
				}
				if string(shown) != texts[want] {
					t.Errorf("%s without the %d strongest: the snapshot has %s, want %s", key.name, absent, shown, texts[want])
				}
			}
		}
	})
}

func TestTheTableIsTheDesignsTable(t *testing.T) {
	want := strings.Fields(`OrganizationName HelpDeskURL BackendURL OIDCIssuer OIDCClientID OIDCScopes OIDCAudience OIDCRedirectPorts OIDCPrompt
		EncounterURLHosts AllowedLinkForms LinkKeys RecentsLimit RecentsRetentionHours RecentsLabel SharedWorkstation IdleSignOutMinutes SignOutOnLock
		MaxSignInAgeMinutes Autostart ProxyMode ProxyURL ProxyPACURL ExtraCAFile ClientCertificateFile ClientKeyFile
		ClientCertificateThumbprint Language AuditDestination LogLevel Notices HiddenItems`)
	refuse := func(name string) bool {
		return strings.HasPrefix(name, "OIDC") || strings.HasPrefix(name, "Proxy") || strings.HasPrefix(name, "Client") ||
			slices.Contains(strings.Fields("BackendURL EncounterURLHosts AllowedLinkForms LinkKeys ExtraCAFile SharedWorkstation SignOutOnLock IdleSignOutMinutes MaxSignInAgeMinutes"), name)
	}
	var names []string
	for _, k := range Keys() {
		names = append(names, k.Name)
		if (k.OnError == RefuseLaunches) != refuse(k.Name) || (k.OnError != RefuseLaunches && k.OnError != TakeSafest) {
			t.Errorf("%s: on error %q", k.Name, k.OnError)
		}
		if k.PersonMayChoose && k.OnError == RefuseLaunches {
			t.Errorf("%s: a person's file could stop launches", k.Name)
		}
		if k.Required && (k.Default != nothing || k.OnError != RefuseLaunches) {
			t.Errorf("%s: required, yet it has a default or does not refuse", k.Name)
		}
		if k.Since == "" || k.Scope == "" || !strings.HasSuffix(k.Sentence, ".") || strings.Contains(k.Sentence, "\n") {
			t.Errorf("%s: the row is not complete", k.Name)
		}
		if (k.Type == Choice) != (k.Allowed != nil) && k.Type != List {
			t.Errorf("%s: a choice needs its values, and nothing else has any", k.Name)
		}
		if k.Type == Number && k.Max <= k.Min {
			t.Errorf("%s: bounds %d to %d", k.Name, k.Min, k.Max)
		}
		for _, text := range []string{k.Default, k.Safest} {
			if text == nothing {
				continue
			}
			v, why := k.parse(json.RawMessage(text), linux)
			if why != "" || k.json(v) != text {
				t.Errorf("%s: %s is not one of its own values: %s", k.Name, text, why)
			}
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("keys\n%q, want\n%q", names, want)
	}
}

// samples has a good value for every key that is neither its default nor its
// safest value.
func samples(t *testing.T) map[string]string {
	return map[string]string{
		"OrganizationName": `"Hôpital"`, "HelpDeskURL": `"https://help.example/?a=1"`, "BackendURL": `"https://other.example:8443/x"`,
		"OIDCIssuer": `"https://issuer.example/realms/a"`, "OIDCClientID": `"id"`, "OIDCScopes": `["openid","x:y"]`, "OIDCAudience": `"api"`,
		"OIDCRedirectPorts": `["8400","65535"]`, "OIDCPrompt": `"login"`, "EncounterURLHosts": `["a.example",".b.example"]`,
		"AllowedLinkForms": `["identifiers"]`, "LinkKeys": keySet(t), "RecentsLimit": "200", "RecentsRetentionHours": "720", "RecentsLabel": `"name"`,
		"SharedWorkstation": "true", "IdleSignOutMinutes": "1440", "SignOutOnLock": "true", "MaxSignInAgeMinutes": "43200", "Autostart": "false",
		"ProxyMode": `"direct"`, "ProxyURL": `"http://proxy.example:3128"`, "ProxyPACURL": `"http://wpad.example/proxy.pac"`,
		"ExtraCAFile": quote(filepath.Join(os.TempDir(), "extra.pem")), "ClientCertificateFile": quote(filepath.Join(os.TempDir(), "client.pem")),
		"ClientKeyFile": quote(filepath.Join(os.TempDir(), "client.key")), "ClientCertificateThumbprint": `"0123456789abcdefABCDEF0123456789abcdef01"`, "Language": `"fr"`, "AuditDestination": `"system"`, "LogLevel": `"debug"`,
		"Notices": `"none"`, "HiddenItems": `["quit","recents"]`,
	}
}

func keySet(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../build/policy/example-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var example struct{ LinkKeys json.RawMessage }
	if err := json.Unmarshal(data, &example); err != nil {
		t.Fatal(err)
	}
	return string(example.LinkKeys)
}

func TestEveryKeySetsItsOwnFieldAndNoOther(t *testing.T) {
	good := samples(t)
	for _, k := range Keys() {
		raw := good[k.Name]
		if k.Name == "Autostart" {
			raw = "true" // its sample is the zero value
		}
		v, why := k.parse(json.RawMessage(raw), linux)
		if why != "" {
			t.Errorf("%s: %s", k.Name, why)
			continue
		}
		var s Snapshot
		k.put(&s, v)
		var set []string
		fields := reflect.ValueOf(s)
		for i := range fields.NumField() {
			if !fields.Field(i).IsZero() {
				set = append(set, fields.Type().Field(i).Name)
			}
		}
		want := strings.TrimSuffix(strings.TrimSuffix(k.Name, "Minutes"), "Hours")
		if !slices.Equal(set, []string{want}) {
			t.Errorf("%s sets %q", k.Name, set)
		}
	}
}

func TestAValueThatCannotBeUsedInAStrongSourceIsNeverReplacedByAWeakerOne(t *testing.T) {
	good := samples(t)
	wrong := []string{"null", "17.5", "-1", "1e3", "true", `"canary-value"`, `{"canary":1}`, "[1]", `[["canary"]]`, `""`, `["canary\u0000"]`, `"\ud800"`, `"a\u202eb"`}
	for _, k := range Keys() {
		tried := 0
		for _, raw := range wrong {
			if _, why := k.parse(json.RawMessage(raw), linux); why == "" {
				continue
			}
			tried++
			weaker := says(t, SourceDefaults, with(t, k.Name, good[k.Name]))
			s := resolve([]reading{says(t, SourceMachine, with(t, k.Name, raw)), weaker}, linux)
			v := valueOf(t, s, k.Name)
			if v.Effective != k.Safest || v.Source != SourceSafest || len(v.Rejected) != 1 || v.Rejected[0].Source != SourceMachine || !v.Locked {
				t.Errorf("%s: %s gives %+v", k.Name, raw, v)
			}
			refuses := codeOf(s) == problem.PolicyInvalid
			if refuses != (k.OnError == RefuseLaunches) {
				t.Errorf("%s: %s: code %q", k.Name, raw, codeOf(s))
			}
			if len(s.Findings) != 1 || s.Findings[0].Key != k.Name || s.Findings[0].Source != SourceMachine || s.Findings[0].RefusesLaunches != refuses {
				t.Errorf("%s: %s: findings %+v", k.Name, raw, s.Findings)
				continue
			}
			sentence := s.Findings[0].Sentence
			if !strings.HasPrefix(sentence, k.Name+" in the machine policy ") || !strings.HasSuffix(sentence, ".") || strings.Contains(sentence, "canary") {
				t.Errorf("%s: %s: %q", k.Name, raw, sentence)
			}
		}
		if tried < 4 {
			t.Errorf("%s takes nearly everything", k.Name)
		}
	}
}

func TestAValueThatCannotBeUsedInAWeakSourceIsShownAndRefusesNothing(t *testing.T) {
	s := resolve([]reading{says(t, SourceMachine, goodPolicy), says(t, SourceDefaults, `{"BackendURL":17}`)}, linux)
	if s.LaunchProblem() != nil || len(s.Findings) != 1 || s.Findings[0].RefusesLaunches || s.BackendURL != "https://encounters.hospital.example/api" {
		t.Errorf("got %v, %+v", s.LaunchProblem(), s.Findings)
	}
	if v := valueOf(t, s, "BackendURL"); len(v.Rejected) != 1 || v.Rejected[0].Source != SourceDefaults {
		t.Errorf("got %+v", v)
	}
}

func TestAnUnknownKeyIsShownAndNeverRefuses(t *testing.T) {
	for key, want := range map[string]string{
		"NoSuchKey":  "NoSuchKey in the machine policy is not a key that this version knows: remove it or correct its name.",
		"backendurl": "backendurl in the machine policy is not a key that this version knows: write it BackendURL.",
		"Patient: X": "The machine policy has a key that this version does not know and whose name cannot be shown: remove it.",
		"":           "The machine policy has a key that this version does not know and whose name cannot be shown: remove it.",
	} {
		s := resolve([]reading{says(t, SourceMachine, with(t, key, `"canary"`))}, linux)
		if s.LaunchProblem() != nil {
			t.Errorf("%q refuses: %v", key, s.LaunchProblem())
		}
		if len(s.Findings) != 1 || s.Findings[0].Sentence != want {
			t.Errorf("%q: %+v", key, s.Findings)
		}
	}
}

func TestAPersonSetsOnlyWhatThePersonMayChoose(t *testing.T) {
	good := samples(t)
	for _, k := range Keys() {
		s := resolve([]reading{says(t, SourceMachine, goodPolicy), says(t, SourcePerson, fmt.Sprintf("{%q:%s}", k.Name, good[k.Name]))}, linux)
		v := valueOf(t, s, k.Name)
		if took := v.Source == SourcePerson; took != k.PersonMayChoose || v.Locked == k.PersonMayChoose {
			t.Errorf("%s: %+v", k.Name, v)
		}
		if s.LaunchProblem() != nil || (len(s.Findings) == 1) == k.PersonMayChoose {
			t.Errorf("%s: %v, %+v", k.Name, s.LaunchProblem(), s.Findings)
		}
	}
	s := resolve([]reading{says(t, SourceMachine, `{"Language":"es"}`), says(t, SourcePerson, `{"Language":"fr"}`)}, linux)
	if v := valueOf(t, s, "Language"); s.Language != "es" || !v.Locked || len(v.Rejected) != 0 {
		t.Errorf("a policy does not lock the choice: %+v", v)
	}
}

func TestAUserPolicyDoesNotDescribeTheComputer(t *testing.T) {
	good := samples(t)
	for _, k := range Keys() {
		s := resolve([]reading{says(t, SourceMachine, "{}"), says(t, SourceUser, fmt.Sprintf("{%q:%s}", k.Name, good[k.Name]))}, linux)
		if took := valueOf(t, s, k.Name).Source == SourceUser; took != (k.Scope == MachineAndUser) {
			t.Errorf("%s: %+v", k.Name, valueOf(t, s, k.Name))
		}
	}
}

func TestASourceThatCannotBeReadRefusesWhateverAWeakerOneSays(t *testing.T) {
	broken := reading{source: SourceMachine, path: "/etc/x/policy.json", unreadable: "it is empty"}
	s := resolve([]reading{broken, says(t, SourceDefaults, goodPolicy)}, linux)
	if codeOf(s) != problem.PolicyInvalid || len(s.Findings) != 1 || s.Findings[0].Key != "" {
		t.Errorf("got %v, %+v", s.LaunchProblem(), s.Findings)
	}
	if s.BackendURL != "" || s.RecentsLimit != 0 || s.RecentsLabel != "none" || !s.SharedWorkstation || !s.SignOutOnLock {
		t.Errorf("not the safest values: %+v", s)
	}
	person := reading{source: SourcePerson, path: "/home/canary/settings.json", unreadable: "it is empty"}
	s = resolve([]reading{says(t, SourceMachine, goodPolicy), person}, linux)
	if s.LaunchProblem() != nil || len(s.Findings) != 1 || strings.Contains(s.Findings[0].Sentence, "canary") {
		t.Errorf("a person's file: %v, %+v", s.LaunchProblem(), s.Findings)
	}
}

func TestWithoutAnyPolicyTheProgramSaysThatItIsNotSetUp(t *testing.T) {
	s := Load(paths.Under(t.TempDir(), ""))
	var p *problem.Problem
	if p = problem.Of(s.LaunchProblem()); p == nil || p.Code != problem.PolicyMissing || p.Fact != "Not set: BackendURL, OIDCIssuer, OIDCClientID, EncounterURLHosts." {
		t.Errorf("got %v", p)
	}
	for _, f := range s.Findings {
		if !f.RefusesLaunches || f.Code != problem.PolicyMissing {
			t.Errorf("%+v", f)
		}
	}
	if codeOf(Snapshot{}) != problem.PolicyMissing {
		t.Error("a snapshot that was never read lets launches through")
	}
	if s.RecentsLimit != 10 || s.RecentsRetention != 24*time.Hour || s.RecentsLabel != "initials" || s.ProxyMode != "system" || !s.Autostart ||
		!slices.Equal(s.AllowedLinkForms, []string{"handle", "request"}) || s.OIDCRedirectPorts != nil || s.OIDCPrompt != "" || s.LinkKeys != nil {
		t.Errorf("built-in defaults: %+v", s)
	}
}

func TestKeysThatNeedEachOtherAreSeenTogether(t *testing.T) {
	for object, want := range map[string]problem.Code{
		with(t, "ProxyMode", `"manual"`):          problem.PolicyInvalid,
		with(t, "ProxyMode", `"pac"`):             problem.PolicyInvalid,
		with(t, "OIDCAudience", `"launcher"`):     problem.PolicyInvalid,
		with(t, "OIDCAudience", `"api"`):          "",
		with(t, "ProxyURL", `"http://p.example"`): "",
		strings.Replace(with(t, "ProxyMode", `"manual"`), "{", `{"ProxyURL":"http://p.example:3128",`, 1): "",
	} {
		if got := codeOf(resolve([]reading{says(t, SourceMachine, object)}, linux)); got != want {
			t.Errorf("%s: %q, want %q", object, got, want)
		}
	}
	path := quote(filepath.Join(os.TempDir(), "client.pem"))
	file, key := with(t, "ClientCertificateFile", path), with(t, "ClientKeyFile", path)
	thumbprint := with(t, "ClientCertificateThumbprint", `"0123456789abcdefABCDEF0123456789abcdef01"`)
	both := strings.Replace(file, "{", `{"ClientKeyFile":`+path+`,`, 1)
	for object, want := range map[string][2]problem.Code{ // where keys are files, where there is a store
		file: {problem.PolicyInvalid, problem.PolicyInvalid}, key: {problem.PolicyInvalid, problem.PolicyInvalid},
		both: {"", problem.PolicyInvalid}, thumbprint: {problem.PolicyInvalid, ""},
	} {
		for i, r := range []rules{linux, {store: true}} {
			if got := codeOf(resolve([]reading{says(t, SourceMachine, object)}, r)); got != want[i] {
				t.Errorf("%s with %+v: %q, want %q", object, r, got, want[i])
			}
		}
	}
	windows := rules{pac: true}
	if s := resolve([]reading{says(t, SourceMachine, with(t, "ProxyMode", `"pac"`))}, windows); codeOf(s) != problem.PolicyInvalid {
		t.Error("pac without its address goes through")
	}
	object := strings.Replace(with(t, "ProxyMode", `"pac"`), "{", `{"ProxyPACURL":"http://wpad.example/proxy.pac",`, 1)
	if s := resolve([]reading{says(t, SourceMachine, object)}, windows); s.LaunchProblem() != nil || s.ProxyMode != "pac" {
		t.Errorf("pac where the system knows it: %v", s.LaunchProblem())
	}
}

func TestOnlyAnotherBackendOrAnotherSignInChangesIdentity(t *testing.T) {
	good := samples(t)
	base := resolve([]reading{says(t, SourceMachine, goodPolicy)}, linux)
	for _, k := range Keys() {
		if k.Name == "ProxyMode" {
			continue
		}
		other := resolve([]reading{says(t, SourceMachine, with(t, k.Name, good[k.Name]))}, linux)
		want := k.Name == "BackendURL" || strings.HasPrefix(k.Name, "OIDC")
		if ChangesIdentity(base, other) != want || ChangesIdentity(other, base) != want {
			t.Errorf("%s: %v", k.Name, !want)
		}
		if base.Equal(other) {
			t.Errorf("%s: two policies are taken for one", k.Name)
		}
	}
	broken := resolve([]reading{{source: SourceMachine, unreadable: "it is empty"}}, linux)
	if ChangesIdentity(base, broken) || ChangesIdentity(broken, base) || ChangesIdentity(Snapshot{}, base) {
		t.Error("a policy that is broken for a moment signs people out")
	}
	if !base.Equal(resolve([]reading{says(t, SourceMachine, goodPolicy)}, linux)) {
		t.Error("the same sources give two policies")
	}
}

func TestTheExplanationIsCompleteAndItsJSONHasNoNulls(t *testing.T) {
	e := Explain(resolve([]reading{says(t, SourceMachine, `{"BackendURL":17}`), says(t, SourceDefaults, goodPolicy)}, linux))
	if e.OK || !e.RefusesLaunches || len(e.Values) != len(Keys()) {
		t.Errorf("%+v", e)
	}
	for i, v := range e.Values {
		if v.Key != Keys()[i].Name || !json.Valid([]byte(v.Effective)) || !json.Valid([]byte(v.Default)) || v.Source == "" {
			t.Errorf("%+v", v)
		}
	}
	data, err := json.Marshal(e)
	if err != nil || strings.Contains(string(data), ":null") {
		t.Errorf("%s, %v", data, err)
	}
	empty, err := json.Marshal(Explain(Snapshot{}))
	if err != nil || strings.Contains(string(empty), ":null") {
		t.Errorf("%s, %v", empty, err)
	}
}

func TestTheTableCannotBeChangedThroughItsCopy(t *testing.T) {
	for _, k := range Keys() {
		clear(k.Allowed)
	}
	for _, k := range Keys() {
		if slices.Contains(k.Allowed, "") {
			t.Errorf("%s was changed", k.Name)
		}
	}
}
