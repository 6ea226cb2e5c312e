// Package conformance says whether a backend keeps the contract of openapi.yaml: it
// plays the published cases against it, as a launcher, an EHR and Nabla would.
//
// It creates encounters of an invented patient, so it is for a backend that speaks
// to a test organisation at Nabla, or to nabla-sim.
//
// It knows no backend from inside, and never prints a token, a handle, a URL or
// anything that a backend wrote.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"encounterlauncher/internal/orgapi"
	"encounterlauncher/internal/secret"
)

// Severity says how much a case weighs.
type Severity string

// A backend that fails a Must does not keep the contract. A Should is advice.
const (
	Must   Severity = "must"
	Should Severity = "should"
)

// Need is what a case cannot do without.
type Need string

// The needs of cases.
const (
	NeedClinician Need = "clinician" // Token
	NeedOther     Need = "other"     // OtherToken
	NeedExpired   Need = "expired"   // ExpiredToken
	NeedIDToken   Need = "id-token"  // IDToken
	NeedEHR       Need = "ehr"       // EHRToken
	NeedSecret    Need = "callback"  // CallbackSecret
	NeedSlow      Need = "slow"      // Slow
)

// sentences say what is missing, and how to give it to the command.
var sentences = map[Need]string{
	NeedClinician: "a clinician's access token (--token-file)",
	NeedOther:     "another clinician's access token (--other-token-file)",
	NeedExpired:   "an access token that has expired (--expired-token-file)",
	NeedIDToken:   "an ID token of the clinician's (--id-token-file)",
	NeedEHR:       "an EHR server's credential (--ehr-token-file)",
	NeedSecret:    "the secret shared with Nabla (--callback-secret-file)",
	NeedSlow:      "half a minute of patience (--slow)",
}

// Case is one published case.
type Case struct {
	// ID is kept from version to version.
	ID string `json:"id"`
	// Sentence says what a backend does that keeps it.
	Sentence string `json:"sentence"`
	// Clause is where openapi.yaml says so.
	Clause   string   `json:"clause"`
	Severity Severity `json:"severity"`
	Needs    []Need   `json:"needs"`
	// Mend says what to look at when it fails.
	Mend string `json:"mend"`

	run func(context.Context, *session) error
}

// Outcome is how a case went. A case that was not tried has not passed.
type Outcome string

// The outcomes.
const (
	Passed   Outcome = "passed"
	Failed   Outcome = "failed"
	NotTried Outcome = "not tried"
)

// Result is one case, played. Saw says, for one that failed, what happened instead;
// for one that was not tried, what it needs.
type Result struct {
	Case
	Outcome Outcome `json:"outcome"`
	Saw     string  `json:"saw,omitempty"`
}

// Config says which backend, and with what. The zero value of a credential means that
// there is none: the cases that need it are not tried.
type Config struct {
	// BaseURL is the BackendURL: https, or http to a loopback address.
	BaseURL string
	// EHRURL and CallbackURL are where EHR servers and Nabla know the backend; empty
	// means below BaseURL.
	EHRURL, CallbackURL string

	Token, OtherToken, ExpiredToken, IDToken, EHRToken, CallbackSecret secret.Text
	// ProviderID, when set, is who the clinician of Token must be taken for.
	ProviderID string
	// Slow lets cases wait for half a minute.
	Slow bool
	// Only, when not empty, are the ids of the cases to play.
	Only []string

	// HTTP makes the calls; nil means a client of our own. Redirects are never
	// followed, and every call is bounded.
	HTTP *http.Client
	// Now, After and Sleep are the clock; nil means the real one. Sleep waits where a
	// backend says so (Retry-After), After bounds how long an answer may take.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	Sleep func(context.Context, time.Duration) error
}

// Cases returns the published cases, in the order in which they are played.
func Cases() []Case { return append(append([]Case(nil), direct...), overall...) }

// Run plays the cases and tells each result to told, which may be nil, as it comes.
// The error is about the configuration, or says that nobody answers at all; then there
// are no results.
func Run(ctx context.Context, cfg Config, told func(Result)) ([]Result, error) {
	s, err := newSession(cfg)
	if err != nil {
		return nil, err
	}
	results := make([]Result, 0, len(direct)+len(overall))
	for _, c := range Cases() {
		if len(cfg.Only) > 0 && !contains(cfg.Only, c.ID) {
			continue
		}
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
		r := Result{Case: c}
		r.Outcome, r.Saw = s.play(ctx, c)
		if r.Outcome == Failed && s.nobody() && ctx.Err() == nil {
			// Every case would fail for the same reason.
			return nil, fmt.Errorf("nothing can be judged: %s", r.Saw)
		}
		results = append(results, r)
		if told != nil {
			told(r)
		}
	}
	return results, nil
}

func contains(list []string, word string) bool {
	for _, w := range list {
		if w == word {
			return true
		}
	}
	return false
}

// Kept reports whether no case with severity Must has failed.
func Kept(results []Result) bool {
	for _, r := range results {
		if r.Severity == Must && r.Outcome == Failed {
			return false
		}
	}
	return true
}

// errNotTried is a case that could not be tried.
type errNotTried struct{ needs string }

func (e errNotTried) Error() string { return e.needs }

func (s *session) play(ctx context.Context, c Case) (Outcome, string) {
	for _, n := range c.Needs {
		if !s.have(n) {
			return NotTried, "needs " + sentences[n]
		}
	}
	err := c.run(ctx, s)
	var untried errNotTried
	switch {
	case err == nil:
		return Passed, ""
	case errors.As(err, &untried):
		return NotTried, "needs " + untried.needs
	}
	return Failed, err.Error()
}

func (s *session) have(n Need) bool {
	switch n {
	case NeedClinician:
		return !s.Token.Empty()
	case NeedOther:
		return !s.OtherToken.Empty()
	case NeedExpired:
		return !s.ExpiredToken.Empty()
	case NeedIDToken:
		return !s.IDToken.Empty()
	case NeedEHR:
		return !s.EHRToken.Empty()
	case NeedSecret:
		return !s.CallbackSecret.Empty()
	}
	return s.Slow
}

// checkURL refuses an address to which a token may not be sent.
func checkURL(what, address string) (loopback bool, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(address, "/") {
		return false, fmt.Errorf("%s is not a plain URL without a trailing slash", what)
	}
	loopback = u.Hostname() == "127.0.0.1" || u.Hostname() == "::1" || u.Hostname() == "localhost"
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return false, fmt.Errorf("%s is neither https nor http to this computer: tokens are sent there", what)
	}
	return loopback, nil
}

func (c Config) filled() (Config, bool, error) {
	if c.EHRURL == "" {
		c.EHRURL = c.BaseURL
	}
	if c.CallbackURL == "" {
		c.CallbackURL = c.BaseURL + orgapi.PathCallbacks
	}
	loopback, err := checkURL("the base URL", c.BaseURL)
	if err != nil {
		return c, false, err
	}
	for _, a := range [][2]string{{"the EHR's address", c.EHRURL}, {"the address for callbacks", c.CallbackURL}} {
		if _, err := checkURL(a[0], a[1]); err != nil {
			return c, false, err
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.After == nil {
		c.After = time.After
	}
	if c.Sleep == nil {
		c.Sleep = func(ctx context.Context, d time.Duration) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(d):
				return nil
			}
		}
	}
	for _, id := range c.Only {
		known := false
		for _, k := range Cases() {
			known = known || k.ID == id
		}
		if !known {
			return c, false, errors.New("there is no case of that id; see --list")
		}
	}
	return c, loopback, nil
}
