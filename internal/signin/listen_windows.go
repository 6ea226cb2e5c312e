package signin

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// exclusive keeps other programs from binding the same port beside us, which
// Windows otherwise lets them do with SO_REUSEADDR, and so from reading the
// answer. SO_EXCLUSIVEADDRUSE is the complement of SO_REUSEADDR (winsock2.h).
func exclusive(_, _ string, raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(handle uintptr) {
		set = windows.SetsockoptInt(windows.Handle(handle), windows.SOL_SOCKET, ^windows.SO_REUSEADDR, 1)
	})
	if err != nil {
		return err
	}
	return set
}
