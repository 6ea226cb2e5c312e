package archtest

import (
	"bytes"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/policy"
	"encounterlauncher/internal/problem"
)

// mostPicture is what a picture in the documents may weigh, in bytes.
const mostPicture = 150 << 10

// documents returns every document for readers, by its path from the root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "internal/README.md"} {
		names, err := filepath.Glob(filepath.Join(root(t), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			path, err := filepath.Rel(root(t), name)
			if err != nil {
				t.Fatal(err)
			}
			texts[filepath.ToSlash(path)] = string(text)
		}
	}
	for _, must := range []string{"README.md", "SECURITY.md", "CHANGELOG.md", "docs/architecture.md", "docs/dependencies.md", "docs/not-verified.md"} {
		if texts[must] == "" {
			t.Errorf("%s is missing", must)
		}
	}
	return texts
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence   = regexp.MustCompile("(?s)```.*?```")
	picture = regexp.MustCompile(`!\[([^\]]*)\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unheard = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the fragments by which the headings of a document are reached, as
// GitHub and GitLab make them.
func anchors(text string) []string {
	var names []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		names = append(names, strings.ReplaceAll(unheard.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return names
}

func TestEveryLinkInTheDocumentsLeadsSomewhere(t *testing.T) {
	texts := documents(t)
	found := 0
	for name, text := range texts {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			target, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: the link %q cannot be read", name, m[1])
				continue
			}
			if target.IsAbs() {
				continue
			}
			found++
			to := name
			if target.Path != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(name), target.Path))
			}
			if _, err := os.Stat(filepath.Join(root(t), to)); err != nil || strings.HasPrefix(to, "..") {
				t.Errorf("%s: the link %q leads nowhere", name, m[1])
			}
			if target.Fragment != "" && !slices.Contains(anchors(texts[to]), target.Fragment) {
				t.Errorf("%s: the link %q leads to no heading", name, m[1])
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d links were found", found)
	}
}

func TestEveryPictureIsSmallUsedAndSaidInWords(t *testing.T) {
	used := map[string]bool{}
	for name, text := range documents(t) {
		for _, m := range picture.FindAllStringSubmatch(text, -1) {
			path := filepath.Join(root(t), filepath.Dir(name), filepath.FromSlash(m[2]))
			used[path] = true
			if len(m[1]) < 30 {
				t.Errorf("%s: %s is not said in words", name, m[2])
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Errorf("%s: %s is missing", name, m[2])
				continue
			}
			if _, err := png.Decode(bytes.NewReader(data)); err != nil {
				t.Errorf("%s: %s is no PNG", name, m[2])
			}
			if len(data) > mostPicture {
				t.Errorf("%s: %s has %d bytes", name, m[2], len(data))
			}
		}
	}
	pictures, err := filepath.Glob(filepath.Join(root(t), "docs", "images", "*"))
	if err != nil || len(pictures) == 0 {
		t.Errorf("no pictures: %v", err)
	}
	for _, p := range pictures {
		if !used[p] {
			t.Errorf("no document shows %s", filepath.Base(p))
		}
	}
}

func TestEveryTestThatADocumentNamesExists(t *testing.T) {
	tests := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	known := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(root(t), "internal"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range tests.FindAllStringSubmatch(string(text), -1) {
			known[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\bTest[A-Z]\w+`)
	for name, text := range documents(t) {
		for _, test := range named.FindAllString(text, -1) {
			if !known[test] {
				t.Errorf("%s names %s, which does not exist", name, test)
			}
		}
	}
}

func TestEveryCommandThatADocumentNamesExists(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := regexp.MustCompile("(?m)(?:^|`)make ([a-z][a-z0-9-]*)")
	verbs := regexp.MustCompile("(?m)(?:^|`)encounter-launcher(?:-demo)? ([a-z-]+)")
	for name, text := range documents(t) {
		for _, m := range targets.FindAllStringSubmatch(text, -1) {
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).Match(makefile) {
				t.Errorf("%s names make %s, which does not exist", name, m[1])
			}
		}
		for _, m := range verbs.FindAllStringSubmatch(text, -1) {
			if !cli.IsVerb(m[1]) {
				t.Errorf("%s names encounter-launcher %s, which does not exist", name, m[1])
			}
		}
	}
}

func TestThePageForITHasEveryKeyOfPolicyAsTheTableHasIt(t *testing.T) {
	page := documents(t)["docs/it.md"]
	rows := 0
	for _, k := range policy.Keys() {
		byDefault, unusable := "–", "refuses launches"
		if k.Default != "null" {
			byDefault = "`" + k.Default + "`"
		}
		if k.OnError == policy.TakeSafest {
			unusable = "unset"
			if k.Safest != "null" {
				unusable = "`" + k.Safest + "`"
			}
		}
		row := "| `" + k.Name + "` | " + strings.Join([]string{string(k.Type), byDefault, unusable, k.Sentence}, " | ") + " |"
		if !strings.Contains(page, "\n"+row+"\n") {
			t.Errorf("docs/it.md lacks this row:\n%s", row)
		}
		rows++
	}
	_, table, _ := strings.Cut(page, "## Policy keys")
	table, _, _ = strings.Cut(table, "\n## ")
	if n := strings.Count(table, "\n| `"); n != rows {
		t.Errorf("docs/it.md has %d keys, the table %d", n, rows)
	}
}

func TestThePageForCliniciansSaysWhatTheProgramSays(t *testing.T) {
	said := map[string]bool{}
	for _, r := range problem.Rows() {
		said["| "+r.Sentence+" | "+r.NextStep+" |"] = true
	}
	_, table, _ := strings.Cut(documents(t)["docs/clinician.md"], "| message |")
	rows := 0
	for _, line := range strings.Split(table, "\n")[2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		rows++
		if !said[line] {
			t.Errorf("the program does not say:\n%s", line)
		}
	}
	if rows < 5 {
		t.Errorf("only %d rows were found", rows)
	}
}

func TestThePageOfDependenciesHasEveryOneAtItsVersion(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	page := documents(t)["docs/dependencies.md"]
	pinned := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) (v\S+)$`).FindAllStringSubmatch(string(mod), -1) {
		pinned[m[1]] = m[2]
		version := m[2]
		if stamp := regexp.MustCompile(`^(v0\.0\.0-\d{14})-`).FindStringSubmatch(version); stamp != nil {
			version = stamp[1]
		}
		if !strings.Contains(page, "`"+m[1]+"` "+version) {
			t.Errorf("docs/dependencies.md lacks `%s` %s", m[1], version)
		}
	}
	for _, m := range regexp.MustCompile("`([a-z0-9.-]+\\.[a-z]+/[^`]+)` v").FindAllStringSubmatch(page, -1) {
		if pinned[m[1]] == "" {
			t.Errorf("docs/dependencies.md names %s, which go.mod does not", m[1])
		}
	}
}
