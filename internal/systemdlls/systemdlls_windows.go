package systemdlls

import "syscall"

// searchSystem32 is LOAD_LIBRARY_SEARCH_SYSTEM32 (libloaderapi.h).
const searchSystem32 = 0x800

// kernel32 is in every process before anything of ours runs.
var only = syscall.NewLazyDLL("kernel32.dll").NewProc("SetDefaultDllDirectories")

// done reports whether Windows has taken it; it does since 8.
var done = restrict()

func restrict() bool {
	if only.Find() != nil {
		return false
	}
	ok, _, _ := only.Call(searchSystem32)
	return ok != 0
}
