package scheme

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/problem"
)

// recordTo is the file into which a copy of this test's program writes its arguments
// in place of testing.
const recordTo = "ENCOUNTER_LAUNCHER_TEST_RECORD"

func TestMain(m *testing.M) {
	file := os.Getenv(recordTo)
	if file == "" {
		os.Exit(m.Run())
	}
	text, err := json.Marshal(os.Args[1:])
	if err == nil {
		err = os.WriteFile(file+".part", text, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".part", file)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// ofTheTest has a name of its own: the tests write to the registry of whoever runs
// them, and take away what is left.
func ofTheTest(t *testing.T) (l paths.Layout, dir string) {
	t.Helper()
	dir = folder(t)
	l = paths.Under(dir, "of-the-test")
	clean := func() {
		for _, h := range []hive{currentUser, localMachine} {
			for _, id := range []string{l.Scheme(), "OtherOfTheTest"} {
				clear(t, h, classes+id)
			}
		}
		clear(t, currentUser, choices+l.Scheme())
	}
	clean()
	t.Cleanup(clean)
	return l, dir
}

// folder is t.TempDir, which cannot empty a folder under Wine.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "scheme")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var all []string
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
			all = append(all, path)
			return nil
		})
		for _, path := range slices.Backward(all) {
			_ = os.Remove(path)
		}
	})
	return dir
}

func clear(t *testing.T, h hive, path string) {
	t.Helper()
	k, err := registry.OpenKey(h.root, path, registry.ENUMERATE_SUB_KEYS|registry.WOW64_64KEY)
	if err != nil {
		return
	}
	below, err := k.ReadSubKeyNames(-1)
	if err != nil {
		t.Fatal(err)
	}
	_ = k.Close()
	for _, name := range below {
		clear(t, h, path+`\`+name)
	}
	if err := registry.DeleteKey(h.root, path); err != nil {
		t.Fatal(err)
	}
}

// put writes one text; an empty name is the key's own.
func put(t *testing.T, h hive, path, name, value string) {
	t.Helper()
	k, _, err := registry.CreateKey(h.root, path, registry.SET_VALUE|registry.WOW64_64KEY)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.SetStringValue(name, value); err != nil {
		t.Fatal(err)
	}
}

// handlerKey writes the key of a scheme as an installer does.
func handlerKey(t *testing.T, h hive, id, command string) {
	t.Helper()
	put(t, h, classes+id, "", "URL:test")
	put(t, h, classes+id, protocolValue, "")
	put(t, h, classes+id+`\shell\open\command`, "", command)
}

// dump is everything below a key, by path and name.
func dump(t *testing.T, h hive, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	k, err := registry.OpenKey(h.root, path, registry.QUERY_VALUE|registry.ENUMERATE_SUB_KEYS|registry.WOW64_64KEY)
	if err != nil {
		return all
	}
	defer k.Close()
	names, err := k.ReadValueNames(-1)
	if err != nil {
		t.Fatal(err)
	}
	all[path] = ""
	for _, name := range names {
		value, _, err := k.GetStringValue(name)
		if err != nil {
			t.Fatal(err)
		}
		all[path+" "+name] = value
	}
	below, err := k.ReadSubKeyNames(-1)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range below {
		for key, value := range dump(t, h, path+`\`+name) {
			all[key] = value
		}
	}
	return all
}

// program makes a file that can be registered.
func program(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("MZ"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(problem.Of(err).LogValue())
	}
}

func ownedBy(t *testing.T, l paths.Layout, want string) {
	t.Helper()
	h, err := Owner(l)
	must(t, err)
	if h.Program != want && !SameProgram(h.Program, want) {
		t.Errorf("owner %+v, want %q", h, want)
	}
}

func TestTheRegisteredProgramIsStartedWithTheLinkAsOneArgument(t *testing.T) {
	l, dir := ofTheTest(t)
	self, err := os.Executable()
	must(t, err)
	executable := filepath.Join(dir, "Program Files & more (test)", l.Name+".exe")
	must(t, os.MkdirAll(filepath.Dir(executable), 0o755))
	from, err := os.Open(self)
	must(t, err)
	defer from.Close()
	to, err := os.Create(executable)
	must(t, err)
	_, err = io.Copy(to, from)
	must(t, err)
	must(t, to.Close())
	must(t, Register(l, executable))
	// Wine 8 starts the handlers of the machine only: it gets what was registered.
	command, _, _ := valueOf(currentUser, classes+l.Scheme()+`\shell\open\command`, "")
	handlerKey(t, localMachine, l.Scheme(), command)
	for i, link := range []string{
		l.Scheme() + "://launch?handle=abcdefghijklmnopqrstuv",
		l.Scheme() + "://launch?external_encounter_id=E%2B1&external_patient_id=P&external_provider_id=D",
		l.Scheme() + "://launch/?a=b c",
		l.Scheme() + "://launch?x=%22%20--evil",
	} {
		record := filepath.Join(dir, fmt.Sprintf("record-%d", i))
		t.Setenv(recordTo, record)
		must(t, windows.ShellExecute(0, nil, windows.StringToUTF16Ptr(link), nil, nil, windows.SW_SHOWNORMAL))
		var text []byte
		for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
			if text, err = os.ReadFile(record); err == nil {
				break
			}
		}
		must(t, err)
		var arguments []string
		must(t, json.Unmarshal(text, &arguments))
		if !slices.Equal(arguments, []string{link}) {
			t.Errorf("%q came as %q", link, arguments)
		}
	}
}

func TestRegisteringIsUndoneWithoutATrace(t *testing.T) {
	l, dir := ofTheTest(t)
	base := classes + l.Scheme()
	before := dump(t, currentUser, base)
	must(t, Unregister(l))
	for _, place := range []string{"a", "b c"} {
		executable := program(t, filepath.Join(dir, place, l.Name+".exe"))
		must(t, Register(l, executable))
		once := dump(t, currentUser, base)
		must(t, Register(l, executable))
		want := map[string]string{
			base: "", base + " ": "URL:Encounter Launcher Of The Test", base + " URL Protocol": "", base + " " + ourMark: "true",
			base + `\DefaultIcon`: "", base + `\DefaultIcon `: executable + ",0",
			base + `\shell`: "", base + `\shell\open`: "", base + `\shell\open\command`: "", base + `\shell\open\command `: `"` + executable + `" "%1"`,
		}
		if got := dump(t, currentUser, base); fmt.Sprint(got) != fmt.Sprint(want) || fmt.Sprint(once) != fmt.Sprint(want) {
			t.Errorf("got\n%v, at first\n%v, want\n%v", got, once, want)
		}
		ownedBy(t, l, executable)
		s, err := Look(l)
		must(t, err)
		if r, found := s.Effective(); !found || !r.Ours || len(r.Faults) > 0 || r.Place != ForUser || r.Where != `HKCU\`+base {
			t.Errorf("%+v", s)
		}
	}
	// What somebody added to our key does not survive registering.
	put(t, currentUser, base+`\shell\open\command`, "DelegateExecute", "{00000000-0000-0000-0000-000000000001}")
	put(t, currentUser, base+`\shell\runas\command`, "", "evil.exe")
	ownedBy(t, l, "")
	executable := program(t, filepath.Join(dir, "b c", l.Name+".exe"))
	must(t, Register(l, executable))
	ownedBy(t, l, executable)
	if all := dump(t, currentUser, base); len(all) != 10 {
		t.Errorf("left: %v", all)
	}
	must(t, Unregister(l))
	must(t, Unregister(l))
	if after := dump(t, currentUser, base); len(before) != 0 || len(after) != 0 {
		t.Errorf("before %v, after %v", before, after)
	}
	ownedBy(t, l, "")
}

func TestTheSystemIsAskedWhatItWouldStart(t *testing.T) {
	l, dir := ofTheTest(t)
	executable := program(t, filepath.Join(dir, "b c", l.Name+".exe"))
	other := program(t, filepath.Join(dir, "other.exe"))
	ask := func() (State, Asked) {
		t.Helper()
		s, err := Look(l)
		must(t, err)
		asked, err := s.Ask(t.Context())
		must(t, err)
		return s, asked
	}
	if _, asked := ask(); asked.Tool == "" || asked.Answer != "" || !asked.Agrees {
		t.Errorf("of nobody it says %+v", asked)
	}
	handlerKey(t, localMachine, l.Scheme(), commandFor(executable))
	s, asked := ask()
	if asked.Answer != commandFor(executable) || !asked.Agrees {
		t.Errorf("it says %+v", asked)
	}
	clear(t, localMachine, classes+l.Scheme())
	handlerKey(t, localMachine, l.Scheme(), commandFor(other))
	asked, err := s.Ask(t.Context())
	must(t, err)
	if asked.Agrees {
		t.Errorf("it agrees with what was before: %+v", asked)
	}
}

func TestOfTheConsoleProgramTheExeBesideItIsRegistered(t *testing.T) {
	l, dir := ofTheTest(t)
	com := program(t, filepath.Join(dir, "in", l.Name+".COM"))
	if err := Register(l, com); err == nil || len(dump(t, currentUser, classes+l.Scheme())) > 0 {
		t.Errorf("there is no .exe: %v", err)
	}
	exe := program(t, filepath.Join(dir, "in", l.Name+".exe"))
	must(t, Register(l, com))
	ownedBy(t, l, exe)
	if ProgramFor(com) != exe || ProgramFor(exe) != exe {
		t.Errorf("the program for the links is %q", ProgramFor(com))
	}
	if got, _, _ := valueOf(currentUser, classes+l.Scheme()+`\shell\open\command`, ""); got != `"`+exe+`" "%1"` {
		t.Errorf("the command is %q", got)
	}
}

func TestAKeyOfSomebodyElseUnderOurNameStays(t *testing.T) {
	l, dir := ofTheTest(t)
	executable := program(t, filepath.Join(dir, l.Name+".exe"))
	other := program(t, filepath.Join(dir, "other.exe"))
	handlerKey(t, currentUser, l.Scheme(), `"`+other+`" "%1"`)
	before := dump(t, currentUser, classes+l.Scheme())
	if err := Register(l, executable); !problem.IsCode(err, problem.Internal) || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("registered over it: %v", err)
	}
	must(t, Unregister(l))
	if did, err := Repair(l, executable); err == nil || len(did) > 0 {
		t.Errorf("repaired over it: %v, %v", did, err)
	}
	handlerKey(t, localMachine, l.Scheme(), commandFor(executable))
	if removed, err := RemoveStale(l, executable); err != nil || len(removed) > 0 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if did, err := Repair(l, executable); err == nil || len(did) > 0 {
		t.Errorf("repaired over it: %v, %v", did, err)
	}
	ownedBy(t, l, other)
	if after := dump(t, currentUser, classes+l.Scheme()); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("before %v, after %v", before, after)
	}
}

func TestWhatCannotBeRegisteredIsRefusedWithoutATrace(t *testing.T) {
	l, dir := ofTheTest(t)
	for _, path := range []string{
		"", "relative.exe", `.\x.exe`, dir, filepath.Join(dir, "missing.exe"), filepath.Join(dir, "a\" b.exe"), filepath.Join(dir, "a\nb.exe"),
		program(t, filepath.Join(dir, "plain.txt")), program(t, filepath.Join(dir, "with%1in.exe")), program(t, filepath.Join(dir, "script.cmd")),
	} {
		if err := Register(l, path); !problem.IsCode(err, problem.Internal) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if left := dump(t, currentUser, classes+l.Scheme()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAChoiceGoesBeforeThisUsersKeyAndThatBeforeTheMachines(t *testing.T) {
	l, dir := ofTheTest(t)
	user := program(t, filepath.Join(dir, "user", l.Name+".exe"))
	machine := program(t, filepath.Join(dir, "machine", l.Name+".exe"))
	other := program(t, filepath.Join(dir, "other.exe"))
	ownedBy(t, l, "")
	handlerKey(t, localMachine, l.Scheme(), commandFor(machine))
	ownedBy(t, l, machine)
	must(t, Register(l, user))
	ownedBy(t, l, user)
	s, err := Look(l)
	must(t, err)
	if programs := s.Programs(); len(programs) != 2 {
		t.Errorf("the programs of ours are %q", programs)
	}
	if r, found := s.Machine(); !found || r.InEffect || !SameProgram(r.Program, machine) {
		t.Errorf("the machine has %+v", r)
	}
	choice := choices + l.Scheme() + `\UserChoice`
	put(t, currentUser, choice, "ProgId", "OtherOfTheTest")
	put(t, localMachine, classes+`OtherOfTheTest\shell\open\command`, "", `"`+other+`" "%1"`)
	for _, hash := range []string{"none", ""} {
		if hash == "" {
			put(t, currentUser, choice, "Hash", hash)
		}
		ownedBy(t, l, user)
		s, err = Look(l)
		must(t, err)
		if r := s.Registrations[0]; r.Place != Chosen || r.InEffect || !slices.Equal(r.Faults, []Fault{NotSealed}) {
			t.Errorf("a choice that a program has written: %+v", r)
		}
	}
	put(t, currentUser, choice, "Hash", "of the test")
	clear(t, localMachine, classes+"OtherOfTheTest")
	ownedBy(t, l, user)
	s, err = Look(l)
	must(t, err)
	if r := s.Registrations[0]; r.Place != Chosen || r.InEffect || !slices.Equal(r.Faults, []Fault{HandlerMissing}) {
		t.Errorf("a choice of what does not exist: %+v", r)
	}
	put(t, localMachine, classes+`OtherOfTheTest\shell\open\command`, "", `"`+other+`" "%1"`)
	ownedBy(t, l, other)
	s, err = Look(l)
	must(t, err)
	if r, found := s.Effective(); !found || r.Ours || r.Place != ForMachine || r.ID != "OtherOfTheTest" || len(r.Faults) > 0 {
		t.Errorf("in effect: %+v", r)
	}
	if r := s.Registrations[0]; r.Place != Chosen || !r.InEffect || r.Ours || r.Where != `HKCU\`+choice {
		t.Errorf("the choice: %+v", r)
	}
	for name, err := range map[string]error{"register": Register(l, machine), "repair": second(Repair(l, machine))} {
		if !problem.IsCode(err, problem.Internal) || !strings.Contains(err.Error(), "was chosen") {
			t.Errorf("%s: %v", name, err)
		}
	}
	put(t, currentUser, choice, "ProgId", l.Scheme())
	ownedBy(t, l, machine) // repairing has removed this user's key
}

func second[T any](_ T, err error) error { return err }

func TestACommandThatIsNotOfTheOneFormIsTold(t *testing.T) {
	l, dir := ofTheTest(t)
	plain := program(t, filepath.Join(dir, "plain", l.Name+".exe"))
	spaced := program(t, filepath.Join(dir, "with space", l.Name+".exe"))
	inTheWay := program(t, filepath.Join(dir, "two", "with.exe"))
	behind := program(t, filepath.Join(dir, "two", "with space", l.Name+".exe"))
	short := strings.TrimSuffix(plain, ".exe")
	for _, c := range []struct {
		command, program string
		faults           []Fault
	}{
		{commandFor(plain), plain, nil},
		{commandFor(spaced), spaced, nil},
		{`"` + plain + `"   "%1" `, plain, nil},
		{`"` + short + `" "%1"`, plain, nil},
		{plain + ` "%1"`, plain, []Fault{ProgramUnquoted}},
		{spaced + ` "%1"`, spaced, []Fault{ProgramUnquoted}},
		{behind + ` "%1"`, inTheWay, []Fault{ProgramUnquoted, MoreArguments}},
		{`"` + plain + `" %1`, plain, []Fault{LinkQuoting}},
		{`"` + plain + `" '%1'`, plain, []Fault{LinkQuoting}},
		{`"` + plain + `" "--link=%1"`, plain, []Fault{LinkQuoting}},
		{`"` + plain + `"`, plain, []Fault{LinkMissing}},
		{`"` + plain + `" "%2"`, plain, []Fault{LinkMissing, MoreArguments}},
		{`"` + plain + `" --verbose "%1"`, plain, []Fault{MoreArguments}},
		{`"` + plain + `" "%1" "%1"`, plain, []Fault{LinkQuoting, MoreArguments}},
		{`"` + plain + `" "%1" %*`, plain, []Fault{MoreArguments}},
		{`"` + plain + `"x "%1"`, plain, []Fault{ProgramUnquoted, MoreArguments}},
		{`"` + plain, plain, []Fault{ProgramUnquoted, LinkMissing}},
		{`"` + filepath.Join(dir, "gone.exe") + `" "%1"`, filepath.Join(dir, "gone.exe"), []Fault{ProgramMissing}},
		{l.Name + `.exe "%1"`, l.Name + ".exe", []Fault{ProgramUnquoted, ProgramSearched, ProgramMissing}},
		{"", "", []Fault{NoCommand}},
		{" ", "", []Fault{NoCommand}},
	} {
		clear(t, currentUser, classes+l.Scheme())
		handlerKey(t, currentUser, l.Scheme(), c.command)
		s, err := Look(l)
		must(t, err)
		if len(s.Registrations) != 1 {
			t.Fatalf("%q: %+v", c.command, s)
		}
		r := s.Registrations[0]
		if !slices.Equal(r.Faults, c.faults) || r.Program != c.program && !SameProgram(r.Program, c.program) || r.Command != c.command {
			t.Errorf("%q: %q with %v, want %q with %v", c.command, r.Program, r.Faults, c.program, c.faults)
		}
		if none := slices.Equal(c.faults, []Fault{NoCommand}); r.InEffect == none {
			t.Errorf("%q: in effect %v", c.command, r.InEffect)
		}
	}
}

func TestWhatStartsBesideTheCommandIsTold(t *testing.T) {
	l, dir := ofTheTest(t)
	executable := program(t, filepath.Join(dir, l.Name+".exe"))
	other := program(t, filepath.Join(dir, "other.exe"))
	base := classes + l.Scheme()
	for name, c := range map[string]struct {
		key, name, value, program string
	}{
		"an object for the command": {`\shell\open\command`, "DelegateExecute", "{1}", ""},
		"an object for what drops":  {`\shell\open\DropTarget`, "CLSID", "{1}", ""},
		"a conversation":            {`\shell\open\ddeexec`, "", "[open]", executable},
		"another verb":              {`\shell`, "", "steal", other},
		"several verbs":             {`\shell`, "", "steal,open", other},
	} {
		t.Run(name, func(t *testing.T) {
			clear(t, currentUser, base)
			handlerKey(t, localMachine, l.Scheme(), commandFor(executable))
			handlerKey(t, currentUser, l.Scheme(), commandFor(executable))
			put(t, currentUser, base+`\shell\steal\command`, "", commandFor(other))
			put(t, currentUser, base+c.key, c.name, c.value)
			s, err := Look(l)
			must(t, err)
			r, found := s.Effective()
			if !found || r.Place != ForUser || !slices.Equal(r.Faults, []Fault{NotACommand}) || r.Program != c.program && !SameProgram(r.Program, c.program) {
				t.Errorf("in effect: %+v", r)
			}
		})
	}
	clear(t, currentUser, base)
	put(t, currentUser, base+`\shell\open\command`, "DelegateExecute", "{1}")
	ownedBy(t, l, "")
	if s, err := Look(l); err != nil || s.Owner().ID != l.Scheme() {
		t.Errorf("an object alone hides the machine's command: %+v, %v", s, err)
	}
	clear(t, currentUser, base)
	put(t, currentUser, base, "", "URL:nothing to start")
	ownedBy(t, l, executable)
	clear(t, localMachine, base)
	put(t, currentUser, base+`\shell\open\command`, "", commandFor(executable))
	ownedBy(t, l, "") // without "URL Protocol" Windows takes it for no scheme
}

func TestAPathThatDependsOnTheEnvironmentIsTold(t *testing.T) {
	l, dir := ofTheTest(t)
	executable := program(t, filepath.Join(dir, l.Name+".exe"))
	t.Setenv("OF_THE_TEST", dir)
	handlerKey(t, currentUser, l.Scheme(), "")
	k, err := registry.OpenKey(registry.CURRENT_USER, classes+l.Scheme()+`\shell\open\command`, registry.SET_VALUE)
	must(t, err)
	defer k.Close()
	must(t, k.SetExpandStringValue("", `"%OF_THE_TEST%\`+l.Name+`.exe" "%1"`))
	s, err := Look(l)
	must(t, err)
	if r, found := s.Effective(); !found || !SameProgram(r.Program, executable) || !slices.Equal(r.Faults, []Fault{ProgramSearched}) {
		t.Errorf("%+v", r)
	}
}

func TestAStaleKeyOfThisUserGoesOnlyWhereTheMachineHasOurs(t *testing.T) {
	l, dir := ofTheTest(t)
	machine := program(t, filepath.Join(dir, "machine", l.Name+".exe"))
	old := program(t, filepath.Join(dir, "old", l.Name+".exe"))
	unmoved := func(when string) {
		t.Helper()
		if removed, err := RemoveStale(l, machine); err != nil || len(removed) > 0 {
			t.Errorf("%s: removed %v, %v", when, removed, err)
		}
	}
	must(t, Register(l, old))
	unmoved("the machine has none")
	handlerKey(t, localMachine, l.Scheme(), `"`+machine+`" %1`)
	unmoved("the machine's is of a wrong form")
	handlerKey(t, localMachine, l.Scheme(), commandFor(old))
	unmoved("the machine's names another copy")
	handlerKey(t, localMachine, l.Scheme(), commandFor(machine))
	must(t, Register(l, machine))
	unmoved("this user's says the same")
	for name, stale := range map[string]func(){
		"another copy": func() { must(t, Register(l, old)) },
		"a copy that is gone": func() {
			gone := program(t, filepath.Join(dir, "gone", l.Name+".exe"))
			must(t, Register(l, gone))
			must(t, os.Remove(gone))
		},
		"written by hand": func() {
			clear(t, currentUser, classes+l.Scheme())
			handlerKey(t, currentUser, l.Scheme(), commandFor(old))
		},
		"a wrong form": func() {
			must(t, Register(l, machine))
			put(t, currentUser, classes+l.Scheme()+`\shell\open\command`, "", `"`+machine+`" %1`)
		},
	} {
		stale()
		removed, err := RemoveStale(l, machine)
		if err != nil || len(removed) != 1 || removed[0].Where != `HKCU\`+classes+l.Scheme() {
			t.Errorf("%s: removed %v, %v", name, removed, err)
		}
		ownedBy(t, l, machine)
		if left := dump(t, currentUser, classes+l.Scheme()); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestRepairingMakesTheProgramTheHandlerAgain(t *testing.T) {
	l, dir := ofTheTest(t)
	executable := program(t, filepath.Join(dir, "mine", l.Name+".exe"))
	old := program(t, filepath.Join(dir, "old", l.Name+".exe"))
	repaired := func(name string, steps int, place Place) {
		t.Helper()
		did, err := Repair(l, executable)
		must(t, err)
		if len(did) != steps {
			t.Errorf("%s: did %q", name, did)
		}
		s, err := Look(l)
		must(t, err)
		if r, found := s.Effective(); !found || r.Place != place || !SameProgram(r.Program, executable) || len(r.Faults) > 0 {
			t.Errorf("%s: in effect is %+v", name, r)
		}
		if did, err := Repair(l, executable); err != nil || len(did) > 0 {
			t.Errorf("%s: again it did %q, %v", name, did, err)
		}
	}
	repaired("nobody", 1, ForUser)
	must(t, Register(l, old))
	repaired("another copy", 2, ForUser)
	put(t, currentUser, classes+l.Scheme()+`\shell\open\command`, "", `"`+executable+`" %1`)
	repaired("a wrong form", 2, ForUser)
	handlerKey(t, localMachine, l.Scheme(), commandFor(executable))
	must(t, Register(l, old))
	repaired("the machine has it", 1, ForMachine)
	before := dump(t, localMachine, classes+l.Scheme())
	handlerKey(t, localMachine, l.Scheme(), commandFor(old))
	repaired("the machine has another", 1, ForUser)
	handlerKey(t, localMachine, l.Scheme(), commandFor(executable))
	if after := dump(t, localMachine, classes+l.Scheme()); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the machine's key was changed: %v", after)
	}
}
