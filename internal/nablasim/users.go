package nablasim

import (
	"net/http"
	"regexp"
	"strings"
	"time"
)

// user is one clinician whom the simulator knows.
type user struct {
	id, email string
	settings  map[string]string // by path below settings; absent means null
	created   time.Time
}

// usersFields is the payload of POST /users, version 2026-03-23.
var usersFields = []field{
	{name: "provider_email", email: true},
	{name: "external_provider_id", maxRunes: maxIDRunes},
	{name: "settings", object: true, optional: true},
	{name: "settings.specialty", object: true, optional: true, nullable: true},
	{name: "settings.specialty.kind", optional: true, word: true},
	{name: "settings.specialty.other_specialty_name", optional: true, nullable: true, maxRunes: maxIDRunes},
	{name: "settings.speech_locale", optional: true, word: true},
	{name: "settings.secondary_speech_locale", optional: true, nullable: true, word: true},
}

// wordForm is what every enum's words look like; which words there are the
// vendor's page does not say.
var wordForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// userAnswer is the answer of POST /users.
type userAnswer struct {
	ProviderEmail      string         `json:"provider_email"`
	ExternalProviderID string         `json:"external_provider_id"`
	Settings           settingsAnswer `json:"settings"`
	CreatedAt          string         `json:"created_at"`
}

type settingsAnswer struct {
	Specialty             *specialtyAnswer `json:"specialty"`
	SpeechLocale          *string          `json:"speech_locale"`
	SecondarySpeechLocale *string          `json:"secondary_speech_locale"`
}

type specialtyAnswer struct {
	Kind               string  `json:"kind"`
	OtherSpecialtyName *string `json:"other_specialty_name"`
}

// users is POST /users: it finds the user by external_provider_id and merges the
// settings that are given, or creates it.
func (s *Sim) users(r *http.Request, body []byte) (int, any) {
	if s.versionOf(r) != Version20260323 {
		return http.StatusNotFound, refusal{"not_found", "there is no such call in this version"}
	}
	p, err := readPayload(body, usersFields)
	if err != nil {
		return http.StatusBadRequest, refusal{"invalid_request", err.Error()}
	}
	if p.has["settings.specialty"] && !p.null["settings.specialty"] && p.text["settings.specialty.kind"] == "" {
		return http.StatusBadRequest, refusal{"invalid_request", "settings.specialty.kind is missing"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u, refused := s.provision(p.text["provider_email"], p.text["external_provider_id"])
	if refused != nil {
		return http.StatusConflict, *refused
	}
	if p.has["settings.specialty"] {
		delete(u.settings, "specialty.kind")
		delete(u.settings, "specialty.other_specialty_name")
	}
	for _, f := range usersFields {
		name, below := strings.CutPrefix(f.name, "settings.")
		switch {
		case !below || f.object || !p.has[f.name]:
		case p.null[f.name]:
			delete(u.settings, name)
		default:
			u.settings[name] = p.text[f.name]
		}
	}
	return http.StatusOK, u.answer()
}

func (u *user) answer() userAnswer {
	a := userAnswer{ProviderEmail: u.email, ExternalProviderID: u.id, CreatedAt: u.created.UTC().Format(time.RFC3339)}
	text := func(name string) *string {
		if v, ok := u.settings[name]; ok {
			return &v
		}
		return nil
	}
	a.Settings.SpeechLocale = text("speech_locale")
	a.Settings.SecondarySpeechLocale = text("secondary_speech_locale")
	if kind := text("specialty.kind"); kind != nil {
		a.Settings.Specialty = &specialtyAnswer{*kind, text("specialty.other_specialty_name")}
	}
	return a
}

// provision finds the user of an e-mail address and an id, or creates it. It
// refuses when the two belong to different users. The caller holds mu.
func (s *Sim) provision(email, id string) (*user, *refusal) {
	folded := strings.ToLower(email)
	known, byID := s.usersByID[id]
	other, byEmail := s.idOfEmail[folded]
	if (byEmail && other != id) || (byID && strings.ToLower(known.email) != folded) {
		return nil, &refusal{"conflict", "provider_email and external_provider_id belong to different users"}
	}
	if !byID {
		known = &user{id: id, email: email, settings: map[string]string{}, created: s.now()}
		s.usersByID[id], s.idOfEmail[folded] = known, id
	}
	return known, nil
}
