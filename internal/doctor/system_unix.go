//go:build unix

package doctor

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// free asks the file system (statvfs(3)) for what an ordinary user can still fill.
func free(folder string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil
}

// windowProgram is the window's own program, which lies beside this one.
func windowProgram(executable string) string { return executable + "-window" }

// copies are the programs of our name on PATH and where packages and people put them.
func copies(name string) []string {
	folders := append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin", "/usr/local/bin", "/opt/encounter-launcher", "/opt/encounter-launcher/bin")
	if home, err := os.UserHomeDir(); err == nil {
		folders = append(folders, filepath.Join(home, "bin"), filepath.Join(home, ".local", "bin"))
	}
	var found []string
	for _, folder := range folders {
		if !filepath.IsAbs(folder) {
			continue
		}
		program := filepath.Join(folder, name)
		if info, err := os.Stat(program); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			found = append(found, program)
		}
	}
	return found
}

// desktop is the desktop of the session and how it is drawn, as the session says.
func desktop() (name, session string) {
	return os.Getenv("XDG_CURRENT_DESKTOP"), os.Getenv("XDG_SESSION_TYPE")
}

// webView: the window is drawn by the system's own webview, to which its program is
// linked.
func webView() (WebView, error) { return WebView{}, nil }
