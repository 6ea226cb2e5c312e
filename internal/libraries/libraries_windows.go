package libraries

import "syscall"

// searchSystem is LOAD_LIBRARY_SEARCH_SYSTEM32 (SetDefaultDllDirectories).
const searchSystem = 0x800

// The value is there for the moment at which it is made. kernel32.dll is in every
// process already, so that naming it loads nothing.
var _ = fromSystemOnly()

// fromSystemOnly reports whether Windows has taken it; every one since Windows 8 does.
func fromSystemOnly() bool {
	set := syscall.NewLazyDLL("kernel32.dll").NewProc("SetDefaultDllDirectories")
	if set.Find() != nil {
		return false
	}
	taken, _, _ := set.Call(searchSystem)
	return taken != 0
}
