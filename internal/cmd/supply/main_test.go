package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var epoch = time.Unix(1_700_000_000, 0).UTC()

// clone is the tree of this test, with the rules that are in force.
func clone(t *testing.T) *tree {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRules(filepath.Join(root, "build", "supply", "rules.json"))
	if err != nil {
		t.Fatal(err)
	}
	return &tree{root: root, rules: r}
}

// built is the program of a room of ours, as a release builds it.
func built(t *testing.T, room string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(room))
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, room)
	cmd.Dir = clone(t).root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func TestEveryModuleOfAProgramIsInItsBillWithVersionSumAndLicence(t *testing.T) {
	path := built(t, "./internal/cmd/nabla-sim")
	repo := clone(t)
	data, platform, err := billOf(repo, path, "1.2.3", epoch)
	if err != nil {
		t.Fatal(err)
	}
	if platform != "linux-amd64" && platform != "linux-arm64" {
		t.Errorf("its platform is %s", platform)
	}
	bill := path + ".cdx.json"
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(bill, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(data)
	if err := verify(repo.root, path, bill); err != nil {
		t.Error(err)
	}

	again, _, err := billOf(clone(t), path, "1.2.3", epoch)
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("the same program has another bill the second time (%v)", err)
	}

	// Whatever is missing or changed is found.
	for name, damage := range map[string]func(bom map[string]any){
		"lacks":           func(bom map[string]any) { bom["components"] = components(bom)[1:] },
		"has not the sum": func(bom map[string]any) { delete(module(bom), "properties") },
		"has no licence":  func(bom map[string]any) { delete(module(bom), "licenses") },
		"Go's own library": func(bom map[string]any) {
			components(bom)[len(components(bom))-1].(map[string]any)["bom-ref"] = "other"
		},
		"it is not that of": func(bom map[string]any) {
			bom["metadata"].(map[string]any)["component"].(map[string]any)["hashes"] = nil
		},
		"no CycloneDX 1.6": func(bom map[string]any) { bom["serialNumber"] = "urn:uuid:1" },
		"no CycloneDX":     func(bom map[string]any) { module(bom)["type"] = "thing" },
	} {
		var bom map[string]any
		if err := json.Unmarshal(data, &bom); err != nil {
			t.Fatal(err)
		}
		damage(bom)
		if bom["metadata"].(map[string]any)["component"].(map[string]any)["hashes"] == nil {
			delete(bom["metadata"].(map[string]any)["component"].(map[string]any), "hashes")
		}
		changed, err := json.Marshal(bom)
		if err != nil {
			t.Fatal(err)
		}
		write(changed)
		if err := verify(repo.root, path, bill); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("a bill that %q ended with %v", name, err)
		}
	}

	// Another program is another program, though it has the same parts.
	write(data)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := verify(repo.root, path, bill); err == nil || !strings.Contains(err.Error(), "it is not that of") {
		t.Errorf("the bill of another program ended with %v", err)
	}
}

func components(bom map[string]any) []any { return bom["components"].([]any) }

// module is the first module of a bill; Go's own library is the last component.
func module(bom map[string]any) map[string]any { return components(bom)[0].(map[string]any) }

func TestABillHoldsNoTimeOfItsOwnAndNoPathOfThisComputer(t *testing.T) {
	path := built(t, "./internal/cmd/nabla-sim")
	repo := clone(t)
	data, _, err := billOf(repo, path, "1.2.3", epoch)
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{`"timestamp": "2023-11-14T22:13:20Z"`, `"specVersion": "1.6"`, `"version": "1.2.3"`, `"pkg:golang/std@1.`, `"serialNumber": "urn:uuid:`, "none is given"} {
		if !strings.Contains(string(data), must) {
			t.Errorf("it lacks %s", must)
		}
	}
	for _, not := range []string{repo.root, filepath.Dir(path)} {
		if strings.Contains(string(data), not) {
			t.Errorf("it has %s", not)
		}
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	times := []string{"2023-11-14T22:13:20Z"}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			times = append(times, s.Value) // the commit's
		}
	}
	for _, at := range regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^"]*`).FindAllString(string(data), -1) {
		if !slices.Contains(times, at) {
			t.Errorf("it has %s", at)
		}
	}
}

func TestAProgramOfAnotherStateOfTheTreeIsNotDescribed(t *testing.T) {
	folder := t.TempDir()
	for name, body := range map[string]string{"go.mod": "module other\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(folder, "other")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, _, err := billOf(clone(t), path, "1.2.3", epoch); err == nil {
		t.Error("the program of another module was described")
	}
	if _, _, err := billOf(clone(t), filepath.Join(folder, "main.go"), "1.2.3", epoch); err == nil || !strings.Contains(err.Error(), "no program of Go") {
		t.Errorf("what is no program ended with %v", err)
	}
}

// licensed is a part with these files, judged by these rules.
func licensed(t *testing.T, r rules, files map[string]string) (part, error) {
	t.Helper()
	folder := t.TempDir()
	for name, body := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := part{kind: "golang", name: "encounters.example/part", version: "v1.0.0"}
	var err error
	if p.texts, err = textsBetween(folder, []string{filepath.Join(folder, "used", "here")}); err != nil {
		t.Fatal(err)
	}
	r.met = map[string]bool{}
	err = r.judge(&p)
	return p, err
}

const mit = `Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

const isc = `Copyright 2020 Somebody Else

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
`

func TestALicenceThatIsNotOnTheListEndsTheBuild(t *testing.T) {
	only := rules{Licences: []allowed{{ID: "MIT", Why: "invented"}}}
	if p, err := licensed(t, only, map[string]string{"LICENSE": mit, "used/here/a.go": ""}); err != nil || p.licence != "MIT" {
		t.Errorf("an allowed licence ended as %q with %v", p.licence, err)
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"not on the list":            {map[string]string{"LICENSE": isc, "used/here/a.go": ""}, "is under ISC, which"},
		"in a folder that is linked": {map[string]string{"LICENSE": mit, "used/here/COPYING": isc}, "is under ISC, which"},
		"between":                    {map[string]string{"LICENSE": mit, "used/LICENSE.txt": isc, "used/here/a.go": ""}, "is under ISC, which"},
		"none at all":                {map[string]string{"README": mit, "used/here/a.go": ""}, "has no licence"},
		"a notice is none":           {map[string]string{"NOTICE": mit, "used/here/a.go": ""}, "has no licence"},
		"words of somebody":          {map[string]string{"LICENSE": "Ask me before you use this.", "used/here/a.go": ""}, "is not known for certain"},
		"more than the licence":      {map[string]string{"LICENSE": mit + strings.Repeat("You shall also send the author a postcard on every first of May. ", 20), "used/here/a.go": ""}, "is not known for certain"},
	} {
		if p, err := licensed(t, only, c.files); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: it is %q with %v", name, p.licence, err)
		}
	}
	if p, err := licensed(t, only, map[string]string{"LICENSE": mit, "other/LICENSE": isc, "used/here/a.go": ""}); err != nil || p.licence != "MIT" {
		t.Errorf("the licence of a folder that nobody links ended as %q with %v", p.licence, err)
	}
}

func TestAClarificationCountsForItsPartAndAsLongAsTheTextIsThatOne(t *testing.T) {
	r := rules{Licences: []allowed{{ID: "MIT", Why: "invented"}}, Clarified: []clarified{{Name: "encounters.example/part", Licence: "MIT", Until: "# Tools", Why: "invented"}}}
	p, err := licensed(t, r, map[string]string{"LICENSE": mit + "# Tools\n" + isc, "used/here/a.go": ""})
	if err != nil || p.licence != "MIT" || strings.Contains(p.texts[0].body, "Somebody Else") {
		t.Errorf("it is %q with %v", p.licence, err)
	}
	if _, err := licensed(t, r, map[string]string{"LICENSE": mit + isc, "used/here/a.go": ""}); err == nil {
		t.Error("a text without the line was taken")
	}
}

func TestARuleWithoutAReasonIsRefused(t *testing.T) {
	for _, body := range []string{
		`{"licences":[{"id":"MIT","why":""}]}`, `{"clarified":[{"name":"a","licence":"MIT"}]}`, `{"advisories":[{"id":"GO-1","why":"w"}]}`, `{"licence":[]}`, `[]`, ``,
	} {
		path := filepath.Join(t.TempDir(), "rules.json")
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readRules(path); err == nil {
			t.Errorf("taken: %s", body)
		}
	}
}

func TestARuleThatNoPartNeedsIsTold(t *testing.T) {
	repo := clone(t)
	var out bytes.Buffer
	err := reportLicences(&out, repo, []string{built(t, "./internal/cmd/nabla-sim")})
	if err == nil || !strings.Contains(err.Error(), "what no part needs") || strings.Contains(err.Error(), "BSD-3-Clause") {
		t.Errorf("it ended with %v", err)
	}
	if strings.Contains(out.String(), "are allowed") {
		t.Errorf("it says:\n%s", out.String())
	}
}

func TestNoticesHaveEveryTextOnceAndEveryPart(t *testing.T) {
	parts := []part{
		{kind: "golang", name: "encounters.example/a", version: "v1.0.0", licence: "MIT", texts: []text{{file: "LICENSE", body: plain(mit)}, {file: "NOTICE", body: "By A.\n", notice: true}}},
		{kind: "golang", name: "encounters.example/b", version: "v2.0.0", licence: "MIT", texts: []text{{file: "COPYING", body: plain(strings.ReplaceAll(mit, "\n", "\r\n"))}}},
		{kind: "npm", name: "@c/c", version: "3.0.0", licence: "ISC", texts: []text{{file: "LICENSE", body: plain(isc)}}},
	}
	seen, err := noticesOf("Something", "text", parts)
	if err != nil {
		t.Fatal(err)
	}
	for text, times := range map[string]int{"Permission is hereby granted, free": 1, "Permission to use, copy": 1, "By A.": 1, "encounters.example/a v1.0.0": 3, "encounters.example/b v2.0.0": 2, "@c/c (npm) 3.0.0 (ISC)": 1, "\r": 0} {
		if n := strings.Count(seen, text); n != times {
			t.Errorf("%q is there %d times, not %d", text, n, times)
		}
	}
	windows, err := noticesOf("Something", "windows", parts)
	if err != nil || windows != strings.ReplaceAll(seen, "\n", "\r\n") {
		t.Errorf("for Windows it is another text (%v)", err)
	}
	if _, err := noticesOf("Something", "poem", parts); err == nil {
		t.Error("a form that does not exist was taken")
	}
}

func TestNoticesForDebianNameItsCommonLicencesAndRepeatThemNot(t *testing.T) {
	parts, err := clone(t).partsOf([]string{built(t, "./internal/cmd/nabla-sim")})
	if err != nil {
		t.Fatal(err)
	}
	seen, err := noticesOf("Something", "debian", parts)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(seen, "TERMS AND CONDITIONS FOR USE, REPRODUCTION") || !strings.Contains(seen, "/usr/share/common-licenses/Apache-2.0") {
		t.Error("the text of Apache-2.0 is there, or Debian's is not named")
	}
	for line := range strings.Lines(seen) {
		if strings.TrimSpace(line) != "" && line[0] != ' ' && !strings.HasPrefix(line, "Files: ") && !strings.HasPrefix(line, "Copyright: ") && !strings.HasPrefix(line, "License: ") {
			t.Errorf("a line of no field: %q", line)
		}
	}
	for _, must := range []string{"Files: std@", "Files: github.com/spf13/cobra@v", "License: Apache-2.0\n", "License: BSD-3-Clause\n", "Copyright: 2009 The Go Authors."} {
		if !strings.Contains(seen, must) {
			t.Errorf("it lacks %q", must)
		}
	}
}

func TestTheMomentIsTheOneOfTheEnvironment(t *testing.T) {
	for _, bad := range []string{"", "today"} {
		t.Setenv("SOURCE_DATE_EPOCH", bad)
		if _, err := moment(); err == nil {
			t.Errorf("taken: %q", bad)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	if at, err := moment(); err != nil || !at.Equal(epoch) {
		t.Errorf("it is %v with %v", at, err)
	}
}
