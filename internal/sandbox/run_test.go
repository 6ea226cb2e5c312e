package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary stands for the launcher in tests of what surrounds one: it
// notes every verb in a file, and "agent" lives until "quit". The launcher
// itself is played by make play.
const fakeNotes = "SANDBOX_TEST_LAUNCHER_NOTES"

func TestMain(m *testing.M) {
	if notes := os.Getenv(fakeNotes); notes != "" {
		os.Exit(fakeLauncher(notes, os.Args[1:]))
	}
	os.Exit(m.Run())
}

func fakeLauncher(notes string, args []string) int {
	f, err := os.OpenFile(notes, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 9
	}
	_, _ = f.WriteString(strings.Join(args, " ") + "\n")
	_ = f.Close()
	quit := notes + ".quit"
	alive := notes + ".alive"
	switch args[0] {
	case "agent":
		_ = os.Remove(quit)
		_ = os.WriteFile(alive, nil, 0o600)
		for range time.Tick(10 * time.Millisecond) {
			if _, err := os.Stat(quit); err == nil {
				_ = os.Remove(alive)
				return 0
			}
		}
	case "quit":
		_ = os.WriteFile(quit, nil, 0o600)
	case "status":
		agent := "absent"
		if _, err := os.Stat(alive); err == nil {
			agent = "running"
		}
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"agent": agent, "policy": map[string]any{"ok": true}, "launch": nil})
	case "unregister":
		if os.Getenv("SANDBOX_TEST_UNREGISTER_FAILS") != "" {
			return 1
		}
	}
	return 0
}

type fakeRun struct {
	*testing.T
	folder, notes string
	out           lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startFake gives the test a folder of its own and the fake launcher.
func startFake(t *testing.T) *fakeRun {
	t.Helper()
	dir := t.TempDir()
	f := &fakeRun{T: t, folder: filepath.Join(dir, "sandbox"), notes: filepath.Join(dir, "notes")}
	t.Setenv(fakeNotes, f.notes)
	// A program built with the race detector otherwise takes a second to exit.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	return f
}

func (f *fakeRun) verbs() []string {
	data, err := os.ReadFile(f.notes)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(strings.Fields(string(data)), func(verb string) bool { return verb == "status" || verb == "--json" })
}

func (f *fakeRun) dir() string { return f.folder }

func (f *fakeRun) left() []string {
	f.Helper()
	files, err := os.ReadDir(f.dir())
	if err != nil {
		f.Fatal(err)
	}
	var names []string
	for _, file := range files {
		names = append(names, file.Name())
	}
	return names
}

// whileUp runs a sandbox and calls do once it is up, then ends it.
func (f *fakeRun) whileUp(o Options, do func()) error {
	f.Helper()
	self, err := os.Executable()
	if err != nil {
		f.Fatal(err)
	}
	o.Launcher, o.NoBrowser, o.Out = self, true, &f.out
	o.AddressesFile = filepath.Join(f.TempDir(), "addresses.json")
	ctx, cancel := context.WithCancel(f.Context())
	ended := make(chan error, 1)
	go func() { ended <- runIn(ctx, o, places{f.folder}, testScheme, speaker(o.Out)) }()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			cancel()
			return err
		case <-ticker.C:
			if _, err := os.Stat(o.AddressesFile); err != nil {
				continue
			}
			do()
			cancel()
			return <-ended
		}
	}
}

func TestASandboxRegistersWhileItRunsAndRemovesEverythingAfter(t *testing.T) {
	f := startFake(t)
	var policy []byte
	err := f.whileUp(Options{}, func() {
		info, err := os.Stat(f.dir())
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the folder: %v %v", info, err)
		}
		file := filepath.Join(f.dir(), "policy.json")
		if info, err = os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the policy: %v %v", info, err)
		}
		policy, _ = os.ReadFile(file)
		if _, err := os.Stat(filepath.Join(f.dir(), "record.json")); err != nil {
			t.Error("nothing is on record")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := f.verbs(), []string{"quit", "register", "agent", "sign-out", "quit", "unregister"}; !slices.Equal(got, want) {
		t.Errorf("verbs %v, want %v", got, want)
	}
	if left := f.left(); !slices.Equal(left, []string{"agent-output.log"}) {
		t.Errorf("left behind: %v", left)
	}
	checkPolicy(t, policy)
}

// checkPolicy compares the demo policy with the keys and JSON types of the
// product: lists are arrays of strings.
func checkPolicy(t *testing.T, data []byte) {
	t.Helper()
	var policy map[string]any
	if err := json.Unmarshal(data, &policy); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"BackendURL", "OIDCIssuer", "OIDCAudience"} {
		if text, ok := policy[key].(string); !ok || !strings.HasPrefix(text, "http://127.0.0.1:") {
			t.Errorf("%s: %v", key, policy[key])
		}
	}
	for key, want := range map[string][]any{
		"OIDCScopes":        {"openid", "email", "profile", "offline_access"},
		"EncounterURLHosts": {"127.0.0.1"},
		"AllowedLinkForms":  {"handle", "request"},
	} {
		if got, ok := policy[key].([]any); !ok || !slices.Equal(got, want) {
			t.Errorf("%s: %v", key, policy[key])
		}
	}
	if policy["OIDCAudience"] == policy["OIDCClientID"] || policy["OrganizationName"] != organization || policy["Autostart"] != false || len(policy) != 9 {
		t.Errorf("policy: %v", policy)
	}
}

func TestTheNextStartRemovesWhatACrashLeft(t *testing.T) {
	f := startFake(t)
	if err := os.MkdirAll(f.dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		t.Fatal(err)
	}
	crashed := exec.Command(self, "agent")
	if err := crashed.Start(); err != nil {
		t.Fatal(err)
	}
	p := places{f.dir()}
	if err := writeJSON(p.record(), record{Program: self, AgentPID: crashed.Process.Pid}); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(p.policy(), newDemoPolicy("http://127.0.0.1:1", "http://127.0.0.1:2", "x")); err != nil {
		t.Fatal(err)
	}
	l := &launcher{program: self, places: p}
	cleaned, err := l.cleanUp(t.Context())
	if err != nil || !cleaned {
		t.Fatalf("%v %v", cleaned, err)
	}
	_ = crashed.Wait() // hangs, and the test with it, if the agent was left
	if left := f.left(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if got := f.verbs(); !slices.Contains(got, "unregister") {
		t.Errorf("verbs %v", got)
	}
	if cleaned, err := l.cleanUp(t.Context()); cleaned || err != nil {
		t.Errorf("a second time: %v %v", cleaned, err)
	}
}

func TestAProcessThatOnlyHasTheRecordedNumberIsLeftAlone(t *testing.T) {
	startFake(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command(self, "agent")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if endIfStill(other.Process.Pid, "/some/other/program") {
		t.Error("another program was ended")
	}
	if err := other.Process.Kill(); err != nil {
		t.Errorf("it is gone: %v", err)
	}
	if err := other.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("it ended before: %v", err)
	}
}

func TestTheRecordStaysWhileTheSchemeCouldNotBeRemoved(t *testing.T) {
	f := startFake(t)
	err := f.whileUp(Options{}, func() { t.Setenv("SANDBOX_TEST_UNREGISTER_FAILS", "1") })
	if err == nil {
		t.Error("the failure is not told")
	}
	if left := f.left(); !slices.Contains(left, "record.json") || slices.Contains(left, "policy.json") {
		t.Errorf("left behind: %v", left)
	}
	t.Setenv("SANDBOX_TEST_UNREGISTER_FAILS", "")
	if err := f.whileUp(Options{}, func() {}); err != nil || !strings.Contains(f.out.String(), "did not end as it should") {
		t.Errorf("next start: %v\n%s", err, f.out.String())
	}
	if left := f.left(); slices.Contains(left, "record.json") {
		t.Errorf("left behind: %v", left)
	}
}

func TestASecondSandboxIsRefusedAndTheFirstGoesOn(t *testing.T) {
	f := startFake(t)
	err := f.whileUp(Options{}, func() {
		before := f.verbs()
		if err := f.whileUp(Options{}, func() { t.Error("a second sandbox came up") }); !errors.Is(err, ErrTaken) {
			t.Errorf("the second: %v", err)
		}
		if got := f.verbs(); !slices.Equal(got, before) {
			t.Errorf("the second did %v to the launcher", got[len(before):])
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAComputerWithAMachinePolicyIsLeftAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := refuseGovernedMachine(file); err != nil {
		t.Errorf("without a policy: %v", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := refuseGovernedMachine(file); !errors.Is(err, ErrMachinePolicy) {
		t.Errorf("with a policy: %v", err)
	}
	// A policy that cannot be looked at may well be there.
	if err := refuseGovernedMachine(filepath.Join(file, "below-a-file")); !errors.Is(err, ErrMachinePolicy) {
		t.Errorf("not to be told: %v", err)
	}
}

func TestOptionsThatContradictEachOtherAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"issuer without client id":  {Issuer: "http://127.0.0.1:1", NoBrowser: true},
		"issuer that is no address": {Issuer: "issuer", ClientID: "x", NoBrowser: true},
		"play at another issuer":    {Issuer: "http://127.0.0.1:1", ClientID: "x", Play: true},
		"play without the launcher": {NoLauncher: true, Play: true},
	} {
		if err := Run(t.Context(), o); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithAnotherIssuerThePolicyNamesItAndNoneIsServed(t *testing.T) {
	f := startFake(t)
	err := f.whileUp(Options{Issuer: "http://127.0.0.1:65000", ClientID: "elsewhere"}, func() {
		data, _ := os.ReadFile(filepath.Join(f.dir(), "policy.json"))
		var p demoPolicy
		if err := json.Unmarshal(data, &p); err != nil || p.OIDCIssuer != "http://127.0.0.1:65000" || p.OIDCClientID != "elsewhere" {
			t.Errorf("%+v %v", p, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestWithoutTheLauncherNothingIsStartedOrRegistered(t *testing.T) {
	f := startFake(t)
	if err := f.whileUp(Options{NoLauncher: true}, func() {
		if _, err := os.Stat(filepath.Join(f.dir(), "policy.json")); err != nil {
			t.Error("no policy")
		}
	}); err != nil {
		t.Error(err)
	}
	if verbs := f.verbs(); len(verbs) != 0 {
		t.Errorf("verbs %v", verbs)
	}
	if left := f.left(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestThePlaysOwnEnvironmentReachesNothingOfThePersons(t *testing.T) {
	dir := t.TempDir()
	env, err := isolatedEnv([]string{"PATH=/usr/bin", "HOME=/home/ada", "DISPLAY=:0", "WAYLAND_DISPLAY=w", "BROWSER=b", "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/bus", "XDG_RUNTIME_DIR=/run/user/1", "LANG=C"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if _, twice := values[name]; twice {
			t.Errorf("%s twice", name)
		}
		values[name] = value
	}
	if values["PATH"] != "/usr/bin" || values["LANG"] != "C" {
		t.Error("what is needed is gone")
	}
	for name, value := range values {
		if (strings.HasPrefix(name, "XDG_") || name == "HOME") && !strings.HasPrefix(value, dir) {
			t.Errorf("%s=%s", name, value)
		}
		if slices.Contains(withheld, name) {
			t.Errorf("%s is passed on", name)
		}
	}
	if bus := values["DBUS_SESSION_BUS_ADDRESS"]; !strings.HasPrefix(bus, "unix:path="+dir) {
		t.Errorf("bus %q", bus)
	}
	if info, err := os.Stat(values["XDG_RUNTIME_DIR"]); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("runtime folder: %v %v", info, err)
	}
}

func TestOnlyWhoKnowsTheSecretCanMakeThePlayFollowAnAddress(t *testing.T) {
	w := startWorld(t)
	p, err := newPlayer(w.issuerURL, w.nablaURL)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "follow.json")
	if err := p.listen(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(file)
	var at followAt
	if err := json.Unmarshal(data, &at); err != nil {
		t.Fatal(err)
	}
	at.Secret = "another"
	wrong := filepath.Join(t.TempDir(), "wrong.json")
	if err := writeJSON(wrong, at); err != nil {
		t.Fatal(err)
	}
	if err := Follow(t.Context(), wrong, w.nablaURL+"/open/x"); err == nil {
		t.Error("a wrong secret is accepted")
	}
	if err := Follow(t.Context(), file, w.nablaURL+"/open/never-made"); err != nil {
		t.Error(err)
	}
	if err := await(t.Context(), "one page", func() (bool, string) {
		pages, _, odd := p.seen()
		return len(pages) == 1 && pages[0].status == 404 && odd == nil, "another"
	}); err != nil {
		t.Error(err)
	}
}
