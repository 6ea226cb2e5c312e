//go:build linux

package stage

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ClockVariable names, in a session's environment, the file that sets the clock of a
// ClockedLauncher; see SetClock.
const ClockVariable = "STAGE_CLOCK"

// clockText is added to the standard library's package time. The runtime asks for the
// time where nothing may be called: so the file is mapped.
const clockText = `package time

import (
	"syscall"
	"unsafe"
)

var stageClockFile = mapStageClock()

func mapStageClock() []byte {
	name, _ := syscall.Getenv("` + ClockVariable + `")
	f, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if name == "" || err != nil {
		return nil
	}
	file, _ := syscall.Mmap(f, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	_ = syscall.Close(f)
	return file
}

func stageClock() (seconds int64) {
	if len(stageClockFile) < 8 {
		return 0
	}
	return *(*int64)(unsafe.Pointer(&stageClockFile[0]))
}
`

// ClockedLauncher is the launcher with a wall clock that can be set for it alone, as a
// person or a time server sets a computer's: its time.Now adds what SetClock says. A
// static program takes no preloaded library, and a machine's clock is everybody's. The
// clock that measures (CLOCK_MONOTONIC) goes on as it is, as it does there. Everything
// else is as in Launcher. dir takes two files that it is built with.
func (p Programs) ClockedLauncher(ctx context.Context, dir string) (Build, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return Build{}, fmt.Errorf("finding the standard library: %w", err)
	}
	place := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(place, "time.go"))
	if err != nil {
		return Build{}, err
	}
	const reads = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if !bytes.Contains(text, []byte(reads)) {
		return Build{}, errors.New("the standard library's time.Now is not as it is known")
	}
	now, more, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "stageclock.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(place, "time.go"): now, filepath.Join(place, "stageclock.go"): more}})
	if err != nil {
		return Build{}, err
	}
	b := p.Launcher()
	b.Overlay = overlay
	return b, errors.Join(
		os.WriteFile(now, bytes.Replace(text, []byte(reads), []byte(reads+"\tsec += stageClock()\n"), 1), 0o600),
		os.WriteFile(more, []byte(clockText), 0o600), os.WriteFile(overlay, list, 0o600),
	)
}

// SetClock sets the clock of the launchers whose ClockVariable names this file, by so
// many whole seconds from the machine's. The file must be there when they start.
func SetClock(file string, by time.Duration) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(by/time.Second))), 0)
	return errors.Join(err, f.Close())
}
