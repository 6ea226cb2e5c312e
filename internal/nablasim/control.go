package nablasim

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	strictjson "github.com/go-jose/go-jose/v4/json"
)

// OpenAPI describes the part of Nabla Connect that the simulator speaks, as far as
// the vendor's page says it (OpenAPI 3.1, YAML). Served below the base.
//
//go:embed openapi.yaml
var OpenAPI []byte

// ControlOpenAPI describes the control port (OpenAPI 3.1, YAML).
//
//go:embed control.yaml
var ControlOpenAPI []byte

const maxControlBytes = 1 << 20

// controlCall is one call of the control port: the status and body of its answer.
type controlCall func(r *http.Request, body []byte) (int, any)

// Control returns the handler of the control port: clock, faults, encounters,
// openings, exports, reset. It is for a listener of its own on a loopback address:
// who reaches it may do everything. It answers no page of a browser: a Host that
// is not loopback, and a request that says which page made it, are refused.
func (s *Sim) Control() http.Handler {
	routes := map[string]map[string]controlCall{
		"/clock": {
			http.MethodGet:    without(func() (int, any) { return http.StatusOK, s.Clock() }),
			http.MethodPost:   s.controlClock,
			http.MethodDelete: without(func() (int, any) { s.ResetClock(); return http.StatusOK, s.Clock() }),
		},
		"/faults": {
			http.MethodGet:    without(func() (int, any) { return http.StatusOK, faultList{s.Faults()} }),
			http.MethodPost:   s.controlFault,
			http.MethodDelete: without(func() (int, any) { s.ClearFaults(); return http.StatusOK, faultList{s.Faults()} }),
		},
		"/faults/{id}": {http.MethodDelete: s.controlRemoveFault},
		"/encounters":  {http.MethodGet: without(func() (int, any) { return http.StatusOK, encounterList{s.Encounters()} })},
		"/openings":    {http.MethodGet: without(s.controlOpenings)},
		"/exports":     {http.MethodPost: s.controlExport},
		"/reset":       {http.MethodPost: without(func() (int, any) { s.Reset(); return http.StatusOK, struct{}{} })},
	}
	mux := http.NewServeMux()
	for path, methods := range routes {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { control(w, r, methods) })
	}
	mux.HandleFunc("/openapi.yaml", document(ControlOpenAPI))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "not_found", "there is no such call; see /openapi.yaml")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !loopbackHost(r.Host) || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
			refuse(w, http.StatusForbidden, "forbidden", "the control port is for programs on this computer, not for pages")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func control(w http.ResponseWriter, r *http.Request, methods map[string]controlCall) {
	call, allowed := methods[r.Method]
	if !allowed {
		names := make([]string, 0, len(methods))
		for name := range methods {
			names = append(names, name)
		}
		slices.Sort(names)
		w.Header().Set("Allow", strings.Join(names, ", "))
		refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "the call has other methods: "+strings.Join(names, ", "))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBytes))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "too_large", "the body is larger than 1 MiB, or was cut off")
		return
	}
	if len(body) > 0 {
		if reason := checkContentType(r); reason != "" {
			refuse(w, http.StatusUnsupportedMediaType, "unsupported_media_type", reason)
			return
		}
	}
	status, result := call(r, body)
	answer(w, status, result)
}

// without is a call that has no body.
func without(do func() (int, any)) controlCall {
	return func(_ *http.Request, body []byte) (int, any) {
		if len(body) > 0 {
			return invalid(errors.New("the call has no body"))
		}
		return do()
	}
}

func invalid(err error) (int, any) {
	return http.StatusBadRequest, refusal{"invalid_request", err.Error()}
}

// readStrict reads one JSON object: no unknown or doubled field, no other spelling
// of a name, nothing behind it.
func readStrict(body []byte, into any) error {
	if !utf8.Valid(body) {
		return errors.New("the body is not UTF-8")
	}
	if trimmed := bytes.TrimSpace(body); len(trimmed) == 0 || trimmed[0] != '{' {
		return errors.New("the body is not a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	// encoding/json takes a name in any case and the last of two: the other decoder
	// takes neither, so a difference tells.
	again := reflect.New(reflect.TypeOf(into).Elem())
	if err := strictjson.Unmarshal(body, again.Interface()); err != nil {
		return errors.New("a field is there twice")
	}
	if !reflect.DeepEqual(into, again.Interface()) {
		return errors.New("the name of a field has capitals")
	}
	return nil
}

func (s *Sim) controlClock(_ *http.Request, body []byte) (int, any) {
	var by ClockChange
	if err := readStrict(body, &by); err != nil {
		return invalid(err)
	}
	if by == (ClockChange{}) {
		return invalid(errors.New("the body says nothing to change"))
	}
	if err := s.ChangeClock(by); err != nil {
		return invalid(err)
	}
	return http.StatusOK, s.Clock()
}

type faultList struct {
	Faults []Fault `json:"faults"`
}

func (s *Sim) controlFault(_ *http.Request, body []byte) (int, any) {
	var f Fault
	if err := readStrict(body, &f); err != nil {
		return invalid(err)
	}
	made, err := s.AddFault(f)
	if err != nil {
		return invalid(err)
	}
	return http.StatusOK, made
}

func (s *Sim) controlRemoveFault(r *http.Request, body []byte) (int, any) {
	if len(body) > 0 {
		return invalid(errors.New("the call has no body"))
	}
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || !s.RemoveFault(id) {
		return http.StatusNotFound, refusal{"not_found", "there is no fault of that id"}
	}
	return http.StatusOK, faultList{s.Faults()}
}

// EncounterIDs are the ids of one encounter that was created.
type EncounterIDs struct {
	ExternalEncounterID string   `json:"external_encounter_id"`
	ExternalProviderIDs []string `json:"external_provider_ids"`
}

type encounterList struct {
	Encounters []EncounterIDs `json:"encounters"`
}

// Encounters returns the ids of the encounters that were created, sorted. It never
// returns anything else of them.
func (s *Sim) Encounters() []EncounterIDs {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]EncounterIDs, 0, len(s.encounters))
	for id, e := range s.encounters {
		ids := EncounterIDs{ExternalEncounterID: id}
		for provider := range e.providers {
			ids.ExternalProviderIDs = append(ids.ExternalProviderIDs, provider)
		}
		slices.Sort(ids.ExternalProviderIDs)
		list = append(list, ids)
	}
	slices.SortFunc(list, func(a, b EncounterIDs) int {
		return strings.Compare(a.ExternalEncounterID, b.ExternalEncounterID)
	})
	return list
}

// shownOpening is an Opening without the patient.
type shownOpening struct {
	ExternalEncounterID string `json:"external_encounter_id"`
	ExternalProviderID  string `json:"external_provider_id"`
	At                  string `json:"at"`
}

func (s *Sim) controlOpenings() (int, any) {
	list := []shownOpening{}
	for _, o := range s.Opened() {
		list = append(list, shownOpening{o.ExternalEncounterID, o.ExternalProviderID, CallbackTime(o.At)})
	}
	return http.StatusOK, struct {
		Openings []shownOpening `json:"openings"`
	}{list}
}

func (s *Sim) controlExport(r *http.Request, body []byte) (int, any) {
	var e Export
	if err := readStrict(body, &e); err != nil {
		return invalid(err)
	}
	done, err := s.Export(r.Context(), e)
	switch {
	case errors.Is(err, ErrNoEncounter):
		return http.StatusNotFound, refusal{"not_found", err.Error()}
	case errors.Is(err, ErrNoCallbacks):
		return http.StatusConflict, refusal{"no_callbacks", err.Error()}
	case err != nil:
		return invalid(err)
	}
	return http.StatusOK, done
}

// Reset forgets everything: encounters, users, pages, access tokens, openings,
// faults; and the clock is the computer's again. Used assertions stay used.
func (s *Sim) Reset() {
	s.ResetClock()
	s.ClearFaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
	clear(s.idOfEmail)
	clear(s.usersByID)
	clear(s.encounters)
	clear(s.pages)
	clear(s.exportForms)
	s.order, s.opened = nil, nil
}

func document(text []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "this call is a GET")
			return
		}
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(text)
	}
}
