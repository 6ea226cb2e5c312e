//go:build unix

package ground

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Session returns $XDG_RUNTIME_DIR when it is an absolute path to a folder of ours
// that nobody else can enter, as the XDG base directory specification demands.
// xdg.RuntimeDir is not used: it invents a folder where the variable is unset.
func Session() (string, bool) {
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" || base[0] != '/' {
		return "", false
	}
	return base, PrivateDir(base) == nil
}

// PrivateDir refuses what is not a folder, not ours or open to others.
func PrivateDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("a private folder is not a folder")
	}
	return Private(info)
}

// Private refuses a folder that is not ours or is open to others.
func Private(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) != os.Getuid() {
		return errors.New("a private folder belongs to another user")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return errors.New("a private folder is open to other users")
	}
	return nil
}

// WithoutCore keeps the system from writing this process's memory to the disk when it
// crashes, and that of the processes which it starts.
func WithoutCore() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_CORE, &limit) == nil && limit.Cur != 0 {
		limit.Cur = 0
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit) // lowering one's own is always allowed
	}
}
