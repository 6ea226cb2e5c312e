package sandbox

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"encounterlauncher/internal/nablasim"
)

func TestTheEHRTakesANoteThatTheBackendSignedAndCountsItOnce(t *testing.T) {
	n := newNotes("the-secret")
	send := func(secret, body string, at time.Time) int {
		r := httptest.NewRequest(http.MethodPost, pathNotes, strings.NewReader(body))
		timestamp := at.UTC().Format(time.RFC3339)
		r.Header.Set(headerNoteTimestamp, timestamp)
		r.Header.Set(headerNoteSignature, nablasim.SignCallback(timestamp, []byte(body), []byte(secret)))
		w := httptest.NewRecorder()
		n.ServeHTTP(w, r)
		return w.Code
	}
	good := `{"request_uuid":"u-1","type":"NOTE_EXPORT","data":{"external_encounter_id":"SBX-ENC-ADA-1"}}`
	for range 2 {
		if status := send("the-secret", good, time.Now()); status != http.StatusNoContent {
			t.Errorf("%d", status)
		}
	}
	if n.count("SBX-ENC-ADA-1") != 1 {
		t.Errorf("%d notes", n.count("SBX-ENC-ADA-1"))
	}
	for name, status := range map[string][2]int{
		"another secret": {send("another", good, time.Now()), 401},
		"an hour old":    {send("the-secret", good, time.Now().Add(-time.Hour)), 401},
		"not JSON":       {send("the-secret", "x", time.Now()), 422},
		"another EHR's":  {send("the-secret", strings.Replace(good, "SBX", "ABC", 1), time.Now()), 422},
		"too large":      {send("the-secret", strings.Repeat("x", maxNoteBytes+1), time.Now()), 413},
	} {
		if status[0] != status[1] {
			t.Errorf("%s: %d", name, status[0])
		}
	}
}

func TestAnExportedNoteIsBroughtToTheEHR(t *testing.T) {
	w := startWorld(t)
	_, link := w.pressButton("1", "ada", nil)
	_, address, _ := w.launch("/encounters", w.token("ada"), struct {
		Handle string `json:"handle"`
	}{handleOf(t, link)})
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if status := w.noteExported("1", "ada", nil); status != http.StatusNoContent {
		t.Fatalf("exported: %d", status)
	}
	if err := await(t.Context(), "a note", func() (bool, string) { return w.ehr.notes.count("SBX-ENC-ADA-1") == 1, "none" }); err != nil {
		t.Error(err)
	}
}
