// Package orgapi is the contract between the launcher, the EHR's server and the
// organisation's backend: paths, headers, bodies, limits. openapi.yaml beside
// this file says the same for people who write a backend of their own; a test
// holds the two together.
//
// It never talks to anything: client and server share only these types.
package orgapi

import "encounterlauncher/internal/problem"

// Paths below BackendURL and EHRURL.
const (
	PathEncounters   = "/encounters"
	PathEncounterURL = "/encounters/url"
	PathMe           = "/me"
	PathEvents       = "/events"
	PathLaunches     = "/launches"
	PathOpenAPI      = "/openapi.yaml"
	// PathCallbacks is where the reference backend takes Nabla's callbacks, unless its
	// configuration names another path.
	PathCallbacks = "/nabla/callbacks"
)

// Header names.
const (
	// HeaderIdempotencyKey is the same through every retry of one link.
	HeaderIdempotencyKey = "Idempotency-Key"
	// HeaderRequestID names one call in the logs of both sides.
	HeaderRequestID = "X-Request-Id"
	// HeaderContract names, in an answer, the version of the contract that the
	// backend keeps (see ContractVersion). A backend need not send it.
	HeaderContract = "Encounter-Launcher-Contract"
	// ProblemContentType is that of every error (RFC 9457 §3).
	ProblemContentType = "application/problem+json"
	// HeaderLastEventID says after which event a stream goes on (WHATWG HTML §9.2.4).
	HeaderLastEventID = "Last-Event-ID"
	// EventStreamContentType is that of GET /events (WHATWG HTML §9.2.5).
	EventStreamContentType = "text/event-stream"
)

// ContractVersion is the version of openapi.yaml. Another first number would be
// another contract; a larger second one only adds.
const ContractVersion = "1.2.0"

// EventExported is the one type of event: its data is an ExportedEvent.
const EventExported = "encounter.exported"

// Limits of the contract.
const (
	// MaxAnswerBytes is the largest answer that a launcher reads.
	MaxAnswerBytes = 64 << 10
	// MaxRequestBytes is the largest body that a backend reads.
	MaxRequestBytes = 64 << 10
	// MaxIdentifierRunes bounds each external id, in characters
	// (Nabla Connect, Create encounter: "max 256 characters").
	MaxIdentifierRunes = 256
	// MaxDemographicRunes bounds each of a patient's details, in characters: a backend
	// keeps them for many clicks to come, and one EHR must not fill it.
	MaxDemographicRunes = 256
	// MaxUnstructuredContextRunes bounds unstructured_context, in characters.
	MaxUnstructuredContextRunes = 700
	// MaxLabelBytes bounds the label of an encounter in an answer.
	MaxLabelBytes = 256
	// MaxEventBytes bounds a line of a stream of events, and the data of one event.
	MaxEventBytes = 64 << 10
	// MaxEventIDBytes bounds the id of an event.
	MaxEventIDBytes = 128
	// KeepAliveSeconds is the longest silence of a stream of events.
	KeepAliveSeconds = 25
	// HandleLifeSeconds is how long a handle lives by default.
	HandleLifeSeconds = 600
)

// CreateRequest is the body of POST /encounters: exactly one of Handle, Request
// or the three identifiers.
type CreateRequest struct {
	Handle              string `json:"handle,omitempty"`
	Request             string `json:"request,omitempty"`
	ExternalEncounterID string `json:"external_encounter_id,omitempty"`
	ExternalPatientID   string `json:"external_patient_id,omitempty"`
	ExternalProviderID  string `json:"external_provider_id,omitempty"`
}

// Encounter is what the launcher may know of an encounter.
type Encounter struct {
	ExternalEncounterID string `json:"external_encounter_id"`
	ExternalProviderID  string `json:"external_provider_id"`
	// Label is how the backend names the encounter for recents: the patient's
	// name, from which the launcher makes what RecentsLabel allows. May be empty.
	Label string `json:"label"`
}

// CreateAnswer is the answer of POST /encounters. EncounterURL works once, for
// ten minutes, and must never be stored or logged.
type CreateAnswer struct {
	EncounterURL string    `json:"encounter_url"`
	Encounter    Encounter `json:"encounter"`
}

// ReopenRequest is the body of POST /encounters/url.
type ReopenRequest struct {
	ExternalProviderID  string `json:"external_provider_id"`
	ExternalEncounterID string `json:"external_encounter_id"`
}

// ReopenAnswer is the answer of POST /encounters/url.
type ReopenAnswer struct {
	EncounterURL string `json:"encounter_url"`
}

// Me is the answer of GET /me: who the backend takes the caller for.
type Me struct {
	Subject            string `json:"subject"`
	ProviderEmail      string `json:"provider_email"`
	ExternalProviderID string `json:"external_provider_id"`
}

// Demographics are Nabla's patient_demographics. Pronouns nil means null.
type Demographics struct {
	Name      string  `json:"name"`
	BirthDate string  `json:"birth_date"`
	Gender    string  `json:"gender"`
	Pronouns  *string `json:"pronouns"`
}

// StructuredContext is Nabla's structured_context.
type StructuredContext struct {
	PatientDemographics Demographics `json:"patient_demographics"`
}

// LaunchRequest is the body of POST /launches: Nabla's whole create payload,
// version 2026-02-13, field for field.
type LaunchRequest struct {
	ProviderEmail       string            `json:"provider_email"`
	ExternalProviderID  string            `json:"external_provider_id"`
	ExternalPatientID   string            `json:"external_patient_id"`
	ExternalEncounterID string            `json:"external_encounter_id"`
	StructuredContext   StructuredContext `json:"structured_context"`
	UnstructuredContext *string           `json:"unstructured_context,omitempty"`
}

// LegacyLaunchRequest is the other body that POST /launches takes: Nabla's payload
// from before 2026-02-13, in which all context is text.
type LegacyLaunchRequest struct {
	ProviderEmail       string `json:"provider_email"`
	ExternalProviderID  string `json:"external_provider_id"`
	ExternalPatientID   string `json:"external_patient_id"`
	ExternalEncounterID string `json:"external_encounter_id"`
	// UnstructuredContext carries name, date of birth, gender and perhaps pronouns,
	// each in a line of its own; openapi.yaml says how.
	UnstructuredContext string `json:"unstructured_context"`
}

// LaunchAnswer is the answer of POST /launches. Link goes to the browser at
// once; ExpiresIn is in seconds.
type LaunchAnswer struct {
	Handle    string `json:"handle"`
	Link      string `json:"link"`
	ExpiresIn int    `json:"expires_in"`
}

// ExportedEvent is the data of the server-sent event "encounter.exported". At is
// a time by RFC 3339.
type ExportedEvent struct {
	ExternalEncounterID string `json:"external_encounter_id"`
	ExternalProviderID  string `json:"external_provider_id"`
	At                  string `json:"at"`
}

// Problem is an error body (RFC 9457 §3.1). Detail is a constant sentence: it
// never holds anything of the patient, a link, a URL or a token.
type Problem struct {
	Type      string       `json:"type"`
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail,omitempty"`
	Code      problem.Code `json:"code"`
	Reference string       `json:"reference"`
}

// NewProblem makes the body for a problem.
func NewProblem(p *problem.Problem) Problem {
	row := p.Row()
	return Problem{
		Type: "about:blank", Title: row.Sentence, Status: row.Status,
		Detail: p.Fact, Code: row.Code, Reference: p.Reference,
	}
}

// CallbackAnswer is the answer to a callback of Nabla's that was taken.
type CallbackAnswer struct {
	RequestUUID string `json:"request_uuid"`
}
