package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/paths"
	"encounterlauncher/internal/policy"
)

var moment = time.Unix(1_700_000_000, 0)

const changes = "# Changes\n\n## Unreleased\n\n- One.\n- Two, which takes\n  two lines.\n\n## 0.0.9\n\n- Old.\n"

func written(t *testing.T) map[string]string {
	t.Helper()
	files, err := documents("1.2.3", "Somebody <somebody@hospital.example>", changes, moment)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// seen is a page as a reader sees it; what man says about it fails the test.
func seen(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", path)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=1000", "MANPAGER=cat", "MAN_KEEP_FORMATTING=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Errorf("%s: %v\n%s", name, err, stderr.String())
	}
	return string(out)
}

func TestEveryPageShowsWithoutAWarningAndHasItsSections(t *testing.T) {
	for name, sections := range map[string][]string{
		"encounter-launcher.1":        {"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "EXIT STATUS", "FILES", "ENVIRONMENT", "EXAMPLES", "SEE ALSO"},
		"encounter-launcher-window.1": {"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"},
		"encounter-launcher-policy.5": {"NAME", "DESCRIPTION", "KEYS", "FILES", "EXAMPLES", "SEE ALSO"},
	} {
		text := seen(t, name, written(t)[name])
		for _, section := range sections {
			if !strings.Contains(text, "\n"+section+"\n") {
				t.Errorf("%s has no section %s", name, section)
			}
		}
		if !strings.Contains(text, "Encounter Launcher 1.2.3") || !strings.Contains(text, "2023-11-14") {
			t.Errorf("%s does not say of which version and day it is", name)
		}
	}
}

func TestThePageOfTheProgramHasEveryCommandAndFlag(t *testing.T) {
	text := seen(t, "encounter-launcher.1", written(t)["encounter-launcher.1"])
	root := cli.Commands(cli.Program{Layout: paths.Of(""), Stdout: io.Discard, Stderr: io.Discard})
	count := 0
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if !sub.IsAvailableCommand() && sub.Name() != "help" || c.Name() == "completion" {
				continue
			}
			count++
			call := strings.TrimPrefix(sub.CommandPath(), root.Name()+" ")
			if !strings.Contains(text, "\n       "+call+" ") && !strings.Contains(text, "\n       "+call+"\n") {
				t.Errorf("no word of “%s”", call)
			}
			sub.Flags().VisitAll(func(f *pflag.Flag) {
				if !f.Hidden && !strings.Contains(text, "--"+f.Name) {
					t.Errorf("no word of “%s --%s”", call, f.Name)
				}
			})
			look(sub)
		}
	}
	look(root)
	if count < 20 {
		t.Errorf("only %d commands", count)
	}
}

func TestThePageOfThePolicyHasEveryKeyWithItsSentence(t *testing.T) {
	text := seen(t, "encounter-launcher-policy.5", written(t)["encounter-launcher-policy.5"])
	for _, k := range policy.Keys() {
		if !strings.Contains(text, "\n       "+k.Name+" ("+string(k.Type)+")\n") || !strings.Contains(text, k.Sentence) {
			t.Errorf("%s or its sentence is missing", k.Name)
		}
		for _, allowed := range k.Allowed {
			if !strings.Contains(text, allowed) {
				t.Errorf("%s: %s is missing", k.Name, allowed)
			}
		}
	}
}

func TestTheLeastPolicyOfThePageIsEnough(t *testing.T) {
	l := paths.Under(t.TempDir(), "")
	if err := os.MkdirAll(filepath.Dir(l.MachinePolicyFile()), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.MachinePolicyFile(), []byte(leastPolicy), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := policy.Load(l).LaunchProblem(); err != nil {
		t.Error(err)
	}
}

func TestHostileTextStaysTextOnAPage(t *testing.T) {
	p := newPage("a-name", "1", "1", moment, "about")
	p.section("Text")
	p.say(".SH NOT A SECTION\n'br not a request\n\\fBnot bold\\fR “quoted” don't – ~ ^ `")
	p.item(".TH", `\*(xx`)
	text := seen(t, "a-name.1", p.String())
	for _, want := range []string{".SH NOT A SECTION", "'br not a request", `\fBnot bold\fR`, "“quoted” don't – ~ ^ `", ".TH", `\*(xx`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
}

func TestTheChangelogIsTheNewestSectionAndNoOther(t *testing.T) {
	const want = "encounter-launcher (1.2.3) unstable; urgency=medium\n\n  * One.\n  * Two, which takes two lines.\n\n -- Somebody <somebody@hospital.example>  Tue, 14 Nov 2023 22:13:20 +0000\n"
	if got := written(t)["changelog"]; got != want {
		t.Errorf("got\n%s", got)
	}
	for _, empty := range []string{"", "# Changes\n", "# Changes\n\n## Unreleased\n\n## 0.1.0\n\n- Old.\n"} {
		if _, err := changelog(empty, "1", "x <x@y>", moment); err == nil {
			t.Errorf("%q makes a changelog", empty)
		}
	}
}

func TestTheSameTreeWritesTheSameBytes(t *testing.T) {
	first, second := written(t), written(t)
	for name := range first {
		if first[name] != second[name] || first[name] == "" {
			t.Errorf("%s differs or is empty", name)
		}
	}
}
