package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// The headers of the backend's webhook (docs/org-backend.md): the signature is the
// hexadecimal HMAC-SHA256 of timestamp and body, one after the other.
const (
	headerNoteTimestamp = "X-Encounter-Launcher-Timestamp"
	headerNoteSignature = "X-Encounter-Launcher-Signature"
	noteTooOld          = 5 * time.Minute
	maxNoteBytes        = 8 << 20
)

// notes are what the backend's webhook has brought to the EHR: of each encounter how
// many. Nothing of a note is kept.
type notes struct {
	secret string

	mu   sync.Mutex
	seen map[string]bool // request_uuid: what comes twice is one note
	of   map[string]int  // encounter
}

func newNotes(secret string) *notes {
	return &notes{secret: secret, seen: map[string]bool{}, of: map[string]int{}}
}

// count returns how many notes of an encounter have arrived.
func (n *notes) count(encounter string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.of[encounter]
}

// ServeHTTP takes one note, as an EHR would: it looks at the signature first, and a
// note that came before is taken again and counted once.
func (n *notes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNoteBytes))
	if err != nil {
		http.Error(w, "The note is too large, or was cut off.", http.StatusRequestEntityTooLarge)
		return
	}
	timestamp := r.Header.Get(headerNoteTimestamp)
	mac := hmac.New(sha256.New, []byte(n.secret))
	mac.Write([]byte(timestamp))
	mac.Write(body)
	given, err := hex.DecodeString(r.Header.Get(headerNoteSignature))
	at, timeErr := time.Parse(time.RFC3339, timestamp)
	if err != nil || timeErr != nil || !hmac.Equal(given, mac.Sum(nil)) || time.Since(at).Abs() > noteTooOld {
		http.Error(w, "The note is not signed by the backend.", http.StatusUnauthorized)
		return
	}
	var note struct {
		RequestUUID string `json:"request_uuid"`
		Data        struct {
			Encounter string `json:"external_encounter_id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &note); err != nil || note.RequestUUID == "" || !strings.HasPrefix(note.Data.Encounter, "SBX-") {
		http.Error(w, "The note is of no encounter of this EHR.", http.StatusUnprocessableEntity)
		return
	}
	n.mu.Lock()
	if !n.seen[note.RequestUUID] {
		n.seen[note.RequestUUID] = true
		n.of[note.Data.Encounter]++
	}
	n.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}
