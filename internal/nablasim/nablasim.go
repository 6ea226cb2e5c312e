// Package nablasim is a strict simulator of Nabla Connect for development and
// tests: it refuses whatever the vendor's protocol page does not allow, and its
// one-time pages work once and for ten minutes.
//
// It never talks to Nabla, keeps everything in memory, and never shows on a page
// or in its log what a page is not for.
package nablasim

import (
	"log/slog"
	"net/http"
	"time"
)

// Client is one registered OAuth client. Exactly one of JWKSURL, JWKS and
// PublicKeyPEM is set (the static key may be RSA only and means RS256 only).
type Client struct {
	JWKSURL      string
	JWKS         []byte
	PublicKeyPEM []byte
}

// Config describes one simulator.
type Config struct {
	// BaseURL is the base under which callers reach the protocol, for example
	// "http://127.0.0.1:4000/v1/connect/server". The path is where the handler
	// serves it; BaseURL + "/oauth/token" is the only accepted audience.
	BaseURL string
	// PageBase is the start of every one-time URL, without a trailing slash, for
	// example "http://127.0.0.1:4000". Empty means scheme and host of BaseURL.
	PageBase string
	// Clients by their UUID.
	Clients map[string]Client
	// HTTP fetches JWKS URLs; nil means a client of our own with a short timeout.
	HTTP *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log may be nil. Ids, URLs and tokens never reach it.
	Log *slog.Logger
}

// Opening is one one-time page that was really opened.
type Opening struct {
	ExternalEncounterID string
	ExternalProviderID  string
	ProviderEmail       string
	PatientName         string
	At                  time.Time
}

// Sim is the simulator: an http.Handler for the protocol and the pages.
type Sim struct{ cfg Config }

// New checks the configuration and returns a simulator.
func New(cfg Config) (*Sim, error) { return &Sim{cfg}, nil }

// ServeHTTP serves the protocol below BaseURL's path and the one-time pages
// below PageBase's.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// Opened returns the pages that were opened, oldest first.
func (s *Sim) Opened() []Opening { return nil }
