package scheme

import (
	"errors"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ourMark in a desktop file says that this package wrote it. Keys that begin
// with X- are free for extensions (Desktop Entry Specification, "Extending the
// format").
const ourMark = "X-EncounterLauncher-Registered=true"

const desktopGroup = "[Desktop Entry]"

// entryText returns the desktop file. StartupNotify makes desktops hand the
// person's click to the handler, which passes it on to the browser.
func entryText(display, key, exec string) string {
	return strings.Join([]string{
		desktopGroup,
		"Type=Application",
		"Version=1.0",
		"Name=" + display,
		"Comment=Opens encounters from the EHR",
		"Exec=" + exec,
		"Terminal=false",
		"StartupNotify=true",
		"Categories=Office;MedicalSoftware;",
		"MimeType=" + key + ";",
		ourMark,
		"",
	}, "\n")
}

// marked reports whether this package wrote a desktop file.
func marked(text string) bool { return strings.Contains("\n"+text, "\n"+ourMark+"\n") }

// isPlain reports whether a path needs no quoting anywhere, which is also what
// the generic opener of xdg-utils before 1.2 demands: it splits Exec at spaces
// and knows no quotes.
func isPlain(path string) bool {
	for i := 0; i < len(path); i++ {
		c := path[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("/._-+@:,", c) < 0 {
			return false
		}
	}
	return true
}

// checkProgram refuses paths that an Exec key cannot name.
func checkProgram(path string) error {
	if !filepath.IsAbs(path) || !utf8.ValidString(path) || strings.Contains(path, "=") {
		return errors.New("the program's path is not absolute, not UTF-8, or holds an equals sign")
	}
	for _, r := range path {
		if unicode.IsControl(r) {
			return errors.New("the program's path holds a control character")
		}
	}
	return nil
}

// execLine returns the value of the Exec key that starts path with the link as
// its one argument. A quoted argument has quotes, backticks, dollars and
// backslashes escaped, percent signs doubled, and then every backslash once more,
// because the value is a string of the file format as well.
func execLine(path string) string {
	if isPlain(path) {
		return path + " %u"
	}
	quoted := strings.NewReplacer(`"`, `\"`, "`", "\\`", `$`, `\$`, `\`, `\\`, `%`, `%%`).Replace(path)
	line := `"` + strings.ReplaceAll(quoted, `\`, `\\`) + `" %u`
	if strings.Contains(path, "%") {
		// GLib looks for the program before it turns %% back into %, finds none,
		// and drops the whole entry.
		line = "env " + line
	}
	return line
}

// programOf returns the program of an Exec value, as execLine and the
// specification write it, and what follows it; empty when it cannot be read.
func programOf(exec string) (program, rest string) {
	unescaped := strings.NewReplacer(`\\`, `\`, `\s`, " ", `\t`, "\t", `\n`, "\n", `\r`, "\r").Replace(exec)
	first, rest := word(unescaped)
	if filepath.Base(first) == "env" {
		first, rest = word(rest)
	}
	return strings.ReplaceAll(first, "%%", "%"), rest
}

// faultsOf says what is wrong with the arguments of an Exec value: one field code for
// the link, alone and without quotes, is what passes it as one argument
// (Desktop Entry Specification, "The Exec key").
func faultsOf(rest string) (faults []Fault) {
	links, others := 0, 0
	for rest = strings.TrimLeft(rest, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		quoted := rest[0] == '"'
		var argument string
		if argument, rest = word(rest); argument == "" && rest == "" && quoted {
			return append(faults, LinkQuoting) // the quotes do not end
		}
		switch code := strings.ToLower(argument); {
		case code == "%u" && !quoted:
			links++
		case strings.Contains(strings.ReplaceAll(code, "%%", ""), "%u"):
			links++
			faults = append(faults, LinkQuoting)
		default:
			others++
		}
	}
	if links == 0 {
		faults = append(faults, LinkMissing)
	}
	if others > 0 || links > 1 {
		faults = append(faults, MoreArguments)
	}
	return faults
}

// word returns the first argument of a command line and what follows it.
func word(line string) (first, rest string) {
	line = strings.TrimLeft(line, " \t")
	if !strings.HasPrefix(line, `"`) {
		first, rest, _ = strings.Cut(line, " ")
		return first, rest
	}
	var b strings.Builder
	for i := 1; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			return b.String(), line[i+1:]
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", ""
}

// valueIn returns the value of a key in a group of a desktop file or a list.
func valueIn(text, group, key string) (string, bool) {
	inside := false
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = line == group
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if inside && found && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
