package nablasim

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"time"
)

const pageStyle = `:root{color-scheme:light dark}body{font:1.125rem/1.5 system-ui,sans-serif;max-width:40rem;margin:12vh auto;padding:0 1.5rem}dt{font-weight:600}dd{margin:0 0 .75rem}button{font:inherit;padding:.5rem 1rem}h1{font-size:1.75rem}footer{margin-top:3rem;font-size:.9rem}`

// The title stays in the browser's history and window list: it names nobody.
var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>` + pageStyle + `</style>
</head>
<body>
{{if .Open}}<main data-encounter="{{.Encounter}}" data-provider="{{.Provider}}">
<h1>Encounter {{.Encounter}}</h1>
<dl>
<dt>Clinician</dt><dd>{{.Email}}</dd>
<dt>Clinician’s number</dt><dd>{{.Provider}}</dd>
</dl>
{{if .Export}}<form method="post" action="{{.Export}}"><button type="submit">Export note</button></form>
{{end}}</main>{{else if .Exported}}<main data-exported="{{.Outcome}}">
<h1>{{.Title}}</h1>
<p>{{.Sentence}}</p>
{{range .Faults}}<p>{{.}}.</p>
{{end}}{{if .Export}}<form method="post" action="{{.Export}}"><button type="submit">Export note again</button></form>
{{end}}</main>{{else}}<main data-refused="{{.Refused}}">
<h1>{{.Title}}</h1>
<p>{{.Sentence}}</p>
</main>{{end}}
<footer>A simulator for development: no real patient is here.</footer>
</body>
</html>
`))

type pageView struct {
	Title, Refused, Sentence   string
	Open                       bool
	Encounter, Provider, Email string
	// Export is where the button leads; empty: there is none.
	Export   string
	Exported bool
	Outcome  string
	Faults   []string
}

// exportForm is what one button exports.
type exportForm struct {
	encounterID, providerID string
	made                    time.Time
}

const (
	// exportFormLife is how long a button works, and maxExportForms how many there are.
	exportFormLife = time.Hour
	maxExportForms = 10_000
)

// open serves a one-time page. GET spends it; there is no HEAD, because a HEAD
// that answered would either spend the page or lie about it.
func (s *Sim) open(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	guard(h)
	if r.Method != http.MethodGet {
		h.Set("Allow", http.MethodGet)
		show(w, http.StatusMethodNotAllowed, pageView{Title: "This page can only be opened", Refused: "method", Sentence: "Open the page with a browser."})
		return
	}
	status, view := s.spend(r.PathValue("token"))
	s.log.Info("nabla-sim page", "status", status)
	show(w, status, view)
}

// guard sets the headers of every page.
func guard(h http.Header) {
	sum := sha256.Sum256([]byte(pageStyle))
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
}

func (s *Sim) spend(token string) (int, pageView) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, known := s.pages[token]
	now := s.now()
	switch {
	case !known:
		return http.StatusNotFound, pageView{Title: "This address is not known", Refused: "unknown", Sentence: "Open the encounter again from the EHR."}
	case p.spent:
		return http.StatusGone, pageView{Title: "This address was used before", Refused: "spent", Sentence: "It works once. Open the encounter again from the EHR or from the recent ones."}
	case now.Sub(p.made) >= PageLife:
		return http.StatusGone, pageView{Title: "This address is too old", Refused: "expired", Sentence: "It works for ten minutes. Open the encounter again from the EHR or from the recent ones."}
	}
	p.spent = true
	s.opened = append(s.opened, Opening{
		ExternalEncounterID: p.encounter.id, ExternalProviderID: p.providerID,
		ProviderEmail: p.email, PatientName: p.encounter.patientName, At: now,
	})
	return http.StatusOK, pageView{
		Title: "Encounter", Open: true, Encounter: p.encounter.id, Provider: p.providerID, Email: p.email,
		Export: s.button(p.encounter.id, p.providerID),
	}
}

// button makes a button that exports one encounter once. The caller holds mu.
func (s *Sim) button(encounterID, providerID string) string {
	if s.exports == nil {
		return ""
	}
	now := s.now()
	for token, f := range s.exportForms {
		if len(s.exportForms) >= maxExportForms || now.Sub(f.made) >= exportFormLife {
			delete(s.exportForms, token)
		}
	}
	token := random()
	s.exportForms[token] = exportForm{encounterID, providerID, now}
	return s.pagePath + token + "/export"
}

// exportNote is the button of an opened page: it exports a sample of a note and
// shows how the organisation answered. Its token works once.
func (s *Sim) exportNote(w http.ResponseWriter, r *http.Request) {
	guard(w.Header())
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		show(w, http.StatusMethodNotAllowed, pageView{Title: "This address is a button’s", Refused: "method", Sentence: "Press the button on the page."})
		return
	}
	token := r.PathValue("token")
	s.mu.Lock()
	f, known := s.exportForms[token]
	delete(s.exportForms, token)
	if known && s.now().Sub(f.made) >= exportFormLife {
		known = false
	}
	s.mu.Unlock()
	if !known {
		show(w, http.StatusGone, pageView{Title: "This button was pressed before", Refused: "spent", Sentence: "It works once. Open the encounter again."})
		return
	}
	done, err := s.Export(r.Context(), Export{ExternalEncounterID: f.encounterID, ExternalProviderID: f.providerID})
	s.log.Info("nabla-sim export", "status", done.Status, "faults", len(done.Faults))
	view := pageView{Title: "The note was exported", Exported: true, Outcome: "done", Sentence: "The organisation has taken it."}
	if err != nil || len(done.Faults) > 0 {
		view.Title, view.Outcome, view.Faults = "The note was not exported", "failed", done.Faults
		view.Sentence = "The organisation’s backend did not answer as the response protocol says:"
		if err != nil {
			view.Sentence = "The encounter is not known any more."
		}
	}
	s.mu.Lock()
	view.Export = s.button(f.encounterID, f.providerID)
	s.mu.Unlock()
	show(w, http.StatusOK, view)
}

func show(w http.ResponseWriter, status int, view pageView) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, view)
}
