// Package view is what can be seen of the agent: one Snapshot, the same for
// tray, window, notices and command line. They show it and send back intents;
// they hold no truth of their own.
//
// A snapshot never holds a token, a link, a URL or an identifier of a patient.
// Its JSON travels over the control channel and into the window; fields are
// only ever added.
package view

import (
	"time"

	"encounterlauncher/internal/problem"
)

// Stage is where a launch is.
type Stage string

// The stages, in the order of a launch that goes well, then its other ends.
const (
	Received  Stage = "received"
	SigningIn Stage = "signing_in"
	Creating  Stage = "creating"
	Opening   Stage = "opening"
	Opened    Stage = "opened"
	Failed    Stage = "failed"
	Cancelled Stage = "cancelled"
)

// Over reports whether a launch in this stage has ended.
func (s Stage) Over() bool { return s == Opened || s == Failed || s == Cancelled }

// SignInState says whether somebody is signed in.
type SignInState string

// The states of sign-in.
const (
	SignedOut    SignInState = "signed_out"
	SigningInNow SignInState = "signing_in"
	SignedIn     SignInState = "signed_in"
)

// Snapshot is the whole visible state at one moment.
type Snapshot struct {
	// Revision grows by one with every published change, from 1.
	Revision uint64 `json:"revision"`
	// Version of the agent.
	Version string `json:"version"`
	// OrganizationName and HelpDeskURL are policy's; empty when unset.
	OrganizationName string `json:"organization_name"`
	HelpDeskURL      string `json:"help_desk_url"`
	// Language is the language of every text, a BCP 47 tag such as "en".
	Language string `json:"language"`

	SignIn  SignIn   `json:"sign_in"`
	Policy  Policy   `json:"policy"`
	Keyring Keyring  `json:"keyring"`
	Launch  *Launch  `json:"launch"`
	Recents []Recent `json:"recents"`
	// Notice is the newest thing to tell the person by a system notification;
	// nil when there is nothing. Its ID grows.
	Notice *Notice `json:"notice"`
	// RaiseWindow grows by one whenever an open window should come to the front.
	RaiseWindow uint64 `json:"raise_window"`
}

// SignIn is the state of sign-in.
type SignIn struct {
	State SignInState `json:"state"`
	// Person is nil unless State is SignedIn.
	Person *Person `json:"person"`
	// MemoryOnly says that the sign-in ends with the agent, because there is no
	// keyring or policy forbids storing.
	MemoryOnly bool `json:"memory_only"`
	// Problem is why the last sign-in did not work; nil when it did.
	Problem *Problem `json:"problem"`
}

// Person is who is signed in, as the issuer says.
type Person struct {
	Subject string `json:"subject"`
	Email   string `json:"email"`
}

// Policy tells whether policy is in force.
type Policy struct {
	OK bool `json:"ok"`
	// Problems are sentences, each naming a key and never its value.
	Problems []string `json:"problems"`
	// RefusesLaunches says that a problem stops every launch until it is mended.
	RefusesLaunches bool `json:"refuses_launches"`
}

// Keyring tells what became of the OS keyring.
type Keyring struct {
	// Code is empty when all is well, else one of the keyring_ codes.
	Code problem.Code `json:"code"`
}

// Launch is the running launch, or the last one.
type Launch struct {
	// ID names the launch; every try has a new one.
	ID    string `json:"id"`
	Stage Stage  `json:"stage"`
	// Problem is set when Stage is Failed or Cancelled.
	Problem *Problem `json:"problem"`
	// StartedAt is when the link or the intent arrived.
	StartedAt time.Time `json:"started_at"`
	// MS says after how many milliseconds from arrival each stage was reached.
	MS map[Stage]int64 `json:"ms"`
	// Reopen says that it came from recents and not from a link.
	Reopen bool `json:"reopen"`
	// Label is the label of the encounter once known, by policy; may be empty.
	Label string `json:"label"`
	// Retryable says that the intent to retry would be accepted.
	Retryable bool `json:"retryable"`
	// RecentID is the recent entry of an opened launch, for "Didn't open?".
	RecentID string `json:"recent_id"`
}

// Problem is a problem as people see it, already in the snapshot's language.
type Problem struct {
	Code      problem.Code `json:"code"`
	Sentence  string       `json:"sentence"`
	NextStep  string       `json:"next_step"`
	Reference string       `json:"reference"`
}

// Recent is one encounter that can be reopened.
type Recent struct {
	// ID is stable for one encounter and means nothing outside this machine.
	ID string `json:"id"`
	// Label follows the policy RecentsLabel; may be empty.
	Label    string    `json:"label"`
	OpenedAt time.Time `json:"opened_at"`
	// Status is "opened", or "exported" once the backend said so.
	Status string `json:"status"`
}

// Notice is one thing to tell the person. It never names a patient.
type Notice struct {
	ID uint64 `json:"id"`
	// Problem is what happened.
	Problem Problem `json:"problem"`
	// Actions are the intents that make sense now, in the order of usefulness:
	// "retry", "sign_in", "open_window".
	Actions []string `json:"actions"`
}

// The names of actions in a notice.
const (
	ActionRetry      = "retry"
	ActionSignIn     = "sign_in"
	ActionOpenWindow = "open_window"
)
