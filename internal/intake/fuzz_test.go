package intake

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"encounterlauncher/internal/launch"
	"encounterlauncher/internal/problem"
)

var (
	likeALink = regexp.MustCompile(`(?s)://|^[eE][nN][cC][oO][uU][nN][tT][eE][rR]-[lL][aA][uU][nN][cC][hH][eE][rR]:`)
	likeAWeb  = regexp.MustCompile(`(?s)^(--[^=]*=)?https?://`)
	sentences = []string{
		"A link must be the only argument.", "The arguments are neither a known command nor a link.", "It is empty.", "It is longer than 2,048 bytes.",
	}
)

// FuzzFromArgs judges argument vectors twice: by the room, and by the sentences of its
// door. A candidate is exactly the only argument, byte for byte; a vector goes on to the
// command line only with a verb in front; and a refusal is one of four sentences.
func FuzzFromArgs(f *testing.F) {
	text, err := os.ReadFile("testdata/argv.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var v struct{ Argv []string }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			f.Fatal(err)
		}
		f.Add(strings.Join(v.Argv, "\x00"))
	}
	for _, args := range [][]string{
		{link}, {"check-link", link}, {"status", "--json"}, {link, link}, {"check-link", "https://a", "https://b"}, {"check-link", "--x=https://a", link}, {"--x", link}, {"-" + link}, {""}, {strings.Repeat("a", 2049) + "://"}, {"ENCOUNTER-LAUNCHER:x"}, {"status", "x://y"}, {},
	} {
		f.Add(strings.Join(args, "\x00"))
	}
	f.Fuzz(func(t *testing.T, vector string) {
		// No argument of a process holds a NUL.
		args := strings.Split(vector, "\x00")
		if vector == "" {
			args = nil
		}
		c, found, err := FromArgs(scheme, args, isVerb, carriesLink)
		links, web := 0, 0
		for _, arg := range args {
			if likeALink.MatchString(arg) {
				links++
				if likeAWeb.MatchString(arg) {
					web++
				}
			}
		}
		verb := len(args) > 0 && !likeALink.MatchString(args[0]) && isVerb(args[0])
		lone := len(args) == 1 && links == 1 && !strings.HasPrefix(args[0], "-")
		switch {
		case lone:
			if want := len(args[0]) <= launch.MaxLinkBytes; found != want || (err == nil) != want || want && c.Text().Reveal() != args[0] {
				t.Fatalf("%q: %v, %v", args, found, err)
			}
		case len(args) == 0, verb && links == 0, verb && carriesLink(args[0]) && (links == 1 || links == web):
			if found || err != nil {
				t.Fatalf("%q does not reach the command line: %v", args, err)
			}
		default:
			if want := map[bool]problem.Code{true: problem.LinkInvalid, false: problem.RequestInvalid}[links > 0 && len(args) > 1]; found || problem.CodeOf(err) != want {
				t.Fatalf("%q: %v, %v", args, found, err)
			}
		}
		if !found && !c.Text().Empty() {
			t.Fatalf("%q: a candidate that was not found", args)
		}
		if err != nil && !slices.Contains(sentences, problem.Of(err).Fact) {
			t.Fatalf("refused with %v", problem.Of(err).LogValue())
		}
		if found {
			// What was handed over says the same at the other end of the channel.
			again, err := FromText(c.Text().Reveal())
			if err != nil || !again.Text().Equal(c.Text()) {
				t.Fatalf("%q: %v", args, err)
			}
		}
		// Without a verb that carries links, no link passes to the command line.
		if _, found, err := FromArgs(scheme, args, isVerb, nil); links > 0 && !found && err == nil {
			t.Fatalf("%q passes a link to a command", args)
		}
	})
}
