package main

import (
	"context"
	"errors"
	"os"
	"time"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/notify"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

const (
	// agentPatience is how long an agent may take to start (design §2).
	agentPatience = 5 * time.Second
	// ackPatience is how long an agent may take to acknowledge a link.
	ackPatience = 3 * time.Second
	// dialAgain is the pause between two looks for an agent that is starting.
	dialAgain = 2 * time.Millisecond
)

// handOver gives one link to the agent and ends: 0 accepted, 2 refused, 3 nobody
// answered. It initialises nothing but the way there.
func handOver(layout paths.Layout, link intake.Candidate) int {
	if _, err := link.Parse(layout.Scheme()); err != nil {
		return refuse(layout, problem.Of(err))
	}
	click := takeClick()
	client, err := reach(layout)
	if err != nil {
		return unreachable(problem.Of(err))
	}
	defer client.Close()
	passFocus(client.AgentPID())
	ctx, cancel := context.WithTimeout(context.Background(), ackPatience)
	defer cancel()
	ack, err := client.Link(ctx, link, click)
	if err != nil {
		return unreachable(problem.Of(err))
	}
	if !ack.Accepted {
		cli.PrintRefusal(os.Stderr, ack.Sentence, ack.NextStep, ack.Reference, ack.Code)
		return cli.Refused
	}
	return cli.Done
}

// reach dials the agent and starts one where none listens.
func reach(layout paths.Layout) (*control.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), agentPatience)
	defer cancel()
	client, err := control.Dial(ctx, layout)
	if !errors.Is(err, control.ErrNoAgent) {
		return client, err
	}
	if err := startAgent(); err != nil {
		return nil, problem.New(problem.AgentUnreachable, err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil, problem.New(problem.AgentUnreachable, ctx.Err())
		case <-time.After(dialAgain):
		}
		client, err := control.Dial(ctx, layout)
		if !errors.Is(err, control.ErrNoAgent) {
			return client, err
		}
	}
}

// refuse tells of arguments that are no link of ours. It starts nothing; a
// running agent is told, so that audit and log know, else the audit is written
// here.
func refuse(layout paths.Layout, p *problem.Problem) int {
	cli.PrintProblem(os.Stderr, p)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	client, err := control.Dial(ctx, layout)
	if err == nil {
		defer client.Close()
		err = client.Refused(ctx, p.Code, p.Reference)
	}
	if err != nil {
		cli.AuditRefusal(layout, p)
	}
	return cli.Refused
}

// unreachable tells the person that nobody took the link: by a notification, and
// on stderr for whoever runs this by hand.
func unreachable(p *problem.Problem) int {
	cli.PrintProblem(os.Stderr, p)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	// Where there is no notification service, stderr has to do.
	_ = notify.Show(ctx, p.Error(), p.Row().NextStep)
	return cli.NoAgent
}
