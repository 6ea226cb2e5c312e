// Package orgserver is the reference implementation of the organisation's
// backend: it knows the clinician from the access token, keeps the context of a
// launch for minutes in memory, and asks Nabla for one-time URLs.
//
// It never writes a one-time URL, a handle, a token or anything of a patient to
// a file or a log, never trusts a link for who the clinician is, and never lets
// one clinician act for another.
package orgserver

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Deps is what a test or the sandbox may replace. The zero value is right for
// production.
type Deps struct {
	// Now is the clock that decides expiry; nil means time.Now.
	Now func() time.Time
	// Log may be nil: nothing is logged.
	Log *slog.Logger
	// HTTP reaches the OIDC issuer and Nabla; nil means one with bounded times.
	HTTP *http.Client
}

// Server is the backend: an http.Handler.
type Server struct{}

// New builds a Server and its stores. It does not listen and calls nobody: the
// issuer is discovered with the first token.
func New(ctx context.Context, cfg Config, deps Deps) (*Server, error) { return &Server{}, nil }

// ServeHTTP serves the contract of internal/orgapi/openapi.yaml below the path
// of PublicURL, with GET /healthz, GET /openapi.yaml and GET
// /.well-known/jwks.json (our keys for Nabla).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {}

// JWKS returns the public keys to register with Nabla, as a JWK set.
func (s *Server) JWKS() []byte { return nil }

// Close ends the stores. Handles that were not redeemed are lost.
func (s *Server) Close() error { return nil }
