package paths

import "io/fs"

// Windows keeps policy, installer defaults and what starts at logon in the
// registry; no file stands for them.
const (
	machinePolicyFile     = ""
	installerDefaultsFile = ""
	machineAutostartDir   = ""
)

// stateName follows the custom of %LOCALAPPDATA%.
func (l Layout) stateName() string {
	if l.IsDemo() {
		return "EncounterLauncherDemo"
	}
	return "EncounterLauncher"
}

// sessionRuntimeBase: the control channel is a named pipe; the lock lives in the
// user's local application data.
func sessionRuntimeBase() (string, bool) { return "", false }

// checkPrivate: %LOCALAPPDATA% is closed to other users by its inherited ACL.
func checkPrivate(fs.FileInfo) error { return nil }

// TrustedMachineFile is false: there are no machine files on Windows.
func (l Layout) TrustedMachineFile(fs.FileInfo) bool { return l.IsDemo() }
