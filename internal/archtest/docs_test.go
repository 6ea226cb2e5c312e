package archtest

import (
	"bytes"
	"encoding/json"
	"fmt"
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
	for _, must := range []string{"README.md", "SECURITY.md", "docs/threat-model.md", surface, "CHANGELOG.md", "docs/architecture.md", "docs/dependencies.md", "docs/not-verified.md"} {
		if texts[must] == "" {
			t.Errorf("%s is missing", must)
		}
	}
	return texts
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence   = regexp.MustCompile("(?s)```.*?```")
	picture = regexp.MustCompile(`!\[(?P<alt>[^\]]*)\]\((?P<file>[^)\s]+)\)`)
	small   = regexp.MustCompile(`<img src="(?P<file>[^"]+)" width="\d+" alt="(?P<alt>[^"]*)">`)
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

// pictures are the files that a document shows, each with what it says of it in words.
func pictures(text string) map[string]string {
	files := map[string]string{}
	for _, form := range []*regexp.Regexp{picture, small} {
		for _, m := range form.FindAllStringSubmatch(text, -1) {
			files[m[form.SubexpIndex("file")]] = m[form.SubexpIndex("alt")]
		}
	}
	return files
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
		shown := pictures(text)
		if n := strings.Count(text, "<img") + strings.Count(text, "!["); n != len(shown) {
			t.Errorf("%s: %d of %d pictures can be read", name, len(shown), n)
		}
		for file, alt := range shown {
			path := filepath.Join(root(t), filepath.Dir(name), filepath.FromSlash(file))
			used[path] = true
			if len(alt) < 30 {
				t.Errorf("%s: %s is not said in words", name, file)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Errorf("%s: %s is missing", name, file)
				continue
			}
			if _, err := png.Decode(bytes.NewReader(data)); err != nil {
				t.Errorf("%s: %s is no PNG", name, file)
			}
			if len(data) > mostPicture {
				t.Errorf("%s: %s has %d bytes", name, file, len(data))
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(root(t), "docs", "images", "*"))
	if err != nil || len(files) == 0 {
		t.Errorf("no pictures: %v", err)
	}
	for _, p := range files {
		if !used[p] {
			t.Errorf("no document shows %s", filepath.Base(p))
		}
	}
}

// testsOf are the tests and fuzz targets of the tree, whatever build they are of, by
// name: with † what runs on Windows only, with ‡ what needs two users.
func testsOf(t *testing.T) map[string]string {
	t.Helper()
	head := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(\w+ \*testing\.[TFB]\)`)
	known := map[string]string{}
	goFiles(t, func(path string, text []byte) {
		mark := ""
		switch {
		case !strings.HasSuffix(path, "_test.go"):
			return
		case strings.HasSuffix(path, "_windows_test.go"):
			mark = "†"
		case strings.Contains(filepath.ToSlash(path), "internal/attackers/"):
			mark = "‡"
		}
		for _, m := range head.FindAllSubmatch(text, -1) {
			of := mark
			if other, twice := known[string(m[1])]; twice && other != mark {
				of = "" // it runs elsewhere too
			}
			known[string(m[1])] = of
		}
	})
	if len(known) < 1000 {
		t.Errorf("only %d tests were found", len(known))
	}
	return known
}

func TestEveryTestThatADocumentNamesExists(t *testing.T) {
	known := testsOf(t)
	named := regexp.MustCompile("\\b((?:Test|Fuzz)[A-Z]\\w+)(?:` ([†‡]))?")
	for name, text := range documents(t) {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			mark, exists := known[m[1]]
			switch {
			case !exists:
				t.Errorf("%s names %s, which does not exist", name, m[1])
			case name == "docs/threat-model.md" && mark != m[2]:
				t.Errorf("%s marks %s with %q, not with %q", name, m[1], m[2], mark)
			}
		}
	}
}

func TestEveryTestInJavaScriptThatADocumentNamesExists(t *testing.T) {
	for _, of := range []struct{ mark, folder, ends, begins string }{
		{"vitest", "frontend/src", ".test.ts", "('"},
		{"e2e", "build/e2e", ".mjs", "step('"},
	} {
		var tests []byte
		err := filepath.WalkDir(filepath.Join(root(t), filepath.FromSlash(of.folder)), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, of.ends) {
				return err
			}
			text, err := os.ReadFile(path)
			tests = append(tests, text...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for name, text := range documents(t) {
			for _, m := range regexp.MustCompile(of.mark+` “([^”]+)”`).FindAllStringSubmatch(text, -1) {
				found++
				if !bytes.Contains(tests, []byte(of.begins+m[1]+"',")) {
					t.Errorf("%s names “%s” of %s, which does not exist", name, m[1], of.folder)
				}
			}
		}
		if found == 0 {
			t.Errorf("no document names a test of %s", of.folder)
		}
	}
}

// promises are the rows of the tables of promises: each has a test, in its last cell.
func promises(t *testing.T) map[string][]string {
	t.Helper()
	rows := map[string][]string{}
	for name, begins := range map[string]string{"docs/threat-model.md": "| promised |", "docs/org-backend.md": "| who | tries |"} {
		in := 0 // 1: the line below the head, 2: rows
		for _, line := range strings.Split(documents(t)[name], "\n") {
			switch {
			case strings.HasPrefix(line, begins):
				in = 1
			case !strings.HasPrefix(line, "|"):
				in = 0
			case in == 1:
				in = 2
			case in == 2:
				rows[name] = append(rows[name], line)
			}
		}
	}
	return rows
}

func TestEveryPromiseNamesATestAndStandsOnce(t *testing.T) {
	where := map[string]string{}
	for name, rows := range promises(t) {
		for _, row := range rows {
			cells := strings.Split(strings.Trim(row, "| "), " | ")
			test := cells[len(cells)-1]
			if !strings.Contains(test, "`Test") && !strings.Contains(test, "`Fuzz") && !strings.Contains(test, "vitest “") && !strings.Contains(test, "e2e “") && !strings.Contains(test, "`make ") {
				t.Errorf("%s: no test shows this promise:\n%s", name, row)
			}
			for _, one := range regexp.MustCompile(`\bTest\w+`).FindAllString(test, -1) {
				if where[one] != "" {
					t.Errorf("%s is named by two promises:\n%s\n%s", one, where[one], row)
				}
				where[one] = row
			}
		}
		if len(rows) < 10 {
			t.Errorf("%s: only %d promises were found", name, len(rows))
		}
	}
	// The short version tells what it points to, and holds no promise of its own.
	if strings.Contains(documents(t)["SECURITY.md"], "`Test") {
		t.Error("SECURITY.md names a test: promises stand in docs/threat-model.md")
	}
}

func TestEveryCommandThatADocumentNamesExists(t *testing.T) {
	parts, err := filepath.Glob(filepath.Join(root(t), "build", "*", "*.mk"))
	if err != nil {
		t.Fatal(err)
	}
	var makefile []byte
	for _, path := range append(parts, filepath.Join(root(t), "Makefile")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		makefile = append(append(makefile, text...), '\n')
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

func TestThePageForITHasEveryCommand(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root(t), "internal", "cli", "cli.go"))
	if err != nil {
		t.Fatal(err)
	}
	page := documents(t)["docs/it.md"]
	_, list, _ := strings.Cut(string(source), "var verbs = [...]string{")
	list, _, _ = strings.Cut(list, "\n}")
	verbs := regexp.MustCompile(`"([a-z][a-z-]+)"`).FindAllStringSubmatch(list, -1)
	for _, m := range verbs {
		if !cli.IsVerb(m[1]) || !regexp.MustCompile("(?m)^\\|.*`encounter-launcher "+m[1]+"[ `]").MatchString(page) {
			t.Errorf("docs/it.md has no row for encounter-launcher %s", m[1])
		}
	}
	if len(verbs) < 15 {
		t.Errorf("only %d commands were found", len(verbs))
	}
}

// rowsOf returns the rows of the table of a document whose first line begins so, each
// as its line.
func rowsOf(t *testing.T, name, begins string) []string {
	t.Helper()
	_, rest, ok := strings.Cut(documents(t)[name], "\n"+begins)
	if !ok {
		t.Fatalf("%s has no table %s", name, begins)
	}
	var rows []string
	for _, line := range strings.Split(rest, "\n")[2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		rows = append(rows, line)
	}
	return rows
}

func TestTheUserGuideSaysOfProblemsWhatTheProgramSays(t *testing.T) {
	said := map[string]bool{}
	for _, r := range problem.Rows() {
		said["| "+r.Sentence+" | "+r.NextStep+" |"] = true
	}
	rows := rowsOf(t, "docs/user-guide.md", "| message |")
	for _, line := range rows {
		if !said[line] {
			t.Errorf("the program does not say:\n%s", line)
		}
	}
	if len(rows) < 5 {
		t.Errorf("only %d rows were found", len(rows))
	}
}

// labels are the words of the table of the user guide, each in every language.
func labels(t *testing.T) map[[len(guideLanguages)]string]bool {
	t.Helper()
	all := map[[len(guideLanguages)]string]bool{}
	for _, line := range rowsOf(t, "docs/user-guide.md", "| English |") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != len(guideLanguages) {
			t.Errorf("%d languages in:\n%s", len(cells), line)
			continue
		}
		var words [len(guideLanguages)][]string
		for n, cell := range cells {
			words[n] = strings.Split(cell, " · ")
			if len(words[n]) != len(words[0]) {
				t.Errorf("%d words in %s, %d in English:\n%s", len(words[n]), guideLanguages[n], len(words[0]), line)
				return nil
			}
		}
		for n := range words[0] {
			var label [len(guideLanguages)]string
			for l := range label {
				label[l] = words[l][n]
			}
			all[label] = true
		}
	}
	return all
}

// guideLanguages are the columns of the table of words in the user guide.
var guideLanguages = [...]string{"en", "fr", "es", "de"}

func TestTheUserGuideHasTheWordsOfTheScreenInEveryLanguage(t *testing.T) {
	var catalogues [len(guideLanguages)]map[string]string
	files, err := filepath.Glob(filepath.Join(root(t), "internal", "text", "words", "*.json"))
	if err != nil || len(files) != len(guideLanguages) {
		t.Errorf("the guide has %d languages, the catalogue %d (%v)", len(guideLanguages), len(files), err)
	}
	for n, language := range guideLanguages {
		data, err := os.ReadFile(filepath.Join(root(t), "internal", "text", "words", language+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &catalogues[n]); err != nil {
			t.Fatal(err)
		}
	}
	spoken := map[[len(guideLanguages)]string]bool{}
	for key := range catalogues[0] {
		var label [len(guideLanguages)]string
		for n := range label {
			label[n] = catalogues[n][key]
		}
		spoken[label] = true
	}
	all := labels(t)
	for label := range all {
		if !spoken[label] {
			t.Errorf("no word of the catalogue reads %q", label)
		}
	}
	if len(all) < 20 {
		t.Errorf("only %d words were found", len(all))
	}
}

func TestTheUserGuideNamesTheWordsOfItsTableAndNoOthers(t *testing.T) {
	translated := map[string]bool{}
	for label := range labels(t) {
		translated[label[0]] = true
	}
	text := documents(t)["docs/user-guide.md"]
	text = strings.Join(strings.Fields(regexp.MustCompile(`\*\*[^*]+\*\*`).ReplaceAllString(text, "")), " ")
	named := map[string]bool{}
	for _, m := range regexp.MustCompile(`\*([^*]+)\*`).FindAllStringSubmatch(text, -1) {
		named[m[1]] = true
	}
	for word := range named {
		if !translated[word] {
			t.Errorf("the guide names *%s*, which its table does not have", word)
		}
	}
	for word := range translated {
		if !named[word] {
			t.Errorf("the table has %q, which the guide does not name", word)
		}
	}
}

func TestNoKeyOfPolicyIsOfALaterVersionThanTheRelease(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	numbers := func(version string) (n [2]int) {
		if _, err := fmt.Sscanf(version, "%d.%d", &n[0], &n[1]); err != nil {
			t.Fatalf("%q is no version: %v", version, err)
		}
		return n
	}
	m := regexp.MustCompile(`(?m)^VERSION \?= (\S+)$`).FindSubmatch(makefile)
	if m == nil {
		t.Fatal("the Makefile names no version")
	}
	release := numbers(string(m[1]))
	for _, k := range policy.Keys() {
		if since := numbers(k.Since); slices.Compare(since[:], release[:]) > 0 {
			t.Errorf("%s is since %s, and the release is %s", k.Name, k.Since, m[1])
		}
	}
}
