// Package view is what can be seen of the agent: one Snapshot, the same for
// tray, window, notices and command line. They show it and send back intents;
// they hold no truth of their own. What comes from outside is made Inert here, so that
// all of them drop the same.
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
	// Locale is how times and dates are written, a BCP 47 tag such as "en-GB": the
	// system's region where it speaks Language, else Language alone.
	Locale string `json:"locale"`
	// Hidden are the names of what policy hides from tray and window, out of the
	// Hide constants; empty, never nil.
	Hidden []string `json:"hidden"`
	// FirstRun says that nobody has signed in under this account yet, so that the
	// window begins with the page that says what this is.
	FirstRun bool `json:"first_run"`

	SignIn      SignIn      `json:"sign_in"`
	Policy      Policy      `json:"policy"`
	Keyring     Keyring     `json:"keyring"`
	Backend     Backend     `json:"backend"`
	Workstation Workstation `json:"workstation"`
	Link        Link        `json:"link"`
	Launch      *Launch     `json:"launch"`
	Recents     []Recent    `json:"recents"`
	// Undo is what of the recents can still be taken back; nil when nothing can.
	Undo *Undo `json:"undo"`
	// Settings are what a person can choose, in the order in which they are shown,
	// and who decides now.
	Settings []Setting `json:"settings"`
	// Checkup is the newest look at the set-up; nil until one was asked for.
	Checkup *Checkup `json:"checkup"`
	// Doctor is the newest examination of the computer, which begins with each look at
	// the set-up; nil until one was asked for, and where it cannot be made.
	Doctor *Doctor `json:"doctor"`
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
	// EndsAt is when the sign-in will end by policy or by what the issuer gave;
	// nil when no end is known.
	EndsAt *time.Time `json:"ends_at"`
	// PageSince is when the sign-in page was opened, and PageOpen says that the
	// intent to show it again would be accepted. Both only while SigningInNow.
	PageSince *time.Time `json:"page_since"`
	PageOpen  bool       `json:"page_open"`
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

// BackendState says what is known of the organisation's backend.
type BackendState string

// The states of the backend.
const (
	// BackendUnknown: nothing was asked of it yet.
	BackendUnknown BackendState = "unknown"
	// BackendReachable: the newest call, or the open stream of events, was answered.
	BackendReachable BackendState = "reachable"
	// BackendTrouble: the newest call was not answered as it should be.
	BackendTrouble BackendState = "trouble"
)

// Backend is the organisation's backend as it was met last.
type Backend struct {
	State BackendState `json:"state"`
	// Problem is set when State is BackendTrouble.
	Problem *Problem `json:"problem"`
	// At is when it was met; nil for never.
	At *time.Time `json:"at"`
}

// Workstation is what policy says of a computer that several people share.
type Workstation struct {
	// Shared says that nothing of one person is left for the next.
	Shared bool `json:"shared"`
	// SignOutOnLock says that locking, switching or disconnecting signs out.
	SignOutOnLock bool `json:"sign_out_on_lock"`
	// IdleSignOutMinutes is after how many minutes without input it signs out; 0 for
	// never.
	IdleSignOutMinutes int `json:"idle_sign_out_minutes"`
}

// LinkState says to whom the links of the EHR come.
type LinkState string

// The states of the links.
const (
	// LinkUnknown: nobody has looked yet, or this program was never registered for
	// them, so that nothing is amiss.
	LinkUnknown LinkState = "unknown"
	// LinkOurs: they come to this program.
	LinkOurs LinkState = "ours"
	// LinkOther: they came to this program, or should, and come to another.
	LinkOther LinkState = "other"
	// LinkNobody: they came to this program, or should, and no program receives them: none
	// is registered, or in a form in which a link does not arrive.
	LinkNobody LinkState = "nobody"
)

// Link tells to whom the links of the EHR come, as the system had it at the newest look.
type Link struct {
	State LinkState `json:"state"`
}

// Lost reports whether the links come to somebody else, or to nobody.
func (l Link) Lost() bool { return l.State == LinkOther || l.State == LinkNobody }

// Undo is what of the recents was removed a moment ago.
type Undo struct {
	// Removed is how many encounters would come back.
	Removed int `json:"removed"`
	// Until is when they are gone for good.
	Until time.Time `json:"until"`
}

// Setting is one thing that a person can choose where policy leaves it open.
type Setting struct {
	// Key is the key of policy, such as "Language".
	Key string `json:"key"`
	// Kind is "choice" or "yes_no".
	Kind string `json:"kind"`
	// Value is what is in force: a word out of Choices, "true" or "false", or empty
	// when the key is unset.
	Value string `json:"value"`
	// Choices are the values of a choice; empty, never nil, for a yes_no.
	Choices []string `json:"choices"`
	// Locked says that a policy has decided; Source is the policy's word for who
	// has, one of "machine policy", "user policy", "person's choice", "installer
	// defaults", "built-in default" and "safest value".
	Locked bool   `json:"locked"`
	Source string `json:"source"`
}

// The kinds of a Setting.
const (
	SettingChoice = "choice"
	SettingYesNo  = "yes_no"
)

// CheckState says how one check went.
type CheckState string

// The states of a check.
const (
	CheckWaiting CheckState = "waiting"
	CheckRunning CheckState = "running"
	CheckOK      CheckState = "ok"
	CheckProblem CheckState = "problem"
	// CheckSkipped: it could not be made because another one has a problem.
	CheckSkipped CheckState = "skipped"
)

// Checkup is one look at the set-up.
type Checkup struct {
	// Running says that it goes on.
	Running bool `json:"running"`
	// StartedAt is when it was asked for.
	StartedAt time.Time `json:"started_at"`
	// Checks are in the order in which they are made.
	Checks []Check `json:"checks"`
}

// Check is one part of a Checkup.
type Check struct {
	// Name is one of the Check names.
	Name  string     `json:"name"`
	State CheckState `json:"state"`
	// Problem is set when State is CheckProblem.
	Problem *Problem `json:"problem"`
	// MS is how long it took, in milliseconds; 0 until it has ended.
	MS int64 `json:"ms"`
}

// The names of checks, in the order in which they are made.
const (
	CheckPolicy  = "policy"
	CheckKeyring = "keyring"
	CheckLink    = "link"
	CheckSignIn  = "sign_in"
	CheckBackend = "backend"
)

// What policy can hide from tray and window (Snapshot.Hidden). The command line
// hides nothing.
const (
	HideSignIn      = "sign-in"
	HideSignOut     = "sign-out"
	HideRecents     = "recents"
	HideSettings    = "settings"
	HideDiagnostics = "diagnostics"
	HideQuit        = "quit"
)

// The states of a DoctorCheck beside waiting, ok and skipped; the names are those of the
// command "doctor".
const (
	CheckWarning CheckState = "warning"
	CheckBroken  CheckState = "broken"
)

// Doctor is one examination of the computer by the command "doctor".
type Doctor struct {
	// Running says that it goes on.
	Running bool `json:"running"`
	// StartedAt is when it was asked for.
	StartedAt time.Time `json:"started_at"`
	// Checks are in the order in which they are shown.
	Checks []DoctorCheck `json:"checks"`
}

// DoctorCheck is one check of a Doctor.
type DoctorCheck struct {
	// Name is its stable name, Title how people call it in the snapshot's language.
	Name  string `json:"name"`
	Title string `json:"title"`
	// Group is "computer", "network" or "services".
	Group string `json:"group"`
	// State is waiting, ok, skipped, warning or broken.
	State CheckState `json:"state"`
	// Findings are at least one once it has ended.
	Findings []DoctorFinding `json:"findings"`
	// MS is how long it took, in milliseconds; 0 until it has ended.
	MS int64 `json:"ms"`
}

// DoctorFinding is one thing that a check found, in the snapshot's language.
type DoctorFinding struct {
	Code     string     `json:"code"`
	State    CheckState `json:"state"`
	Sentence string     `json:"sentence"`
	// NextStep is empty where there is nothing to do.
	NextStep string `json:"next_step"`
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
	// RecentID is the recent entry of an opened launch; empty when none is kept.
	RecentID string `json:"recent_id"`
	// FreshUntil is until when the intent for a fresh link of this launch would be
	// accepted ("Didn't open?"); nil when it would not. The agent publishes anew
	// when that moment has passed.
	FreshUntil *time.Time `json:"fresh_until"`
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

// The kinds of a notice.
const (
	// NoticeProblem tells of a problem.
	NoticeProblem = "problem"
	// NoticeSlow tells that a launch takes longer than a person waits unasked.
	NoticeSlow = "slow"
	// NoticeSignInEnds tells that the sign-in ends soon.
	NoticeSignInEnds = "sign_in_ends"
	// NoticeSignedOut tells that policy has signed the person out.
	NoticeSignedOut = "signed_out"
	// NoticeLinkTaken tells that the links of the EHR do not come to this program any
	// more.
	NoticeLinkTaken = "link_taken"
)

// Notice is one thing to tell the person. It never names a patient.
type Notice struct {
	ID uint64 `json:"id"`
	// Kind is one of the Notice constants.
	Kind string `json:"kind"`
	// Problem is what happened; zero unless Kind is NoticeProblem.
	Problem Problem `json:"problem"`
	// Launch is the id of the launch that it is about; empty for none.
	Launch string `json:"launch"`
	// At is the moment that Kind speaks of, such as when the sign-in ends; nil for
	// none.
	At *time.Time `json:"at"`
	// Actions are the intents that make sense now, in the order of usefulness: the
	// Action constants.
	Actions []string `json:"actions"`
}

// The names of actions in a notice.
const (
	ActionRetry      = "retry"
	ActionSignIn     = "sign_in"
	ActionCancel     = "cancel"
	ActionFreshLink  = "fresh_link"
	ActionHelpDesk   = "help_desk"
	ActionOpenWindow = "open_window"
)
