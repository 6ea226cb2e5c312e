package archtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exactly is a version that stands for one set of bytes, and for no range.
var exactly = regexp.MustCompile(`^v?\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)?$`)

func contents(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{root(t)}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// recipes are the Makefiles and scripts of the tree, by their paths.
func recipes(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "Makefile", "build", ".ci")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing the tree: %v", err)
	}
	all := map[string]string{}
	for _, name := range strings.Fields(string(out)) {
		if ext := filepath.Ext(name); ext == "" || slices.Contains([]string{".mk", ".sh", ".mjs"}, ext) {
			if data, err := os.ReadFile(filepath.Join(root(t), name)); err == nil {
				all[name] = string(data)
			}
		}
	}
	return all
}

// packagesOfNPM are those that package.json names, with their versions.
func packagesOfNPM(t *testing.T) map[string]string {
	t.Helper()
	var file struct{ Dependencies, DevDependencies, OptionalDependencies, PeerDependencies map[string]string }
	if err := json.Unmarshal([]byte(contents(t, "frontend", "package.json")), &file); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, of := range []map[string]string{file.Dependencies, file.DevDependencies, file.OptionalDependencies, file.PeerDependencies} {
		for name, version := range of {
			all[name] = version
		}
	}
	return all
}

var pinnedTool = regexp.MustCompile(`\b((?:[a-z0-9-]+\.)+[a-z]+/[A-Za-z0-9_./-]+)@([A-Za-z0-9.+-]+)`)

// dependencies are all that the tree names, as the page does: Go's and tools with their
// version, npm's with theirs, Debian's by name.
func dependencies(t *testing.T) map[string]bool {
	t.Helper()
	want := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(?:\t|require )(\S+) (v\S+)$`).FindAllStringSubmatch(contents(t, "go.mod"), -1) {
		version := m[2]
		if stamp := regexp.MustCompile(`^(v0\.0\.0-\d{14})-`).FindStringSubmatch(version); stamp != nil {
			version = stamp[1]
		}
		want["`"+m[1]+"` "+version] = true
	}
	for name, version := range packagesOfNPM(t) {
		want["npm `"+name+"` "+version] = true
	}
	for _, text := range recipes(t) {
		for _, m := range pinnedTool.FindAllStringSubmatch(text, -1) {
			if exactly.MatchString(m[2]) {
				want["run `"+m[1]+"` "+m[2]] = true
			}
		}
	}
	setup := strings.ReplaceAll(contents(t, "build", "setup.sh"), "\\\n", " ")
	for _, m := range regexp.MustCompile(`(?m)^[a-z]+="([^"]*)"$`).FindAllStringSubmatch(setup, -1) {
		for _, name := range strings.Fields(m[1]) {
			if !strings.HasPrefix(name, "$") {
				want["Debian `"+name+"`"] = true
			}
		}
	}
	return want
}

// explained returns how often each dependency stands on the page, by the first cells of
// its tables, and what is wrong with the page's rows.
func explained(page string) (count map[string]int, wrong []string) {
	count = map[string]int{}
	named := regexp.MustCompile("`([^`]+)`(?: (v?\\d[^ ,|)]*))?")
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || strings.Contains(line, "| why it |") {
			continue
		}
		if len(cells) != 3 || len(strings.TrimSpace(cells[1])) < 20 || len(strings.TrimSpace(cells[2])) < 5 {
			wrong = append(wrong, "no reason, or no cost: "+strings.TrimSpace(line))
			continue
		}
		kind := ""
		for _, k := range []string{"npm ", "run: ", "Debian "} {
			if strings.HasPrefix(strings.TrimSpace(cells[0]), k) {
				kind = strings.TrimSuffix(k, ": ")
				kind = strings.TrimSpace(kind) + " "
			}
		}
		for _, m := range named.FindAllStringSubmatch(cells[0], -1) {
			count[strings.TrimSpace(kind+"`"+m[1]+"` "+m[2])]++
		}
	}
	return count, wrong
}

func TestEveryDependencyHasOneLineWithItsReasonAndItsCostAndNoLineIsStale(t *testing.T) {
	count, wrong := explained(contents(t, "docs", "dependencies.md"))
	for _, w := range wrong {
		t.Error("docs/dependencies.md: " + w)
	}
	want := dependencies(t)
	for name := range want {
		if count[name] != 1 {
			t.Errorf("docs/dependencies.md has %s %d times, not once", name, count[name])
		}
	}
	for name := range count {
		if !want[name] {
			t.Errorf("docs/dependencies.md names %s, which the tree does not", name)
		}
	}
	kinds := map[string]int{}
	for name := range want {
		kind, _, _ := strings.Cut(name, "`")
		kinds[kind]++
	}
	for kind, least := range map[string]int{"": 30, "npm ": 10, "run ": 3, "Debian ": 30} {
		if kinds[kind] < least {
			t.Errorf("only %d dependencies of the kind %q were found", kinds[kind], kind)
		}
	}
}

func TestALineWithoutAReasonOrACostIsFound(t *testing.T) {
	for _, row := range []string{
		"| `a.example/b` v1.0.0 | because it is needed here and there |",
		"| `a.example/b` v1.0.0 |  | a good deal of own code |",
		"| npm `a` 1.0.0 | because it is needed here and there |  |",
	} {
		if _, wrong := explained(row + "\n"); len(wrong) != 1 {
			t.Errorf("taken: %s", row)
		}
	}
	count, wrong := explained("| npm `a` 1.0.0, `@b/c` 2.0.0 | because it is needed here and there | some lines |\n")
	if len(wrong) != 0 || count["npm `a` 1.0.0"] != 1 || count["npm `@b/c` 2.0.0"] != 1 || len(count) != 2 {
		t.Errorf("two packages in a row are read as %v %v", count, wrong)
	}
}

func TestEveryVersionIsExact(t *testing.T) {
	for name, version := range packagesOfNPM(t) {
		if !exactly.MatchString(version) {
			t.Errorf("frontend/package.json wants %s %s, which is no one version", name, version)
		}
	}
	var lock struct {
		Packages map[string]struct {
			Version, Integrity, Resolved string
			Link                         bool
		}
	}
	if err := json.Unmarshal([]byte(contents(t, "frontend", "package-lock.json")), &lock); err != nil {
		t.Fatal(err)
	}
	for folder, p := range lock.Packages {
		if folder != "" && (!exactly.MatchString(p.Version) || p.Integrity == "" || p.Link) {
			t.Errorf("frontend/package-lock.json does not pin %s to the byte", folder)
		}
	}
	if len(lock.Packages) < 100 {
		t.Errorf("only %d packages were found in the lock file", len(lock.Packages))
	}
	tools := 0
	for name, text := range recipes(t) {
		for _, m := range pinnedTool.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "schema") || strings.HasPrefix(m[0], "git@") {
				continue
			}
			tools++
			if !exactly.MatchString(m[2]) {
				t.Errorf("%s runs %s, which is no one version", name, m[0])
			}
		}
		if m := regexp.MustCompile(`(?m)\bnpx +(?:-y|--yes)|\bnpm (?:install|i|exec) `).FindString(text); m != "" {
			t.Errorf("%s says %q: what it takes is not in the lock file", name, m)
		}
	}
	if tools < 3 {
		t.Errorf("only %d tools were found", tools)
	}
	if m := regexp.MustCompile(`(?m)^(?:\t|)replace |^replace \(`).FindString(contents(t, "go.mod")); m != "" {
		t.Errorf("go.mod replaces a module")
	}
}

func TestNoLockFileNamesARegistry(t *testing.T) {
	for _, name := range []string{"frontend/package-lock.json", "frontend/.npmrc", "go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(root(t), name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		if filepath.Ext(name) == ".json" {
			text = withoutFunding(t, text)
		}
		if m := regexp.MustCompile(`"resolved"|(?i)[a-z+]+://\S*|registry\.[a-z.]+|proxy\.golang\.org`).FindString(text); m != "" {
			t.Errorf("%s has %s", name, m)
		}
	}
}

// withoutFunding is a lock file without the addresses where its authors ask for money.
func withoutFunding(t *testing.T, text string) string {
	t.Helper()
	var lock struct {
		Packages map[string]map[string]any `json:"packages"`
	}
	if err := json.Unmarshal([]byte(text), &lock); err != nil {
		t.Fatal(err)
	}
	for _, p := range lock.Packages {
		delete(p, "funding")
	}
	out, err := json.Marshal(lock)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
