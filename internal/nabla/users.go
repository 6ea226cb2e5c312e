package nabla

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"encounterlauncher/internal/problem"
)

// OtherSpecialty is the kind of a specialty that the vendor's list does not have;
// its name stands beside it.
const OtherSpecialty = "OTHER"

// foundMargin is by how much the clocks of both sides may differ before a user who
// was made in this very call counts as one who was there.
const foundMargin = time.Minute

// User is the body of POST /users, version 2026-03-23, field for field. The vendor
// finds the user by ExternalProviderID and merges the settings that are given, so
// what is empty here is left out and never sent as null: it stays as it is there.
type User struct {
	ProviderEmail string `json:"provider_email"`
	// ExternalProviderID has at most 256 characters.
	ExternalProviderID string       `json:"external_provider_id"`
	Settings           UserSettings `json:"settings,omitzero"`
}

// UserSettings are settings of a user. The words of the vendor's lists (Kind, the
// locales) are not documented where we could read them: they are passed on as they
// are, and the vendor refuses those that it does not know.
type UserSettings struct {
	Specialty             *Specialty `json:"specialty,omitempty"`
	SpeechLocale          string     `json:"speech_locale,omitempty"`
	SecondarySpeechLocale string     `json:"secondary_speech_locale,omitempty"`
}

// Specialty is what a clinician practises. OtherName is set where Kind is
// OtherSpecialty, and only there.
type Specialty struct {
	Kind      string `json:"kind"`
	OtherName string `json:"other_specialty_name,omitempty"`
}

// Provisioned is what the vendor says of a user that was provisioned.
type Provisioned struct {
	// CreatedAt is zero where the answer does not say it in RFC 3339.
	CreatedAt time.Time
	// Found says that the user was there before: it was created more than a minute
	// before the call began.
	Found bool
}

// CreateUser makes a user, or finds the one with this id and merges the settings,
// so it is repeated after a failure that may pass. An e-mail address and an id that
// point at two users are provider_conflict; a payload that the vendor refuses is
// request_invalid. Every error is a Problem.
func (c *Client) CreateUser(ctx context.Context, u User) (Provisioned, error) {
	began := c.now()
	answer, err := c.call(ctx, c.users, u, refusedUser)
	if err != nil {
		return Provisioned{}, err
	}
	if err := answer.isJSON(); err != nil {
		return Provisioned{}, problem.New(problem.VendorUnavailable, err)
	}
	// The vendor documents created_at and leaves open what else the user holds and
	// where: that it answered 2xx is what counts.
	var user struct {
		CreatedAt string `json:"created_at"`
	}
	var p Provisioned
	if json.Unmarshal(answer.body, &user) == nil {
		if at, err := time.Parse(time.RFC3339, user.CreatedAt); err == nil {
			p.CreatedAt, p.Found = at, at.Before(began.Add(-foundMargin))
		}
	}
	return p, nil
}

func refusedUser(status int) problem.Code {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return problem.RequestInvalid
	case http.StatusConflict:
		return problem.ProviderConflict
	}
	return problem.VendorUnavailable
}
