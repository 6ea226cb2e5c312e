package policy

import "encounterlauncher/internal/paths"

// hasPAC: WinHTTP evaluates proxy scripts.
const hasPAC = true

// hasStore: certificates and their keys are in the system's store.
const hasStore = true

// read reads every source of this system, strongest first. The demo keeps to
// the sandbox's files, so that it leaves the registry's policies alone.
func read(l paths.Layout) []reading {
	if l.IsDemo() {
		return readFiles(l)
	}
	return []reading{
		readRegistry(SourceMachine, localMachine, PoliciesKey, false),
		readRegistry(SourceUser, currentUser, PoliciesKey, false),
		personFile(SourcePerson, l.SettingsFile()),
		readRegistry(SourceDefaults, localMachine, DefaultsKey, true),
	}
}
