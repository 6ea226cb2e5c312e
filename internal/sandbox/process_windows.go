package sandbox

import (
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/windows"
)

// canPlay: the play follows what the launcher hands to xdg-open.
const canPlay = false

// ownGroup keeps a Ctrl-C in the console from reaching the child: the sandbox
// ends it in its own order.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}

// hasDisplay is true: a session of Windows has a screen.
func hasDisplay() bool { return true }

// endIfStill ends a process by its number if it still runs the given program.
func endIfStill(pid int, program string) (ended bool) {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		return false
	}
	defer func() { _ = windows.CloseHandle(process) }()
	name := make([]uint16, windows.MAX_LONG_PATH)
	size := uint32(len(name))
	if err := windows.QueryFullProcessImageName(process, 0, &name[0], &size); err != nil {
		return false
	}
	if !strings.EqualFold(windows.UTF16ToString(name[:size]), program) {
		return false
	}
	return windows.TerminateProcess(process, 1) == nil
}

// browserCommand starts the default browser with an address of the sandbox.
func browserCommand(address string) *exec.Cmd {
	return exec.Command("rundll32", "url.dll,FileProtocolHandler", address)
}
