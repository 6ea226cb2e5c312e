package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The exit statuses of the launcher that the sandbox reads.
const (
	exitDone    = 0
	exitNo      = 1
	exitRefused = 2
	exitNoAgent = 3
)

// verbDeadline bounds every verb of the launcher but "agent".
const verbDeadline = 30 * time.Second

// launcher runs the demo-flavoured launcher: its agent, its verbs, its scheme.
type launcher struct {
	program string
	env     []string // nil means this process's
	places  places

	agent *exec.Cmd
	ended chan struct{} // closed when the agent that we started has ended
}

// record says what a run has to undo. It is on file before it is done.
type record struct {
	// Program is the launcher whose scheme was registered.
	Program string `json:"program"`
	// AgentPID is the agent that was started; 0 before that.
	AgentPID int `json:"agent_pid"`
}

// outcome is how the launcher ended: what it wrote, what it told the person, and
// its exit status. A status is no error.
type outcome struct {
	out, said []byte
	status    int
}

// run runs a verb, or hands a link over.
func (l *launcher) run(ctx context.Context, args ...string) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, verbDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.program, args...)
	cmd.Env = l.env
	// The handler may start an agent, which must not hold our pipes open.
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	result := outcome{out: out.Bytes(), said: said.Bytes()}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return result, nil
	case ctx.Err() != nil:
		return outcome{}, fmt.Errorf("running the launcher: %w", ctx.Err())
	case errors.As(err, &exit):
		result.status = exit.ExitCode()
		return result, nil
	}
	return outcome{}, errors.New("the launcher cannot be run")
}

// must runs a verb that has to end with 0.
func (l *launcher) must(ctx context.Context, args ...string) error {
	result, err := l.run(ctx, args...)
	if err == nil && result.status != exitDone {
		err = fmt.Errorf("the launcher's verb %q ended with %d: %s", args[0], result.status, firstLine(result.said))
	}
	return err
}

// status is the part of "status --json" that the sandbox reads.
type status struct {
	Version  string `json:"version"`
	Agent    string `json:"agent"`
	SignedIn bool   `json:"signed_in"`
	Person   *struct {
		Email string `json:"email"`
	} `json:"person"`
	Policy struct {
		OK       bool     `json:"ok"`
		Problems []string `json:"problems"`
	} `json:"policy"`
	Launch  *launchReport `json:"launch"`
	Recents int           `json:"recents"`
}

func (l *launcher) status(ctx context.Context) (status, error) {
	result, err := l.run(ctx, "status", "--json")
	if err != nil {
		return status{}, err
	}
	var s status
	if err := json.Unmarshal(result.out, &s); err != nil {
		return status{}, errors.New("the launcher's status is not JSON")
	}
	return s, nil
}

// start writes the record, registers the scheme when told to, starts the agent
// and waits until it answers.
func (l *launcher) start(ctx context.Context, register bool) error {
	if err := writeJSON(l.places.record(), record{Program: l.program}); err != nil {
		return err
	}
	if register {
		if err := l.must(ctx, "register"); err != nil {
			return fmt.Errorf("registering the demo's link scheme: %w", err)
		}
	}
	output, err := os.OpenFile(l.places.agentOutput(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("opening the agent's output: %w", err)
	}
	defer output.Close()
	l.agent = exec.Command(l.program, "agent")
	l.agent.Env, l.agent.Stdout, l.agent.Stderr = l.env, output, output
	ownGroup(l.agent)
	if err := l.agent.Start(); err != nil {
		return fmt.Errorf("starting the launcher's agent: %w", err)
	}
	l.ended = make(chan struct{})
	go func() {
		_ = l.agent.Wait()
		close(l.ended)
	}()
	if err := writeJSON(l.places.record(), record{Program: l.program, AgentPID: l.agent.Process.Pid}); err != nil {
		return err
	}
	return l.awaitAgent(ctx)
}

func (l *launcher) awaitAgent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, verbDeadline)
	defer cancel()
	for {
		s, err := l.status(ctx)
		switch {
		case err == nil && s.Agent == "running" && s.Policy.OK:
			return nil
		case err == nil && s.Agent == "running" && len(s.Policy.Problems) > 0:
			return fmt.Errorf("the launcher does not accept the demo policy: %s", s.Policy.Problems[0])
		}
		select {
		case <-l.ended:
			return errors.New("the launcher's agent ended at once; " + l.places.agentOutput() + " says why")
		case <-ctx.Done():
			return errors.New("the launcher's agent does not answer")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop signs out, ends the agent and removes the scheme, each even when another
// did not work.
func (l *launcher) stop(registered bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), verbDeadline)
	defer cancel()
	_, signedOut := l.run(ctx, "sign-out")
	_, quit := l.run(ctx, "quit")
	if l.agent != nil {
		select {
		case <-l.ended:
		case <-time.After(10 * time.Second):
			_ = l.agent.Process.Kill()
			<-l.ended
		}
	}
	var unregistered error
	if registered {
		unregistered = l.must(ctx, "unregister")
	}
	if unregistered == nil {
		unregistered = l.forget()
	}
	return errors.Join(signedOut, quit, unregistered)
}

// forget removes the record: nothing is left to undo.
func (l *launcher) forget() error {
	if err := os.Remove(l.places.record()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the record: %w", err)
	}
	return nil
}

// cleanUp undoes what a run that crashed has left: agent, scheme, files. It
// returns false when there was nothing to undo. The program of the record may be
// gone, so the one of this run speaks for it: both have the demo's scheme.
func (l *launcher) cleanUp(ctx context.Context) (bool, error) {
	data, err := os.ReadFile(l.places.record())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the record of the last run: %w", err)
	}
	var last record
	if err := json.Unmarshal(data, &last); err != nil {
		// A torn record still says that a run did not end as it should.
		last = record{}
	}
	_, _ = l.run(ctx, "quit")
	if last.AgentPID > 0 && last.Program != "" {
		endIfStill(last.AgentPID, last.Program)
	}
	if err := l.must(ctx, "unregister"); err != nil {
		return true, fmt.Errorf("removing the demo's link scheme: %w", err)
	}
	return true, errors.Join(l.places.removeAll(), l.forget())
}

// firstLine is safe to print: the launcher's own sentences hold no link.
func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

// findLauncher returns the demo-flavoured launcher: the one named, or the one
// beside this program.
func findLauncher(named string) (string, error) {
	if named == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("finding this program: %w", err)
		}
		named = filepath.Join(filepath.Dir(self), "encounter-launcher-demo"+filepath.Ext(self))
	}
	program, err := filepath.Abs(named)
	if err != nil {
		return "", fmt.Errorf("finding the launcher: %w", err)
	}
	// The system names a running program without symbolic links.
	if program, err = filepath.EvalSymlinks(program); err != nil {
		return "", fmt.Errorf("there is no demo launcher at %s (make demo builds it; --launcher names another)", named)
	}
	return program, nil
}
