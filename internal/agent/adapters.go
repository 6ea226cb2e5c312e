package agent

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"encounterlauncher/internal/audit"
	"encounterlauncher/internal/control"
	"encounterlauncher/internal/flow"
	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/opener"
	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/orgclient"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/recents"
	"encounterlauncher/internal/secret"
	"encounterlauncher/internal/tokenstore"
	"encounterlauncher/internal/transport"
	"encounterlauncher/internal/view"
)

// linkKeys makes the Idempotency-Key of a link: an HMAC under a secret of this
// user, so that the same link has the same key through every retry, further
// click and crash, and the key tells nobody the link.
type linkKeys struct {
	store *tokenstore.Store

	mu     sync.Mutex
	secret secret.Text // guarded by mu
}

const linkKeySecret = "idempotency"

func newLinkKeys(store *tokenstore.Store) *linkKeys { return &linkKeys{store: store} }

func newLinkSecret() (secret.Text, error) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return secret.New(base64.RawStdEncoding.EncodeToString(b)), nil
}

// load reads the secret, or makes it. Without a keyring it lives in memory.
func (k *linkKeys) load(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.secret.Empty() {
		return nil
	}
	s, err := k.store.Secret(ctx, linkKeySecret, newLinkSecret)
	if problem.IsCode(err, problem.KeyringUnavailable) {
		s, err = newLinkSecret()
	}
	if err != nil {
		return err
	}
	k.secret = s
	return nil
}

// mend deletes secrets of this user that cannot be read any more, so that new ones
// are made: a part of signing out, which is what a person is told to do then.
func mend(ctx context.Context, store *tokenstore.Store) error {
	for _, name := range []string{linkKeySecret, recentsSecret} {
		_, err := store.Secret(ctx, name, func() (secret.Text, error) { return secret.Text{}, errNothingToDo })
		if !problem.IsCode(err, problem.KeyringCorrupt) {
			continue
		}
		if err := store.DeleteSecret(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// of returns the key for a launch. A reopening is no link: its key is the
// launch's own id.
func (k *linkKeys) of(ctx context.Context, l flow.Launch) (string, error) {
	if l.Reopen != nil {
		return l.RequestID, nil
	}
	if err := k.load(ctx); err != nil {
		return "", err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	mac := hmac.New(sha256.New, []byte(k.secret.Reveal()))
	mac.Write([]byte(l.Request.Link().Reveal()))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
}

// orgOf is flow.Org on the organisation's client, for one launch. It keeps how the
// newest call went.
type orgOf struct {
	client  *orgclient.Client
	keys    *linkKeys
	asked   bool
	outcome error
}

func (o *orgOf) Create(ctx context.Context, s flow.Session, l flow.Launch) (launch.Target, flow.Encounter, error) {
	key, err := o.keys.of(ctx, l)
	if err != nil {
		return launch.Target{}, flow.Encounter{}, err
	}
	target, e, err := o.client.Create(orgclient.WithRequestID(ctx, l.RequestID), s.Token, *l.Request, key)
	o.asked, o.outcome = true, err
	return target, flow.Encounter{ExternalEncounterID: e.ExternalEncounterID, ExternalProviderID: e.ExternalProviderID, Label: e.Label}, err
}

func (o *orgOf) Reopen(ctx context.Context, s flow.Session, l flow.Launch) (launch.Target, error) {
	key, err := o.keys.of(ctx, l)
	if err != nil {
		return launch.Target{}, err
	}
	e := orgapi.Encounter{ExternalEncounterID: l.Reopen.ExternalEncounterID, ExternalProviderID: l.Reopen.ExternalProviderID}
	target, err := o.client.Reopen(orgclient.WithRequestID(ctx, l.RequestID), s.Token, e, key)
	o.asked, o.outcome = true, err
	return target, err
}

// openerOf is flow.Opener on the opener; the click is the activation that came
// with the link or the intent.
type openerOf struct{ opener *opener.Opener }

func (o openerOf) Open(ctx context.Context, t launch.Target, click any) error {
	a, _ := click.(control.Activation)
	return o.opener.Open(ctx, t, opener.Activation{Token: a.Token, StartupID: a.StartupID})
}

// recentsOf keeps one list for each person who signs in here.
type recentsOf struct {
	layout paths.Layout
	store  *tokenstore.Store
	now    func() time.Time
	log    *slog.Logger
	// who is signed in.
	who func() flow.Person

	mu     sync.Mutex
	policy policy.Snapshot        // guarded by mu
	lists  map[string]personsList // guarded by mu: by issuer and subject
}

// personsList is a person's list, and whether it was opened for a workstation
// that several people share.
type personsList struct {
	*recents.List
	shared bool
}

const recentsSecret = "recents"

// recentsTime bounds a look at the recents: the keyring's deadline, and a wait
// for another session of the person.
const recentsTime = keyringDeadline + 2*time.Second

func newRecentsOf(l paths.Layout, store *tokenstore.Store, now func() time.Time, log *slog.Logger, who func() flow.Person) *recentsOf {
	return &recentsOf{layout: l, store: store, now: now, log: log, who: who, lists: make(map[string]personsList)}
}

func (r *recentsOf) limit(p policy.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.policy = p
}

func (r *recentsOf) limits() recents.Limits {
	r.mu.Lock()
	defer r.mu.Unlock()
	return recents.Limits{Max: r.policy.RecentsLimit, Age: r.policy.RecentsRetention}
}

func (r *recentsOf) labelPolicy() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.policy.RecentsLabel
}

// list returns the person's list, in memory only where there is no keyring to
// seal it under or policy wants nothing kept.
func (r *recentsOf) list(ctx context.Context, p flow.Person) (*recents.List, error) {
	person := p.Issuer + " " + p.Subject
	r.mu.Lock()
	known, shared := r.lists[person], r.policy.SharedWorkstation
	r.mu.Unlock()
	if known.List != nil && known.shared == shared {
		return known.List, nil
	}
	dir := r.layout.RecentsDir()
	var identity secret.Text
	var err error
	if !shared {
		identity, err = r.store.Secret(ctx, recentsSecret, recents.NewIdentity)
	}
	if shared || problem.IsCode(err, problem.KeyringUnavailable) {
		dir = ""
		identity, err = recents.NewIdentity()
	}
	if err != nil {
		return nil, err
	}
	opened, err := recents.Open(dir, identity, person, r.store.Lock, r.limits, r.now)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.lists[person]; known.List != nil && known.shared == shared {
		return known.List, nil
	}
	r.lists[person] = personsList{opened, shared}
	return opened, nil
}

// use does something with the person's list within the time that a look at the
// recents may take. On a computer that several people share, what was kept of
// somebody who has left meanwhile is forgotten again: whoever wiped it was first.
func (r *recentsOf) use(ctx context.Context, p flow.Person, do func(context.Context, *recents.List) error) error {
	ctx, cancel := context.WithTimeout(ctx, recentsTime)
	defer cancel()
	list, err := r.list(ctx, p)
	if err != nil {
		return err
	}
	defer r.leave(p)
	err = do(ctx, list)
	if aside := list.SetAside(); aside != nil {
		r.log.Warn("the recents start anew", "problem", problem.Of(aside))
	}
	return err
}

func (r *recentsOf) leave(p flow.Person) {
	r.mu.Lock()
	shared := r.policy.SharedWorkstation
	r.mu.Unlock()
	if shared && !p.Same(r.who()) {
		r.forget(p)
	}
}

// forget drops what memory has of one person's recents.
func (r *recentsOf) forget(p flow.Person) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.lists, p.Issuer+" "+p.Subject)
}

// Add implements flow.Recents. It holds the next launch up no longer than the
// keyring may take.
func (r *recentsOf) Add(ctx context.Context, p flow.Person, e flow.Encounter, openedAt time.Time) (id string, err error) {
	err = r.use(ctx, p, func(ctx context.Context, l *recents.List) error {
		added, err := l.Add(ctx, recents.Entry{
			ExternalEncounterID: e.ExternalEncounterID, ExternalProviderID: e.ExternalProviderID,
			Label: labelFor(r.labelPolicy(), e.Label), OpenedAt: openedAt, Status: recents.Opened,
		})
		id = added.ID
		return err
	})
	return id, err
}

func (r *recentsOf) find(ctx context.Context, p flow.Person, id string, last bool) (flow.Encounter, bool, error) {
	var e recents.Entry
	var found bool
	err := r.use(ctx, p, func(ctx context.Context, l *recents.List) (err error) {
		if !last {
			e, found, err = l.Get(ctx, id)
			return err
		}
		all, err := l.All(ctx)
		if err == nil && len(all) > 0 {
			e, found = all[0], true
		}
		return err
	})
	label := labelFor(r.labelPolicy(), e.Label)
	return flow.Encounter{ExternalEncounterID: e.ExternalEncounterID, ExternalProviderID: e.ExternalProviderID, Label: label}, found, err
}

// visible returns the person's recents as people may see them; none when nobody
// is signed in or the list cannot be read now.
func (r *recentsOf) visible(p flow.Person) []view.Recent {
	seen := []view.Recent{}
	if p.Subject == "" {
		return seen
	}
	var all []recents.Entry
	err := r.use(context.Background(), p, func(ctx context.Context, l *recents.List) (err error) {
		all, err = l.All(ctx)
		return err
	})
	if err != nil {
		r.log.Warn("reading the recents", "problem", problem.Of(err))
	}
	label := r.labelPolicy()
	for _, e := range all {
		seen = append(seen, view.Recent{ID: e.ID, Label: labelFor(label, e.Label), OpenedAt: e.OpenedAt, Status: e.Status})
	}
	return seen
}

func (r *recentsOf) wipe(ctx context.Context) {
	r.mu.Lock()
	lists := r.lists
	r.lists = make(map[string]personsList)
	r.mu.Unlock()
	for _, l := range lists {
		if err := l.Clear(ctx); err != nil {
			r.log.Warn("wiping the recents", "problem", problem.Of(err))
		}
	}
}

// longLabel is how many characters of a patient's name are kept and seen at most.
const longLabel = 128

// labelFor shortens a patient's name to what policy allows to be kept and seen.
// It is idempotent, so that what was kept under a milder policy is cut as well.
func labelFor(policy, name string) string {
	switch policy {
	case "name":
		return view.Inert(name, longLabel)
	case "none":
		return ""
	}
	var initials []string
	for _, word := range strings.Fields(name) {
		word = strings.TrimLeftFunc(word, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
		if first, size := utf8.DecodeRuneInString(word); size > 0 && first != utf8.RuneError {
			initials = append(initials, string(unicode.ToUpper(first))+".")
		}
		if len(initials) == 4 {
			break
		}
	}
	return strings.Join(initials, " ")
}

// auditOf writes the audit to where policy says.
type auditOf struct {
	layout paths.Layout
	now    func() time.Time
	log    *slog.Logger
	name   string
	// sink is the system's log; audit.SystemSink but for tests.
	sink func() (audit.Sink, error)
	// changed is called without the lock when finding says something else.
	changed func()
	// begun is closed once the start of the program is in the audit; nil where nobody
	// waits for that.
	begun <-chan struct{}

	mu       sync.Mutex
	to       string     // guarded by mu: the destination in force
	file     *audit.Log // guarded by mu; nil for none
	sinkless bool       // guarded by mu: the system's log is wanted and not there

	// found is what finding says, apart from mu: that is held while a file is opened,
	// and what is shown does not wait for a disk.
	found atomic.Value // string
}

// What finding says. They stand among the findings of policy, which are English.
const (
	auditUnanchored = "AuditDestination: the system's log does not take the hashes of the audit, so its lines are in the person's file only."
	auditUnwritten  = "AuditDestination: the audit cannot be written on this computer; look at free space and at the rights of the person's state folder."
)

func newAuditOf(l paths.Layout, now func() time.Time, log *slog.Logger, changed func()) *auditOf {
	name := fmt.Sprintf("agent-%s-%d", now().UTC().Format("20060102T150405"), os.Getpid())
	return &auditOf{layout: l, now: now, log: log, name: name, sink: audit.SystemSink, changed: changed}
}

// finding is what is wrong with the audit, as a finding of policy; empty when
// nothing is.
func (a *auditOf) finding() string {
	found, _ := a.found.Load().(string)
	return found
}

// destination follows the policy AuditDestination.
func (a *auditOf) destination(to string) {
	a.mu.Lock()
	if to == a.to {
		a.mu.Unlock()
		return
	}
	if a.file != nil {
		_ = a.file.Close()
		a.file = nil
	}
	first := a.to == ""
	a.to = to
	var err error
	if !first { // at the start the first record opens it, which the first link does not wait for
		err = a.open()
	}
	a.mu.Unlock()
	a.judge(err)
}

// open opens the file where one is wanted; the caller holds mu.
func (a *auditOf) open() error {
	if a.to == "none" || a.to == "" {
		return nil
	}
	var sink audit.Sink
	a.sinkless = false
	if a.to == "system" {
		var err error
		if sink, err = a.sink(); err != nil {
			a.log.Warn("the system's log cannot take the audit's hashes", "problem", problem.Of(err))
			sink, a.sinkless = nil, true
		}
	}
	file, err := audit.Open(a.layout.AuditDir(), a.name, sink, a.now)
	if err != nil {
		return err
	}
	a.file = file
	return nil
}

// Record implements flow.Audit.
func (a *auditOf) Record(_ context.Context, l flow.Launch, o flow.Outcome, err error) {
	r := audit.Record{Outcome: audit.Opened, Person: personName(o.Person), RequestID: l.RequestID}
	if r.Person == "" {
		r.Person = personName(l.Arrived)
	}
	switch p := problem.Of(err); {
	case p != nil:
		r.Outcome, r.Code, r.Reference = p.Row().Audit, p.Code, p.Reference
	case o.Dropped:
		r.Outcome = audit.Dropped
	}
	a.note(r)
}

// begin has every later note wait until the function that it returns has written the
// start of the program. It is called before anybody else can note something.
func (a *auditOf) begin() (write func()) {
	begun := make(chan struct{})
	a.begun = begun
	return func() {
		defer close(begun)
		a.write(audit.Record{Outcome: audit.Started})
	}
}

func (a *auditOf) note(r audit.Record) {
	if a.begun != nil {
		<-a.begun
	}
	a.write(r)
}

func (a *auditOf) write(r audit.Record) {
	a.mu.Lock()
	var err error
	if a.file == nil {
		err = a.open() // what kept it from opening may have passed
	}
	file := a.file
	a.mu.Unlock()
	if file != nil {
		err = file.Record(context.Background(), r)
	}
	a.judge(err)
}

// judge logs what became of a line and keeps what people should know of it.
func (a *auditOf) judge(err error) {
	if err != nil {
		a.log.Error("writing the audit", "problem", problem.Of(err))
	}
	a.mu.Lock()
	found := ""
	switch {
	case err != nil && !errors.Is(err, audit.ErrSink):
		found = auditUnwritten
	case err != nil || a.sinkless:
		found = auditUnanchored
	}
	changed := found != a.finding()
	a.found.Store(found)
	a.mu.Unlock()
	if changed {
		a.changed()
	}
}

func (a *auditOf) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		if err := a.file.Close(); err != nil {
			a.log.Error("closing the audit", "problem", problem.Of(err))
		}
		a.file = nil
	}
	a.to = ""
}

// proxyCredentials asks the keyring for what a proxy wants to know. A computer
// without a keyring has nothing stored, nor has a proxy of a name for which nothing can
// be; every other problem of it is told.
type proxyCredentials struct{ store *tokenstore.Store }

// ProxyCredential implements transport.Credentials.
func (p proxyCredentials) ProxyCredential(ctx context.Context, host string) (transport.Credential, bool, error) {
	c, found, err := p.store.ProxyCredential(ctx, host)
	if problem.IsCode(err, problem.KeyringUnavailable) || problem.IsCode(err, problem.RequestInvalid) {
		err = nil
	}
	return transport.Credential{User: c.User, Password: c.Password, Stamp: c.Set.Format(time.RFC3339Nano)}, found, err
}
