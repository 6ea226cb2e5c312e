package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The programs that the tests run, each built once.
const (
	released = "1.0.0"
	upgraded = "2.0.0"
	demo     = "1.0.0-demo"
	// windowOnly has the window's role alone, as the window's program on Linux. It
	// is built with the tag of Wails' generator, which needs no C.
	windowOnly = "1.0.0-window"
)

// deadline bounds whatever a test waits for; what is in order takes a fraction.
const deadline = 60 * time.Second

var builds struct {
	dir string
	of  map[string]func() (string, error)
}

func TestMain(m *testing.M) {
	if role := os.Getenv("ENCOUNTER_TEST_ROLE"); role != "" {
		os.Exit(stranger())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "programs")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		builds.dir = dir
		builds.of = map[string]func() (string, error){
			released:   sync.OnceValues(func() (string, error) { return build(released, "", "") }),
			upgraded:   sync.OnceValues(func() (string, error) { return build(upgraded, "", "") }),
			demo:       sync.OnceValues(func() (string, error) { return build(demo, "demo", "") }),
			windowOnly: sync.OnceValues(func() (string, error) { return build(windowOnly, "", "bindings") }),
		}
		return m.Run()
	}())
}

// build makes the real program. Its machine folders lie below the tests' folder,
// so that the policy of this machine does not matter.
func build(version, flavour, tags string) (string, error) {
	path := filepath.Join(builds.dir, version, "encounter-launcher")
	cmd := exec.Command("go", "build", "-o", path, "-tags", tags, "-ldflags", "-s -w -X main.version="+version+
		" -X encounterlauncher/internal/ground.flavour="+flavour+
		" -X encounterlauncher/internal/paths.machineRoot="+machineRoot(), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return path, nil
}

func machineRoot() string { return filepath.Join(builds.dir, "machine") }

func program(t *testing.T, version string) string {
	t.Helper()
	path, err := builds.of[version]()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// home is one user's world: folders of its own, no display, no session bus.
type home struct {
	t   *testing.T
	dir string
	env []string
	// name of the program's folders.
	name string
}

func newHome(t *testing.T, name string) *home {
	t.Helper()
	dir, err := os.MkdirTemp("", "home")
	if err != nil {
		t.Fatal(err)
	}
	h := &home{t: t, dir: dir, name: name, env: []string{
		"HOME=" + dir, "PATH=" + filepath.Join(dir, "bin") + ":/usr/bin:/bin", "XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"DBUS_SESSION_BUS_ADDRESS=unix:path=" + filepath.Join(dir, "no-bus"), "LANG=C.UTF-8",
	}}
	for _, d := range []string{"run", "bin"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, pid := range h.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		h.until("every process of the test has ended", func() bool { return len(h.processes()) == 0 })
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *home) runtimeDir() string { return filepath.Join(h.dir, "run", h.name) }
func (h *home) socket() string     { return filepath.Join(h.runtimeDir(), "control.sock") }
func (h *home) stateDir() string   { return filepath.Join(h.dir, ".local", "state", h.name) }

// processes returns the processes that live in this home: nothing else has its
// HOME.
func (h *home) processes() []int {
	h.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		h.t.Fatal(err)
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && slices.Contains(strings.Split(string(environ), "\x00"), "HOME="+h.dir) {
			found = append(found, pid)
		}
	}
	return found
}

// agent waits until one process is left in this home and returns it.
func (h *home) agent() int {
	h.t.Helper()
	var found []int
	h.until("there is exactly one agent", func() bool {
		found = h.processes()
		return len(found) == 1
	})
	return found[0]
}

func (h *home) until(what string, true func() bool) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(deadline)
	for !true() {
		select {
		case <-late:
			h.t.Fatalf("waited in vain until %s\n%s", what, h.log())
		case <-tick.C:
		}
	}
}

func (h *home) log() string {
	text, _ := os.ReadFile(filepath.Join(h.stateDir(), "agent.log"))
	return string(text)
}

type result struct {
	code           int
	stdout, stderr string
}

func (h *home) command(path string, args ...string) *exec.Cmd {
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Dir = slices.Clone(h.env), h.dir
	return cmd
}

func (h *home) run(path string, args ...string) result {
	h.t.Helper()
	return h.finish(h.command(path, args...))
}

func (h *home) finish(cmd *exec.Cmd) result {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// expect fails the test when the exit status is another, or when the words are not
// in the one line of stderr.
func (h *home) expect(r result, code int, words ...string) {
	h.t.Helper()
	if r.code != code {
		h.t.Fatalf("exit status %d, want %d\nstdout: %sstderr: %s%s", r.code, code, r.stdout, r.stderr, h.log())
	}
	if code != 0 && (strings.Count(r.stderr, "\n") != 1 || !strings.HasSuffix(r.stderr, "\n")) {
		h.t.Errorf("stderr is not one line: %q", r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			h.t.Errorf("stderr does not say %q: %q", w, r.stderr)
		}
	}
}

// answer is what the tests read of status --json.
type answer struct {
	Version  string `json:"version"`
	Agent    string `json:"agent"`
	SignedIn bool   `json:"signed_in"`
	Policy   struct {
		OK       bool     `json:"ok"`
		Problems []string `json:"problems"`
	} `json:"policy"`
	Launch *struct {
		ID    string `json:"id"`
		Stage string `json:"stage"`
		Code  string `json:"code"`
	} `json:"launch"`
}

func (h *home) status(path string) answer {
	h.t.Helper()
	r := h.run(path, "status", "--json")
	var a answer
	if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
		h.t.Fatalf("status --json is not JSON: %v\n%s%s", err, r.stdout, r.stderr)
	}
	return a
}

// files returns every file below the home, with its path from there.
func (h *home) files() []string {
	h.t.Helper()
	var found []string
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, strings.TrimPrefix(path, h.dir+"/"))
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return found
}

// audit returns every line of the audit of this home.
func (h *home) audit() string {
	h.t.Helper()
	var all strings.Builder
	for _, f := range h.files() {
		if strings.HasSuffix(f, ".jsonl") {
			text, err := os.ReadFile(filepath.Join(h.dir, f))
			if err != nil {
				h.t.Fatal(err)
			}
			all.Write(text)
		}
	}
	return all.String()
}

// policy writes the policy of the demo flavour.
func (h *home) policy(values map[string]any) {
	h.t.Helper()
	dir := filepath.Join(h.stateDir(), "sandbox")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	text, err := json.Marshal(values)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.json"), text, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// silentIssuer is a sign-in service that takes connections and never answers: a
// launch that needs somebody to sign in stays in flight for as long as it is
// waited for.
func silentIssuer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
	}()
	t.Cleanup(func() { cancel(); _ = l.Close() })
	return "http://" + l.Addr().String()
}

func demoPolicy(t *testing.T) map[string]any {
	silent := silentIssuer(t)
	return map[string]any{
		"BackendURL": silent + "/launcher", "OIDCIssuer": silent, "OIDCClientID": "launcher", "OIDCAudience": silent + "/launcher",
		"OIDCScopes": []string{"openid"}, "EncounterURLHosts": []string{"127.0.0.1"},
	}
}
