// The policy of these tests is a file, which Windows has none of.

//go:build unix

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/tokenstore"
)

// proxyRun runs a verb with a policy, a keyring and what is typed.
func proxyRun(t *testing.T, root string, k tokenstore.Keyring, typed string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := cli.Program{Layout: paths.Under(root, ""), Version: "1", Stdout: &out, Stderr: &errs, Stdin: strings.NewReader(typed), Keyring: k}
	status = cli.Run(context.Background(), p, append([]string{"proxy-credential"}, args...))
	return status, out.String(), errs.String()
}

func writePolicy(t *testing.T, root, text string) {
	t.Helper()
	file := paths.Under(root, "").MachinePolicyFile()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAProxysCredentialIsReadFromAPipeStoredAndForgotten(t *testing.T) {
	root, k := t.TempDir(), tokenstore.Memory()
	writePolicy(t, root, `{"BackendURL":"https://backend.hospital.example","ProxyMode":"manual","ProxyURL":"http://proxy.hospital.example:3128"}`)
	if status, out, errs := proxyRun(t, root, k, "", "status"); status != cli.Negative || !strings.Contains(out, "nothing is stored for proxy.hospital.example") {
		t.Errorf("%d %q %q", status, out, errs)
	}
	if status, out, errs := proxyRun(t, root, k, "ada\r\ncanary word\r\n", "set"); status != cli.Done || strings.Contains(out+errs, "canary") {
		t.Errorf("%d %q %q", status, out, errs)
	}
	status, out, _ := proxyRun(t, root, k, "", "status", "--json")
	var answer struct {
		Proxy, Set string
		Stored     bool
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || status != cli.Done || !answer.Stored || answer.Proxy != "proxy.hospital.example" || answer.Set == "" || strings.Contains(out, "ada") {
		t.Errorf("%d %s %v", status, out, err)
	}
	store := tokenstore.New(k, paths.Under(root, "").KeyringService(), filepath.Join(root, "lock"), 0)
	if c, found, err := store.ProxyCredential(t.Context(), "proxy.hospital.example"); err != nil || !found || c.User.Reveal() != "ada" || c.Password.Reveal() != "canary word" {
		t.Errorf("stored %v %v", found, err)
	}
	if status, _, errs := proxyRun(t, root, k, "", "forget"); status != cli.Done {
		t.Errorf("%d %q", status, errs)
	}
	if status, _, _ := proxyRun(t, root, k, "", "status"); status != cli.Negative {
		t.Errorf("%d after forgetting", status)
	}
}

func TestAProxysCredentialIsNeverAnArgumentAndBadInputStoresNothing(t *testing.T) {
	root, k := t.TempDir(), tokenstore.Memory()
	for _, c := range []struct {
		typed string
		args  []string
	}{
		{"ada\nx\n", []string{"set", "canary", "--proxy", "proxy"}},
		{"ada\nx\n", []string{"set", "--password", "canary", "--proxy", "proxy"}},
		{"", []string{"set", "--proxy", "proxy"}},
		{"ada\n", []string{"set", "--proxy", "proxy"}},
		{"a:canary\nx\n", []string{"set", "--proxy", "proxy"}},
		{"\nx\n", []string{"set", "--proxy", "proxy"}},
		{"ada\n" + strings.Repeat("canary", 1000) + "\n", []string{"set", "--proxy", "proxy"}},
		{"ada\ncanary\n", []string{"set", "--proxy", "http://proxy/"}},
		{"ada\ncanary\n", []string{"set", "--proxy", "proxy:3128"}},
		{"ada\ncanary\n", []string{"set"}}, // no policy names a backend
	} {
		status, out, errs := proxyRun(t, root, k, c.typed, c.args...)
		if status != cli.Refused || out != "" || strings.Contains(errs, "canary") {
			t.Errorf("%q: %d %q %q", c.args, status, out, errs)
		}
	}
	if status, _, _ := proxyRun(t, root, k, "", "status", "--proxy", "proxy"); status != cli.Negative {
		t.Errorf("something was stored: %d", status)
	}
}

func TestAPortInTheProxysNameIsRefusedBeforeThePasswordIsAskedFor(t *testing.T) {
	for _, verb := range []string{"set", "forget", "status"} {
		status, _, errs := proxyRun(t, t.TempDir(), tokenstore.Memory(), "", verb, "--proxy", "proxy.hospital.example:3128")
		if status != cli.Refused || !strings.Contains(errs, "request_invalid") || !strings.Contains(errs, "without a port") {
			t.Errorf("%s: %d %q", verb, status, errs)
		}
	}
}

func TestWhereSeveralPeopleShareAnAccountNobodysCredentialIsStoredAndAnOldOneCanBeRemoved(t *testing.T) {
	root, k := t.TempDir(), tokenstore.Memory()
	if status, _, errs := proxyRun(t, root, k, "ada\nx\n", "set", "--proxy", "proxy"); status != cli.Done {
		t.Fatalf("%d %q", status, errs)
	}
	writePolicy(t, root, `{"SharedWorkstation":true}`)
	if status, out, errs := proxyRun(t, root, k, "grace\ncanary\n", "set", "--proxy", "other"); status != cli.Refused || out != "" || !strings.Contains(errs, "SharedWorkstation") || strings.Contains(errs, "canary") {
		t.Errorf("%d %q %q", status, out, errs)
	}
	if status, _, _ := proxyRun(t, root, k, "", "status", "--proxy", "other"); status != cli.Negative {
		t.Errorf("it was stored: %d", status)
	}
	if status, _, errs := proxyRun(t, root, k, "", "forget", "--proxy", "proxy"); status != cli.Done {
		t.Errorf("%d %q", status, errs)
	}
	if status, _, _ := proxyRun(t, root, k, "", "status", "--proxy", "proxy"); status != cli.Negative {
		t.Errorf("%d after forgetting", status)
	}
}

func TestWithoutAProxyTheVerbSaysSo(t *testing.T) {
	root := t.TempDir()
	writePolicy(t, root, `{"BackendURL":"https://backend.hospital.example","ProxyMode":"direct"}`)
	status, _, errs := proxyRun(t, root, tokenstore.Memory(), "", "set")
	if status != cli.Refused || !strings.Contains(errs, "--proxy") {
		t.Errorf("%d %q", status, errs)
	}
}

func TestAProxyScriptIsRefusedHereWithASentenceThatSaysWhatToUse(t *testing.T) {
	root := t.TempDir()
	writePolicy(t, root, `{"BackendURL":"https://backend.hospital.example","ProxyMode":"pac","ProxyPACURL":"http://wpad.hospital.example/proxy.pac"}`)
	status, out, _ := run(t, root, "policy")
	if status != cli.Negative || !strings.Contains(out, "use system, manual or direct") || !strings.Contains(out, "policy_invalid") {
		t.Errorf("%d %s", status, out)
	}
	if status, _, errs := proxyRun(t, root, tokenstore.Memory(), "ada\nx\n", "set"); status != cli.Refused || !strings.Contains(errs, "--proxy") {
		t.Errorf("%d %s", status, errs)
	}
}

// closed is a keyring that the person has not unlocked.
type closed struct{}

func (closed) Get(string, string) (string, error) { return "", tokenstore.ErrLocked }
func (closed) Set(string, string, string) error   { return tokenstore.ErrLocked }
func (closed) Delete(string, string) error        { return tokenstore.ErrLocked }

// broken is an input that ends with an error.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("canary") }

var _ io.Reader = broken{}

func TestALockedKeyringAndABrokenInputAreToldByTheVerb(t *testing.T) {
	for _, verb := range []string{"set", "forget", "status"} {
		status, _, errs := proxyRun(t, t.TempDir(), closed{}, "ada\nx\n", verb, "--proxy", "proxy")
		if status != cli.Refused || !strings.Contains(errs, "keyring_locked") {
			t.Errorf("%s: %d %q", verb, status, errs)
		}
	}
	var errs bytes.Buffer
	p := cli.Program{Layout: paths.Under(t.TempDir(), ""), Stdout: io.Discard, Stderr: &errs, Stdin: broken{}, Keyring: tokenstore.Memory()}
	if status := cli.Run(t.Context(), p, []string{"proxy-credential", "set", "--proxy", "proxy"}); status != cli.Refused || strings.Contains(errs.String(), "canary") {
		t.Errorf("%d %q", status, errs.String())
	}
}
