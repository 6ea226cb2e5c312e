package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

func (p Program) agentCommand() *cobra.Command {
	return &cobra.Command{
		Use: agentVerb, Short: "Run the agent in the foreground", GroupID: "parts", Args: cobra.NoArgs,
		Long: "Runs the agent in the foreground until it is told to quit. The first link starts it by itself; run it here to see why it does not start.\n\nExit status: 0 told to quit, or another agent of this user runs already.",
		RunE: func(cmd *cobra.Command, _ []string) error { return p.agent(cmd.Context()) },
	}
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
