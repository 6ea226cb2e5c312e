// Package policy turns what IT wrote down into one Snapshot: it reads every
// source, checks every value against the one table of keys, and says for each
// value where it came from and what was rejected and why.
//
// It never repairs a value, never prints one in a finding, and holds no secret: no
// key of the table may carry one. It writes nowhere but in Choose, which keeps one
// choice of the person in the person's own settings file, and never touches what
// IT wrote. A key that
// guards launches and cannot be trusted in the strongest source that sets it
// refuses launches; a weaker source never takes its place.
package policy

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"encounterlauncher/internal/problem"
)

// Snapshot is the policy in force at one moment. It is a value that is never
// changed after it was made, so it is safe to share between goroutines; its
// slices are not to be written to.
//
// Strings are empty and lists nil where a key is unset and has no default.
// Where a value could not be used, the key's safest one is in force, and a key
// that refuses launches makes LaunchProblem say so: ask it before any launch.
type Snapshot struct {
	// OrganizationName is shown in tray and window; empty when unset.
	OrganizationName string
	// HelpDeskURL is an https address, or empty.
	HelpDeskURL string
	// BackendURL is the base of the organisation's API, without a trailing
	// slash being added or removed; the audience of signed requests is exactly it.
	BackendURL string
	// OIDCIssuer, OIDCClientID and OIDCAudience say where people sign in.
	OIDCIssuer, OIDCClientID, OIDCAudience string
	// OIDCPrompt is login, consent or select_account; empty sends none.
	OIDCPrompt string
	// RecentsLabel is none, initials or name.
	RecentsLabel string
	// ProxyMode is system, direct, manual or pac.
	ProxyMode string
	// ProxyURL is set when ProxyMode is manual, ProxyPACURL when it is pac.
	ProxyURL, ProxyPACURL string
	// ExtraCAFile is an absolute path to PEM certificates, or empty.
	ExtraCAFile string
	// ClientCertificateFile and ClientKeyFile are absolute paths of PEM files, both
	// set or both empty, and never set together with ClientCertificateThumbprint.
	ClientCertificateFile, ClientKeyFile string
	// ClientCertificateThumbprint is 40 hexadecimal digits in either case, or empty.
	ClientCertificateThumbprint string
	// Language is a BCP 47 tag of the supported list; empty means the system's.
	Language string
	// AuditDestination is file, system or none.
	AuditDestination string
	// LogLevel is debug, info, warn or error.
	LogLevel string
	// Notices is all, problems or none.
	Notices string

	// OIDCScopes are the scopes asked for at sign-in.
	OIDCScopes []string
	// EncounterURLHosts are exact hosts or suffixes with a leading dot, ASCII
	// lower case.
	EncounterURLHosts []string
	// AllowedLinkForms are of handle, request and identifiers.
	AllowedLinkForms []string
	// OIDCRedirectPorts are the ports on 127.0.0.1 for the redirect; nil means
	// any free one.
	OIDCRedirectPorts []int
	// HiddenItems are of sign-in, sign-out, recents, settings, diagnostics and
	// quit; nil hides nothing.
	HiddenItems []string
	// LinkKeys is a JWK set as JSON, public keys only, or nil.
	LinkKeys []byte

	// RecentsLimit is the greatest number of recents kept; 0 keeps none.
	RecentsLimit int
	// RecentsRetention is how long a recent is kept; 0 keeps none.
	RecentsRetention time.Duration
	// IdleSignOut signs out after so long without input; 0 means unset.
	IdleSignOut time.Duration
	// MaxSignInAge is how old a sign-in may be; 0 means unset.
	MaxSignInAge time.Duration

	// SharedWorkstation says that several people use one account of the system.
	SharedWorkstation bool
	// SignOutOnLock signs out when the session is locked.
	SignOutOnLock bool
	// Autostart starts the agent at logon.
	Autostart bool

	// Values has one row for each key of the table, in its order.
	Values []Value
	// Findings are what is wrong, in the order of the sources, then of the table.
	Findings []Finding
}

// Value is what became of one key: what is in force, from where, and what was
// rejected on the way. Its JSON is an answer of the command line.
type Value struct {
	Key  string `json:"key"`
	Type string `json:"type"`
	// Effective is the value in force as JSON text; "null" when it is unset or
	// could not be used.
	Effective string `json:"effective"`
	// Default is the built-in default as JSON text; "null" when there is none.
	Default string `json:"default"`
	// Source is one of the Source constants.
	Source string `json:"source"`
	// Path is the file or registry key of the source; empty for the built-in
	// default.
	Path string `json:"path"`
	// Locked says that the person cannot change the value, because the key
	// allows no choice or a policy sets it.
	Locked bool `json:"locked"`
	// Rejected are the values that sources hold and that were not taken because
	// they cannot be used, strongest first. A usable value that a stronger
	// source overrides is not rejected. Empty, never nil, as Load makes it.
	Rejected []Rejected `json:"rejected"`
}

// Rejected is a value that could not be used. It never holds the value.
type Rejected struct {
	Source string `json:"source"`
	Path   string `json:"path"`
	// Sentence says why, and what to do.
	Sentence string `json:"sentence"`
}

// Finding is one thing that is wrong with a source, for people.
type Finding struct {
	// Key is the key of the table, an unknown key as written where it is safe to
	// show, or empty when the whole source cannot be read.
	Key string `json:"key"`
	// Source is one of the Source constants.
	Source string `json:"source"`
	// Sentence names key and source and says what to do, never the value.
	Sentence string `json:"sentence"`
	// RefusesLaunches says that no launch goes on until it is mended.
	RefusesLaunches bool `json:"refuses_launches"`
	// Code is policy_missing or policy_invalid when RefusesLaunches, else empty.
	Code problem.Code `json:"code"`
}

// The sources, strongest first.
const (
	SourceMachine  = "machine policy"
	SourceUser     = "user policy"
	SourcePerson   = "person's choice"
	SourceDefaults = "installer defaults"
	SourceBuiltIn  = "built-in default"
	// SourceFile is a file that is only looked at (see CheckFile).
	SourceFile = "file"
	// SourceSafest stands for no source: what a source says cannot be used, and
	// the key's safest value is in force.
	SourceSafest = "safest value"
)

// LaunchProblem is why no launch may go on: nil, policy_missing when a required
// key is set nowhere, or policy_invalid when a key that guards launches, or a
// source that could hold one, cannot be used. The fact names keys, never values.
// The zero snapshot is policy_missing. Every call makes a new reference.
func (s Snapshot) LaunchProblem() error {
	var invalid, missing []string
	for _, f := range s.Findings {
		name := f.Key
		if name == "" {
			name = "the " + f.Source
		}
		switch {
		case !f.RefusesLaunches || slices.Contains(invalid, name) || slices.Contains(missing, name):
		case f.Code == problem.PolicyMissing:
			missing = append(missing, name)
		default:
			invalid = append(invalid, name)
		}
	}
	switch {
	case len(invalid) > 0:
		names := strings.Join(invalid, ", ")
		return problem.With(problem.PolicyInvalid, "Look at "+names+".", errors.New("policy cannot be used: "+names))
	case len(missing) > 0:
		names := strings.Join(missing, ", ")
		return problem.With(problem.PolicyMissing, "Not set: "+names+".", errors.New("policy is not set: "+names))
	case s.BackendURL == "" || s.OIDCIssuer == "" || s.OIDCClientID == "" || len(s.EncounterURLHosts) == 0:
		return problem.New(problem.PolicyMissing, errors.New("policy has not been read"))
	}
	return nil
}

// Equal reports whether two snapshots say the same in every respect, findings
// and sources included. It costs microseconds.
func (s Snapshot) Equal(other Snapshot) bool { return reflect.DeepEqual(s, other) }

// ChangesIdentity reports whether going from old to new puts another backend or
// another sign-in in force (BackendURL or any OIDC key differs), so that the
// person must be signed out.
//
// It is false when either has a LaunchProblem: a policy that is broken for a
// moment says nothing about who may be signed in, and launches are refused
// meanwhile. So compare with the last snapshot that had none, not with the last
// one that came.
func ChangesIdentity(old, new Snapshot) bool {
	if old.LaunchProblem() != nil || new.LaunchProblem() != nil {
		return false
	}
	return old.BackendURL != new.BackendURL || old.OIDCIssuer != new.OIDCIssuer || old.OIDCClientID != new.OIDCClientID ||
		old.OIDCAudience != new.OIDCAudience || old.OIDCPrompt != new.OIDCPrompt ||
		!slices.Equal(old.OIDCScopes, new.OIDCScopes) || !slices.Equal(old.OIDCRedirectPorts, new.OIDCRedirectPorts)
}

// Explanation is the answer of "encounter-launcher policy": what is in force,
// from where, and what was rejected and why.
type Explanation struct {
	// OK says that there is no finding.
	OK bool `json:"ok"`
	// RefusesLaunches says that LaunchProblem is not nil.
	RefusesLaunches bool      `json:"refuses_launches"`
	Values          []Value   `json:"values"`
	Findings        []Finding `json:"findings"`
}

// Explain returns what the command line shows of a snapshot. Its lists are never
// nil, so that they are lists in JSON too.
func Explain(s Snapshot) Explanation {
	e := Explanation{
		OK: len(s.Findings) == 0, RefusesLaunches: s.LaunchProblem() != nil,
		Values: append([]Value{}, s.Values...), Findings: append([]Finding{}, s.Findings...),
	}
	for i := range e.Values {
		e.Values[i].Rejected = append([]Rejected{}, e.Values[i].Rejected...)
	}
	return e
}
