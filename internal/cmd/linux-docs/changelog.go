package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// changelog writes the newest section of CHANGELOG.md as the one entry of a Debian
// changelog (deb-changelog(5)), which wants a version, a maintainer and a moment.
func changelog(markdown, version, maintainer string, at time.Time) (string, error) {
	_, section, found := strings.Cut(markdown, "\n## ")
	if !found {
		return "", errors.New("the changelog has no section")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var b strings.Builder
	fmt.Fprintf(&b, "encounter-launcher (%s) unstable; urgency=medium\n\n", version)
	var changes []string
	for line := range strings.Lines(section) {
		switch last := len(changes) - 1; {
		case strings.HasPrefix(line, "- "):
			changes = append(changes, line[2:])
		case strings.HasPrefix(line, "  ") && last >= 0:
			changes[last] += line
		}
	}
	for _, change := range changes {
		wrapped(&b, change)
	}
	if len(changes) == 0 {
		return "", errors.New("the newest section of the changelog is empty")
	}
	fmt.Fprintf(&b, "\n -- %s  %s\n", maintainer, at.UTC().Format(time.RFC1123Z))
	return b.String(), nil
}

// wrapped writes one change in lines that a terminal of 80 columns holds.
func wrapped(b *strings.Builder, change string) {
	line := "  *"
	for _, word := range strings.Fields(change) {
		if len(line)+1+len(word) > 79 {
			b.WriteString(line + "\n")
			line = "   "
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
