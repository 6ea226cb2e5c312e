package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/view"
)

// patience bounds everything that a story waits for; nothing takes that long.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"encounter-launcher": launcher})
}

// launcher is the program as main makes it, but for the hand-over of a link: that
// is the root program's own. All its folders lie below $ROOT.
func launcher() {
	layout := paths.Under(os.Getenv("ROOT"), "")
	args := os.Args[1:]
	_, isLink, err := intake.FromArgs(layout.Scheme(), args, cli.IsVerb, cli.CarriesLink)
	switch {
	case err != nil:
		cli.PrintProblem(os.Stderr, problem.Of(err))
		cli.AuditRefusal(layout, problem.Of(err))
		os.Exit(cli.Refused)
	case isLink:
		fmt.Fprintln(os.Stderr, "a link: it would be handed over")
		os.Exit(99)
	}
	executable, err := os.Executable()
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(cli.Run(ctx, cli.Program{
		Layout: layout, Version: "1.2.3", Stdout: os.Stdout, Stderr: os.Stderr, Executable: executable,
		StartAgent: func() error {
			// Only the verb “window” may come here; the agent stays in this story's
			// hands by the file that it leaves.
			if err := os.WriteFile(filepath.Join(os.Getenv("ROOT"), "agent-was-started"), nil, 0o600); err != nil {
				return err
			}
			return errors.New("stories start their agents themselves")
		},
		StartWindow: func(context.Context, control.Activation) (<-chan error, error) { return nil, errors.New("no webview") },
	}, args))
}

// TestStories runs testdata/*.txt. Each is headed by what it pins.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			root := filepath.Join(env.WorkDir, "r")
			if err := os.MkdirAll(root, 0o700); err != nil {
				return err
			}
			env.Setenv("ROOT", root)
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			// No bus of the machine, and none that a library would start.
			env.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(env.WorkDir, "none"))
			env.Setenv("TZ", "UTC")
			// The race detector's runtime would else sleep a second at every exit.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Values["stage"] = &stage{layout: paths.Under(root, "")}
			// What a machine's policy must be, whatever the umask of this run.
			return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				return os.Chmod(path, 0o644)
			})
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "answer": answer, "notice": notice, "agent-ready": agentReady, "agent-gone": agentGone,
			"stage": stageCmd, "on": onCmd, "heard": heardCmd, "args-of": argsOf, "terminate": terminate,
		},
	})
}

// exits runs a program and checks its exit status: exits STATUS PROGRAM [ARGUMENT...].
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) {
			ts.Fatalf("running: %v", err)
		}
		got = ended.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d\nstdout: %s\nstderr: %s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// answer checks that stdout is one JSON value; with a path, what stands there as
// JSON: answer [PATH [JSON]]. “! answer PATH” checks that there is nothing.
func answer(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile("stdout")
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		ts.Fatalf("stdout is not JSON: %v\n%s", err, text)
	}
	if len(args) == 0 {
		return
	}
	found := true
	for _, step := range strings.Split(args[0], ".") {
		switch at := v.(type) {
		case map[string]any:
			v, found = at[step]
		case []any:
			n, err := strconv.Atoi(step)
			if found = err == nil && n < len(at); found {
				v = at[n]
			}
		default:
			found = false
		}
		if !found {
			break
		}
	}
	if found == neg {
		ts.Fatalf("%s: found %v\n%s", args[0], found, text)
	}
	if len(args) == 1 || neg {
		return
	}
	got, err := json.Marshal(v)
	ts.Check(err)
	var want any
	if err := json.Unmarshal([]byte(args[1]), &want); err != nil {
		ts.Fatalf("%s is not JSON", args[1])
	}
	if w, _ := json.Marshal(want); !bytes.Equal(got, w) {
		ts.Fatalf("%s is %s, want %s", args[0], got, w)
	}
}

// notice checks that stderr is one line which ends with a code and, for a
// problem, a reference, and holds none of the further words: notice CODE [NEVER...].
func notice(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile("stderr")
	line, ok := strings.CutSuffix(text, "\n")
	if neg || !ok || line == "" || strings.ContainsAny(line, "\n\r\x1b") {
		ts.Fatalf("stderr is not one line: %q", text)
	}
	if !strings.HasSuffix(line, "("+args[0]+")") && !strings.Contains(line, "("+args[0]+", reference ") {
		ts.Fatalf("the line does not end with the code: %q", line)
	}
	for _, never := range args[1:] {
		if strings.Contains(line, never) {
			ts.Fatalf("the line repeats %q: %q", never, line)
		}
	}
}

func until(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("never: %s", what)
		}
	}
}

func agentReady(ts *testscript.TestScript, _ bool, _ []string) {
	until(ts, "an agent listens", func() bool { return agentListens(ts) == nil })
}

func agentGone(ts *testscript.TestScript, _ bool, _ []string) {
	until(ts, "no agent listens", func() bool { return errors.Is(agentListens(ts), control.ErrNoAgent) })
}

func agentListens(ts *testscript.TestScript) error {
	c, err := control.Dial(context.Background(), stageOf(ts).layout)
	if err == nil {
		c.Close()
	}
	return err
}

// terminate sends SIGTERM to the program that was started last, which testscript's
// own kill cannot.
func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	running := ts.BackgroundCmds()
	ts.Check(running[len(running)-1].Process.Signal(syscall.SIGTERM))
}

// argsOf checks that every line of stdout that begins with a word is one of the
// further words, and that none of these is missing.
func argsOf(ts *testscript.TestScript, _ bool, want []string) {
	var got []string
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if word != "" && !strings.HasPrefix(word, ":") {
			got = append(got, word)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		ts.Fatalf("offers %q, want %q", got, want)
	}
}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value("stage").(*stage) }

// stageCmd plays an agent that shows the snapshot in a file: stage FILE.
func stageCmd(ts *testscript.TestScript, _ bool, args []string) {
	s := stageOf(ts)
	s.show(snapshotIn(ts, args[0]))
	if s.running {
		return
	}
	server, err := control.Listen(s.layout)
	ts.Check(err)
	ctx, end := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, s) }()
	s.running, s.end = true, end
	ts.Defer(func() {
		end()
		server.Close()
		<-served
	})
}

// onCmd says what becomes of an intent: on INTENT FILE... shows snapshots one
// after another, “! on INTENT CODE [FACT]” refuses it.
func onCmd(ts *testscript.TestScript, neg bool, args []string) {
	s := stageOf(ts)
	r := reaction{}
	if neg {
		p := problem.New(problem.Code(args[1]), nil)
		if len(args) > 2 {
			p.Fact = args[2]
		}
		r.refuse = p
	} else {
		for _, file := range args[1:] {
			r.shows = append(r.shows, snapshotIn(ts, file))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reactions == nil {
		s.reactions = map[string]reaction{}
	}
	s.reactions[args[0]] = r
}

// heardCmd waits until exactly these intents have arrived since the last time:
// heard INTENT..., each as NAME[:ID][:last][:all].
func heardCmd(ts *testscript.TestScript, _ bool, want []string) {
	s := stageOf(ts)
	until(ts, fmt.Sprintf("the agent hears %q", want), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.Equal(s.heard, want) {
			return len(s.heard) > len(want) && s.fail(ts, want)
		}
		s.heard = nil
		return true
	})
}

func (s *stage) fail(ts *testscript.TestScript, want []string) bool {
	ts.Fatalf("the agent heard %q, want %q", s.heard, want)
	return false
}

func snapshotIn(ts *testscript.TestScript, file string) view.Snapshot {
	s := view.Snapshot{Version: "1.2.3", Language: "en", SignIn: view.SignIn{State: view.SignedOut}, Policy: view.Policy{OK: true, Problems: []string{}}, Recents: []view.Recent{}}
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(file)))
	d.DisallowUnknownFields()
	ts.Check(d.Decode(&s))
	return s
}
