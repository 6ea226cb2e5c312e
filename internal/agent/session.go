package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
	"encounterlauncher/internal/signin"
	"encounterlauncher/internal/tokenstore"
)

const (
	// usable is how much life an access token must still have to be used: the
	// length of one call with its retries (design §6: 15 s).
	usable = 20 * time.Second
	// holdRequest is how long a request waits for somebody to sign in.
	holdRequest = 5 * time.Minute
	// refreshRetry is the pause after a refresh that failed for the network.
	refreshRetry = 30 * time.Second
	// pageLife is how long a sign-in page may stay open: longer than any one request
	// waits, because requests that come later join it with an age of their own.
	pageLife = 2 * holdRequest
	// refreshTime bounds a refresh: the wait for another session of the person, two
	// turns of the keyring, one call to the issuer.
	refreshTime = 40 * time.Second
	// lockTime bounds a sign-out's wait for another session of the person.
	lockTime = 15 * time.Second
	// lockedRest is the pause while the keyring is locked: only a click may make
	// the system ask for its password.
	lockedRest = time.Hour
)

// identity is what policy says of sign-in; a change of binding signs out.
type identity struct {
	client *signin.Client
	// issuer and clientID must be those of a stored entry.
	issuer, clientID string
	// binding names the whole of BackendURL and OIDC*: a token that was obtained
	// under another one is not used.
	binding string
	// memoryOnly keeps tokens out of the keyring (shared workstation).
	memoryOnly bool
	// maxAge is how old a sign-in may be; 0 for any age.
	maxAge time.Duration
	// show opens the sign-in page, with the person's click.
	show func(ctx context.Context, page signin.Page, click any) error
	// ahead opens the connection to the backend before the first launch asks for it;
	// may be nil.
	ahead func(ctx context.Context)
	// left forgets, without waiting for anything, what the person has lent to the
	// network; may be nil.
	left func()
}

// session is the one person signed in at this agent. It implements flow.Tokens.
// The access token lives here and nowhere else; the refresh token lives in the
// keyring, and here only where there is no keyring.
type session struct {
	store *tokenstore.Store
	now   func() time.Time
	log   *slog.Logger
	// changed is called without the lock when what people see has changed.
	changed func()
	// signedIn is called without the lock once for every sign-in that went well,
	// whether a person or a link had asked for it, before anything goes on with it.
	signedIn func(flow.Person)
	// wanted says whether requests wait that will need the sign-in page.
	wanted func() bool
	// timer is time.NewTimer, but for tests.
	timer func(time.Duration) (at <-chan time.Time, stop func() bool)
	// work is told of what the agent's end must wait for.
	work *work

	// read is closed once the keyring was asked for the sign-in for the first time.
	read   chan struct{}
	looked sync.Once

	mu       sync.Mutex
	id       *identity        // guarded by mu; nil until policy is good
	person   flow.Person      // guarded by mu; zero when signed out
	access   secret.Text      // guarded by mu
	expiry   time.Time        // guarded by mu
	ahead    time.Time        // guarded by mu: when to refresh, before the expiry
	authTime time.Time        // guarded by mu
	memory   secret.Text      // guarded by mu: the refresh token where it is not stored
	idToken  secret.Text      // guarded by mu: the newest one, for the issuer's end of session; never stored
	owed     bool             // guarded by mu: what is stored is to be deleted before it is used again
	inMemory bool             // guarded by mu: this sign-in is not stored
	dead     uint64           // guarded by mu: generation that the issuer refused
	keyring  problem.Code     // guarded by mu: what is wrong with the keyring, or empty
	failure  *problem.Problem // guarded by mu: why the last sign-in did not work
	attempt  *attempt         // guarded by mu: the sign-in page that is open
	renewal  *renewal         // guarded by mu: the refresh that is under way
	restored string           // guarded by mu: the binding for which restore has looked
	// epoch grows with every sign-in, sign-out and change of binding. What was
	// begun in another epoch is not adopted any more.
	epoch uint64 // guarded by mu
}

// renewal is one refresh under way and its result.
type renewal struct {
	done    chan struct{}
	binding string
	session flow.Session
	err     error
}

// attempt is one open sign-in page and those who wait for it.
type attempt struct {
	done    chan struct{}
	cancel  context.CancelFunc
	binding string
	epoch   uint64 // guarded by session.mu
	waiting int    // guarded by session.mu
	closing bool   // guarded by session.mu: cancelled, and not yet gone
	// shown is the page while it waits in the browser; nil before and after.
	shown    *shown // guarded by session.mu
	answered bool   // guarded by session.mu: the page does not wait any more
	session  flow.Session
	err      error
}

// wish is why somebody waits for a sign-in.
type wish struct {
	// arrived is when the wait began: that of a request, not of its turn.
	arrived time.Time
	// held says that a launch waits, for which any usable sign-in does.
	held bool
	// binding is the configuration that the sign-in must be for; empty for any.
	binding string
	click   any
}

func newSession(store *tokenstore.Store, now func() time.Time, log *slog.Logger, changed func(), signedIn func(flow.Person)) *session {
	return &session{
		store: store, now: now, log: log, changed: changed, work: new(work),
		signedIn: signedIn, wanted: func() bool { return false }, read: make(chan struct{}),
		timer: func(d time.Duration) (<-chan time.Time, func() bool) {
			t := time.NewTimer(d)
			return t.C, t.Stop
		},
	}
}

// use takes what policy now says. A change of binding forgets the person.
func (s *session) use(id *identity) {
	s.mu.Lock()
	before := s.id
	s.id = id
	changed := before != nil && (id == nil || before.binding != id.binding)
	if changed {
		s.end()
	}
	s.mu.Unlock()
	if changed {
		s.changed()
	}
}

// forget drops what this process knows of the person; the caller holds mu.
func (s *session) forget() {
	s.person, s.access, s.memory, s.inMemory = flow.Person{}, secret.Text{}, secret.Text{}, false
	s.expiry, s.authTime, s.idToken = time.Time{}, time.Time{}, secret.Text{}
}

// end forgets the person and everything that is being done for them; the caller
// holds mu.
func (s *session) end() {
	s.epoch++
	s.forget()
	s.failure = nil
	s.closeAttempt()
}

// outgrow is end for a sign-in that has become too old: a page that waits for
// somebody to sign in again is what comes next, and stays. The caller holds mu.
func (s *session) outgrow() {
	s.epoch++
	s.forget()
	s.failure = nil
	if s.attempt != nil && !s.attempt.closing {
		s.attempt.epoch = s.epoch
	}
}

// closeAttempt closes the sign-in page, if there is one; the caller holds mu.
func (s *session) closeAttempt() bool {
	if s.attempt == nil || s.attempt.closing {
		return false
	}
	s.attempt.closing = true
	s.attempt.cancel()
	return true
}

// who returns the person signed in, zero for nobody.
func (s *session) who() flow.Person {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.person
}

// restore takes up the sign-in from before, once for each configuration. Who that
// is shows as soon as the keyring has said it, before the issuer is asked.
func (s *session) restore(ctx context.Context) {
	s.mu.Lock()
	id := s.id
	if id == nil || id.memoryOnly || s.restored == id.binding || s.person.Subject != "" {
		s.mu.Unlock()
		return
	}
	s.restored = id.binding
	s.mu.Unlock()
	_, err := s.refresh(ctx, secret.Text{}, "")
	if err != nil && ctx.Err() == nil && !problem.IsCode(err, problem.SigninNeeded) {
		s.log.Warn("taking up the sign-in from before", "problem", problem.Of(err))
	}
	s.changed()
}

func (id *identity) owns(e tokenstore.Entry) bool {
	return e.Issuer == id.issuer && e.ClientID == id.clientID && e.Binding == id.binding
}

// noteKeyring remembers what the keyring said; the caller holds mu.
func (s *session) noteKeyring(err error) {
	switch code := problem.CodeOf(err); code {
	case "", problem.KeyringLocked, problem.KeyringUnavailable, problem.KeyringCorrupt:
		s.keyring = code
	}
}

// Access implements flow.Tokens. On the warm path it only looks at memory.
func (s *session) Access(ctx context.Context) (flow.Session, error) {
	return s.refresh(ctx, secret.Text{}, "")
}

// Renew implements flow.Tokens.
func (s *session) Renew(ctx context.Context, refused flow.Session) (flow.Session, error) {
	return s.refresh(ctx, refused.Token, "")
}

// tokensFor is flow.Tokens for one launch: it knows when the launch arrived and
// gives no token but for the backend that the launch goes to.
type tokensFor struct {
	session *session
	wish    wish
}

// Access implements flow.Tokens.
func (t tokensFor) Access(ctx context.Context) (flow.Session, error) {
	return t.session.refresh(ctx, secret.Text{}, t.wish.binding)
}

// Renew implements flow.Tokens.
func (t tokensFor) Renew(ctx context.Context, refused flow.Session) (flow.Session, error) {
	return t.session.refresh(ctx, refused.Token, t.wish.binding)
}

// SignIn implements flow.Tokens.
func (t tokensFor) SignIn(ctx context.Context) (flow.Session, error) {
	return t.session.signIn(ctx, t.wish)
}

func policyChanged() error {
	return problem.With(problem.SigninFailed, "The organisation's policy changed meanwhile.", nil)
}

// warm returns the session in memory when its token is usable, is for the wanted
// configuration and is not the one that was refused. The caller holds mu.
func (s *session) warm(refused secret.Text, binding string) (flow.Session, bool) {
	if s.id == nil || s.access.Empty() || !refused.Empty() && s.access.Equal(refused) ||
		s.expiry.Sub(s.now()) < usable || s.tooOld(s.id, s.authTime) || binding != "" && binding != s.id.binding {
		return flow.Session{}, false
	}
	return flow.Session{Person: s.person, Token: s.access}, true
}

func (s *session) tooOld(id *identity, authTime time.Time) bool {
	return id.maxAge > 0 && !authTime.IsZero() && s.now().Sub(authTime) > id.maxAge
}

// refresh returns the warm session, or obtains a new access token; those who ask
// meanwhile share it. Who waits may leave with ctx, but the exchange goes on: the
// issuer may have turned the old token off already, and then the new one must be
// kept.
func (s *session) refresh(ctx context.Context, refused secret.Text, binding string) (flow.Session, error) {
	got, joined, err := s.refreshOnce(ctx, refused, binding)
	if joined && problem.IsCode(err, problem.OrgUnreachable) && ctx.Err() == nil {
		// That one began before this was asked for, and the network may be back since.
		got, _, err = s.refreshOnce(ctx, refused, binding)
	}
	return got, err
}

// refreshOnce is refresh without a second try; joined says that the exchange was
// under way already.
func (s *session) refreshOnce(ctx context.Context, refused secret.Text, binding string) (got flow.Session, joined bool, err error) {
	s.mu.Lock()
	if warm, ok := s.warm(refused, binding); ok {
		s.mu.Unlock()
		return warm, false, nil
	}
	r := s.renewal
	joined = r != nil
	if r == nil {
		id := s.id
		if id == nil {
			s.mu.Unlock()
			return flow.Session{}, false, problem.New(problem.PolicyMissing, nil)
		}
		if err := s.work.begin(); err != nil {
			s.mu.Unlock()
			return flow.Session{}, false, err
		}
		r = &renewal{done: make(chan struct{}), binding: id.binding}
		s.renewal = r
		go s.renew(r, id, s.epoch)
	}
	s.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return flow.Session{}, joined, problem.New(problem.Cancelled, ctx.Err())
	}
	if binding != "" && binding != r.binding {
		return flow.Session{}, joined, policyChanged()
	}
	return r.session, joined, r.err
}

func (s *session) renew(r *renewal, id *identity, epoch uint64) {
	defer s.work.end()
	ctx, cancel := context.WithTimeout(context.Background(), refreshTime)
	defer cancel()
	s.mu.Lock()
	inMemory := s.inMemory || id.memoryOnly
	s.mu.Unlock()
	var later func()
	if inMemory {
		r.session, r.err = s.refreshMemory(ctx, id, epoch)
	} else {
		r.session, later, r.err = s.refreshStored(ctx, id, epoch)
	}
	if r.err != nil {
		s.changed() // before the launch that waits fails: who that was for is known by now
	}
	s.mu.Lock()
	s.renewal = nil
	s.mu.Unlock()
	close(r.done)
	if later != nil {
		later()
	}
}

func (s *session) refreshMemory(ctx context.Context, id *identity, epoch uint64) (flow.Session, error) {
	s.mu.Lock()
	token, person, authTime := s.memory, s.person, s.authTime
	s.mu.Unlock()
	if token.Empty() || s.tooOld(id, authTime) {
		return flow.Session{}, s.signedOut(epoch, problem.New(problem.SigninNeeded, nil))
	}
	grant, err := id.client.Refresh(ctx, token)
	if err == nil {
		err = samePerson(grant, person)
	}
	if problem.IsCode(err, problem.SigninNeeded) {
		return flow.Session{}, s.signedOut(epoch, err)
	}
	if err != nil {
		s.mu.Lock()
		if s.epoch == epoch && !grant.Refresh.Empty() {
			s.memory = grant.Refresh
		}
		s.mu.Unlock()
		return flow.Session{}, err
	}
	session, err := s.adopt(epoch, person, grant, authTime, true)
	s.changed()
	return session, err
}

// samePerson makes sure that a refreshed sign-in is still that of the person who
// signed in (OpenID Connect Core §12.2: the sub must be the same).
func samePerson(g signin.Grant, p flow.Person) error {
	if g.Subject != "" && g.Subject != p.Subject {
		return problem.New(problem.SigninNeeded, errors.New("refreshing returned another person"))
	}
	return nil
}

// refreshStored refreshes with the newest stored token under the per-user lock,
// and returns what is left to do once those who wait have their token. Two agents of
// one person would else present a rotated token twice and be taken for a thief (RFC
// 9700 §4.14.2).
func (s *session) refreshStored(ctx context.Context, id *identity, epoch uint64) (session flow.Session, later func(), err error) {
	s.mu.Lock()
	cold := s.access.Empty()
	s.mu.Unlock()
	go func() { // while the keyring is read and the issuer asked
		id.client.Prepare(ctx)
		if cold && id.ahead != nil {
			id.ahead(ctx)
		}
	}()
	unlock, err := s.store.Lock(ctx)
	if err != nil {
		return flow.Session{}, nil, err
	}
	defer func() { unlock() }()
	entry, found, err := s.store.Load(ctx)
	s.mu.Lock()
	s.noteKeyring(err)
	dead, owed := s.dead, s.owed
	if err == nil && found && !owed && s.epoch == epoch && id.owns(entry) && !s.tooOld(id, entry.AuthTime) && entry.Generation != dead && s.person.Subject == "" {
		s.person = flow.Person{Issuer: entry.Issuer, Subject: entry.Subject, Email: entry.Email}
		s.authTime = entry.AuthTime
	}
	s.mu.Unlock()
	s.looked.Do(func() { close(s.read) })
	if problem.IsCode(err, problem.KeyringUnavailable) {
		return flow.Session{}, nil, s.signedOut(epoch, problem.New(problem.SigninNeeded, err))
	}
	if err != nil {
		return flow.Session{}, nil, err
	}
	if owed {
		later, err := s.payOwed(ctx, id, entry, found)
		if err != nil {
			return flow.Session{}, nil, err
		}
		return flow.Session{}, later, s.signedOut(epoch, problem.New(problem.SigninNeeded, nil))
	}
	if !found || !id.owns(entry) || s.tooOld(id, entry.AuthTime) || entry.Generation == dead {
		return flow.Session{}, nil, s.signedOut(epoch, problem.New(problem.SigninNeeded, nil))
	}
	person := flow.Person{Issuer: entry.Issuer, Subject: entry.Subject, Email: entry.Email}
	grant, err := id.client.Refresh(ctx, entry.Refresh)
	if err == nil {
		err = samePerson(grant, person)
	}
	if problem.IsCode(err, problem.SigninNeeded) {
		s.mu.Lock()
		s.dead = entry.Generation
		s.mu.Unlock()
		return flow.Session{}, nil, s.signedOut(epoch, err)
	}
	if err == nil {
		session, err = s.adopt(epoch, person, grant, entry.AuthTime, false)
	}
	rotated := !grant.Refresh.Empty() && !grant.Refresh.Equal(entry.Refresh)
	entry.Refresh = grant.Refresh
	release := unlock
	unlock = func() {} // the lock goes on to what the click need not wait for
	return session, func() {
		if rotated {
			s.keepRotated(ctx, epoch, entry, grant)
		}
		release()
		s.changed() // without the lock
	}, err
}

// payOwed makes up for a sign-out by policy that has not reached what is stored; the
// caller holds the store's lock. It returns what is left to do without it.
func (s *session) payOwed(ctx context.Context, id *identity, entry tokenstore.Entry, found bool) (later func(), err error) {
	if err := s.store.Delete(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.owed = false
	s.mu.Unlock()
	if !found || !id.owns(entry) {
		return nil, nil
	}
	return func() { s.revoke(ctx, id, entry.Refresh) }, nil
}

// keepRotated stores a rotated sign-in; the caller holds the store's lock, so that
// nobody reads the old one meanwhile. The issuer has already turned that off:
// whatever happens to the click, the new one must be kept. But the click does not
// wait for it, because a keyring writes to disk (measured: 40 ms of a cold start).
func (s *session) keepRotated(ctx context.Context, epoch uint64, entry tokenstore.Entry, g signin.Grant) {
	_, err := s.store.Save(ctx, entry)
	if err == nil {
		return
	}
	s.log.Error("storing the rotated sign-in failed; it lasts until this program ends", "problem", problem.Of(err))
	s.mu.Lock()
	s.noteKeyring(err)
	if s.epoch == epoch && (g.Access.Empty() || s.access.Equal(g.Access)) {
		s.inMemory, s.memory = true, g.Refresh
	}
	s.mu.Unlock()
}

// adopt makes a grant the session, unless the epoch in which it was asked for is
// over: then whoever is signed in now counts. The caller tells that it has
// changed, without the store's lock.
func (s *session) adopt(epoch uint64, person flow.Person, g signin.Grant, authTime time.Time, inMemory bool) (flow.Session, error) {
	s.mu.Lock()
	if s.epoch != epoch {
		now, ok := s.warm(secret.Text{}, "")
		s.mu.Unlock()
		if !ok {
			return flow.Session{}, problem.New(problem.SigninNeeded, errors.New("the sign-in ended while it was refreshed"))
		}
		return now, nil
	}
	s.person, s.access, s.expiry, s.authTime = person, g.Access, g.Expiry, authTime
	s.ahead = g.Expiry.Add(-min(5*time.Minute, g.Expiry.Sub(s.now())/3))
	s.inMemory, s.memory = inMemory, secret.Text{}
	if inMemory {
		s.memory = g.Refresh
	}
	if !g.ID.Empty() {
		s.idToken = g.ID
	}
	s.failure = nil
	s.mu.Unlock()
	return flow.Session{Person: person, Token: g.Access}, nil
}

// signedOut forgets the person after the issuer or policy has ended the
// sign-in. What is stored stays: only an explicit sign-out deletes.
func (s *session) signedOut(epoch uint64, err error) error {
	s.mu.Lock()
	if s.epoch == epoch {
		s.forget()
	}
	s.mu.Unlock()
	s.changed()
	return err
}

// SignIn shows one sign-in page, never two, and waits for the person at most
// holdRequest. The page goes when nobody waits for it.
func (s *session) SignIn(ctx context.Context) (flow.Session, error) {
	return s.signIn(ctx, wish{arrived: s.now()})
}

func (s *session) signIn(ctx context.Context, w wish) (flow.Session, error) {
	tooLate := func() error {
		return problem.With(problem.SigninFailed, "Nobody signed in within five minutes.", nil)
	}
	left := min(holdRequest-s.now().Sub(w.arrived), holdRequest)
	if left <= 0 {
		return flow.Session{}, tooLate()
	}
	late, stop := s.timer(left)
	defer stop()
	for {
		got := s.join(w)
		if got.attempt == nil {
			return got.warm, got.err
		}
		a := got.attempt
		select {
		case <-a.done:
			if !got.joined {
				continue // that page was closing; now another may open
			}
			return a.session, a.err
		case <-late:
			s.leave(got)
			return flow.Session{}, tooLate()
		case <-ctx.Done():
			s.leave(got)
			return flow.Session{}, problem.New(problem.SigninCancelled, ctx.Err())
		}
	}
}

// joining is what became of a wish to sign in: a page to wait for, or a session
// or a problem without one.
type joining struct {
	attempt *attempt
	joined  bool // false when the page is closing and only its end is waited for
	warm    flow.Session
	err     error
}

func (s *session) join(w wish) joining {
	s.mu.Lock()
	if w.held {
		if warm, ok := s.warm(secret.Text{}, w.binding); ok {
			s.mu.Unlock()
			return joining{warm: warm} // somebody signed in a moment ago
		}
	}
	a := s.attempt
	switch {
	case a != nil && a.closing:
		s.mu.Unlock()
		return joining{attempt: a}
	case a != nil && w.binding != "" && a.binding != w.binding, s.id != nil && w.binding != "" && s.id.binding != w.binding:
		s.mu.Unlock()
		return joining{err: policyChanged()}
	case a == nil && s.id == nil:
		s.mu.Unlock()
		return joining{err: problem.New(problem.PolicyMissing, nil)}
	case a == nil:
		if err := s.work.begin(); err != nil {
			s.mu.Unlock()
			return joining{err: err}
		}
		ctx, cancel := context.WithCancel(context.Background())
		a = &attempt{done: make(chan struct{}), cancel: cancel, binding: s.id.binding, epoch: s.epoch}
		s.attempt, s.failure = a, nil
		go s.page(ctx, s.id, a, w.click)
	}
	a.waiting++
	s.mu.Unlock()
	s.changed()
	return joining{attempt: a, joined: true}
}

// leave closes the page when nobody waits for it and no request is behind the
// one that leaves.
func (s *session) leave(j joining) {
	if !j.joined {
		return
	}
	wanted := s.wanted()
	s.mu.Lock()
	j.attempt.waiting--
	closing := j.attempt.waiting == 0 && !wanted && s.attempt == j.attempt && s.closeAttempt()
	s.mu.Unlock()
	if closing {
		s.changed()
	}
}

// cancelSignIn closes the sign-in page and reports whether one was open.
func (s *session) cancelSignIn() bool {
	s.mu.Lock()
	closing := s.closeAttempt()
	s.mu.Unlock()
	if closing {
		s.changed()
	}
	return closing
}

// page is the life of one sign-in page.
func (s *session) page(ctx context.Context, id *identity, a *attempt, click any) {
	defer s.work.end()
	defer a.cancel()
	grant, err := id.client.SignIn(ctx, func(ctx context.Context, p signin.Page) error {
		if err := id.show(ctx, p, click); err != nil {
			return err
		}
		s.pageShown(a, p)
		return nil
	})
	s.pageGone(a)
	if err == nil {
		a.session, err = s.begin(id, a, grant)
	}
	if err == nil {
		s.signedIn(a.session.Person)
	}
	a.err = err
	s.mu.Lock()
	s.attempt, s.failure = nil, nil
	if err != nil && !problem.IsCode(err, problem.SigninCancelled) {
		s.failure = problem.Of(err)
	}
	s.mu.Unlock()
	close(a.done)
	s.changed()
}

// begin keeps a fresh sign-in: in the keyring, or in memory where there is none
// or policy says so.
func (s *session) begin(id *identity, a *attempt, g signin.Grant) (flow.Session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), refreshTime)
	defer cancel()
	person := flow.Person{Issuer: g.Issuer, Subject: g.Subject, Email: g.Email}
	inMemory := id.memoryOnly
	switch {
	case inMemory:
		s.replaceStored(ctx, a)
	case g.Refresh.Empty():
		s.replaceStored(ctx, a)
		// Nothing is wrong with the keyring. Providers that keep to OpenID Connect
		// Core §11 give a refresh token only with the prompt consent.
		s.log.Warn("the sign-in service gave no refresh token, so the sign-in ends with its access token; OIDCPrompt may have to be consent")
		inMemory = true
	default:
		err := s.keep(ctx, id, a, g)
		s.mu.Lock()
		s.noteKeyring(err)
		s.mu.Unlock()
		if problem.IsCode(err, problem.SigninCancelled) {
			return flow.Session{}, s.givenUp(ctx, id, g, err)
		}
		if err != nil {
			s.log.Warn("the sign-in could not be stored; it lasts until this program ends", "problem", problem.Of(err))
			inMemory = true
		}
	}
	s.mu.Lock()
	over := s.epoch != a.epoch
	if !over {
		s.epoch++ // a refresh for whoever was signed in before counts no more
		a.epoch = s.epoch
	}
	epoch := a.epoch
	s.mu.Unlock()
	if over {
		return flow.Session{}, s.givenUp(ctx, id, g, errGivenUp())
	}
	session, err := s.adopt(epoch, person, g, g.AuthTime, inMemory)
	s.changed()
	return session, err
}

func errGivenUp() error {
	return problem.New(problem.SigninCancelled, errors.New("signed out, or another policy, before the sign-in was complete"))
}

// givenUp gives a grant back that nobody will use.
func (s *session) givenUp(ctx context.Context, id *identity, g signin.Grant, err error) error {
	if !g.Refresh.Empty() {
		s.revoke(ctx, id, g.Refresh)
	}
	return err
}

func (s *session) revoke(ctx context.Context, id *identity, token secret.Text) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := id.client.Revoke(ctx, token); err != nil {
		s.log.Warn("the issuer could not be told of the sign-out", "problem", problem.Of(err))
	}
}

// replaceStored deletes what an earlier sign-in has stored when this one stores
// nothing: the next start must not bring back somebody else, or an older sign-in,
// in place of the person who signed in last.
func (s *session) replaceStored(ctx context.Context, a *attempt) {
	unlock, err := s.store.Lock(ctx)
	if err == nil {
		defer unlock()
		s.mu.Lock()
		over := s.epoch != a.epoch
		s.mu.Unlock()
		if over {
			return
		}
		err = s.store.Delete(ctx)
	}
	if err != nil && !problem.IsCode(err, problem.KeyringUnavailable) {
		s.log.Warn("an earlier sign-in could not be deleted", "problem", problem.Of(err))
	}
}

// keep stores a fresh sign-in, unless a sign-out came first.
func (s *session) keep(ctx context.Context, id *identity, a *attempt, g signin.Grant) error {
	unlock, err := s.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	over := s.epoch != a.epoch
	s.mu.Unlock()
	if over {
		return errGivenUp()
	}
	_, err = s.store.Save(ctx, tokenstore.Entry{
		Issuer: id.issuer, ClientID: id.clientID, Binding: id.binding,
		Subject: g.Subject, Email: g.Email, Refresh: g.Refresh, AuthTime: g.AuthTime,
	})
	if err == nil {
		s.mu.Lock()
		s.owed = false // it stands in the place of what was to be deleted
		s.mu.Unlock()
	}
	return err
}

// signOut revokes the sign-in where the issuer can, deletes it and forgets it.
// Whether the issuer could be told does not matter to the person. Once begun it
// goes on to its end, and the agent's end waits for it.
func (s *session) signOut(ctx context.Context) error {
	if err := s.work.begin(); err != nil {
		return err
	}
	defer s.work.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTime)
	defer cancel()
	return s.finish(ctx, s.depart(s.end), false)
}

// departed is what is left to do of a sign-out once the person is forgotten.
type departed struct {
	id      *identity
	person  flow.Person
	refresh secret.Text // where it was not stored
	idToken secret.Text
}

// depart forgets the person at once: memory first, whatever keyring and network do.
// Nothing that is stored is used any more until finish has deleted it. forget is end,
// or outgrow.
func (s *session) depart(forget func()) departed {
	s.mu.Lock()
	d := departed{s.id, s.person, s.memory, s.idToken}
	s.owed = true
	forget()
	s.mu.Unlock()
	if d.id != nil && d.id.left != nil {
		d.id.left()
	}
	s.changed()
	return d
}

// finish deletes what is stored of the sign-in and revokes it. With keepYounger a
// stored sign-in that is not too old stays: another session of the person has made
// it.
func (s *session) finish(ctx context.Context, d departed, keepYounger bool) error {
	if d.id != nil && d.id.memoryOnly { // nothing is stored, and no keyring is woken
		s.paid()
		if !d.refresh.Empty() {
			s.revoke(ctx, d.id, d.refresh)
		}
		return nil
	}
	unlock, err := s.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s.mu.Lock()
	owed := s.owed
	s.mu.Unlock()
	token := d.refresh
	if !owed { // somebody has signed in since, or a click has found it and deleted it
		if d.id != nil && !token.Empty() {
			s.revoke(ctx, d.id, token)
		}
		return nil
	}
	entry, found, err := s.store.Load(ctx)
	if found && err == nil && keepYounger && d.id != nil && !s.tooOld(d.id, entry.AuthTime) {
		s.paid()
		return nil
	}
	if found && err == nil {
		token = entry.Refresh
	}
	if err == nil || problem.IsCode(err, problem.KeyringCorrupt) {
		err = s.store.Delete(ctx)
	}
	if problem.IsCode(err, problem.KeyringUnavailable) {
		err = nil // nothing is stored where there is no keyring
	}
	s.mu.Lock()
	s.noteKeyring(err)
	s.mu.Unlock()
	if err == nil {
		s.paid()
	}
	if d.id != nil && !token.Empty() {
		s.revoke(ctx, d.id, token)
	}
	s.changed()
	return err
}

func (s *session) paid() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed = false
}

// endsAt is when the sign-in ends by itself, zero when no end is known; the caller
// holds mu.
func (s *session) endsAt() time.Time {
	var ends time.Time
	if s.person.Subject == "" || s.id == nil {
		return ends
	}
	if s.id.maxAge > 0 && !s.authTime.IsZero() {
		ends = s.authTime.Add(s.id.maxAge)
	}
	if s.inMemory && s.memory.Empty() && !s.access.Empty() {
		if last := s.expiry.Add(-usable); ends.IsZero() || last.Before(ends) {
			ends = last
		}
	}
	return ends.Round(0)
}

// refreshAhead keeps the access token fresh until ctx ends, so that a click
// finds it ready.
func (s *session) refreshAhead(ctx context.Context, wake <-chan struct{}) {
	for ctx.Err() == nil {
		s.restore(ctx)
		pause := s.untilRefresh()
		if pause > 0 && !rest(ctx, wake, pause) {
			return
		}
		if s.untilRefresh() > 0 {
			continue // woken: something has changed
		}
		if s.who().Subject == "" {
			continue
		}
		s.mu.Lock()
		old, locked := s.access, s.keyring == problem.KeyringLocked
		s.mu.Unlock()
		if locked { // asking again would show an unlock prompt that nobody asked for
			if !rest(ctx, wake, lockedRest) {
				return
			}
			continue
		}
		if _, err := s.refresh(ctx, old, ""); err != nil && ctx.Err() == nil {
			s.log.Warn("refreshing the sign-in ahead of time", "problem", problem.Of(err))
			if !rest(ctx, wake, refreshRetry) {
				return
			}
		}
	}
}

// rest pauses until d has passed or wake; it reports false when ctx ended.
func rest(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// untilRefresh is how long the access token may rest: until five minutes before
// its expiry, or until a third of a short life is left.
func (s *session) untilRefresh() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.person.Subject == "" || s.id == nil, s.inMemory && s.memory.Empty() && !s.access.Empty():
		return time.Hour // there is nothing to refresh, or nothing to refresh it with
	case s.access.Empty():
		return 0
	default:
		return max(s.ahead.Sub(s.now()), 0)
	}
}
