package scheme

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// argument is one argument of an Exec value, read by a table of states and not by
// cutting.
type argument struct {
	text   string
	quoted bool
}

// argumentsOf takes a value, unescaped already, apart: spaces and tabs between, double
// quotes around, a backslash inside of quotes before any character.
func argumentsOf(value string) (all []argument, whole bool) {
	const outside, bare, inQuotes, escaped = 0, 1, 2, 3
	state := outside
	var now argument
	end := func() { all, now, state = append(all, now), argument{}, outside }
	for i := range len(value) {
		c := value[i]
		switch state {
		case outside:
			switch c {
			case ' ', '\t':
			case '"':
				state, now.quoted = inQuotes, true
			default:
				state, now.text = bare, string(c)
			}
		case bare:
			if c == ' ' {
				end()
			} else {
				now.text += string([]byte{c})
			}
		case inQuotes:
			switch c {
			case '"':
				end()
			case '\\':
				state = escaped
			default:
				now.text += string([]byte{c})
			}
		case escaped:
			state = inQuotes
			now.text += string([]byte{c})
		}
	}
	switch state {
	case bare:
		end()
	case inQuotes, escaped:
		return all, false
	}
	return all, true
}

// FuzzForeignExecLines reads what any program may have written into a desktop file: a
// line in which no fault is found starts one program with one link, alone and
// unquoted, and nothing else; the line that we would write of that program is one.
func FuzzForeignExecLines(f *testing.F) {
	for _, seed := range []string{
		"/usr/bin/encounter-launcher %u", `"/a b" %u`, `env "/a%%b" %U`, "/a", "/a %u %u", `/a "%u"`, "/a --x=%u", "sh -c %u", `"/a`, `/a %u"`, "  \t/a\t%u", `"/a"%u`, `"" %u`, `/a %%u %u`, `"a\\"b" %u`, "env", "env env %u", `/a "%u`, "/a %f", "/a % u", `/a %u ""`, "/a %u \x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, exec string) {
		program, rest := programOf(exec)
		faults := faultsOf(rest)
		if !strings.HasSuffix(exec, rest) && !strings.ContainsRune(exec, '\\') {
			t.Fatalf("%q leaves %q", exec, rest)
		}
		for i, fault := range faults {
			if slices.Index(faults, fault) != i && fault != LinkQuoting {
				t.Fatalf("%q has a fault twice: %v", exec, faults)
			}
		}
		arguments, whole := argumentsOf(rest)
		links := 0
		for _, a := range arguments {
			if !a.quoted && (a.text == "%u" || a.text == "%U") {
				links++
			}
		}
		if clean := whole && len(arguments) == 1 && links == 1; clean != (len(faults) == 0) {
			t.Fatalf("%q passes %+v, %v, and its faults are %v", exec, arguments, whole, faults)
		}
		if checkProgram(program) == nil && !strings.HasSuffix(program, "/env") {
			if again, rest := programOf(execLine(program)); again != program || len(faultsOf(rest)) > 0 {
				t.Fatalf("%q, which is written %q, is read as %q", program, execLine(program), again)
			}
		}
	})
}

var groupLine = regexp.MustCompile(`^\s*\[`)

// FuzzDesktopFiles reads desktop files and lists of any content: a value is found
// exactly where a reading line by line finds it first, and ours is found in what we
// write whatever name is shown.
func FuzzDesktopFiles(f *testing.F) {
	for _, text := range []string{
		"[Desktop Entry]\nExec=/a %u\n", "[Other]\nExec=/b\n[Desktop Entry]\n Exec = /a %u \nExec=/c\n", "Exec=/a\n", "[Desktop Entry]\r\nExec=/a\r\n", "[Desktop Entry]x\nExec=/a", "[Desktop Entry]\nX=1\n[Other]\nExec=/b\n", "[Desktop Entry]\nExec[de]=/b\nExec=\n", "[Desktop Entry]\n#Exec=/a\n[Desktop Entry]\nExec=/d", "\x00[Desktop Entry]\nExec==\n",
	} {
		f.Add(text, "/usr/bin/x", "Encounter Launcher")
	}
	f.Fuzz(func(t *testing.T, text, program, display string) {
		want, found, inside := "", false, false
		for _, line := range strings.Split(text, "\n") {
			if groupLine.MatchString(line) || strings.HasPrefix(strings.TrimSpace(line), "[") {
				inside = strings.TrimSpace(line) == "[Desktop Entry]"
				continue
			}
			if i := strings.IndexByte(line, '='); !found && inside && i >= 0 && strings.TrimSpace(line[:i]) == "Exec" {
				want, found = strings.TrimSpace(line[i+1:]), true
			}
		}
		if got, ok := valueIn(text, desktopGroup, "Exec"); got != want || ok != found {
			t.Fatalf("%q has Exec=%q, %v", text, got, ok)
		}
		for _, id := range idsIn(text, desktopGroup, "Exec") {
			if id == "" || strings.ContainsAny(id, ";\n") || !strings.Contains(text, id) {
				t.Fatalf("%q has the id %q", text, id)
			}
		}
		if checkProgram(program) != nil || strings.ContainsAny(display, "\n\r") || !utf8.ValidString(display) {
			return
		}
		ours := entryText(display, testKey, execLine(program))
		exec, ok := valueIn(ours, desktopGroup, "Exec")
		if !ok || exec != strings.TrimSpace(execLine(program)) || !marked(ours) {
			t.Fatalf("%q is written as %q", program, ours)
		}
		if ids := idsIn(ours, desktopGroup, "MimeType"); len(ids) != 1 || ids[0] != testKey {
			t.Fatalf("the link scheme is written as %q", ids)
		}
	})
}
