//go:build !windows

package signin

// mostHint is the length of an ID token that still travels in an address, in bytes.
const mostHint = 6000
