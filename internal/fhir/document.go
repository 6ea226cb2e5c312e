package fhir

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"encounterlauncher/internal/problem"
)

// The kinds of document.
const (
	// KindNote is a clinical note: LOINC 11506-3, progress note.
	KindNote = "note"
	// KindInstructions are instructions for the patient: LOINC 69730-0.
	KindInstructions = "instructions"
)

// Document is one exported text. It is all about a patient: it is never logged.
type Document struct {
	// RequestUUID names the export: the same one twice makes one document.
	RequestUUID string
	// Kind is KindNote or KindInstructions.
	Kind string
	// PatientID is as Client.Patient takes it.
	PatientID string
	// EncounterID and ProviderID are the EHR's numbers. They become identifiers
	// without a system, because they need not be ids of resources.
	EncounterID, ProviderID string
	Title, Text             string
	// At is when it was exported.
	At time.Time
}

// Error says why a document was not filed. Its text is safe for a log: it holds
// nothing of the document and nothing that the server said.
type Error struct {
	// Permanent says that the same document would be refused again: a person must
	// look. Else it may be filed later, unchanged.
	Permanent bool
	// RetryAfter is how long the server asks to wait, at most an hour; 0 when it
	// does not say.
	RetryAfter time.Duration
	cause      error
}

func (e *Error) Error() string { return "filing a document: " + e.cause.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

func permanent(why string) error { return &Error{Permanent: true, cause: errors.New(why)} }

// AddDocument files a DocumentReference for a patient. Every error is an *Error.
//
// It is a conditional create (FHIR R4, http.html#ccreate) by the identifier
// urn:uuid:RequestUUID, so that telling it twice makes one document where the server
// does those; its capability statement says so (conditionalCreate). It is tried once
// a call: to try again is the caller's. With Config.PatientSystem the patient is
// looked up first, and one who is unknown, ambiguous or merged is refused for good.
func (c *Client) AddDocument(ctx context.Context, d Document) error {
	kind, ok := kinds[d.Kind]
	switch {
	case !ok:
		return permanent("its kind is not known")
	case d.RequestUUID == "" || d.EncounterID == "" || d.ProviderID == "" || d.Text == "":
		return permanent("it lacks an id or its text")
	case !utf8.ValidString(d.Text) || !utf8.ValidString(d.Title):
		return permanent("it is not UTF-8")
	case c.system == "" && !resourceID(d.PatientID):
		return permanent("the patient's id is not one of FHIR's")
	}
	patient := d.PatientID
	if c.system != "" {
		r, err := c.find(ctx, d.PatientID)
		if err != nil {
			return notFound(err)
		}
		patient = r.ID
	}
	identifier := "urn:uuid:" + canonical(d.RequestUUID)
	body, err := json.Marshal(c.reference(d, kind, identifier, patient))
	if err != nil {
		return permanent("it cannot be written")
	}
	a, err := c.call(ctx, request{
		method: http.MethodPost, path: "/DocumentReference", contentType: fhirJSON, body: body, attempts: 1,
		ifNoneExist: "identifier=" + url.QueryEscape(uriSystem+"|"+identifier),
	})
	if err != nil {
		return &Error{cause: err}
	}
	if a.filed() {
		return nil
	}
	return &Error{Permanent: refusedForGood(a.status), RetryAfter: a.retryAfter, cause: fmt.Errorf("the server answered %d", a.status)}
}

// notFound tells a patient who cannot be filed for from a server that does not answer.
func notFound(err error) error {
	p := problem.Of(err)
	if p.Code == problem.ContextIncomplete {
		return permanent("the patient is unknown, ambiguous or merged into another one")
	}
	if cause := p.Unwrap(); cause != nil {
		err = cause
	}
	return &Error{cause: fmt.Errorf("finding the patient: %w", err)}
}

// refusedForGood are the refusals that are about the document. Others an operator
// can mend at either end while it waits: the path, our rights, the server itself.
func refusedForGood(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// filed reports whether an answer proves that the server has the document: a page
// of something on the way would say 200 too.
func (a answer) filed() bool {
	if a.status != http.StatusCreated && a.status != http.StatusOK {
		return false
	}
	if len(a.body) == 0 {
		return a.status == http.StatusCreated || a.located
	}
	var r struct{ ResourceType string }
	return a.isFHIR() && json.Unmarshal(a.body, &r) == nil && (r.ResourceType == "DocumentReference" || r.ResourceType == "OperationOutcome")
}

// canonical is the UUID in its usual form, or one that always stands for the same
// text where the vendor's is none.
func canonical(text string) string {
	if id, err := uuid.Parse(text); err == nil {
		return id.String()
	}
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(text)).String()
}

const (
	uriSystem = "urn:ietf:rfc:3986"
	loinc     = "http://loinc.org"
	// US Core asks for the category; elsewhere it does no harm.
	categorySystem = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category"
)

type coding struct {
	System  string `json:"system"`
	Code    string `json:"code"`
	Display string `json:"display"`
}

var kinds = map[string]coding{
	KindNote:         {loinc, "11506-3", "Progress note"},
	KindInstructions: {loinc, "69730-0", "Instructions"},
}

type concept struct {
	Coding []coding `json:"coding"`
}

type identifier struct {
	System string `json:"system,omitempty"`
	Value  string `json:"value"`
}

type reference struct {
	Reference  string      `json:"reference,omitempty"`
	Type       string      `json:"type"`
	Identifier *identifier `json:"identifier,omitempty"`
}

type attachment struct {
	ContentType string `json:"contentType"`
	Data        string `json:"data"`
	Title       string `json:"title,omitempty"`
	Creation    string `json:"creation"`
}

type content struct {
	Attachment attachment `json:"attachment"`
}

type documentContext struct {
	Encounter []reference `json:"encounter"`
}

// documentReference is the part of DocumentReference (FHIR R4) that is written.
type documentReference struct {
	ResourceType string          `json:"resourceType"`
	Identifier   []identifier    `json:"identifier"`
	Status       string          `json:"status"`
	Type         concept         `json:"type"`
	Category     []concept       `json:"category"`
	Subject      reference       `json:"subject"`
	Date         string          `json:"date"`
	Author       []reference     `json:"author"`
	Content      []content       `json:"content"`
	Context      documentContext `json:"context"`
}

func (c *Client) reference(d Document, kind coding, name, patient string) documentReference {
	at := d.At.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	subject := reference{Reference: "Patient/" + patient, Type: "Patient"}
	if c.system != "" {
		subject.Identifier = &identifier{c.system, d.PatientID}
	}
	return documentReference{
		ResourceType: "DocumentReference", Identifier: []identifier{{uriSystem, name}}, Status: "current",
		Type:     concept{[]coding{kind}},
		Category: []concept{{[]coding{{categorySystem, "clinical-note", "Clinical Note"}}}},
		Subject:  subject, Date: at,
		Author: []reference{{Type: "Practitioner", Identifier: &identifier{Value: d.ProviderID}}},
		Content: []content{{attachment{
			ContentType: "text/plain; charset=utf-8", Data: base64.StdEncoding.EncodeToString([]byte(d.Text)), Title: d.Title, Creation: at,
		}}},
		Context: documentContext{[]reference{{Type: "Encounter", Identifier: &identifier{Value: d.EncounterID}}}},
	}
}
