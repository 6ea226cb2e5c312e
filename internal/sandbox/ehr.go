package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strings"
	"time"

	"encounterlauncher/internal/nablasim"
	"encounterlauncher/internal/orgapi"
)

// patient is one invented patient of the worklist.
type patient struct {
	Button, Name, BirthDate, Gender, Reason, Room string
	pronouns                                      string
}

// patients are the three of the worklist. Nobody has these names.
func patients() []patient {
	return []patient{
		{Button: "1", Name: "Testina Samplewell", BirthDate: "1961-02-03", Gender: "female", Reason: "Follow-up, blood pressure", Room: "A 101", pronouns: "she/her"},
		{Button: "2", Name: "Exemplar Placeholder", BirthDate: "1984-11-30", Gender: "male", Reason: "Cough for two weeks", Room: "A 102"},
		{Button: "3", Name: "Fictima O’Mockingham", BirthDate: "2001-07-15", Gender: "other", Reason: "Annual review", Room: "B 007", pronouns: "they/them"},
	}
}

// The buttons beside those of the patients.
const (
	buttonStale  = "stale"
	buttonForged = "forged"
)

// minter registers a launch with the organisation's backend, as the EHR's
// server. With stale set the handle has expired before it is returned.
type minter interface {
	Mint(ctx context.Context, launch orgapi.LaunchRequest, stale bool) (orgapi.LaunchAnswer, error)
}

// exporter is Nabla when the clinician exports a note: it calls the organisation's
// backend back, and says how that was answered.
type exporter interface {
	Export(ctx context.Context, e nablasim.Export) (nablasim.Exported, error)
}

// pathNotes is where the backend's webhook brings exported notes.
const pathNotes = "/notes"

// ehr is the sample EHR: a worklist whose buttons make a fresh link when they
// are pressed, and others by which Nabla exports a note; the backend brings it here.
// Showing the page makes no link.
type ehr struct {
	http.Handler
	origin, scheme string
	mint           minter
	export         exporter
	notes          *notes
	timeline       *timeline
}

func newEHR(origin, scheme string, mint minter, export exporter, n *notes, t *timeline) *ehr {
	e := &ehr{origin: origin, scheme: scheme, mint: mint, export: export, notes: n, timeline: t}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", e.worklist)
	mux.HandleFunc("POST /press/{button}", e.press)
	mux.HandleFunc("POST /exported/{button}", e.exported)
	mux.Handle("POST "+pathNotes, n)
	mux.HandleFunc("GET /timeline", e.stream)
	e.Handler = mux
	return e
}

func (e *ehr) worklist(w http.ResponseWriter, _ *http.Request) {
	script, err := pages.ReadFile("page/ehr.js")
	if err != nil {
		http.Error(w, "The sandbox cannot make this page.", http.StatusInternalServerError)
		return
	}
	showPage(w, "ehr.html", "form-action 'none'", func(css template.CSS, nonce string) any {
		return struct {
			CSS        template.CSS
			JS         template.JS
			Nonce      string
			Patients   []patient
			Clinicians []clinician
		}{css, template.JS(script), nonce, patients(), clinicians()}
	})
}

// pressBody is what the page sends: who works at the EHR, by key.
type pressBody struct {
	Clinician string `json:"clinician"`
}

// pressAnswer is what the page gets: a link to go to.
type pressAnswer struct {
	Link string `json:"link"`
}

// pressedBy returns who pressed a button of the page. A page elsewhere cannot press
// one: such a request is not JSON, or says in Origin where it comes from. ok is
// false when the request has been answered with a refusal.
func (e *ehr) pressedBy(w http.ResponseWriter, r *http.Request) (doctor clinician, ok bool) {
	w.Header().Set("Cache-Control", "no-store")
	if origin := r.Header.Get("Origin"); origin != "" && origin != e.origin {
		http.Error(w, "Buttons work on the EHR's own page only.", http.StatusForbidden)
		return clinician{}, false
	}
	if r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "Press the button on the page.", http.StatusUnsupportedMediaType)
		return clinician{}, false
	}
	var body pressBody
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		http.Error(w, "The page sent something that is no press.", http.StatusBadRequest)
		return clinician{}, false
	}
	if doctor, ok = clinicianByKey(body.Clinician); !ok {
		http.Error(w, "Nobody of that name works in this sandbox.", http.StatusBadRequest)
	}
	return doctor, ok
}

// exported has Nabla export the note of an encounter, as the clinician would there.
// It is answered once the backend has taken the callback; the note comes by itself.
func (e *ehr) exported(w http.ResponseWriter, r *http.Request) {
	doctor, ok := e.pressedBy(w, r)
	if !ok {
		return
	}
	for _, p := range patients() {
		if p.Button != r.PathValue("button") {
			continue
		}
		encounter := launchOf(p, doctor).ExternalEncounterID
		if !e.timeline.wasOpened(encounter) {
			http.Error(w, "This encounter was not opened yet.", http.StatusConflict)
			return
		}
		done, err := e.export.Export(r.Context(), nablasim.Export{ExternalEncounterID: encounter, ExternalProviderID: doctor.ProviderID})
		if err != nil || len(done.Faults) > 0 {
			http.Error(w, "The backend did not take it.", http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Error(w, "There is no such patient.", http.StatusNotFound)
}

// press mints the link of one button.
func (e *ehr) press(w http.ResponseWriter, r *http.Request) {
	doctor, ok := e.pressedBy(w, r)
	if !ok {
		return
	}
	link, err := e.pressed(r.Context(), r.PathValue("button"), doctor)
	if err != nil {
		status := http.StatusBadGateway
		if errors.Is(err, errNoButton) {
			status = http.StatusNotFound
		}
		http.Error(w, "The link could not be made.", status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(pressAnswer{link})
}

var errNoButton = errors.New("there is no such button")

func (e *ehr) pressed(ctx context.Context, button string, doctor clinician) (string, error) {
	what, launch := "patient "+button, launchOf(patients()[0], doctor)
	switch button {
	case buttonForged:
		row := e.timeline.pressed("forged link", "")
		handle := randomText()
		e.timeline.linked(row, handle)
		return e.scheme + "://launch?handle=" + handle, nil
	case buttonStale:
		what = "stale link"
	default:
		found := false
		for _, p := range patients() {
			if p.Button == button {
				launch, found = launchOf(p, doctor), true
			}
		}
		if !found {
			return "", errNoButton
		}
	}
	row := e.timeline.pressed(what, launch.ExternalEncounterID)
	answer, err := e.mint.Mint(ctx, launch, button == buttonStale)
	if err != nil {
		e.timeline.notLinked(row, "no link")
		return "", err
	}
	e.timeline.linked(row, answer.Handle)
	return answer.Link, nil
}

// launchOf is what the EHR knows of one patient when the button is pressed. The
// encounter is the clinician's: two clinicians who see one patient have two.
func launchOf(p patient, doctor clinician) orgapi.LaunchRequest {
	launch := orgapi.LaunchRequest{
		ProviderEmail: doctor.Email, ExternalProviderID: doctor.ProviderID,
		ExternalPatientID:   "SBX-PAT-" + p.Button,
		ExternalEncounterID: "SBX-ENC-" + strings.ToUpper(doctor.Key) + "-" + p.Button,
		StructuredContext: orgapi.StructuredContext{PatientDemographics: orgapi.Demographics{
			Name: p.Name, BirthDate: p.BirthDate, Gender: p.Gender,
		}},
	}
	if p.pronouns != "" {
		launch.StructuredContext.PatientDemographics.Pronouns = &p.pronouns
	}
	reason := "Reason for the visit: " + p.Reason + "."
	launch.UnstructuredContext = &reason
	return launch
}

// stream sends the timeline as server-sent events until the page is closed.
func (e *ehr) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	changes, stop := e.timeline.subscribe()
	defer stop()
	for {
		data, err := json.Marshal(e.timeline.shown())
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changes:
		}
	}
}

// backendMinter is the EHR's server calling POST /launches.
type backendMinter struct {
	url, secret string
	http        *http.Client
	// clock is the backend's: a stale link is made by setting it back.
	clock *clock
}

// staleBy is how far in the past a stale handle is made: longer than it lives.
const staleBy = 2 * orgapi.HandleLifeSeconds * time.Second

func (m *backendMinter) Mint(ctx context.Context, launch orgapi.LaunchRequest, stale bool) (orgapi.LaunchAnswer, error) {
	body, err := json.Marshal(launch)
	if err != nil {
		return orgapi.LaunchAnswer{}, fmt.Errorf("writing a launch: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url+orgapi.PathLaunches, bytes.NewReader(body))
	if err != nil {
		return orgapi.LaunchAnswer{}, errors.New("the backend's address cannot be used")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+m.secret)
	request.Header.Set(orgapi.HeaderIdempotencyKey, randomText())
	request.Header.Set(orgapi.HeaderRequestID, randomText())
	if stale {
		defer m.clock.setBack(staleBy)()
		request.Header.Set(headerPass, m.clock.pass)
	}
	response, err := m.http.Do(request)
	if err != nil {
		return orgapi.LaunchAnswer{}, errors.New("the backend does not answer")
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, orgapi.MaxAnswerBytes))
	if err != nil {
		return orgapi.LaunchAnswer{}, errors.New("the backend's answer broke off")
	}
	if response.StatusCode/100 != 2 {
		var p orgapi.Problem
		_ = json.Unmarshal(answer, &p)
		return orgapi.LaunchAnswer{}, fmt.Errorf("the backend refused the launch: status %d, code %q", response.StatusCode, p.Code)
	}
	var launched orgapi.LaunchAnswer
	if err := json.Unmarshal(answer, &launched); err != nil || launched.Link == "" || launched.Handle == "" {
		return orgapi.LaunchAnswer{}, errors.New("the backend's answer holds no link")
	}
	return launched, nil
}
