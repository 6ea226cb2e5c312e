package control

import (
	"context"

	"encounterlauncher/internal/paths"
)

// Server is the agent's end of the channel. Having one means being the agent.
type Server struct{}

// Listen becomes the agent of this user: it takes the lock and binds the name.
// It returns ErrOwned when another process is the agent.
func Listen(l paths.Layout) (*Server, error) { panic("not yet") }

// Serve answers until ctx ends or Close is called, then gives the role up.
func (s *Server) Serve(ctx context.Context, h Handler) error { panic("not yet") }

// Close ends Serve and gives the role up. It may be called more than once.
func (s *Server) Close() { panic("not yet") }
