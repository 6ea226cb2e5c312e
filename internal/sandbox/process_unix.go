//go:build unix

package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// canPlay: the play follows what the launcher hands to xdg-open.
const canPlay = true

// ownGroup keeps a Ctrl-C in the terminal from reaching the child: the sandbox
// ends it in its own order.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// hasDisplay reports whether there is a screen to show a browser on.
func hasDisplay() bool {
	return os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
}

// endIfStill ends a process by its number if it still runs the given program.
// Where the system does not tell, it ends nothing.
func endIfStill(pid int, program string) (ended bool) {
	running, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	if err != nil || strings.TrimSuffix(running, " (deleted)") != program {
		return false
	}
	return syscall.Kill(pid, syscall.SIGTERM) == nil
}

// browserCommand starts the default browser with an address of the sandbox.
func browserCommand(address string) *exec.Cmd { return exec.Command("xdg-open", address) }
