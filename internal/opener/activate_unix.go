//go:build unix

package opener

import "os"

// maxTokenBytes is far more than any compositor hands out.
const maxTokenBytes = 1024

// activate puts the click into this process's environment, where the opener
// about to be started inherits it, and returns the function that takes it out.
//
// Changing the environment of the process is done nowhere else: the library
// offers no other way to give its child a variable. A value of an earlier click,
// or of this process's own start, is removed even when there is none to set,
// because a stale token would be refused in place of a good one. With it the opener
// gets, and is looked for in, what closedPath leaves of PATH.
func activate(a Activation) (forget func()) {
	set := func(name, value string) {
		if value == "" || len(value) > maxTokenBytes || os.Setenv(name, value) != nil {
			_ = os.Unsetenv(name)
		}
	}
	set("XDG_ACTIVATION_TOKEN", a.Token)
	set("DESKTOP_STARTUP_ID", a.StartupID)
	path := os.Getenv("PATH")
	_ = os.Setenv("PATH", closedPath(path))
	return func() {
		_ = os.Setenv("PATH", path)
		set("XDG_ACTIVATION_TOKEN", "")
		set("DESKTOP_STARTUP_ID", "")
	}
}
