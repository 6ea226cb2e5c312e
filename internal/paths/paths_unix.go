//go:build unix

package paths

import (
	"io/fs"
	"os"
	"syscall"

	"encounterlauncher/internal/ground"
)

const (
	machinePolicyFile     = "/etc/encounter-launcher/policy.json"
	installerDefaultsFile = "/usr/share/encounter-launcher/defaults.json"
	machineAutostartDir   = "/etc/xdg/autostart"
)

func (l Layout) stateName() string { return l.Name }

func sessionRuntimeBase() (string, bool) { return ground.Session() }

func checkPrivate(info fs.FileInfo) error { return ground.Private(info) }

// TrustedMachineFile reports whether a file of the machine's folders may be
// believed: it belongs to root (in tests to the owner of the machine root, in a
// demo to this user) and nobody else can write to it.
func (l Layout) TrustedMachineFile(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	owner := uint32(0)
	switch {
	case l.IsDemo():
		owner = uint32(os.Getuid())
	case l.machineRoot != "":
		root, err := os.Stat(l.machineRoot)
		if err != nil {
			return false
		}
		rootStat, ok := root.Sys().(*syscall.Stat_t)
		if !ok {
			return false
		}
		owner = rootStat.Uid
	}
	return stat.Uid == owner && info.Mode().Perm()&0o022 == 0
}
