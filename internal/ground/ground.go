// Package ground knows the little about this build and this session that is needed
// before anything else: the flavour, and whether the session has a folder for sockets.
// Everybody but first asks paths, which stands on it.
//
// The flavour is set when the program is linked and by nothing else. This room imports
// next to nothing, so that next to nothing is initialised before it, and it creates
// and changes nothing.
package ground

// flavour is empty in a release and "demo" in the build for the sandbox: set with
// -ldflags "-X encounterlauncher/internal/ground.flavour=demo".
var flavour string

// Flavour returns the flavour of this build; empty for a release.
func Flavour() string { return flavour }

// Name returns the name of program, folders, keyring service and link scheme of a
// flavour: "encounter-launcher", or "encounter-launcher-demo".
func Name(flavour string) string {
	const release = "encounter-launcher"
	if flavour != "" {
		return release + "-" + flavour
	}
	return release
}
