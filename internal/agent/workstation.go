package agent

import (
	"context"
	"sync"
	"time"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/recents"
	seat "encounterlauncher/internal/session"
	"encounterlauncher/internal/view"
)

const (
	// endWarning is how long before a sign-in's end people are told.
	endWarning = 5 * time.Minute
	// idleWarning is how long before a sign-out for want of input people are told;
	// with very few minutes, half of them.
	idleWarning = time.Minute
	// unseenLock is after how long without input, or without anything opened here, a
	// person is signed out where policy wants that on a lock and nobody would tell of
	// one.
	unseenLock = 15 * time.Minute
	// pageTime bounds finding out where the issuer's session ends, and opening it.
	pageTime = 10 * time.Second
)

// rules are what policy says of a workstation.
type rules struct {
	shared bool
	// onLock signs out on a lock, a switch and a disconnect.
	onLock bool
	// idle is after how long without input; 0 is never.
	idle time.Duration
}

func rulesOf(p policy.Snapshot) rules {
	return rules{shared: p.SharedWorkstation, onLock: p.SignOutOnLock || p.SharedWorkstation, idle: p.IdleSignOut}
}

func (r rules) seen() view.Workstation {
	return view.Workstation{Shared: r.shared, SignOutOnLock: r.onLock, IdleSignOutMinutes: int(r.idle / time.Minute)}
}

// rules are those in force; they hold also while policy refuses launches.
func (a *Agent) rules() rules {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rooms == nil {
		return rules{}
	}
	return rulesOf(a.rooms.policy)
}

// guard signs out when policy wants it: on what happens to the person's session on
// this computer, after a time without input, at the end of a sign-in.
type guard struct {
	agent   *Agent
	watcher *seat.Watcher
	events  chan seat.Event
	wake    bell
	// timer is time.NewTimer, but for tests.
	timer func(time.Duration) (at <-chan time.Time, stop func() bool)

	mu      sync.Mutex
	used    time.Time    // guarded by mu: when somebody last asked for something here
	blind   seat.Sources // guarded by mu: what policy wants and nobody tells
	unaware bool         // guarded by mu: nobody tells how long there was no input
	watched bool         // guarded by mu: it is known who tells

	// What follows belongs to the goroutine of run.

	watching bool
	known    bool         // sources were told
	sources  seat.Sources // who tells
	locked   bool
	away     bool
	last     flow.Person // who was signed in at the last look
	wiped    bool        // files of a time before this computer was shared are gone
	marks    [2]time.Duration
	idleEnds time.Time // when the person is signed out unless there is input; zero for no warning
	warned   time.Time // the end of which people were told; zero for none
	untold   bool      // somebody was signed out behind a lock
}

func newGuard(a *Agent) *guard {
	return &guard{
		agent: a, watcher: seat.New(a.log), events: make(chan seat.Event), wake: newBell(), timer: a.session.timer,
	}
}

// look has the guard consider anew who is signed in and what policy says. It may be
// called with any lock but the guard's held.
func (g *guard) look() {
	g.wake.ring()
}

// use notes that a person has asked for something. Where that is all that tells of
// somebody being here, it takes back a warning.
func (g *guard) use() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used = g.agent.now().Round(0) // without the reading that stands still in sleep
	if g.unaware {
		g.look()
	}
}

func (g *guard) lastUse() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.used
}

// run guards until ctx ends. The session is watched from the moment on that policy
// wants something of it: nobody else pays for it.
func (g *guard) run(ctx context.Context) {
	var watcher sync.WaitGroup
	defer watcher.Wait()
	for {
		r := g.agent.rules()
		if !g.watching && (r.onLock || r.idle > 0) {
			g.watching = true
			watcher.Go(func() {
				g.watcher.Run(ctx, func(e seat.Event) {
					select {
					case g.events <- e:
					case <-ctx.Done():
					}
				})
			})
		}
		pause := g.consider(r)
		due, stop := g.timer(pause)
		select {
		case <-ctx.Done():
			stop()
			return
		case e := <-g.events:
			g.happened(e, g.agent.rules())
		case <-g.wake:
		case <-due:
		}
		stop()
	}
}

// limits are after how long without input, or, with byUse, without anything opened
// here, the person is signed out; 0 is never.
func (g *guard) limits(r rules) (limit time.Duration, byUse bool) {
	limit = r.idle
	if r.onLock && g.known && !g.sources.Lock && (limit == 0 || limit > unseenLock) {
		limit = unseenLock
	}
	return limit, g.known && !g.sources.Idle
}

func warningBefore(limit time.Duration) time.Duration { return min(idleWarning, limit/2) }

// consider acts on what is due and returns how long the next look may wait.
func (g *guard) consider(r rules) time.Duration {
	a := g.agent
	a.session.mu.Lock()
	who, ends := a.session.person, a.session.endsAt()
	a.session.mu.Unlock()
	now := a.now().Round(0)
	g.findBlind(r)
	if r.shared && !g.wiped {
		g.wiped = true
		_ = a.wipeFiles() // it has said so in the log
	}
	if !r.shared {
		g.wiped = false
	}
	if who != g.last {
		g.turned(r, who)
	}
	if who.Subject == "" {
		g.mark(0)
		g.warn(time.Time{})
		return time.Hour
	}
	if !ends.IsZero() && !now.Before(ends) {
		g.signOut(r, audit.SignedOutAge)
		return 0
	}
	limit, byUse := g.limits(r)
	switch {
	case limit == 0:
		g.mark(0)
		g.idleEnds = time.Time{}
	case byUse:
		g.mark(0)
		end := g.lastUse().Add(limit)
		if !now.Before(end) {
			g.signOut(r, audit.SignedOutIdle)
			return 0
		}
		g.idleEnds = time.Time{}
		if now.Before(end.Add(-warningBefore(limit))) {
			return g.plan(now, ends, end.Add(-warningBefore(limit)))
		}
		g.idleEnds = end
	default:
		g.mark(limit)
	}
	return g.plan(now, ends, g.idleEnds)
}

// turned is told that somebody else is signed in, or nobody any more.
func (g *guard) turned(r rules, who flow.Person) {
	a := g.agent
	if r.shared && g.last.Subject != "" {
		// However the sign-in of the one before ended: a launch that runs now may be
		// the next person's.
		a.forgetLaunches(false)
		a.recents.forget(g.last)
	}
	if g.last = who; who.Subject != "" {
		g.use()
		g.untold = false
		a.untell(view.NoticeSignedOut)
	}
	g.idleEnds = time.Time{}
	g.mark(0)
}

// plan tells people of an end that is near, and returns how long until something
// may be due.
func (g *guard) plan(now, ends, next time.Time) time.Duration {
	soon := g.idleEnds
	wait := time.Hour
	if !ends.IsZero() {
		wait = min(wait, ends.Sub(now))
		if begin := ends.Add(-endWarning); now.Before(begin) {
			wait = min(wait, begin.Sub(now))
		} else if soon.IsZero() || ends.Before(soon) {
			soon = ends
		}
	}
	if next.After(now) {
		wait = min(wait, next.Sub(now))
	}
	g.warn(soon)
	return max(wait, time.Millisecond)
}

// mark asks the watcher for what is wanted of idle time; 0 is nothing.
func (g *guard) mark(limit time.Duration) {
	marks := [2]time.Duration{limit - warningBefore(limit), limit}
	if marks == g.marks {
		return
	}
	if g.marks = marks; limit == 0 {
		g.watcher.Marks()
		return
	}
	g.watcher.Marks(marks[:]...)
}

// happened acts on what became of the person's session.
func (g *guard) happened(e seat.Event, r rules) {
	switch e.Kind {
	case seat.Locked:
		g.locked = true
		if r.onLock {
			g.signOut(r, audit.SignedOutLocked)
		}
	case seat.SwitchedAway:
		g.away = true
		if r.onLock {
			g.signOut(r, audit.SignedOutSwitched)
		}
	case seat.Disconnected:
		g.away = true
		if r.onLock {
			g.signOut(r, audit.SignedOutDisconnected)
		}
	case seat.Unlocked:
		g.locked = false
	case seat.SwitchedBack:
		g.away = false
	case seat.Idle:
		limit, _ := g.limits(r)
		switch {
		case limit == 0 || g.last.Subject == "":
		case e.Idle >= limit:
			g.signOut(r, audit.SignedOutIdle)
		default:
			g.idleEnds = g.agent.now().Round(0).Add(limit - e.Idle)
		}
	case seat.Active:
		g.idleEnds = time.Time{}
	case seat.Watched:
		g.known, g.sources = true, e.Watched
	}
	if g.untold && !g.locked && !g.away {
		g.untold = false
		g.agent.noticeOf(view.NoticeSignedOut, nil)
	}
}

// findBlind keeps what policy wants and nobody would tell.
func (g *guard) findBlind(r rules) {
	blind := seat.Sources{}
	if g.known {
		blind = seat.Sources{Lock: r.onLock && !g.sources.Lock, Idle: r.idle > 0 && !g.sources.Idle}
	}
	g.mu.Lock()
	changed := blind != g.blind
	g.blind = blind
	g.watched = g.known
	g.unaware = g.known && !g.sources.Idle
	g.mu.Unlock()
	if changed {
		g.agent.showPolicy()
	}
}

// What findings says. They stand among the findings of policy, which are English.
const (
	lockUnseen   = "SignOutOnLock: nothing on this computer tells that the screen is locked, so people are signed out after 15 minutes without input instead."
	lockUnseenBy = "SignOutOnLock: nothing on this computer tells that the screen is locked, so people are signed out after 15 minutes in which nothing is opened here."
	idleUnseen   = "IdleSignOutMinutes: nothing on this computer tells how long there was no input, so the minutes in which nothing is opened here count instead."
)

// findings are what policy wants and this computer does not let be seen.
func (g *guard) findings() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	switch {
	case g.blind.Lock && g.unaware:
		all = append(all, lockUnseenBy)
	case g.blind.Lock:
		all = append(all, lockUnseen)
	}
	if g.blind.Idle {
		all = append(all, idleUnseen)
	}
	return all
}

// warn has people told that the sign-in ends at a moment, and takes that away again
// when it does not.
func (g *guard) warn(ends time.Time) {
	if ends.Equal(g.warned) || g.locked || g.away {
		return
	}
	g.warned = ends
	if ends.IsZero() {
		g.agent.untell(view.NoticeSignInEnds)
		return
	}
	g.agent.noticeOf(view.NoticeSignInEnds, &ends)
}

// noticeOf tells something that is no problem.
func (a *Agent) noticeOf(kind string, at *time.Time) {
	a.board.change(func(s *view.Snapshot) {
		a.tell(s, view.Notice{Kind: kind, At: at, Actions: []string{view.ActionSignIn, view.ActionOpenWindow}})
	})
}

// signOut signs the person out at once; why is the outcome of the audit's line. All
// that can be seen or used of them here is gone when it returns; what takes the network
// or the keyring goes on behind. Nothing says who it was to whoever comes next.
func (g *guard) signOut(r rules, why string) {
	a := g.agent
	waiting := a.launches.cancelAll() // before anything else: no launch opens after this
	forget := a.session.end
	if why == audit.SignedOutAge {
		forget = a.session.outgrow // who was told that the sign-in ends may be signing in again
	}
	left := a.session.depart(forget)
	waiting = append(waiting, a.launches.cancelAll()...) // what came in between
	for _, t := range waiting {
		t.mute(a.launches)
	}
	a.closeWindow()
	if r.shared {
		a.recents.forget(left.person)
	}
	g.warned, g.idleEnds, g.last = time.Time{}, time.Time{}, flow.Person{}
	g.mark(0)
	a.forgetLaunches(true)
	a.board.change(func(s *view.Snapshot) { s.Notice, s.Undo, s.Recents = nil, nil, []view.Recent{} })
	if left.person.Subject != "" {
		if g.locked || g.away {
			g.untold = true // a notice on a locked screen would tell others that somebody was here
		} else {
			a.noticeOf(view.NoticeSignedOut, nil)
		}
	}
	begun := a.work.begin() == nil
	go func() {
		if begun {
			defer a.work.end()
		}
		ctx, cancel := context.WithTimeout(context.Background(), lockTime)
		defer cancel()
		if r.shared {
			_ = a.wipeFiles() // it has said so in the log
			// At once and not after the unlocking: the browser's cookies must be gone
			// before the next person is at the screen. The page opens behind the lock and
			// is the issuer's; it is not opened on a person's own computer, where the
			// browser is that person's too.
			a.endIssuersSession(left)
		}
		for _, t := range waiting {
			a.neverRan(t)
		}
		if left.person.Subject != "" {
			a.audit.note(audit.Record{Outcome: why, Person: personName(left.person)})
		}
		if left.person.Subject == "" {
			return // what may be stored is deleted before it is used; the keyring is not woken for it
		}
		if err := a.session.finish(ctx, left, why == audit.SignedOutAge); err != nil {
			a.log.Warn("signing out by policy; what is stored is deleted before it is used again", "problem", problem.Of(err))
		}
	}()
}

// mute has a launch that never ran leave nothing to be seen.
func (t *tracked) mute(q *launches) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t.unseen = true
}

// leaveNothing wipes what is left of whoever was signed in, in memory and on disk,
// what can be seen of them first.
func (a *Agent) leaveNothing(ctx context.Context) error {
	a.forgetLaunches(true)
	a.board.change(func(s *view.Snapshot) { s.Notice, s.Undo, s.Recents = nil, nil, []view.Recent{} })
	ctx, cancel := context.WithTimeout(ctx, recentsTime)
	defer cancel()
	a.recents.wipe(ctx)
	return a.wipeFiles()
}

// forgetLaunches leaves nothing of the launches that have ended, and with running of
// the one that runs, in memory or in the snapshot.
func (a *Agent) forgetLaunches(running bool) {
	a.launches.leaveNothing(running)
	a.tabs.Forget()
	a.launchChanged(nil)
}

// wipeFiles removes the recents of everybody from the disk. On a shared computer only
// a time before it was shared can have left any.
func (a *Agent) wipeFiles() error {
	err := recents.WipeAll(a.opts.Layout.RecentsDir())
	if err == nil {
		return nil
	}
	p := problem.New(problem.Internal, err)
	a.log.Warn("wiping the recents", "problem", p)
	return p
}

// endIssuersSession opens the page that ends the issuer's session in the person's
// browser, where the issuer has one and somebody was signed in.
func (a *Agent) endIssuersSession(left departed) {
	if left.person.Subject == "" || left.id == nil || a.work.begin() != nil {
		return
	}
	go func() {
		defer a.work.end()
		ctx, cancel := context.WithTimeout(context.Background(), pageTime)
		defer cancel()
		page, found, err := left.id.client.EndSession(ctx, left.idToken)
		if err == nil && found {
			err = left.id.show(ctx, page, nil)
		}
		if err != nil {
			a.log.Warn("the session at the sign-in service could not be ended in the browser", "problem", problem.Of(err))
		}
	}()
}
