//go:build unix

package cli

// endOtherSessions does nothing: one agent serves all sessions of a user.
func endOtherSessions() error { return nil }
