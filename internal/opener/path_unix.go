//go:build unix

package opener

import (
	"os"
	"path/filepath"
	"strings"
)

// closedPath returns those folders of a PATH in which not everybody can put a program:
// the address is a secret that whatever is started gets. A folder that is not named
// absolutely is left out too, and one that is not there. Owners are not judged: inside
// a container the system's folders may belong to nobody.
func closedPath(path string) string {
	var kept []string
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		// The sticky bit protects what is there; it keeps nobody from being first.
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o002 == 0 {
			kept = append(kept, dir)
		}
	}
	return strings.Join(kept, string(filepath.ListSeparator))
}
