//go:build unix

package cli

// letExplorerIn does nothing: only Windows has an Explorer.
func letExplorerIn() {}
