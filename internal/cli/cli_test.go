package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"encounterlauncher/internal/cli"
	"encounterlauncher/internal/intake"
	"encounterlauncher/internal/paths"
)

// vectors are those of the parser: one copy for both rooms.
const vectors = "../launch/testdata/links.jsonl"

// run is a command line as main treats it, in this process and below root.
func run(t *testing.T, root string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	layout := paths.Under(root, "")
	if _, isLink, err := intake.FromArgs(layout.Scheme(), args, cli.IsVerb, cli.CarriesLink); isLink || err != nil {
		t.Fatalf("intake keeps this from the command line: %v", err)
	}
	var out, errs bytes.Buffer
	p := cli.Program{Layout: layout, Version: "1.2.3", Stdout: &out, Stderr: &errs}
	status = cli.Run(context.Background(), p, args)
	return status, out.String(), errs.String()
}

func TestCheckLinkJudgesEveryVector(t *testing.T) {
	file, err := os.Open(vectors)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	root := t.TempDir()
	lines, n := bufio.NewScanner(file), 0
	lines.Buffer(nil, 1<<20)
	for ; lines.Scan(); n++ {
		v := struct {
			Name, Link, Expect string
			AllowedForms       []string `json:"allowed_forms"`
		}{AllowedForms: []string{"handle", "request"}}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		status, stdout, stderr := run(t, root, "check-link", "--json", "--forms", strings.Join(v.AllowedForms, ","), v.Link)
		var answer struct {
			Accepted   *bool
			Form, Code *string
		}
		if err := json.Unmarshal([]byte(stdout), &answer); err != nil || answer.Accepted == nil || answer.Form == nil || answer.Code == nil {
			t.Errorf("%s: %q is no answer: %v", v.Name, stdout, err)
			continue
		}
		wanted := v.Expect == "accept"
		if *answer.Accepted != wanted || (status == cli.Done) != wanted || (status == cli.Negative) == wanted || (*answer.Code == "") != wanted {
			t.Errorf("%s: exit status %d, %s, want %s", v.Name, status, stdout, v.Expect)
		}
		if stderr != "" {
			t.Errorf("%s: stderr %q", v.Name, stderr)
		}
	}
	if err := lines.Err(); err != nil || n < 40 {
		t.Fatalf("only %d vectors were read: %v", n, err)
	}
}

func TestEveryCommandIsAVerbAndSaysItsExitStatus(t *testing.T) {
	root := t.TempDir()
	_, offered, _ := run(t, root, "__complete", "")
	n := 0
	for line := range strings.Lines(offered) {
		name, _, ok := strings.Cut(line, "\t")
		if !ok {
			continue
		}
		n++
		if !cli.IsVerb(name) {
			t.Errorf("main would refuse %q", name)
		}
		if name == "completion" {
			continue
		}
		if status, text, _ := run(t, root, "help", name); status != cli.Done || !strings.Contains(text, "Exit status:") {
			t.Errorf("%s: exit status %d, and its help does not say the exit status:\n%s", name, status, text)
		}
	}
	if n != 23 {
		t.Errorf("%d verbs are offered, want 23", n)
	}
	for _, word := range []string{"", "encounter-launcher://launch", "--", "-x", "Status", "status "} {
		if cli.IsVerb(word) {
			t.Errorf("%q is taken for a verb", word)
		}
	}
}
