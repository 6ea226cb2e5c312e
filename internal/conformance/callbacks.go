package conformance

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"encounterlauncher/internal/orgapi"
)

const (
	timestampHeader = "x-nabla-connect-timestamp"
	signatureHeader = "x-nabla-connect-signature"
	oldBy           = 2 * time.Minute
)

// signed is a callback to send.
type signedCallback struct {
	body                 []byte
	timestamp, signature string
}

func (s *session) sign(body []byte, at time.Time) signedCallback {
	timestamp := at.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	return signedCallback{body, timestamp, mac([]byte(s.CallbackSecret.Reveal()), timestamp, body)}
}

func mac(secret []byte, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(timestamp))
	m.Write(body)
	return hex.EncodeToString(m.Sum(nil))
}

func (s *session) send(ctx context.Context, c signedCallback) (answer, error) {
	q := request{base: s.CallbackURL, body: c.body, header: map[string]string{}}
	if c.timestamp != "" {
		q.header[timestampHeader] = c.timestamp
	}
	if c.signature != "" {
		q.header[signatureHeader] = c.signature
	}
	return s.call(ctx, q)
}

// noteBody is a callback with a note of an encounter, and its request_uuid.
func (s *session) noteBody(encounterID, providerID string) ([]byte, string) {
	id := uuid.NewString()
	category := "ASSESSMENT_AND_PLAN"
	body, _ := json.Marshal(map[string]any{ // maps of texts
		"request_uuid": id, "type": "NOTE_EXPORT",
		"data": map[string]any{
			"external_patient_id": s.patientID, "external_encounter_id": encounterID, "external_provider_id": providerID,
			"note": map[string]any{"sections": []any{
				map[string]any{"title": "Plan", "content": s.patientNote, "category": category},
				map[string]any{"title": "Remarks", "content": s.patientName, "category": nil},
			}},
		},
	})
	return body, id
}

// note sends a good callback.
func (s *session) note(ctx context.Context, encounterID, providerID string) (answer, string, error) {
	body, id := s.noteBody(encounterID, providerID)
	a, err := s.send(ctx, s.sign(body, s.Now()))
	return a, id, err
}

// someNote is a note of an encounter that nobody created: Nabla would not send it, and
// a backend cannot know.
func (s *session) someNote() ([]byte, string) { return s.noteBody("CONF-E-"+random(8), "CONF-D") }

// taken checks that an answer keeps the response protocol.
func (a answer) taken(id string) error {
	if err := a.expect(http.StatusOK); err != nil {
		return err
	}
	var back orgapi.CallbackAnswer
	if json.Unmarshal(a.body, &back) != nil || back.RequestUUID != id {
		return errors.New("the callback was answered without its request_uuid")
	}
	return nil
}

func callback(ctx context.Context, s *session) error {
	body, id := s.someNote()
	a, err := s.send(ctx, s.sign(body, s.Now()))
	if err != nil {
		return err
	}
	return a.taken(id)
}

func callbackInstructions(ctx context.Context, s *session) error {
	id := uuid.NewString()
	body, _ := json.Marshal(map[string]any{ // maps of texts
		"request_uuid": id, "type": "PATIENT_INSTRUCTIONS_EXPORT",
		"data": map[string]any{
			"external_patient_id": s.patientID, "external_encounter_id": "CONF-E-" + random(8), "external_provider_id": "CONF-D",
			"patient_instructions": map[string]any{"instructions": s.patientNote},
		},
	})
	a, err := s.send(ctx, s.sign(body, s.Now()))
	if err != nil {
		return err
	}
	return a.taken(id)
}

func callbackRotation(ctx context.Context, s *session) error {
	body, id := s.someNote()
	c := s.sign(body, s.Now())
	c.signature = mac([]byte(random(16)), c.timestamp, body) + "," + c.signature
	a, err := s.send(ctx, c)
	if err != nil {
		return err
	}
	return a.taken(id)
}

func callbackReplay(ctx context.Context, s *session) error {
	body, id := s.someNote()
	c := s.sign(body, s.Now())
	a, err := s.send(ctx, c)
	if err != nil {
		return err
	}
	if err := a.taken(id); err != nil {
		return errNotTried{"a callback that is taken"}
	}
	// The very same, and the same signed anew.
	for _, again := range []signedCallback{c, s.sign(body, s.Now())} {
		if a, err = s.send(ctx, again); err != nil {
			return err
		}
		if err := a.expect(http.StatusConflict); err != nil {
			return err
		}
	}
	return nil
}

// unsigned sends a callback that has to be refused as one that Nabla did not sign.
func (s *session) unsigned(ctx context.Context, c signedCallback) error {
	a, err := s.send(ctx, c)
	if err != nil {
		return err
	}
	return a.expect(http.StatusUnauthorized)
}

func callbackSignature(ctx context.Context, s *session) error {
	body, _ := s.someNote()
	good := s.sign(body, s.Now())
	for _, signature := range []string{mac([]byte(random(16)), good.timestamp, body), strings.Repeat("0", 64), "x", good.signature[:62]} {
		c := good
		c.signature = signature
		if err := s.unsigned(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func callbackUnsigned(ctx context.Context, s *session) error {
	body, _ := s.someNote()
	a, err := s.send(ctx, signedCallback{body: body, timestamp: s.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	if a.status == http.StatusNotFound && s.CallbackSecret.Empty() {
		return errNotTried{"a backend that takes callbacks at this address (--callback-url)"}
	}
	return a.expect(http.StatusUnauthorized)
}

func callbackChanged(ctx context.Context, s *session) error {
	body, _ := s.someNote()
	c := s.sign(body, s.Now())
	c.body = append(body, ' ') // says the same, and is another body
	return s.unsigned(ctx, c)
}

func callbackTimestamp(ctx context.Context, s *session) error {
	body, _ := s.someNote()
	c := s.sign(body, s.Now())
	c.timestamp = s.Now().Add(time.Second).UTC().Format("2006-01-02T15:04:05.000Z07:00")
	return s.unsigned(ctx, c)
}

func callbackStale(ctx context.Context, s *session) error {
	body, _ := s.someNote()
	return s.unsigned(ctx, s.sign(body, s.Now().Add(-oldBy)))
}

func callbackUnknownType(ctx context.Context, s *session) error {
	body, _ := s.someNote()
	body = []byte(strings.Replace(string(body), "NOTE_EXPORT", "NOTE_FORGET", 1))
	a, err := s.send(ctx, s.sign(body, s.Now()))
	if err != nil {
		return err
	}
	return a.expect(http.StatusBadRequest)
}

func callbackUnreadable(ctx context.Context, s *session) error {
	body, _ := s.someNote()
	a, err := s.send(ctx, s.sign(body[:len(body)-1], s.Now()))
	if err != nil {
		return err
	}
	return a.expect(http.StatusBadRequest)
}
