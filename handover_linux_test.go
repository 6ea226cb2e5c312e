package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/launch"
)

const (
	handle   = "Zk3vQ9x1T7mB2nR5wY8uLg"
	link     = "encounter-launcher://launch?handle=" + handle
	demoLink = "encounter-launcher-demo://launch?handle=" + handle
)

type vector struct {
	Name   string   `json:"name"`
	Argv   []string `json:"argv"`
	Link   *string  `json:"link"`
	Expect string   `json:"expect"`
}

// hostileArguments are the vectors of argv.jsonl, and every link of links.jsonl
// that the parser refuses as the only argument.
func hostileArguments(t *testing.T) map[string][]string {
	t.Helper()
	hostile := map[string][]string{
		"verb and a link":            {"status", link},
		"link and a verb":            {link, "agent"},
		"flag glued to a link":       {"--url=" + link},
		"link and an empty argument": {link, ""},
		"help and a link":            {"--help", link},
		"agent and a flag":           {"agent", "--flavour=demo"},
		"path":                       {"/etc/passwd"},
		"verb in another case":       {"AGENT"},
		"demo link in a release":     {demoLink},
	}
	for _, file := range []string{"internal/intake/testdata/argv.jsonl", "internal/launch/testdata/links.jsonl"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var v vector
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatal(err)
			}
			if v.Expect != "refuse" {
				continue
			}
			args := v.Argv
			if v.Link != nil {
				if _, err := launch.Parse("encounter-launcher", *v.Link); err == nil {
					continue // well formed: policy refuses it, see the test of it
				}
				args = []string{*v.Link}
			}
			hostile[filepath.Base(file)+" "+v.Name] = args
		}
	}
	if len(hostile) < 45 {
		t.Fatalf("only %d vectors", len(hostile))
	}
	return hostile
}

func TestEveryHostileArgumentVectorIsRefusedAndStartsNothing(t *testing.T) {
	t.Parallel()
	path := program(t, released)
	for name, args := range hostileArguments(t) {
		t.Run(name, func(t *testing.T) {
			h := newHome(t, "encounter-launcher")
			r := h.run(path, args...)
			h.expect(r, 2)
			if r.stdout != "" {
				t.Errorf("stdout: %q", r.stdout)
			}
			saysNothingOf(t, args, r.stderr)
			for _, f := range h.files() {
				saysNothingOf(t, args, string(mustRead(t, filepath.Join(h.dir, f))))
			}
			if pids := h.processes(); len(pids) != 0 {
				t.Errorf("%d processes were started", len(pids))
			}
			for _, f := range h.files() {
				if !strings.HasPrefix(f, ".local/state/encounter-launcher/audit/") {
					t.Errorf("it left %s", f)
				}
			}
			// An argument that a known verb does not take is a typing mistake.
			if name == "agent and a flag" {
				return
			}
			if n := strings.Count(h.audit(), "\n"); n != 1 {
				t.Fatalf("%d lines in the audit, want 1", n)
			}
			var line struct{ Code, Reference string }
			if err := json.NewDecoder(strings.NewReader(h.audit())).Decode(&line); err != nil {
				t.Fatal(err)
			}
			h.expect(r, 2, line.Code, "reference "+line.Reference)
		})
	}
}

// saysNothingOf fails when a text quotes an argument, or the handle in it.
func saysNothingOf(t *testing.T, args []string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, arg := range append([]string{handle, "evil", "John", "://"}, args...) {
			if len(arg) > 2 && !cli.IsVerb(arg) && strings.Contains(text, arg) {
				t.Errorf("%q is in %q", arg, text)
			}
		}
	}
}

func TestARunningAgentHearsOfWhatAHandlerRefused(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	h.expect(h.run(path, link), 2, "policy_missing")
	pid := h.agent()
	args := []string{link, "--gpu-launcher=cmd"}
	r := h.run(path, args...)
	h.expect(r, 2, "link_invalid")
	_, reference, _ := strings.Cut(strings.TrimSuffix(r.stderr, ")\n"), "reference ")
	h.until("the audit has the reference", func() bool { return strings.Contains(h.audit(), reference) })
	saysNothingOf(t, args, r.stderr, h.audit(), h.log())
	if h.agent() != pid {
		t.Error("another agent runs")
	}
}

func TestAPolicyThatForbidsTheFormRefusesTheLinkAndLaunchesNothing(t *testing.T) {
	t.Parallel()
	path, h := program(t, demo), newHome(t, "encounter-launcher-demo")
	h.policy(demoPolicy(t))
	r := h.run(path, "encounter-launcher-demo://launch?external_encounter_id=E-1&external_patient_id=P-1&external_provider_id=D-1")
	h.expect(r, 2, "link_form_not_allowed")
	if s := h.status(path); s.Launch == nil || s.Launch.Stage != "failed" || s.Launch.Code != "link_form_not_allowed" {
		t.Errorf("status %+v", s.Launch)
	}
	saysNothingOf(t, []string{"E-1", "P-1", "D-1"}, r.stderr, h.audit(), h.log())
}

func TestALinkWithoutAnAgentStartsOneThatStandsAlone(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	open, err := os.Create(filepath.Join(h.dir, "left-open"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	cmd := h.command(path, link)
	cmd.Env = append(cmd.Env, "XDG_ACTIVATION_TOKEN=token-1", "DESKTOP_STARTUP_ID=startup-1")
	cmd.ExtraFiles = []*os.File{open}
	r := h.finish(cmd)
	h.expect(r, 2, "policy_missing")
	saysNothingOf(t, nil, r.stderr, h.audit(), h.log())

	pid := h.agent()
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("the agent is in session %d, not its own %d (%v)", sid, pid, err)
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if cwd, err := os.Readlink(filepath.Join(proc, "cwd")); err != nil || cwd != "/" {
		t.Errorf("the agent works in %q (%v)", cwd, err)
	}
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if n, _ := strconv.Atoi(fd.Name()); n <= 2 && to != "/dev/null" {
			t.Errorf("descriptor %d of the agent is %s", n, to)
		}
		if strings.Contains(to, "left-open") || strings.HasPrefix(to, "pipe:") {
			t.Errorf("the agent inherited %s", to)
		}
	}
	environ, err := os.ReadFile(filepath.Join(proc, "environ"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"XDG_ACTIVATION_TOKEN", "DESKTOP_STARTUP_ID"} {
		if strings.Contains(string(environ), name) {
			t.Errorf("the agent keeps %s", name)
		}
	}
	s := h.status(path)
	if s.Agent != "running" || s.Policy.OK || len(s.Policy.Problems) == 0 || s.Launch == nil || s.Launch.Code != "policy_missing" {
		t.Errorf("status %+v, launch %+v", s, s.Launch)
	}
	if info, err := os.Stat(h.socket()); err != nil || info.Mode() != fs0600Socket {
		t.Errorf("the socket: %v %v", info, err)
	}
}

const fs0600Socket = os.ModeSocket | 0o600

func TestTenLinksAtOnceStartOneAgentAndAllAreTaken(t *testing.T) {
	t.Parallel()
	path, h := program(t, demo), newHome(t, "encounter-launcher-demo")
	h.policy(demoPolicy(t))
	var all sync.WaitGroup
	results := make([]result, 10)
	for i := range results {
		all.Go(func() { results[i] = h.run(path, demoLink) })
	}
	all.Wait()
	for _, r := range results {
		h.expect(r, 0)
		if r.stdout+r.stderr != "" {
			t.Errorf("a handler that did its work says %q", r.stdout+r.stderr)
		}
	}
	h.agent()
	h.until("the launch waits for a sign-in", func() bool {
		s := h.status(path)
		return s.Launch != nil && s.Launch.Stage == "signing_in"
	})
}

func TestAnAgentThatCannotStartIsTold(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	if err := os.MkdirAll(filepath.Dir(h.stateDir()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.stateDir(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := h.run(path, link)
	h.expect(r, 3, "agent_unreachable", "It ended at once.")
	saysNothingOf(t, nil, r.stderr)
	h.until("no process is left", func() bool { return len(h.processes()) == 0 })
}

// imposter takes the agent's lock and name in a home, and calls serve for each
// connection.
func imposter(t *testing.T, h *home, serve func(n int, conn net.Conn)) {
	t.Helper()
	l := holdRole(t, h)
	if err := unix.Listen(l, 16); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(l), "socket")
	defer f.Close()
	listener, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(n, conn)
		}
	}()
}

// holdRole takes the lock and binds the name, and returns the socket.
func holdRole(t *testing.T, h *home) int {
	t.Helper()
	if err := os.Mkdir(h.runtimeDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(h.runtimeDir(), "agent.lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: h.socket()}); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestAnAgentThatNeverAcknowledgesIsGivenUp(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	imposter(t, h, func(_ int, conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	r := h.run(path, link)
	h.expect(r, 3, "agent_unreachable")
	saysNothingOf(t, nil, r.stderr, h.audit())
	_, reference, _ := strings.Cut(strings.TrimSuffix(r.stderr, ")\n"), "reference ")
	if a := h.audit(); strings.Count(a, "\n") != 1 || !strings.Contains(a, `"failed"`) || !strings.Contains(a, reference) {
		t.Errorf("the audit: %q, the reference: %q", a, reference)
	}
	if len(h.processes()) != 0 {
		t.Error("something was started")
	}
}

func TestALinkThatAnEndingAgentDidNotTakeGoesToTheNext(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	var mu sync.Mutex
	var links []string
	imposter(t, h, func(n int, conn net.Conn) {
		defer conn.Close()
		if n == 0 {
			return // gone between the dial and the link
		}
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			t.Error(err)
			return
		}
		var body struct{ Link string }
		if err := json.NewDecoder(request.Body).Decode(&body); err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		links = append(links, body.Link)
		mu.Unlock()
		ack := `{"accepted":true,"id":"1"}`
		if n == 1 {
			ack = `{"accepted":false,"code":"agent_unreachable","sentence":"It ends."}`
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(ack), ack)
	})
	h.expect(h.run(path, link), 0)
	mu.Lock()
	defer mu.Unlock()
	if len(links) != 2 || links[0] != link || links[1] != link {
		t.Errorf("the agents were handed %q", links)
	}
}

// What is initialised before the link has gone is what a click waits for.
func TestALinkThatARunningAgentTakesWaitsForNothingElseOfTheProgram(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	imposter(t, h, func(_ int, conn net.Conn) {
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Error(err)
			return
		}
		const ack = `{"accepted":true,"id":"1","code":"","sentence":"","next_step":"","reference":""}`
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(ack), ack)
	})
	h.env = append(h.env, "GODEBUG=inittrace=1")
	r := h.run(path, link)
	h.expect(r, 0)
	if !strings.Contains(r.stderr, "init os @") {
		t.Fatalf("it does not tell what it initialises: %q", r.stderr)
	}
	for line := range strings.Lines(r.stderr) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "init "), " ")
		if name == "net" || strings.HasPrefix(name, "net/") || strings.Contains(name, ".") || strings.HasPrefix(name, "crypto/x509") {
			t.Errorf("%s was initialised before the link had gone", name)
		}
	}
	// Everything else has it all, or this test proves nothing.
	if r := h.run(path, "version"); !strings.Contains(r.stderr, "init net/http @") {
		t.Error("net/http is never initialised")
	}
}

// An agent that ends holds its role until it has ended, and does not listen any more.
func TestALinkThatComesWhileAnAgentEndsStartsTheNextOne(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	if err := os.Mkdir(h.runtimeDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	role, err := os.Create(filepath.Join(h.runtimeDir(), "agent.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer role.Close()
	if err := unix.Flock(int(role.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	handed := make(chan result, 1)
	handler := h.command(path, link)
	go func() { handed <- h.finish(handler) }()
	h.until("the handler has started an agent, which has found the role taken", func() bool {
		_, err := os.Stat(filepath.Join(h.stateDir(), "agent.log"))
		return err == nil && len(h.processes()) == 1
	})
	if err := role.Close(); err != nil {
		t.Fatal(err)
	}
	h.expect(<-handed, 2, "policy_missing")
	h.agent()
}

// stranger is the test program in the role of somebody else's process: it listens
// on the socket that it inherited and prints how many bytes came.
func stranger() int {
	if err := unix.Listen(3, 4); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("listening")
	conn, _, err := unix.Accept(3)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	n, err := io.Copy(io.Discard, os.NewFile(uintptr(conn), "connection"))
	fmt.Println(n, err)
	return 0
}

func TestNothingIsSentToSomebodyElsesProcess(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can act as another user")
	}
	path, h := program(t, released), newHome(t, "encounter-launcher")
	fd := holdRole(t, h)
	socket := os.NewFile(uintptr(fd), "socket")
	defer socket.Close()
	// A copy that another user may run.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "other")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "other")
	h.replace(copied, mustRead(t, self))
	other := exec.Command(copied)
	other.Dir = "/"
	other.Env = []string{"ENCOUNTER_TEST_ROLE=stranger"}
	other.ExtraFiles = []*os.File{socket}
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill() }()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "listening" {
		t.Fatalf("the other user's process says %q", lines.Text())
	}
	r := h.run(path, link)
	h.expect(r, 3, "agent_unreachable")
	if !lines.Scan() || lines.Text() != "0 <nil>" {
		t.Errorf("it was sent bytes: %q", lines.Text())
	}
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
	if len(h.processes()) != 0 {
		t.Error("something was started")
	}
}

func TestTheWindowsProgramTakesNoArguments(t *testing.T) {
	t.Parallel()
	path, h := program(t, windowOnly), newHome(t, "encounter-launcher")
	for _, args := range [][]string{{link}, {"agent"}, {"--devtools"}} {
		r := h.run(path, args...)
		h.expect(r, 2, "request_invalid")
		saysNothingOf(t, args, r.stderr, h.audit())
	}
	if len(h.processes()) != 0 {
		t.Error("something was started")
	}
}

func TestTheEnvironmentMovesNeitherPolicyNorFlavour(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	evil := filepath.Join(h.dir, "evil")
	for _, dir := range []string{
		"encounter-launcher", "etc/encounter-launcher", "usr/share/encounter-launcher", "encounter-launcher/sandbox", "encounter-launcher-demo/sandbox",
	} {
		dir = filepath.Join(evil, dir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"policy.json", "defaults.json", "settings.json"} {
			text := `{"BackendURL":"https://evil.example","OIDCIssuer":"https://evil.example","OIDCClientID":"x","EncounterURLHosts":["evil.example"]}`
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{
		"XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_DIRS",
		"MACHINE_ROOT", "machineRoot", "ENCOUNTER_LAUNCHER_ROOT", "ENCOUNTER_LAUNCHER_POLICY", "PROGRAMDATA", "ALLUSERSPROFILE",
	} {
		h.env = append(h.env, name+"="+evil)
	}
	h.env = append(h.env, "FLAVOUR=demo", "flavour=demo", "ENCOUNTER_LAUNCHER_FLAVOUR=demo", "ENCOUNTER_LAUNCHER_DEMO=1", "DISPLAY=", "GODEBUG=netdns=go")

	if r := h.run(path, "version", "--json"); !strings.Contains(r.stdout, `"scheme": "encounter-launcher"`) {
		t.Errorf("version says %s", r.stdout)
	}
	if r := h.run(path, "policy", "--json"); r.code != 1 || !strings.Contains(r.stdout, `"policy_missing"`) || strings.Contains(r.stdout, "evil.example") {
		t.Errorf("policy says %s", r.stdout)
	}
	h.expect(h.run(path, demoLink), 2, "link_invalid")
	h.expect(h.run(path, link), 2, "policy_missing")
	if s := h.status(path); s.Policy.OK || s.Launch == nil || s.Launch.Code != "policy_missing" {
		t.Errorf("status %+v", s)
	}
}

func TestAnOpenRuntimeFolderIsNotUsed(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	if err := os.Chmod(filepath.Join(h.dir, "run"), 0o777); err != nil {
		t.Fatal(err)
	}
	h.expect(h.run(path, link), 2, "policy_missing")
	if entries, err := os.ReadDir(filepath.Join(h.dir, "run")); err != nil || len(entries) != 0 {
		t.Errorf("it uses a folder that is open to others: %v %v", entries, err)
	}
	h.expect(h.run(path, "quit"), 0)
}

func TestADeadAgentIsReplacedByTheNextLink(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	h.expect(h.run(path, link), 2, "policy_missing")
	first := h.agent()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.until("the agent is gone", func() bool { return len(h.processes()) == 0 })
	if _, err := os.Stat(h.socket()); err != nil {
		t.Fatal("a killed agent leaves its socket, or this test proves nothing")
	}
	h.expect(h.run(path, link), 2, "policy_missing")
	if second := h.agent(); second == first {
		t.Error("the same process")
	}
	r := h.run(path, "audit", "verify")
	h.expect(r, 0)
}
