package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/orgclient"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
	"encounterlauncher/internal/signin"
	"encounterlauncher/internal/text"
	"encounterlauncher/internal/transport"
	"encounterlauncher/internal/view"
)

// rooms are what one policy snapshot builds. They are replaced as a whole.
type rooms struct {
	policy policy.Snapshot
	// refuse is why no launch may start, nil when all is well.
	refuse error
	rules  launch.Rules
	org    *orgclient.Client
	id     *identity
	http   *http.Client
}

// take puts a policy snapshot in force.
func (a *Agent) take(p policy.Snapshot) {
	language := p.Language
	if language == "" {
		language = text.System()
	}
	words := text.For(language)
	locale := text.SystemLocale(words.Language())
	r := a.build(p, words)
	a.mu.Lock()
	before, good := a.rooms, a.good
	a.rooms = r
	if r.refuse == nil {
		a.good = &p
	}
	a.mu.Unlock()
	// From here on a launch has the new rooms. The session's tokens are still for
	// the old ones, and tokensFor gives none of them away.
	if before != nil && before.http != nil {
		transport.Retire(before.http)
	}
	if a.opts.Level != nil {
		_ = a.opts.Level.UnmarshalText([]byte(p.LogLevel))
	}
	a.audit.destination(p.AuditDestination)
	a.recents.limit(p)
	a.words.Store(&words)
	if r.refuse == nil {
		// A policy that is broken for a moment says nothing about who may be signed
		// in, and launches are refused meanwhile: so the last good one is compared.
		if good != nil && (policy.ChangesIdentity(*good, p) || p.SharedWorkstation && !good.SharedWorkstation) {
			// A token that was obtained for another server or issuer is of no use and
			// must not lie about (design §7). Nor may one that was stored before several
			// people came to share this computer.
			a.cancelLaunches()
			if err := a.session.signOut(context.Background()); err != nil {
				a.log.Warn("signing out after a change of policy", "problem", problem.Of(err))
			}
		}
		a.session.use(r.id)
	}
	a.board.change(func(s *view.Snapshot) {
		s.OrganizationName, s.HelpDeskURL = p.OrganizationName, p.HelpDeskURL
		s.Language, s.Locale = words.Language(), locale
		s.Workstation = rulesOf(p).seen()
	})
	if before != nil && before.policy.BackendURL != p.BackendURL {
		a.backendReplaced()
	}
	a.takeSettings(p)
	a.showPolicy()
	a.showExamination() // its words
	a.showBackend()
	a.launchChanged(nil) // labels and language
	a.sessionChanged()
	if r.refuse != nil {
		a.log.Error("policy refuses launches", "problem", problem.Of(r.refuse), "findings", len(p.Findings))
	}
	if before == nil || recentsPolicyOf(before.policy) != recentsPolicyOf(p) {
		a.forgetRemoved()
		a.recentsChanged()
	}
	a.wake()
	a.guard.look()
	if r.id != nil {
		a.warmUp()
	}
}

func (a *Agent) build(p policy.Snapshot, words text.Catalogue) *rooms {
	r := &rooms{policy: p, refuse: p.LaunchProblem()}
	if r.refuse != nil {
		return r
	}
	demo := a.opts.Layout.IsDemo()
	if r.rules, r.refuse = launch.NewRules(p.AllowedLinkForms, p.LinkKeys, p.BackendURL); r.refuse != nil {
		return r
	}
	var credentials transport.Credentials = proxyCredentials{a.store}
	if p.SharedWorkstation {
		// The account's keyring is everybody's: what one has stored there before the
		// computer was shared would speak for all.
		credentials = nil
	}
	if roots := a.roots; roots != nil {
		a.roots = nil
		r.http, r.refuse = transport.NewClientTrusting(p, credentials, roots)
	} else {
		r.http, r.refuse = transport.NewClient(p, credentials)
	}
	if r.refuse != nil {
		return r
	}
	r.org, r.refuse = orgclient.New(orgclient.Config{
		BackendURL: p.BackendURL, LoopbackHTTP: demo, HTTP: r.http, Now: a.now,
		Hosts:     launch.Addresses{Hosts: p.EncounterURLHosts, LoopbackHTTP: demo},
		UserAgent: a.opts.Layout.Name + "/" + a.opts.Version,
	})
	if r.refuse != nil {
		return r
	}
	prompt, maxAge := p.OIDCPrompt, p.MaxSignInAge
	if p.SharedWorkstation && prompt == "" {
		prompt = "login" // the next clinician must not slip into the browser's session of the last
	}
	if maxAge == 0 {
		maxAge = -1
	}
	r.id = &identity{
		issuer: p.OIDCIssuer, clientID: p.OIDCClientID, binding: bindingOf(p),
		memoryOnly: p.SharedWorkstation, maxAge: p.MaxSignInAge,
		client: signin.New(signin.Config{
			Issuer: p.OIDCIssuer, ClientID: p.OIDCClientID, Audience: p.OIDCAudience, Scopes: p.OIDCScopes,
			Prompt: prompt, MaxAge: maxAge, RedirectPorts: p.OIDCRedirectPorts, LoopbackHTTP: demo,
			HTTP: r.http, Now: a.now, Timeout: pageLife, Log: a.log, Words: pageWords(words),
		}),
		show: func(ctx context.Context, page signin.Page, click any) error {
			target, err := launch.Addresses{Hosts: page.Hosts, AnyPort: true, LoopbackHTTP: demo}.Check(page.Address)
			if err != nil {
				return err
			}
			return openerOf{a.opener}.Open(ctx, target, click)
		},
		ahead: func(ctx context.Context) { transport.Connect(ctx, r.http, p.BackendURL) },
		left:  func() { transport.ForgetCredentials(r.http) },
	}
	return r
}

// pageWords are what the sign-in's last page says in the browser.
func pageWords(words text.Catalogue) signin.Words {
	return signin.Words{
		Language: words.Language(), Product: words.Word("app.name"),
		SignedIn: words.Word("page.signed_in"), SignedInNext: words.Word("page.signed_in_next"),
		Close: words.Word("page.close"), Reference: words.Word("page.reference"),
		Sentence: words.Sentence, Fact: words.Fact, NextStep: words.NextStep,
	}
}

// bindingOf names everything that a token depends on, without saying it.
func bindingOf(p policy.Snapshot) string {
	scopes := slices.Sorted(slices.Values(p.OIDCScopes))
	sum := sha256.Sum256([]byte(strings.Join([]string{
		p.BackendURL, p.OIDCIssuer, p.OIDCClientID, p.OIDCAudience, p.OIDCPrompt, strings.Join(scopes, " "), fmt.Sprint(p.OIDCRedirectPorts),
	}, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// recentsPolicyOf is what of policy decides which recents are seen, and how.
func recentsPolicyOf(p policy.Snapshot) [4]any {
	return [4]any{p.RecentsLabel, p.RecentsLimit, p.RecentsRetention, p.SharedWorkstation}
}

// warmUp reads what the first click would else wait for, unless it is there.
func (a *Agent) warmUp() {
	if a.work.begin() != nil {
		return
	}
	go func() {
		defer a.work.end()
		// The keyring answers one question at a time, and the sign-in is the one that
		// a click waits for longest.
		select {
		case <-a.session.read:
		case <-time.After(time.Second):
		}
		if err := a.keys.load(context.Background()); err != nil {
			a.log.Info("the keyring is not ready yet", "problem", problem.Of(err))
		}
	}()
}

func (a *Agent) wake() {
	a.wakeUp.ring()
}
