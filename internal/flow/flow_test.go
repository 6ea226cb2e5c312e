package flow

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/secret"
)

// rooms records what a launch asked of each room, in order, and answers as the
// test says.
type rooms struct {
	t     *testing.T
	calls []string
	stage []Stage
	now   time.Time

	access, renew, signIn func() (Session, error)
	create                func(Session) (Encounter, error)
	open                  func() error
	add                   func() error
	recorded              []error
	recordedOutcome       Outcome
	warned                int
	afterCreate           func()
}

var ada = Session{Person: Person{Issuer: "i", Subject: "ada", Email: "ada@x"}, Token: secret.New("t1")}
var ben = Session{Person: Person{Issuer: "i", Subject: "ben"}, Token: secret.New("t2")}

func newRooms(t *testing.T) *rooms {
	r := &rooms{t: t, now: time.Unix(1_700_000_000, 0)}
	r.access = func() (Session, error) { return ada, nil }
	r.renew = func() (Session, error) { return ada, nil }
	r.signIn = func() (Session, error) { return ada, nil }
	r.create = func(Session) (Encounter, error) {
		return Encounter{ExternalEncounterID: "E-1", ExternalProviderID: "D-1", Label: "Testa"}, nil
	}
	r.open = func() error { return nil }
	r.add = func() error { return nil }
	return r
}

func (r *rooms) call(name string) { r.calls = append(r.calls, name) }

func (r *rooms) Access(context.Context) (Session, error)         { r.call("access"); return r.access() }
func (r *rooms) Renew(context.Context, Session) (Session, error) { r.call("renew"); return r.renew() }
func (r *rooms) SignIn(context.Context) (Session, error)         { r.call("sign-in"); return r.signIn() }
func (r *rooms) Create(_ context.Context, s Session, _ Launch) (launch.Target, Encounter, error) {
	r.call("create")
	e, err := r.create(s)
	if r.afterCreate != nil {
		r.afterCreate()
	}
	return target(r.t), e, err
}
func (r *rooms) Reopen(_ context.Context, s Session, _ Launch) (launch.Target, error) {
	r.call("reopen")
	_, err := r.create(s)
	return target(r.t), err
}
func (r *rooms) Open(_ context.Context, t launch.Target, _ any) error {
	r.call("open " + t.Host())
	return r.open()
}
func (r *rooms) Add(context.Context, Person, Encounter, time.Time) (string, error) {
	r.call("add")
	return "recent-1", r.add()
}
func (r *rooms) Record(_ context.Context, _ Launch, o Outcome, err error) {
	r.call("record")
	r.recorded, r.recordedOutcome = append(r.recorded, err), o
}

func target(t *testing.T) launch.Target {
	t.Helper()
	checked, err := launch.Addresses{Hosts: []string{"app.example"}}.Check(secret.New("https://app.example/e?t=once"))
	if err != nil {
		t.Fatal(err)
	}
	return checked
}

func link(t *testing.T) Launch {
	t.Helper()
	r, err := launch.Parse("encounter-launcher", "encounter-launcher://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLg")
	if err != nil {
		t.Fatal(err)
	}
	return Launch{Request: &r, RequestID: "r-1"}
}

func (r *rooms) run(ctx context.Context, l Launch, tabs *Tabs) (Outcome, error) {
	return Run(ctx, Steps{
		Tokens: r, Org: r, Opener: r, Recents: r, Audit: r, Tabs: tabs, Now: func() time.Time { return r.now },
		Warn: func(string, error) { r.warned++ },
	}, l, func(s Stage) { r.stage = append(r.stage, s) })
}

func (r *rooms) want(calls ...string) {
	r.t.Helper()
	if !slices.Equal(r.calls, calls) {
		r.t.Errorf("the launch went %v, want %v", r.calls, calls)
	}
}

func TestALaunchGoesTokenEncounterBrowserRecentsAudit(t *testing.T) {
	r := newRooms(t)
	out, err := r.run(t.Context(), link(t), &Tabs{})
	if err != nil {
		t.Fatal(err)
	}
	r.want("access", "create", "open app.example", "add", "record")
	if !slices.Equal(r.stage, []Stage{Creating, Opening, Opened}) {
		t.Errorf("stages %v", r.stage)
	}
	if out.RecentID != "recent-1" || out.Person != ada.Person || out.Dropped {
		t.Errorf("outcome %+v", out)
	}
}

func TestASignedOutPersonSignsInOnceAndTheLaunchGoesOn(t *testing.T) {
	r := newRooms(t)
	r.access = func() (Session, error) { return Session{}, problem.New(problem.SigninNeeded, nil) }
	if _, err := r.run(t.Context(), link(t), &Tabs{}); err != nil {
		t.Fatal(err)
	}
	r.want("access", "sign-in", "create", "open app.example", "add", "record")
	if r.stage[0] != SigningIn {
		t.Errorf("stages %v", r.stage)
	}
}

func TestALockedKeyringNeverLeadsToASignInPage(t *testing.T) {
	r := newRooms(t)
	r.access = func() (Session, error) { return Session{}, problem.New(problem.KeyringLocked, nil) }
	_, err := r.run(t.Context(), link(t), &Tabs{})
	if !problem.IsCode(err, problem.KeyringLocked) {
		t.Errorf("got %v", err)
	}
	r.want("access", "record")
}

func TestALaunchThatArrivedForOnePersonNeverGoesOnForAnother(t *testing.T) {
	for name, arrange := range map[string]func(*rooms){
		"after a sign-in": func(r *rooms) {
			r.access = func() (Session, error) { return Session{}, problem.New(problem.SigninNeeded, nil) }
			r.signIn = func() (Session, error) { return ben, nil }
		},
		"while it waited in the queue": func(r *rooms) { r.access = func() (Session, error) { return ben, nil } },
		"between two tries": func(r *rooms) {
			r.create = func(Session) (Encounter, error) { return Encounter{}, problem.New(problem.Unauthorized, nil) }
			r.renew = func() (Session, error) { return ben, nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRooms(t)
			arrange(r)
			l := link(t)
			l.Arrived = ada.Person
			_, err := r.run(t.Context(), l, &Tabs{})
			if !problem.IsCode(err, problem.ProviderMismatch) {
				t.Errorf("got %v", err)
			}
			if slices.ContainsFunc(r.calls, func(c string) bool { return strings.HasPrefix(c, "open") }) {
				t.Error("the browser was opened")
			}
		})
	}
}

func TestALaunchThatArrivedWithNobodySignedInGoesOnForWhoeverSignsIn(t *testing.T) {
	r := newRooms(t)
	r.access = func() (Session, error) { return Session{}, problem.New(problem.SigninNeeded, nil) }
	r.signIn = func() (Session, error) { return ben, nil }
	out, err := r.run(t.Context(), link(t), &Tabs{})
	if err != nil || out.Person != ben.Person {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestARefusedTokenIsRefreshedOnceThenThePersonMustSignIn(t *testing.T) {
	r := newRooms(t)
	tries := 0
	r.create = func(Session) (Encounter, error) {
		tries++
		return Encounter{}, problem.New(problem.Unauthorized, nil)
	}
	_, err := r.run(t.Context(), link(t), &Tabs{})
	if !problem.IsCode(err, problem.SigninNeeded) || tries != 2 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	r.want("access", "create", "renew", "create", "record")
}

func TestARefreshedTokenOpensTheEncounter(t *testing.T) {
	r := newRooms(t)
	r.create = func(s Session) (Encounter, error) {
		if s.Token.Equal(ada.Token) {
			return Encounter{}, problem.New(problem.Unauthorized, nil)
		}
		return Encounter{ExternalEncounterID: "E-1"}, nil
	}
	r.renew = func() (Session, error) { return Session{Person: ada.Person, Token: secret.New("fresh")}, nil }
	if _, err := r.run(t.Context(), link(t), &Tabs{}); err != nil {
		t.Fatal(err)
	}
	r.want("access", "create", "renew", "create", "open app.example", "add", "record")
}

func TestASecondLinkForTheSameEncounterOpensNoSecondTab(t *testing.T) {
	tabs := &Tabs{}
	r := newRooms(t)
	if _, err := r.run(t.Context(), link(t), tabs); err != nil {
		t.Fatal(err)
	}
	r.calls = nil
	r.now = r.now.Add(OneTab - time.Millisecond)
	out, err := r.run(t.Context(), link(t), tabs)
	if err != nil || !out.Dropped {
		t.Errorf("got %+v, %v", out, err)
	}
	r.want("access", "create", "record")
	if !r.recordedOutcome.Dropped {
		t.Error("the audit should know that it was dropped")
	}

	r.calls = nil
	r.now = r.now.Add(time.Millisecond)
	if out, err = r.run(t.Context(), link(t), tabs); err != nil || out.Dropped {
		t.Errorf("three seconds later it opens again: %+v, %v", out, err)
	}
}

// The first press is answered at once; the second, whose turn comes after, waits for a
// slow backend.
func TestADoublePressOpensOneTabHoweverLongTheSecondTakes(t *testing.T) {
	tabs := &Tabs{}
	r := newRooms(t)
	clicked, create := r.now, r.create
	first, second, later := link(t), link(t), link(t)
	first.At, second.At = clicked, clicked.Add(200*time.Millisecond)
	r.now = clicked.Add(time.Second)
	if _, err := r.run(t.Context(), first, tabs); err != nil {
		t.Fatal(err)
	}
	r.create = func(Session) (Encounter, error) { return Encounter{ExternalEncounterID: "E-2"}, nil }
	r.now = clicked.Add(30 * time.Second)
	if out, err := r.run(t.Context(), link(t), tabs); err != nil || out.Dropped { // between the two
		t.Fatalf("got %+v, %v", out, err)
	}
	r.create = create
	r.now = clicked.Add(time.Minute)
	if out, err := r.run(t.Context(), second, tabs); err != nil || !out.Dropped {
		t.Errorf("got %+v, %v", out, err)
	}
	later.At = r.now
	if out, err := r.run(t.Context(), later, tabs); err != nil || out.Dropped {
		t.Errorf("a click a minute later opens again: %+v, %v", out, err)
	}
}

func TestAnotherEncounterIsNeverDropped(t *testing.T) {
	tabs := &Tabs{}
	r := newRooms(t)
	if _, err := r.run(t.Context(), link(t), tabs); err != nil {
		t.Fatal(err)
	}
	r.create = func(Session) (Encounter, error) { return Encounter{ExternalEncounterID: "E-2"}, nil }
	if out, err := r.run(t.Context(), link(t), tabs); err != nil || out.Dropped {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestAClockThatWasSetBackDropsNothing(t *testing.T) {
	tabs := &Tabs{}
	tabs.Note(Encounter{ExternalEncounterID: "E-1"}, time.Unix(1000, 0))
	if tabs.OpenedWithin(Encounter{ExternalEncounterID: "E-1"}, OneTab, time.Unix(10, 0), time.Unix(10, 0)) {
		t.Error("a tab was suppressed by a clock that was set back")
	}
}

func TestTheMemoryOfTabsStaysSmall(t *testing.T) {
	tabs := &Tabs{}
	for i := range 10_000 {
		tabs.Note(Encounter{ExternalEncounterID: string(rune(i + 0x4e00))}, time.Unix(int64(i), 0))
	}
	if len(tabs.opened) > 400 {
		t.Errorf("%d encounters are remembered", len(tabs.opened))
	}
}

func TestReopeningUsesAFreshAddressAndKeepsTheEncounter(t *testing.T) {
	r := newRooms(t)
	e := Encounter{ExternalEncounterID: "E-9", ExternalProviderID: "D-1"}
	out, err := r.run(t.Context(), Launch{Reopen: &e, RequestID: "r-2", Arrived: ada.Person}, &Tabs{})
	if err != nil || out.Encounter != e {
		t.Errorf("got %+v, %v", out, err)
	}
	r.want("access", "reopen", "open app.example", "add", "record")
}

func TestACancelBeforeTheBrowserOpensNothing(t *testing.T) {
	r := newRooms(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.afterCreate = cancel
	_, err := r.run(ctx, link(t), &Tabs{})
	if !problem.IsCode(err, problem.Cancelled) {
		t.Errorf("got %v", err)
	}
	r.want("access", "create", "record")
}

func TestWhatHappensAfterTheBrowserHasOpenedIsNoFailure(t *testing.T) {
	r := newRooms(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.open = func() error { cancel(); return nil }
	r.add = func() error { return errors.New("disk full") }
	if _, err := r.run(ctx, link(t), &Tabs{}); err != nil {
		t.Errorf("the encounter is open, yet the launch failed: %v", err)
	}
	if r.warned != 1 {
		t.Error("the log should know that the recents could not be written")
	}
	r.want("access", "create", "open app.example", "add", "record")
}

func TestEveryEndIsInTheAuditExactlyOnceWithACode(t *testing.T) {
	for name, arrange := range map[string]func(*rooms){
		"no token": func(r *rooms) { r.access = func() (Session, error) { return Session{}, errors.New("plain") } },
		"no address": func(r *rooms) {
			r.create = func(Session) (Encounter, error) { return Encounter{}, problem.New(problem.HandleSpent, nil) }
		},
		"no browser": func(r *rooms) { r.open = func() error { return problem.New(problem.BrowserUnavailable, nil) } },
		"all well":   func(*rooms) {},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRooms(t)
			arrange(r)
			_, err := r.run(t.Context(), link(t), &Tabs{})
			if len(r.recorded) != 1 || r.calls[len(r.calls)-1] != "record" {
				t.Fatalf("the audit was told %d times; calls %v", len(r.recorded), r.calls)
			}
			if !errors.Is(r.recorded[0], err) || err != nil && problem.CodeOf(err) == "" {
				t.Errorf("the audit was told %v, the launch ended with %v", r.recorded[0], err)
			}
		})
	}
}
