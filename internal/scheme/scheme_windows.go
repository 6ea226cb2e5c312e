package scheme

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// The values of the key of a scheme (Registering an Application to a URI Scheme), and
// one of ours that says that this package wrote the key.
const (
	protocolValue = "URL Protocol"
	ourMark       = "EncounterLauncherRegistered"
)

// classes is where a hive keeps its handlers. HKCR, which shows the two as one, is
// never read: it does not say which of them speaks.
const classes = `Software\Classes\`

// hive is a root of the registry and its usual short name.
type hive struct {
	root  registry.Key
	name  string
	place Place
}

var (
	currentUser  = hive{registry.CURRENT_USER, "HKCU", ForUser}
	localMachine = hive{registry.LOCAL_MACHINE, "HKLM", ForMachine}
)

// errForeign says that the key of our name is somebody else's.
var errForeign = errors.New("the key of our scheme was not written by this program")

func register(l paths.Layout, executable string) error {
	executable = handlerOf(executable)
	if err := checkProgram(executable); err != nil {
		return err
	}
	if chosen, found := chosenBy(lookUp(l.Scheme())); found && !SameProgram(chosen.Program, executable) {
		return problem.With(problem.Internal, "Another program was chosen for links from the EHR in the settings of Windows.", errors.New("UserChoice names another handler"))
	}
	mine, exists, err := marked(l.Scheme())
	switch {
	case err != nil:
		return err
	case exists && !mine:
		return problem.With(problem.Internal, "Another program's registration for links from the EHR is in the way.", errForeign)
	}
	wanted := wantedFor(l, executable)
	if exists {
		if wanted.holds() {
			return nil
		}
		// What was added to our key, such as a second verb, must not stay.
		if err := drop(l.Scheme()); err != nil {
			return err
		}
	}
	if err := wanted.write(); err != nil {
		return errors.Join(err, drop(l.Scheme()))
	}
	tellShell()
	return nil
}

func unregister(l paths.Layout) error {
	mine, exists, err := marked(l.Scheme())
	if err != nil || !exists || !mine {
		return err
	}
	if err := drop(l.Scheme()); err != nil {
		return err
	}
	tellShell()
	return nil
}

// handlerOf is the program that may be registered: the console program hands its
// links to a window of its own, and the .exe beside it does not.
func handlerOf(executable string) string {
	if ext := filepath.Ext(executable); strings.EqualFold(ext, ".com") {
		return strings.TrimSuffix(executable, ext) + ".exe"
	}
	return executable
}

// checkProgram refuses paths that a command cannot name for certain.
func checkProgram(path string) error {
	if !filepath.IsAbs(path) || strings.ContainsAny(path, `"%`) || strings.ContainsFunc(path, unicode.IsControl) {
		return errors.New("the program's path is not absolute, or holds a quote, a percent sign or a control character")
	}
	if !strings.EqualFold(filepath.Ext(path), ".exe") {
		return errors.New("the program is not an .exe")
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("looking at the program: %w", withoutPath(err))
	}
	if !info.Mode().IsRegular() {
		return errors.New("the program is not a file")
	}
	return nil
}

// withoutPath takes the path out of an error: it may hold the name of the user.
func withoutPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// commandFor is the one form of the command that passes any link as one argument: the
// shell puts the link in place of %1 and quotes nothing.
func commandFor(program string) string { return `"` + program + `" "%1"` }

// text is one value of the registry below HKCU\Software\Classes; an empty name is the
// key's own.
type text struct{ key, name, value string }

type texts []text

func wantedFor(l paths.Layout, program string) texts {
	base := classes + l.Scheme()
	return texts{
		{base, "", "URL:" + display(l.Scheme())},
		{base, protocolValue, ""},
		{base, ourMark, "true"},
		{base + `\DefaultIcon`, "", program + ",0"},
		{base + `\shell\open\command`, "", commandFor(program)},
	}
}

// display is the name that Windows shows.
func display(scheme string) string {
	words := strings.Split(scheme, "-")
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, " ")
}

func (t texts) write() error {
	for _, v := range t {
		k, _, err := registry.CreateKey(registry.CURRENT_USER, v.key, registry.SET_VALUE|registry.WOW64_64KEY)
		if err != nil {
			return fmt.Errorf("creating the key of the scheme: %w", err)
		}
		err = errors.Join(k.SetStringValue(v.name, v.value), k.Close())
		if err != nil {
			return fmt.Errorf("writing the key of the scheme: %w", err)
		}
	}
	return nil
}

// holds reports whether the registry has these values and, in their keys and below,
// nothing else.
func (t texts) holds() bool {
	wanted := map[string]map[string]string{}
	for _, v := range t {
		// A key has its parents, which have no values of their own.
		for key := v.key; len(key) >= len(t[0].key); key = key[:strings.LastIndexByte(key, '\\')] {
			if wanted[key] == nil {
				wanted[key] = map[string]string{}
			}
		}
		wanted[v.key][v.name] = v.value
	}
	keys := 0
	return same(t[0].key, wanted, &keys) && keys == len(wanted)
}

func same(path string, wanted map[string]map[string]string, keys *int) bool {
	k, err := registry.OpenKey(registry.CURRENT_USER, path, registry.QUERY_VALUE|registry.ENUMERATE_SUB_KEYS|registry.WOW64_64KEY)
	if err != nil {
		return false
	}
	defer k.Close()
	*keys++
	values, known := wanted[path]
	names, err := k.ReadValueNames(-1)
	if err != nil || !known || len(names) != len(values) {
		return false
	}
	for name, value := range values {
		if got, kind, err := k.GetStringValue(name); err != nil || kind != registry.SZ || got != value {
			return false
		}
	}
	below, err := k.ReadSubKeyNames(-1)
	if err != nil {
		return false
	}
	for _, name := range below {
		if !same(path+`\`+name, wanted, keys) {
			return false
		}
	}
	return true
}

// marked reports whether this user has a key of the scheme, and whether this package
// wrote it.
func marked(scheme string) (mine, exists bool, err error) {
	k, err := registry.OpenKey(registry.CURRENT_USER, classes+scheme, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if errors.Is(err, registry.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, true, fmt.Errorf("opening the key of the scheme: %w", err)
	}
	defer k.Close()
	_, _, err = k.GetStringValue(ourMark)
	return err == nil, true, nil
}

// drop removes this user's key of the scheme with all that is below it.
func drop(scheme string) error {
	if err := dropTree(classes + scheme); err != nil {
		return fmt.Errorf("removing the key of the scheme: %w", err)
	}
	return nil
}

func dropTree(path string) error {
	k, err := registry.OpenKey(registry.CURRENT_USER, path, registry.ENUMERATE_SUB_KEYS|registry.WOW64_64KEY)
	if errors.Is(err, registry.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	below, err := k.ReadSubKeyNames(-1)
	if err = errors.Join(err, k.Close()); err != nil {
		return err
	}
	for _, name := range below {
		if err := dropTree(path + `\` + name); err != nil {
			return err
		}
	}
	return registry.DeleteKey(registry.CURRENT_USER, path)
}

// tellShell has the desktop read its handlers anew (SHChangeNotify,
// SHCNE_ASSOCCHANGED); where that does not work it does so at the next logon.
func tellShell() {
	const assocChanged, idList = 0x08000000, 0
	notify := windows.NewLazySystemDLL("shell32.dll").NewProc("SHChangeNotify")
	if notify.Find() == nil {
		_, _, _ = notify.Call(assocChanged, idList, 0, 0)
	}
}
