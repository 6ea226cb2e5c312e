package agent

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
	"encounterlauncher/internal/signin"
	"encounterlauncher/internal/tokenstore"
)

// world is one workstation: a keyring, a lock file and an issuer that several
// agents of one person share.
type world struct {
	t       *testing.T
	issuer  *issuer
	keyring tokenstore.Keyring
	dir     string
	// browser is what follows a sign-in page.
	browser func(address string) error
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, issuer: newIssuer(t), keyring: tokenstore.Memory(), dir: t.TempDir()}
	w.browser = func(address string) error {
		answer, err := http.Get(address)
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
		return err
	}
	return w
}

func (w *world) identity() *identity {
	return &identity{
		issuer: w.issuer.URL, clientID: testClient, binding: "b1",
		client: signin.New(signin.Config{
			Issuer: w.issuer.URL, ClientID: testClient, Audience: testAudience, Scopes: []string{"openid"}, MaxAge: -1,
			LoopbackHTTP: true, HTTP: http.DefaultClient, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		}),
		show: func(_ context.Context, p signin.Page, _ any) error {
			go func() { _ = w.browser(p.Address.Reveal()) }()
			return nil
		},
	}
}

func (w *world) session() *session {
	store := tokenstore.New(w.keyring, "test", filepath.Join(w.dir, "user.lock"), 10*time.Second)
	s := newSession(store, time.Now, slog.New(slog.DiscardHandler), func() {}, func(flow.Person) {})
	s.use(w.identity())
	return s
}

func TestTwoAgentsOfOnePersonRefreshAThousandTimesAndAreNeverTakenForAThief(t *testing.T) {
	w := newWorld(t)
	first, second := w.session(), w.session()
	if _, err := first.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	for _, s := range []*session{first, second} {
		both.Go(func() {
			var old flow.Session
			for range 500 {
				next, err := s.Renew(t.Context(), old)
				if err != nil {
					t.Errorf("refreshing: %v", problem.Of(err).LogValue())
					return
				}
				old = next
			}
		})
	}
	both.Wait()
	w.issuer.set(func(is *issuer) {
		// The first Renew of the agent that signed in may find its token warm.
		if is.thefts != 0 || is.rotated < 999 {
			t.Errorf("%d refreshes, %d of them with a used token", is.rotated, is.thefts)
		}
	})
}

func TestASignInSurvivesTheAgent(t *testing.T) {
	w := newWorld(t)
	if _, err := w.session().SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	later := w.session()
	later.restore(t.Context())
	if who := later.who(); who.Subject != "ada" || who.Email != "ada@hospital.example" {
		t.Errorf("restored %+v", who)
	}
	if _, err := later.Access(t.Context()); err != nil {
		t.Error(err)
	}
	w.issuer.set(func(is *issuer) {
		if is.pages != 1 {
			t.Errorf("%d sign-in pages, want 1", is.pages)
		}
	})
}

func TestAWarmTokenAsksNobody(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	if _, err := s.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.issuer.set(func(is *issuer) { is.down = true })
	for range 100 {
		if _, err := s.Access(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestATokenThatIsAboutToExpireIsNotUsed(t *testing.T) {
	w := newWorld(t)
	w.issuer.life = usable - time.Second
	s := w.session()
	before, err := s.SignIn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after, err := s.Access(t.Context())
	if err != nil || after.Token.Equal(before.Token) {
		t.Errorf("got the same token, or %v", err)
	}
}

func TestAnIssuerThatCannotBeReachedSignsNobodyOut(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	signed, err := s.SignIn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.issuer.set(func(is *issuer) { is.down = true })
	if _, err := s.Renew(t.Context(), signed); problem.IsCode(err, problem.SigninNeeded) || err == nil {
		t.Errorf("got %v", err)
	}
	if s.who().Subject != "ada" {
		t.Error("the person was forgotten")
	}
	w.issuer.set(func(is *issuer) { is.down = false })
	if _, err := s.Renew(t.Context(), signed); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestAnEndedSignInAsksForAnotherOneAndIsNotTriedTwice(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	signed, err := s.SignIn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.issuer.set(func(is *issuer) { clear(is.refresh) })
	for range 3 {
		if _, err := s.Renew(t.Context(), signed); !problem.IsCode(err, problem.SigninNeeded) {
			t.Errorf("got %v", err)
		}
	}
	if s.who().Subject != "" {
		t.Error("the person still looks signed in")
	}
	if _, found, err := s.store.Load(t.Context()); !found || err != nil {
		t.Error("only an explicit sign-out deletes what is stored")
	}
	if _, err := s.SignIn(t.Context()); err != nil {
		t.Errorf("signing in again: %v", err)
	}
}

func TestSigningOutRevokesDeletesAndForgets(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	if _, err := s.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.signOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, found, _ := s.store.Load(t.Context()); found || s.who().Subject != "" {
		t.Error("something of the sign-in is left")
	}
	w.issuer.set(func(is *issuer) {
		if is.revoked != 1 {
			t.Errorf("revoked %d times", is.revoked)
		}
	})
	if _, err := s.Access(t.Context()); !problem.IsCode(err, problem.SigninNeeded) {
		t.Errorf("got %v", err)
	}
}

func TestSeveralWhoWaitShareOneSignInPage(t *testing.T) {
	w := newWorld(t)
	gate := make(chan struct{})
	follow := w.browser
	w.browser = func(address string) error { <-gate; return follow(address) }
	s := w.session()
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if _, err := s.SignIn(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for {
		s.mu.Lock()
		waiting := s.attempt != nil && s.attempt.waiting == 5
		s.mu.Unlock()
		if waiting {
			break
		}
	}
	close(gate)
	all.Wait()
	w.issuer.set(func(is *issuer) {
		if is.pages != 1 {
			t.Errorf("%d pages", is.pages)
		}
	})
}

func TestTheSignInPageGoesWhenTheLastWhoWaitedLeaves(t *testing.T) {
	w := newWorld(t)
	w.browser = func(string) error { return nil } // nobody signs in
	s := w.session()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			s.mu.Lock()
			open := s.attempt != nil
			s.mu.Unlock()
			if open {
				cancel()
				return
			}
		}
	}()
	if _, err := s.SignIn(ctx); !problem.IsCode(err, problem.SigninCancelled) {
		t.Errorf("got %v", err)
	}
	for {
		s.mu.Lock()
		open := s.attempt != nil
		s.mu.Unlock()
		if !open {
			break
		}
	}
}

func TestATokenOfAnotherConfigurationIsNotUsed(t *testing.T) {
	w := newWorld(t)
	if _, err := w.session().SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := w.session()
	id := w.identity()
	id.binding = "b2"
	other.use(id)
	other.restore(t.Context())
	if other.who().Subject != "" {
		t.Error("a sign-in made for another backend was taken over")
	}
	if _, err := other.Access(t.Context()); !problem.IsCode(err, problem.SigninNeeded) {
		t.Errorf("got %v", err)
	}
}

func TestARefreshThatReturnsAnotherPersonSignsOut(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	signed, err := s.SignIn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.issuer.set(func(is *issuer) {
		for token := range is.refresh {
			is.refresh[token] = "ben"
		}
	})
	if _, err := s.Renew(t.Context(), signed); !problem.IsCode(err, problem.SigninNeeded) {
		t.Errorf("got %v", err)
	}
	if s.who().Subject != "" {
		t.Error("somebody still looks signed in")
	}
}

func TestTheTokenIsRefreshedAheadOfItsExpiryAndALockedKeyringIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	turn := newClock()
	turn.at = time.Now()
	s.now = turn.now
	if _, err := s.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := s.untilRefresh(); left < 3*time.Minute || left > 4*time.Minute {
		t.Errorf("a token of five minutes rests for %v", left)
	}
	turn.turn(4 * time.Minute)
	if s.untilRefresh() != 0 {
		t.Error("it is time to refresh")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() { s.refreshAhead(ctx, make(chan struct{})); close(ended) }()
	for {
		done := false
		w.issuer.set(func(is *issuer) { done = is.rotated == 1 })
		if done {
			break
		}
	}
	cancel()
	<-ended
}

// locked is a keyring that is locked until it is told otherwise.
type locked struct {
	tokenstore.Keyring
	mu   sync.Mutex
	shut error
}

func (l *locked) Get(service, user string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut != nil {
		return "", l.shut
	}
	return l.Keyring.Get(service, user)
}

func (l *locked) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = err
}

func TestALockedKeyringIsNoSignOutAndAfterUnlockingTheNextLinkWorks(t *testing.T) {
	w := newWorld(t)
	if _, err := w.session().SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := &locked{Keyring: w.keyring}
	w.keyring = k
	k.set(tokenstore.ErrLocked)
	s := w.session()
	s.restore(t.Context())
	if _, err := s.Access(t.Context()); !problem.IsCode(err, problem.KeyringLocked) {
		t.Fatalf("got %v", err)
	}
	k.set(nil)
	if got, err := s.Access(t.Context()); err != nil || got.Person.Subject != "ada" {
		t.Errorf("after unlocking: %+v, %v", got, err)
	}
}

func TestWithoutAKeyringASignInLastsInMemory(t *testing.T) {
	w := newWorld(t)
	k := &locked{Keyring: w.keyring}
	k.set(tokenstore.ErrUnavailable)
	w.keyring = k
	s := w.session()
	signed, err := s.SignIn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !s.inMemory || s.keyring != problem.KeyringUnavailable {
		t.Errorf("in memory %v, keyring %q", s.inMemory, s.keyring)
	}
	if next, err := s.Renew(t.Context(), signed); err != nil || next.Token.Equal(signed.Token) {
		t.Errorf("refreshing from memory: %v", err)
	}
	if _, err := w.session().Access(t.Context()); !problem.IsCode(err, problem.SigninNeeded) {
		t.Errorf("another agent: %v", err)
	}
}

func TestWithoutARefreshTokenTheKeyringIsNotBlamed(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	grant := signin.Grant{Issuer: w.issuer.URL, ClientID: testClient, Subject: "ada", Access: secret.New("a"), Expiry: time.Now().Add(time.Hour)}
	if _, err := s.begin(s.id, &attempt{epoch: s.epoch}, grant); err != nil {
		t.Fatal(err)
	}
	if !s.inMemory || s.keyring != "" {
		t.Errorf("in memory %v, keyring %q", s.inMemory, s.keyring)
	}
	if got, err := s.Access(t.Context()); err != nil || got.Person.Subject != "ada" {
		t.Errorf("the access token is not used: %v", err)
	}
}

func TestASignInThatIsTooOldForPolicyIsNotUsed(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	if _, err := s.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.id.maxAge = time.Hour
	s.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	s.mu.Unlock()
	if _, err := s.Access(t.Context()); !problem.IsCode(err, problem.SigninNeeded) {
		t.Errorf("got %v", err)
	}
	if !(secret.Text{}).Empty() || s.who().Subject != "" {
		t.Error("the person still looks signed in")
	}
}

func TestASignInIsToldOnceWhoeverAskedForIt(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	var told []flow.Person
	s.signedIn = func(p flow.Person) { told = append(told, p) }
	got, err := s.SignIn(t.Context())
	if err != nil || len(told) != 1 || !told[0].Same(got.Person) {
		t.Errorf("told of %v, %v", told, err)
	}
}

// slowKeyring takes writing as long as it is told to.
type slowKeyring struct {
	tokenstore.Keyring
	mu    sync.Mutex
	write chan struct{} // guarded by mu: nil writes at once
}

func (k *slowKeyring) Set(service, user, value string) error {
	k.mu.Lock()
	write := k.write
	k.mu.Unlock()
	if write != nil {
		<-write
	}
	return k.Keyring.Set(service, user, value)
}

func TestAClickDoesNotWaitForTheKeyringToWriteAndNobodyReadsTheOldSignInMeanwhile(t *testing.T) {
	w := newWorld(t)
	slow := &slowKeyring{Keyring: tokenstore.Memory()}
	w.keyring = slow
	if _, err := w.session().SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	write := make(chan struct{})
	slow.mu.Lock()
	slow.write = write
	slow.mu.Unlock()

	clicked, other := w.session(), w.session()
	if _, err := clicked.Access(t.Context()); err != nil {
		t.Fatal(err)
	}
	refreshed := make(chan error, 1)
	go func() {
		_, err := other.Access(t.Context())
		refreshed <- err
	}()
	close(write)
	if err := <-refreshed; err != nil {
		t.Error(err)
	}
	for !clicked.work.idle() {
		time.Sleep(time.Millisecond)
	}
	w.issuer.set(func(is *issuer) {
		if is.thefts != 0 || is.rotated != 2 {
			t.Errorf("%d refreshes, %d of them with a used token", is.rotated, is.thefts)
		}
	})
}

func TestWhatPeopleSeeIsToldWithoutTheLock(t *testing.T) {
	w := newWorld(t)
	if _, err := w.session().SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := w.session()
	told := 0
	s.changed = func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		unlock, err := s.store.Lock(ctx) // as reading the recents does
		if err != nil {
			t.Error(err)
			return
		}
		unlock()
		told++
	}
	if _, err := s.Access(t.Context()); err != nil {
		t.Fatal(err)
	}
	for !s.work.idle() {
		time.Sleep(time.Millisecond)
	}
	if told == 0 {
		t.Error("nobody was told who is signed in")
	}
}

func TestARefreshThatIsUnderWayDoesNotUndoASignOut(t *testing.T) {
	w := newWorld(t)
	if _, err := w.session().SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	write := make(chan struct{})
	w.keyring = &slowKeyring{Keyring: w.keyring, write: write}
	s := w.session()
	if _, err := s.Access(t.Context()); err != nil { // the issuer has rotated, and the new token is not stored yet
		t.Fatal(err)
	}
	out := make(chan error)
	go func() { out <- s.signOut(t.Context()) }()
	for s.who().Subject != "" {
		time.Sleep(time.Millisecond)
	}
	close(write)
	if err := <-out; err != nil {
		t.Error(err)
	}
	if _, found, _ := s.store.Load(t.Context()); found || s.who().Subject != "" {
		t.Error("the sign-in came back")
	}
	w.issuer.set(func(is *issuer) {
		if len(is.refresh) != 0 {
			t.Error("the new token was not revoked")
		}
	})
}

func TestACancelledLaunchDoesNotTearTheRefreshThatItBegan(t *testing.T) {
	w := newWorld(t)
	if _, err := w.session().SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := w.session()
	ctx, cancel := context.WithCancel(t.Context())
	refreshed := make(chan error)
	w.issuer.mu.Lock() // it answers nobody yet
	go func() { _, err := s.Access(ctx); refreshed <- err }()
	for s.work.idle() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	err := <-refreshed
	w.issuer.mu.Unlock()
	if !problem.IsCode(err, problem.Cancelled) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Access(t.Context()); err != nil {
		t.Error(err)
	}
	w.issuer.set(func(is *issuer) {
		if is.rotated != 1 || is.thefts != 0 {
			t.Errorf("%d refreshes, %d thefts", is.rotated, is.thefts)
		}
	})
}

func TestWhoWantsToSignInWhileThePageIsClosingGetsAnotherPage(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	// The page that is closing takes its time.
	old := &attempt{done: make(chan struct{}), cancel: func() {}, binding: "b1", closing: true}
	s.attempt = old
	signed := make(chan error)
	go func() { _, err := s.SignIn(t.Context()); signed <- err }()
	s.mu.Lock()
	s.attempt = nil
	s.mu.Unlock()
	close(old.done)
	if err := <-signed; err != nil {
		t.Error(err)
	}
}

func TestASignInThatCannotBeKeptReplacesTheOneThatWas(t *testing.T) {
	w := newWorld(t)
	first := w.session()
	if _, err := first.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.issuer.set(func(is *issuer) { is.person, is.stingy = "ben", true })
	if _, err := first.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if who := first.who(); who.Subject != "ben" {
		t.Errorf("signed in as %+v", who)
	}
	next := w.session()
	next.restore(t.Context())
	if who := next.who(); who.Subject != "" {
		t.Errorf("the next start brings back %+v, who did not sign in last", who)
	}
}

func TestWhatIsStoredIsNotUsedOnceASignOutByPolicyHasBegun(t *testing.T) {
	w := newWorld(t)
	if _, err := w.session().SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := w.session()
	s.depart(s.end) // before the keyring was asked for the sign-in, and finish never comes
	if _, err := s.Access(t.Context()); !problem.IsCode(err, problem.SigninNeeded) {
		t.Fatalf("got %v", err)
	}
	if _, found, err := s.store.Load(t.Context()); found || err != nil {
		t.Errorf("still stored: %v, %v", found, err)
	}
	<-s.work.close() // what the click need not wait for
	w.issuer.set(func(is *issuer) {
		if is.revoked != 1 || is.rotated != 0 {
			t.Errorf("%d revoked, %d refreshed", is.revoked, is.rotated)
		}
	})
	s.work = new(work)
	if got, err := s.SignIn(t.Context()); err != nil || got.Person.Subject != "ada" {
		t.Fatalf("signing in again: %v", err)
	}
	later := w.session()
	if later.restore(t.Context()); later.who().Subject != "ada" {
		t.Error("the new sign-in was not kept")
	}
}

func TestASignOutLeavesTheSignInThatCameAfterIt(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	if _, err := s.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := s.depart(s.end)
	if _, err := s.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.finish(t.Context(), left, false); err != nil {
		t.Fatal(err)
	}
	if _, found, err := s.store.Load(t.Context()); !found || err != nil {
		t.Errorf("the new sign-in was deleted: %v, %v", found, err)
	}
}

func TestARefreshThatFailedBeforeItWasAskedForIsTriedOnceMore(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	if _, err := s.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = w.session()
	failing := &renewal{done: make(chan struct{}), binding: "b1", err: problem.New(problem.OrgUnreachable, nil)}
	s.renewal = failing
	var got flow.Session
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		got, err = s.Access(t.Context())
	}()
	s.mu.Lock()
	s.renewal = nil
	s.mu.Unlock()
	close(failing.done)
	<-done
	if err != nil || got.Person.Subject != "ada" {
		t.Errorf("got %+v, %v", got.Person, err)
	}
}

// The issuer has turned the old token off before its keys are asked for.
func TestARotatedTokenIsKeptWhenItsKeysCannotBeFetched(t *testing.T) {
	for what, session := range map[string]func(*world) *session{
		"stored": (*world).session,
		"in memory": func(w *world) *session {
			s := w.session()
			s.id.memoryOnly = true
			return s
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			s := session(w)
			signed, err := s.SignIn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if what == "stored" {
				s, signed = w.session(), flow.Session{} // of an agent that has just been started
			} else {
				s.id.client = w.session().id.client // which has not seen the keys yet
			}
			w.issuer.set(func(is *issuer) { is.keyless = true })
			if _, err := s.Renew(t.Context(), signed); !problem.IsCode(err, problem.OrgUnreachable) {
				t.Fatalf("got %v", err)
			}
			w.issuer.set(func(is *issuer) { is.keyless = false })
			got, err := s.Renew(t.Context(), signed)
			if err != nil || got.Person.Subject != "ada" {
				t.Errorf("got %+v, %v", got.Person, err)
			}
			w.issuer.set(func(is *issuer) {
				if is.thefts != 0 {
					t.Error("the person was taken for a thief")
				}
			})
		})
	}
}

func TestASignInWithoutARefreshTokenLastsAsLongAsItsAccessToken(t *testing.T) {
	w := newWorld(t)
	w.issuer.stingy = true
	s := w.session()
	if _, err := s.SignIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	ends, expiry := s.endsAt(), s.expiry
	s.mu.Unlock()
	if !ends.Equal(expiry.Add(-usable)) || s.untilRefresh() != time.Hour {
		t.Errorf("ends at %s of %s, refreshed in %s", ends, expiry, s.untilRefresh())
	}
}
