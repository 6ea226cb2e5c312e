package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// surface is the document that says what is exposed.
const surface = "docs/attack-surface.md"

// quoted is a name or a value in a cell of a table. Two backticks enclose one that
// holds a backtick.
var quoted = regexp.MustCompile("`([^`]+)`")

func quotedIn(cell string) []string {
	var all []string
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// written reads a table of the document: of the column key, what the column value
// says. Columns are counted from the front, or, below zero, from the end.
func written(t *testing.T, begins string, key, value int) inventory {
	t.Helper()
	found := inventory{}
	for _, line := range rowsOf(t, surface, begins) {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		at := func(n int) []string {
			if n < 0 {
				n += len(cells)
			}
			if n < 0 || n >= len(cells) {
				t.Errorf("%s: a row has %d cells:\n%s", surface, len(cells), line)
				return nil
			}
			return quotedIn(cells[n])
		}
		for _, k := range at(key) {
			for _, v := range at(value) {
				found.add(k, v)
			}
		}
	}
	return found
}

// differences says what one inventory has and the other lacks.
func differences(code, document inventory) []string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(code)) {
		if document[key] == nil {
			all = append(all, "the document lacks `"+key+"` with `"+strings.Join(code[key], "`, `")+"`")
		} else if !slices.Equal(code[key], document[key]) {
			all = append(all, "of `"+key+"` the document says `"+strings.Join(document[key], "`, `")+"`, the code `"+strings.Join(code[key], "`, `")+"`")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(document)) {
		if code[key] == nil {
			all = append(all, "the document has `"+key+"`, which the code has not")
		}
	}
	return all
}

func same(t *testing.T, code, document inventory, least int) {
	t.Helper()
	if len(code) < least {
		t.Errorf("only %d were found", len(code))
	}
	for _, d := range differences(code, document) {
		t.Error(d)
	}
}

func TestEveryListenerIsInTheAttackSurface(t *testing.T) {
	same(t, listeners(program(t)), written(t, "| listens on |", -1, 1), 8)
}

func TestEveryRouteThatIsServedIsInTheAttackSurface(t *testing.T) {
	same(t, routes(program(t)), written(t, "| routes |", -1, 0), 6)
}

func TestEveryConnectionBesideTheHTTPClientsIsInTheAttackSurface(t *testing.T) {
	same(t, connections(program(t)), written(t, "| connects to |", -1, 1), 8)
}

func TestEveryFileThatIsMadeIsInTheAttackSurfaceWithItsMode(t *testing.T) {
	same(t, filesMade(program(t)), written(t, "| made on disk |", -1, 1), 35)
}

func TestEveryVariableOfTheEnvironmentThatIsReadIsInTheAttackSurface(t *testing.T) {
	same(t, environment(program(t)), written(t, "| variable |", 0, -1), 25)
}

func TestEveryProgramThatIsStartedIsInTheAttackSurfaceWithItsArguments(t *testing.T) {
	same(t, started(program(t)), written(t, "| starts |", -1, 1), 14)
}

func TestEveryKeyOfTheRegistryIsInTheAttackSurface(t *testing.T) {
	all := program(t)
	same(t, keysNamed(all), written(t, "| key of the registry |", 0, -1), 8)
	same(t, keysChanged(all), written(t, "| changes the registry |", -1, 1), 5)
}

func TestEveryNameOnTheBusIsInTheAttackSurface(t *testing.T) {
	same(t, busWords(program(t)), written(t, "| word of D-Bus |", 0, -1), 15)
}

// modulesOf are the modules that a program is made of, with the folders of their
// packages, as the go command says for one system.
func modulesOf(t *testing.T, b build, program string, packages map[string]*source, of map[string]string) {
	t.Helper()
	args := append([]string{"list", "-deps", "-json=ImportPath,Standard,Dir,GoFiles,CgoFiles,Module"}, b.args...)
	cmd := exec.Command("go", append(args, program)...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), b.env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir   string
			Standard          bool
			GoFiles, CgoFiles []string
			Module            *struct{ Path string }
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Standard || p.Module == nil || p.Module.Path == module {
			continue
		}
		files := append(p.GoFiles, p.CgoFiles...)
		of[p.ImportPath] = p.Module.Path
		as := p.ImportPath + " " + strings.Join(files, " ")
		if packages[as] == nil {
			packages[as] = readSource(t, p.Dir, p.ImportPath, func(name string) bool { return slices.Contains(files, name) })
		}
	}
}

// linked are the libraries of the programs that an organisation is given, on any system:
// their packages, and of each function its module.
func linked(t *testing.T) (packages map[string]*source, libraryOf func(where string) string) {
	t.Helper()
	packages, of := map[string]*source{}, map[string]string{}
	for _, b := range builds {
		if b.name != "bindings" {
			modulesOf(t, b, ".", packages, of)
		}
	}
	modulesOf(t, builds[0], "./internal/cmd/org-backend", packages, of)
	return packages, func(where string) string {
		for dot := strings.LastIndex(where, "."); dot > 0; dot = strings.LastIndex(where[:dot], ".") {
			if library := of[where[:dot]]; library != "" {
				return library
			}
		}
		t.Fatalf("%s is of no library", where)
		return ""
	}
}

func TestEveryLibraryThatCouldListenOrStartAProgramIsInTheAttackSurface(t *testing.T) {
	packages, libraryOf := linked(t)
	code := inventory{}
	for where := range listeners(packages) {
		code.add(libraryOf(where), "listens")
	}
	for where, commands := range started(packages) {
		for _, command := range commands {
			if !regexp.MustCompile(`(?i)^[a-z0-9]+(\.dll)?$`).MatchString(command) { // a library of Windows
				code.add(libraryOf(where), "starts")
			}
		}
	}
	same(t, code, written(t, "| library that could |", 0, 1), 4)
}

func TestNothingIsAskedOfALibraryThatWouldMakeItListenOrStartAProgram(t *testing.T) {
	never := []string{
		"PreferPowershell", "PowershellFallback", "StartHTTPServer", "BrowserOpenURL", // go-toast, progressbar, Wails
		"ProfPort", "HTTPPort", "HTTPSPort", "StartProfiler", "StartMonitoring", "StartHTTPMonitoring", // nats-server
	}
	options := 0
	for _, s := range program(t) {
		for _, file := range s.files {
			ast.Inspect(file, func(node ast.Node) bool {
				name, ok := node.(*ast.Ident)
				if ok && slices.Contains(never, name.Name) {
					t.Errorf("%s asks for %s", s.name, name.Name)
				}
				if ok && (name.Name == "DontListen" || name.Name == "NoSigs") {
					options++
				}
				return true
			})
		}
	}
	if options < 2 {
		t.Error("the server of NATS is not told to listen nowhere and to leave signals alone")
	}
}

func TestEveryLibraryThatReadsTheEnvironmentIsInTheAttackSurface(t *testing.T) {
	packages, libraryOf := linked(t)
	name := regexp.MustCompile(`^[A-Z][A-Za-z0-9_()]*$`)
	code := inventory{}
	for variable, where := range environment(packages) {
		for _, w := range where {
			code.add(libraryOf(w), variable)
		}
	}
	document := written(t, "| library |", 0, 1)
	for library, variables := range code {
		if document[library] == nil {
			t.Errorf("the document lacks `%s` with `%s`", library, strings.Join(variables, "`, `"))
			continue
		}
		for _, v := range variables {
			// What is read by a name that is no constant is said in the row's own words.
			if name.MatchString(v) && !slices.Contains(document[library], v) {
				t.Errorf("of `%s` the document lacks `%s`", library, v)
			}
		}
	}
	for library := range document {
		if code[library] == nil {
			t.Errorf("`%s` reads no variable", library)
		}
	}
	if len(code) < 5 {
		t.Errorf("only %d libraries were found", len(code))
	}
}

// facts are texts of the document that stand in the code as well, in some other form.
var facts = []struct{ says, file, code string }{
	// The control channel.
	{"`D:P(D;;GA;;;NU)(A;;GA;;;SID)(A;;0x12019b;;;SY)`", "internal/control/pipe_windows.go", `"D:P(D;;GA;;;NU)(A;;GA;;;%s)(A;;%#x;;;SY)", sid, uint32(pipeAccess)`},
	{"`D:P(D;;GA;;;NU)(A;;GA;;;SID)(A;;0x12019b;;;SY)`", "internal/control/pipe_windows.go", "const pipeAccess = 0x12019b"},
	{"`\\\\.\\pipe\\encounter-launcher-SID-SESSION`", "internal/control/pipe_windows.go", "`\\\\.\\pipe\\` + program + \"-\" + who.sid + \"-\" + strconv.FormatUint(uint64(who.session), 10)"},
	{"`SECURITY_ANONYMOUS`", "internal/control/pipe_windows.go", "winio.DialPipeAccess(ctx, pipeName(program, who), pipeAccess)"},
	{"`control.sock`", "internal/control/socket_unix.go", `socketName = "control.sock"`},
	{"`control.sock`", "internal/first/first_linux.go", `base+"/"+name+"/control.sock"`},
	{"`SO_PEERCRED`: this uid, before it sends", "internal/first/first_linux.go", "int(peer.Uid) != os.Geteuid()"},
	{"`agent.lock`", "internal/control/socket_unix.go", `lockName   = "agent.lock"`},
	{"`Host: encounter-launcher`", "internal/control/wire.go", `const host = "encounter-launcher"`},
	{"body 64 KB", "internal/control/control.go", "const MaxBody = 64 << 10"},
	{"header 4 KB", "internal/control/server.go", "maxHeader = 4 << 10"},
	{"5 s for the whole request", "internal/control/server.go", "readLimit = 5 * time.Second"},
	{"10 s for a line that is not read", "internal/control/server.go", "writeLimit = 10 * time.Second"},
	{"no `Origin`", "internal/control/server.go", `len(r.Header["Origin"]) > 0`},
	{"`POST /v1/link`", "internal/control/wire.go", `linkRoute     = "/v1/link"`},
	{"`POST /v1/refusal`", "internal/control/wire.go", `refusalRoute  = "/v1/refusal"`},
	{"`GET /v1/snapshot`", "internal/control/wire.go", `snapshotRoute = "/v1/snapshot"`},
	{"`GET /v1/watch`", "internal/control/wire.go", `watchRoute    = "/v1/watch"`},
	{"`GET /v1/policy`", "internal/control/wire.go", `policyRoute   = "/v1/policy"`},
	// Windows.
	{"`D:P(A;;FA;;;SID)(A;;FA;;;SY)`", "internal/doctor/own_windows.go", `"D:P(A;;FA;;;" + user.User.Sid.String() + ")(A;;FA;;;SY)"`},
	{"`EncounterLauncherSession`", "internal/session/desk_windows.go", `const windowClass = "EncounterLauncherSession"`},
	{"`SystrayClass`", "internal/tray/start_windows.go", `windows.UTF16PtrFromString("SystrayClass")`},
	// The sign-in listener.
	{"`GET /callback`", "internal/signin/callback.go", `callbackPath = "/callback"`},
	{"`GET /done`", "internal/signin/callback.go", `donePath     = "/done"`},
	{"Header 16 KB, code 8 KB", "internal/signin/callback.go", "maxHeaderBytes = 16 << 10"},
	{"Header 16 KB, code 8 KB", "internal/signin/callback.go", "maxCodeBytes   = 8 << 10"},
	{"`SO_EXCLUSIVEADDRUSE`", "internal/signin/listen_windows.go", "SO_EXCLUSIVEADDRUSE"},
	{"brought no answer 64 stay open", "internal/signin/callback.go", "mostConnections = 64"},
	{"`/proc/self/net/tcp`", "internal/signin/peer_linux.go", "uid != 0 && uid != os.Getuid()"},
	// The link.
	{"2,048 bytes", "internal/launch/launch.go", "MaxLinkBytes = 2048"},
	// The keyring.
	{"`refresh`", "internal/tokenstore/items.go", `headItem = "refresh"`},
	{"`refresh.GENERATION.N`", "internal/tokenstore/items.go", `headItem + "." + strconv.FormatUint(generation, 10) + "." + strconv.Itoa(i)`},
	{"`secret.idempotency`", "internal/agent/adapters.go", `linkKeySecret = "idempotency"`},
	{"`secret.recents`", "internal/agent/adapters.go", `recentsSecret = "recents"`},
	{"`secret.NAME`", "internal/tokenstore/items.go", `"secret." + name`},
	// The machine's files.
	{"`/etc/encounter-launcher/policy.json`", "internal/paths/paths_unix.go", `machinePolicyFile     = "/etc/encounter-launcher/policy.json"`},
	{"`/usr/share/encounter-launcher/defaults.json`", "internal/paths/paths_unix.go", `installerDefaultsFile = "/usr/share/encounter-launcher/defaults.json"`},
	{"no bit of 022", "internal/policy/file.go", "case !l.TrustedMachineFile(info):"},
	{"no bit of 022", "internal/paths/paths_unix.go", "stat.Uid == owner && info.Mode().Perm()&0o022 == 0"},
	{"no bit of 077", "internal/ground/ground_unix.go", "info.Mode().Perm()&0o077 != 0"},
	{"no bit of 027", "internal/transport/certificate_unix.go", "info.Mode().Perm()&0o027 != 0"},
	{"`ExtraCAFile` this user's or root's, with no bit of 022", "internal/transport/certificate_unix.go", "info.Mode().Perm()&0o022 != 0"},
	{"refused where everybody can write them", "internal/orgconfig/secret_unix.go", "info.Mode().Perm()&0o002 != 0"},
	{"`O_NOFOLLOW`", "internal/policy/file_unix.go", "syscall.O_NOFOLLOW"},
	// The backend.
	{"its user and root (`SO_PEERCRED`)", "internal/orgserver/admin.go", "uid == 0 || uid == os.Getuid()"},
	{"`DontListen`", "internal/orgstore/embed.go", "DontListen: true"},
	{"header 32 KB", "internal/orgserver/listen.go", "const maxHeader = 32 << 10"},
	{"TLS 1.2 or newer", "internal/orgserver/listen.go", "MinVersion: tls.VersionTLS12"},
	{"`LimitCORE=0`", "build/backend/org-backend.service", "\nLimitCORE=0\n"},
	{"`UMask=0077`", "build/backend/org-backend.service", "\nUMask=0077\n"},
	{"`NoNewPrivileges=yes`", "build/backend/org-backend.service", "\nNoNewPrivileges=yes\n"},
	{"`ProtectSystem=strict`", "build/backend/org-backend.service", "\nProtectSystem=strict\n"},
	{"`ProtectProc=invisible`", "build/backend/org-backend.service", "\nProtectProc=invisible\n"},
	{"`CapabilityBoundingSet=`", "build/backend/org-backend.service", "\nCapabilityBoundingSet=\n"},
	{"`/etc/org-backend/secrets`, `root:org-backend` 0750", "build/backend/postinst.sh", "install -d -m 0750 -o root -g org-backend /etc/org-backend/secrets"},
	{"`SetDefaultDllDirectories`", "internal/libraries/libraries_windows.go", "var _ = fromSystemOnly()"},
	// Packages, and what they register.
	{"`Exec=/usr/bin/encounter-launcher %u`", "build/linux/encounter-launcher.desktop", "\nExec=/usr/bin/encounter-launcher %u\n"},
	{"`Exec=/usr/bin/encounter-launcher agent`", "build/linux/autostart.desktop", "\nExec=/usr/bin/encounter-launcher agent\n"},
	{"`\"…\\encounter-launcher.exe\" \"%1\"`", "build/msi/encounter-launcher.wxs", `Value="&quot;[INSTALLDIR]$(var.Name).exe&quot; &quot;%1&quot;"`},
	{"`\"…\\encounter-launcher.exe\" agent`", "build/msi/encounter-launcher.wxs", `Value="&quot;[INSTALLDIR]$(var.Name).exe&quot; agent"`},
	// The window's page.
	{"`default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'`", "frontend/index.html", `content="default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"`},
}

func TestTheExactFactsOfTheAttackSurfaceAreThoseOfTheCode(t *testing.T) {
	page := documents(t)[surface]
	for _, f := range facts {
		text, err := os.ReadFile(filepath.Join(root(t), filepath.FromSlash(f.file)))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(page, f.says) {
			t.Errorf("%s does not say %s", surface, f.says)
		}
		if !strings.Contains(string(text), f.code) {
			t.Errorf("%s says %s, and %s has no longer %q", surface, f.says, f.file, f.code)
		}
	}
}

func TestEveryAccessListOfWindowsIsInTheAttackSurface(t *testing.T) {
	known := 0
	for _, s := range program(t) {
		for _, list := range accessLists(s) {
			if !slices.ContainsFunc(facts, func(f struct{ says, file, code string }) bool { return strings.Contains(f.code, list) }) {
				t.Errorf("%s: no fact of the document holds the access list %s", s.name, list)
			}
			known++
		}
	}
	if known < 2 {
		t.Errorf("only %d access lists were found", known)
	}
}

func TestWhatTheTrayOwnsOnTheBusIsWhatItsLibrarySays(t *testing.T) {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "fyne.io/systray")
	cmd.Dir = root(t)
	dir, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "systray_unix.go"))
	if err != nil {
		t.Fatal(err)
	}
	page := documents(t)[surface]
	for says, code := range map[string]string{
		"`org.kde.StatusNotifierItem-PID-1`": `fmt.Sprintf("org.kde.StatusNotifierItem-%d-1", os.Getpid())`,
		"`/StatusNotifierItem`":              `"/StatusNotifierItem"`,
		"`/StatusNotifierItem/menu`":         `"/StatusNotifierItem/menu"`,
	} {
		if !strings.Contains(page, says) || !bytes.Contains(text, []byte(code)) {
			t.Errorf("the document and the library do not both say %s", says)
		}
	}
	if n := bytes.Count(text, []byte("RequestName(")); n != 1 {
		t.Errorf("the library takes %d names", n)
	}
}

func TestTheAttackSurfaceNamesEveryIntentOfTheControlChannel(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "internal", "control", "control.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "The names of the intents")
	list, _, _ = strings.Cut(list, "\n)\n")
	code, document := inventory{}, inventory{}
	for _, m := range regexp.MustCompile(`(?m)^\t[A-Z]\w+ += "([a-z-]+)"`).FindAllStringSubmatch(list, -1) {
		code.add("intents", m[1])
	}
	for _, line := range strings.Split(documents(t)[surface], "\n") {
		if _, names, found := strings.Cut(line, "`POST /v1/INTENT`: "); found {
			names, _, _ = strings.Cut(names, ";")
			for _, name := range quotedIn(names) {
				document.add("intents", name)
			}
		}
	}
	same(t, code, document, 1)
	if len(code["intents"]) < 15 {
		t.Errorf("only %d intents were found", len(code["intents"]))
	}
}

// scripts are the maintainer scripts that a package of nfpm runs.
func scripts(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:pre|post)(?:install|remove|trans|rm|inst)\w*: (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	return all
}

func TestEverythingThatAPackageRunsIsInTheAttackSurface(t *testing.T) {
	code := inventory{}
	for _, file := range []string{"build/linux/nfpm.yaml", "build/backend/nfpm.yaml"} {
		for _, script := range scripts(t, file) {
			code.add(script, file)
		}
	}
	actions, err := os.ReadFile(filepath.Join(root(t), "build", "msi", "tables.sql"))
	if err != nil {
		t.Fatal(err)
	}
	// 51 sets a property; every other type runs something.
	for _, m := range regexp.MustCompile(`INSERT INTO CustomAction \([^)]*\) VALUES \('(\w+)', (\d+),`).FindAllStringSubmatch(string(actions), -1) {
		if m[2] != "51" {
			code.add(m[1]+" "+m[2], "build/msi/tables.sql")
		}
	}
	wxs, err := os.ReadFile(filepath.Join(root(t), "build", "msi", "encounter-launcher.wxs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"ServiceInstall", "ServiceControl", "CustomAction", "Binary", "Permission", "FirewallException", "ScheduledTask"} {
		if bytes.Contains(wxs, []byte("<"+word)) || bytes.Contains(actions, []byte("INTO "+word+" (")) && word != "CustomAction" {
			code.add(word, "build/msi")
		}
	}
	same(t, code, written(t, "| runs while installing |", 0, -1), 4)
}

func TestNoProgramSwitchesTheVerificationOfTLSOff(t *testing.T) {
	for _, s := range program(t) {
		for _, file := range s.files {
			ast.Inspect(file, func(node ast.Node) bool {
				if name, ok := node.(*ast.Ident); ok && slices.Contains([]string{"InsecureSkipVerify", "VerifyPeerCertificate", "VerifyConnection", "InsecureCipherSuites", "CipherSuites", "VersionTLS10", "VersionTLS11", "KeyLogWriter"}, name.Name) {
					t.Errorf("%s sets %s", s.name, name.Name)
				}
				return true
			})
		}
	}
}

func TestAnExposureThatIsNotWrittenDownIsFound(t *testing.T) {
	dir := t.TempDir()
	text := `package p

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
)

const name = "P_" + "NEW"

var c = &http.Client{}

func f(address string) {
	_, _ = net.Listen("tcp", address)
	_, _ = (&net.ListenConfig{}).Listen(nil, "tcp6", net.JoinHostPort("::", "80"))
	_ = exec.Command("sh", "-c", address)
	_ = os.WriteFile(address, nil, 0o644)
	for _, v := range []string{"P_ONE", "P_TWO"} {
		_ = os.Getenv(v)
	}
	_ = os.Getenv(name)
	http.HandleFunc("/x", nil)
	new(http.ServeMux).HandleFunc("GET /new", nil)
	_, _ = net.Dial("unix", address)
	_ = syscall.Connect(0, to)
}

func g() { _ = http.Client{Timeout: 1} }
`
	if err := os.WriteFile(filepath.Join(dir, "p_windows.go"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all := map[string]*source{"p": readSource(t, dir, "p", nil)}
	for _, want := range []struct {
		what       string
		found      inventory
		key, value string
	}{
		{"a listener", listeners(all), "p.f", "tcp address"},
		{"a listener by a method", listeners(all), "p.f", "tcp6 :::80"},
		{"a program", started(all), "p.f", "sh -c address"},
		{"a file", filesMade(all), "p.f", "file 0644"},
		{"a variable of a list", environment(all), "P_TWO", "p.f"},
		{"a variable by a constant", environment(all), "P_NEW", "p.f"},
		{"a program that is looked for", environment(all), "PATH", "p.f"},
		{"a client with the library's transport", environment(all), "HTTPS_PROXY", "p.g"},
		{"a route", routes(all), "p.f", "GET /new"},
		{"a connection", connections(all), "p.f", "unix address"},
		{"a connection past the library", connections(all), "p.f", "to"},
	} {
		if !slices.Contains(want.found[want.key], want.value) {
			t.Errorf("%s was not found: %v", want.what, want.found)
		}
		if len(differences(want.found, inventory{})) != len(want.found) || len(differences(inventory{}, want.found)) != len(want.found) {
			t.Errorf("%s would not be missed", want.what)
		}
		changed := maps.Clone(want.found)
		changed[want.key] = []string{"something else"}
		if len(differences(want.found, changed)) != 1 {
			t.Errorf("%s could be another", want.what)
		}
	}
}
