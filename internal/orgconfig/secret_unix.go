//go:build unix

package orgconfig

import (
	"io/fs"
	"os"
	"syscall"
)

// open reports whether others than the owner can get at a file. systemd gives a
// credential to a service by an access list of root's file, which shows as mode
// 0440: what root's own group may read, nobody else may.
func open(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return !ok || owner.Uid != 0 || owner.Gid != 0 || mode&0o037 != 0
}

// everybodyWrites reports whether anybody can change a file; a group that may was given
// it on purpose.
func everybodyWrites(info fs.FileInfo) bool { return info.Mode().Perm()&0o002 != 0 }

// OfAnother reports whether a file or folder belongs to neither this process's user nor
// root: its owner can put something else in its place. On Windows it never does, where
// the access list decides.
func OfAnother(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || stat.Uid != 0 && int(stat.Uid) != os.Getuid()
}
