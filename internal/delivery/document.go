package delivery

import (
	"context"
	"errors"
	"strings"

	"encounterlauncher/internal/fhir"
	"encounterlauncher/internal/nabla"
)

// document files a note as a FHIR DocumentReference: sections and diagnoses as
// plain text. A transcript is not filed; who wants it takes the webhook or the folder.
type document struct {
	server interface {
		AddDocument(ctx context.Context, d fhir.Document) error
	}
}

func (d *document) Name() string { return "fhir" }

func (d *document) Deliver(ctx context.Context, n Note) error {
	doc := fhir.Document{
		RequestUUID: n.RequestUUID, Kind: fhir.KindNote, Title: "Encounter note", Text: plainText(n.Callback), At: n.Received,
		PatientID: n.ExternalPatientID, EncounterID: n.ExternalEncounterID, ProviderID: n.ExternalProviderID,
	}
	if n.Type == nabla.PatientInstructionsExport {
		doc.Kind, doc.Title = fhir.KindInstructions, "Patient instructions"
	}
	err := d.server.AddDocument(ctx, doc)
	var f *fhir.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f) && f.Permanent:
		return &Failure{Code: CodeDocumentRefused, Refused: true, Cause: err}
	case errors.As(err, &f):
		return &Failure{Code: CodeDocumentFailed, After: f.RetryAfter, Cause: err}
	}
	return &Failure{Code: CodeDocumentFailed, Cause: err}
}

// plainText is a note as people read it.
func plainText(c nabla.Callback) string {
	if c.Note == nil {
		return strings.TrimSpace(c.Instructions) + "\n"
	}
	var blocks []string
	for _, s := range c.Note.Sections {
		blocks = append(blocks, block(s.Title, s.Content))
	}
	var lines []string
	for _, d := range c.Note.Diagnoses {
		line := "- " + d.Display
		if code := strings.TrimSpace(d.System + " " + d.Code); code != "" {
			line += " (" + code + ")"
		}
		lines = append(lines, line)
	}
	if len(lines) > 0 {
		blocks = append(blocks, block("Diagnoses", strings.Join(lines, "\n")))
	}
	return strings.Join(blocks, "\n")
}

func block(title, content string) string {
	var b strings.Builder
	for _, part := range []string{strings.TrimSpace(title), strings.TrimSpace(content)} {
		if part != "" {
			b.WriteString(part + "\n")
		}
	}
	return b.String()
}
