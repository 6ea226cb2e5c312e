//go:build unix

package doctor

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"encounterlauncher/internal/text"
)

// findingsTable is the table of docs/troubleshooting.md.
func findingsTable() string {
	words := text.For(text.English)
	var out strings.Builder
	out.WriteString("| check | code | state | what is found | what to do |\n|---|---|---|---|---|\n")
	row := func(check string, title string, c Code) {
		next := "–"
		if c.State != OK {
			next = words.Word("doctor." + check + "." + c.Name + ".next")
		}
		fmt.Fprintf(&out, "| %s | `%s` | %s | %s | %s |\n", title, c.Name, c.State, words.Word("doctor."+check+"."+c.Name+".sentence"), next)
	}
	for _, c := range Checks() {
		for _, code := range c.Codes {
			row(c.Name, words.Word("doctor."+c.Name+".title")+" (`"+c.Name+"`)", code)
		}
	}
	for _, code := range AnyCheck() {
		row("any", "every check", code)
	}
	return out.String()
}

func TestThePageForTroubleHasEveryFinding(t *testing.T) {
	const file, heading = "../../docs/troubleshooting.md", "\n## Findings\n"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(page), heading)
	if !ok {
		t.Fatal("the page has no findings")
	}
	intro, table, _ := strings.Cut(after, "| check |")
	if table != "" {
		table = "| check |" + table
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+heading+intro+findingsTable()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != findingsTable() {
		t.Error("the table is not the program's: go test ./internal/doctor -run Trouble -update")
	}
}
