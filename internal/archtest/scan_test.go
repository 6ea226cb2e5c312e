package archtest

import (
	"bytes"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// handedOut are the programs that somebody is given, by their folder.
var handedOut = []string{".", "internal/cmd/org-backend", "internal/cmd/nabla-sim", "internal/cmd/sandbox"}

// source is the code of one package, of every system and every tag, without its tests.
type source struct {
	name    string // as the table of rooms has it; of libraries the import path
	files   []*ast.File
	imports []map[string]string // of each file: name to import path
	words   map[string]ast.Expr // constants of the package
	house   map[string]*source  // the packages of ours, by name
}

// readSource parses a folder. It does not ask for which system a file is; which, where
// it is not nil, says which files are wanted.
func readSource(t *testing.T, dir, name string, which func(file string) bool) *source {
	t.Helper()
	s := &source{name: name, words: map[string]ast.Expr{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") || which != nil && !which(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, file)
		s.imports = append(s.imports, namesOf(file))
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				constants(g, s.words)
			}
		}
	}
	return s
}

func constants(g *ast.GenDecl, into map[string]ast.Expr) {
	for _, spec := range g.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if !ok || len(v.Values) != len(v.Names) {
			continue
		}
		for n, name := range v.Names {
			into[name.Name] = v.Values[n]
		}
	}
}

// version is the last element of the import path of a module of a later major version.
var version = regexp.MustCompile(`^v\d+$`)

func namesOf(file *ast.File) map[string]string {
	names := map[string]string{}
	for _, i := range file.Imports {
		to, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(to)
		if version.MatchString(name) {
			name = path.Base(path.Dir(to))
		}
		name = strings.TrimPrefix(name, "go-")
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = to
	}
	return names
}

// program returns the packages of ours that the programs that are handed out are made
// of, on any system.
func program(t *testing.T) map[string]*source {
	t.Helper()
	found := map[string]*source{}
	next := slices.Clone(handedOut)
	for len(next) > 0 {
		dir := next[0]
		next = next[1:]
		name := strings.TrimPrefix(dir, "internal/")
		if found[name] != nil {
			continue
		}
		s := readSource(t, filepath.Join(root(t), filepath.FromSlash(dir)), name, nil)
		if dir == "." {
			s.name = "main"
		}
		found[name], s.house = s, found
		for _, names := range s.imports {
			for _, to := range names {
				if below, ours := strings.CutPrefix(to, module+"/"); ours {
					next = append(next, below)
				}
			}
		}
	}
	if len(found) < 40 {
		t.Fatalf("only %d packages were found", len(found))
	}
	return found
}

// use is one place where something of another package is named, or a method is called.
type use struct {
	where string // room and function
	of    string // import path, empty for a method
	name  string
	call  *ast.CallExpr // nil where it is not called
	local map[string]ast.Expr
	loops map[string][]ast.Expr
	in    *source
	names map[string]string
}

// uses walks through a package and shows every use, function by function.
func (s *source) uses(show func(use)) {
	for n, file := range s.files {
		for _, d := range file.Decls {
			u := use{in: s, names: s.imports[n], local: map[string]ast.Expr{}, loops: map[string][]ast.Expr{}}
			switch d := d.(type) {
			case *ast.FuncDecl:
				u.where = s.name + "." + d.Name.Name
			case *ast.GenDecl:
				u.where = s.name
				if len(d.Specs) > 0 {
					if v, ok := d.Specs[0].(*ast.ValueSpec); ok {
						u.where += "." + v.Names[0].Name
					}
				}
			}
			called := map[*ast.SelectorExpr]bool{}
			ast.Inspect(d, func(node ast.Node) bool {
				switch node := node.(type) {
				case *ast.GenDecl:
					if node.Tok == token.CONST {
						constants(node, u.local)
					}
				case *ast.RangeStmt:
					list, ok := node.X.(*ast.CompositeLit)
					if value, named := node.Value.(*ast.Ident); ok && named {
						u.loops[value.Name] = list.Elts
					}
				case *ast.CallExpr:
					if f, ok := node.Fun.(*ast.SelectorExpr); ok {
						called[f] = true
						show(u.as(f, node))
					}
				case *ast.SelectorExpr:
					if !called[node] {
						show(u.as(node, nil))
					}
				}
				return true
			})
		}
	}
}

func (u use) as(f *ast.SelectorExpr, call *ast.CallExpr) use {
	u.name, u.call = f.Sel.Name, call
	if x, ok := f.X.(*ast.Ident); ok {
		u.of = u.names[x.Name]
	}
	return u
}

// arg is an argument of the call as a reader understands it: the text of what is
// constant, and the code of what is not.
func (u use) arg(n int) string {
	if u.call == nil || n >= len(u.call.Args) {
		return ""
	}
	return u.say(u.call.Args[n])
}

func (u use) say(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
		return e.Value
	case *ast.Ident:
		if to := u.constant(e.Name); to != nil {
			return u.say(to)
		}
	case *ast.BinaryExpr:
		if text, ok := u.text(e); ok {
			return text
		}
	case *ast.SelectorExpr:
		if text, ok := u.text(e); ok {
			return text
		}
	case *ast.ParenExpr:
		return u.say(e.X)
	case *ast.StarExpr:
		return u.say(e.X)
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.Ident); ok && f.Name == "append" {
			var words []string
			for _, a := range e.Args {
				words = append(words, u.say(a))
			}
			return strings.Join(words, " ")
		}
		f, ok := e.Fun.(*ast.SelectorExpr)
		if !ok {
			break
		}
		switch inner := u.as(f, e); inner.of + "." + inner.name {
		case "net.JoinHostPort":
			return inner.arg(0) + ":" + inner.arg(1)
		case "strconv.Itoa", "slices.Clone":
			return inner.arg(0)
		}
	case *ast.CompositeLit:
		if _, ok := e.Type.(*ast.ArrayType); ok {
			var words []string
			for _, a := range e.Elts {
				words = append(words, u.say(a))
			}
			return strings.Join(words, " ")
		}
	case *ast.UnaryExpr:
		if list, ok := e.X.(*ast.CompositeLit); ok { // &net.UnixAddr{Name: …}
			for _, field := range list.Elts {
				if kv, ok := field.(*ast.KeyValueExpr); ok && u.code(kv.Key) == "Name" {
					return u.say(kv.Value)
				}
			}
		}
	}
	return u.code(e)
}

func (u use) constant(name string) ast.Expr {
	if to := u.local[name]; to != nil {
		return to
	}
	return u.in.words[name]
}

// text is the value of a constant text.
func (u use) text(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return constant.StringVal(constant.MakeFromLiteral(e.Value, e.Kind, 0)), true
		}
	case *ast.Ident:
		if to := u.constant(e.Name); to != nil {
			return u.text(to)
		}
	case *ast.BinaryExpr:
		left, ok := u.text(e.X)
		right, also := u.text(e.Y)
		return left + right, ok && also && e.Op == token.ADD
	case *ast.ParenExpr:
		return u.text(e.X)
	case *ast.SelectorExpr:
		x, ok := e.X.(*ast.Ident)
		if !ok {
			break
		}
		below, ours := strings.CutPrefix(u.names[x.Name], module+"/internal/")
		if of := u.in.house[below]; ours && of != nil && of.words[e.Sel.Name] != nil {
			return use{in: of, names: of.imports[0]}.text(of.words[e.Sel.Name])
		}
	}
	return "", false
}

func (u use) code(e ast.Expr) string {
	var b bytes.Buffer
	if printer.Fprint(&b, token.NewFileSet(), e) != nil {
		return ""
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// each is every value that an argument can have, where it runs over a list.
func (u use) each(n int) []string {
	if u.call != nil && n < len(u.call.Args) {
		if name, ok := u.call.Args[n].(*ast.Ident); ok && u.loops[name.Name] != nil {
			var all []string
			for _, e := range u.loops[name.Name] {
				all = append(all, u.say(e))
			}
			return all
		}
	}
	return []string{u.arg(n)}
}

// inventory is what was found: where, or what, and of that what is said.
type inventory map[string][]string

func (i inventory) add(key, value string) {
	if !slices.Contains(i[key], value) {
		i[key] = append(i[key], value)
		slices.Sort(i[key])
	}
}

// mode is a mode as people write it.
func mode(text string) string {
	if octal := strings.TrimPrefix(strings.TrimPrefix(text, "0o"), "0"); regexp.MustCompile(`^[0-7]{3}$`).MatchString(octal) {
		return "0" + octal
	}
	return text
}

// filesMade is what is made on disk, by function: kind and mode.
func filesMade(all map[string]*source) inventory {
	found := inventory{}
	for _, s := range all {
		s.uses(func(u use) {
			switch u.of + "." + u.name {
			case "os.OpenFile", module + "/internal/paths.OpenFile":
				flags := u.arg(1)
				if !strings.Contains(flags, "O_CREATE") && u.call != nil && !strings.Contains(flags, "flag") {
					return
				}
				text := "file " + mode(u.arg(2))
				if strings.Contains(flags, "O_NOFOLLOW") {
					text += " O_NOFOLLOW"
				}
				found.add(u.where, text)
			case "os.WriteFile":
				found.add(u.where, "file "+mode(u.arg(2)))
			case "golang.org/x/sys/windows.CreateFile":
				if how := u.arg(4); strings.Contains(how, "CREATE") || !strings.Contains(how, "OPEN_EXISTING") {
					found.add(u.where, "file by CreateFile")
				}
			case "os.Create", "os.Truncate":
				found.add(u.where, "file 0666")
			case "os.CreateTemp":
				found.add(u.where, "file 0600")
			case "os.Mkdir", "os.MkdirAll":
				found.add(u.where, "folder "+mode(u.arg(1)))
			case "os.MkdirTemp":
				found.add(u.where, "folder 0700")
			case "os.Chmod":
				found.add(u.where, "chmod "+mode(u.arg(1)))
			case "os.Symlink":
				found.add(u.where, "symlink")
			case "os.Link":
				found.add(u.where, "second name")
			case "os.OpenRoot", "os.CopyFS":
				found.add(u.where, u.name)
			case "github.com/gofrs/flock.New":
				text := "file 0600" // the library's own, without an option
				if u.call != nil && len(u.call.Args) > 1 {
					text = "file " + mode(strings.TrimSuffix(strings.TrimPrefix(u.arg(1), "flock.SetPermissions("), ")"))
				}
				found.add(u.where, text)
			case ".Chmod":
				if u.call != nil && len(u.call.Args) == 1 {
					found.add(u.where, "chmod "+mode(u.arg(0)))
				}
			}
		})
	}
	return found
}

// started are the programs that are started, by function.
func started(all map[string]*source) inventory {
	found := inventory{}
	for _, s := range all {
		s.uses(func(u use) {
			from := -1
			switch u.of + "." + u.name {
			case "os/exec.Command":
				from = 0
			case "os/exec.CommandContext":
				from = 1
			case "os.StartProcess":
				if u.call != nil {
					found.add(u.where, strings.TrimPrefix(u.arg(1), `[]string`))
				}
			case "syscall.Exec", "syscall.ForkExec", "syscall.StartProcess", "syscall.CreateProcess",
				"golang.org/x/sys/unix.Exec", "golang.org/x/sys/windows.CreateProcess", "golang.org/x/sys/windows.ShellExecute",
				"plugin.Open", "golang.org/x/sys/windows.LoadLibrary", "golang.org/x/sys/windows.NewLazyDLL", "syscall.NewLazyDLL":
				from = 0
			case "github.com/pkg/browser.OpenURL", "github.com/pkg/browser.OpenFile", "github.com/pkg/browser.OpenReader":
				found.add(u.where, "browser."+u.name)
			}
			if from < 0 || u.call == nil {
				return
			}
			var words []string
			for n := from; n < len(u.call.Args); n++ {
				words = append(words, u.arg(n))
			}
			found.add(u.where, strings.Join(words, " "))
		})
	}
	return found
}

// listeners is where something listens, by function: network and address.
func listeners(all map[string]*source) inventory {
	found := inventory{}
	for _, s := range all {
		s.uses(func(u use) {
			switch u.of {
			case "net", "crypto/tls", "net/http", "golang.org/x/sys/unix", "syscall":
				if (strings.HasPrefix(u.name, "Listen") || u.name == "Bind") && u.call != nil {
					found.add(u.where, u.arg(0)+" "+u.arg(1))
				}
			case "github.com/Microsoft/go-winio":
				if strings.HasPrefix(u.name, "Listen") {
					found.add(u.where, "pipe "+u.arg(0))
				}
			case "":
				if u.call != nil && (u.name == "Listen" || u.name == "ListenPacket") && len(u.call.Args) == 3 {
					found.add(u.where, u.arg(1)+" "+u.arg(2))
				}
				if u.name == "ListenAndServe" || u.name == "ListenAndServeTLS" {
					found.add(u.where, u.name)
				}
			}
		})
	}
	return found
}

// named are the variables that are read by a name that is no constant: the code, and
// what it stands for.
var named = map[string][]string{
	"text.asked os.Getenv":                                  {"LC_ALL", "LC_MESSAGES", "LC_TIME", "LANG", "LANGUAGE"},
	`transport.readable strings.ToUpper(scheme) + "_PROXY"`: {"HTTPS_PROXY", "HTTP_PROXY"},
	`transport.readable scheme + "_proxy"`:                  {"HTTPS_PROXY", "HTTP_PROXY"},
	"scheme.listOf variable":                                {"XDG_CONFIG_DIRS", "XDG_DATA_DIRS"},
}

// behind are the variables that a function of a library reads for us.
var behind = map[string][]string{
	"os.UserHomeDir": {"HOME", "USERPROFILE"}, "os.TempDir": {"TMPDIR", "TMP", "TEMP"}, "os/exec.LookPath": {"PATH"},
	"net/http.ProxyFromEnvironment": {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"},
	"net/http.DefaultTransport":     {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"},
	"net/http.DefaultClient":        {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"},
	"github.com/adrg/xdg.StateHome": {"XDG_STATE_HOME"}, "github.com/adrg/xdg.ConfigHome": {"XDG_CONFIG_HOME"},
	"github.com/adrg/xdg.DataHome": {"XDG_DATA_HOME"}, "github.com/adrg/xdg.CacheHome": {"XDG_CACHE_HOME"}, "github.com/adrg/xdg.RuntimeDir": {"XDG_RUNTIME_DIR"},
	"crypto/x509.SystemCertPool": {"SSL_CERT_FILE", "SSL_CERT_DIR"},
	"os.ExpandEnv":               {"every variable"}, "os.Expand": {"every variable"}, "os.UserConfigDir": {"XDG_CONFIG_HOME"}, "os.UserCacheDir": {"XDG_CACHE_HOME"},
}

// environment is what is read of the environment, by variable: the functions.
func environment(all map[string]*source) inventory {
	found := inventory{}
	for _, s := range all {
		s.uses(func(u use) {
			called := u.of + "." + u.name
			for _, name := range behind[called] {
				found.add(name, u.where)
			}
			switch called {
			case "os.Getenv", "os.LookupEnv", "syscall.Getenv":
				names := u.each(0)
				if u.call == nil {
					names = []string{"os.Getenv"}
				}
				for _, name := range names {
					if known := named[u.where+" "+name]; known != nil {
						for _, name := range known {
							found.add(name, u.where)
						}
						continue
					}
					found.add(name, u.where)
				}
			case "os.CreateTemp", "os.MkdirTemp":
				if u.arg(0) == "" {
					for _, name := range behind["os.TempDir"] {
						found.add(name, u.where)
					}
				}
			case "os/exec.Command", "os/exec.CommandContext":
				n := 0
				if u.name == "CommandContext" {
					n = 1
				}
				if u.call != nil && u.isText(n) && !strings.ContainsAny(u.arg(n), `/\\`) {
					found.add("PATH", u.where)
				}
			case "github.com/pkg/browser.OpenURL":
				found.add("PATH", u.where)
			}
		})
		s.clients(func(where string) {
			for _, name := range behind["net/http.DefaultTransport"] {
				found.add(name, where)
			}
		})
	}
	return found
}

// clients shows every http.Client that is made without a transport: it has the one of
// the library, which asks the environment for a proxy.
func (s *source) clients(show func(where string)) {
	for n, file := range s.files {
		for _, d := range file.Decls {
			where := s.name
			if f, ok := d.(*ast.FuncDecl); ok {
				where += "." + f.Name.Name
			}
			ast.Inspect(d, func(node ast.Node) bool {
				made, ok := node.(*ast.CompositeLit)
				if !ok {
					return true
				}
				of, ok := made.Type.(*ast.SelectorExpr)
				if !ok || of.Sel.Name != "Client" {
					return true
				}
				if x, ok := of.X.(*ast.Ident); !ok || s.imports[n][x.Name] != "net/http" {
					return true
				}
				for _, e := range made.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Transport" {
							return true
						}
					}
				}
				show(where)
				return true
			})
		}
	}
}

func (u use) isText(n int) bool {
	_, ok := u.text(u.call.Args[n])
	return ok
}

// keyPath is the path of a key of Windows' registry.
var keyPath = regexp.MustCompile(`(?i)^(?:\[HKEY_LOCAL_MACHINE\\)?(software\\.*)$`)

// keysNamed are the paths of keys that the code names, by path: the rooms.
func keysNamed(all map[string]*source) inventory {
	found := inventory{}
	for _, s := range all {
		for _, file := range s.files {
			ast.Inspect(file, func(node ast.Node) bool {
				if l, ok := node.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if text, err := strconv.Unquote(l.Value); err == nil {
						if m := keyPath.FindStringSubmatch(text); m != nil {
							found.add(strings.TrimSuffix(m[1], `\`), s.name)
						}
					}
				}
				return true
			})
		}
	}
	return found
}

// keysChanged are the functions that change the registry, with what they do.
func keysChanged(all map[string]*source) inventory {
	found := inventory{}
	for _, s := range all {
		s.uses(func(u use) {
			if u.of != "golang.org/x/sys/windows/registry" || u.call == nil {
				return
			}
			switch {
			case u.name == "CreateKey":
				found.add(u.where, "makes")
			case u.name == "DeleteKey":
				found.add(u.where, "removes")
			case u.name == "OpenKey" && !strings.HasPrefix(u.arg(2), "registry."):
				found.add(u.where, "opens "+u.arg(2))
			case u.name == "OpenKey" && regexp.MustCompile(`SET_VALUE|CREATE_SUB_KEY|ALL_ACCESS|WRITE`).MatchString(u.arg(2)):
				found.add(u.where, "writes")
			}
		})
	}
	return found
}

// connections are what is dialled past the HTTP clients, by function.
func connections(all map[string]*source) inventory {
	found := inventory{}
	for _, s := range all {
		s.uses(func(u use) {
			if u.call == nil || strings.HasPrefix(u.of, module) {
				return
			}
			words := func(from int) string {
				var all []string
				for n := from; n < len(u.call.Args); n++ {
					if text := u.arg(n); text != "nil" && !strings.HasPrefix(text, "time.") {
						all = append(all, text)
					}
				}
				return strings.Join(all, " ")
			}
			switch {
			case u.of == "net" && strings.HasPrefix(u.name, "Dial"), u.of == "" && u.name == "Dial":
				found.add(u.where, words(0))
			case u.of == "" && u.name == "DialContext", u.of == "crypto/tls" && strings.HasPrefix(u.name, "Dial"):
				found.add(u.where, words(1))
			case (u.of == "syscall" || strings.HasPrefix(u.of, "golang.org/x/sys/")) && u.name == "Connect":
				found.add(u.where, words(1))
			case u.of == "github.com/Microsoft/go-winio" && strings.HasPrefix(u.name, "Dial"):
				found.add(u.where, "pipe "+u.arg(1))
			}
		})
	}
	return found
}

// routes are what is served, by the function that says so.
func routes(all map[string]*source) inventory {
	found := inventory{}
	for _, s := range all {
		s.uses(func(u use) {
			if u.call == nil || u.of != "" && u.of != "net/http" || u.name != "Handle" && u.name != "HandleFunc" || len(u.call.Args) != 2 {
				return
			}
			found.add(u.where, u.arg(0))
		})
		s.tables(func(u use, key ast.Expr) { found.add(u.where, u.route(key)) })
	}
	return found
}

// route is a path of a table of routes, without the base that configuration gives it.
func (u use) route(key ast.Expr) string {
	if sum, ok := key.(*ast.BinaryExpr); ok && u.code(sum.X) == "p.base" {
		if text, ok := u.text(sum.Y); ok {
			return text
		}
		return u.code(sum.Y)
	}
	return u.say(key)
}

// tables shows the keys of tables of routes: maps from a path to calls by method.
func (s *source) tables(show func(use, ast.Expr)) {
	for n, file := range s.files {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			u := use{in: s, names: s.imports[n], where: s.name + "." + f.Name.Name}
			ast.Inspect(f, func(node ast.Node) bool {
				switch node := node.(type) {
				case *ast.CompositeLit:
					if m, ok := node.Type.(*ast.MapType); !ok || !strings.HasPrefix(u.code(m.Value), "map[string]") {
						return true
					}
					for _, e := range node.Elts {
						if kv, ok := e.(*ast.KeyValueExpr); ok {
							show(u, kv.Key)
						}
					}
				case *ast.AssignStmt:
					if at, ok := node.Lhs[0].(*ast.IndexExpr); ok && strings.HasSuffix(u.code(at.X), ".routes") {
						show(u, at.Index)
					}
				}
				return true
			})
		}
	}
}

// accessLists are the beginnings of access lists of Windows (Security Descriptor String
// Format, Microsoft Learn) that stand in a package.
func accessLists(s *source) []string {
	var found []string
	for _, file := range s.files {
		ast.Inspect(file, func(node ast.Node) bool {
			if l, ok := node.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if text, err := strconv.Unquote(l.Value); err == nil && regexp.MustCompile(`^[OGDS]:[A-Z]*\(`).MatchString(text) {
					found = append(found, text)
				}
			}
			return true
		})
	}
	return found
}

// busWord is a name, a path or an interface of D-Bus.
var busWord = regexp.MustCompile(`^(?:(?:org|com|io)\.[a-zA-Z][A-Za-z0-9.]+|/(?:org|com|io|StatusNotifier)[A-Za-z0-9/]*)$`)

// busWords are the texts in packages that speak D-Bus, by name: the rooms.
func busWords(all map[string]*source) inventory {
	found := inventory{}
	for _, s := range all {
		for n, file := range s.files {
			speaks := false
			for _, to := range s.imports[n] {
				speaks = speaks || strings.HasPrefix(to, "github.com/godbus/dbus/")
			}
			if !speaks {
				continue
			}
			ast.Inspect(file, func(node ast.Node) bool {
				if l, ok := node.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if text, err := strconv.Unquote(l.Value); err == nil && busWord.MatchString(text) {
						found.add(text, s.name)
					}
				}
				return true
			})
		}
	}
	return found
}

// goFiles calls f with every Go file of the house, tests too.
func goFiles(t *testing.T, f func(path string, text []byte)) {
	t.Helper()
	err := filepath.WalkDir(root(t), func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(at, ".go") {
			return nil
		}
		text, err := os.ReadFile(at)
		if err == nil {
			f(at, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
