package nablasim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The types of callback and its headers (Nabla Connect, "Callback types" and
// "Callback authentication").
const (
	NoteExport                = "NOTE_EXPORT"
	PatientInstructionsExport = "PATIENT_INSTRUCTIONS_EXPORT"
	TimestampHeader           = "x-nabla-connect-timestamp"
	SignatureHeader           = "x-nabla-connect-signature"
)

// exportTime bounds one callback: the clinician waits in the app.
const exportTime = 10 * time.Second

// maxCallbackAnswer bounds what is read of an answer.
const maxCallbackAnswer = 64 << 10

// Categories are the words for a section of a note.
var Categories = []string{
	"CHIEF_COMPLAINT", "HISTORY_OF_PRESENT_ILLNESS", "PAST_HISTORY", "CURRENT_MEDICATIONS", "VITALS", "IMMUNIZATIONS",
	"ASSESSMENT_AND_PLAN", "EXAMINATION", "RESULTS", "PRESCRIPTIONS", "APPOINTMENTS",
}

// Callbacks says where exports go and how they are signed.
type Callbacks struct {
	// URL is the organisation's endpoint: https, or http to a loopback address.
	URL string
	// Secrets are those shared with the organisation, as bytes. Each signs, so that
	// a secret can be rotated; at least one is needed.
	Secrets [][]byte
	// Bearer, when set, returns the access token to show beside the signature.
	Bearer func(context.Context) (string, error)
	// HTTP makes the calls; nil means a client of our own. Redirects are never
	// followed, and every call is bounded.
	HTTP *http.Client
}

// Export is what is exported of one encounter. Fields that are empty are made up:
// a note, or instructions, in which nothing is of a patient.
type Export struct {
	// Type is NoteExport or PatientInstructionsExport; empty means NoteExport.
	Type string `json:"type,omitempty"`
	// ExternalEncounterID is one that was created. ExternalProviderID is one of its
	// clinicians; empty means the one who created it last.
	ExternalEncounterID string `json:"external_encounter_id"`
	ExternalProviderID  string `json:"external_provider_id,omitempty"`
	// RequestUUID is the callback's own; empty means a new one. Giving one twice is
	// a replay.
	RequestUUID  string      `json:"request_uuid,omitempty"`
	Sections     []Section   `json:"sections,omitempty"`
	Diagnoses    []Diagnosis `json:"visit_diagnoses,omitempty"`
	Transcript   []Utterance `json:"transcript,omitempty"`
	Instructions string      `json:"instructions,omitempty"`
}

// Section is one of note.sections. Category nil is null: it fits none.
type Section struct {
	Content  string  `json:"content"`
	Title    string  `json:"title"`
	Category *string `json:"category"`
}

// Diagnosis is one of visit_diagnoses.
type Diagnosis struct {
	System  string `json:"system"`
	Code    string `json:"code"`
	Display string `json:"display"`
	IsHCC   bool   `json:"is_hcc"`
	IsMCC   bool   `json:"is_mcc"`
}

// Utterance is one part of the transcript. Offsets are in milliseconds.
type Utterance struct {
	Text          string `json:"text"`
	SpeakerType   string `json:"speaker_type"`
	Locale        string `json:"locale"`
	StartOffsetMS int64  `json:"start_offset_ms"`
	EndOffsetMS   int64  `json:"end_offset_ms"`
}

// Exported says how a callback was answered. Faults is empty when the answer keeps
// the response protocol: 200 with the same request_uuid.
type Exported struct {
	RequestUUID string   `json:"request_uuid"`
	Status      int      `json:"status"` // 0: there was no answer
	Faults      []string `json:"faults"`
}

// The errors of Export that come before anything is sent.
var (
	ErrNoCallbacks   = errors.New("no callback URL was given to the simulator")
	ErrNoEncounter   = errors.New("there is no such encounter of this provider")
	ErrInvalidExport = errors.New("the export is not one of the vendor's")
)

type exporter struct {
	Callbacks
	http *http.Client
}

// newExporter checks c. It returns nil when there is nowhere to export to.
func newExporter(c Callbacks) (*exporter, error) {
	if c.URL == "" {
		return nil, nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("the callback URL of the simulator is not a URL")
	}
	loopback := u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1" || u.Hostname() == "localhost")
	if u.Scheme != "https" && !loopback {
		return nil, errors.New("the callback URL of the simulator is neither https nor http to this computer")
	}
	if len(c.Secrets) == 0 || slices.ContainsFunc(c.Secrets, func(s []byte) bool { return len(s) == 0 }) {
		return nil, errors.New("a secret for the simulator's callbacks is missing or empty")
	}
	h := &http.Client{}
	if c.HTTP != nil {
		*h = *c.HTTP
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &exporter{c, h}, nil
}

// SignCallback returns the value of SignatureHeader: for every secret the hex
// HMAC-SHA256 over the timestamp and the raw body, separated by commas.
func SignCallback(timestamp string, body []byte, secrets ...[]byte) string {
	signatures := make([]string, 0, len(secrets))
	for _, s := range secrets {
		mac := hmac.New(sha256.New, s)
		mac.Write([]byte(timestamp))
		mac.Write(body)
		signatures = append(signatures, hex.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, ",")
}

// CallbackTime writes a timestamp as SignCallback signs it (ISO 8601).
func CallbackTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// envelope is a callback on the wire.
type envelope struct {
	RequestUUID string `json:"request_uuid"`
	Type        string `json:"type"`
	Data        any    `json:"data"`
}

type callbackIDs struct {
	ExternalPatientID   string `json:"external_patient_id"`
	ExternalEncounterID string `json:"external_encounter_id"`
	ExternalProviderID  string `json:"external_provider_id"`
}

type noteData struct {
	callbackIDs
	Note struct {
		Sections []Section `json:"sections"`
	} `json:"note"`
	Diagnoses  []Diagnosis `json:"visit_diagnoses,omitempty"`
	Transcript []Utterance `json:"transcript,omitempty"`
}

type instructionsData struct {
	callbackIDs
	PatientInstructions struct {
		Instructions string `json:"instructions"`
	} `json:"patient_instructions"`
}

// Callback returns the body of a callback for an encounter that exists, and its
// request_uuid, without sending it.
func (s *Sim) Callback(e Export) (body []byte, requestUUID string, err error) {
	ids, err := s.exportIDs(e)
	if err != nil {
		return nil, "", err
	}
	if e.RequestUUID == "" {
		e.RequestUUID = newUUID()
	}
	out := envelope{RequestUUID: e.RequestUUID, Type: e.Type}
	switch e.Type {
	case "", NoteExport:
		out.Type = NoteExport
		if e.Instructions != "" {
			return nil, "", fmt.Errorf("%w: a note has no instructions", ErrInvalidExport)
		}
		for _, section := range e.Sections {
			if section.Category != nil && !slices.Contains(Categories, *section.Category) {
				return nil, "", fmt.Errorf("%w: the category of a section is not one of the list", ErrInvalidExport)
			}
		}
		if len(e.Sections) == 0 {
			e.Sections = sampleNote()
		}
		data := noteData{callbackIDs: ids, Diagnoses: e.Diagnoses, Transcript: e.Transcript}
		data.Note.Sections = e.Sections
		out.Data = data
	case PatientInstructionsExport:
		if len(e.Sections)+len(e.Diagnoses)+len(e.Transcript) > 0 {
			return nil, "", fmt.Errorf("%w: instructions have no sections, diagnoses or transcript", ErrInvalidExport)
		}
		data := instructionsData{callbackIDs: ids}
		if data.PatientInstructions.Instructions = e.Instructions; e.Instructions == "" {
			data.PatientInstructions.Instructions = "Drink enough. Come back in two weeks."
		}
		out.Data = data
	default:
		return nil, "", fmt.Errorf("%w: the type is neither %s nor %s", ErrInvalidExport, NoteExport, PatientInstructionsExport)
	}
	body, err = json.Marshal(out)
	return body, e.RequestUUID, err
}

func (s *Sim) exportIDs(e Export) (callbackIDs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.encounters[e.ExternalEncounterID]
	if known == nil {
		return callbackIDs{}, ErrNoEncounter
	}
	provider := e.ExternalProviderID
	if provider == "" {
		provider = known.last
	}
	if known.providers[provider] == "" {
		return callbackIDs{}, ErrNoEncounter
	}
	return callbackIDs{known.patientID, known.id, provider}, nil
}

// sampleNote is a note in which nothing is of a patient.
func sampleNote() []Section {
	category := func(i int) *string { return &Categories[i] }
	return []Section{
		{Title: "Chief complaint", Content: "A sample of a note, made by the simulator.", Category: category(0)},
		{Title: "Assessment", Content: "Nothing here is of a patient.", Category: category(6)},
		{Title: "Plan", Content: "Two sections may share a category.", Category: category(6)},
		{Title: "Remarks", Content: "A section may fit no category.", Category: nil},
	}
}

// Export signs a callback, sends it to the organisation and says how it was
// answered. The error tells only of what came before sending.
func (s *Sim) Export(ctx context.Context, e Export) (Exported, error) {
	if s.exports == nil {
		return Exported{}, ErrNoCallbacks
	}
	body, id, err := s.Callback(e)
	if err != nil {
		return Exported{}, err
	}
	at, secrets, times := s.clock.others(), s.exports.Secrets, 1
	switch f := s.faults.next(CallExport); f.Kind {
	case FaultSlow:
		if err := s.sleep(ctx, time.Duration(f.DelayMS)*time.Millisecond); err != nil {
			return Exported{}, err
		}
	case FaultLostAnswer:
		return s.exports.abandon(ctx, id, body, at), nil
	case FaultBadSignature:
		secrets = [][]byte{[]byte(random())}
	case FaultStale:
		at = at.Add(-staleBy)
	case FaultUnknownType:
		body = bytes.Replace(body, []byte(`"type":"`), []byte(`"type":"NEITHER_`), 1)
	case FaultReplay:
		times = 2
	}
	var done Exported
	for range times {
		timestamp := CallbackTime(at)
		done = s.exports.send(ctx, id, body, timestamp, SignCallback(timestamp, body, secrets...))
	}
	return done, nil
}

// abandon sends a callback and goes away before the answer, as a caller does whose
// connection breaks: whether it arrived it cannot know.
func (x *exporter) abandon(ctx context.Context, id string, body []byte, at time.Time) Exported {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { cancel() }})
	timestamp := CallbackTime(at)
	done := x.send(ctx, id, body, timestamp, SignCallback(timestamp, body, x.Secrets...))
	return Exported{RequestUUID: id, Status: done.Status, Faults: []string{"the simulator was told to go away before the answer"}}
}

// send makes one call and holds its answer against the response protocol.
func (x *exporter) send(ctx context.Context, id string, body []byte, timestamp, signature string) Exported {
	result := Exported{RequestUUID: id, Faults: []string{}}
	fault := func(what string) Exported {
		result.Faults = append(result.Faults, what)
		return result
	}
	ctx, cancel := context.WithTimeout(ctx, exportTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, x.URL, bytes.NewReader(body))
	if err != nil {
		return fault("the callback cannot be sent to this URL")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(TimestampHeader, timestamp)
	r.Header.Set(SignatureHeader, signature)
	if x.Bearer != nil {
		token, err := x.Bearer(ctx)
		if err != nil {
			return fault("there is no access token for the callback")
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := x.http.Do(r)
	if err != nil {
		// The error of http names the URL.
		return fault("the callback was not answered within " + exportTime.String() + ", or the connection broke")
	}
	defer func() { _ = response.Body.Close() }()
	result.Status = response.StatusCode
	if response.StatusCode != http.StatusOK {
		return fault(fmt.Sprintf("the status is %d, not 200", response.StatusCode))
	}
	read, err := io.ReadAll(io.LimitReader(response.Body, maxCallbackAnswer+1))
	if err != nil {
		return fault("the answer was cut off")
	}
	if len(read) > maxCallbackAnswer {
		return fault("the answer is larger than 64 KiB")
	}
	kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		_ = fault("the answer is not application/json")
	}
	var answer struct {
		RequestUUID *string `json:"request_uuid"`
	}
	switch err := json.Unmarshal(read, &answer); {
	case err != nil:
		return fault("the answer is not a JSON object")
	case answer.RequestUUID == nil:
		return fault("the answer has no request_uuid")
	case *answer.RequestUUID != id:
		return fault("the answer has another request_uuid")
	}
	return result
}

// newUUID makes a random UUID (RFC 9562 §5.4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
