package transport

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// settings writes the person's Internet settings until the test ends.
func settings(t *testing.T, values map[string]any) {
	t.Helper()
	k, _, err := registry.CreateKey(registry.CURRENT_USER, optionsKey, registry.SET_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for _, name := range []string{"ProxyEnable", "ProxyServer", "ProxyOverride", "AutoConfigURL"} {
		switch v := values[name].(type) {
		case string:
			err = k.SetStringValue(name, v)
		case int:
			err = k.SetDWordValue(name, uint32(v))
		default:
			if err = k.DeleteValue(name); errors.Is(err, registry.ErrNotExist) {
				err = nil
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if values != nil {
		t.Cleanup(func() { settings(t, nil) })
	}
}

func lookedUp(t *testing.T, p policy.Snapshot, host string) Proxy {
	t.Helper()
	got, err := LookupProxy(t.Context(), p, host)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestTheProxyOfTheInternetSettingsIsReadAnewWithItsExceptions(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://environment.example:1")
	settings(t, map[string]any{"ProxyEnable": 1, "ProxyServer": "http=a.example:1;https=proxy.hospital.example:3128", "ProxyOverride": "*.local.example;<local>"})
	for host, want := range map[string]string{"backend.hospital.example": "http://proxy.hospital.example:3128", "x.local.example": "", "intranet": ""} {
		if got := lookedUp(t, policy.Snapshot{}, host); got.Address != want || got.Source != FromSettings || got.Failed != nil {
			t.Errorf("%s: %+v", host, got)
		}
	}
	settings(t, map[string]any{"ProxyEnable": 1, "ProxyServer": "other.hospital.example:8080"})
	if got := lookedUp(t, policy.Snapshot{}, "backend.hospital.example"); got.Address != "http://other.hospital.example:8080" {
		t.Errorf("after a change: %+v", got)
	}
	settings(t, map[string]any{"ProxyEnable": 0, "ProxyServer": "other.hospital.example:8080"})
	if got := lookedUp(t, policy.Snapshot{}, "backend.hospital.example"); got.Address != "" || got.Source != FromNobody {
		t.Errorf("switched off: %+v", got)
	}
}

func TestAScriptDecidesForEachHostAndADeadOneFallsBackToTheSettings(t *testing.T) {
	var paths atomic.Int32
	script := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths.Add(1)
		w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
		_, _ = io.WriteString(w, `function FindProxyForURL(url, host) {
	if (url.indexOf("canary") >= 0) return "PROXY leak.example:1";
	if (host == "direct.example") return "DIRECT";
	return "PROXY a.hospital.example:3128; PROXY b.hospital.example:3128";
}`)
	}))
	defer script.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String() + "/proxy.pac"
	_ = l.Close()
	for _, byPolicy := range []bool{true, false} {
		rules, source := policy.Snapshot{ProxyMode: "pac", ProxyPACURL: script.URL + "/proxy.pac"}, FromPolicyScript
		if !byPolicy {
			settings(t, map[string]any{"ProxyEnable": 1, "ProxyServer": "static.example:8080", "AutoConfigURL": script.URL + "/proxy.pac"})
			rules, source = policy.Snapshot{}, FromScript
		}
		if got := lookedUp(t, rules, "backend.hospital.example"); got.Address != "http://a.hospital.example:3128" || got.Source != source || got.Failed != nil {
			t.Errorf("by policy %v: %+v", byPolicy, got)
		}
		if got := lookedUp(t, rules, "direct.example"); got.Address != "" || got.Source != source || got.Failed != nil {
			t.Errorf("by policy %v: %+v", byPolicy, got)
		}
	}
	settings(t, map[string]any{"ProxyEnable": 1, "ProxyServer": "static.example:8080", "AutoConfigURL": dead})
	if got := lookedUp(t, policy.Snapshot{}, "backend.hospital.example"); got.Address != "http://static.example:8080" || len(got.Failed) != 1 || got.Failed[0].Source != FromScript {
		t.Errorf("a dead script: %+v", got)
	}
	if got := lookedUp(t, policy.Snapshot{ProxyMode: "pac", ProxyPACURL: dead}, "backend.hospital.example"); got.Address != "" || len(got.Failed) != 1 {
		t.Errorf("a dead script of policy: %+v", got)
	}
	if _, err := LookupProxy(t.Context(), policy.Snapshot{ProxyMode: "pac", ProxyPACURL: "file:///canary"}, "host"); !problem.IsCode(err, problem.PolicyInvalid) {
		t.Errorf("got %v", err)
	}
	if paths.Load() == 0 {
		t.Error("nobody fetched the script")
	}
}

func TestAChangeOfAddressesIsHeardOfOnceAndOnlyThen(t *testing.T) {
	w := watchAddresses()
	if w.event == 0 {
		t.Fatal("Windows does not take the request")
	}
	if w.signalled() {
		t.Error("nothing has changed")
	}
	// What Windows calls: a prolonged address of IPv6, one that came, one that went.
	for kind, want := range []bool{windows.MibParameterNotification: false, windows.MibAddInstance: true, windows.MibDeleteInstance: true} {
		_, _, _ = syscall.SyscallN(addressChanged(), uintptr(w.event), 0, uintptr(kind))
		if got := w.signalled(); got != want {
			t.Errorf("notification %d: changed %v", kind, got)
		}
		if w.signalled() {
			t.Errorf("notification %d is told twice", kind)
		}
	}
	w.end()
	w.end()
	if w.signalled() || w.event != 0 {
		t.Error("the watch was not given back")
	}
}

func TestTheWatchOverTheNetworkBeginsWithTheFirstQuestion(t *testing.T) {
	changed, unwatch := watchNetwork()
	unwatch() // before there is one
	for range 3 {
		if changed() {
			t.Error("nothing has changed")
		}
	}
	unwatch()
	if changed() {
		t.Error("nothing has changed since")
	}
}
