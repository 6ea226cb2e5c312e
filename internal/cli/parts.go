package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	stdlog "log"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/agent"
	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// mostLog is the size in bytes at which the log is set aside at the next start;
// one older log is kept.
const mostLog = 1 << 20

func (p Program) agentCommand() *cobra.Command {
	return &cobra.Command{
		Use: "agent", Short: "Run the agent in the foreground", GroupID: "parts", Args: cobra.NoArgs,
		Long: "Runs the agent in the foreground until it is told to quit. The first link starts it by itself; run it here to see why it does not start.\n\nExit status: 0 told to quit, or another agent of this user runs already.",
		RunE: func(cmd *cobra.Command, _ []string) error { return p.agent(cmd.Context()) },
	}
}

func (p Program) agent(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	level := new(slog.LevelVar)
	log, file, err := p.openLog(level)
	if err != nil {
		return err
	}
	defer file.Close()
	// What libraries print belongs into the log too, in its form: the agent has no
	// terminal.
	stdlog.SetFlags(0)
	stdlog.SetOutput(slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer())
	err = agent.Run(ctx, agent.Options{Layout: p.Layout, Version: p.Version, Window: p.StartWindow, Doctor: p.examineApart, Log: log, Level: level})
	switch {
	case errors.Is(err, control.ErrOwned):
		p.say("another agent of this user runs already")
		return nil
	case errors.Is(err, agent.ErrUpgraded):
		return agent.Reexecute()
	default:
		return err
	}
}

// mostDoctorLine bounds one line of the doctor's, mostDoctorLines all of them.
const (
	mostDoctorLine  = 64 << 10
	mostDoctorLines = 1 << 20
)

// examineApart examines the computer in a process of its own: what the checks need is
// given back with it, and what hangs in one of them hangs there. The process ends with
// ctx.
func (p Program) examineApart(ctx context.Context, line func([]byte)) error {
	process := exec.CommandContext(ctx, p.Executable, "doctor", "--json-lines")
	process.WaitDelay = time.Second
	out, err := process.StdoutPipe()
	if err != nil {
		return problem.New(problem.Internal, fmt.Errorf("examining the computer: %w", err))
	}
	if err := process.Start(); err != nil {
		return problem.New(problem.Internal, errors.New("starting the process that examines the computer failed"))
	}
	lines := bufio.NewScanner(io.LimitReader(out, mostDoctorLines))
	lines.Buffer(nil, mostDoctorLine)
	for lines.Scan() {
		line(lines.Bytes())
	}
	_, _ = io.Copy(io.Discard, out) // it must not wait for a reader
	var ended *exec.ExitError
	// Warnings and what is broken are its exit status, and no failure of it.
	if err := process.Wait(); err != nil && !errors.As(err, &ended) {
		return problem.New(problem.Internal, errors.New("waiting for the process that examines the computer failed"))
	}
	return nil
}

func (p Program) openLog(level slog.Leveler) (*slog.Logger, *os.File, error) {
	if _, err := p.Layout.EnsureStateDir(); err != nil {
		return nil, nil, problem.New(problem.Internal, err)
	}
	path := p.Layout.LogFile()
	if info, err := os.Stat(path); err == nil && info.Size() > mostLog {
		if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, problem.New(problem.Internal, fmt.Errorf("setting the old log aside: %w", err))
		}
	}
	file, err := paths.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, problem.New(problem.Internal, fmt.Errorf("opening the log: %w", err))
	}
	return slog.New(slog.NewJSONHandler(file, &slog.HandlerOptions{Level: level})), file, nil
}

func (p Program) windowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "window", Short: "Open the window", GroupID: "parts", Args: cobra.NoArgs,
		Long: "Opens the window, or brings the open one to the front. Starts the agent where it\ndoes not run.\n\nExit status: 0 under way, 2 the window cannot be shown, 3 the agent does not start.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.RunWindow != nil {
				return p.RunWindow(cmd.Context())
			}
			return p.window(cmd.Context())
		},
	}
}

// AuditRefusal writes a link that was refused, or that nobody took, into the audit
// when no agent runs that could. It never fails: the person has been told already.
func AuditRefusal(l paths.Layout, p *problem.Problem) {
	destination := policy.Load(l).AuditDestination
	if destination == "none" {
		return
	}
	var sink audit.Sink
	if destination == "system" {
		// Without the system's log the line stands alone; the agent shows why.
		sink, _ = audit.SystemSink()
	}
	if _, err := l.EnsureStateDir(); err != nil {
		return
	}
	_ = audit.RecordOnce(l.AuditDir(), sink, audit.Record{Outcome: p.Row().Audit, Code: p.Code, Reference: p.Reference}, time.Now)
}

// startPatience is how long a started agent may take to answer.
const startPatience = 5 * time.Second

// window asks the agent, which it starts where needed, to show the window.
func (p Program) window(ctx context.Context) error {
	err := p.do(ctx, control.Intent{Name: control.OpenWindow})
	if !errors.Is(err, control.ErrNoAgent) {
		return err
	}
	if err := p.StartAgent(); err != nil {
		return problem.New(problem.AgentUnreachable, err)
	}
	if err := p.await(ctx); err != nil {
		return err
	}
	return p.do(ctx, control.Intent{Name: control.OpenWindow})
}

// await returns nil once an agent listens.
func (p Program) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := control.Dial(ctx, p.Layout)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, control.ErrNoAgent) {
			return err
		}
		select {
		case <-ctx.Done():
			return problem.New(problem.AgentUnreachable, ctx.Err())
		case <-tick.C:
		}
	}
}
