package policy

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

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
