//go:build unix

package paths

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	machinePolicyFile     = "/etc/encounter-launcher/policy.json"
	installerDefaultsFile = "/usr/share/encounter-launcher/defaults.json"
	machineAutostartDir   = "/etc/xdg/autostart"
)

func (l Layout) stateName() string { return l.Name }

// sessionRuntimeBase returns $XDG_RUNTIME_DIR when it is an absolute path to a
// folder of ours that nobody else can enter, as the XDG base directory
// specification demands. xdg.RuntimeDir is not used: it invents a folder where
// the variable is unset.
func sessionRuntimeBase() (string, bool) {
	base := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(base) {
		return "", false
	}
	info, err := os.Lstat(base)
	if err != nil || !info.IsDir() || checkPrivate(info) != nil {
		return "", false
	}
	return base, true
}

func checkPrivate(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != os.Getuid() {
		return errors.New("a private folder belongs to another user")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return errors.New("a private folder is open to other users")
	}
	return nil
}

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
