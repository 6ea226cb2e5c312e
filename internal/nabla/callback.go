package nabla

// The types of callback (Nabla Connect, page "Callback types").
const (
	NoteExport                = "NOTE_EXPORT"
	PatientInstructionsExport = "PATIENT_INSTRUCTIONS_EXPORT"
)

// Callback is a verified call of Nabla's, by the letter of its page "Callback
// types". Of Note and Instructions exactly one is set, as Type says. It is all
// about a patient: it is never logged.
type Callback struct {
	RequestUUID, Type                                          string
	ExternalPatientID, ExternalEncounterID, ExternalProviderID string
	Note                                                       *Note
	Instructions                                               string
}

// Note is the data of NOTE_EXPORT.
type Note struct {
	Sections   []Section
	Diagnoses  []Diagnosis
	Transcript []Utterance
}

// Section is one section of a note. Category is one of the vendor's words; empty
// (null there) fits none. Several sections may share one.
type Section struct {
	Content  string `json:"content"`
	Title    string `json:"title"`
	Category string `json:"category"`
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
