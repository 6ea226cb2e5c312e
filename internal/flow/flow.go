// Package flow is the one way through a launch: token, encounter, browser,
// recents, audit. Who has read Run has the map of the product.
//
// It declares the interfaces of what it uses and knows none of the rooms behind
// them. It never stores, logs or prints a link, a token or an address, and it
// runs one launch at a time: whoever calls Run sees to the order.
package flow

import (
	"context"
	"errors"
	"time"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// Stage is where a launch is.
type Stage string

// The stages that Run reports, in this order. SigningIn only when nobody is
// signed in; how a launch ends is what Run returns.
const (
	SigningIn Stage = "signing_in"
	Creating  Stage = "creating"
	Opening   Stage = "opening"
	Opened    Stage = "opened"
)

// OneTab is how long after an encounter was opened another click for the same
// encounter opens nothing: a double press mints two links, and the clinician
// wants one tab. The click counts, however long its launch then takes.
const OneTab = 3 * time.Second

// keepTabs is how long it is remembered that an encounter was opened: longer than a
// click waits for the sign-in (five minutes) and for its turn.
const keepTabs = 6 * time.Minute

// Person is who is signed in, as the issuer says.
type Person struct {
	Issuer, Subject, Email string
}

// Same reports whether two are the same account of the same issuer. Nobody is
// not the same as anybody.
func (p Person) Same(other Person) bool {
	return p.Subject != "" && p.Issuer == other.Issuer && p.Subject == other.Subject
}

// Session is a person with an access token that is good for one call now.
type Session struct {
	Person Person
	Token  secret.Text
}

// Encounter names an encounter at the organisation.
type Encounter struct {
	ExternalEncounterID string
	ExternalProviderID  string
	// Label is the patient's name as the backend gives it, or empty.
	Label string
}

// Launch is one thing to open: a link's request, or an encounter that was
// opened before.
type Launch struct {
	// Request came with a link; nil when Reopen is set.
	Request *launch.Request
	// Reopen is an encounter to open again through a fresh address.
	Reopen *Encounter
	// At is when the person clicked; zero for now.
	At time.Time
	// RequestID names the launch in both sides' logs.
	RequestID string
	// Arrived is who was signed in when the launch arrived; zero for nobody.
	Arrived Person
	// Click carries the person's click to the browser; opaque to flow.
	Click any
}

// Outcome is how a launch went well.
type Outcome struct {
	Person    Person
	Encounter Encounter
	// RecentID is the entry in the recents, empty when none could be kept.
	RecentID string
	// Dropped says that the encounter was opened a moment ago by another link,
	// so that this one's address was forgotten unopened.
	Dropped bool
}

// Tokens gives access tokens for the person signed in.
type Tokens interface {
	// Access returns a session, refreshed where needed. Problems: signin_needed
	// when nobody is signed in, keyring_locked, org_unreachable.
	Access(ctx context.Context) (Session, error)
	// Renew returns another session after the backend has refused this one.
	Renew(ctx context.Context, refused Session) (Session, error)
	// SignIn shows one sign-in page and waits for the person.
	SignIn(ctx context.Context) (Session, error)
}

// Org is the organisation's backend.
type Org interface {
	Create(ctx context.Context, s Session, l Launch) (launch.Target, Encounter, error)
	Reopen(ctx context.Context, s Session, l Launch) (launch.Target, error)
}

// Opener opens a checked address in the browser.
type Opener interface {
	Open(ctx context.Context, t launch.Target, click any) error
}

// Recents keeps what was opened, for the person who opened it.
type Recents interface {
	Add(ctx context.Context, p Person, e Encounter, openedAt time.Time) (id string, err error)
}

// Audit keeps how every launch ended. It must not fail a launch.
type Audit interface {
	Record(ctx context.Context, l Launch, o Outcome, err error)
}

// Steps are the rooms that a launch goes through.
type Steps struct {
	Tokens  Tokens
	Org     Org
	Opener  Opener
	Recents Recents
	Audit   Audit
	// Tabs remembers what was opened a moment ago.
	Tabs *Tabs
	Now  func() time.Time
	// Warn is told what went wrong without stopping the launch.
	Warn func(what string, err error)
}

// Run takes one launch from its arrival to the open encounter. at is told each
// stage as it is reached. The error is a *problem.Problem; Cancelled when ctx
// was cancelled.
func Run(ctx context.Context, do Steps, l Launch, at func(Stage)) (out Outcome, err error) {
	defer func() {
		err = asProblem(ctx, err)
		do.Audit.Record(context.WithoutCancel(ctx), l, out, err) // step 7: always, success or problem
	}()

	session, err := signedIn(ctx, do, l, at) // step 3
	if err != nil {
		return out, err
	}
	out.Person = session.Person

	at(Creating)
	target, encounter, session, err := create(ctx, do, l, session) // step 4
	if err != nil {
		return out, err
	}
	out.Person, out.Encounter = session.Person, encounter

	if l.Reopen == nil && do.Tabs.OpenedWithin(encounter, OneTab, l.At, do.Now()) {
		out.Dropped = true
		at(Opened)
		return out, nil
	}

	at(Opening)
	if err := ctx.Err(); err != nil { // the last moment at which Cancel can keep a tab from opening
		return out, err
	}
	if err := do.Opener.Open(ctx, target, l.Click); err != nil { // step 5
		return out, err
	}
	openedAt := do.Now()
	do.Tabs.Note(encounter, openedAt)
	at(Opened)

	// The encounter is open: from here on nothing may turn that into a failure.
	out.RecentID, err = do.Recents.Add(context.WithoutCancel(ctx), session.Person, encounter, openedAt) // step 6
	if err != nil {
		do.Warn("keeping the encounter among the recents", err)
	}
	return out, nil
}

// signedIn returns a session, by way of one sign-in page where nobody is signed
// in. A launch that arrived for one person never goes on for another.
func signedIn(ctx context.Context, do Steps, l Launch, at func(Stage)) (Session, error) {
	session, err := do.Tokens.Access(ctx)
	if problem.IsCode(err, problem.SigninNeeded) {
		at(SigningIn)
		session, err = do.Tokens.SignIn(ctx)
	}
	if err != nil {
		return Session{}, err
	}
	if err := stillFor(l, session); err != nil {
		return Session{}, err
	}
	return session, nil
}

func stillFor(l Launch, s Session) error {
	if l.Arrived.Subject != "" && !l.Arrived.Same(s.Person) {
		return problem.With(problem.ProviderMismatch, "Somebody else signed in before it could be opened.", nil)
	}
	return nil
}

// create asks the backend for the one-time address, with one refresh and one
// more try when the backend does not accept the token (design §6).
func create(ctx context.Context, do Steps, l Launch, s Session) (launch.Target, Encounter, Session, error) {
	target, encounter, err := ask(ctx, do, l, s)
	if !problem.IsCode(err, problem.Unauthorized) {
		return target, encounter, s, err
	}
	if s, err = do.Tokens.Renew(ctx, s); err != nil {
		return launch.Target{}, Encounter{}, s, err
	}
	if err := stillFor(l, s); err != nil {
		return launch.Target{}, Encounter{}, s, err
	}
	target, encounter, err = ask(ctx, do, l, s)
	if problem.IsCode(err, problem.Unauthorized) {
		err = problem.New(problem.SigninNeeded, err)
	}
	return target, encounter, s, err
}

func ask(ctx context.Context, do Steps, l Launch, s Session) (launch.Target, Encounter, error) {
	if l.Reopen != nil {
		target, err := do.Org.Reopen(ctx, s, l)
		return target, *l.Reopen, err
	}
	return do.Org.Create(ctx, s, l)
}

// asProblem gives every error a code. A launch whose context was cancelled is
// cancelled, whatever the interrupted step made of that.
func asProblem(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		var p *problem.Problem
		if errors.As(cause, &p) {
			return p
		}
		return problem.New(problem.Cancelled, err)
	}
	return problem.Of(err)
}
