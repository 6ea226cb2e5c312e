// Package agent is the resident program: it builds the rooms from a policy
// snapshot, takes links and intents one after another through flow.Run, and
// publishes what can be seen.
//
// It never links a webview or a server, never keeps a one-time URL, and writes
// nothing but its log, the audit, the sealed recents and the OS keyring.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/notify"
	"encounterlauncher/internal/opener"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/tray"
	"encounterlauncher/internal/view"
)

// keyringDeadline bounds one call to the OS keyring: longer than a healthy one
// takes by a thousand times (3–5 ms), shorter than a person waits.
const keyringDeadline = 4 * time.Second

// Options are what main gives the agent.
type Options struct {
	Layout  paths.Layout
	Version string
	// Window starts the window's process, returns when it shows its page or cannot,
	// and delivers its end. It is called when the person asks for the window and
	// none is open.
	Window func(control.Activation) (ended <-chan error, err error)
	// Keyring is the OS keyring when nil.
	Keyring tokenstore.Keyring
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Log receives the agent's log; the log file of the layout when nil.
	Log *slog.Logger
	// Level is raised and lowered by the policy LogLevel; may be nil.
	Level *slog.LevelVar
	// Headless starts neither tray nor notices.
	Headless bool
}

// Agent is the resident program between Run and its end.
type Agent struct {
	opts     Options
	log      *slog.Logger
	now      func() time.Time
	board    *board
	store    *tokenstore.Store
	session  *session
	launches *launches
	opener   *opener.Opener
	recents  *recentsOf
	audit    *auditOf
	keys     *linkKeys
	words    atomic.Pointer[text.Catalogue]
	tabs     flow.Tabs

	quit   context.CancelFunc
	wakeUp chan struct{} // tells refreshAhead to look again; buffered 1
	used   chan struct{} // tells settle of a launch; buffered 1

	mu sync.Mutex
	// good is the newest policy that refuses no launch, rooms what the newest built.
	good     *policy.Snapshot // guarded by mu
	rooms    *rooms           // guarded by mu
	windowUp bool             // guarded by mu: a window process runs
	noticed  time.Time        // guarded by mu: when a flood of links was last noticed
}

// Run is the agent's life: it becomes the agent of this user, or returns
// control.ErrOwned when another process is, and ends when ctx ends, a Quit
// arrives, or its own file was replaced and it is idle. In the last case it
// returns ErrUpgraded and the caller re-executes.
func Run(ctx context.Context, opts Options) error {
	server, err := control.Listen(opts.Layout)
	if err != nil {
		return err
	}
	defer server.Close()
	a, err := newAgent(opts)
	if err != nil {
		return err
	}
	return a.run(ctx, server)
}

func newAgent(opts Options) (*Agent, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Keyring == nil {
		opts.Keyring = tokenstore.OS()
	}
	if _, err := opts.Layout.EnsureStateDir(); err != nil {
		return nil, problem.New(problem.Internal, err)
	}
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{opts: opts, log: log, now: opts.Now, wakeUp: make(chan struct{}, 1), used: make(chan struct{}, 1)}
	a.board = newBoard(view.Snapshot{
		Version: opts.Version, Language: "en",
		SignIn: view.SignIn{State: view.SignedOut}, Recents: []view.Recent{}, Policy: view.Policy{Problems: []string{}},
	})
	words := text.For("")
	a.words.Store(&words)
	a.store = tokenstore.New(opts.Keyring, opts.Layout.KeyringService(), opts.Layout.UserLockFile(), keyringDeadline)
	a.session = newSession(a.store, a.now, log, a.sessionChanged, a.signedIn)
	a.launches = newLaunches(a.now, uuid.NewString, a.launchChanged)
	a.opener = opener.New(log)
	a.keys = newLinkKeys(a.store)
	a.recents = newRecentsOf(opts.Layout, a.store, a.now, log)
	a.audit = newAuditOf(opts.Layout, a.now, log)
	return a, nil
}

func (a *Agent) run(parent context.Context, server *control.Server) error {
	ctx, quit := context.WithCancel(parent)
	defer quit()
	a.quit = quit

	var others sync.WaitGroup
	policies := policy.Watch(ctx, a.opts.Layout, a.log)
	a.take(<-policies)
	defer a.audit.close()

	// A link that started this agent waits: it is taken before the audit, which
	// writes through to the disk, and opened after it.
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, a) }()
	others.Go(func() {
		a.session.restore(ctx)
		a.session.refreshAhead(ctx, a.wakeUp)
	})
	a.audit.note(audit.Record{Outcome: audit.Started})

	others.Go(func() {
		for p := range policies {
			a.take(p)
		}
	})
	others.Go(func() { a.launches.run(ctx, a.launch) })
	others.Go(func() { settle(ctx, a.used) })
	others.Go(func() { a.recents.expire(ctx, a.showRecents) })
	if !a.opts.Headless {
		others.Go(func() {
			if err := tray.Run(ctx, a.board.watch(ctx), viewDo{a}, tray.Options{ID: a.opts.Layout.Name, Now: a.now, Log: a.log}); err != nil {
				a.log.Info("no tray", "reason", err.Error())
			}
		})
		others.Go(func() {
			if err := notify.Run(ctx, a.board.watch(ctx), viewDo{a}, notify.Options{ID: a.opts.Layout.Name, Log: a.log}); err != nil {
				a.log.Info("no notices", "reason", err.Error())
			}
		})
	}
	upgraded := make(chan struct{})
	others.Go(func() {
		if watchUpgrade(ctx, a.log, a.idle, a.stopIfIdle) {
			close(upgraded)
		}
	})

	var err error
	select {
	case <-ctx.Done():
	case <-upgraded:
		err = ErrUpgraded
	case err = <-served:
		served <- nil
	}
	a.launches.stop()
	quit()
	others.Wait()
	a.session.saving.Wait()
	server.Close()
	<-served
	a.audit.note(audit.Record{Outcome: audit.Stopped})
	return err
}

// idle reports whether neither a launch nor a sign-in page would be lost if the
// agent started anew.
func (a *Agent) idle() bool { return a.launches.idle() && !a.session.signingIn() }

// stopIfIdle is idle, and ends the taking of links where it is true.
func (a *Agent) stopIfIdle() bool { return !a.session.signingIn() && a.launches.stopIfIdle() }

// launch is the step of the queue: one launch through flow.Run.
func (a *Agent) launch(ctx context.Context, t *tracked, at func(view.Stage)) (flow.Outcome, error) {
	select {
	case a.used <- struct{}{}:
	default:
	}
	r, err := a.ready()
	if err != nil {
		a.audit.Record(ctx, t.launch, flow.Outcome{}, err)
		return flow.Outcome{}, err
	}
	steps := flow.Steps{
		Tokens: a.session, Org: orgOf{r.org, a.keys}, Opener: openerOf{a.opener}, Recents: a.recents, Audit: a.audit,
		Tabs: &a.tabs, Now: a.now,
		Warn: func(what string, err error) { a.log.Warn(what, "problem", problem.Of(err)) },
	}
	out, err := flow.Run(ctx, steps, t.launch, func(s flow.Stage) { at(view.Stage(s)) })
	out.Encounter.Label = labelFor(r.policy.RecentsLabel, out.Encounter.Label)
	if err == nil {
		a.showRecents()
		a.log.Info("launch opened", "id", t.id, "dropped", out.Dropped)
	} else {
		p := problem.Of(err)
		a.log.Log(ctx, p.Row().Level, "launch ended", "id", t.id, "problem", p)
	}
	return out, err
}

// ready returns the rooms of the policy in force, or the problem that keeps
// every launch from starting.
func (a *Agent) ready() (*rooms, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rooms == nil {
		return nil, problem.New(problem.PolicyMissing, nil)
	}
	return a.rooms, a.rooms.refuse
}

// Link implements control.Links.
func (a *Agent) Link(ctx context.Context, c intake.Candidate, activation control.Activation) (string, error) {
	request, err := c.Parse(a.opts.Layout.Scheme())
	if err != nil {
		p := problem.Of(err)
		a.Refused(ctx, p.Code, p.Reference)
		return "", p
	}
	who := a.session.who()
	r, err := a.ready()
	if err != nil {
		return "", a.refuse(a.launches.refused(request, who, activation, problem.Of(err)), err)
	}
	once, err := r.rules.Check(a.now(), request)
	if err != nil {
		return "", a.refuse(a.launches.refused(request, who, activation, problem.Of(err)), err)
	}
	t, err := a.launches.link(request, once, who, activation)
	switch {
	case problem.IsCode(err, problem.TooManyLinks):
		// Neither the last launch nor the screen is given to a flood: one notice.
		a.audit.note(refusal(problem.Of(err)))
		a.noticeFlood(problem.Of(err))
		return "", err
	case problem.IsCode(err, problem.AgentUnreachable):
		return "", err // nothing became of it here: the next agent gets it
	case err != nil:
		return "", a.refuse(a.launches.refused(request, who, activation, problem.Of(err)), err)
	}
	return t.id, nil
}

// refuse records a link that became no launch.
func (a *Agent) refuse(t *tracked, err error) error {
	p := problem.Of(err)
	record := refusal(p)
	record.RequestID = t.id
	a.audit.note(record)
	a.log.Log(context.Background(), p.Row().Level, "link refused", "id", t.id, "problem", p)
	return p
}

func (a *Agent) noticeFlood(p *problem.Problem) {
	a.mu.Lock()
	again := a.now().Sub(a.noticed) < linkWindow
	a.noticed = a.now()
	a.mu.Unlock()
	if !again {
		a.notice(p)
	}
}

// Refused implements control.Links: the handler refused a link by itself.
func (a *Agent) Refused(ctx context.Context, code problem.Code, reference string) {
	p := problem.Restore(string(code), reference, "")
	a.audit.note(refusal(p))
	a.log.Log(ctx, p.Row().Level, "link refused by the handler", "problem", p)
	a.noticeFlood(p)
}

func refusal(p *problem.Problem) audit.Record {
	return audit.Record{Outcome: audit.Refused, Code: p.Code, Reference: p.Reference}
}

// Describe implements control.Links.
func (a *Agent) Describe(p *problem.Problem) view.Problem {
	return a.describe(p)
}

func (a *Agent) describe(p *problem.Problem) view.Problem {
	words := *a.words.Load()
	sentence := words.Sentence(p.Code)
	if p.Fact != "" {
		sentence += " " + p.Fact
	}
	return view.Problem{Code: p.Code, Sentence: sentence, NextStep: words.NextStep(p.Code), Reference: p.Reference}
}

// Snapshot implements control.Views.
func (a *Agent) Snapshot() view.Snapshot { return a.board.read() }

// Watch implements control.Views.
func (a *Agent) Watch(ctx context.Context) <-chan view.Snapshot { return a.board.watch(ctx) }

// Policy implements control.Views.
func (a *Agent) Policy(context.Context) ([]byte, error) {
	a.mu.Lock()
	r := a.rooms
	a.mu.Unlock()
	if r == nil {
		return nil, problem.New(problem.PolicyMissing, nil)
	}
	out, err := json.Marshal(policy.Explain(r.policy))
	if err != nil {
		return nil, problem.New(problem.Internal, fmt.Errorf("writing policy as JSON: %w", err))
	}
	return out, nil
}

var errNothingToDo = errors.New("the intent has nothing to act on")
