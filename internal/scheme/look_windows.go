package scheme

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/paths"
)

// choices is where the settings of Windows keep a person's choice of a handler.
const choices = `Software\Microsoft\Windows\Shell\Associations\UrlAssociations\`

func look(l paths.Layout) (State, error) { return lookUp(l.Scheme()), nil }

// lookUp is the order of Windows: the person's choice where it is sealed and its class
// exists, then the class that bears the scheme's name, this user's before the machine's.
func lookUp(scheme string) State {
	s := State{Scheme: scheme}
	taken := false
	if choice, found := choiceOf(scheme); found {
		if choice.ID != "" && !choice.Has(NotSealed) && !strings.EqualFold(choice.ID, scheme) {
			named := classOf(choice.ID, scheme)
			if i := speaks(named); i >= 0 {
				choice.Command, choice.Program, choice.Ours = named[i].Command, named[i].Program, named[i].Ours
				choice.InEffect, named[i].InEffect, taken = true, true, true
			} else {
				choice.Faults = append(choice.Faults, HandlerMissing)
			}
			s.Registrations = append(append(s.Registrations, choice), named...)
		} else {
			s.Registrations = append(s.Registrations, choice)
		}
	}
	own := classOf(scheme, scheme)
	if i := speaks(own); i >= 0 && !taken {
		protocol := false
		for _, r := range own {
			protocol = protocol || !r.Has(NotAScheme)
		}
		own[i].InEffect = protocol
	}
	s.Registrations = append(s.Registrations, own...)
	return s
}

// chosenBy returns the person's choice when the system goes by it.
func chosenBy(s State) (Registration, bool) {
	for _, r := range s.Registrations {
		if r.Place == Chosen && r.InEffect {
			return r, true
		}
	}
	return Registration{}, false
}

func choiceOf(scheme string) (Registration, bool) {
	path := choices + scheme + `\UserChoice`
	r := Registration{Place: Chosen, Where: currentUser.name + `\` + path}
	k, err := registry.OpenKey(registry.CURRENT_USER, path, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if errors.Is(err, registry.ErrNotExist) {
		return r, false
	}
	if err == nil {
		defer k.Close()
		r.ID, _, err = k.GetStringValue("ProgId")
	}
	if err != nil {
		r.Faults = append(r.Faults, Unreadable)
		return r, true
	}
	// Whether the hash is right, Windows alone can tell: how it is made is not documented.
	if hash, _, err := k.GetStringValue("Hash"); err != nil || hash == "" {
		r.Faults = append(r.Faults, NotSealed)
	}
	return r, true
}

// speaks is the index of the registration that the system takes of a class: the first
// that has anything to start; -1 for none.
func speaks(class []Registration) int {
	for i, r := range class {
		if !r.Has(NoCommand) && !r.Has(Unreadable) || r.Has(NotACommand) {
			return i
		}
	}
	return -1
}

// classOf reads a class in both hives, this user's first.
func classOf(id, scheme string) (found []Registration) {
	verb, of := "", hive{}
	for _, h := range []hive{currentUser, localMachine} {
		if value, _, ok := valueOf(h, classes+id+`\shell`, ""); ok && value != "" && verb == "" {
			// Several may be named, with commas or spaces between them.
			verb, of = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })[0], h
		}
	}
	if verb == "" {
		verb = "open"
	}
	for _, h := range []hive{currentUser, localMachine} {
		k, err := registry.OpenKey(h.root, classes+id, registry.QUERY_VALUE|registry.WOW64_64KEY)
		if errors.Is(err, registry.ErrNotExist) {
			continue
		}
		r := Registration{Place: h.place, Where: h.name + `\` + classes + id, ID: id}
		if err != nil {
			r.Faults = append(r.Faults, Unreadable)
			found = append(found, r)
			continue
		}
		if strings.EqualFold(id, scheme) {
			if _, _, err := k.GetStringValue(protocolValue); err != nil {
				r.Faults = append(r.Faults, NotAScheme)
			}
		}
		_, _, err = k.GetStringValue(ourMark)
		_ = k.Close()
		read(&r, h, classes+id+`\shell\`+verb)
		if of == h && !strings.EqualFold(verb, "open") && !r.Has(NotACommand) {
			r.Faults = append(r.Faults, NotACommand)
		}
		named := strings.EqualFold(filepath.Base(r.Program), scheme+".exe")
		r.Ours = strings.EqualFold(id, scheme) && (named || h.place == ForUser && err == nil)
		found = append(found, r)
	}
	return found
}

// read fills in what the key of a verb says.
func read(r *Registration, h hive, path string) {
	command, kind, ok := valueOf(h, path+`\command`, "")
	r.Command = command
	if ok && strings.TrimSpace(command) != "" {
		expanded := command
		if kind == registry.EXPAND_SZ {
			if text, err := registry.ExpandString(command); err == nil {
				expanded = text
			}
			if expanded != command {
				r.Faults = append(r.Faults, ProgramSearched)
			}
		}
		readCommand(r, expanded)
	} else {
		r.Faults = append(r.Faults, NoCommand)
	}
	// Each of these goes before the command (IExecuteCommand, IDropTarget); DDE comes
	// beside it.
	object, _, _ := valueOf(h, path+`\command`, "DelegateExecute")
	target, _, _ := valueOf(h, path+`\DropTarget`, "CLSID")
	talk, _, _ := valueOf(h, path+`\ddeexec`, "")
	if object != "" || target != "" {
		r.Program = ""
	}
	if object != "" || target != "" || talk != "" {
		r.Faults = append(r.Faults, NotACommand)
	}
}

// valueOf reads a text; ok is false where there is none.
func valueOf(h hive, path, name string) (value string, kind uint32, ok bool) {
	k, err := registry.OpenKey(h.root, path, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if err != nil {
		return "", 0, false
	}
	defer k.Close()
	value, kind, err = k.GetStringValue(name)
	return value, kind, err == nil
}

// readCommand finds the program of a command line and what is wrong with the line. It
// is strict: what is right by luck, such as a path without quotes that holds no
// space, is wrong.
func readCommand(r *Registration, line string) {
	program, rest, quoted := firstOf(line)
	if !quoted {
		r.Faults = append(r.Faults, ProgramUnquoted)
	}
	r.Program = program
	if !filepath.IsAbs(program) && !r.Has(ProgramSearched) {
		r.Faults = append(r.Faults, ProgramSearched)
	}
	if path, found := fileOf(program); found {
		r.Program = path
		if resolved, err := filepath.EvalSymlinks(path); err == nil {
			r.Program = resolved
		}
	} else {
		r.Faults = append(r.Faults, ProgramMissing)
	}
	rest = strings.Trim(rest, " \t")
	if rest == `"%1"` {
		return
	}
	// By the rules of CommandLineToArgvW, which every program of C and of Go follows;
	// the first word has rules of its own and stands for the program.
	arguments, err := windows.DecomposeCommandLine("x " + rest)
	if err != nil || len(arguments) == 0 {
		r.Faults = append(r.Faults, LinkQuoting)
		return
	}
	links := 0
	for _, argument := range arguments[1:] {
		if strings.Contains(argument, "%1") {
			links++
		}
	}
	switch {
	case links == 0:
		r.Faults = append(r.Faults, LinkMissing)
	case links > 1 || strings.Count(rest, `"%1"`) != 1:
		r.Faults = append(r.Faults, LinkQuoting)
	}
	if len(arguments) > 2 || len(arguments) == 2 && links == 0 {
		r.Faults = append(r.Faults, MoreArguments)
	}
}

// firstOf splits a command line into the program and the rest. Without quotes Windows
// tries each part that ends at a space, the shortest first (CreateProcessW,
// lpCommandLine).
func firstOf(line string) (program, rest string, quoted bool) {
	line = strings.TrimLeft(line, " \t")
	if after, found := strings.CutPrefix(line, `"`); found {
		if program, rest, found = strings.Cut(after, `"`); found {
			return program, rest, rest == "" || strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t")
		}
		return after, "", false
	}
	for at, c := range line + " " {
		if c != ' ' && c != '\t' {
			continue
		}
		if path, found := fileOf(line[:at]); found && filepath.IsAbs(line[:at]) {
			return path, line[at:], false
		}
	}
	first := line
	if at := strings.IndexAny(line, " \t"); at >= 0 {
		first = line[:at]
	}
	return first, line[len(first):], false
}

// fileOf finds the file that Windows starts for the name of a program: .exe is added
// where there is no extension, and nothing else ever is.
func fileOf(program string) (path string, found bool) {
	if filepath.Ext(program) == "" {
		program += ".exe"
	}
	if !filepath.IsAbs(program) {
		path, err := exec.LookPath(program)
		return path, err == nil
	}
	info, err := os.Stat(program)
	return program, err == nil && info.Mode().IsRegular()
}

// ask has Windows say which command it has for the scheme.
func (s State) ask(context.Context) (Asked, error) {
	const isProtocol, command = 0x1000, 1
	const none = 0x80070483 // HRESULT_FROM_WIN32(ERROR_NO_ASSOCIATION)
	query := windows.NewLazySystemDLL("shlwapi.dll").NewProc("AssocQueryStringW")
	if query.Find() != nil {
		return Asked{Agrees: true}, nil
	}
	scheme, err := windows.UTF16PtrFromString(s.Scheme)
	if err != nil {
		return Asked{}, fmt.Errorf("asking AssocQueryString: %w", err)
	}
	answer := Asked{Tool: "AssocQueryString"}
	buffer := make([]uint16, 32<<10)
	size := uint32(len(buffer))
	result, _, _ := query.Call(isProtocol, command, uintptr(unsafe.Pointer(scheme)), 0, uintptr(unsafe.Pointer(&buffer[0])), uintptr(unsafe.Pointer(&size)))
	switch uint32(result) {
	case 0:
		answer.Answer = windows.UTF16ToString(buffer)
	case none, 0x80070002: // or no such key
	default:
		return Asked{}, fmt.Errorf("asking AssocQueryString: %#x", uint32(result))
	}
	var named Registration
	if answer.Answer != "" {
		readCommand(&named, answer.Answer)
	}
	owner := s.Owner()
	answer.Agrees = SameProgram(named.Program, owner.Program) || named.Program == owner.Program
	return answer, nil
}
