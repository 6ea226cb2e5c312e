package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

const rule = "------------------------------------------------------------------------------"

// noticesOf writes which parts something contains and under which licences, with every
// text once. The same parts make the same bytes.
func noticesOf(of, form string, parts []part) (string, error) {
	switch form {
	case "text":
		return readable(of, parts), nil
	case "windows":
		return strings.ReplaceAll(readable(of, parts), "\n", "\r\n"), nil
	case "debian":
		return stanzas(parts), nil
	}
	return "", fmt.Errorf("there is no form %q", form)
}

func readable(of string, parts []part) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Third-party notices\n\n%s contains these %d parts of others:\n\n", of, len(parts))
	for _, p := range parts {
		fmt.Fprintf(&b, "  %s %s (%s)\n", p.title(), p.version, p.licence)
	}
	b.WriteString("\nEach is unchanged, and its source is what the package registry of its language has\nunder this name and version. Their licences and notices:\n")

	// The same text is written once, below the names of all who have it.
	whose := map[string][]string{}
	var order []string
	for _, p := range parts {
		for _, t := range p.texts {
			if whose[t.body] == nil {
				order = append(order, t.body)
			}
			whose[t.body] = append(whose[t.body], p.title()+" "+p.version+": "+t.file)
		}
	}
	for _, body := range order {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n\n%s", rule, strings.Join(whose[body], "\n"), rule, body)
	}
	return b.String()
}

// title is the name of a part for people.
func (p part) title() string {
	switch {
	case p.name == standard:
		return "The Go programming language and its library"
	case p.kind == "npm":
		return p.name + " (npm)"
	}
	return p.name
}

// common are the texts that every Debian has (Debian Policy 12.5): they are named and
// not repeated.
var common = map[string]string{
	"Apache-2.0": "/usr/share/common-licenses/Apache-2.0",
	"MPL-2.0":    "/usr/share/common-licenses/MPL-2.0",
}

// longEnough tells a whole text from a reference to it, in bytes.
const longEnough = 4000

var copyrightLine = regexp.MustCompile(`(?mi)^[ \t*#/-]*(?:portions )?(?:copyright[:,]? +|©|\(c\) *)+((?:\(c\)|©)?[ ,]*[0-9]{4}[^\n]*|[^\n]* authors[^\n]*)$`)

// stanzas are the parts as debian/copyright has them (DEP-5).
func stanzas(parts []part) string {
	var b strings.Builder
	for _, p := range parts {
		var holders []string
		var lines []string
		for _, t := range p.texts {
			for _, m := range copyrightLine.FindAllStringSubmatch(t.body, -1) {
				holders = append(holders, strings.TrimSpace(m[1]))
			}
			lines = append(lines, t.file+":", "")
			lines = append(lines, strings.Split(strings.TrimRight(withoutCommon(t.body), "\n"), "\n")...)
			lines = append(lines, "")
		}
		if holders = unique(holders); len(holders) == 0 {
			holders = []string{"the authors of " + p.name}
		}
		fmt.Fprintf(&b, "\nFiles: %s@%s\nCopyright: %s\nLicense: %s\n", p.name, p.version, strings.Join(holders, "\n           "), strings.ReplaceAll(p.licence, " AND ", " and "))
		for _, line := range lines[:len(lines)-1] {
			if strings.TrimSpace(line) == "" {
				line = "."
			}
			b.WriteString(" " + strings.TrimRight(line, " ") + "\n")
		}
	}
	return b.String()
}

// withoutCommon replaces every whole text that Debian has by where it has it.
func withoutCommon(body string) string {
	matches := licensecheck.Scan([]byte(body)).Match
	for _, m := range slices.Backward(matches) {
		if path := common[m.ID]; path != "" && m.End-m.Start > longEnough {
			body = body[:m.Start] + "\n[The text of the licence is in " + path + ".]\n" + body[m.End:]
		}
	}
	return plain(body)
}

// unique leaves out what is there already, and keeps the order.
func unique(all []string) (once []string) {
	for _, s := range all {
		if !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}
