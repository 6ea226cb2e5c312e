package doctor

import (
	"bufio"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const systemName = "linux"

// plainWord reports whether a word is short and of the letters that versions have.
func plainWord(word string) bool {
	return word != "" && len(word) <= 24 && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789._-+") == ""
}

// release is the distribution with its version (os-release(5)) and the kernel's. Both
// files are the system's, and only short plain words of them are taken.
func release() string {
	found := map[string]string{}
	if f, err := os.Open("/etc/os-release"); err == nil {
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			key, value, _ := strings.Cut(lines.Text(), "=")
			if value = strings.Trim(value, `"`); plainWord(value) {
				found[key] = value
			}
		}
	}
	kernel := ""
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		if r := unix.ByteSliceToString(u.Release[:]); plainWord(r) {
			kernel = r
		}
	}
	return strings.TrimSpace(found["ID"] + " " + found["VERSION_ID"] + " kernel " + kernel)
}
