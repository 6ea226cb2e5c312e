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
	// show opens the sign-in page.
	show func(context.Context, signin.Page) error
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

	// gate lets one goroutine refresh; a channel so that waiting honours ctx.
	gate chan struct{}
	// saving counts rotated sign-ins on their way into the keyring; the agent
	// does not end before it is empty.
	saving sync.WaitGroup

	mu       sync.Mutex
	id       *identity        // guarded by mu; nil until policy is good
	person   flow.Person      // guarded by mu; zero when signed out
	access   secret.Text      // guarded by mu
	expiry   time.Time        // guarded by mu
	ahead    time.Time        // guarded by mu: when to refresh, before the expiry
	authTime time.Time        // guarded by mu
	memory   secret.Text      // guarded by mu: the refresh token where it is not stored
	inMemory bool             // guarded by mu: this sign-in is not stored
	dead     uint64           // guarded by mu: generation that the issuer refused
	keyring  problem.Code     // guarded by mu: what is wrong with the keyring, or empty
	failure  *problem.Problem // guarded by mu: why the last sign-in did not work
	attempt  *attempt         // guarded by mu: the sign-in page that is open
}

// attempt is one open sign-in page and those who wait for it.
type attempt struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int // guarded by session.mu
	session flow.Session
	err     error
}

func newSession(store *tokenstore.Store, now func() time.Time, log *slog.Logger, changed func(), signedIn func(flow.Person)) *session {
	return &session{store: store, now: now, log: log, changed: changed, signedIn: signedIn, gate: make(chan struct{}, 1)}
}

// use takes what policy now says. A change of binding forgets the person.
func (s *session) use(id *identity) {
	s.mu.Lock()
	before := s.id
	s.id = id
	changed := before != nil && (id == nil || before.binding != id.binding)
	if changed {
		s.forget()
		if s.attempt != nil {
			s.attempt.cancel()
		}
	}
	s.mu.Unlock()
	if changed {
		s.changed()
	}
}

// forget drops what this process knows of the person; the caller holds mu.
func (s *session) forget() {
	s.person, s.access, s.memory, s.inMemory = flow.Person{}, secret.Text{}, secret.Text{}, false
	s.expiry, s.authTime = time.Time{}, time.Time{}
}

// who returns the person signed in, zero for nobody.
func (s *session) who() flow.Person {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.person
}

// restore looks whether somebody is signed in from before. It asks the issuer
// for nothing.
func (s *session) restore(ctx context.Context) {
	s.mu.Lock()
	id := s.id
	s.mu.Unlock()
	if id == nil || id.memoryOnly {
		return
	}
	entry, found, err := s.store.Load(ctx)
	s.mu.Lock()
	s.noteKeyring(err)
	if err == nil && found && s.id == id && id.owns(entry) && s.person.Subject == "" {
		s.person = flow.Person{Issuer: entry.Issuer, Subject: entry.Subject, Email: entry.Email}
		s.authTime = entry.AuthTime
	}
	s.mu.Unlock()
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
	if warm, ok := s.warm(secret.Text{}); ok {
		return warm, nil
	}
	return s.refresh(ctx, secret.Text{})
}

// Renew implements flow.Tokens.
func (s *session) Renew(ctx context.Context, refused flow.Session) (flow.Session, error) {
	if warm, ok := s.warm(refused.Token); ok {
		return warm, nil
	}
	return s.refresh(ctx, refused.Token)
}

// warm returns the session in memory when its token is usable and is not the
// one that was refused.
func (s *session) warm(refused secret.Text) (flow.Session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == nil || s.access.Empty() || !refused.Empty() && s.access.Equal(refused) || s.expiry.Sub(s.now()) < usable || s.tooOld(s.id, s.authTime) {
		return flow.Session{}, false
	}
	return flow.Session{Person: s.person, Token: s.access}, true
}

func (s *session) tooOld(id *identity, authTime time.Time) bool {
	return id.maxAge > 0 && !authTime.IsZero() && s.now().Sub(authTime) > id.maxAge
}

// refresh obtains a new access token, one goroutine at a time.
func (s *session) refresh(ctx context.Context, refused secret.Text) (flow.Session, error) {
	select {
	case s.gate <- struct{}{}:
		defer func() { <-s.gate }()
	case <-ctx.Done():
		return flow.Session{}, problem.New(problem.Cancelled, ctx.Err())
	}
	if warm, ok := s.warm(refused); ok {
		return warm, nil
	}
	s.mu.Lock()
	id, inMemory, memory, person, authTime := s.id, s.inMemory, s.memory, s.person, s.authTime
	s.mu.Unlock()
	switch {
	case id == nil:
		return flow.Session{}, problem.New(problem.PolicyMissing, nil)
	case inMemory || id.memoryOnly:
		return s.refreshMemory(ctx, id, memory, person, authTime)
	default:
		return s.refreshStored(ctx, id)
	}
}

func (s *session) refreshMemory(ctx context.Context, id *identity, token secret.Text, person flow.Person, authTime time.Time) (flow.Session, error) {
	if token.Empty() || s.tooOld(id, authTime) {
		return flow.Session{}, s.signedOut(problem.New(problem.SigninNeeded, nil))
	}
	grant, err := id.client.Refresh(ctx, token)
	if err == nil {
		err = samePerson(grant, person)
	}
	if problem.IsCode(err, problem.SigninNeeded) {
		return flow.Session{}, s.signedOut(err)
	}
	if err != nil {
		return flow.Session{}, err
	}
	session := s.adopt(id, person, grant, authTime, true)
	s.changed()
	return session, nil
}

// samePerson makes sure that a refreshed sign-in is still that of the person who
// signed in (OpenID Connect Core §12.2: the sub must be the same).
func samePerson(g signin.Grant, p flow.Person) error {
	if g.Subject != "" && g.Subject != p.Subject {
		return problem.New(problem.SigninNeeded, errors.New("refreshing returned another person"))
	}
	return nil
}

// refreshStored refreshes with the newest stored token under the per-user lock:
// two agents of one person would else present a rotated token twice and be taken
// for a thief (RFC 9700 §4.14.2).
func (s *session) refreshStored(ctx context.Context, id *identity) (flow.Session, error) {
	unlock, err := s.store.Lock(ctx)
	if err != nil {
		return flow.Session{}, err
	}
	defer func() { unlock() }()
	entry, found, err := s.store.Load(ctx)
	s.mu.Lock()
	s.noteKeyring(err)
	dead := s.dead
	s.mu.Unlock()
	if problem.IsCode(err, problem.KeyringUnavailable) {
		return flow.Session{}, s.signedOut(problem.New(problem.SigninNeeded, err))
	}
	if err != nil {
		return flow.Session{}, err
	}
	if !found || !id.owns(entry) || s.tooOld(id, entry.AuthTime) || entry.Generation == dead {
		return flow.Session{}, s.signedOut(problem.New(problem.SigninNeeded, nil))
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
		return flow.Session{}, s.signedOut(err)
	}
	if err != nil {
		return flow.Session{}, err
	}
	session := s.adopt(id, person, grant, entry.AuthTime, false)
	rotated := !grant.Refresh.Empty() && !grant.Refresh.Equal(entry.Refresh)
	entry.Refresh = grant.Refresh
	release := unlock
	unlock = func() {} // the lock goes on to what the click need not wait for
	s.saving.Go(func() {
		if rotated {
			s.keepRotated(context.WithoutCancel(ctx), id, entry, grant)
		}
		release()
		s.changed() // only now: what people see is read under the same lock
	})
	return session, nil
}

// keepRotated stores a rotated sign-in; the caller holds the store's lock, so that
// nobody reads the old one meanwhile. The issuer has already turned that off:
// whatever happens to the click, the new one must be kept. But the click does not
// wait for it, because a keyring writes to disk (measured: 40 ms of a cold start).
func (s *session) keepRotated(ctx context.Context, id *identity, entry tokenstore.Entry, g signin.Grant) {
	_, err := s.store.Save(ctx, entry)
	if err == nil {
		return
	}
	s.log.Error("storing the rotated sign-in failed; it lasts until this program ends", "problem", problem.Of(err))
	s.mu.Lock()
	s.noteKeyring(err)
	if s.id == id && s.access.Equal(g.Access) {
		s.inMemory, s.memory = true, g.Refresh
	}
	s.mu.Unlock()
}

// adopt keeps a grant. The caller tells that it has changed, without the store's
// lock.
func (s *session) adopt(id *identity, person flow.Person, g signin.Grant, authTime time.Time, inMemory bool) flow.Session {
	s.mu.Lock()
	if s.id == id {
		s.person, s.access, s.expiry, s.authTime = person, g.Access, g.Expiry, authTime
		s.ahead = g.Expiry.Add(-min(5*time.Minute, g.Expiry.Sub(s.now())/3))
		s.inMemory, s.memory = inMemory, secret.Text{}
		if inMemory {
			s.memory = g.Refresh
		}
		s.failure = nil
	}
	s.mu.Unlock()
	return flow.Session{Person: person, Token: g.Access}
}

// signedOut forgets the person after the issuer or policy has ended the
// sign-in. What is stored stays: only an explicit sign-out deletes.
func (s *session) signedOut(err error) error {
	s.mu.Lock()
	s.forget()
	s.mu.Unlock()
	s.changed()
	return err
}

// SignIn implements flow.Tokens: it shows one page, never two, and waits for
// the person at most holdRequest. The page goes when nobody waits for it.
func (s *session) SignIn(ctx context.Context) (flow.Session, error) {
	s.mu.Lock()
	a := s.attempt
	if a == nil {
		id := s.id
		if id == nil {
			s.mu.Unlock()
			return flow.Session{}, problem.New(problem.PolicyMissing, nil)
		}
		attemptCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		a = &attempt{done: make(chan struct{}), cancel: cancel}
		s.attempt, s.failure = a, nil
		go s.signIn(attemptCtx, id, a)
	}
	a.waiting++
	s.mu.Unlock()
	s.changed()

	timeout := time.NewTimer(holdRequest)
	defer timeout.Stop()
	select {
	case <-a.done:
		s.mu.Lock()
		a.waiting--
		s.mu.Unlock()
		return a.session, a.err
	case <-timeout.C:
		s.leave(a)
		return flow.Session{}, problem.With(problem.SigninFailed, "Nobody signed in within five minutes.", nil)
	case <-ctx.Done():
		s.leave(a)
		return flow.Session{}, problem.New(problem.SigninCancelled, ctx.Err())
	}
}

func (s *session) leave(a *attempt) {
	s.mu.Lock()
	a.waiting--
	last := a.waiting == 0
	s.mu.Unlock()
	if last {
		a.cancel()
	}
}

// cancelSignIn closes the sign-in page and reports whether one was open.
func (s *session) cancelSignIn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempt == nil {
		return false
	}
	s.attempt.cancel()
	return true
}

// signingIn reports whether a sign-in page is open.
func (s *session) signingIn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempt != nil
}

func (s *session) signIn(ctx context.Context, id *identity, a *attempt) {
	defer a.cancel()
	grant, err := id.client.SignIn(ctx, id.show)
	if err == nil {
		a.session, err = s.begin(context.WithoutCancel(ctx), id, grant)
	}
	if err == nil {
		s.signedIn(a.session.Person)
	}
	a.err = err
	s.mu.Lock()
	s.attempt = nil
	s.failure = nil
	if err != nil && !problem.IsCode(err, problem.SigninCancelled) {
		s.failure = problem.Of(err)
	}
	s.mu.Unlock()
	close(a.done)
	s.changed()
}

// begin keeps a fresh sign-in: in the keyring, or in memory where there is none
// or policy says so.
func (s *session) begin(ctx context.Context, id *identity, g signin.Grant) (flow.Session, error) {
	person := flow.Person{Issuer: g.Issuer, Subject: g.Subject, Email: g.Email}
	inMemory := id.memoryOnly
	switch {
	case inMemory:
	case g.Refresh.Empty():
		// Nothing is wrong with the keyring. Providers that keep to OpenID Connect
		// Core §11 give a refresh token only with the prompt consent.
		s.log.Warn("the sign-in service gave no refresh token, so the sign-in ends with its access token; OIDCPrompt may have to be consent")
		inMemory = true
	default:
		err := s.keep(ctx, id, g)
		s.mu.Lock()
		s.noteKeyring(err)
		s.mu.Unlock()
		if err != nil {
			s.log.Warn("the sign-in could not be stored; it lasts until this program ends", "problem", problem.Of(err))
			inMemory = true
		}
	}
	s.mu.Lock()
	if s.id != id && (s.id == nil || s.id.binding != id.binding) {
		s.mu.Unlock()
		return flow.Session{}, problem.With(problem.SigninFailed, "The organisation's policy changed meanwhile.", nil)
	}
	s.mu.Unlock()
	session := s.adopt(s.current(id), person, g, g.AuthTime, inMemory)
	s.changed()
	return session, nil
}

// current is the identity in force when it has the binding of id: policy may
// have been read again meanwhile without changing who signs in where.
func (s *session) current(id *identity) *identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id != nil && s.id.binding == id.binding {
		return s.id
	}
	return id
}

func (s *session) keep(ctx context.Context, id *identity, g signin.Grant) error {
	unlock, err := s.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = s.store.Save(ctx, tokenstore.Entry{
		Issuer: id.issuer, ClientID: id.clientID, Binding: id.binding,
		Subject: g.Subject, Email: g.Email, Refresh: g.Refresh, AuthTime: g.AuthTime,
	})
	return err
}

// signOut revokes the sign-in where the issuer can, deletes it and forgets it.
// Whether the issuer could be told does not matter to the person.
func (s *session) signOut(ctx context.Context) error {
	s.mu.Lock()
	id, token := s.id, s.memory
	s.forget()
	if s.attempt != nil {
		s.attempt.cancel()
	}
	s.mu.Unlock()
	s.changed()

	unlock, err := s.store.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	entry, found, err := s.store.Load(ctx)
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
	if id != nil && !token.Empty() {
		revokeCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := id.client.Revoke(revokeCtx, token); err != nil {
			s.log.Warn("the issuer could not be told of the sign-out", "problem", problem.Of(err))
		}
	}
	s.changed()
	return err
}

// refreshAhead keeps the access token fresh until ctx ends, so that a click
// finds it ready.
func (s *session) refreshAhead(ctx context.Context, wake <-chan struct{}) {
	for ctx.Err() == nil {
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
		if _, err := s.refresh(ctx, old); err != nil && ctx.Err() == nil {
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
	case s.person.Subject == "" || s.id == nil:
		return time.Hour
	case s.access.Empty():
		return 0
	default:
		return max(s.ahead.Sub(s.now()), 0)
	}
}
