package doctor

import (
	"bufio"
	"os"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

const systemName = "linux"

var plainWord = regexp.MustCompile(`^[a-z0-9._-]{1,24}$`)

// release is the distribution with its version (os-release(5)) and the kernel's. Both
// files are the system's, and only short plain words of them are taken.
func release() string {
	found := map[string]string{}
	if f, err := os.Open("/etc/os-release"); err == nil {
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			key, value, _ := strings.Cut(lines.Text(), "=")
			if value = strings.Trim(value, `"`); plainWord.MatchString(value) {
				found[key] = value
			}
		}
	}
	kernel := ""
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		if r := unix.ByteSliceToString(u.Release[:]); plainWord.MatchString(r) {
			kernel = r
		}
	}
	return strings.TrimSpace(found["ID"] + " " + found["VERSION_ID"] + " kernel " + kernel)
}
