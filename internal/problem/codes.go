package problem

import (
	"log/slog"
	"net/http"
)

// Code names one kind of failure. The list is closed: the launcher, the
// organisation's backend, the audit and scripts all speak it, so a code is never
// renamed and never reused.
type Code string

// The closed list.
const (
	LinkInvalid        Code = "link_invalid"
	LinkFormNotAllowed Code = "link_form_not_allowed"
	LinkExpired        Code = "link_expired"
	LinkReplayed       Code = "link_replayed"
	HandleSpent        Code = "handle_spent"
	HandleExpired      Code = "handle_expired"
	TooManyLinks       Code = "too_many_links"
	PolicyMissing      Code = "policy_missing"
	PolicyInvalid      Code = "policy_invalid"
	SigninNeeded       Code = "signin_needed"
	SigninCancelled    Code = "signin_cancelled"
	SigninFailed       Code = "signin_failed"
	KeyringLocked      Code = "keyring_locked"
	KeyringUnavailable Code = "keyring_unavailable"
	KeyringCorrupt     Code = "keyring_corrupt"
	AgentUnreachable   Code = "agent_unreachable"
	WindowUnavailable  Code = "window_unavailable"
	OrgUnreachable     Code = "org_unreachable"
	OrgRefused         Code = "org_refused"
	OrgBusy            Code = "org_busy"
	OrgAnswerInvalid   Code = "org_answer_invalid"
	TLSUntrusted       Code = "tls_untrusted"
	ProxyAuthNeeded    Code = "proxy_auth_needed"
	Unauthorized       Code = "unauthorized"
	RequestInvalid     Code = "request_invalid"
	RequestTooLarge    Code = "request_too_large"
	IdentityUnmapped   Code = "identity_unmapped"
	ProviderMismatch   Code = "provider_mismatch"
	ProviderConflict   Code = "provider_conflict"
	ContextUnavailable Code = "context_unavailable"
	ContextIncomplete  Code = "context_incomplete"
	EncounterUnknown   Code = "encounter_unknown"
	VendorUnavailable  Code = "vendor_unavailable"
	AddressNotAllowed  Code = "address_not_allowed"
	BrowserUnavailable Code = "browser_unavailable"
	Cancelled          Code = "cancelled"
	Internal           Code = "internal"
)

// Row is what the product knows about a code. Rows are constants of the program.
type Row struct {
	Code Code
	// Sentence says in English what happened, for people: one sentence.
	Sentence string
	// NextStep says in English what the reader can do now: one sentence.
	NextStep string
	// Level is the level at which the log records it.
	Level slog.Level
	// Retryable says that the same request may succeed later, unchanged: the
	// window and the notice offer Retry.
	Retryable bool
	// Status is the HTTP status with which the organisation's backend (RFC 9457)
	// reports the code; codes that only the workstation knows have 500.
	Status int
	// Audit is the outcome word in an audit line: refused, failed or cancelled.
	Audit string
}

// SentenceKey is the catalogue key of the sentence.
func (r Row) SentenceKey() string { return "problem." + string(r.Code) + ".sentence" }

// NextStepKey is the catalogue key of the next step.
func (r Row) NextStepKey() string { return "problem." + string(r.Code) + ".next" }

// The audit words.
const (
	refused   = "refused"
	failed    = "failed"
	cancelled = "cancelled"
)

var rows = [...]Row{
	{LinkInvalid, "The link from the EHR is not one that this program accepts.", "Go back to the EHR and press the button again; if it happens again, tell your IT help desk.", slog.LevelWarn, false, http.StatusBadRequest, refused},
	{LinkFormNotAllowed, "Your organisation does not allow this kind of link.", "Tell your IT help desk: the EHR's link and the organisation's policy do not match.", slog.LevelWarn, false, http.StatusForbidden, refused},
	{LinkExpired, "The link from the EHR is too old.", "Go back to the EHR and press the button again.", slog.LevelInfo, false, http.StatusGone, refused},
	{LinkReplayed, "The link from the EHR was used before.", "Go back to the EHR and press the button again.", slog.LevelWarn, false, http.StatusGone, refused},
	{HandleSpent, "The link from the EHR was used before.", "Go back to the EHR and press the button again, or reopen the encounter from the recent ones.", slog.LevelInfo, false, http.StatusGone, failed},
	{HandleExpired, "The link from the EHR is too old.", "Go back to the EHR and press the button again.", slog.LevelInfo, false, http.StatusGone, failed},
	{TooManyLinks, "Too many links arrived at once, so the last ones were not opened.", "Wait ten seconds, then press the button in the EHR once.", slog.LevelWarn, true, http.StatusTooManyRequests, refused},
	{PolicyMissing, "This program has not been set up for your organisation yet.", "Ask your IT help desk to install the organisation's policy.", slog.LevelError, true, http.StatusInternalServerError, refused},
	{PolicyInvalid, "The organisation's policy on this computer has a value that cannot be used.", "Ask your IT help desk to run “encounter-launcher policy”: it names the value.", slog.LevelError, true, http.StatusInternalServerError, refused},
	{SigninNeeded, "You need to sign in.", "Sign in; the encounter then opens.", slog.LevelInfo, true, http.StatusUnauthorized, failed},
	{SigninCancelled, "The sign-in was cancelled.", "Try again and sign in when the page opens.", slog.LevelInfo, true, http.StatusInternalServerError, cancelled},
	{SigninFailed, "Signing in did not work.", "Try again; if it happens again, tell your IT help desk the reference.", slog.LevelWarn, true, http.StatusInternalServerError, failed},
	{KeyringLocked, "The computer's password store is locked.", "Unlock it, then try again.", slog.LevelWarn, true, http.StatusInternalServerError, failed},
	{KeyringUnavailable, "The computer has no password store that this program can use.", "You can go on working: your sign-in lasts until this program ends.", slog.LevelWarn, true, http.StatusInternalServerError, failed},
	{KeyringCorrupt, "The stored sign-in cannot be read.", "Sign out and sign in again.", slog.LevelError, true, http.StatusInternalServerError, failed},
	{AgentUnreachable, "The program did not start or does not answer.", "Start Encounter Launcher from the menu, then press the button in the EHR again.", slog.LevelError, true, http.StatusInternalServerError, failed},
	{WindowUnavailable, "The window cannot be shown on this computer.", "Use the tray menu or the command line; your IT help desk can install what is missing.", slog.LevelWarn, true, http.StatusInternalServerError, failed},
	{OrgUnreachable, "Your organisation's server cannot be reached.", "Check the network connection, then try again.", slog.LevelWarn, true, http.StatusServiceUnavailable, failed},
	{OrgRefused, "Your organisation's server refused the request.", "Go back to the EHR and press the button again; if it happens again, tell your IT help desk the reference.", slog.LevelWarn, false, http.StatusForbidden, failed},
	{OrgBusy, "Your organisation's server is busy.", "Try again in a minute.", slog.LevelWarn, true, http.StatusTooManyRequests, failed},
	{OrgAnswerInvalid, "Your organisation's server gave an answer that cannot be used.", "Try again; if it happens again, tell your IT help desk the reference.", slog.LevelError, true, http.StatusBadGateway, failed},
	{TLSUntrusted, "The connection to your organisation's server is not trusted.", "Do not go on; tell your IT help desk the reference.", slog.LevelError, true, http.StatusInternalServerError, failed},
	{ProxyAuthNeeded, "The network's proxy asks for a user name and a password.", "Store yours with “encounter-launcher proxy-credential set”, or ask your IT help desk.", slog.LevelError, true, http.StatusProxyAuthRequired, failed},
	{Unauthorized, "Your organisation's server does not accept the sign-in.", "Sign in again.", slog.LevelInfo, true, http.StatusUnauthorized, failed},
	{RequestInvalid, "The request is not one that can be understood.", "Check what was asked for; if it happens again, tell your IT help desk the reference.", slog.LevelWarn, false, http.StatusBadRequest, refused},
	{RequestTooLarge, "The request is too large.", "Update the program; if it happens again, tell your IT help desk the reference.", slog.LevelWarn, false, http.StatusRequestEntityTooLarge, refused},
	{IdentityUnmapped, "Your sign-in is not known to your organisation's server as a clinician.", "Ask your IT help desk to give your account access.", slog.LevelWarn, false, http.StatusForbidden, failed},
	{ProviderMismatch, "This encounter belongs to another clinician than the one signed in.", "Sign in as the clinician who works in the EHR, then press the button again.", slog.LevelWarn, false, http.StatusForbidden, failed},
	{ProviderConflict, "Your account in the note-taking service belongs to another clinician's number.", "Tell your IT help desk the reference: the two accounts need to be matched.", slog.LevelError, false, http.StatusConflict, failed},
	{ContextUnavailable, "The patient's details cannot be fetched now.", "Try again in a minute.", slog.LevelWarn, true, http.StatusServiceUnavailable, failed},
	{ContextIncomplete, "The patient's details in the EHR are not complete enough to open the encounter.", "Check that name, date of birth and gender are entered in the EHR, then press the button again.", slog.LevelWarn, false, http.StatusUnprocessableEntity, failed},
	{EncounterUnknown, "This encounter is not known any more.", "Open it from the EHR.", slog.LevelInfo, false, http.StatusNotFound, failed},
	{VendorUnavailable, "The note-taking service cannot be reached.", "Try again in a minute.", slog.LevelWarn, true, http.StatusBadGateway, failed},
	{AddressNotAllowed, "The address is not one that your organisation allows to be opened, so it was not opened.", "Tell your IT help desk the reference.", slog.LevelError, false, http.StatusInternalServerError, refused},
	{BrowserUnavailable, "No browser could be started.", "Check that a default browser is set, then try again.", slog.LevelError, true, http.StatusInternalServerError, failed},
	{Cancelled, "The launch was cancelled.", "Try again, or press the button in the EHR.", slog.LevelInfo, true, http.StatusInternalServerError, cancelled},
	{Internal, "Something went wrong in this program.", "Try again; if it happens again, tell your IT help desk the reference.", slog.LevelError, true, http.StatusInternalServerError, failed},
}

// Rows returns a copy of the table in its fixed order.
func Rows() []Row { return append([]Row(nil), rows[:]...) }

func rowOf(c Code) (Row, bool) {
	for i := range rows {
		if rows[i].Code == c {
			return rows[i], true
		}
	}
	return Row{}, false
}

// Known reports whether the text is a code of the list.
func Known(text string) bool {
	_, ok := rowOf(Code(text))
	return ok
}
