// Package agent is the resident program: it builds the rooms from a policy
// snapshot, takes links and intents one after another through flow.Run, and
// publishes what can be seen.
//
// It never links a webview or a server, never keeps a one-time URL, and writes
// nothing but its log, the audit, the sealed recents, the OS keyring, the person's
// choices, the entry for the start at logon, the path of its program once the links
// came to it, a digest of the handler that it told to have taken them, and an empty
// file once somebody has signed in. Of the registrations for
// links it removes those of older copies, for this user only.
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
	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/notify"
	"encounterlauncher/internal/opener"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/scheme"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/transport"
	"encounterlauncher/internal/tray"
	"encounterlauncher/internal/view"
)

// keyringDeadline bounds one call to the OS keyring: longer than a healthy one
// takes by a thousand times (3–5 ms), shorter than a person waits.
const keyringDeadline = 4 * time.Second

// viewsAfter is how long tray and notices wait at the start: a link that started the
// agent has gone to the browser by then, and before it nobody would see them. Both make
// a connection to the session bus and many calls over it, when the keyring is asked over
// the same bus.
const viewsAfter = 250 * time.Millisecond

// Options are what main gives the agent.
type Options struct {
	Layout  paths.Layout
	Version string
	// Window starts the window's process, returns when it shows its page or cannot,
	// and delivers its end. It is called when the person asks for the window and
	// none is open.
	// It ends the process when ctx does: the window goes with the agent, unless
	// the agent only starts anew and no sign-out by policy would have to close it.
	Window func(ctx context.Context, click control.Activation) (ended <-chan error, err error)
	// Doctor examines the computer in a process of its own, passes each line that this
	// prints to line as it comes, and returns when the process has ended, which it does
	// with ctx at the latest. Nil where there is none.
	Doctor func(ctx context.Context, line func([]byte)) error
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
//
// Who holds one of its locks takes another only in this order: settings.choosing,
// undo.doing and showing, which are held while files are read; launches.mu; board.mu;
// then one of session.mu, mu, undo.mu, guard.mu, recents.mu, slow.mu and examined.mu; work.mu last.
// None but the first three, and auditOf.mu and linkKeys.mu, within which none other is
// taken, is held while a file, the keyring or the network is waited for.
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
	guard    *guard
	words    atomic.Pointer[text.Catalogue]
	tabs     flow.Tabs
	work     *work
	settings *settings
	slow     *slowWatch

	// roots are the system's certificates, read while this program starts; nil once a
	// policy has taken them. Only build uses it.
	roots transport.Roots

	quit         context.CancelFunc
	windowLife   context.Context // ends when every window has to go
	endWindow    context.CancelFunc
	wakeUp       bell // tells refreshAhead to look again
	used         bell // tells settle of what a person did
	recentsDirty bell // tells keepRecents to read them
	checks       bell // tells keepChecking of a look at the set-up
	examine      bell // tells keepExamining of the same
	examined     examined
	linksDirty   bell // tells keepLinks to look again
	eventsDirty  bell // tells followEvents to look again
	ending       bell // tells endWhenIdle that the agent was told to finish
	finished     bell // tells endWhenIdle that a launch or a piece of work is over
	undo         undo
	showing      sync.Mutex  // held from reading the recents to publishing them
	shownFor     flow.Person // whose recents the snapshot has; guarded by the board's lock

	// timer, linksTimer, endTimer and finishTimer are time.NewTimer, and eventsPause is
	// the pause itself, but for tests.
	timer       func(time.Duration) (at <-chan time.Time, stop func() bool)
	linksTimer  func(time.Duration) (at <-chan time.Time, stop func() bool)
	endTimer    func(time.Duration) (at <-chan time.Time, stop func() bool)
	finishTimer func(time.Duration) (at <-chan time.Time, stop func() bool)
	eventsPause func(time.Duration) time.Duration
	// linksLook is scheme.Look, but for tests.
	linksLook func(paths.Layout) (scheme.State, error)

	mu sync.Mutex
	// good is the newest policy that refuses no launch, rooms what the newest built.
	good    *policy.Snapshot // guarded by mu
	rooms   *rooms           // guarded by mu
	window  *windowRun       // guarded by mu: the window's process; nil for none
	signing bool             // guarded by mu: an intent to sign in waits
	met     metBackend       // guarded by mu
	// noticed is when a code of refused links was last met.
	noticed map[problem.Code]time.Time // guarded by mu
}

// Run is the agent's life: it becomes the agent of this user, or returns
// control.ErrOwned when another process is, and ends when ctx ends, a Quit
// arrives, or its own file was replaced or removed and it is idle. Where the file was
// replaced it returns ErrUpgraded and the caller re-executes.
func Run(ctx context.Context, opts Options) error {
	server, err := control.Listen(opts.Layout)
	if err != nil {
		return err
	}
	defer server.Close()
	roots := transport.BeginRoots()
	a, err := newAgent(opts)
	if err != nil {
		return err
	}
	a.roots = roots
	a.store.Prepare()
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
	a := &Agent{
		opts: opts, log: log, now: opts.Now,
		wakeUp: newBell(), used: newBell(), recentsDirty: newBell(), checks: newBell(), examine: newBell(), eventsDirty: newBell(), linksDirty: newBell(),
		ending: newBell(), finished: newBell(),
		settings: newSettings(), slow: newSlowWatch(), noticed: make(map[problem.Code]time.Time),
	}
	a.work = &work{ended: a.finished}
	a.board = newBoard(view.Snapshot{
		Version: opts.Version, Language: "en",
		Locale: "en", Hidden: []string{}, Settings: []view.Setting{},
		SignIn: view.SignIn{State: view.SignedOut}, Recents: []view.Recent{}, Policy: view.Policy{Problems: []string{}},
		Backend: view.Backend{State: view.BackendUnknown}, Link: view.Link{State: view.LinkUnknown},
	})
	a.windowLife, a.endWindow = context.WithCancel(context.Background())
	a.words.Store(new(text.Catalogue)) // take reads the one to speak
	a.store = tokenstore.New(opts.Keyring, opts.Layout.KeyringService(), opts.Layout.UserLockFile(), keyringDeadline)
	a.session = newSession(a.store, a.now, log, a.sessionChanged, a.signedIn)
	a.timer, a.linksTimer, a.eventsPause = a.session.timer, a.session.timer, func(d time.Duration) time.Duration { return d }
	a.linksLook = scheme.Look
	a.endTimer, a.finishTimer = a.session.timer, a.session.timer
	a.session.work = a.work
	a.session.wanted = func() bool { return a.launches.waiting() }
	a.launches = newLaunches(a.now, uuid.NewString, a.launchChanged)
	a.opener = opener.New(log)
	a.keys = newLinkKeys(a.store)
	a.guard = newGuard(a)
	a.recents = newRecentsOf(opts.Layout, a.store, a.now, log, a.session.who)
	a.audit = newAuditOf(opts.Layout, a.now, log, a.showPolicy)
	return a, nil
}

func (a *Agent) run(parent context.Context, server *control.Server) error {
	usual := startLightly()
	ctx, quit := context.WithCancel(parent)
	defer quit()
	a.quit = quit
	own, unknown := startedFrom()

	var others sync.WaitGroup
	policies := policy.Watch(ctx, a.opts.Layout, a.log, a.settings.look)
	a.take(<-policies)
	defer a.audit.close()

	// A link that started this agent waits. It is taken and goes its way while the audit
	// writes the start through to the disk; its own line waits for that one.
	begun := a.audit.begin()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, a) }()
	others.Go(func() { a.session.refreshAhead(ctx, a.wakeUp) })
	others.Go(begun)

	others.Go(func() {
		for p := range policies {
			a.take(p)
		}
	})
	others.Go(func() { a.launches.run(ctx, a.launch) })
	others.Go(func() { settle(ctx, a.used, usual) })
	others.Go(func() { a.keepRecents(ctx) })
	others.Go(func() { a.keepChecking(ctx) })
	others.Go(func() { a.keepExamining(ctx) })
	others.Go(func() { a.keepAutostart(ctx) })
	others.Go(func() { a.keepLinks(ctx) })
	others.Go(a.lookWhetherFirst)
	others.Go(func() { a.guard.run(ctx) })
	others.Go(func() { a.keepTime(ctx) })
	others.Go(func() { a.followEvents(ctx) })
	others.Go(func() { a.endWhenIdle(ctx) })
	// Tray and notices end last: the tray closes the connection to the session bus
	// over which the keyring is reached.
	viewing, endViews := context.WithCancel(context.WithoutCancel(parent))
	defer endViews()
	var views sync.WaitGroup
	if !a.opts.Headless {
		views.Go(func() {
			if !rest(viewing, nil, viewsAfter) {
				return
			}
			if err := tray.Run(viewing, a.board.watch(viewing), viewDo{a}, tray.Options{ID: a.opts.Layout.Name, Now: a.now, Log: a.log}); err != nil {
				a.log.Info("no tray", "reason", err.Error())
			}
		})
		views.Go(func() {
			if !rest(viewing, nil, viewsAfter) {
				return
			}
			if err := notify.Run(viewing, a.board.watch(viewing), viewDo{a}, notify.Options{ID: a.opts.Layout.Name, Log: a.log}); err != nil {
				a.log.Info("no notices", "reason", err.Error())
			}
		})
	}
	upgraded := make(chan struct{})
	others.Go(func() {
		if unknown != nil {
			a.log.Warn("upgrades will not be noticed", "problem", problem.New(problem.Internal, unknown))
			return
		}
		switch watchUpgrade(ctx, a.log, own, a.idle, a.stopIfIdle) {
		case replaced:
			close(upgraded)
		case removed:
			quit()
		}
	})

	var err error
	select {
	case <-ctx.Done():
	case <-upgraded:
		err = ErrUpgraded
	case err = <-served:
	}
	late, stopLate := a.endTimer(endPatience)
	defer stopLate()
	a.launches.stop()
	quit()
	if !a.leavesWindow(err) {
		a.endWindow()
		defer a.windowGone()
	}
	server.Close() // from here on nothing comes from outside
	a.cancelLaunches()
	a.session.cancelSignIn()
	a.finish(late)
	others.Wait()
	endViews()
	views.Wait()
	a.audit.note(audit.Record{Outcome: audit.Stopped})
	return err
}

// idle reports whether nothing would be lost if the agent started anew: no launch,
// no sign-in page, no token on its way into the keyring.
func (a *Agent) idle() bool { return a.launches.idle() && a.work.idle() }

// stopIfIdle is idle, and ends the taking of links where it is true.
func (a *Agent) stopIfIdle() bool { return a.work.idle() && a.launches.stopIfIdle() }

// endWhenIdle ends the agent that was told to finish, once nothing is in flight or
// finishPatience is over. What comes meanwhile is taken: the next agent could be
// started only after this one's end.
func (a *Agent) endWhenIdle(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-a.ending:
	}
	defer a.quit()
	late, stop := a.finishTimer(finishPatience)
	defer stop()
	for !a.stopIfIdle() {
		select {
		case <-ctx.Done():
			return
		case <-a.finished:
		case <-late:
			a.log.Info("ending as told, although something is in flight")
			return
		}
	}
}

// finish waits until nothing is under way that the end would tear: a rotated
// token that is not stored yet, half a sign-out.
func (a *Agent) finish(late <-chan time.Time) {
	select {
	case <-a.work.close():
	case <-late:
		a.log.Warn("ending although the keyring or the sign-in service does not answer")
	}
}

// cancelLaunches ends the running launch and those that wait.
func (a *Agent) cancelLaunches() {
	for _, t := range a.launches.cancelAll() {
		a.neverRan(t)
	}
}

// neverRan records a launch that ended before its turn.
func (a *Agent) neverRan(t *tracked) {
	a.audit.Record(context.Background(), t.launch, flow.Outcome{}, t.problem)
	a.log.Info("launch ended", "id", t.id, "problem", t.problem)
}

// wasUsed has settle give back, some time from now, what was just used.
func (a *Agent) wasUsed() {
	a.used.ring()
}

// launch is the step of the queue: one launch through flow.Run.
func (a *Agent) launch(ctx context.Context, t *tracked, at func(view.Stage)) (flow.Outcome, error) {
	a.wasUsed()
	r, err := a.ready()
	if err == nil {
		err = a.judged(r, t)
	}
	if err != nil {
		a.audit.Record(ctx, t.launch, flow.Outcome{}, err)
		a.ended(ctx, t, err)
		return flow.Outcome{}, err
	}
	org := &orgOf{client: r.org, keys: a.keys}
	steps := flow.Steps{
		Tokens: tokensFor{a.session, wish{arrived: t.startedAt, held: true, binding: r.id.binding, click: t.launch.Click}},
		Org:    org, Opener: openerOf{a.opener}, Recents: a.recents, Audit: a.audit,
		Tabs: &a.tabs, Now: a.now,
		Warn: func(what string, err error) { a.log.Warn(what, "problem", problem.Of(err)) },
	}
	out, err := flow.Run(ctx, steps, t.launch, func(s flow.Stage) { at(view.Stage(s)) })
	out.Encounter.Label = labelFor(r.policy.RecentsLabel, out.Encounter.Label)
	if org.asked {
		a.backendMet(org.outcome)
	}
	if err == nil {
		a.showRecents()
		a.log.Info("launch opened", "id", t.id, "dropped", out.Dropped, "ms", a.launches.took(t))
	} else {
		a.ended(ctx, t, err)
	}
	return out, err
}

func (a *Agent) ended(ctx context.Context, t *tracked, err error) {
	p := problem.Of(err)
	a.log.Log(ctx, p.Row().Level, "launch ended", "id", t.id, "problem", p, "ms", a.launches.took(t))
}

// judged makes sure that the rules in force have checked the request: a retry,
// and a link that policy refused before, come here without.
func (a *Agent) judged(r *rooms, t *tracked) error {
	if t.launch.Request == nil || t.judge == any(r) {
		return nil
	}
	once, err := r.rules.Check(a.now(), *t.launch.Request)
	if err != nil {
		return err
	}
	return a.launches.spendLate(t, once)
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
	refuse := func(err error) (string, error) {
		return "", a.refuse(request, who, activation, problem.Of(err))
	}
	r, err := a.ready()
	if err != nil {
		return refuse(err)
	}
	once, err := r.rules.Check(a.now(), request)
	if err != nil {
		return refuse(err)
	}
	t, err := a.launches.link(request, once, who, activation, r)
	switch {
	case problem.IsCode(err, problem.TooManyLinks):
		return "", a.flood(who, problem.Of(err))
	case problem.IsCode(err, problem.AgentUnreachable):
		return "", err // nothing became of it here: the next agent gets it
	case err != nil:
		return refuse(err)
	}
	a.guard.use()
	return t.id, nil
}

// refuse records a link that became no launch, and returns the problem to answer
// with.
func (a *Agent) refuse(r launch.Request, who flow.Person, click control.Activation, p *problem.Problem) error {
	t, err := a.launches.refused(r, who, click, p)
	if err != nil {
		return a.flood(who, problem.Of(err))
	}
	record := refusal(p)
	record.RequestID, record.Person = t.id, personName(who)
	a.audit.note(record)
	a.log.Log(context.Background(), p.Row().Level, "link refused", "id", t.id, "problem", p)
	return p
}

// flood records one link too many. Neither the last launch nor the screen is
// given to a flood: one notice and one line in the log.
func (a *Agent) flood(who flow.Person, p *problem.Problem) error {
	record := refusal(p)
	record.Person = personName(who)
	a.audit.note(record)
	a.once(p, "too many links")
	return p
}

// once logs and notices a problem of links, but not again while it goes on.
func (a *Agent) once(p *problem.Problem, what string) {
	a.mu.Lock()
	now, before := a.now(), a.noticed[p.Code]
	again := now.Sub(before) < linkWindow && !now.Before(before)
	a.noticed[p.Code] = now
	a.mu.Unlock()
	if !again {
		a.log.Log(context.Background(), p.Row().Level, what, "problem", p)
		a.notice(p)
	}
}

// Refused implements control.Links: the handler refused a link by itself.
func (a *Agent) Refused(_ context.Context, code problem.Code, reference string) {
	p := problem.Restore(string(code), reference, "")
	a.audit.note(refusal(p))
	if code == problem.RequestInvalid {
		return // a mistyped command: whoever typed it has been told in the terminal
	}
	a.once(p, "link refused")
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
	return view.Problem{Code: p.Code, Sentence: words.Told(p), NextStep: words.NextStep(p.Code), Reference: p.Reference}
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
