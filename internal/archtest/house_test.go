package archtest

import (
	"bytes"
	"encoding/json"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "encounterlauncher"

// build is one set of tags for which the house must stand.
type build struct {
	name string
	args []string
	env  []string
}

var builds = []build{
	{"linux, no tags", nil, []string{"GOOS=linux", "CGO_ENABLED=0"}},
	{"bindings", []string{"-tags=bindings"}, []string{"GOOS=linux", "CGO_ENABLED=1"}},
	{"linux window", []string{"-tags=desktop,production,webkit2_41"}, []string{"GOOS=linux", "CGO_ENABLED=1"}},
	{"windows console", []string{"-tags=console"}, []string{"GOOS=windows", "CGO_ENABLED=0"}},
	{"windows", []string{"-tags=desktop,production,wv2runtime.error"}, []string{"GOOS=windows", "CGO_ENABLED=0"}},
}

type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Module     *struct{ Path string }
}

func list(t *testing.T, b build, patterns ...string) map[string]pkg {
	t.Helper()
	args := append([]string{"list", "-deps", "-json=ImportPath,Standard,Imports,Module"}, b.args...)
	cmd := exec.Command("go", append(args, patterns...)...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), b.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	pkgs := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs[p.ImportPath] = p
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func rowFor(importPath string) (Room, bool) {
	name := "."
	if importPath != module {
		name = strings.TrimPrefix(importPath, module+"/internal/")
	}
	for _, r := range Rooms {
		if r.Name == name || r.Name != "." && strings.HasPrefix(name, r.Name+"/") {
			return r, true
		}
	}
	return Room{}, false
}

func TestEveryRoomImportsOnlyWhatTheTableAllows(t *testing.T) {
	for _, b := range builds {
		t.Run(b.name, func(t *testing.T) {
			pkgs := list(t, b, "./...")
			for _, p := range pkgs {
				if p.Module == nil || p.Module.Path != module {
					continue
				}
				row, ok := rowFor(p.ImportPath)
				if !ok {
					t.Errorf("%s is a room that is not on the table", p.ImportPath)
					continue
				}
				for _, imp := range p.Imports {
					if problem := judge(row, pkgs[imp], imp); problem != "" {
						t.Errorf("%s %s (%s)", row.Name, problem, row.Why)
					}
				}
			}
		})
	}
}

func judge(row Room, imported pkg, path string) string {
	switch {
	case path == "C" || imported.Standard:
		return ""
	case path == module || strings.HasPrefix(path, module+"/"):
		to, ok := rowFor(path)
		if !ok || to.Name != row.Name && !slices.Contains(row.May, to.Name) {
			return "may not import the room " + path
		}
		return ""
	default:
		for _, m := range append(append([]string(nil), Free...), row.Outside...) {
			if path == m || strings.HasPrefix(path, m+"/") {
				return ""
			}
		}
		return "may not import the library " + path
	}
}

// Go initialises, again and again, the package whose path comes first of those that
// import nothing more that is not initialised.
func TestLibrariesOfTheSystemAreSettledBeforeAnyLibraryIsInitialised(t *testing.T) {
	const room = module + "/internal/libraries"
	for _, b := range builds {
		if !slices.Contains(b.env, "GOOS=windows") {
			continue
		}
		all := list(t, b, ".")
		if found, there := all[room]; !there || !slices.Equal(found.Imports, []string{"syscall"}) {
			t.Errorf("%s: the room imports %q, or the program does not import it", b.name, found.Imports)
		}
		for path, p := range all {
			if !p.Standard && path != module && path < room && !strings.HasPrefix(path, module) {
				t.Errorf("%s: %s may be initialised before it", b.name, path)
			}
		}
	}
}

func TestTheWorkstationProgramLinksNoServer(t *testing.T) {
	for _, b := range builds {
		t.Run(b.name, func(t *testing.T) {
			for path := range list(t, b, ".") {
				for _, never := range NeverInRoot {
					if strings.HasPrefix(path, never) {
						t.Errorf("the root program links %s", path)
					}
				}
			}
		})
	}
}

func TestTheLinuxAgentAndTheWindowsCommandLineLinkNoWebview(t *testing.T) {
	for _, b := range builds {
		if len(b.args) > 0 {
			continue // with tags it is a program that has the window
		}
		for path := range list(t, b, ".") {
			if strings.HasPrefix(path, "github.com/wailsapp/") {
				t.Errorf("%s: it links %s, measured at 47 MB instead of 8", b.name, path)
			}
		}
	}
}

func TestEveryRoomSaysWhatItDoes(t *testing.T) {
	for _, r := range Rooms {
		dir := filepath.Join(root(t), "internal", r.Name)
		if r.Name == "." {
			dir = root(t)
		}
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("room %s is on the table and does not exist", r.Name)
			continue
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		var doc []string
		for _, f := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.Doc != nil && !strings.HasSuffix(f, "_test.go") {
				doc = append(doc, parsed.Doc.Text())
			}
		}
		if len(doc) != 1 || len(doc[0]) < 80 {
			t.Errorf("room %s should have exactly one package comment that says what it does and what it never does; it has %d", r.Name, len(doc))
		}
	}
}

func TestTheFloorPlanNamesEveryRoomAndNoOther(t *testing.T) {
	plan, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(plan)) {
		if cells := strings.Split(line, "|"); len(cells) > 3 && strings.Contains(cells[1], "`") {
			rows[strings.Trim(strings.TrimSpace(cells[1]), "`")] = strings.TrimSpace(cells[2])
		}
	}
	for _, r := range Rooms {
		if rows[r.Name] != r.Does {
			t.Errorf("floor plan for %s says %q, the table says %q", r.Name, rows[r.Name], r.Does)
		}
		delete(rows, r.Name)
	}
	for name := range rows {
		t.Errorf("the floor plan shows a room %s that is not on the table", name)
	}
}

func TestNoRoomIsADrawer(t *testing.T) {
	for _, r := range Rooms {
		for _, word := range []string{"util", "common", "helper", "misc"} {
			if strings.Contains(r.Name, word) {
				t.Errorf("%s is the name of a drawer", r.Name)
			}
		}
	}
}

func TestPortableCodeHoldsNoSwitchOverSystemsAndNoInit(t *testing.T) {
	err := filepath.WalkDir(filepath.Join(root(t), "internal"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, word := range []string{"runtime." + "GOOS", "\nfunc " + "init()"} {
			if bytes.Contains(source, []byte(word)) {
				t.Errorf("%s holds %q", path, strings.TrimSpace(word))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheJudgeRefusesWhatIsNotOnTheTable(t *testing.T) {
	flow, _ := rowFor(module + "/internal/flow")
	for path, want := range map[string]bool{
		module + "/internal/launch": true, module + "/internal/orgclient": false, module + "/internal/nowhere": false,
		"golang.org/x/sys/unix": true, "github.com/zalando/go-keyring": false, "github.com/godbus/dbus/v5x": false,
	} {
		if got := judge(flow, pkg{}, path) == ""; got != want {
			t.Errorf("flow importing %s: allowed %v, want %v", path, got, want)
		}
	}
}
