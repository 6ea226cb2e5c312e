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
// because a stale token would be refused in place of a good one.
//
// What closedPath takes out of PATH is gone for the rest of this process: whatever
// else it starts is not to come from there either, and putting it back would undo what
// others have set meanwhile.
func activate(a Activation) (forget func()) {
	set := func(name, value string) {
		if value == "" || len(value) > maxTokenBytes || os.Setenv(name, value) != nil {
			_ = os.Unsetenv(name)
		}
	}
	set("XDG_ACTIVATION_TOKEN", a.Token)
	set("DESKTOP_STARTUP_ID", a.StartupID)
	path := os.Getenv("PATH")
	if closed := closedPath(path); closed != path {
		_ = os.Setenv("PATH", closed)
	}
	return func() {
		set("XDG_ACTIVATION_TOKEN", "")
		set("DESKTOP_STARTUP_ID", "")
	}
}
