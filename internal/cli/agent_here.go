//go:build !console

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"encounterlauncher/internal/agent"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/problem"
)

// agent runs the agent in this process.
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

func (p Program) openLog(level slog.Leveler) (*slog.Logger, *logFile, error) {
	if _, err := p.Layout.EnsureStateDir(); err != nil {
		return nil, nil, problem.New(problem.Internal, err)
	}
	file, err := openLogFile(p.Layout.LogFile())
	if err != nil {
		return nil, nil, problem.New(problem.Internal, fmt.Errorf("opening the log: %w", err))
	}
	return slog.New(slog.NewJSONHandler(file, &slog.HandlerOptions{Level: level})), file, nil
}
