package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/notify"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/text"
)

const (
	// agentPatience is how long an agent may take to start (design §2).
	agentPatience = 5 * time.Second
	// ackPatience is how long an agent may take to acknowledge a link.
	ackPatience = 3 * time.Second
	// dialAgain is the first pause between two looks for an agent that is starting;
	// it grows to longestLook, so that a machine that is slow is not kept busy.
	dialAgain   = 2 * time.Millisecond
	longestLook = 25 * time.Millisecond
	// startAgain is how long another agent that was first may take until it listens. One
	// that was about to end never does, and then one is started again.
	startAgain = 250 * time.Millisecond
	// longestOffer is the longest pause before a link is offered again.
	longestOffer = 250 * time.Millisecond
)

// handOver gives one link to the agent and ends: 0 accepted, 2 refused, 3 nobody
// answered. It initialises nothing but the way there.
func handOver(layout paths.Layout, link intake.Candidate) int {
	if _, err := link.Parse(layout.Scheme()); err != nil {
		return refuse(layout, problem.Of(err))
	}
	click := takeClick()
	// An agent that ends or replaces itself may take the connection and not the
	// link. Handing the same link over again is safe: it is joined, and its
	// Idempotency-Key is the same.
	again := time.Now().Add(agentPatience)
	taken, start := offeredFirst, startedFirst
	for pause := dialAgain; ; pause = min(2*pause, longestOffer) {
		ack, asked, err := taken()
		if !asked {
			ack, asked, err = offer(layout, link, click, start)
			start = startAgent // the one that was started first has had its time
		}
		taken = nobodyAsked
		ending := err == nil && !ack.Accepted && ack.Code == problem.AgentUnreachable
		switch {
		case (ending || asked && !errors.Is(err, context.DeadlineExceeded) && err != nil) && time.Now().Before(again):
			time.Sleep(pause)
		case err != nil:
			return unreachable(layout, problem.Of(err))
		case ending:
			return unreachable(layout, problem.Restore(string(ack.Code), ack.Reference, ""))
		case !ack.Accepted:
			cli.PrintRefusal(os.Stderr, ack.Sentence, ack.NextStep, ack.Reference, ack.Code)
			return cli.Refused
		default:
			return cli.Done
		}
	}
}

// nobodyAsked is offeredFirst once that has been heeded.
func nobodyAsked() (ack control.Ack, asked bool, err error) { return control.Ack{}, false, nil }

// offer reaches the agent and hands it the link once. asked says that an agent
// was there; the error of one that did not answer in time is
// context.DeadlineExceeded.
func offer(layout paths.Layout, link intake.Candidate, click control.Activation, start func() (<-chan error, error)) (ack control.Ack, asked bool, err error) {
	client, err := reach(layout, start)
	if err != nil {
		return control.Ack{}, false, err
	}
	defer client.Close()
	passFocus(client.AgentPID())
	ctx, cancel := context.WithTimeout(context.Background(), ackPatience)
	defer cancel()
	ack, err = client.Link(ctx, link, click)
	if err != nil && ctx.Err() != nil {
		err = problem.New(problem.AgentUnreachable, ctx.Err())
	}
	return ack, true, err
}

// reach dials the agent, and starts one by start where none listens.
func reach(layout paths.Layout, start func() (<-chan error, error)) (*control.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), agentPatience)
	defer cancel()
	client, err := control.Dial(ctx, layout)
	if !errors.Is(err, control.ErrNoAgent) {
		return client, err
	}
	ended, err := start()
	if errors.Is(err, fs.ErrNotExist) { // a .com without its .exe
		return nil, problem.With(problem.AgentUnreachable, "Its program is not installed.", err)
	}
	if err != nil {
		return nil, problem.New(problem.AgentUnreachable, err)
	}
	pause := dialAgain
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil, problem.New(problem.AgentUnreachable, ctx.Err())
		case err := <-ended:
			if err != nil {
				return nil, problem.With(problem.AgentUnreachable, "It ended at once.", withoutPath(err))
			}
			ended, again = nil, time.After(startAgain) // another agent was first
		case <-again:
			if ended, err = startAgent(); err != nil {
				return nil, problem.New(problem.AgentUnreachable, withoutPath(err))
			}
			again = nil
		case <-time.After(pause):
			pause = min(pause*11/10, longestLook)
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
// on stderr for whoever runs this by hand. There is no agent that could write the
// audit.
func unreachable(layout paths.Layout, p *problem.Problem) int {
	cli.PrintProblem(os.Stderr, p)
	cli.AuditRefusal(layout, p)
	if onConsole() {
		return cli.NoAgent
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	// Where there is no notification service, stderr has to do.
	words := text.For(text.System())
	_ = notify.Show(ctx, words.Told(p), words.NextStep(p.Code)+" "+words.Word("handler.reference", "reference", p.Reference))
	return cli.NoAgent
}
