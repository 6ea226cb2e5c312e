//go:build !linux

package first

// atOnce leaves everything to main.
func atOnce() Outcome { return Outcome{} }
