//go:build unix

package transport

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// The environment's proxy is read once per process by the standard library, so
// the client runs in a process of its own.
func TestTheSystemsProxyIsUsedByDefault(t *testing.T) {
	if os.Getenv("TRANSPORT_TEST_CHILD") != "" {
		got, err := get(t, client(t, policy.Snapshot{ExtraCAFile: os.Getenv("TRANSPORT_TEST_CA")}), name)
		fmt.Printf("child got %q %q\n", got, problem.CodeOf(err))
		if err != nil {
			wantNoAddress(t, err)
		}
		return
	}
	s := server(t, greeting)
	p, tunnels := connectProxy(t, s.Listener.Addr().String(), "")
	for _, c := range []struct{ proxy, want string }{
		{p.URL, `child got "hello" ""`},
		{"http://user:canary@%zz", `child got "" "org_unreachable"`},
	} {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), "TRANSPORT_TEST_CHILD=1", "TRANSPORT_TEST_CA="+caFile(t, s), "HTTPS_PROXY="+c.proxy, "https_proxy="+c.proxy, "NO_PROXY=", "no_proxy=")
		out, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if tunnels.Load() != 1 {
		t.Error("the proxy of the environment should have been used once")
	}
}

func TestAProxyScriptMakesNoClientHere(t *testing.T) {
	c, err := NewClient(policy.Snapshot{ProxyMode: "pac", ProxyPACURL: "https://example.com/canary.pac"}, nil)
	wantCode(t, err, problem.PolicyInvalid)
	wantNoAddress(t, err)
	if c != nil {
		t.Error("there should be no client")
	}
}

func TestTheEnvironmentsProxyIsNamedWithoutItsPassword(t *testing.T) {
	if os.Getenv("TRANSPORT_TEST_CHILD") != "" {
		got, err := LookupProxy(t.Context(), policy.Snapshot{}, "backend.hospital.example")
		fmt.Printf("child got %q %q %d %v\n", got.Address, got.Source, len(got.Failed), err)
		return
	}
	for proxy, want := range map[string]string{
		"http://ada:canary@proxy.hospital.example:3128": `child got "http://proxy.hospital.example:3128" "environment" 0 <nil>`,
		"http://ada:canary@%zz":                         `child got "" "nothing set" 1 <nil>`,
		"":                                              `child got "" "nothing set" 0 <nil>`,
	} {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		child.Env = append(os.Environ(), "TRANSPORT_TEST_CHILD=1", "HTTPS_PROXY="+proxy, "https_proxy="+proxy, "NO_PROXY=", "no_proxy=")
		out, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "canary") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
