package fuzzing

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// module writes a module with a target that holds, one that does not and one that
// another system builds.
func module(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":             "module sample\n\ngo 1.26.0\n",
		"a/a.go":             "package a\n",
		"a/a_test.go":        "package a\n\nimport \"testing\"\n\nfunc FuzzHolds(f *testing.F) {\n\tf.Add(\"seed\")\n\tf.Fuzz(func(t *testing.T, s string) {})\n}\n",
		"a/a_windows.go":     "package a\n",
		"a/w_plan9_test.go":  "package a\n\nimport \"testing\"\n\nfunc FuzzElsewhere(f *testing.F) {\n\tf.Fuzz(func(t *testing.T, s string) {})\n}\n",
		"deep/b/b.go":        "package b\n",
		"deep/b/out_test.go": "package b_test\n\nimport \"testing\"\n\nfunc FuzzFails(f *testing.F) {\n\tf.Add([]byte(\"a\"))\n\tf.Fuzz(func(t *testing.T, s []byte) {\n\t\tif len(s) > 3 {\n\t\t\tt.Fatal(\"longer than three\")\n\t\t}\n\t})\n}\n",
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestEveryTargetIsRunAndWhatFailsIsARowWithItsInput(t *testing.T) {
	root := module(t)
	told := 0
	r, err := Run(t.Context(), Options{Root: root, Time: "500x", Least: 1200, Cache: t.TempDir(), After: func(r Report) error { told++; return nil }})
	if err != nil || len(r.Targets) != 2 || r.Short != "1 targets have not had their executions yet" {
		t.Fatalf("%+v, %v", r, err)
	}
	if told < 3 {
		t.Errorf("told %d times", told)
	}
	holds, fails := r.Targets[0], r.Targets[1]
	if holds.String() != "a.FuzzHolds" || holds.Executions < 1200 || len(holds.Violations) != 0 {
		t.Errorf("%+v", holds)
	}
	if fails.String() != "deep/b.FuzzFails" || len(fails.Violations) != 1 || r.Violations != 1 || r.Executions != holds.Executions+fails.Executions {
		t.Fatalf("%+v", fails)
	}
	v := fails.Violations[0]
	if _, err := os.Stat(filepath.Join(root, "deep", "b", filepath.FromSlash(v.Input))); err != nil || !strings.Contains(v.Says, "longer than three") {
		t.Errorf("%+v, %v", v, err)
	}
	var table strings.Builder
	path := filepath.Join(t.TempDir(), "out", "fuzz.json")
	if err := r.Write(&table); err != nil || !strings.Contains(table.String(), "2 targets, 1 violations") || !strings.Contains(table.String(), v.Input) {
		t.Errorf("%v\n%s", err, table.String())
	}
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	earlier, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}

	// A run goes on from an earlier one, and what has failed is not tried again.
	again, err := Run(t.Context(), Options{Root: root, Time: "100x", Total: r.Executions + 300, Earlier: earlier, Cache: t.TempDir(), Only: regexp.MustCompile(`^a\.`)})
	if err != nil || again.Short != "" || again.Executions < r.Executions+300 || len(again.Targets) != 2 || again.Violations != 1 {
		t.Errorf("%+v, %v", again, err)
	}
	short, err := Run(t.Context(), Options{Root: root, Within: time.Nanosecond, Only: regexp.MustCompile(`Holds`)})
	if err != nil || short.Short == "" || short.Executions != 0 {
		t.Errorf("%+v, %v", short, err)
	}
}

func TestWhatCannotBeRunIsAnErrorAndNoReport(t *testing.T) {
	root := module(t)
	for name, o := range map[string]Options{
		"no time":     {Root: root, Time: "soon"},
		"no times":    {Root: root, Time: "0x"},
		"no target":   {Root: root, Only: regexp.MustCompile(`nothing`)},
		"no module":   {Root: t.TempDir()},
		"no compiler": {Root: root, Go: filepath.Join(root, "missing")},
	} {
		if r, err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "a", "a_test.go"), []byte("package a\n\nfunc FuzzHolds(f *testing.F) { }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Options{Root: root}); err == nil || !strings.Contains(err.Error(), "undefined: testing") {
		t.Errorf("a test that does not build: %v", err)
	}
}

func TestTheEndOfFuzzingsOwnTimeIsNoFinding(t *testing.T) {
	const lines = "fuzz: elapsed: 3s, execs: 17 (6/sec), new interesting: 2 (total: 5)\nfuzz: elapsed: 4s, execs: 40 (6/sec), new interesting: 3 (total: 6)\n"
	if n, fresh := countOf(lines); n != 40 || fresh != 3 {
		t.Errorf("%d, %d", n, fresh)
	}
	if v, found := violation(lines + "--- FAIL: FuzzX (4.01s)\n    context deadline exceeded\nFAIL\n"); found {
		t.Errorf("%+v", v)
	}
	for _, text := range []string{"--- FAIL: FuzzX (4.01s)\n    --- FAIL: FuzzX (0.00s)\n        context deadline exceeded\nFAIL\n", "panic: x\n", "killed"} {
		if _, found := violation(lines + text); !found {
			t.Errorf("%q is no finding", text)
		}
	}
}
