package canary

import (
	"os"
	"strings"
	"testing"
)

func TestThePageShowsTheListsAsTheyAre(t *testing.T) {
	page, err := os.ReadFile("../../docs/canary.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begun := strings.Cut(string(page), "<!-- lists -->\n")
	shown, _, ended := strings.Cut(rest, "<!-- end -->")
	if !begun || !ended || strings.TrimSpace(shown) != strings.TrimSpace(Markdown()) {
		t.Errorf("docs/canary.md should have between its marks:\n%s", Markdown())
	}
}
