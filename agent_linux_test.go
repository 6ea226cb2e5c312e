package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// installed copies a program into the home, where a test may replace it.
func (h *home) installed(path string) string {
	h.t.Helper()
	to := filepath.Join(h.dir, "bin", "encounter-launcher")
	text, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.replace(to, text)
	return to
}

// replace puts a file in the place of another in one step, as an installer does.
// Another process writes it: a descriptor of this one would be inherited by what
// other tests start meanwhile, and a file that is open for writing does not run.
func (h *home) replace(path string, text []byte) {
	h.t.Helper()
	cp := exec.Command("/bin/cp", "/dev/stdin", path+".new")
	cp.Stdin = bytes.NewReader(text)
	if out, err := cp.CombinedOutput(); err != nil {
		h.t.Fatalf("%v %s", err, out)
	}
	if err := os.Chmod(path+".new", 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) upgrade(path, version string) {
	h.t.Helper()
	text, err := os.ReadFile(program(h.t, version))
	if err != nil {
		h.t.Fatal(err)
	}
	h.replace(path, text)
}

func TestAnUpgradeReplacesTheAgentInItsProcess(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	mine := h.installed(path)
	h.expect(h.run(mine, link), 2, "policy_missing")
	pid := h.agent()
	if s := h.status(path); s.Version != released {
		t.Fatalf("version %q", s.Version)
	}

	h.replace(mine, []byte("half a program"))
	h.until("the agent has tried the broken file", func() bool { return strings.Contains(h.log(), "does not run") })
	if s := h.status(path); s.Version != released || s.Agent != "running" {
		t.Fatalf("a broken file took the agent's place: %+v", s)
	}

	h.upgrade(mine, upgraded)
	h.until("the new version runs", func() bool { return h.status(path).Version == upgraded })
	if now := h.agent(); now != pid {
		t.Errorf("process %d became %d", pid, now)
	}
	h.expect(h.run(mine, link), 2, "policy_missing")
	h.expect(h.run(mine, "audit", "verify"), 0)
}

func TestNoLinkIsLostWhileTheAgentIsReplaced(t *testing.T) {
	t.Parallel()
	h := newHome(t, "encounter-launcher")
	mine := h.installed(program(t, upgraded))
	h.expect(h.run(mine, link), 2, "policy_missing")
	h.upgrade(mine, released)
	h.until("the other version runs", func() bool {
		// Whoever is the agent now: the answer is always an agent's.
		h.expect(h.run(mine, link), 2)
		return h.status(mine).Version == released
	})
	h.agent()
}

func TestAnUpgradeWaitsForTheLaunchInFlight(t *testing.T) {
	t.Parallel()
	path, h := program(t, demo), newHome(t, "encounter-launcher-demo")
	h.policy(demoPolicy(t))
	mine := h.installed(path)
	h.expect(h.run(mine, demoLink), 0)
	pid := h.agent()
	h.replace(mine, mustRead(t, path)) // another file, though the same version
	h.until("the agent has seen the new file", func() bool { return strings.Contains(h.log(), "an upgrade waits") })
	if s := h.status(path); s.Launch == nil || s.Launch.Stage != "signing_in" {
		t.Fatalf("the launch was disturbed: %+v", s.Launch)
	}
	h.expect(h.run(path, "cancel"), 0)
	h.until("the agent has started anew", func() bool {
		s := h.status(path)
		return s.Agent == "running" && s.Launch == nil
	})
	if now := h.agent(); now != pid {
		t.Errorf("process %d became %d", pid, now)
	}
}

func TestAnAgentEndsOnceItsProgramHasBeenRemoved(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	mine := h.installed(path)
	h.expect(h.run(mine, link), 2, "policy_missing")
	h.agent()
	if err := os.Remove(mine); err != nil {
		t.Fatal(err)
	}
	h.until("the agent has ended", func() bool { return len(h.processes()) == 0 })
	if _, err := os.Lstat(h.socket()); !os.IsNotExist(err) {
		t.Errorf("the socket is still there (%v)", err)
	}
	h.expect(h.run(path, "audit", "verify"), 0)
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTheAgentEndsCleanly(t *testing.T) {
	t.Parallel()
	path := program(t, released)
	for name, end := range map[string]func(*home, *exec.Cmd) error{
		"SIGTERM": func(_ *home, c *exec.Cmd) error { return c.Process.Signal(syscall.SIGTERM) },
		"SIGINT":  func(_ *home, c *exec.Cmd) error { return c.Process.Signal(syscall.SIGINT) },
		"SIGHUP":  func(_ *home, c *exec.Cmd) error { return c.Process.Signal(syscall.SIGHUP) },
		"quit": func(h *home, _ *exec.Cmd) error {
			h.expect(h.run(path, "quit"), 0)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "encounter-launcher")
			agent := h.command(path, "agent")
			if err := agent.Start(); err != nil {
				t.Fatal(err)
			}
			h.until("the agent answers", func() bool { return h.status(path).Agent == "running" })
			h.expect(h.run(path, "agent"), 0) // a second one finds the first and ends
			if err := end(h, agent); err != nil {
				t.Fatal(err)
			}
			if err := agent.Wait(); err != nil {
				t.Errorf("the agent ended with %v\n%s", err, h.log())
			}
			if _, err := os.Lstat(h.socket()); !os.IsNotExist(err) {
				t.Errorf("the socket is still there (%v)", err)
			}
			if a := h.audit(); !strings.Contains(a, `"started"`) || !strings.Contains(a, `"stopped"`) {
				t.Errorf("the audit does not tell of start and end:\n%s", a)
			}
			if s := h.status(path); s.Agent != "absent" {
				t.Errorf("status says %q", s.Agent)
			}
		})
	}
}

func TestALaunchInFlightIsCancelledWhenTheAgentEnds(t *testing.T) {
	t.Parallel()
	path, h := program(t, demo), newHome(t, "encounter-launcher-demo")
	h.policy(demoPolicy(t))
	h.expect(h.run(path, demoLink), 0)
	h.until("the launch waits for a sign-in", func() bool {
		s := h.status(path)
		return s.Launch != nil && s.Launch.Stage == "signing_in"
	})
	pid := h.agent()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.until("the agent is gone", func() bool { return len(h.processes()) == 0 })
	if a := h.audit(); !strings.Contains(a, `"cancelled"`) || !strings.Contains(a, `"stopped"`) {
		t.Errorf("the audit:\n%s", a)
	}
	h.expect(h.run(path, "audit", "verify"), 0)
}

// windowProgram puts a stand-in for the window's program beside an installed one.
func (h *home) windowProgram(script string) {
	h.t.Helper()
	h.replace(filepath.Join(h.dir, "bin", "encounter-launcher-window"), []byte("#!/bin/sh\n"+script+"\n"))
}

func TestAWindowThatCannotBeShownIsToldAndHarmsNothing(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	mine := h.installed(path)
	h.expect(h.run(mine), 2, "window_unavailable", "not installed")
	pid := h.agent()
	h.expect(h.run(mine, "window"), 2, "window_unavailable", "not installed")
	h.windowProgram("exit 2")
	h.expect(h.run(mine, "window"), 2, "window_unavailable", "needs a display")
	h.windowProgram("exit 127") // as the dynamic linker ends a program that lacks a library
	h.expect(h.run(mine, "window"), 2, "window_unavailable", "A library that it needs is not installed.")
	if h.agent() != pid {
		t.Error("the agent was replaced")
	}
	h.expect(h.run(mine, link), 2, "policy_missing")
}

func TestOneWindowIsStartedAndTheNextCallRaisesIt(t *testing.T) {
	t.Parallel()
	path, h := program(t, released), newHome(t, "encounter-launcher")
	mine := h.installed(path)
	h.windowProgram(`echo "$XDG_ACTIVATION_TOKEN" >>"$HOME/clicks"; echo $$ >"$HOME/window.pid"
mkfifo "$HOME/never.$$" && exec 3<>"$HOME/never.$$" || exit 1
echo "` + windowUp + `"; read -r never <&3`) // in the shell itself: a process that turns into another cannot be counted meanwhile
	cmd := h.command(mine)
	cmd.Env = append(cmd.Env, "XDG_ACTIVATION_TOKEN=token-1")
	h.expect(h.finish(cmd), 0)
	h.expect(h.run(mine, "window"), 0)
	if clicks := string(mustRead(t, filepath.Join(h.dir, "clicks"))); clicks != "token-1\n" {
		t.Errorf("windows were started with the clicks %q", clicks)
	}
	if n := len(h.processes()); n != 2 {
		t.Errorf("%d processes, want the agent and one window", n)
	}
	pid := strings.TrimSpace(string(mustRead(t, filepath.Join(h.dir, "window.pid"))))
	if out, err := exec.Command("/bin/kill", "-TERM", pid).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	h.agent()
	h.until("a window can be opened anew", func() bool {
		h.expect(h.run(mine, "window"), 0)
		return strings.Count(string(mustRead(t, filepath.Join(h.dir, "clicks"))), "\n") == 2
	})
}

// raised starts a program with the limit for cores as high as this user may have it,
// and has Go's runtime crash as other programs do.
func (h *home) raised(program string, args ...string) *exec.Cmd {
	cmd := h.command("/bin/sh", append([]string{"-c", `ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@"`, program}, args...)...)
	cmd.Env = append(cmd.Env, "GOTRACEBACK=crash")
	return cmd
}

func TestACrashWritesNoMemoryToTheDisk(t *testing.T) {
	t.Parallel()
	h := newHome(t, "encounter-launcher")
	path := program(t, released)
	agent := h.raised(path, "agent")
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	h.until("the agent answers", func() bool { return h.status(path).Agent == "running" })
	limits := string(mustRead(t, fmt.Sprintf("/proc/%d/limits", agent.Process.Pid)))
	_, rest, _ := strings.Cut(limits, "Max core file size")
	if fields := strings.Fields(rest); len(fields) < 2 || fields[0] != "0" {
		t.Errorf("the agent may write a core:\n%s", limits)
	}
	if err := agent.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	if status := agent.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.CoreDump() {
		t.Errorf("it ended with %v, a core written: %v", agent.ProcessState, status.CoreDump())
	}
}
