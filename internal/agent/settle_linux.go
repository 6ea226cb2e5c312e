package agent

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseProgram lets go of the program's own code and constants. Starting touches
// nearly all of them, an idle agent few; what is needed again comes back from the
// file (madvise(2), MADV_DONTNEED on a read-only mapping of a file).
func releaseProgram() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range cleanMappings(string(smaps), self) {
		// Advice that is not taken costs nothing but the memory.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(m.start), uintptr(m.end-m.start), unix.MADV_DONTNEED)
	}
}

// mapping is one range of addresses, its end excluded.
type mapping struct{ start, end uint64 }

// cleanMappings returns the read-only mappings of a file in smaps (proc(5)) that
// are what the file says. One that the loader has written to, as in a position
// independent build, could not be read back from the file and is left alone.
func cleanMappings(smaps, file string) []mapping {
	var clean []mapping
	var candidate *mapping
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		if len(fields) >= 5 && strings.Contains(fields[0], "-") {
			candidate = nil
			from, to, _ := strings.Cut(fields[0], "-")
			start, err1 := strconv.ParseUint(from, 16, 64)
			end, err2 := strconv.ParseUint(to, 16, 64)
			readOnly := fields[1] == "r-xp" || fields[1] == "r--p"
			if len(fields) == 6 && fields[5] == file && readOnly && err1 == nil && err2 == nil && start < end {
				candidate = &mapping{start, end}
			}
			continue
		}
		if candidate != nil && len(fields) == 3 && fields[0] == "Anonymous:" {
			if fields[1] == "0" {
				clean = append(clean, *candidate)
			}
			candidate = nil
		}
	}
	return clean
}
