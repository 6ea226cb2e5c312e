package policy

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"encounterlauncher/internal/problem"
)

// FuzzPolicyFile: whatever the bytes of a machine policy, nothing panics, the
// same bytes give the same snapshot, and what cannot be used refuses launches
// although installer defaults would allow them.
func FuzzPolicyFile(f *testing.F) {
	example, err := os.ReadFile("../../build/policy/example-policy.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, seed := range []string{
		goodPolicy, "", "{}", "[]", "null", `{"BackendURL":17}`, `{"BackendURL":"https://a.example","BackendURL":"https://b.example"}`, "\xef\xbb\xbf{}",
		`{"EncounterURLHosts":["*"]}`, `{"LinkKeys":{"keys":[{"k":"AA"}]}}`, `{"OIDCRedirectPorts":["8400"]}`, `{"ProxyMode":"manual"}`, `{"x":1}`,
		`{"OrganizationName":"\ud800"}`, `{"RecentsLimit":1e9}`, `{"SharedWorkstation":"true"}`, `{"backendurl":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, r := range []rules{{}, {demo: true}, {pac: true}} {
			machine := reading{source: SourceMachine, path: "/policy.json"}
			machine.fill(data, "")
			s := resolve([]reading{machine, says(t, SourceDefaults, goodPolicy)}, r)
			again := reading{source: SourceMachine, path: "/policy.json"}
			again.fill(bytes.Clone(data), "")
			if !s.Equal(resolve([]reading{again, says(t, SourceDefaults, goodPolicy)}, r)) {
				t.Error("the same bytes give two snapshots")
			}
			if machine.unreadable != "" {
				if codeOf(s) != problem.PolicyInvalid {
					t.Errorf("a file that cannot be read (%s) does not refuse", machine.unreadable)
				}
				continue
			}
			written := map[string]json.RawMessage{}
			if err := json.Unmarshal(data, &written); err != nil {
				t.Fatalf("read a file that is no JSON: %v", err)
			}
			for _, k := range Keys() {
				raw, ok := written[k.Name]
				if !ok {
					continue
				}
				v, why := k.parse(raw, r)
				switch {
				case why == "" && k.put == nil:
					t.Fatal("a row does nothing")
				case why == "":
					// What is accepted prints to a form that is accepted again, as the same.
					text := k.json(v)
					if again, why := k.parse(json.RawMessage(text), r); why != "" || k.json(again) != text {
						t.Errorf("%s: %s does not read back: %s", k.Name, text, why)
					}
				case k.OnError == RefuseLaunches && codeOf(s) != problem.PolicyInvalid:
					t.Errorf("%s: %s does not refuse", k.Name, raw)
				}
				if jsonType(raw) != wantType(k.Type) && why == "" {
					t.Errorf("%s: %s has the wrong type and is taken", k.Name, raw)
				}
			}
			if s.LaunchProblem() == nil {
				if !address(s.BackendURL, r.demo, false) || !address(s.OIDCIssuer, r.demo, false) || s.OIDCClientID == "" || len(s.EncounterURLHosts) == 0 {
					t.Errorf("launches may go on with %+v", s)
				}
				if !r.demo && !strings.HasPrefix(s.BackendURL, "https://") {
					t.Error("a release speaks http")
				}
			}
			for _, finding := range s.Findings {
				if finding.Sentence == "" || !strings.HasSuffix(finding.Sentence, ".") || strings.ContainsAny(finding.Sentence, "\n\r\x00") {
					t.Errorf("%q", finding.Sentence)
				}
			}
		}
	})
}

func jsonType(raw json.RawMessage) byte {
	switch c := bytes.TrimSpace(raw)[0]; c {
	case '"', '[', '{', 'n':
		return c
	case 't', 'f':
		return 't'
	}
	return '0'
}

func wantType(t Type) byte {
	return map[Type]byte{Text: '"', Choice: '"', List: '[', Number: '0', YesNo: 't', Object: '{'}[t]
}

// FuzzRegistryValues: a value of the registry means what the same value in a policy file
// means; what is taken of it is, letter for letter, what stood there; and no sentence
// about it quotes it.
func FuzzRegistryValues(f *testing.F) {
	keys := Keys()
	for i := range keys {
		f.Add(uint8(i), uint64(1), "https://backend.example/api")
		f.Add(uint8(i), uint64(2), "")
	}
	for _, text := range []string{
		"", "a\x00b", "\x00", "a\x00a", ".vendor.example\x00app.vendor.example", `{"keys":[{"kty":"EC"}]}`, `{"keys":[],"keys":[]}`, "\xed\xa0\x80", " x", "openid", "8400\x008401", "true", "a;b", ".nabla.com;", "name\x00\u202e", strings.Repeat("x", 2049),
	} {
		for i := range keys {
			if i%7 == len(text)%7 {
				f.Add(uint8(i), uint64(len(text)), text)
			}
		}
	}
	sentence := regexp.MustCompile(`^[A-Za-z0-9_ ,.;:/\\"\[\]*<>{}|-]+$`)
	f.Fuzz(func(t *testing.T, which uint8, n uint64, text string) {
		for _, r := range []rules{{}, {demo: true}, {store: true, pac: true}} {
			k := &keys[int(which)%len(keys)]
			var raw json.RawMessage
			var unset bool
			var wrong string
			items := strings.Split(text, "\x00")
			if text == "" {
				items = nil
			}
			n %= 1 << 32
			switch k.Type {
			case Number, YesNo:
				raw, unset, wrong = fromNumber(n, k.Type)
			case List:
				raw, unset, wrong = fromList(items)
				if hosts, none, why := fromHosts(strings.Join(items, ";")); wrong == "" && why == "" && !strings.Contains(text, ";") && (none != unset || !none && !bytes.Equal(hosts, raw)) {
					t.Fatalf("%q: an installer says %s, an administrator %s", items, hosts, raw)
				}
			default:
				raw, unset, wrong = fromText(text, k.Type)
			}
			if wrong != "" {
				if raw != nil || !sentence.MatchString(wrong) {
					t.Fatalf("%s: %s, %q", k.Name, raw, wrong)
				}
				continue
			}
			if !json.Valid(raw) {
				t.Fatalf("%s: %q is no JSON", k.Name, raw)
			}
			v, why := k.parse(raw, r)
			if unset && why == "" && k.Type != List {
				t.Fatalf("%s is taken empty", k.Name)
			}
			if why != "" {
				if !sentence.MatchString(why) {
					t.Fatalf("%s: %q", k.Name, why)
				}
				continue
			}
			switch k.Type {
			case Number:
				if uint64(v.number) != n || v.number < k.Min || v.number > k.Max {
					t.Fatalf("%s: %d was taken as %d", k.Name, n, v.number)
				}
			case YesNo:
				if v.yes != (n == 1) || n > 1 {
					t.Fatalf("%s: %d was taken as %v", k.Name, n, v.yes)
				}
			case List:
				if !slices.Equal(v.list, items) {
					t.Fatalf("%s: %q was taken as %q", k.Name, items, v.list)
				}
			case Object:
				var compact bytes.Buffer
				if json.Compact(&compact, []byte(text)) != nil || compact.String() != string(v.object) {
					t.Fatalf("%s: %q was taken as %q", k.Name, text, v.object)
				}
			default:
				if v.text != text {
					t.Fatalf("%s: %q was taken as %q", k.Name, text, v.text)
				}
			}
			// The same in a file is the same policy.
			line, err := json.Marshal(k.Name)
			if err != nil {
				t.Fatal(err)
			}
			file := reading{source: SourceMachine}
			file.fill([]byte("{"+string(line)+":"+string(raw)+"}"), "")
			entry := reading{source: SourceMachine, entries: []entry{{key: k.Name, raw: raw}}}
			a, b := resolve([]reading{file}, r), resolve([]reading{entry}, r)
			if !a.Equal(b) || file.unreadable != "" {
				t.Fatalf("%s: %q is another policy in a file: %s", k.Name, raw, file.unreadable)
			}
		}
	})
}

// FuzzSettingsFile: a person's choice is put into the settings beside whatever stands
// there: nothing else changes, the choice is found again, and taken back it leaves the
// file as it was.
func FuzzSettingsFile(f *testing.F) {
	for _, text := range []string{"{}", `{"Language":"fr"}`, `{"Language":"fr","X":[1,{"a":null}],"language":"de"}`, "", `{"Language":"fr","Language":"de"}`, " {\n\t\"RecentsLabel\" : \"name\"}\n"} {
		f.Add([]byte(text), "Language", `"es"`)
	}
	f.Fuzz(func(t *testing.T, text []byte, name, value string) {
		before, why := parseFile(text)
		if why != "" || name == "" || !utf8.ValidString(name) || !json.Valid([]byte(value)) || repeatsAKey(json.RawMessage(value)) || !utf8.ValidString(value) {
			return
		}
		read := func(text []byte) map[string]string {
			entries, why := parseFile(text)
			if why != "" {
				t.Fatalf("%q cannot be read: %s", text, why)
			}
			all := map[string]string{}
			for _, e := range entries {
				var c bytes.Buffer
				if err := json.Compact(&c, e.raw); err != nil {
					t.Fatal(err)
				}
				all[e.key] = c.String()
			}
			return all
		}
		was := read(text)
		var plain bytes.Buffer
		if err := json.Compact(&plain, []byte(value)); err != nil {
			t.Fatal(err)
		}
		after, changed := chosen(before, name, json.RawMessage(value))
		if changed {
			want := maps.Clone(was)
			want[name] = plain.String()
			if got := read(after); !maps.Equal(got, want) {
				t.Fatalf("%q with %s is %q", text, name, after)
			}
		} else if was[name] != plain.String() {
			t.Fatalf("%q does not change", text)
		}
		again, _ := parseFile(after)
		if !changed {
			again = before
		}
		gone, removed := chosen(again, name, nil)
		if !removed {
			t.Fatalf("%s cannot be taken back from %q", name, after)
		}
		delete(was, name)
		if got := read(gone); !maps.Equal(got, was) {
			t.Fatalf("%q without %s is %q", text, name, gone)
		}
	})
}
